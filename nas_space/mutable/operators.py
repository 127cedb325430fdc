"""The one table of operators that expressions are made of.

An operator says in one place how it prints, how it evaluates on Python values, how on
NumPy columns, and what bounds its result has.  Everything else in the symbolic layer
(printing, evaluation of one architecture or of a million, interval bounds) is a walk over
nodes that asks the table.
"""

from __future__ import annotations

import functools
import math
import operator as py
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from . import column_operators as exact
from . import intervals
from .intervals import Interval, corners

__all__ = [
    "ATOM",
    "BRANCHES",
    "CASE",
    "COMPARISON",
    "CONDITION",
    "LOOKUP",
    "OPERATORS",
    "SWITCH",
    "Operator",
    "Texts",
    "selectors",
]

ATOM = 18
"""The precedence of what needs no parentheses anywhere."""

COMPARISON = 6
"""The precedence of comparisons, which must not be chained."""


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """How one kind of node prints, evaluates and bounds its result.

    Attributes
    ----------
    name
        The key in :data:`OPERATORS`; what pickles carry.
    scalar
        The meaning on Python values.
    template
        Format string over the printed arguments; ``''`` for ``name(arg, ...)``; or what
        makes the text from the arguments and how they print.
    precedence
        As in Python's grammar; higher binds tighter.  Decides where parentheses go.
    columns
        The meaning on NumPy arrays, exactly equal to ``scalar`` element by element, or
        ``None`` to apply ``scalar`` to each row.
    bounds
        Interval of the result from intervals of the arguments.
    lazy
        For operators that evaluate a branch only where it is taken.
    """

    name: str
    scalar: Callable[..., Any]
    template: str | Callable[[Sequence[Any], Sequence[str]], str] = ""
    precedence: int = ATOM
    columns: Callable[..., Any] | None = None
    bounds: Callable[..., Interval] | None = None
    lazy: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        return (_lookup, (self.name,))


OPERATORS: dict[str, Operator] = {}


def _lookup(name: str) -> Operator:
    return OPERATORS[name]


def _define(name: str, scalar: Callable[..., Any], *rest: Any, **more: Any) -> Operator:
    OPERATORS[name] = Operator(name, scalar, *rest, **more)
    return OPERATORS[name]


def _bounded(
    name: str, scalar: Any, template: str, precedence: int, form: Any, ufunc: Any, bounds: Any
) -> None:
    """Define an operator whose interval tells whether its columns stay within int64."""
    _define(name, scalar, template, precedence, form(ufunc, bounds), bounds)


# -- how those print that are not written between or before their operands --------------------

Texts = Sequence[str]


def _call(name: str) -> Callable[[Sequence[Any], Texts], str]:
    return lambda _, texts: f"{name}({', '.join(texts)})"


def _tuple_text(_: Sequence[Any], texts: Texts) -> str:
    return f"({texts[0]},)" if len(texts) == 1 else f"({', '.join(texts)})"


def _sum_text(_: Sequence[Any], texts: Texts) -> str:
    return f"sum([{', '.join(texts)}])"


def _case_text(_: Sequence[Any], texts: Texts) -> str:
    pairs = zip(texts[::2], texts[1::2], strict=True)
    return f"case([{', '.join([f'({predicate}, {value})' for predicate, value in pairs])}])"


def _switch_text(arguments: Sequence[Any], texts: Texts) -> str:
    ways = [f"{key!r}: {value}" for key, value in zip(arguments[1], texts[2:], strict=True)]
    return f"switch_case({texts[0]}, {{{', '.join(ways)}}})"


def _listed_text(_: Sequence[Any], texts: Texts) -> str:
    return f"listed({', '.join(texts[:2])})"  # the places are many


def _lookup_text(arguments: Sequence[Any], texts: Texts) -> str:
    del texts
    text: str = arguments[0].text()
    return text


# -- what those compute that Python has no function for ---------------------------------------


def _sum(*terms: Any) -> Any:
    # Not the built-in sum, which adds floats differently from Python 3.12 on.
    return functools.reduce(py.add, terms, 0)


def _product(*factors: Any) -> Any:
    return functools.reduce(py.mul, factors)


def _product_of(times: Callable[..., Any]) -> Callable[..., Any]:
    """Return a product of several factors by one of two; what it does not do, this does not."""

    def product(first: Any, *factors: Any) -> Any:
        for factor in factors:
            first = times(first, factor)
            if first is NotImplemented:
                return first
        return first

    return product


def _first(size: Any, *_: Any) -> Any:
    return size


def _invert(value: Any) -> Any:
    # Of a boolean, Python 3.16 will refuse it; here booleans count as integers.
    return ~int(value) if isinstance(value, bool) else ~value


def _tuple(*items: Any) -> tuple[Any, ...]:
    return items


def _look_up(factors: Any, *values: Any) -> Any:
    return factors.of(*values)


def _branch(*_: Any) -> NoReturn:
    raise TypeError("a lazy operator has no value of its own: evaluation takes one of its branches")


