"""Numbers to count with: exact at any size, or floats.

Both work on arrays of shape ``(rows, channels)``.
"""

from __future__ import annotations

import math

import numpy as np

from .factors import Array


class Exact:
    """Non-negative integers below a bound: as they are, or as residues modulo several primes.

    Residues are added and multiplied column by column in 64 bits; the Chinese remainder theorem
    gives the number back.  What fits into 64 bits needs no residues.

    Parameters
    ----------
    bound
        What all results are below.

    Examples
    --------
    >>> numbers = Exact(10**40)
    >>> big = numbers.of(np.array([10**19, 3], dtype=object))
    >>> numbers.total(numbers.times(big, big))
    100000000000000000000000000000000000009
    """

    def __init__(self, bound: int) -> None:
        self.primes: list[int] = []
        candidate = 2**31 - 1
        while bound >= 2**63 and math.prod(self.primes) <= bound:
            if _is_prime(candidate):
                self.primes.append(candidate)
            candidate -= 2
        self.moduli: Array = np.array(self.primes, dtype=np.int64)
        self.channels = max(1, len(self.primes))
        self.dtype = np.dtype(np.int64)

    def of(self, numbers: Array) -> Array:
        """Residues of integers."""
        columns = [numbers % prime for prime in self.primes] or [numbers]
        return np.stack(columns, axis=-1).astype(np.int64)

    def times(self, left: Array, right: Array) -> Array:
        """Products, reduced."""
        return self.reduced(left * right)

    def reduced(self, sums: Array) -> Array:
        """Sums of fewer than 2**32 residues, reduced."""
        return sums % self.moduli if self.primes else sums

    def total(self, numbers: Array) -> int:
        """The sum of some numbers."""
        sums = [int(total) for total in numbers.sum(axis=0)]
        if not self.primes:
            return sums[0]
        whole = math.prod(self.primes)
        shares = [whole // prime * pow(whole // prime, -1, prime) for prime in self.primes]
        return sum(total * share for total, share in zip(sums, shares, strict=True)) % whole


class Real:
    """Floats; a single channel."""

    channels = 1
    dtype = np.dtype(np.float64)

    def of(self, numbers: Array) -> Array:
        """Weights, relative to the largest: integers may be too large for floats."""
        if numbers.dtype == object:
            largest = max(numbers.reshape(-1).tolist(), default=1)
            numbers = np.array([_ratio(number, largest) for number in numbers.tolist()])
        return numbers.astype(np.float64)[:, None]

    def times(self, left: Array, right: Array) -> Array:
        """Products."""
        product: Array = left * right
        return product

    def reduced(self, sums: Array) -> Array:
        """Sums need no reduction."""
        return sums


Arithmetic = Exact | Real


def _ratio(number: int, largest: int) -> float:
    return number / largest  # exactly rounded for integers of any size


def _is_prime(number: int) -> bool:
    return all(number % divisor for divisor in range(3, math.isqrt(number) + 1, 2))
