"""Operators on NumPy columns, exactly as Python computes them row by row.

Every function here either gives what Python would give, in value and in type, or returns
``NotImplemented``, and the caller goes row by row.  So where NumPy would wrap an integer,
round differently or keep another type, it is not used.
"""

from __future__ import annotations

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


def arithmetic(function: Function, interval: Callable[..., Interval]) -> Function:
    """Return an operator whose results the interval tells to be within int64, or not."""

    def columns(*operands: Any) -> Any:
        arrays = _numbers(*operands)
        if arrays is None:
            return NotImplemented
        whole = all(array.dtype == _INT for array in arrays)
        if whole and not _fits(interval(*map(_ends, arrays))):
            return NotImplemented
        with np.errstate(all="ignore"):
            return function(*arrays)

    return columns


def total(*terms: Any) -> Any:
    """Return the sum from left to right, as Python adds."""
    arrays = _numbers(*terms)
    if arrays is None:
        return NotImplemented
    # Every partial sum of integers must fit, so no term may help another one back.
    ends = [_ends(array) for array in arrays if array.dtype == _INT]
    reach = intervals.total(*[(min(low, 0), max(high, 0)) for low, high in ends])
    if not _fits(reach):
        return NotImplemented
    result: Any = 0
    with np.errstate(all="ignore"):
        for array in arrays:
            result = result + array
    return result


def comparison(function: Function) -> Function:
    """Compare as Python does, an integer with a float exactly; NumPy converts it first."""

    def columns(left: Any, right: Any) -> Any:
        arrays = _numbers(left, right)
        if arrays is None or (arrays[0].dtype != arrays[1].dtype and not _small(*arrays)):
            return NotImplemented
        return function(*arrays)

    return columns


def bitwise(function: Function) -> Function:
    """Return a boolean of two booleans, an integer of anything else."""

    def columns(left: Any, right: Any) -> Any:
        a, b = np.asarray(left), np.asarray(right)
        if a.dtype == _BOOL and b.dtype == _BOOL:
            return function(a, b)
        arrays = _integers(a, b)
        return NotImplemented if arrays is None else function(*arrays)

    return columns


def true_division(left: Any, right: Any) -> Any:
    """Divide large integers before they are rounded, as Python does; NumPy rounds them first."""
    arrays = _numbers(left, right)
    if arrays is None or not _small(*arrays):
        return NotImplemented
    if np.any(arrays[1] == 0):
        raise ZeroDivisionError("division by zero")
    with np.errstate(all="ignore"):
        return np.true_divide(*arrays)


def whole_division(function: Function) -> Function:
    """Divide integers; of floats, the last digit and the sign of zero differ between libraries."""

    def columns(left: Any, right: Any) -> Any:
        arrays = _integers(left, right)
        if arrays is None or _ends(arrays[0])[0] == _LOWEST:
            return NotImplemented
        if np.any(arrays[1] == 0):
            raise ZeroDivisionError("division by zero")
        return function(*arrays)

    return columns


def shift(function: Function, interval: Callable[..., Interval]) -> Function:
    """Shift by fewer bits than an integer has."""

    def columns(left: Any, right: Any) -> Any:
        arrays = _integers(left, right)
        if arrays is None:
            return NotImplemented
        a, b = map(_ends, arrays)
        if b[0] < 0 or b[1] > 62 or not _fits(interval(a, b)):
            return NotImplemented
        return function(*arrays)

    return columns


def power(left: Any, right: Any) -> Any:
    """Raise integers to whole powers; those of floats differ between libraries."""
    arrays = _integers(left, right)
    if arrays is None:
        return NotImplemented
    a, b = map(_ends, arrays)
    if b[0] < 0 or not _fits(intervals.power(a, b)):
        return NotImplemented
    return np.power(*arrays)


def whole(function: Function) -> Function:
    """Round to an integer, exactly where the result is within int64."""

    def columns(value: Any) -> Any:
        arrays = _numbers(value)
        if arrays is None:
            return NotImplemented
        array = arrays[0]
        if array.dtype == _INT:
            return array
        if not (np.abs(array) < 2.0**62).all():
            return NotImplemented
        return function(array).astype(np.int64)

    return columns


def to_float(value: Any) -> Any:
    """Return floats: integers round to the nearest one in both."""
    arrays = _numbers(value)
    return NotImplemented if arrays is None else arrays[0].astype(np.float64)


def extreme(function: Function) -> Function:
    """Return the first of equal ones, with its type: ``max(2, 2.0)`` is 2, ``max(2.0, 2)`` 2.0."""

    def columns(*operands: Any) -> Any:
        arrays = [np.asarray(operand) for operand in operands]
        kind = arrays[0].dtype
        if kind not in (_INT, _FLOAT) or any(array.dtype != kind for array in arrays):
            return NotImplemented
        if kind == _FLOAT and any(_unordered(array) for array in arrays):
            return NotImplemented
        result = arrays[0]
        for array in arrays[1:]:
            result = function(result, array)
        return result

    return columns


def _unordered(array: Any) -> bool:
    """Whether an order matters that NumPy does not keep: of zeros, and of what is no number."""
    return bool(np.isnan(array).any() or (array == 0).any())


ABSOLUTE = arithmetic(np.abs, intervals.absolute)
NEGATIVE = arithmetic(np.negative, intervals.corners(py.neg))
POSITIVE = arithmetic(np.positive, intervals.corners(py.pos))
INVERT = arithmetic(np.invert, intervals.corners(py.invert))
FLOOR, CEIL, TRUNC, ROUND = map(whole, (np.floor, np.ceil, np.trunc, np.rint))
