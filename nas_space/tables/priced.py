"""The best combinations within windows, by putting a price on the costs that the windows bound.

With a price on each unit of a cost, the objective plus what the costs come to is a sum again, whose
least value is quickly known, overall and given any part of a combination (Lagrangian relaxation;
Geoffrion, 1974).  At good prices, it is nearly the best value within the windows.  So few parts
are left that may still lead to one of the best, however varied the costs are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .conditions import Window
from .factors import Array
from .rows import CHUNK, Rows
from .selection import Chosen
from .tree import Given, Join, Tree, runs

_MOST = 2**19
"""How many rows of a vertex may be worth keeping."""

_MOST_PAIRS = 2**25
"""How many pairs of rows may be looked at in one join."""

_HALVINGS = 30
"""How closely a price is looked for."""

_ROUNDING = 1e-9
"""Relative to its parts, how far off a sum with prices may be."""


class TooMany(Exception):  # noqa: N818 - caught within this part of the library, not an error yet
    """More rows are worth keeping than there may be."""


class Priced:
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

    def __init__(self, tree: Tree, objective: int, sign: int, windows: Sequence[Window]) -> None:
        self.tree = tree
        constants = tree.problem.constants
        self.low = [w.low - c for w, c in zip(windows, constants, strict=False)]
        self.high = [w.high - c for w, c in zip(windows, constants, strict=False)]
        self.own: dict[int, list[Array]] = {}
        for place, vertex in enumerate(tree.vertices):
            if isinstance(vertex, Given):
                costs = [cost.reshape(-1)[vertex.states] for cost in vertex.clique.costs]
                self.own[place] = [sign * costs[objective], *costs[: len(windows)]]
        nothing = np.zeros(len(windows))
        self.prices = nothing.copy()
        for _ in range(1 if len(windows) < 2 else 3):
            for number in range(len(windows)):
                self.prices[number] = self._price(number)
        self.offset, self.bound = self._bound(self.prices)
        if self._bound(nothing)[1] > self.bound:
            self.prices = nothing
            self.offset, self.bound = self._bound(nothing)
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
        """For each state: the least, with prices, of all the rest; and the range of each cost."""
        signed = [(self.prices, 1.0)]
        for number in range(len(self.low)):
            only = np.zeros(len(self.low))
            only[number] = 1
            signed += [(only, 0.0), (-only, 0.0)]
        self.rest = [self._rest(prices, share) for prices, share in signed]

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

    def within(self, most: float, wanted: int) -> list[Chosen]:
        """The rows of each vertex that may lead to an objective of at most so much.

        Parameters
        ----------
        most
            The objective, constants left out.
        wanted
            How many rows that agree in state and costs are kept: the best.

        Raises
        ------
        TooMany
            If there are more than can be looked at.
        """
        limit = most + self.offset
        limit += _ROUNDING * (abs(most) + abs(self.offset) + abs(self.bound) + 1)
        found: list[Chosen] = []
        for place, vertex in enumerate(self.tree.vertices):
            if isinstance(vertex, Join):
                found.append(self._joined(place, vertex, found, limit, wanted))
            else:
                states = np.arange(len(vertex.states))
                alive = self._alive(place, states, self.own[place], limit)
                costs = [cost[alive] for cost in self.own[place]]
                own = np.arange(int(alive.sum()))
                found.append(self._sorted(place, states[alive], costs, own, own))
        return found

    def _alive(self, place: int, states: Array, costs: Sequence[Array], limit: float) -> Array:
        rest = self.rest[0][place][states]
        alive: Array = self._total(costs, self.prices) + rest <= limit
        for k, cost in enumerate(costs[1:]):
            alive &= cost + self.rest[1 + 2 * k][place][states] <= self.high[k]
            alive &= cost - self.rest[2 + 2 * k][place][states] >= self.low[k]
        return alive

    def _sorted(
        self, place: int, states: Array, costs: Sequence[Array], left: Array, right: Array
    ) -> Chosen:
        """Rows by state, and by their sum with prices, which stands where keys do."""
        total = self._total(costs, self.prices)
        order = np.lexsort((total, states))
        rows = Rows.of(
            len(self.tree.vertices[place].states), states[order], total[order], np.zeros(0)
        )
        return Chosen(rows, np.stack([c[order] for c in costs]), left[order], right[order])

    def _joined(
        self, place: int, join: Join, found: list[Chosen], limit: float, wanted: int
    ) -> Chosen:
        left, right = found[join.left], found[join.right]
        a, b = join.pairs
        lengths = left.rows.lengths[a]
        pair = np.repeat(np.arange(len(a)), lengths)
        row = runs(left.rows.starts[a], lengths)
        result = np.repeat(np.arange(len(join.states)), np.diff(join.starts))[pair]
        begin = right.rows.starts[b][pair]
        room = limit - left.rows.keys[row] - self.rest[0][place][result]
        width = np.maximum(0, _first_above(right.rows, b[pair], room) - begin)
        ends = np.cumsum(width)
        if len(ends) and ends[-1] > _MOST_PAIRS:
            raise TooMany
        nothing = np.zeros(0, np.int64)
        parts: list[tuple[Array, ...]] = [(nothing, nothing, nothing, left.costs[:, :0])]
        start = done = collected = 0
        while start < len(ends):
            stop = max(start + 1, int(np.searchsorted(ends, done + CHUNK, "right")))
            which = np.repeat(np.arange(start, stop), width[start:stop])
            one, two = row[which], runs(begin[start:stop], width[start:stop])
            states, costs = result[which], left.costs[:, one] + right.costs[:, two]
            alive = self._alive(place, states, list(costs), limit)
            parts.append((states[alive], one[alive], two[alive], costs[:, alive]))
            collected += int(alive.sum())
            if collected > 2 * _MOST:
                parts = [_distinct(parts, wanted)]
                collected = len(parts[0][0])
                if collected > _MOST:
                    raise TooMany
            start, done = stop, int(ends[stop - 1])
        states, one, two, costs = _distinct(parts, wanted)
        return self._sorted(place, states, list(costs), one, two)


def _first_above(rows: Rows, states: Array, keys: Array) -> Array:
    """The first row of each given state with a key above a given one; the end if there is none."""
    values = np.sort(rows.keys)
    span = len(values) + 1
    places = rows.states * span + np.searchsorted(values, rows.keys, "right") - 1
    found: Array = np.searchsorted(places, states * span + np.searchsorted(values, keys, "right"))
    return found


def _distinct(parts: list[tuple[Array, ...]], wanted: int) -> tuple[Array, ...]:
    """Of rows that agree in state and costs, those with the lowest objective."""
    columns: list[Array] = [np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)]
    states, costs = columns[0], columns[3]
    order = np.lexsort((costs[0], *costs[1:], states))
    if not len(order):
        return tuple(columns)
    states, costs = states[order], costs[:, order]
    new = np.append(True, np.diff(states) != 0)
    for cost in costs[1:]:
        new[1:] |= np.diff(cost) != 0
    begin = np.flatnonzero(new)
    rank = np.arange(len(order)) - np.repeat(begin, np.diff(np.append(begin, len(order))))
    kept = order[rank < wanted]
    return tuple(column[..., kept] for column in columns)
