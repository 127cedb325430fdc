"""``rounded``: a cost in a coarser unit, of which fewer sums are to be told apart."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from ..errors import UsageError
from ..mutable import MutableExpression
from ..mutable.node import Node
from ..mutable.operators import CONDITION, LOOKUP
from ..mutable.printing import brief

__all__ = ["rounded"]


def rounded(cost: Any, unit: float) -> Any:
    """Return a sum in a coarser unit: each of its terms rounded to whole numbers of it.

    Questions that would have to tell too many sums apart for exact answers can be asked of a
    rounded cost instead, and are answered exactly for that.  It differs from the cost by half
    a unit for each term, at most.

    Parameters
    ----------
    cost
        An expression that is a sum, or a plain number.
    unit
        In the cost's own: 1e6 counts multiply-adds in millions.

    Returns
    -------
    MutableExpression[int]
        In that unit; a plain ``int`` for a plain number.

    Raises
    ------
    UsageError
        If the unit is no positive number.

    Examples
    --------
    >>> from nas_space.mutable import Categorical, MutableList
    >>> from nas_space.tables import restrict
    >>> digits = [Categorical(range(10), label=f"d{i}") for i in range(12)]
    >>> cost = MutableExpression.sum(digit * 10**i for i, digit in enumerate(digits))
    >>> coarse = rounded(cost, 10**8)
    >>> restrict(MutableList(digits), coarse >= 2000, coarse <= 2003).count()
    400000000
    """
    given: Any = unit
    if not isinstance(given, (int, float)) or not 0 < given < math.inf:
        raise UsageError(f"a unit must be a positive number, but got {unit!r}")
    if not isinstance(cost, Node):
        return math.floor(cost / unit + 0.5)
    terms: list[Any] = []
    waiting: list[tuple[Any, Any]] = [(1, cost)]
    while waiting:
        factor, node = waiting.pop()
        operator = node.operator if isinstance(node, Node) else None
        name = operator.name if operator else ""
        arguments = node.arguments if isinstance(node, Node) else ()
        if name in ("sum", "add", "pos"):
            waiting += [(factor, argument) for argument in arguments]
        elif name in ("sub", "neg"):
            waiting += [(factor, argument) for argument in arguments[:-1]]
            waiting.append((-factor, arguments[-1]))
        elif name == "mul" and not all(isinstance(argument, Node) for argument in arguments):
            number, inner = sorted(arguments, key=lambda argument: isinstance(argument, Node))
            waiting.append((factor * number, inner))
        elif operator is CONDITION and all(map(_is_looked_up, arguments[1:])):
            predicate, *ways = arguments
            ways = [rounded(factor * way, unit) for way in ways]
            terms.append(MutableExpression.condition(predicate, *ways))
        elif operator is LOOKUP:
            rounded_to = partial(_rounded, factor, unit)
            terms.append(MutableExpression.lookup(arguments[0].mapped(rounded_to)))
        else:
            share = factor * node / unit + 0.5
            floor: Any = share // 1
            terms.append(floor.int() if isinstance(floor, MutableExpression) else int(floor))
    return MutableExpression.sum(terms).titled(f"rounded({brief(cost)}, {unit})")


def _is_looked_up(way: Any) -> bool:
    """Whether a way of a condition is a sum of factors, or none, or a condition between such."""
    if not isinstance(way, Node):
        return bool(way == 0)
    if way.operator is CONDITION:
        return all(map(_is_looked_up, way.arguments[1:]))
    return way.operator is LOOKUP


def _rounded(factor: float, unit: float, entry: float) -> int:
    return math.floor(factor * entry / unit + 0.5)
