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
    "planned",
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
        """How many states there are."""
        return math.prod(float(self.sizes[place]) for place in scope)

    def joined(
        self, left: CliqueSize, right: CliqueSize, needed: frozenset[int]
    ) -> tuple[CliqueSize, float]:
        """What a join makes, and the work it is."""
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


def planned(
    sizes: Sequence[int], items: Sequence[CliqueSize], rooms: Sequence[int]
) -> EliminationOrder:
    """The plan that is likely to be less work."""
    plans = [
        by_elimination(EliminationOrder(sizes, items, rooms)),
        by_sweeping(EliminationOrder(sizes, items, rooms)),
    ]
    return min(plans, key=lambda plan: plan.work)


def union(plan: EliminationOrder, numbers: Sequence[int]) -> frozenset[int]:
    """The variables of several relations."""
    return frozenset[int]().union(*(plan.items[number].scope for number in numbers))


# -- eliminating the cheapest variable ------------------------------------------------------------


def by_elimination(plan: EliminationOrder) -> EliminationOrder:
    """Eliminates the variable next whose cliques are the least work to join."""
    items = list(range(plan.cliques))
    while variables := union(plan, items):
        variable = min(variables, key=lambda place: (_effort(plan, items, place), place))
        group = [item for item in items if variable in plan.items[item].scope]
        items = [item for item in items if variable not in plan.items[item].scope]
        if not items:
            return _fold(plan, group, frozenset(), 2)
        _fold(plan, group, union(plan, items), 1)
        items.append(len(plan.items) - 1)
    return _fold(plan, items, frozenset(), 2)


def _effort(plan: EliminationOrder, items: Sequence[int], variable: int) -> float:
    group = [item for item in items if variable in plan.items[item].scope]
    rows = math.prod(plan.items[item].rows for item in group)
    return plan.entries(union(plan, group)) * rows


def _fold(
    plan: EliminationOrder, group: list[int], elsewhere: frozenset[int], until: int
) -> EliminationOrder:
    """Joins a group, the smallest first; of the last group, the last two finish the plan."""
    waiting = list(group)

    def size(number: int) -> tuple[float, int]:
        item = plan.items[number]
        return item.rows * plan.entries(item.scope), number

    while len(waiting) > until or (until == 1 and not plan.items[waiting[0]].scope <= elsewhere):
        waiting.sort(key=size)
        first = waiting.pop(0)
        second = waiting.pop(0) if waiting else plan.nothing
        waiting.append(plan.join(first, second, elsewhere | union(plan, waiting)))
    if until == 2:
        plan.finish(waiting[0], waiting[1] if len(waiting) > 1 else plan.nothing)
    return plan


# -- sweeping along a line ----------------------------------------------------------------------


def by_sweeping(plan: EliminationOrder) -> EliminationOrder:
    """Joins cliques one by one from both ends of a line, to where the two meet at least cost."""
    there = _line(plan, 0)
    line = _line(plan, there[-1])
    forth, back = _swept(plan, line), _swept(plan, line[::-1])
    ways = []
    for split in range(1, len(line)):
        one, other = forth[split - 1], back[len(line) - split - 1]
        ways.append((_meeting(plan, one, other), split))
    if not ways:
        plan.finish(line[0], plan.nothing)
        return plan
    _, split = min(ways)
    plan.finish(_walk(plan, line, split), _walk(plan, line[::-1], len(line) - split))
    return plan


def _line(plan: EliminationOrder, start: int) -> list[int]:
    """Cliques in an order in which few variables are under way at a time."""
    left = dict.fromkeys(range(plan.cliques))
    uses: dict[int, int] = {}
    for number in left:
        for place in plan.items[number].scope:
            uses[place] = uses.get(place, 0) + 1
    line: list[int] = []
    under_way = frozenset[int]()
    following = start
    while True:
        line.append(following)
        del left[following]
        scope = plan.items[following].scope
        for place in scope:
            uses[place] -= 1
        under_way = frozenset(place for place in under_way | scope if uses[place])
        if not left:
            return line
        near = [n for n in left if plan.items[n].scope & under_way] or [next(iter(left))]
        following = min(near, key=lambda n: (*_front(plan, under_way, n, uses), n))


def _front(
    plan: EliminationOrder, under_way: frozenset[int], number: int, uses: dict[int, int]
) -> tuple[float, float]:
    scope = plan.items[number].scope
    everything = under_way | scope
    staying = frozenset(p for p in everything if uses[p] - (p in scope))
    return plan.entries(staying), plan.entries(everything)


def _swept(plan: EliminationOrder, line: Sequence[int]) -> list[tuple[CliqueSize, float]]:
    """What joining the first so many of a line makes, and how much work it is."""
    later = _later(plan, line)
    item, work = plan.items[line[0]], 0.0
    result = [(item, work)]
    for number, needed in zip(line[1:], later[1:], strict=True):
        item, more = plan.joined(item, plan.items[number], needed)
        work += more
        result.append((item, work))
    return result


def _later(plan: EliminationOrder, line: Sequence[int]) -> list[frozenset[int]]:
    """For each clique of a line, the variables of those that follow."""
    later = [frozenset[int]()]
    for number in reversed(line[1:]):
        later.append(later[-1] | plan.items[number].scope)
    return later[::-1]


def _meeting(
    plan: EliminationOrder, one: tuple[CliqueSize, float], other: tuple[CliqueSize, float]
) -> float:
    trial = EliminationOrder(plan.sizes, [one[0], other[0]], plan.rooms)
    trial.finish(0, 1)
    return one[1] + other[1] + trial.work


def _walk(plan: EliminationOrder, line: Sequence[int], length: int) -> int:
    """Add the joins of the first so many of a line; give the number of what they make."""
    later = _later(plan, line)
    number = line[0]
    for following, needed in zip(line[1:length], later[1:length], strict=True):
        number = plan.join(number, following, needed)
    return number
