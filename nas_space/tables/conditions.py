"""Conditions taken apart: into combinations that are allowed, and windows on costs."""

from __future__ import annotations

import math
import operator as py
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..errors import DecompositionError
from ..mutable.expression import apply
from ..mutable.factors import LIMIT, TRUE, Factor, TooLargeError, combinations_of
from ..mutable.node import Node, leaves
from ..mutable.operators import LOOKUP
from ..mutable.piecewise import Piecewise
from ..mutable.printing import brief
from .path_conditions import PathConditions
from .table import Table
from .tabulation import split, table_of_terms, tabulate

__all__ = ["COMPARISONS", "Conditions", "Window", "against_number"]

_FEW = 2**12
"""Conditions with this many combinations or fewer are enumerated, even if they bound a cost."""

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "lt": py.lt,
    "le": py.le,
    "eq": py.eq,
    "ge": py.ge,
    "gt": py.gt,
}
_TURNED = {"lt": "gt", "le": "ge", "eq": "eq", "ge": "le", "gt": "lt"}
_OF_EACH = frozenset({("max", "lt"), ("max", "le"), ("min", "gt"), ("min", "ge")})
_TRUTH = frozenset({*COMPARISONS, "ne"})
_MONOTONE = frozenset({"add", "sub", "mul", "truediv", "floordiv", "neg", "pos", "float"})
_DIVISIONS = frozenset({"truediv", "floordiv"})
_ROUNDING = frozenset({"int", "round", "floor", "ceil", "trunc"})


class Window(NamedTuple):
    """Between which values a cost must be, both included.

    Attributes
    ----------
    table
        The cost: whole numbers.
    low, high
        Its bounds.
    conditions
        What says so.
    """

    table: Table
    low: int
    high: int
    conditions: tuple[Node, ...]

    @property
    def text(self) -> str:
        """The conditions in words."""
        return " and ".join(map(brief, self.conditions))


class Conditions:
    """Conditions that hold together, taken apart.

    Attributes
    ----------
    factors
        Which combinations of codes are allowed.
    windows
        Bounds on costs; one for each cost.
    """

    def __init__(self) -> None:
        self.factors: list[Factor] = []
        self.windows: dict[int, Window] = {}

    def add(self, condition: Any, guard: Factor = TRUE) -> None:
        """Add a condition, which must hold where the guard does.

        Raises
        ------
        DecompositionError
            If it depends on many labels and does not bound a cost.
        """
        if guard.never:
            return
        if not isinstance(condition, Node):
            if not condition:
                self.factors.append(~guard)
            return
        operator = condition.operator
        name = "" if operator is None else operator.name
        total = combinations_of(leaves(condition))
        try:
            if total is not None and total <= _FEW:
                self.factors.append(Piecewise.of(condition).truth() | ~guard)
            elif parts := _parts(condition):
                for part in parts:
                    self.add(part, guard)
            elif operator is not None and operator.lazy and operator is not LOOKUP:
                guards = PathConditions.of(condition)
                self.factors.append(~(guard & guards.lost))
                for taken, part in guards.taken:
                    self.add(part, guard & taken)
            elif not (name in COMPARISONS and self._bound(condition, guard)):
                self.factors.append(Piecewise.of(condition).truth() | ~guard)
        except TooLargeError as error:
            raise DecompositionError(
                f"the condition {brief(condition)} depends on {len(error.scope)} labels at once, "
                f"with what decides where it holds; their combinations exceed {LIMIT}",
                term=condition,
            ) from None

    def _bound(self, condition: Node, guard: Factor) -> bool:
        """Take a comparison as a window on a cost, if it is one."""
        name, cost, bound = against_number(condition)
        if not isinstance(bound, (int, float)):
            return False
        try:
            inner, window = _window(cost, name, bound)
        except DecompositionError:
            total = combinations_of(leaves(condition))
            if total is not None and total <= LIMIT:
                return False
            raise
        if window is None and not guard.always:
            self.factors.append(~guard)
            return True
        if window is None:  # as a window, it says later how far off it is
            low, high = tabulate(inner).interval()
            window = high + 1, low - 1
        self._narrow(_guarded(inner, guard, window[0]), *window, (condition,))
        return True

    def _narrow(self, table: Table, low: int, high: int, conditions: tuple[Node, ...]) -> None:
        known = self.windows.get(id(table))
        if known is not None:
            low, high = max(low, known.low), min(high, known.high)
            conditions = (*known.conditions, *conditions)
        self.windows[id(table)] = Window(table, low, high, conditions)


