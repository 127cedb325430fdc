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
from .coverage import check_covered
from .drawing import classes_of
from .lists import Lists
from .model import Model, Whole, root_of
from .problem import Problem
from .refusal import refusal
from .scale import Scale, finest, tree_for
from .selection import Keep, Selection, best_of, undominated
from .tabulation import tabulate
from .tree import Join

_ROWS, _WORK = 2**21, 2e9
"""How many rows, and nanoseconds of work, telling costs apart may take before it gets coarser."""

_MOST = 2**18
"""How many candidates are looked at before the search for allowed ones ends."""

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
        if not self.tree.possible:
            raise refusal(self.model.root)

    # -- the best -----------------------------------------------------------------------------

    def least(self, k: int) -> list[tuple[list[Any], Sample]]:
        """The ``k`` architectures with the lowest objective: a list of its value, and each."""
        scale = finest(self.tree, self.windows, most_rows=_ROWS / k, most_work=_WORK / k)
        wanted = k
        while True:
            selection = self._select(scale, best_of(wanted))
            order = np.argsort(selection.ends.costs[0], kind="stable")[:wanted]
            found = list(islice(self._allowed(selection, order.tolist()), k))
            if len(found) == k or len(order) < wanted:
                break
            wanted *= 4
            if wanted > max(_MOST, 4 * k):
                raise DecompositionError(
                    f"none of the {len(order)} best architectures meets the constraints that "
                    "cannot be taken apart, or whose costs are too varied"
                )
        if not found:
            raise refusal(self.model.root)
        return found

    def _select(self, scale: Scale, keep: Keep) -> Selection:
        first = len(self.model.windows)
        costs = list(range(first, first + len(self.tables)))
        return Selection(scale, costs, self.signs, keep)

    def _allowed(
        self, selection: Selection, rows: Iterable[int]
    ) -> Iterator[tuple[list[Any], Sample]]:
        """The architectures that rows of the root stand for, and their values."""
        for row in rows:
            costs = selection.ends.costs[:, row].tolist()
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
        # A bound on what is minimised anyway does not change the front, it only cuts it off.
        cuts = [self._cuts(number) for number in range(len(self.windows))]
        self.windows = [w for w, cut in zip(self.windows, cuts, strict=True) if cut is None]
        kept = [number for number, cut in enumerate(cuts) if cut is None]
        tree = tree_for(self.problem, self.windows, kept)
        scale = finest(tree, self.windows, kept, most_rows=math.inf, most_work=math.inf)
        estimate = scale.estimate()
        if not scale.exact or estimate.total > 8 * _ROWS or estimate.work > 8 * _WORK:
            texts = " and ".join(window.text for window in self.windows)
            raise DecompositionError(
                f"the front would have to tell up to {estimate.total:.1e} costs apart for {texts}, "
                f"at most {8 * _ROWS} can be; round these costs to a coarser unit"
            )
        selection = self._select(scale, undominated)
        costs = selection.ends.costs
        rows = undominated(np.zeros(costs.shape[1], np.int64), costs).tolist()
        found = []
        for row in rows:
            values, arch = next(self._allowed(selection, [row]))
            if all(cut is None or cut(values) for cut in cuts):
                found.append((values, arch))
        if not found:
            raise refusal(self.model.root)
        return found

    def _cuts(self, number: int) -> Callable[[list[Any]], bool] | None:
        """Whether a window only cuts off the front; if so, which values are within."""
        window = self.model.windows[number]
        low, high = window.table.interval()
        for place, (table, sign) in enumerate(zip(self.tables, self.signs, strict=True)):
            if table is window.table and sign == 1 and window.low <= low:
                return lambda values: bool(values[place] <= window.high)
            if table is window.table and sign == -1 and window.high >= high:
                return lambda values: bool(values[place] >= window.low)
        return None

    # -- all ----------------------------------------------------------------------------------

    def everything(self) -> Iterator[Sample]:
        """Every architecture, once."""
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
