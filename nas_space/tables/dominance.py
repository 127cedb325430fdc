"""Dynamic programming over partial combinations, without those that lead nowhere.

A part of a combination is dropped for one of two reasons.  It may be that no way to complete it
is good enough: by a Lagrangian bound, or because a cost would leave its window whatever is
added.  Or others of the same state are as good in everything that matters: then whatever
completes it completes them, to a combination that is as good (dominance, as in knapsacks and
constrained shortest paths: Kellerer, Pferschy and Pisinger, "Knapsack problems", 2004; Irnich and
Desaulniers, "Shortest path problems with resource constraints", 2005).  If the ``k`` best are
wanted, a part is dropped once ``k`` others dominate it, since each of them leads to another.

Of a window, one end is looked at while searching for the best: that which has a price, because
the best is about to leave it.  With the other end given up, a part that costs less dominates; what
is found includes, from the best on, the best that keep to both ends.  For a front, nothing can be
given up, so parts are only compared with those that have the same costs in all windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..mutable.factors import Array
from .effort import ROW, WEIGH, Meter
from .histograms import Histograms, RowPairs
from .join_tree import CliqueVertex, Join, JoinTree
from .lagrangian import Relaxation

__all__ = ["DominanceSearch", "PartialCombinations", "TooManyRowsError", "undominated"]

_MOST = 2**19
"""How many rows of a vertex may be worth keeping."""

_SHARES = (0.25, 0.5, 0.7, 0.85, 1.2, 1.5, 2.0, 4.0)
"""Further prices, relative to the best: for parts of combinations, others may say more."""

_ROUNDING = 1e-9
"""Relative to its parts, how far off a sum with prices may be."""


class TooManyRowsError(Exception):
    """More rows are worth keeping than there may be."""


class PartialCombinations(NamedTuple):
    """Rows of one vertex, in order of their states.

    Attributes
    ----------
    rows
        Where each state begins, and the sum with prices of each row, ascending; no weights.
    costs
        The objective, and each cost, of shape ``(1 + costs, rows)``.
    left, right
        The rows of the children; for a clique, twice the row itself.
    """

    rows: Histograms
    costs: Array
    left: Array
    right: Array


class _Bound(NamedTuple):
    """What some prices say: for each state, the least that all the rest adds to the sum."""

    prices: Array
    offset: float
    rest: list[Array]


class _End(NamedTuple):
    """An end of a window: ``way * cost`` is ``end`` at most; and the least that the rest adds."""

    number: int
    way: int
    end: float
    rest: list[Array]


class DominanceSearch:
    """The combinations that may be among the best, or on a front.

    Parameters
    ----------
    tree
        The cliques, joined.
    own
        For each clique, the objective and the costs of each state, of shape
        ``(1 + costs, states)``.
    windows
        Bounds on the costs, with their constants taken off.
    meter
        Counts the work.
    front
        Whether a front of the objective and the first cost is wanted, instead of the best.

    Attributes
    ----------
    bound
        No combination within the windows has a lower objective.
    """

    def __init__(
        self,
        tree: JoinTree,
        own: Sequence[Array],
        windows: Sequence[tuple[float, float]],
        meter: Meter,
        *,
        front: bool = False,
    ) -> None:
        self.tree, self.own, self.meter = tree, own, meter
        self.prices, self.bound = np.zeros(len(windows)), -np.inf
        self.bounds: list[_Bound] = []
        if front:  # the first cost is the other objective; windows have two ends
            ends = [(number, way) for number in range(1, len(windows)) for way in (1, -1)]
            self.compared = [(number, 1) for number in range(len(windows))]
        else:
            relaxation = Relaxation(tree, own, windows, meter)
            self.prices, self.bound = relaxation.prices, relaxation.bound
            for share in (1.0, *_SHARES) if self.prices.any() else (1.0,):
                prices = share * self.prices
                rest = self._rest(np.concatenate([[1.0], prices]))
                self.bounds.append(_Bound(prices, relaxation.offset(prices), rest))
            priced = np.flatnonzero(self.prices).tolist()
            ends = self.compared = [(n, 1 if self.prices[n] > 0 else -1) for n in priced]
        self.ends = [
            _End(number, way, max(way * end for end in windows[number]), self._rest(way * only))
            for number, way in ends
            for only in [np.eye(1 + len(windows))[1 + number]]
        ]

    def _rest(self, weights: Array) -> list[Array]:
        """For each state: the least that all the rest adds to a weighted sum."""
        self.meter.spend(self.tree.work)
        sums = [(weights @ costs)[None] for costs in self.own]
        return [rest[0] for rest in self.tree.min_marginals(self.tree.minima(sums))]

    def within(self, most: float, wanted: int = 1) -> list[PartialCombinations]:
        """Return the rows of each vertex that may lead to an objective of at most so much.

        Parameters
        ----------
        most
            The objective, constants left out.
        wanted
            How many of the best there are to be: what has as many others before it is dropped.

        Raises
        ------
        TooManyRowsError
            If there are more than can be looked at.
        TooMuchWorkError
            If that takes more than the meter allows.
        """

        def clique(place: int, _: CliqueVertex) -> PartialCombinations:
            states = np.arange(self.own[place].shape[1])
            alive = self._alive(place, states, self.own[place], most)
            own = np.arange(len(alive))
            return self._sorted(place, states[alive], self.own[place][:, alive], own, own)

        return self.tree.upward(
            clique,
            lambda place, join, left, right: self._joined(place, join, left, right, most, wanted),
        )

    def classes(self, found: Sequence[PartialCombinations], rows: Array) -> dict[int, Array]:
        """Return the class of each variable in the combinations that rows of the root stand for."""
        classes: dict[int, Array] = {}
        for place, own in self.tree.downward(
            rows, lambda place, _, rows: (found[place].left[rows], found[place].right[rows])
        ):
            if isinstance(self.tree.vertices[place], CliqueVertex):
                states = found[place].rows.states[own]
                classes.update(self.tree.classes(place, states))
        return classes

    def _alive(self, place: int, states: Array, costs: Array, most: float) -> Array:
        """Which rows may lead to what is wanted."""
        alive = np.arange(len(states))
        for number, way, end, rest in self.ends:
            alive = alive[way * costs[1 + number, alive] + rest[place][states[alive]] <= end]
        for bound in self.bounds:
            total = self._total(costs[:, alive], bound.prices)
            alive = alive[total + bound.rest[place][states[alive]] <= self._limit(bound, most)]
        return alive

    def _total(self, costs: Array, prices: Array) -> Array:
        total: Array = np.concatenate([[1.0], prices]) @ costs
        return total

    def _limit(self, bound: _Bound, most: float) -> float:
        rounding = _ROUNDING * (abs(most) + abs(bound.offset) + abs(self.bound) + 1)
        return most + bound.offset + rounding

    def _sorted(
        self, place: int, states: Array, costs: Array, left: Array, right: Array
    ) -> PartialCombinations:
        """Rows by state, and by their sum with prices, which stands where keys do."""
        total = self._total(costs, self.prices)
        order = np.lexsort((total, states))
        count = len(self.tree.vertices[place].states)
        rows = Histograms.of(count, states[order], total[order], np.zeros(0))
        return PartialCombinations(rows, costs[:, order], left[order], right[order])

    def _joined(
        self,
        place: int,
        join: Join,
        left: PartialCombinations,
        right: PartialCombinations,
        most: float,
        wanted: int,
    ) -> PartialCombinations:
        pairs = RowPairs(left.rows, right.rows, *join.pairs)
        if self.bounds:  # of the rows on the right, the first so many are good enough
            first, result = self.bounds[0], join.owners[pairs.pair]
            room = self._limit(first, most) - left.rows.keys[pairs.row] - first.rest[place][result]
            last = _first_above(right.rows, join.pairs[1][pairs.pair], room)
            pairs.width = np.maximum(0, last - pairs.begin)
        if ROW * pairs.width.sum() > self.meter.left:
            raise TooManyRowsError
        nothing = np.zeros(0, np.int64)
        parts: list[tuple[Array, ...]] = [(nothing, nothing, nothing, left.costs[:, :0])]
        collected = 0
        for pair, one, two in pairs.chunks():
            self.meter.spend(ROW * len(pair))
            states, costs = join.owners[pair], left.costs[:, one] + right.costs[:, two]
            alive = self._alive(place, states, costs, most)
            parts.append((states[alive], one[alive], two[alive], costs[:, alive]))
            collected += len(alive)
            if collected > 2 * _MOST:
                parts = [self._undominated(parts, wanted)]
                collected = len(parts[0][0])
                if collected > _MOST:
                    raise TooManyRowsError
        states, one, two, costs = self._undominated(parts, wanted)
        return self._sorted(place, states, costs, one, two)

    def _undominated(self, parts: list[tuple[Array, ...]], wanted: int) -> tuple[Array, ...]:
        """The rows that are not dominated by so many others of their state.

        A cost that nothing is compared by does not matter; of several that matter, all but the
        first must agree.
        """
        columns: list[Array] = [np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)]
        states, costs = columns[0], columns[3]
        self.meter.spend(WEIGH * len(states))
        if not len(states):
            return tuple(columns)
        matter = [way * costs[1 + number] for number, way in self.compared]
        cost = matter.pop(0) if matter else np.zeros(len(states), np.int64)
        kept = undominated([states, *matter], costs[0], cost, wanted)
        return tuple(column[..., kept] for column in columns)


def undominated(groups: Sequence[Array], first: Array, second: Array, most: int = 1) -> Array:
    """Return which rows fewer than so many others of their group dominate, in order of groups.

    A row dominates another if it is as low in both of two values, and comes first where both are
    the same.

    Parameters
    ----------
    groups
        Rows are in one group if they agree in all of these.
    first, second
        The two values.
    most
        Rows that as many others dominate are left out.
    """
    order = np.lexsort((first, second, *groups[::-1]))
    new = np.zeros(len(order), np.bool_)
    for same in groups:
        new[1:] |= np.diff(same[order]) != 0
    group, values = np.cumsum(new), first[order]
    ranks = np.empty(len(order), np.int64)
    ranks[np.lexsort((values, group))] = np.arange(len(order))
    begin = np.searchsorted(group, group)  # all of the groups before are before, and below
    kept: Array = order[_smaller_before(ranks) - begin < most]
    return kept


def _first_above(rows: Histograms, states: Array, keys: Array) -> Array:
    """The first row of each given state with a key above a given one; the end if there is none."""
    values = np.sort(rows.keys)
    span = len(values) + 1
    places = rows.states * span + np.searchsorted(values, rows.keys, "right") - 1
    found: Array = np.searchsorted(places, states * span + np.searchsorted(values, keys, "right"))
    return found


def _smaller_before(ranks: Array) -> Array:
    """For each number of a permutation, how many smaller ones stand before it.

    Bit by bit, from the highest: of those that agree so far, in the order in which they stand,
    a number with a 1 has as many smaller ones before it as there are with a 0.
    """
    counts = np.zeros_like(ranks)
    order = places = np.arange(len(ranks))
    for bit in reversed(range(len(ranks).bit_length())):
        numbers = ranks[order]
        high, begin = numbers >> bit & 1, numbers >> bit + 1 << bit + 1
        zeros = np.cumsum(1 - high) - (1 - high)
        zeros -= zeros[begin]
        counts[order] += high * zeros
        after = np.empty_like(order)
        after[(numbers >> bit << bit) + np.where(high, places - begin - zeros, zeros)] = order
        order = after
    return counts
