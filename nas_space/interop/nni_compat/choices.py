"""Choices by NNI's older names, and as NNI 2 described them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import UsageError
from ...mutable import Categorical, Mutable, MutableSymbol, Numerical

__all__ = ["ValueChoice", "legacy_description", "mutable_equal"]


class ValueChoice(Categorical[Any]):
    """The older name of :class:`~nas_space.mutable.Categorical`."""

    @property
    def candidates(self) -> list[Any]:
        """The values."""
        return list(self.values)


def legacy_description(symbol: MutableSymbol[Any]) -> dict[str, Any]:
    """Return a choice as NNI 2 described it; what NNI 3 calls ``as_legacy_dict()``.

    Parameters
    ----------
    symbol
        A categorical or numerical choice.

    Returns
    -------
    dict
        ``{'_type': 'choice', '_value': [...]}``, or that of a distribution.

    Raises
    ------
    UsageError
        If NNI 2 had no such choice.

    Examples
    --------
    >>> legacy_description(Categorical([1, 2], label="x"))
    {'_type': 'choice', '_value': [1, 2]}
    """
    if isinstance(symbol, Categorical):
        return {"_type": "choice", "_value": list(symbol.values)}
    if not isinstance(symbol, Numerical) or symbol.distribution is not None:
        raise UsageError(f"NNI 2 had no choice like {symbol!r}")
    kind = "uniform" if symbol.mu is None else "normal"
    given = [symbol.low, symbol.high] if symbol.mu is None else [symbol.mu, symbol.sigma]
    if symbol.log_distributed:
        kind = f"log{kind}"
    if symbol.quantize is not None:
        kind, given = f"q{kind}", [*given, symbol.quantize]
    return {"_type": kind, "_value": given}


def mutable_equal(one: Any, other: Any) -> bool:
    """Return whether two things are the same, whose parts may be mutable.

    Parameters
    ----------
    one, other
        Mutables, plain values, or lists, tuples and dicts of them.

    Examples
    --------
    >>> mutable_equal([Categorical([1, 2], label="x"), 3], [Categorical([1, 2], label="x"), 3])
    True
    """
    if isinstance(one, Mutable):
        return one.equals(other)
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(mutable_equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(mutable_equal(one[k], other[k]) for k in one)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    return bool(one == other)
