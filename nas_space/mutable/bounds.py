"""What values an expression can take."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DomainError
from .columns import Columns, python_values
from .node import Node, key_of, postorder
from .operators import EVERYTHING, Interval, hull

_ENUMERATED = 2**16
"""Up to how many combinations of labels are enumerated."""


def leaves(*roots: Any) -> list[Any]:
    """The symbols that some expressions are over, in the order in which they occur."""
    return [node for node in postorder(*(r for r in roots if isinstance(r, Node))) if node.operator is None]


def combinations_of(symbols: Sequence[Any]) -> int | None:
    """How many combinations of values there are; ``None`` if infinitely many."""
    total = 1
    for symbol in symbols:
        if symbol.size is None:
            return None
        total *= symbol.size
    return total


def all_combinations(symbols: Sequence[Any]) -> Columns:
    """Every combination of values of some discrete symbols, one a row, the last fastest."""
    total = combinations_of(symbols)
    assert total is not None
    codes: dict[Any, npt.NDArray[Any]] = {}
    stride = total
    for symbol in symbols:
        stride //= symbol.size
        codes[symbol] = np.arange(total) // stride % symbol.size

    def leaf(symbol: Any, rows: Any) -> npt.NDArray[Any]:
        column: npt.NDArray[Any] = symbol.column(codes[symbol])
        return column if rows is None else column[rows]

    return Columns(leaf, total)


def distinct_values(expressions: Iterable[Any], limit: int = 1024) -> list[tuple[Any, ...]]:
    """The distinct combinations of values that some expressions take together.

    Parameters
    ----------
    expressions
        Expressions and plain values.
    limit
        How many combinations are allowed.

    Raises
    ------
    DomainError
        If there are more than the limit, or too many labels to enumerate.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> kernel = Categorical([3, 5], label='kernel')
    >>> distinct_values([kernel, kernel // 2])
    [(3, 1), (5, 2)]
    """
    items = list(expressions)
    symbols = leaves(*items)
    total = combinations_of(symbols)
    names = [str(symbol.label) for symbol in symbols]
    if total is None:
        raise DomainError(
            f"{items} take infinitely many values: among the labels {names} one is continuous; quantise it"
        )
    if total > max(_ENUMERATED, limit):
        raise DomainError(
            f"{items} depend on {total} combinations of the labels {names}, too many to go through "
            f"(the limit is {max(_ENUMERATED, limit)})"
        )
    columns = all_combinations(symbols)
    lists = [python_values(columns.get(item)) for item in items]
    found = {tuple(map(key_of, row)): row for row in reversed(list(zip(*lists, strict=True)))}
    if len(found) > limit:
        raise DomainError(
            f"{items} take {len(found)} different combinations of values over the labels {names}; "
            f"the limit is {limit}"
        )
    return list(reversed(found.values()))


def bounds(expression: Any) -> Interval:
    """Lowest and highest value of an expression.

    Exact where the labels it depends on have few combinations; else a sound interval that
    may be wider than needed.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> a = Categorical([1, 2, 3], label='a')
    >>> bounds(a * (4 - a))
    (3, 4)
    """
    if not isinstance(expression, Node):
        return (expression, expression)
    symbols = leaves(expression)
    total = combinations_of(symbols)
    if total is not None and total <= _ENUMERATED:
        try:
            values = python_values(all_combinations(symbols).get(expression))
            return (min(values), max(values))
        except (ArithmeticError, ValueError, TypeError, LookupError):
            pass  # some combination has no value; those that do are within the interval
    intervals: dict[Node, Interval] = {}
    for node in postorder(expression):
        intervals[node] = _interval(node, intervals)
    return intervals[expression]


def _interval(node: Any, known: dict[Node, Interval]) -> Interval:
    if node.operator is None:
        if node.size is None:
            return (node.low, node.high)
        values = node.decode(np.arange(node.size)) if node.size <= _ENUMERATED else []
        if not values or not all(isinstance(value, (int, float)) for value in values):
            return EVERYTHING
        return (min(values), max(values))

    def of(argument: Any) -> Interval:
        if isinstance(argument, Node):
            return known[argument]
        return (argument, argument) if isinstance(argument, (int, float)) else EVERYTHING

    name = node.operator.name
    if name == "condition":
        return hull([of(argument) for argument in node.arguments[1:]])
    if name == "switch_case":
        return hull([of(argument) for argument in node.arguments[2:]])
    if name == "case":
        return hull([of(argument) for argument in node.arguments[1::2]])
    if node.operator.bounds is None:
        return EVERYTHING
    result: Interval = node.operator.bounds(*map(of, node.arguments))
    return EVERYTHING if any(isinstance(end, float) and math.isnan(end) for end in result) else result
