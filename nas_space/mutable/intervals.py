"""Intervals: what values an operator can give, from those of its arguments.

Every function here is sound: the interval contains every value (as precisely as floats go, where
integers beyond 2**53 meet them).  It is not always tight, because a label that occurs twice
counts as two; ``bounds.bounds`` enumerates where it can.
"""

from __future__ import annotations

import math
import operator as py
from collections.abc import Callable, Iterable
from typing import Any

__all__ = [
    "EVERYTHING",
    "Interval",
    "absolute",
    "add",
    "bits",
    "corners",
    "extreme",
    "hull",
    "left_shift",
    "modulo",
    "multiply",
    "power",
    "quotient",
    "subtract",
    "total",
    "truth",
]

Interval = tuple[Any, Any]
"""Lowest and highest value; both ends belong to it."""

EVERYTHING: Interval = (-math.inf, math.inf)

_LARGEST_EXPONENT = 4096
"""Powers and shifts beyond are not worked out: the numbers would fill the memory."""


def hull(intervals: Iterable[Interval]) -> Interval:
    """Return the smallest interval that contains all the given ones."""
    lows, highs = zip(*intervals, strict=True)
    return (min(lows), max(highs))


def corners(function: Callable[..., Any]) -> Callable[..., Interval]:
    """Return what bounds a function that is monotone in each argument: its values at corners."""

    def interval(*arguments: Interval) -> Interval:
        points: list[tuple[Any, ...]] = [()]
        for ends in arguments:
            points = [(*point, end) for point in points for end in ends]
        try:
            values = [function(*point) for point in points]
        except (ArithmeticError, ValueError, TypeError):
            return EVERYTHING
        if any(isinstance(v, complex) or (isinstance(v, float) and math.isnan(v)) for v in values):
            return EVERYTHING
        return (min(values), max(values))

    return interval


def add(a: Interval, b: Interval) -> Interval:
    """Return the interval of a sum."""
    return (a[0] + b[0], a[1] + b[1])


def subtract(a: Interval, b: Interval) -> Interval:
    """Return the interval of a difference."""
    return (a[0] - b[1], a[1] - b[0])


def multiply(a: Interval, b: Interval) -> Interval:
    """Return the interval of a product; infinite ends stand for finite values: 0 times one is 0."""
    products = [0 if x == 0 or y == 0 else x * y for x in a for y in b]
    return (min(products), max(products))


def total(*terms: Interval) -> Interval:
    """Return the interval of a sum of many."""
    return (sum(term[0] for term in terms), sum(term[1] for term in terms))


def quotient(function: Callable[..., Any]) -> Callable[..., Interval]:
    """Return what divides intervals: monotone where the divisor cannot be 0."""
    at_corners = corners(function)

    def interval(a: Interval, b: Interval) -> Interval:
        return EVERYTHING if b[0] <= 0 <= b[1] else at_corners(a, b)

    return interval


def modulo(a: Interval, b: Interval) -> Interval:
    """Return the interval of a remainder, which has the sign of the divisor."""
    if b[0] > 0:
        return a if a[0] >= 0 and a[1] < b[0] else (0, b[1])
    if b[1] < 0:
        return (b[0], 0)
    return EVERYTHING


def power(a: Interval, b: Interval) -> Interval:
    """Return the interval of a power, where the exponent is not negative."""
    if b[0] < 0 or b[1] > _LARGEST_EXPONENT:
        return EVERYTHING
    if a[0] >= 0:
        return corners(py.pow)(a, b)
    if any(isinstance(end, float) for end in b):
        return EVERYTHING  # a root of a negative number
    _, reach = corners(py.pow)((1, max(1, abs(a[0]), abs(a[1]))), b)
    return (-reach, reach)


def left_shift(a: Interval, b: Interval) -> Interval:
    """Return the interval of a shift to the left."""
    return corners(py.lshift)(a, b) if b[1] <= _LARGEST_EXPONENT else EVERYTHING


def bits(a: Interval, b: Interval) -> Interval:
    """Return the interval of and, or, xor: no more bits than the longer one has."""
    ends = (*a, *b)
    if any(isinstance(end, float) for end in ends):
        return EVERYTHING
    reach = 1 << max(int(end).bit_length() for end in ends)
    return (0 if min(ends) >= 0 else -reach, reach)


def extreme(function: Callable[..., Any]) -> Callable[..., Interval]:
    """Return the interval of the smallest or the largest of several."""

    def interval(*arguments: Interval) -> Interval:
        return (function([a[0] for a in arguments]), function([a[1] for a in arguments]))

    return interval


def absolute(a: Interval) -> Interval:
    """Return the interval of an absolute value."""
    low, high = sorted((abs(a[0]), abs(a[1])))
    return (0, high) if a[0] <= 0 <= a[1] else (low, high)


def truth(*_: Interval) -> Interval:
    """Return the interval of a comparison."""
    return (False, True)