def against_number(comparison: Node) -> tuple[str, Node, Any]:
    """Return a comparison as its name, a cost, and what that is compared with, no expression."""
    name, cost, bound = _sides(comparison)
    return (name, apply("sub", cost, bound), 0) if isinstance(bound, Node) else (name, cost, bound)


def _sides(comparison: Node) -> tuple[str, Any, Any]:
    """A comparison as its name, what is compared, and with what: with a number if there is one."""
    assert comparison.operator is not None
    name, (cost, bound) = comparison.operator.name, comparison.arguments
    return (name, cost, bound) if isinstance(cost, Node) else (_TURNED[name], bound, cost)


def _parts(condition: Node) -> tuple[Any, ...]:
    """The conditions that hold together where one holds, if it is several at once.

    A bound on a maximum from above, or on a minimum from below, is one on each part of it.
    """
    name = "" if condition.operator is None else condition.operator.name
    if name == "and" and all(map(_is_truth, condition.arguments)):
        return condition.arguments
    if name not in COMPARISONS:
        return ()
    name, cost, bound = _sides(condition)
    if cost.operator is None or (cost.operator.name, name) not in _OF_EACH:
        return ()
    return tuple(COMPARISONS[name](part, bound) for part in cost.arguments)


def _is_truth(part: Any) -> bool:
    """Whether something is always a truth value, so that ``&`` means *and*."""
    if not isinstance(part, Node):
        return isinstance(part, bool)
    if part.operator is None:
        return False
    if part.operator.name in {"and", "or", "xor"}:
        return all(map(_is_truth, part.arguments))
    return part.operator.name in _TRUTH


def _guarded(cost: Node, guard: Factor, harmless: int) -> Table:
    """The cost where a guard holds, and elsewhere a value that is allowed."""
    if guard.always:
        return tabulate(cost)
    inside = Factor(guard.scope, guard.values.astype(np.int64))
    outside = Factor(guard.scope, (~guard.values).astype(np.int64) * harmless)
    return table_of_terms(cost, [*split(cost, inside), outside])


def _window(cost: Node, name: str, bound: float) -> tuple[Node, tuple[int, int] | None]:
    """The whole-numbered cost that a comparison is about, and which of its values meet it.

    Divisions by constants, roundings and the like are undone by looking for the last value that
    meets the comparison, so that the outcome is the same as without tables.
    """
    nested = [cost]
    while (following := _inside(nested[-1])) is not None:
        nested.append(following)
    inner = _countable(nested)
    steps = nested[: [node is inner for node in nested].index(True)]

    def value(number: int) -> Any:
        result: Any = number
        for step in reversed(steps):
            assert step.operator is not None
            result = step.operator.scalar(
                *[result if isinstance(part, Node) else part for part in step.arguments]
            )
        return result

    low, high = tabulate(inner).interval()
    halves = ["le", "ge"] if name == "eq" else [name]
    for half in halves:
        compare = COMPARISONS[half]
        found = _where(lambda number, c=compare: c(value(number), bound), low, high)  # type: ignore[misc]
        if found is None:
            return inner, None
        low, high = found
    return inner, (low, high)


def _countable(nested: list[Node]) -> Node:
    """The innermost of several functions of each other that is a sum of whole numbers.

    Conditions on different functions of one cost so become conditions on that cost.
    """
    reason, advice = "it is not a whole number for some architectures", "round it to whole units"
    for node in reversed(nested):
        try:
            if tabulate(node).whole:
                return node
        except DecompositionError as error:
            reason = str(error)
            advice = "give attempts=1000, to draw up to so many times until one meets it"
    raise DecompositionError(
        f"{brief(nested[0])} cannot be counted with: {reason}; {advice}",
        term=nested[-1],
    )


def _inside(node: Node) -> Node | None:
    """What a node is a monotone function of, if it is one of a single thing."""
    if node.operator is None or len(node.children) != 1:
        return None
    name, parts = node.operator.name, node.arguments
    if name in _ROUNDING:
        return node.children[0]
    if name not in _MONOTONE or (name in _DIVISIONS and not isinstance(parts[0], Node)):
        return None
    if not all(isinstance(part, (Node, int, float)) for part in parts):
        return None
    if not all(isinstance(part, Node) or math.isfinite(part) for part in parts):
        return None
    return node.children[0]


def _where(holds: Callable[[int], bool], low: int, high: int) -> tuple[int, int] | None:
    """The part of an interval in which a monotone predicate holds."""
    first, last = holds(low), holds(high)
    if first and last:
        return low, high
    if not first and not last:
        return None
    inside, outside = (low, high) if first else (high, low)
    while abs(outside - inside) > 1:
        middle = (inside + outside) // 2
        if holds(middle):
            inside = middle
        else:
            outside = middle
    return (low, inside) if first else (inside, high)
