"""Operators on NumPy columns, exactly as Python computes them row by row.

Every function here either gives what Python would give, in value and in type, or returns
``NotImplemented``, and the caller goes row by row.  So where NumPy would wrap an integer,
round differently or keep another type, it is not used.
"""

from __future__ import annotations

import functools
import math
import operator as py
from collections.abc import Callable
from typing import Any

import numpy as np

from . import intervals
from .intervals import Interval

__all__ = [
    "ABSOLUTE",
    "INVERT",
    "NEGATIVE",
    "POSITIVE",
    "Function",
    "arithmetic",
    "bitwise",
    "comparison",
    "extreme",
    "power",
    "shift",
    "to_float",
    "total",
    "true_division",
    "whole",
    "whole_division",
]

Function = Callable[..., Any]

_INT = np.dtype(np.int64)
_FLOAT = np.dtype(np.float64)
_BOOL = np.dtype(np.bool_)
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1
_EXACT_FLOAT = 2**53
"""Integers up to here convert to float64 without rounding."""


def _numbers(*columns: Any) -> list[Any] | None:
    """Operands as int64 (booleans too, as in Python) or float64; None if they are neither."""
    result = []
    for column in columns:
        array = np.asarray(column)
        if array.dtype == _BOOL:
            array = array.astype(np.int64)
        elif array.dtype not in (_INT, _FLOAT):
            return None
        result.append(array)
    return result


def _integers(*columns: Any) -> list[Any] | None:
    arrays = _numbers(*columns)
    if arrays is None or any(array.dtype != _INT for array in arrays):
        return None
    return arrays


def _ends(array: Any) -> tuple[int, int]:
    return (int(array.min()), int(array.max())) if array.size else (0, 0)


def _fits(interval: Interval) -> bool:
    return bool(interval[0] >= _LOWEST and interval[1] <= _HIGHEST)


def _small(*arrays: Any) -> bool:
    """Return whether integers among the operands convert to floats without rounding."""
    ends = [_ends(array) for array in arrays if array.dtype == _INT]
    return all(low >= -_EXACT_FLOAT and high <= _EXACT_FLOAT for low, high in ends)


def _exactly(
    function: Function,
    arrays_of: Callable[..., list[Any] | None],
    holds: Callable[..., bool] = lambda *_: True,
) -> Function:
    """Return an operator that is computed by NumPy where that gives what Python does.

    Parameters
    ----------
    function
        Of arrays.
    arrays_of
        Makes arrays of columns; ``None`` of those that are of other kinds.
    holds
        Whether the function gives for some arrays what Python does.
    """

    def columns(*operands: Any) -> Any:
        arrays = arrays_of(*operands)
        if arrays is None or not holds(*arrays):
            return NotImplemented
        return function(*arrays)

    return columns


def _quietly(function: Function) -> Function:
    """Return a function without NumPy's warnings: of floats that overflow, Python says nothing."""

    def quiet(*arrays: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*arrays)

    return quiet


def arithmetic(function: Function, interval: Callable[..., Interval]) -> Function:
    """Return an operator whose results the interval tells to be within int64, or not."""

    def holds(*arrays: Any) -> bool:
        whole = all(array.dtype == _INT for array in arrays)
        return not whole or _fits(interval(*map(_ends, arrays)))

    return _exactly(_quietly(function), _numbers, holds)


@_quietly
def _sum(*arrays: Any) -> Any:
    return functools.reduce(py.add, arrays, 0)


def _sums_fit(*arrays: Any) -> bool:
    # Every partial sum of integers must fit, so no term may help another one back.
    ends = [_ends(array) for array in arrays if array.dtype == _INT]
    return _fits(intervals.total(*[(min(low, 0), max(high, 0)) for low, high in ends]))


def comparison(function: Function) -> Function:
    """Compare as Python does, an integer with a float exactly; NumPy converts it first."""
    return _exactly(function, _numbers, lambda a, b: a.dtype == b.dtype or _small(a, b))


def _booleans_or_integers(*columns: Any) -> list[Any] | None:
    arrays = [np.asarray(column) for column in columns]
    return arrays if all(array.dtype == _BOOL for array in arrays) else _integers(*arrays)


def bitwise(function: Function) -> Function:
    """Return a boolean of two booleans, an integer of anything else."""
    return _exactly(function, _booleans_or_integers)


def _divides(array: Any) -> bool:
    if np.any(array == 0):
        raise ZeroDivisionError("division by zero")
    return True


def whole_division(function: Function) -> Function:
    """Divide integers; of floats, the last digit and the sign of zero differ between libraries."""
    return _exactly(function, _integers, lambda a, b: _ends(a)[0] != _LOWEST and _divides(b))


def _to_counts(
    function: Function, interval: Callable[..., Interval], most: float = math.inf
) -> Function:
    """Take a right operand of 0 or more, where the interval tells that the results fit."""

    def holds(*arrays: Any) -> bool:
        a, b = map(_ends, arrays)
        return b[0] >= 0 and b[1] <= most and _fits(interval(a, b))

    return _exactly(function, _integers, holds)


def shift(function: Function, interval: Callable[..., Interval]) -> Function:
    """Shift by fewer bits than an integer has."""
    return _to_counts(function, interval, 62)


def whole(function: Function) -> Function:
    """Round to an integer, exactly where the result is within int64."""
    return _exactly(
        lambda array: array if array.dtype == _INT else function(array).astype(np.int64),
        _numbers,
        lambda array: array.dtype == _INT or bool((np.abs(array) < 2.0**62).all()),
    )


def _ordered(*columns: Any) -> list[Any] | None:
    """Operands of one type, without what NumPy orders in another way: zeros, and no numbers."""
    arrays = [np.asarray(column) for column in columns]
    kind = arrays[0].dtype
    if kind not in (_INT, _FLOAT) or any(array.dtype != kind for array in arrays):
        return None
    if kind == _FLOAT and any((np.isnan(array) | (array == 0)).any() for array in arrays):
        return None
    return arrays


def extreme(function: Function) -> Function:
    """Return the first of equal ones, with its type: ``max(2, 2.0)`` is 2, ``max(2.0, 2)`` 2.0."""
    return _exactly(lambda *arrays: functools.reduce(function, arrays), _ordered)


total = _exactly(_sum, _numbers, _sums_fit)
"""The sum from left to right, as Python adds."""

true_division = _exactly(
    _quietly(np.true_divide), _numbers, lambda a, b: _small(a, b) and _divides(b)
)
"""Large integers are divided before they are rounded, as Python does; NumPy rounds them first."""

power = _to_counts(np.power, intervals.power)
"""Of integers, to whole powers; those of floats differ between libraries."""

to_float = _exactly(lambda array: array.astype(np.float64), _numbers)
"""Integers round to the nearest float in both."""

ABSOLUTE = arithmetic(np.abs, intervals.absolute)
NEGATIVE = arithmetic(np.negative, intervals.corners(py.neg))
POSITIVE = arithmetic(np.positive, intervals.corners(py.pos))
INVERT = arithmetic(np.invert, intervals.corners(py.invert))
FLOOR, CEIL, TRUNC, ROUND = map(whole, (np.floor, np.ceil, np.trunc, np.rint))
