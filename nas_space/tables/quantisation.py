"""Costs as keys: whole numbers that lists are sorted and merged by.

A cost may be counted in a coarser unit than its own, which makes the lists shorter.  Each clique
then rounds down, and what the roundings may lose together is known: a window on the cost becomes
one on keys that holds everything it should, and another that holds nothing it should not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..mutable.factors import Array
from .conditions import Window
from .elimination_order import CALL, LOOKUP, PLACE, ROW
from .factor_graph import FactorGraph
from .join_tree import CliqueVertex, Join, JoinTree


class Quantisation:
    """The keys of a problem's costs.

    Parameters
    ----------
    tree
        An order of elimination.
    windows
        Bounds on some costs of the problem.
    units
        For each of them, the unit to count it in.
    costs
        Which costs they are; the first ones by default.

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
        For each vertex and cost, what divides all keys below.
    strides
        What a key of each cost is multiplied with to become part of a single number.
    """

    def __init__(
        self,
        tree: JoinTree,
        windows: Sequence[Window],
        units: Sequence[int],
        costs: Sequence[int] | None = None,
    ) -> None:
        self.tree = tree
        self.units = list(units)
        number = len(windows)
        self.costs = list(range(number)) if costs is None else list(costs)
        self.keys: dict[int, Array] = {}
        self.steps: list[list[int]] = []
        base = [tree.problem.constants[cost] for cost in self.costs]
        slack = [0] * number
        for place, vertex in enumerate(tree.vertices):
            if isinstance(vertex, Join):
                both = zip(self.steps[vertex.left], self.steps[vertex.right], strict=True)
                self.steps.append([math.gcd(*pair) for pair in both])
            if not isinstance(vertex, CliqueVertex):
                continue
            keys = np.zeros((number, len(vertex.states)), np.int64)
            for k, (cost, unit) in enumerate(zip(self.costs, units, strict=True)):
                values = vertex.clique.costs[cost].reshape(-1)[vertex.states]
                if len(values):
                    least = int(values.min())
                    keys[k], rest = np.divmod(values - least, unit)
                    base[k] += least
                    slack[k] += int(rest.max())
            self.keys[place] = keys
            self.steps.append([int(step) for step in np.gcd.reduce(keys, axis=1)])
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
        for keys in self.keys.values():
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
        vertices = self.tree.vertices
        self.least: list[Array] = []
        self.largest: list[Array] = []
        for place, vertex in enumerate(vertices):
            if isinstance(vertex, Join):
                (a, b), starts = vertex.pairs, vertex.starts[:-1]
                for ends, take in ((self.least, np.minimum), (self.largest, np.maximum)):
                    sums = ends[vertex.left][:, a] + ends[vertex.right][:, b]
                    ends.append(take.reduceat(sums, starts, axis=1) if len(starts) else sums)
            else:
                self.least.append(self.keys[place])
                self.largest.append(self.keys[place])
        self.rest_least = [np.full_like(ends, 2**62) for ends in self.least]
        self.rest_largest = [np.full_like(ends, -(2**62)) for ends in self.least]
        for ends in (self.rest_least, self.rest_largest):
            ends[-1][:] = 0
        for place in reversed(range(len(vertices))):
            vertex = vertices[place]
            if isinstance(vertex, Join):
                self._reach_down(place, vertex)

    def _reach_down(self, place: int, join: Join) -> None:
        a, b = join.pairs
        result = np.repeat(np.arange(len(join.states)), np.diff(join.starts))
        for rest, ends, take in (
            (self.rest_least, self.least, np.minimum),
            (self.rest_largest, self.largest, np.maximum),
        ):
            outside = rest[place][:, result]
            for k in range(len(self.units)):
                take.at(rest[join.left][k], a, outside[k] + ends[join.right][k][b])
                take.at(rest[join.right][k], b, outside[k] + ends[join.left][k][a])

    def step(self, place: int) -> int:
        """What divides all single numbers of a vertex."""
        steps = self.steps[place]
        return max(1, steps[0]) if len(steps) == 1 else 1

    def single(self, keys: Array) -> Array:
        """The keys of several costs, of shape ``(costs, n)``, as one number each."""
        number: Array = np.zeros(keys.shape[-1], np.int64)
        for key, stride in zip(keys, self.strides, strict=True):
            number += key * stride
        return number

    def parts(self, numbers: Array) -> list[Array]:
        """The keys that single numbers were made of."""
        if len(self.strides) == 1:
            return [numbers]
        return [
            numbers // stride % most for stride, most in zip(self.strides, self.most, strict=True)
        ]

    def alive(self, place: int, states: Array, numbers: Array) -> Array:
        """Which rows of a vertex can still end up within the windows."""
        alive = np.ones(len(numbers), np.bool_)
        for k, key in enumerate(self.parts(numbers)):
            alive &= key + self.rest_least[place][k][states] <= self.high[k]
            alive &= key + self.rest_largest[place][k][states] >= self.low[k]
        return alive

    def estimate(self) -> Estimate:
        """How much work it is to make lists of all keys, at most."""
        rows: list[Array] = []
        longest = total = work = 0.0
        for place, vertex in enumerate(self.tree.vertices):
            most = self._most_keys(place)
            if not isinstance(vertex, Join):
                rows.append(np.minimum(most, 1.0))
                continue
            a, b = vertex.pairs
            one, other = rows[vertex.left][a], rows[vertex.right][b]
            counts = one * other
            result = np.repeat(np.arange(len(vertex.states)), np.diff(vertex.starts))
            if vertex is self.tree.root:
                if len(self.units) < 2:
                    counts = np.minimum(one, other)
                return Estimate(longest, total, work + float((LOOKUP * counts).sum()))
            shifts = np.minimum(one, other) * (CALL + PLACE * most[result])
            work += float(np.minimum(ROW * counts, shifts).sum())
            sums = np.add.reduceat(counts, vertex.starts[:-1]) if len(counts) else counts
            rows.append(np.minimum(sums, most))
            longest = max(longest, float(rows[-1].sum()))
            total += float(rows[-1].sum())
        raise AssertionError("a tree ends with its root")

    def _most_keys(self, place: int) -> Array:
        """For each state: how many keys can end up within the windows."""
        most = np.ones(self.least[place].shape[1])
        for k, step in enumerate(self.steps[place]):
            low = np.maximum(self.least[place][k], self.low[k] - self.rest_largest[place][k])
            high = np.minimum(self.largest[place][k], self.high[k] - self.rest_least[place][k])
            most *= np.where(high < low, 0, (high - low) // max(step, 1) + 1)
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


def tree_for(
    problem: FactorGraph, windows: Sequence[Window], costs: Sequence[int] | None = None
) -> JoinTree:
    """The order in which to join the cliques of a problem, given bounds on some of its costs."""
    chosen = range(len(windows)) if costs is None else costs
    rooms = []
    for cost, window in zip(chosen, windows, strict=True):
        low = problem.constants[cost]
        for clique in problem.cliques:
            values = clique.costs[cost][clique.allowed]
            low += int(values.min()) if values.size else 0
        rooms.append(max(0, window.high - low))
    return JoinTree(problem, chosen, rooms)


def finest(
    tree: JoinTree,
    windows: Sequence[Window],
    costs: Sequence[int] | None = None,
    *,
    most_rows: float,
    most_work: float,
) -> Quantisation:
    """Keys in the finest units in which lists stay within limits; exact ones if possible."""
    chosen = range(len(windows)) if costs is None else costs
    scale = Quantisation(tree, windows, [_common_step(tree, cost) for cost in chosen], chosen)
    while max(scale.most, default=1) > 1:  # else all keys are zero, and no unit is coarser
        estimate = scale.estimate() if scale.fits else None
        if estimate and estimate.total <= most_rows and estimate.work <= most_work:
            break
        scale = Quantisation(tree, windows, [unit * 2 for unit in scale.units], chosen)
    return scale


def _common_step(tree: JoinTree, cost: int) -> int:
    """What divides all differences of a cost."""
    step = 0
    for vertex in tree.vertices:
        if isinstance(vertex, CliqueVertex):
            costs = vertex.clique.costs[cost].reshape(-1)[vertex.states]
            if len(costs):
                step = math.gcd(step, int(np.gcd.reduce(costs - costs.min())))
    return max(step, 1)
