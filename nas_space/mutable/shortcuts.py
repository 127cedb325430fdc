"""Short forms: the label first, then the domain."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .categorical import Categorical
from .numerical import Numerical

__all__ = [
    "choice",
    "lognormal",
    "loguniform",
    "normal",
    "qlognormal",
    "qloguniform",
    "qnormal",
    "quniform",
    "randint",
    "uniform",
]


def choice(label: str, choices: Iterable[Any]) -> Categorical[Any]:
    """Return one of several values.

    >>> choice("width", [16, 32])
    Categorical([16, 32], label='width')
    """
    return Categorical(choices, label=label)


def randint(label: str, lower: int, upper: int) -> Categorical[int]:
    """Return an integer from ``lower`` to ``upper - 1``.

    >>> randint("n", 1, 4)
    Categorical([1, 2, 3], label='n')
    """
    return Categorical(range(lower, upper), label=label)


def uniform(label: str, low: float, high: float) -> Numerical:
    """Return a number between ``low`` and ``high``."""
    return Numerical(low, high, label=label)


def quniform(label: str, low: float, high: float, quantize: float) -> Numerical:
    """Return a number between ``low`` and ``high``, rounded to multiples of ``quantize``."""
    return Numerical(low, high, quantize=quantize, label=label)


def loguniform(label: str, low: float, high: float) -> Numerical:
    """Return a number between ``low`` and ``high`` whose logarithm is uniform."""
    return Numerical(low, high, log_distributed=True, label=label)


def qloguniform(label: str, low: float, high: float, quantize: float) -> Numerical:
    """Return :func:`loguniform`, rounded to multiples of ``quantize``."""
    return Numerical(low, high, log_distributed=True, quantize=quantize, label=label)


def normal(label: str, mu: float, sigma: float) -> Numerical:
    """Return a normally distributed number."""
    return Numerical(mu=mu, sigma=sigma, label=label)


def qnormal(label: str, mu: float, sigma: float, quantize: float) -> Numerical:
    """Return :func:`normal`, rounded to multiples of ``quantize``."""
    return Numerical(mu=mu, sigma=sigma, quantize=quantize, label=label)


def lognormal(label: str, mu: float, sigma: float) -> Numerical:
    """Return a number whose logarithm is normally distributed."""
    return Numerical(mu=mu, sigma=sigma, log_distributed=True, label=label)


def qlognormal(label: str, mu: float, sigma: float, quantize: float) -> Numerical:
    """Return :func:`lognormal`, rounded to multiples of ``quantize``."""
    return Numerical(mu=mu, sigma=sigma, log_distributed=True, quantize=quantize, label=label)
