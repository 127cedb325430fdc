"""In which order cliques are joined, decided by how much work that is likely to be.

A variable is eliminated as soon as no clique that is left has it (bucket elimination: Dechter,
*Artificial Intelligence* 113, 1999).  Two orders are tried.  One eliminates whatever is cheapest
next, which keeps states few.  The other joins cliques along a line from both of its ends, one
at a time, which keeps what is added to long lists of costs short.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from .effort import CALL, LOOKUP, PLACE, ROW

__all__ = [
    "CliqueSize",
    "EliminationOrder",
    "JoinStep",
    "by_elimination",
    "by_sweeping",
    "cheapest_order",
    "union",
]


class CliqueSize(NamedTuple):
    """A relation, as far as its size matters.

    Attributes
    ----------
    scope
        Its variables.
    rows
        How many costs a state has, at most.
    spans
        For each kind of cost that is told apart: the range, and what divides all differences.
    """

    scope: frozenset[int]
    rows: float
    spans: tuple[tuple[int, int], ...]


class JoinStep(NamedTuple):
    """A join: the numbers of two relations, and the variables that stay."""

    left: int
    right: int
    scope: frozenset[int]


class EliminationOrder:
    """Joins that lead from cliques to a single relation without variables.

    Parameters
    ----------
    sizes
        Of the variables.
    items
        The cliques.
    rooms
        For each kind of cost: the range within which a sum must stay.

    Attributes
    ----------
    items
        The cliques, what stands for nothing, and what each join makes.
    steps
        The joins, in order.
    work
        How many nanoseconds they may take.
    """

    def __init__(
        self, sizes: Sequence[int], items: Sequence[CliqueSize], rooms: Sequence[int]
    ) -> None:
        self.sizes, self.rooms = sizes, list(rooms)
        self.cliques = len(items)
        self.items = [*items, CliqueSize(frozenset(), 1.0, ((0, 0),) * len(self.rooms))]
        self.steps: list[JoinStep] = []
        self.work = 0.0

    @property
    def nothing(self) -> int:
        """The number of the relation that changes nothing."""
        return self.cliques

    def entries(self, scope: frozenset[int]) -> float:
        """Return how many states there are."""
        return math.prod(float(self.sizes[place]) for place in scope)

    def joined(
        self, left: CliqueSize, right: CliqueSize, needed: frozenset[int]
    ) -> tuple[CliqueSize, float]:
        """Return what a join makes, and the work it is."""
        everything = left.scope | right.scope
        scope = everything & needed
        spans = tuple(
            (a[0] + b[0], math.gcd(a[1], b[1]))
            for a, b in zip(left.spans, right.spans, strict=True)
        )
        most = math.prod(
            float(min(width, room) // max(step, 1) + 1)
            for (width, step), room in zip(spans, self.rooms, strict=True)
        )
        products = left.rows * right.rows
        rows = min(products * self.entries(everything - scope), most)
        adding = min(left.rows, right.rows) * (CALL + PLACE * most)
        return CliqueSize(scope, rows, spans), self.entries(everything) * min(
            ROW * products, adding
        )

    def join(self, left: int, right: int, needed: frozenset[int]) -> int:
        """Add a join; give the number of what it makes."""
        item, work = self.joined(self.items[left], self.items[right], needed)
        self.work += work
        self.steps.append(JoinStep(left, right, item.scope))
        self.items.append(item)
        return len(self.items) - 1

    def finish(self, left: int, right: int) -> None:
        """Add the last join, of which only what ends within bounds is looked at."""
        one, other = self.items[left], self.items[right]
        pairs = self.entries(one.scope | other.scope)
        fewer = min(one.rows, other.rows) if len(self.rooms) < 2 else one.rows * other.rows
        self.work += pairs * fewer * LOOKUP
        self.steps.append(JoinStep(left, right, frozenset()))


def cheapest_order(
    sizes: Sequence[int], items: Sequence[CliqueSize], rooms: Sequence[int]
) -> EliminationOrder:
    """Return the order that is likely to be less work."""
    orders = [
        by_elimination(EliminationOrder(sizes, items, rooms)),
        by_sweeping(EliminationOrder(sizes, items, rooms)),
    ]
    return min(orders, key=lambda order: order.work)


def union(order: EliminationOrder, numbers: Sequence[int]) -> frozenset[int]:
    """Return the variables of several relations."""
    return frozenset[int]().union(*(order.items[number].scope for number in numbers))


# -- eliminating the cheapest variable ------------------------------------------------------------


def by_elimination(order: EliminationOrder) -> EliminationOrder:
    """Eliminate the variable next whose cliques are the least work to join."""
    items = list(range(order.cliques))
    while variables := union(order, items):
        variable = min(variables, key=lambda place: (_effort(order, items, place), place))
        group = [item for item in items if variable in order.items[item].scope]
        items = [item for item in items if variable not in order.items[item].scope]
        if not items:
            return _fold(order, group, frozenset(), 2)
        _fold(order, group, union(order, items), 1)
        items.append(len(order.items) - 1)
    return _fold(order, items, frozenset(), 2)


def _effort(order: EliminationOrder, items: Sequence[int], variable: int) -> float:
    group = [item for item in items if variable in order.items[item].scope]
    rows = math.prod(order.items[item].rows for item in group)
    return order.entries(union(order, group)) * rows


def _fold(
    order: EliminationOrder, group: list[int], elsewhere: frozenset[int], until: int
) -> EliminationOrder:
    """Joins a group, the smallest first; of the last group, the last two finish the order."""
    waiting = list(group)

    def size(number: int) -> tuple[float, int]:
        item = order.items[number]
        return item.rows * order.entries(item.scope), number

    while len(waiting) > until or (until == 1 and not order.items[waiting[0]].scope <= elsewhere):
        waiting.sort(key=size)
        first = waiting.pop(0)
        second = waiting.pop(0) if waiting else order.nothing
        waiting.append(order.join(first, second, elsewhere | union(order, waiting)))
    if until == 2:
        order.finish(waiting[0], waiting[1] if len(waiting) > 1 else order.nothing)
    return order


# -- sweeping along a line ----------------------------------------------------------------------


def by_sweeping(order: EliminationOrder) -> EliminationOrder:
    """Join cliques one by one from both ends of a line, to where the two meet at least cost."""
    there = _line(order, 0)
    line = _line(order, there[-1])
    forth, back = _swept(order, line), _swept(order, line[::-1])
    ways = []
    for split in range(1, len(line)):
        one, other = forth[split - 1], back[len(line) - split - 1]
        ways.append((_meeting(order, one, other), split))
    if not ways:
        order.finish(line[0], order.nothing)
        return order
    _, split = min(ways)
    order.finish(_walk(order, line, split), _walk(order, line[::-1], len(line) - split))
    return order


def _line(order: EliminationOrder, start: int) -> list[int]:
    """Cliques in an order in which few variables are under way at a time."""
    left = dict.fromkeys(range(order.cliques))
    uses: dict[int, int] = {}
    for number in left:
        for place in order.items[number].scope:
            uses[place] = uses.get(place, 0) + 1
    line: list[int] = []
    under_way = frozenset[int]()
    following = start
    while True:
        line.append(following)
        del left[following]
        scope = order.items[following].scope
        for place in scope:
            uses[place] -= 1
        under_way = frozenset(place for place in under_way | scope if uses[place])
        if not left:
            return line
        near = [n for n in left if order.items[n].scope & under_way] or [next(iter(left))]
        following = min(near, key=lambda n: (*_front(order, under_way, n, uses), n))


def _front(
    order: EliminationOrder, under_way: frozenset[int], number: int, uses: dict[int, int]
) -> tuple[float, float]:
    scope = order.items[number].scope
    everything = under_way | scope
    staying = frozenset(p for p in everything if uses[p] - (p in scope))
    return order.entries(staying), order.entries(everything)


def _swept(order: EliminationOrder, line: Sequence[int]) -> list[tuple[CliqueSize, float]]:
    """What joining the first so many of a line makes, and how much work it is."""
    later = _later(order, line)
    item, work = order.items[line[0]], 0.0
    result = [(item, work)]
    for number, needed in zip(line[1:], later[1:], strict=True):
        item, more = order.joined(item, order.items[number], needed)
        work += more
        result.append((item, work))
    return result


def _later(order: EliminationOrder, line: Sequence[int]) -> list[frozenset[int]]:
    """For each clique of a line, the variables of those that follow."""
    later = [frozenset[int]()]
    for number in reversed(line[1:]):
        later.append(later[-1] | order.items[number].scope)
    return later[::-1]


def _meeting(
    order: EliminationOrder, one: tuple[CliqueSize, float], other: tuple[CliqueSize, float]
) -> float:
    trial = EliminationOrder(order.sizes, [one[0], other[0]], order.rooms)
    trial.finish(0, 1)
    return one[1] + other[1] + trial.work


def _walk(order: EliminationOrder, line: Sequence[int], length: int) -> int:
    """Add the joins of the first so many of a line; give the number of what they make."""
    later = _later(order, line)
    number = line[0]
    for following, needed in zip(line[1:length], later[1:length], strict=True):
        number = order.join(number, following, needed)
    return number
