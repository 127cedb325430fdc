"""The best combinations within windows, by putting a price on the costs that the windows bound.

With a price on each unit of a cost, the objective plus what the costs come to is a sum again, whose
least value is quickly known, overall and given any part of a combination (Lagrangian relaxation;
Geoffrion, 1974).  At good prices, it is nearly the best value within the windows.  So few parts
are left that may still lead to one of the best, however varied the costs are.

Of a window, one end matters: that which the best is about to leave.  With the other end given up,
a part that costs more than others and is worth less leads nowhere (dominance, as in knapsacks:
Kellerer, Pferschy and Pisinger, 2004).  What is found then, from the best on, includes the best
that keep to both ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..mutable.factors import Array
from .conditions import Window
from .histograms import CHUNK, Histograms
from .join_tree import CliqueVertex, Join, JoinTree, runs
from .k_best import Selected, TooManyRows

_MOST = 2**19
"""How many rows of a vertex may be worth keeping."""

_MOST_PAIRS = 2**27
"""How many pairs of rows may be looked at in one join."""

_MOST_WEIGHED = 2**25
"""How many rows may be weighed against each other in all."""

_SHARES = (0.25, 0.5, 0.7, 0.85, 1.2, 1.5, 2.0, 4.0)
"""Further prices, relative to the best: for parts of combinations, others may say more."""

_HALVINGS = 30
"""How closely a price is looked for."""

_ROUNDING = 1e-9
"""Relative to its parts, how far off a sum with prices may be."""


class _LagrangianBound(NamedTuple):
    """What some prices say.

    Attributes
    ----------
    prices
        For one unit of each cost.
    offset
        What the ends of the windows cost.
    rest
        For each vertex and state, the least that all the rest adds to the sum.
    """

    prices: Array
    offset: float
    rest: list[Array]


class LagrangianSearch:
    """An objective within windows, and prices for what these bound.

    Parameters
    ----------
    tree
        An order of elimination.
    objective
        Which of the problem's costs is to be low.
    sign
        -1 if it is to be high instead.
    windows
        Bounds on the first costs of the problem.

    Attributes
    ----------
    bound
        No combination within the windows has a lower objective, constants left out.
    """

    def __init__(
        self, tree: JoinTree, objective: int, sign: int, windows: Sequence[Window]
    ) -> None:
        self.tree = tree
        self.weighed = 0
        constants = tree.problem.constants
        self.low = [w.low - c for w, c in zip(windows, constants, strict=False)]
        self.high = [w.high - c for w, c in zip(windows, constants, strict=False)]
        self.own: dict[int, list[Array]] = {}
        for place, vertex in enumerate(tree.vertices):
            if isinstance(vertex, CliqueVertex):
                costs = [cost.reshape(-1)[vertex.states] for cost in vertex.clique.costs]
                self.own[place] = [sign * costs[objective], *costs[: len(windows)]]
        nothing = np.zeros(len(windows))
        self.prices = nothing.copy()
        for _ in range(1 if len(windows) < 2 else 3):
            for number in range(len(windows)):
                self.prices[number] = self._price(number)
        self.bound = self._bound(self.prices)[1]
        if self._bound(nothing)[1] > self.bound:
            self.prices = nothing
            self.bound = self._bound(nothing)[1]
        self._reach()

    # -- prices -------------------------------------------------------------------------------

    def _bound(self, prices: Array) -> tuple[float, float]:
        """What the ends of the windows cost, and what the objective is above, at some prices."""
        ends = zip(prices.tolist(), self.low, self.high, strict=True)
        offset = float(sum(price * (high if price > 0 else low) for price, low, high in ends))
        objective, costs = self._least(prices)
        return offset, float(objective) + float(prices @ costs) - offset

    def _least(self, prices: Array) -> tuple[float, Array]:
        """The objective and the costs of what is least in sum, at some prices."""
        best: list[list[Array]] = []
        for place, vertex in enumerate(self.tree.vertices):
            if not isinstance(vertex, Join):
                best.append(self.own[place])
                continue
            a, b = vertex.pairs
            both = zip(best[vertex.left], best[vertex.right], strict=True)
            sums = [left[a] + right[b] for left, right in both]
            total = self._total(sums, prices)
            result = np.repeat(np.arange(len(vertex.states)), np.diff(vertex.starts))
            least = np.flatnonzero(total == np.minimum.reduceat(total, vertex.starts[:-1])[result])
            first = least[np.searchsorted(result[least], np.arange(len(vertex.states)))]
            best.append([cost[first] for cost in sums])
        objective, *costs = [cost[0].item() for cost in best[-1]]
        return objective, np.array(costs, dtype=np.float64)

    def _total(self, costs: Sequence[Array], prices: Array) -> Array:
        total = costs[0].astype(np.float64)
        for price, cost in zip(prices.tolist(), costs[1:], strict=True):
            total += price * cost
        return total

    def _price(self, number: int) -> float:
        """The price of one cost at which what is least is about to leave the window."""
        prices = self.prices.copy()

        def excess(price: float) -> int:
            prices[number] = price
            cost = self._least(prices)[1][number]
            return int(cost > self.high[number]) - int(cost < self.low[number])

        way = excess(0.0)
        if not way:
            return 0.0
        dear = 1.0
        while excess(way * dear) != way and dear > 1e-12:
            dear /= 16
        while excess(way * dear) == way and dear < 1e18:
            dear *= 4
        cheap = 0.0
        for _ in range(_HALVINGS):
            middle = (cheap + dear) / 2
            if excess(way * middle) == way:
                cheap = middle
            else:
                dear = middle
        return way * dear

    # -- what is left ---------------------------------------------------------------------------

    def _reach(self) -> None:
        """For each state: the least, with prices, of all the rest; and how far each cost is off."""
        self.bounds: list[_LagrangianBound] = []
        for share in (1.0, *_SHARES) if self.prices.any() else (1.0,):
            prices = share * self.prices
            self.bounds.append(
                _LagrangianBound(prices, self._bound(prices)[0], self._rest(prices, 1.0))
            )
        self.ends: list[tuple[int, float, float, list[Array]]] = []
        for number in np.flatnonzero(self.prices).tolist():
            way = 1.0 if self.prices[number] > 0 else -1.0
            only = np.zeros(len(self.low))
            only[number] = way
            end = self.high[number] if way > 0 else -self.low[number]
            self.ends.append((number, way, end, self._rest(only, 0.0)))

    def _rest(self, prices: Array, share: float) -> list[Array]:
        """For each state: the least that all the rest adds to a sum."""
        vertices = self.tree.vertices
        least: list[Array] = []
        for place, vertex in enumerate(vertices):
            if isinstance(vertex, Join):
                a, b = vertex.pairs
                sums = least[vertex.left][a] + least[vertex.right][b]
                least.append(np.minimum.reduceat(sums, vertex.starts[:-1]))
            else:
                objective, *costs = self.own[place]
                least.append(self._total([share * objective, *costs], prices))
        rest = [np.full(len(sums), np.inf) for sums in least]
        rest[-1][:] = 0
        for place in reversed(range(len(vertices))):
            vertex = vertices[place]
            if isinstance(vertex, Join):
                a, b = vertex.pairs
                outside = np.repeat(rest[place], np.diff(vertex.starts))
                np.minimum.at(rest[vertex.left], a, outside + least[vertex.right][b])
                np.minimum.at(rest[vertex.right], b, outside + least[vertex.left][a])
        return rest

    def within(self, most: float, wanted: int) -> list[Selected]:
        """The rows of each vertex that may lead to an objective of at most so much.

        Parameters
        ----------
        most
            The objective, constants left out.
        wanted
            How many of the best there are to be: what has as many others before it is dropped.

        Raises
        ------
        TooManyRows
            If there are more than can be looked at, here or in all that was asked so far.
        """
        found: list[Selected] = []
        for place, vertex in enumerate(self.tree.vertices):
            if isinstance(vertex, Join):
                found.append(self._joined(place, vertex, found, most, wanted))
            else:
                states = np.arange(len(vertex.states))
                alive = self._alive(place, states, np.stack(self.own[place]), most)
                costs = [cost[alive] for cost in self.own[place]]
                own = np.arange(len(alive))
                found.append(self._sorted(place, states[alive], costs, own, own))
        return found

    def _alive(self, place: int, states: Array, costs: Array, most: float) -> Array:
        """Which rows may lead to what is wanted."""
        alive = np.arange(len(states))
        for number, way, end, rest in self.ends:
            within = way * costs[1 + number, alive] + rest[place][states[alive]] <= end
            alive = alive[within]
        for bound in self.bounds:
            total = self._total(costs[:, alive], bound.prices)  # type: ignore[arg-type]
            alive = alive[total + bound.rest[place][states[alive]] <= self._limit(bound, most)]
        return alive

    def _limit(self, bound: _LagrangianBound, most: float) -> float:
        rounding = _ROUNDING * (abs(most) + abs(bound.offset) + abs(self.bound) + 1)
        return most + bound.offset + rounding

    def _sorted(
        self, place: int, states: Array, costs: Sequence[Array], left: Array, right: Array
    ) -> Selected:
        """Rows by state, and by their sum with prices, which stands where keys do."""
        total = self._total(costs, self.prices)
        order = np.lexsort((total, states))
        rows = Histograms.of(
            len(self.tree.vertices[place].states), states[order], total[order], np.zeros(0)
        )
        return Selected(rows, np.stack([c[order] for c in costs]), left[order], right[order])

    def _joined(
        self, place: int, join: Join, found: list[Selected], most: float, wanted: int
    ) -> Selected:
        left, right = found[join.left], found[join.right]
        a, b = join.pairs
        lengths = left.rows.lengths[a]
        pair = np.repeat(np.arange(len(a)), lengths)
        row = runs(left.rows.starts[a], lengths)
        result = np.repeat(np.arange(len(join.states)), np.diff(join.starts))[pair]
        begin = right.rows.starts[b][pair]
        first = self.bounds[0]
        room = self._limit(first, most) - left.rows.keys[row] - first.rest[place][result]
        width = np.maximum(0, _first_above(right.rows, b[pair], room) - begin)
        ends = np.cumsum(width)
        if len(ends) and ends[-1] > _MOST_PAIRS:
            raise TooManyRows
        nothing = np.zeros(0, np.int64)
        parts: list[tuple[Array, ...]] = [(nothing, nothing, nothing, left.costs[:, :0])]
        start = done = collected = 0
        while start < len(ends):
            stop = max(start + 1, int(np.searchsorted(ends, done + CHUNK, "right")))
            which = np.repeat(np.arange(start, stop), width[start:stop])
            one, two = row[which], runs(begin[start:stop], width[start:stop])
            states, costs = result[which], left.costs[:, one] + right.costs[:, two]
            alive = self._alive(place, states, costs, most)
            parts.append((states[alive], one[alive], two[alive], costs[:, alive]))
            collected += len(alive)
            if collected > 2 * _MOST:
                parts = [self._worth(parts, wanted)]
                collected = len(parts[0][0])
                if collected > _MOST:
                    raise TooManyRows
            start, done = stop, int(ends[stop - 1])
        states, one, two, costs = self._worth(parts, wanted)
        return self._sorted(place, states, list(costs), one, two)

    def _worth(self, parts: list[tuple[Array, ...]], wanted: int) -> tuple[Array, ...]:
        """The rows that do not have so many others of their state that are as good in all.

        A cost without a price does not matter; of several that matter, all but one must agree.
        """
        columns: list[Array] = [np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)]
        states, costs = columns[0], columns[3]
        self.weighed += len(states)
        if self.weighed > _MOST_WEIGHED:
            raise TooManyRows
        if not len(states):
            return tuple(columns)
        matter = [way * costs[1 + number] for number, way, _, _ in self.ends]
        cost = matter.pop(0) if matter else np.zeros(len(states), np.int64)
        order = np.lexsort((costs[0], cost, *matter, states))
        new = np.zeros(len(order), np.bool_)
        for same in (states, *matter):
            new[1:] |= np.diff(same[order]) != 0
        kept = order[_in_front(np.cumsum(new), costs[0][order], wanted)]
        return tuple(column[..., kept] for column in columns)


def _first_above(rows: Histograms, states: Array, keys: Array) -> Array:
    """The first row of each given state with a key above a given one; the end if there is none."""
    values = np.sort(rows.keys)
    span = len(values) + 1
    places = rows.states * span + np.searchsorted(values, rows.keys, "right") - 1
    found: Array = np.searchsorted(places, states * span + np.searchsorted(values, keys, "right"))
    return found


def _in_front(groups: Array, values: Array, most: int) -> Array:
    """Which rows have fewer than so many before them in their group that are not above them.

    Parameters
    ----------
    groups
        The group of each row, ascending.
    values
        What is to be low; what comes first in a group is better otherwise.
    """
    ranks = np.empty(len(values), np.int64)
    ranks[np.lexsort((values, groups))] = np.arange(len(values))
    begin = np.searchsorted(groups, groups)  # all of the groups before are before, and below
    return _smaller_before(ranks) - begin < most


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
