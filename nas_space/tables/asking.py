"""A question about the architectures of a space, answered by going through the best, or all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from ..errors import DecompositionError
from ..mutable import Mutable, Sample, SampleBatch
from ..mutable.node import Node
from .arithmetic import Real
from .conditions import Window
from .coverage import check_covered
from .drawing import classes_of
from .lists import Lists
from .model import Model, Whole, root_of
from .problem import Problem
from .scale import Scale, finest, tree_for
from .selection import Keep, Selection, TooMany, best_of, layers, undominated
from .tabulation import tabulate
from .tree import Join

_ROWS, _WORK = 2**21, 2e9
"""How many rows, and nanoseconds of work, telling costs apart may take before it gets coarser."""

_FINER = 8
"""By how much both may be exceeded where coarser units let too much through."""

_MOST_LAYERS = 64
"""Up to how many of the best are looked for by dominance."""

_AT_ONCE = 64
"""Architectures that are decoded together."""

Classes = dict[int, int]
"""The class of each variable, by its place."""


class Question:
    """Objectives over the architectures of a space.

    Parameters
    ----------
    space
        A space, restricted or not.
    objectives
        Expressions over its labels, or tables.
    signs
        1 for each that is to be low, -1 for each that is to be high.

    Raises
    ------
    DecompositionError
        If an objective is not a sum of small tables.
    """

    def __init__(self, space: Mutable, objectives: Sequence[Any], signs: Sequence[int]) -> None:
        root = root_of(space)
        self.space, self.model = Whole(root), Model.of(root)
        self.tables = [tabulate(objective) for objective in objectives]
        self.signs = list(signs)
        for table in self.tables:
            if isinstance(table.expression, Node):
                check_covered(root, table.expression)
        self.windows = self.model.windows
        self.problem = Problem(self.model.draft(self.tables))
        self.tree = tree_for(self.problem, self.windows)

    @property
    def possible(self) -> bool:
        """Whether any architecture meets the conditions on few labels."""
        return self.tree.possible

    # -- the best -----------------------------------------------------------------------------

    def least(self, k: int) -> list[tuple[list[Any], Sample]]:
        """The ``k`` architectures with the lowest objective: a list of its value, and each."""
        if not self.possible:
            return []
        for number, window in enumerate(self.windows):
            for end in (1, -1):
                found = self._least_within(k, number, window, end)
                if found is not None:
                    return found
        limit, wanted = 1, k
        while True:
            scale = finest(
                self.tree, self.windows, most_rows=limit * _ROWS, most_work=limit * _WORK
            )
            selection = self._select(scale, best_of(wanted))
            order = np.argsort(selection.ends.costs[0], kind="stable")[:wanted]
            found = list(islice(self._allowed(selection, order.tolist()), k))
            if len(found) == k or len(order) < wanted:
                return found
            if wanted >= 4**6 * k:
                raise DecompositionError(
                    f"only {len(found)} of the {len(order)} best architectures meet the "
                    "constraints that cannot be taken apart, or whose costs are too varied"
                )
            wanted, limit = wanted * 4, min(limit * 2, _FINER)

    def _least_within(
        self, k: int, number: int, window: Window, end: int
    ) -> list[tuple[list[Any], Sample]] | None:
        """The same by dominance in the objective and one cost, if only one end of a window counts.

        Of two rows, the one that is worse in both never leads to anything better, so lists stay
        short however varied the cost is.  ``None`` where another end of a window, or another
        constraint, turns out to count as well, or where the lists do not stay short.
        """
        if self.tables[0] is window.table or k > _MOST_LAYERS:
            return None  # of what is the same cost, no row is worse in both
        costs = [len(self.model.windows), number]
        try:
            selection = Selection(
                Scale(self.tree, (), ()), costs, [*self.signs, end], layers(k), most=_ROWS
            )
        except TooMany:
            return None
        value = end * selection.ends.costs[1] + window.table.constant
        within = np.flatnonzero(value <= window.high if end == 1 else value >= window.low)
        order = within[np.argsort(selection.ends.costs[0][within], kind="stable")][:k]
        found = list(islice(self._allowed(selection, order.tolist()), k))
        return found if len(found) == k or len(order) < k else None

    def _select(self, scale: Scale, keep: Keep) -> Selection:
        first = len(self.model.windows)
        costs = list(range(first, first + len(self.tables)))
        return Selection(scale, costs, self.signs, keep)

    def _allowed(
        self, selection: Selection, rows: Iterable[int]
    ) -> Iterator[tuple[list[Any], Sample]]:
        """The architectures that rows of the root stand for, and their values."""
        for row in rows:
            costs = selection.ends.costs[: len(self.tables), row].tolist()
            values = [
                sign * cost + table.constant
                for sign, cost, table in zip(self.signs, costs, self.tables, strict=True)
            ]
            for arch in self._architectures([selection.classes(row)]):
                yield values, arch

    # -- trade-offs ---------------------------------------------------------------------------

    def front(self) -> list[tuple[list[Any], Sample]]:
        """The trade-offs between two objectives: their values, and an architecture for each."""
        for error in self.model.others.values():
            raise error
        if not self.possible:
            return []
        # A bound on what is minimised anyway does not change the front, it only cuts it off.
        kept = [n for n, window in enumerate(self.windows) if not self._cuts(window)]
        windows = [self.windows[number] for number in kept]
        tree = tree_for(self.problem, windows, kept)
        scale = finest(tree, windows, kept, most_rows=math.inf, most_work=math.inf)
        estimate = scale.estimate()
        if not scale.exact or max(estimate.total / _ROWS, estimate.work / _WORK) > _FINER:
            texts = " and ".join(window.text for window in windows)
            raise DecompositionError(
                f"the front would have to tell up to {estimate.total:.1e} costs apart for {texts}, "
                f"at most {_FINER * _ROWS:.1e} can be; round these costs to a coarser unit"
            )
        selection = self._select(scale, undominated)
        costs = selection.ends.costs
        rows = undominated(np.zeros(costs.shape[1], np.int64), costs).tolist()
        # What a window cuts off has no architecture that is allowed.
        return [found for row in rows for found in islice(self._allowed(selection, [row]), 1)]

    def _cuts(self, window: Window) -> bool:
        """Whether a window bounds what is minimised from above, or what is maximised from below."""
        low, high = window.table.interval()
        return any(
            table is window.table and (window.low <= low if sign == 1 else window.high >= high)
            for table, sign in zip(self.tables, self.signs, strict=True)
        )

    # -- all ----------------------------------------------------------------------------------

    def everything(self) -> Iterator[Sample]:
        """Every architecture, once."""
        if not self.possible:
            return
        scale = finest(self.tree, self.windows, most_rows=_ROWS, most_work=_WORK)
        yield from self._architectures(self._combinations(Lists(scale, Real(), keep=True)))

    def _combinations(self, lists: Lists) -> Iterator[Classes]:
        """Every combination of classes that ends within the windows."""
        endings = lists.endings(lists.scale.low, lists.scale.high)
        first: Iterator[_Partial] = (
            ([(endings.one, row), (endings.other, other)], {})
            for row, begin, end in zip(
                endings.row.tolist(), endings.begin.tolist(), endings.end.tolist(), strict=True
            )
            for other in range(begin, end)
        )
        trail = [first]
        while trail:
            following = next(trail[-1], None)
            if following is None:
                trail.pop()
                continue
            waiting, classes = following
            place = -1
            while waiting:
                place, row = waiting.pop()
                if isinstance(self.tree.vertices[place], Join):
                    trail.append(_origins(lists, place, row, waiting, classes))
                    break
                found = classes_of(lists.tree, place, lists.rows[place].starts, np.array([row]))
                classes.update((variable, int(digit[0])) for variable, digit in found.items())
            else:
                yield classes

    # -- from classes to architectures --------------------------------------------------------

    def _architectures(self, combinations: Iterable[Classes]) -> Iterator[Sample]:
        """The architectures that combinations of classes stand for, as far as they are allowed."""
        codes = (codes for classes in combinations for codes in self._members(classes))
        while some := list(islice(codes, _AT_ONCE)):
            columns = {label: np.array([row[label] for row in some]) for label in some[0]}
            batch = SampleBatch(self.model.root, columns, len(some))
            allowed = np.ones(len(some), np.bool_)
            for window in self.model.windows:
                cost = window.table.evaluate(batch)
                allowed &= (window.low <= cost) & (cost <= window.high)
            for arch in batch[np.flatnonzero(allowed)]:
                if not self.model.others or self.space.contains(arch):
                    yield arch

    def _members(self, classes: Classes) -> Iterator[dict[Any, Any]]:
        """The codes of each architecture of a combination; a continuous label has its default."""
        problem = self.problem
        first = [problem.first[place][classes.get(place, 0)] for place in range(len(problem.sizes))]
        options: list[tuple[Any, int, Callable[[int], Any]]] = []
        for label in self.model.labels:
            place = problem.place.get(label)
            if place is not None:
                members = np.flatnonzero(problem.classes[place] == classes.get(place, 0)).tolist()
                options.append((label, len(members), members.__getitem__))
                continue
            reach = self.model.activity.reach[label]
            codes = tuple(first[problem.place[variable]] for variable in reach.scope)
            several = bool(reach.values[codes]) and label.size is not None
            options.append((label, label.size if several else 1, default_first(label)))
        for number in range(math.prod(size for _, size, _ in options)):
            row, rest = {}, number
            for label, size, option in reversed(options):
                rest, digit = divmod(rest, size)
                row[label] = option(digit)
            yield row


_Partial = tuple[list[tuple[int, int]], Classes]
"""Rows that are still to be taken apart, and the classes known so far."""


def _origins(
    lists: Lists, place: int, row: int, waiting: list[tuple[int, int]], classes: Classes
) -> Iterator[_Partial]:
    join = lists.tree.vertices[place]
    assert isinstance(join, Join)
    found = lists.candidates(place, np.array([row]))
    for left, right in zip(found.left.tolist(), found.right.tolist(), strict=True):
        yield [*waiting, (join.left, left), (join.right, right)], dict(classes)


def default_code(label: Any) -> Any:
    """The code of a label's default; of a continuous one, the value."""
    value = label.default_choice()
    return value if label.size is None else label.code(value)


def default_first(label: Any) -> Callable[[int], Any]:
    """The codes of a label, the default first, then the others in order."""
    first = default_code(label)

    def option(number: int) -> Any:
        if number == 0:
            return first
        return number - 1 if number <= first else number

    return option
