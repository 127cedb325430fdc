"""Semirings for messages: integers of any size, floats, and the least of sums."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..mutable.factors import Array

__all__ = ["Arithmetic", "MinPlus", "Modular", "Real", "exactly"]

_FITS = 2**63
"""What is below this is counted as it is."""


class Arithmetic:
    """How weights are added up and multiplied: by default as numbers that need no reduction."""

    dtype: np.dtype[Any]
    plus: np.ufunc = np.add
    zero: float = 0
    one: float = 1

    def of(self, numbers: Array) -> Array:
        """Return weights, which may be integers of any size, as they are computed with."""
        return numbers.astype(self.dtype)

    def times(self, left: Array, right: Array | float) -> Array:
        """Return products, reduced."""
        return self.reduced(left * right)

    def reduced(self, sums: Array) -> Array:
        """Return sums of fewer than 2**32 reduced numbers, reduced."""
        return sums

    def occurs(self, sums: Array) -> Array:
        """Return which are sums of something."""
        found: Array = sums != self.zero
        return found


class Modular(Arithmetic):
    """Integers in 64 bits, modulo a prime.

    Parameters
    ----------
    prime
        Below 2**31, so that products fit; ``None`` to leave it to the 64 bits to wrap around,
        which is right for what is below 2**63 in the end.
    """

    dtype = np.dtype(np.int64)

    def __init__(self, prime: int | None = None) -> None:
        self.prime = prime

    def of(self, numbers: Array) -> Array:
        if self.prime is None and numbers.dtype == object:
            numbers = (numbers + 2**63) % 2**64 - 2**63  # what is too large cannot matter
        return self.reduced(numbers).astype(np.int64)

    def reduced(self, sums: Array) -> Array:
        rest: Array = sums if self.prime is None else sums % self.prime
        return rest

    def total(self, numbers: Array) -> int:
        """Return the sum of reduced numbers, reduced."""
        return int(self.reduced(np.asarray(numbers.sum(dtype=np.int64))))


class Real(Arithmetic):
    """Floats, of which the weights are relative to the largest: it may be too large for one."""

    dtype = np.dtype(np.float64)

    def of(self, numbers: Array) -> Array:
        if numbers.dtype == object:
            largest = max(numbers.tolist(), default=1)
            # The quotient of two integers is correctly rounded, whatever their size.
            numbers = np.array([number / largest for number in numbers.tolist()])
        return super().of(numbers)


class MinPlus(Arithmetic):
    """The least of several costs in the place of sums, and sums in the place of products.

    With this semiring, what counts combinations finds the least cost among them (Aji and
    McEliece, "The generalized distributive law", 2000).

    Parameters
    ----------
    dtype
        ``int64`` for whole numbers, whose sums must stay below 2**61, or ``float64``.
    """

    plus = np.minimum

    def __init__(self, dtype: Any = np.float64) -> None:
        self.dtype = np.dtype(dtype)
        self.zero = 2**62 if self.dtype == np.int64 else np.inf
        self.one = 0

    def times(self, left: Array, right: Array | float) -> Array:
        total: Array = left + right
        return total

    def occurs(self, sums: Array) -> Array:
        # What is added to infinity stays above 2**61.
        found: Array = sums < self.zero / 2
        return found


def exactly(bound: int, compute: Callable[[Modular], int]) -> int:
    """Return a number below a bound, from what is computed modulo primes.

    What fits into 64 bits is computed once; otherwise, the Chinese remainder theorem gives the
    number from its residues.

    Parameters
    ----------
    bound
        The number is not negative, and not above this.
    compute
        Gives the number, reduced.

    Examples
    --------
    >>> exactly(10**40, lambda numbers: numbers.total(numbers.of(np.array([10**39, 7], object))))
    1000000000000000000000000000000000000007
    """
    if bound < _FITS:
        return compute(Modular())
    number, modulus = 0, 1
    for prime in _primes(bound):
        # The number that leaves the known rest modulo the product so far, and the new one.
        rest = compute(Modular(prime))
        number += modulus * ((rest - number) * pow(modulus, -1, prime) % prime)
        modulus *= prime
    return number


def _primes(bound: int) -> list[int]:
    """The largest primes below 2**31, as many as it takes for their product to exceed a bound."""
    primes: list[int] = []
    candidate = 2**31 - 1
    while math.prod(primes) <= bound:
        if all(candidate % divisor for divisor in range(3, math.isqrt(candidate) + 1, 2)):
            primes.append(candidate)
        candidate -= 2
    return primes
