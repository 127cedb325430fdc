"""What an expression means, written as plainly as possible, for tests to compare with."""

from __future__ import annotations

import math
import operator as py
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

from nas_space.mutable.node import Leaf, Node, key_of

MEANING: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "matmul": lambda a, b: a @ b,
    "truediv": lambda a, b: a / b,
    "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "divmod": divmod,
    "pow": lambda a, b: a**b,
    "powmod": pow,
    "sum": lambda *terms: reduce(py.add, terms, 0),
    "flattened": lambda *sizes: reduce(py.mul, sizes),
    "listed": lambda size, *_: size,
    "neg": lambda a: -a,
    "pos": lambda a: +a,
    "invert": lambda a: -a - 1 if isinstance(a, int) else ~a,
    "abs": abs,
    "lshift": lambda a, b: a << b,
    "rshift": lambda a, b: a >> b,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "ge": lambda a, b: a >= b,
    "gt": lambda a, b: a > b,
    "round": round,
    "round_to": round,
    "floor": math.floor,
    "ceil": math.ceil,
    "trunc": math.trunc,
    "int": int,
    "float": float,
    "max": max,
    "min": min,
    "getitem": lambda a, b: a[b],
    "tuple": lambda *items: items,
}


class NowhereToGoError(ValueError):
    """No branch is for this value; a `ValueError`, as the library's is."""


def meaning(
    node: Any,
    values: Mapping[str, Any],
    touched: dict[str, None] | None = None,
    *,
    compute: bool = True,
) -> Any:
    """The value of a node by recursion over the tree; notes each label in the order of first use.

    Without `compute`, only what decides at branches is computed, and the value is None.
    """
    seen = {} if touched is None else touched

    def of(argument: Any, *, wanted: bool) -> Any:
        return meaning(argument, values, seen, compute=wanted)

    if not isinstance(node, Node):
        return node
    if isinstance(node, Leaf):
        seen.setdefault(node.name)
        return values[node.name]
    name, arguments = getattr(node.operator, "name", ""), node.arguments
    if name == "condition":
        taken = 1 if of(arguments[0], wanted=True) else 2
        return of(arguments[taken], wanted=compute)
    if name == "case":
        for place in range(0, len(arguments), 2):
            if of(arguments[place], wanted=True):
                return of(arguments[place + 1], wanted=compute)
        raise NowhereToGoError
    if name == "switch_case":
        selected = of(arguments[0], wanted=True)
        for place, key in enumerate(arguments[1]):
            if key == selected:
                return of(arguments[2 + place], wanted=compute)
        raise NowhereToGoError
    if name == "lookup":
        return _looked_up(arguments[0], values, seen)
    operands = [of(argument, wanted=compute) for argument in arguments]
    return MEANING[name](*operands) if compute else None


def _looked_up(factors: Any, values: Mapping[str, Any], seen: dict[str, None]) -> Any:
    """The entries at an architecture's codes; notes the symbols that are active."""
    codes = {symbol: symbol.code(values[symbol.name]) for symbol in factors.symbols}

    def entry(factor: Any) -> Any:
        return factor.values[tuple(codes[symbol] for symbol in factor.scope)].item()

    for symbol in factors.symbols:
        if symbol not in factors.activity or entry(factors.activity[symbol]):
            seen.setdefault(symbol.name)
    return reduce(py.add, map(entry, factors.terms), factors.constant)


def outcome(compute: Callable[..., Any], *arguments: Any) -> tuple[str, Any]:
    """What comes of a computation, so that it can be compared: exactly, type and sign of zero."""
    try:
        return "value", key_of(compute(*arguments))
    except (ArithmeticError, ValueError, TypeError, LookupError) as error:
        kinds = (ZeroDivisionError, OverflowError, ValueError, TypeError, LookupError)
        return "error", next(kind for kind in kinds if isinstance(error, kind))


def touches(node: Any, values: Mapping[str, Any], *, compute: bool = False) -> list[str]:
    """The labels that an architecture needs, in the order of first use."""
    touched: dict[str, None] = {}
    meaning(node, values, touched, compute=compute)
    return list(touched)
