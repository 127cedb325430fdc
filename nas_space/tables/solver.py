"""A question about the architectures of a space, answered by going through the best, or all."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice, pairwise
from typing import Any

import numpy as np

from ..errors import DecompositionError
from ..mutable import Mutable, Sample, SampleBatch
from ..mutable.node import Node
from ..mutable.random_words import unit, words
from .arithmetic import Real
from .backward_sampling import BackwardSampler, classes_of
from .conditions import Window
from .coverage import check_covered
from .factor_graph import FactorGraph
from .join_tree import Join, JoinTree
from .k_best import (
    KBest,
    Keep,
    Selected,
    TooManyRows,
    best_of,
    classes_at,
    undominated,
)
from .lagrangian import LagrangianSearch
from .message_passing import Messages
from .model import BareStructure, Model, root_of
from .quantisation import Quantisation, finest, tree_for
from .table import Table
from .tabulation import tabulate

_ROWS, _WORK = 2**21, 2e9
"""How many rows, and nanoseconds of work, telling costs apart may take before it gets coarser."""

_FINER = 8
"""By how much both may be exceeded where coarser units let too much through."""

_FIRST = 2**14
"""At least which part of its range an objective may be above what prices say is possible."""

_MOST_TRIED = 2**12
"""How many combinations of one cost are looked at for some that other windows allow."""

_PARTS = 32
"""How many parts each half of a window has, from the middle outwards."""

_AT_ONCE = 64
"""Architectures that are decoded together."""

Classes = dict[int, int]
"""The class of each variable, by its place."""


class Solver:
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
        self.space, self.model = BareStructure(root), Model.of(root)
        self.tables = [tabulate(objective) for objective in objectives]
        self.signs = list(signs)
        for table in self.tables:
            if isinstance(table.expression, Node):
                check_covered(root, table.expression)
        self.windows = self.model.windows
        self.problem = FactorGraph(self.model.draft(self.tables))
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
            factor = _factor(self.tables[0], window.table)
            found = self._by_count(k, number, factor * self.signs[0]) if factor else None
            if found is not None:
                return found
        found = self._by_prices(k) if self.windows else None
        return self._by_keys(k) if found is None else found

    def _by_count(self, k: int, number: int, sign: float) -> list[tuple[list[Any], Sample]] | None:
        """Those at one end of a window on the same cost; ``None`` if its sums are too many.

        Prices do not tell apart what has the same cost.  But lists of its sums say how many
        there are up to where, so that only as many as are wanted are taken apart.
        """
        window, costs = self.windows[number : number + 1], [number]
        tree = tree_for(self.problem, window, costs)
        scale = finest(tree, window, costs, most_rows=_ROWS, most_work=_WORK)
        if not scale.exact:
            return None
        lists = Messages(scale, Real(), keep=True)
        (low,), (high,) = scale.low, scale.high
        found: list[tuple[list[Any], Sample]] = []
        wanted = k
        while low <= high and len(found) < k:
            if sign > 0:
                keys = range(low, high)
                key = low + bisect_left(keys, wanted, key=lambda key: _weight(lists, low, key))
                inner, low = ([low], [key - 1]), key + 1
            else:
                keys = range(high, low, -1)
                key = high - bisect_left(keys, wanted, key=lambda key: _weight(lists, key, high))
                inner, high = ([key + 1], [high]), key - 1
            # What is on the edge has one value; what is beyond is less than wanted.
            beyond = sorted(self._combinations(lists, *inner), key=self._value)
            few = _weight(lists, key, key) <= _MOST_TRIED
            edge = self._combinations(lists, [key], [key]) if few else _drawn(lists, key)
            found += islice(self._scored(chain(beyond, edge)), k - len(found))
            if len(found) < k and not few:
                return None
            wanted *= 4
        return found

    def _value(self, classes: Classes) -> Any:
        """The objective of a combination, signed, constants left out."""
        number = len(self.model.windows)
        return self.signs[0] * sum(
            clique.costs[number][tuple(classes.get(place, 0) for place in clique.scope)].item()
            for clique in self.problem.cliques
        )

    def _scored(self, combinations: Iterable[Classes]) -> Iterator[tuple[list[Any], Sample]]:
        """The architectures of combinations, as far as they are allowed, and their objective."""
        for classes in combinations:
            value = self.signs[0] * self._value(classes) + self.tables[0].constant
            for arch in self._architectures([classes]):
                yield [value], arch

    def _by_prices(self, k: int) -> list[tuple[list[Any], Sample]] | None:
        """Those whose objective is near what prices say is possible; ``None`` if they are many."""
        priced = LagrangianSearch(
            JoinTree(self.problem), len(self.windows), self.signs[0], self.windows
        )
        ends = self.tables[0].interval()
        least, span = priced.bound, float(ends[1] - ends[0])
        # First the best on its own: the others are not much further off than it is.
        step = span / _FIRST or 1.0
        near, gap, far, wanted = 0.0, step, math.inf, 1
        while True:
            try:
                chosen = priced.within(least + gap, wanted)
            except TooManyRows:
                far = gap
            else:
                objective = chosen[-1].costs[0]
                order = np.argsort(objective, kind="stable")
                order = order[objective[order] <= least + gap][:wanted]
                found = list(islice(self._allowed(priced.tree, chosen, order.tolist()), k))
                if len(found) == k or (gap > span and len(order) < wanted):
                    return found
                if len(order) == wanted:
                    if wanted < k:
                        gap = min(gap, max(step, 1.05 * float(objective[order[0]] - least)))
                        wanted = k
                    elif wanted < _MOST_TRIED:
                        wanted *= 4
                    else:
                        return None
                    continue
                near = gap
            if far < 1.05 * near or not near:
                return None
            gap = min(2 * near, math.sqrt(near * far))

    def _by_keys(self, k: int) -> list[tuple[list[Any], Sample]]:
        found: list[tuple[list[Any], Sample]] = []
        limit, wanted, tried = 1, k, 0
        while wanted <= 4**6 * k:
            scale = finest(
                self.tree, self.windows, most_rows=limit * _ROWS, most_work=limit * _WORK
            )
            try:
                selection = self._select(scale, best_of(wanted), _FINER * _ROWS / 2)
            except TooManyRows:
                break
            order = np.argsort(selection.ends.costs[0], kind="stable")[:wanted]
            found = list(islice(self._allowed(self.tree, selection.found, order.tolist()), k))
            if len(found) == k or len(order) < wanted:
                return found
            tried = len(order)
            wanted, limit = wanted * 4, min(limit * 2, _FINER)
        conditions = [*(window.text for window in self.windows), *map(str, self.model.others)]
        raise DecompositionError(
            f"too many costs would have to be told apart to find the best that have "
            f"{' and '.join(conditions)}: of the {tried} best as far as that was done, "
            f"{len(found)} do; draw samples and compare them, or round the costs to a coarser "
            "unit with nas_space.tables.rounded"
        )

    def _select(self, scale: Quantisation, keep: Keep, most: float = math.inf) -> KBest:
        first = len(self.model.windows)
        costs = list(range(first, first + len(self.tables)))
        return KBest(scale, costs, self.signs, keep, most)

    def _allowed(
        self, tree: JoinTree, found: Sequence[Selected], rows: Iterable[int]
    ) -> Iterator[tuple[list[Any], Sample]]:
        """The architectures that rows of the root stand for, and their values."""
        for row in rows:
            costs = found[-1].costs[: len(self.tables), row].tolist()
            values = [
                sign * cost + table.constant
                for sign, cost, table in zip(self.signs, costs, self.tables, strict=True)
            ]
            for arch in self._architectures([classes_at(tree, found, row)]):
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
                f"at most {_FINER * _ROWS:.1e} can be; round these costs to a coarser unit with "
                "nas_space.tables.rounded"
            )
        selection = self._select(scale, undominated)
        costs = selection.ends.costs
        rows = undominated(np.zeros(costs.shape[1], np.int64), costs).tolist()
        # What a window cuts off has no architecture that is allowed.
        return [
            point
            for row in rows
            for point in islice(self._allowed(tree, selection.found, [row]), 1)
        ]

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
        lists = Messages(scale, Real(), keep=True)
        ranges = [(scale.low, scale.high)]
        if len(scale.low) == 1 and not scale.exact:
            ranges = _from_the_middle(scale.low[0], scale.high[0])
        for bounds in ranges:
            yield from self._architectures(self._combinations(lists, *bounds))

    def _combinations(self, lists: Messages, low: list[int], high: list[int]) -> Iterator[Classes]:
        """Every combination of classes that ends with keys between bounds, both included."""
        endings = lists.endings(low, high)
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
                if isinstance(lists.tree.vertices[place], Join):
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
    lists: Messages, place: int, row: int, waiting: list[tuple[int, int]], classes: Classes
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


def _from_the_middle(low: int, high: int) -> list[tuple[list[int], list[int]]]:
    """A range of keys in parts: in coarse units, what is near its ends is hardly ever allowed."""
    ends = np.unique(np.linspace(low, high + 1, 2 * _PARTS).astype(np.int64)).tolist()
    parts = [([begin], [end - 1]) for begin, end in pairwise(ends)]
    return sorted(parts, key=lambda part: abs(part[0][0] + part[1][0] - low - high))


def _drawn(lists: Messages, key: int) -> Iterator[Classes]:
    """Some combinations with a key, at random: those that follow each other are much alike."""
    drawer = BackwardSampler(lists, [key], [key])
    raw = words(0)(_MOST_TRIED * drawer.words).reshape(_MOST_TRIED, drawer.words)
    drawn = drawer.draw(unit(raw))
    for row in np.unique(np.stack(list(drawn.values()), axis=1), axis=0).tolist():
        yield dict(zip(drawn, row, strict=True))


def _weight(lists: Messages, low: int, high: int) -> int:
    return int(lists.endings([low], [high]).weights.sum())


def _factor(table: Table, other: Table) -> float:
    """What another table is to be multiplied with to be this one, but for a constant; or 0."""
    known = {frozenset(term.scope): term for term in other.terms}
    factor = 0.0
    for term in table.terms:
        same = known.pop(frozenset(term.scope), None)
        if same is None or not np.any(same.values):
            return 0.0
        at = np.unravel_index(np.abs(same.values).argmax(), same.values.shape)
        values = term.values.transpose([term.axes()[variable] for variable in same.scope])
        factor = factor or float(values[at] / same.values[at])
        if not np.array_equal(values, same.values * factor):
            return 0.0
    return 0.0 if known else factor
