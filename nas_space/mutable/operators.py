"""The one table of operators that expressions are made of.

An operator says in one place how it prints, how it evaluates on Python values, how on
NumPy columns, and what bounds its result has.  Everything else in the symbolic layer
(printing, evaluation of one architecture or of a million, interval bounds) is a walk over
nodes that asks the table.
"""

from __future__ import annotations

import math
import operator as py
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Interval = tuple[Any, Any]
"""Lowest and highest value; both ends belong to it."""

EVERYTHING: Interval = (-math.inf, math.inf)
BOOLEAN: Interval = (0, 1)

_INT64 = np.iinfo(np.int64)
_EXACT_FLOAT = 2**53
"""Integers up to here convert to float64 without rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """How one kind of node prints, evaluates and bounds its result.

    Attributes
    ----------
    name
        The key in :data:`OPERATORS`; what pickles carry.
    template
        Format string over the printed arguments, or ``''`` for ``name(arg, ...)``.
    precedence
        As in Python's grammar; higher binds tighter.  Decides where parentheses go.
    scalar
        The meaning on Python values.
    columns
        The meaning on NumPy arrays, exactly equal to ``scalar`` element by element, or
        ``None`` to apply ``scalar`` to each row.
    bounds
        Interval of the result from intervals of the arguments.
    lazy
        For operators that evaluate a branch only where it is taken; see :data:`LAZY`.
    """

    name: str
    template: str
    precedence: int
    scalar: Callable[..., Any]
    columns: Callable[..., Any] | None = None
    bounds: Callable[..., Interval] | None = None
    lazy: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        return (_lookup, (self.name,))


OPERATORS: dict[str, Operator] = {}


def _lookup(name: str) -> Operator:
    return OPERATORS[name]


def _define(
    name: str,
    scalar: Callable[..., Any],
    template: str = "",
    precedence: int = 18,
    columns: Callable[..., Any] | None = None,
    bounds: Callable[..., Interval] | None = None,
    lazy: bool = False,
) -> Operator:
    entry = Operator(name, template, precedence, scalar, columns, bounds, lazy)
    OPERATORS[name] = entry
    return entry


# ----------------------------------------------------------------------------------------
# Columns.  Every function below is exact: it either gives what Python would give row by
# row, or returns NotImplemented, and the caller falls back to Python row by row.


def _numbers(*columns: Any) -> list[Any] | None:
    """Operands as int64 or float64 (booleans count as integers); None where that loses."""
    result = []
    for column in columns:
        array = np.asarray(column)
        if array.dtype == np.bool_:
            array = array.astype(np.int64)
        elif array.dtype not in (np.dtype(np.int64), np.dtype(np.float64)):
            return None
        result.append(array)
    return result


def _range(array: Any) -> tuple[int, int]:
    return (int(array.min()), int(array.max())) if array.size else (0, 0)


def _fits(low: int, high: int) -> bool:
    return _INT64.min <= low and high <= _INT64.max


def _exact_in_float(*arrays: Any) -> bool:
    """Whether integer operands survive a conversion to float64."""
    for array in arrays:
        if array.dtype == np.int64:
            low, high = _range(array)
            if low < -_EXACT_FLOAT or high > _EXACT_FLOAT:
                return False
    return True


def _arithmetic(function: Callable[..., Any], bounds: Callable[..., Interval]) -> Callable[..., Any]:
    """A column form that refuses where int64 would wrap, so that overflow is never silent."""

    def columns(*operands: Any) -> Any:
        arrays = _numbers(*operands)
        if arrays is None:
            return NotImplemented
        if all(array.dtype == np.int64 for array in arrays):
            if not _fits(*bounds(*(_range(array) for array in arrays))):
                return NotImplemented
        elif not _exact_in_float(*arrays):
            return NotImplemented
        with np.errstate(all="ignore"):
            return function(*arrays)

    return columns


def _comparison(function: Callable[..., Any]) -> Callable[..., Any]:
    def columns(left: Any, right: Any) -> Any:
        arrays = _numbers(left, right)
        if arrays is None:
            return NotImplemented
        if arrays[0].dtype != arrays[1].dtype and not _exact_in_float(*arrays):
            return NotImplemented
        return function(*arrays)

    return columns


def _bitwise(function: Callable[..., Any]) -> Callable[..., Any]:
    def columns(left: Any, right: Any) -> Any:
        a, b = np.asarray(left), np.asarray(right)
        if a.dtype == np.bool_ and b.dtype == np.bool_:
            return function(a, b)
        arrays = _numbers(a, b)
        if arrays is None or any(array.dtype != np.int64 for array in arrays):
            return NotImplemented
        return function(*arrays)

    return columns


def _divide_columns(function: Callable[..., Any]) -> Callable[..., Any]:
    def columns(left: Any, right: Any) -> Any:
        arrays = _numbers(left, right)
        if arrays is None:
            return NotImplemented
        if np.any(arrays[1] == 0):
            raise ZeroDivisionError("division by zero")
        integers = all(array.dtype == np.int64 for array in arrays)
        if function is np.true_divide or not integers:
            # Floor division and modulo of floats differ between libraries in signed
            # zeros and the last digit; only true division is the same everywhere.
            if function is not np.true_divide or not _exact_in_float(*arrays):
                return NotImplemented
        elif _range(arrays[0])[0] == _INT64.min:
            return NotImplemented
        return function(*arrays)

    return columns


def _shift_columns(left: Any, right: Any) -> Any:
    arrays = _numbers(left, right)
    if arrays is None or any(array.dtype != np.int64 for array in arrays):
        return NotImplemented
    low, high = _range(arrays[1])
    if low < 0:
        raise ValueError("negative shift count")
    if high > 62 or not _fits(*_shift_bounds(_range(arrays[0]), (low, high))):
        return NotImplemented
    return np.left_shift(*arrays)


def _right_shift_columns(left: Any, right: Any) -> Any:
    arrays = _numbers(left, right)
    if arrays is None or any(array.dtype != np.int64 for array in arrays):
        return NotImplemented
    low, high = _range(arrays[1])
    if low < 0:
        raise ValueError("negative shift count")
    return NotImplemented if high > 62 else np.right_shift(*arrays)


def _power_columns(left: Any, right: Any) -> Any:
    arrays = _numbers(left, right)
    if arrays is None or any(array.dtype != np.int64 for array in arrays):
        return NotImplemented
    if _range(arrays[1])[0] < 0:
        return NotImplemented
    low, high = _power_bounds(_range(arrays[0]), _range(arrays[1]))
    if not math.isfinite(low) or not math.isfinite(high) or not _fits(low, high):
        return NotImplemented
    return np.power(*arrays)


def _whole_columns(function: Callable[..., Any]) -> Callable[..., Any]:
    """Rounding to an integer: exact where the float is within int64."""

    def columns(value: Any) -> Any:
        arrays = _numbers(value)
        if arrays is None:
            return NotImplemented
        array = arrays[0]
        if array.dtype == np.int64:
            return array
        if array.size and not (np.abs(array) < 2.0**62).all():
            return NotImplemented
        return function(array).astype(np.int64)

    return columns


def _extreme_columns(function: Callable[..., Any]) -> Callable[..., Any]:
    def columns(*operands: Any) -> Any:
        arrays = [np.asarray(operand) for operand in operands]
        if any(array.dtype != arrays[0].dtype for array in arrays) or arrays[0].dtype not in (
            np.dtype(np.int64),
            np.dtype(np.float64),
        ):
            return NotImplemented  # max(2, 2.0) keeps the type of whichever came first
        if arrays[0].dtype == np.float64 and any(
            np.isnan(array).any() or (array == 0).any() for array in arrays
        ):
            return NotImplemented  # the first of 0.0 and -0.0 wins in Python
        result = arrays[0]
        for array in arrays[1:]:
            result = function(result, array)
        return result

    return columns


# ----------------------------------------------------------------------------------------
# Bounds.  Intervals are sound (they contain every value), not always tight: labels that
# appear twice are treated as independent.  `bounds.bounds` tightens them by enumeration.


def _safe(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except (ArithmeticError, ValueError, TypeError):
        return math.nan


def _corners(function: Callable[..., Any]) -> Callable[..., Interval]:
    """Bounds of an operator that is monotone in each argument (its extremes are at corners)."""

    def bounds(*intervals: Interval) -> Interval:
        points: list[Any] = [()]
        for interval in intervals:
            points = [(*point, end) for point in points for end in interval]
        values = [_safe(function, *point) for point in points]
        if any(isinstance(value, complex) or value != value for value in values):
            return EVERYTHING
        return (min(values), max(values))

    return bounds


def _multiply_bounds(a: Interval, b: Interval) -> Interval:
    products = [0 if x == 0 or y == 0 else x * y for x in a for y in b]
    return (min(products), max(products))


def _quotient_bounds(function: Callable[..., Any]) -> Callable[..., Interval]:
    corners = _corners(function)

    def bounds(a: Interval, b: Interval) -> Interval:
        return EVERYTHING if b[0] <= 0 <= b[1] else corners(a, b)

    return bounds


def _modulo_bounds(a: Interval, b: Interval) -> Interval:
    if b[0] > 0:
        return (a[0], a[1]) if 0 <= a[0] and a[1] < b[0] else (0, b[1])
    if b[1] < 0:
        return (b[0], 0)
    return EVERYTHING


def _shift_bounds(a: Interval, b: Interval) -> Interval:
    if b[0] < 0 or b[1] > 4096 or any(isinstance(end, float) for end in (*a, *b)):
        return EVERYTHING
    return _corners(py.lshift)(a, b)


def _power_bounds(a: Interval, b: Interval) -> Interval:
    if b[0] < 0 or b[1] > 4096 or any(isinstance(end, float) and not math.isfinite(end) for end in a):
        return EVERYTHING
    if a[0] >= 0:
        return _corners(py.pow)(a, b)
    if any(isinstance(end, float) for end in b):
        return EVERYTHING
    reach = max(1, _safe(py.pow, max(abs(a[0]), abs(a[1])), b[1]))
    return (-reach, reach)


def _bit_bounds(a: Interval, b: Interval) -> Interval:
    ends = (*a, *b)
    if any(isinstance(end, float) for end in ends):
        return EVERYTHING
    width = max(abs(int(end)).bit_length() for end in ends)
    reach = 1 << width
    return (0 if min(ends) >= 0 else -reach, reach)


def _extreme_bounds(function: Callable[..., Any]) -> Callable[..., Interval]:
    def bounds(*intervals: Interval) -> Interval:
        return (function(i[0] for i in intervals), function(i[1] for i in intervals))

    return bounds


def _absolute_bounds(a: Interval) -> Interval:
    ends = sorted((abs(a[0]), abs(a[1])))
    return (0, ends[1]) if a[0] <= 0 <= a[1] else (ends[0], ends[1])


def _truth_bounds(*_: Interval) -> Interval:
    return BOOLEAN


def hull(intervals: Sequence[Interval]) -> Interval:
    """The smallest interval that contains all the given ones."""
    return (min(i[0] for i in intervals), max(i[1] for i in intervals))


# ----------------------------------------------------------------------------------------
# The table.


def _select(*_: Any) -> Any:
    raise AssertionError("lazy operators are evaluated by the walker")


def _add_bounds(a: Interval, b: Interval) -> Interval:
    return (a[0] + b[0], a[1] + b[1])


def _subtract_bounds(a: Interval, b: Interval) -> Interval:
    return (a[0] - b[1], a[1] - b[0])


def _total(*terms: Any) -> Any:
    return sum(terms)


def _total_bounds(*terms: Interval) -> Interval:
    return (sum(t[0] for t in terms), sum(t[1] for t in terms))


def _total_columns(*terms: Any) -> Any:
    arrays = _numbers(*terms)
    if arrays is None or any(array.dtype != np.int64 for array in arrays):
        return NotImplemented
    if not _fits(*_total_bounds(*((min(r[0], 0), max(r[1], 0)) for r in map(_range, arrays)))):
        return NotImplemented
    result = arrays[0]
    for array in arrays[1:]:
        result = result + array
    return result


def _whole(function: Callable[..., Any]) -> Callable[..., Any]:
    return _corners(function)


_define("add", py.add, "{} + {}", 11, _arithmetic(np.add, _add_bounds), _add_bounds)
_define("sub", py.sub, "{} - {}", 11, _arithmetic(np.subtract, _subtract_bounds), _subtract_bounds)
_define("mul", py.mul, "{} * {}", 12, _arithmetic(np.multiply, _multiply_bounds), _multiply_bounds)
_define("sum", _total, "", 18, _total_columns, _total_bounds)
_define("matmul", py.matmul, "{} @ {}", 12)
_define(
    "truediv", py.truediv, "{} / {}", 12, _divide_columns(np.true_divide), _quotient_bounds(py.truediv)
)
_define(
    "floordiv", py.floordiv, "{} // {}", 12, _divide_columns(np.floor_divide), _quotient_bounds(py.floordiv)
)
_define("mod", py.mod, "{} % {}", 12, _divide_columns(np.remainder), _modulo_bounds)
_define("divmod", divmod)
_define("pow", py.pow, "{} ** {}", 14, _power_columns, _power_bounds)
_define("powmod", pow, "pow({}, {}, {})")
_define("lshift", py.lshift, "{} << {}", 10, _shift_columns, _shift_bounds)
_define("rshift", py.rshift, "{} >> {}", 10, _right_shift_columns, _corners(py.rshift))
_define("and", py.and_, "{} & {}", 9, _bitwise(np.bitwise_and), _bit_bounds)
_define("xor", py.xor, "{} ^ {}", 8, _bitwise(np.bitwise_xor), _bit_bounds)
_define("or", py.or_, "{} | {}", 7, _bitwise(np.bitwise_or), _bit_bounds)
_define("lt", py.lt, "{} < {}", 6, _comparison(np.less), _truth_bounds)
_define("le", py.le, "{} <= {}", 6, _comparison(np.less_equal), _truth_bounds)
_define("eq", py.eq, "{} == {}", 6, _comparison(np.equal), _truth_bounds)
_define("ne", py.ne, "{} != {}", 6, _comparison(np.not_equal), _truth_bounds)
_define("ge", py.ge, "{} >= {}", 6, _comparison(np.greater_equal), _truth_bounds)
_define("gt", py.gt, "{} > {}", 6, _comparison(np.greater), _truth_bounds)
_define("neg", py.neg, "-{}", 13, _arithmetic(np.negative, _corners(py.neg)), _corners(py.neg))
_define("pos", py.pos, "+{}", 13, None, _corners(py.pos))
_define("invert", py.invert, "~{}", 13, None, _corners(py.invert))
_define("abs", abs, "", 18, _arithmetic(np.abs, _absolute_bounds), _absolute_bounds)
_define("round", round, "", 18, _whole_columns(np.rint), _whole(round))
_define("round_to", round, "round({}, {})")
_define("floor", math.floor, "", 18, _whole_columns(np.floor), _whole(math.floor))
_define("ceil", math.ceil, "", 18, _whole_columns(np.ceil), _whole(math.ceil))
_define("trunc", math.trunc, "", 18, _whole_columns(np.trunc), _whole(math.trunc))
_define("int", int, "", 18, _whole_columns(np.trunc), _whole(int))
_define("float", float, "", 18, None, _whole(float))
_define("max", max, "", 18, _extreme_columns(np.maximum), _extreme_bounds(max))
_define("min", min, "", 18, _extreme_columns(np.minimum), _extreme_bounds(min))
_define("getitem", py.getitem, "{}[{}]", 18)
_define("tuple", lambda *items: items)

# Lazy: arguments are (predicate, value if true, value if false); (predicate, value, ...) in
# pairs, the first that holds; (selector, keys, value, ...), the value at the key's place.
CONDITION = _define("condition", _select, "", 18, lazy=True)
CASE = _define("case", _select, "", 18, lazy=True)
SWITCH = _define("switch_case", _select, "", 18, lazy=True)