# -- the table --------------------------------------------------------------------------------

_bounded("add", py.add, "{} + {}", 11, exact.arithmetic, np.add, intervals.add)
_bounded("sub", py.sub, "{} - {}", 11, exact.arithmetic, np.subtract, intervals.subtract)
_bounded("mul", py.mul, "{} * {}", 12, exact.arithmetic, np.multiply, intervals.multiply)
_define("sum", _sum, _sum_text, ATOM, exact.total, intervals.total)
# The size of axes made one; a product, which says of a tensor where its elements are.
_define(
    "flattened",
    _product,
    "",
    ATOM,
    _product_of(exact.arithmetic(np.multiply, intervals.multiply)),
    _product_of(intervals.multiply),
)
# A size, and what says of a tensor where its elements are.
_define("listed", _first, _listed_text, ATOM, _first, _first)
_define("matmul", py.matmul, "{} @ {}", 12)
_define("truediv", py.truediv, "{} / {}", 12, exact.true_division, intervals.quotient(py.truediv))
_define(
    "floordiv",
    py.floordiv,
    "{} // {}",
    12,
    exact.whole_division(np.floor_divide),
    intervals.quotient(py.floordiv),
)
_define("mod", py.mod, "{} % {}", 12, exact.whole_division(np.remainder), intervals.modulo)
_define("divmod", divmod)
_define("pow", py.pow, "{} ** {}", 14, exact.power, intervals.power)
_define("powmod", pow, _call("pow"))
_define("neg", py.neg, "-{}", 13, exact.NEGATIVE, corners(py.neg))
_define("pos", py.pos, "+{}", 13, exact.POSITIVE, corners(py.pos))
_define("abs", abs, "", ATOM, exact.ABSOLUTE, intervals.absolute)

_bounded("lshift", py.lshift, "{} << {}", 10, exact.shift, np.left_shift, intervals.left_shift)
_bounded("rshift", py.rshift, "{} >> {}", 10, exact.shift, np.right_shift, corners(py.rshift))
_define("and", py.and_, "{} & {}", 9, exact.bitwise(np.bitwise_and), intervals.bits)
_define("xor", py.xor, "{} ^ {}", 8, exact.bitwise(np.bitwise_xor), intervals.bits)
_define("or", py.or_, "{} | {}", 7, exact.bitwise(np.bitwise_or), intervals.bits)
_define("invert", _invert, "~{}", 13, exact.INVERT, corners(_invert))

_define("lt", py.lt, "{} < {}", COMPARISON, exact.comparison(np.less), intervals.truth)
_define("le", py.le, "{} <= {}", COMPARISON, exact.comparison(np.less_equal), intervals.truth)
_define("eq", py.eq, "{} == {}", COMPARISON, exact.comparison(np.equal), intervals.truth)
_define("ne", py.ne, "{} != {}", COMPARISON, exact.comparison(np.not_equal), intervals.truth)
_define("ge", py.ge, "{} >= {}", COMPARISON, exact.comparison(np.greater_equal), intervals.truth)
_define("gt", py.gt, "{} > {}", COMPARISON, exact.comparison(np.greater), intervals.truth)

_define("round", round, "", ATOM, exact.ROUND, corners(round))
_define("round_to", round, _call("round"))
_define("floor", math.floor, "", ATOM, exact.FLOOR, corners(math.floor))
_define("ceil", math.ceil, "", ATOM, exact.CEIL, corners(math.ceil))
_define("trunc", math.trunc, "", ATOM, exact.TRUNC, corners(math.trunc))
_define("int", int, "", ATOM, exact.TRUNC, corners(int))
_define("float", float, "", ATOM, exact.to_float, corners(float))
_define("max", max, "", ATOM, exact.extreme(np.maximum), intervals.extreme(max))
_define("min", min, "", ATOM, exact.extreme(np.minimum), intervals.extreme(min))
_define("getitem", py.getitem, "{}[{}]")
_define("tuple", _tuple, _tuple_text)

# Lazy as well: a sum of factors (see `factor_sum.py`), and the symbols that it is over.  It looks
# up the codes of those that are active.
LOOKUP = _define("lookup", _look_up, _lookup_text, lazy=True)

# Lazy: arguments are (predicate, value if true, value if false); (predicate, value, ...) in
# pairs, the first that holds; (selector, keys, value, ...), the value at the key's place.
CONDITION = _define("condition", _branch, lazy=True)
CASE = _define("case", _branch, _case_text, lazy=True)
SWITCH = _define("switch_case", _branch, _switch_text, lazy=True)

BRANCHES = {CONDITION: slice(1, None), SWITCH: slice(2, None), CASE: slice(1, None, 2)}
"""Which arguments of a lazy operator its value can be."""


def selectors(node: Any) -> list[Any]:
    """Return the arguments of a lazy operator that tell which of its branches is its value."""
    branches = range(len(node.arguments))[BRANCHES[node.operator]]
    return [argument for place, argument in enumerate(node.arguments) if place not in branches]
