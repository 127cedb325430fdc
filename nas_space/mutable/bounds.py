"""What values an expression can take."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from typing import Any

from ..errors import DomainError
from .columns import all_combinations, python_values
from .factors import combinations_of
from .intervals import EVERYTHING, Interval, hull
from .node import Node, key_of, leaves, postorder
from .operators import BRANCHES, LOOKUP

__all__ = ["bounds", "distinct_values", "enclosure"]

_ENUMERATED = 2**16
"""Up to how many combinations of labels are enumerated."""


def distinct_values(expressions: Iterable[Any], limit: int = 1024) -> list[tuple[Any, ...]]:
    """Return the distinct combinations of values that some expressions take together.

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
    >>> kernel = Categorical([3, 5], label="kernel")
    >>> distinct_values([kernel, kernel // 2])
    [(3, 1), (5, 2)]
    """
    items = list(expressions)
    symbols = leaves(*items)
    names = [symbol.name for symbol in symbols]
    total = combinations_of(symbols)
    most = max(_ENUMERATED, limit)
    if total is not None and total > most:
        raise DomainError(
            f"{items} depend on {total} combinations of the labels {names}, too many to go through "
            f"(the limit is {most})"
        )
    columns = all_combinations(symbols)
    found: dict[Hashable, tuple[Any, ...]] = {}
    for row in zip(*[python_values(columns.get(item)) for item in items], strict=True):
        found.setdefault(key_of(row), row)
    if len(found) > limit:
        raise DomainError(
            f"{items} take {len(found)} different combinations of values over the labels {names}; "
            f"the limit is {limit}"
        )
    return list(found.values())


def bounds(expression: Any) -> Interval:
    """Return the lowest and the highest value of an expression.

    Exact where the labels it depends on have few combinations; else a sound interval that
    may be wider than needed.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> a = Categorical([1, 2, 3], label="a")
    >>> bounds(a * (4 - a))
    (3, 4)
    """
    if not isinstance(expression, Node):
        return (expression, expression)
    return expression.remember("_bounds", _find_bounds)


def _find_bounds(root: Node) -> Interval:
    symbols = leaves(root)
    total = combinations_of(symbols)
    if total is not None and total <= _ENUMERATED:
        try:
            values = [v for v in python_values(all_combinations(symbols).get(root)) if not _nan(v)]
            return (min(values), max(values))
        except (ArithmeticError, ValueError, TypeError, LookupError):
            pass  # some combination has no value; those that do are within the interval
    return _enclosure(root)


def enclosure(expression: Any) -> Interval:
    """Return an interval that holds every value, without trying any: wider than :func:`bounds`."""
    if not isinstance(expression, Node):
        return (expression, expression)
    return expression.remember("_enclosure", _enclosure)


def _enclosure(root: Node) -> Interval:
    known: dict[Node, Interval] = {}
    for node in postorder(root):
        known[node] = _interval(node, known)
    return known[root]


def _interval(node: Node, known: dict[Node, Interval]) -> Interval:
    def of(argument: Any) -> Interval:
        if isinstance(argument, Node):
            return known[argument]
        return (argument, argument) if isinstance(argument, (int, float)) else EVERYTHING

    operator = node.operator
    if operator is None:
        interval: Interval = node.interval()  # type: ignore[attr-defined]  # a symbol
        return interval
    if operator is LOOKUP:
        found: Interval = node.arguments[0].interval()
        return found
    if operator.lazy:
        return hull([of(argument) for argument in node.arguments[BRANCHES[operator]]])
    if operator.bounds is None:
        return EVERYTHING
    result = operator.bounds(*[of(argument) for argument in node.arguments])
    return EVERYTHING if any(_nan(end) for end in result) else result


def _nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
