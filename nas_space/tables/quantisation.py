"""Quantisation: costs as keys, whole numbers that histograms are sorted and merged by.

A cost may be counted in a coarser unit than its own, which makes histograms shorter.  Each clique
rounds its costs down, so a key, times the unit, is never above the cost, and below it by the sum of
the largest rests of all cliques (the slack) at most.  Both hold for every combination, as each has
one state of every clique.  So a window ``low <= cost <= high`` becomes two windows on keys: the
wider one, ``low - slack <= unit * key <= high``, holds everything that it should, and the narrower
one, ``low <= unit * key <= high - slack``, nothing that it should not.  What is in between is
evaluated.  With the greatest common divisor of all differences as unit, nothing is lost.

Several costs are one key, as digits of one number with places wide enough for each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from typing import NamedTuple

import numpy as np

from ..mutable.factors import Array
from .conditions import Window
from .effort import CALL, LOOKUP, PLACE, ROW
from .join_tree import Join, JoinTree

__all__ = ["Estimate", "Quantisation", "exact_keys", "finest"]


class Quantisation:
    """The keys of a problem's costs.

    Parameters
    ----------
    tree
        The cliques, joined.
    windows
        Bounds on costs.
    costs
        What each state of a clique adds to them: for each clique, of shape ``(costs, states)``.
    units
        For each of them, the unit to count it in.

    Attributes
    ----------
    keys
        For each vertex that is given, the key of each of its states, of shape ``(costs, states)``.
    low, high
        Bounds on keys outside of which no architecture meets the windows.
    sure_low, sure_high
        Bounds on keys inside of which every one does.
    exact
        Whether these are the same.
    steps
        For each vertex, what divides all keys below, of each cost.
    strides
        What a key of each cost is multiplied with to become part of a single number.
    """

    def __init__(
        self,
        tree: JoinTree,
        windows: Sequence[Window],
        costs: Sequence[Array],
        units: Sequence[int],
    ) -> None:
        self.tree, self.windows, self.costs = tree, windows, costs
        self.units = list(units)
        number = len(windows)
        self.keys: list[Array] = []
        base = [window.table.constant for window in windows]
        slack = [0] * number
        for values in costs:
            keys = np.zeros((number, values.shape[1]), np.int64)
            for k, unit in enumerate(units):
                if values.shape[1]:
                    least = int(values[k].min())
                    keys[k], rest = np.divmod(values[k] - least, unit)
                    base[k] += least
                    slack[k] += int(rest.max())
            self.keys.append(keys)
        self.steps = tree.upward(
            lambda place, _: np.gcd.reduce(self.keys[place], axis=1),
            lambda _place, _join, left, right: np.gcd(left, right),
        )
        self.low = [
            -((b + s - w.low) // u) for b, s, w, u in zip(base, slack, windows, units, strict=True)
        ]
        self.high = [(w.high - b) // u for b, w, u in zip(base, windows, units, strict=True)]
        self.sure_low = [-((b - w.low) // u) for b, w, u in zip(base, windows, units, strict=True)]
        self.sure_high = [
            (w.high - b - s) // u for b, s, w, u in zip(base, slack, windows, units, strict=True)
        ]
        # What is too much on its own may be anything that is: smaller numbers do.
        most = [1] * number
        for keys in self.keys:
            for k, high in enumerate(self.high):
                np.minimum(keys[k], max(high, -1) + 1, out=keys[k])
                most[k] += int(keys[k].max(initial=0))
        self.exact = not any(slack)
        self.most = most
        self.strides = [math.prod(most[k + 1 :]) for k in range(number)]
        self.fits = math.prod(most) < 2**62
        self._reach()

    def _reach(self) -> None:
        """For each state: the range of keys below it, and of those of all the rest."""
        # The largest of some sums is the least of their negatives.
        least = self.tree.minima([np.concatenate([keys, -keys]) for keys in self.keys])
        rest = self.tree.min_marginals(least)
        number = len(self.units)
        self.least, self.largest = ([e[:number] for e in least], [-e[number:] for e in least])
        self.rest_least = [ends[:number] for ends in rest]
        self.rest_largest = [-ends[number:] for ends in rest]

    def at(self, key: int) -> Quantisation:
        """Return the keys of a single cost with a window that holds one of them only."""
        narrow = copy(self)
        narrow.low = narrow.high = narrow.sure_low = narrow.sure_high = [key]
        return narrow

    def step(self, place: int) -> int:
        """Return what divides all single numbers of a vertex."""
        steps = self.steps[place]
        return max(1, int(steps[0])) if len(steps) == 1 else 1

    def single(self, keys: Array) -> Array:
        """Return the keys of several costs, of shape ``(costs, n)``, as one number each."""
        number: Array = np.zeros(keys.shape[-1], np.int64)
        for key, stride in zip(keys, self.strides, strict=True):
            number += key * stride
        return number

    def parts(self, numbers: Array) -> list[Array]:
        """Return the keys that single numbers were made of."""
        if len(self.strides) == 1:
            return [numbers]
        return [
            numbers // stride % most for stride, most in zip(self.strides, self.most, strict=True)
        ]

    def alive(self, place: int, states: Array, numbers: Array) -> Array:
        """Return which rows of a vertex can still end up within the windows."""
        alive = np.ones(len(numbers), np.bool_)
        for k, key in enumerate(self.parts(numbers)):
            alive &= key + self.rest_least[place][k][states] <= self.high[k]
            alive &= key + self.rest_largest[place][k][states] >= self.low[k]
        return alive

    def estimate(self) -> Estimate:
        """Return how much work it is to make histograms of all keys, at most."""
        most = [self._most_keys(place) for place in range(len(self.tree.vertices))]
        total, longest, work = 0.0, 0.0, 0.0

        def join(place: int, vertex: Join, left: Array, right: Array) -> Array:
            nonlocal total, longest, work
            a, b = vertex.pairs
            one, other = left[a], right[b]
            pairs = one * other
            if vertex is self.tree.root:
                if len(self.units) < 2:
                    pairs = np.minimum(one, other)
                work += float((LOOKUP * pairs).sum())
                return np.zeros(0)
            shifts = np.minimum(one, other) * (CALL + PLACE * most[place][vertex.owners])
            work += float(np.minimum(ROW * pairs, shifts).sum())
            sums = np.add.reduceat(pairs, vertex.starts[:-1]) if len(pairs) else pairs
            rows = np.minimum(sums, most[place])
            total, longest = total + float(rows.sum()), max(longest, float(rows.sum()))
            return rows

        self.tree.upward(lambda place, _: np.minimum(most[place], 1.0), join)
        return Estimate(longest, total, work)

    def _most_keys(self, place: int) -> Array:
        """For each state: how many keys can end up within the windows."""
        most = np.ones(self.least[place].shape[1])
        for k, step in enumerate(self.steps[place]):
            low = np.maximum(self.least[place][k], self.low[k] - self.rest_largest[place][k])
            high = np.minimum(self.largest[place][k], self.high[k] - self.rest_least[place][k])
            most *= np.where(high < low, 0, (high - low) // max(int(step), 1) + 1)
        return most


class Estimate(NamedTuple):
    """How much work lists of keys are, at most.

    Attributes
    ----------
    longest
        Rows of the largest vertex.
    total
        Rows of all of them.
    work
        Roughly how many nanoseconds it takes to make them.
    """

    longest: float
    total: float
    work: float


def finest(exact: Quantisation, *, most_rows: float, most_work: float) -> Quantisation:
    """Return keys in the finest units in which histograms stay within limits.

    Parameters
    ----------
    exact
        Keys in units that lose nothing; if these are fine, they are returned.
    most_rows, most_work
        How many rows histograms may have in all, and how many nanoseconds of work they may take.
    """
    keys = exact
    while max(keys.most, default=1) > 1:  # else all keys are zero, and no unit is coarser
        estimate = keys.estimate() if keys.fits else None
        if estimate and estimate.total <= most_rows and estimate.work <= most_work:
            break
        coarser = [unit * 2 for unit in keys.units]
        keys = Quantisation(keys.tree, keys.windows, keys.costs, coarser)
    return keys


def exact_keys(tree: JoinTree, windows: Sequence[Window], costs: Sequence[Array]) -> Quantisation:
    """Return keys in the coarsest units that lose nothing."""
    units = []
    for number in range(len(windows)):
        own = [values[number] for values in costs if values.shape[1]]
        units.append(max(1, int(np.gcd.reduce([np.gcd.reduce(v - v.min()) for v in own]))))
    return Quantisation(tree, windows, costs, units)
