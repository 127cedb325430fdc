"""Architectures as vectors in which labels are compared one by one, for kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from ..mutable import CategoricalMultiple, MutableSymbol, Sample
from .encoding import quantile_of

__all__ = ["Codes"]

Array = npt.NDArray[np.float64]

_LISTED = 64
"""Of a label with at most so many values, all distances between two are listed."""

_NONE = -2.0
"""Stands for a label that is not active; values are codes, or from 0 to 1 if they have an order."""


class Codes:
    """Architectures as vectors, with a column for each label.

    How far apart two are in a label is 0 where both have the same value, or neither has the label;
    1 where one of them has it, or values without an order differ; and for numbers how far apart
    they are, from 0 to 1.

    Parameters
    ----------
    space
        Its labels; a choice of several counts as a label for each member.
    """

    def __init__(self, space: Any) -> None:
        self._labels = [_LabelCodes(s) for s in space.symbols().values() if s.size != 1]
        # For each column, what its codes stand for; none where rows hold the numbers themselves.
        self.numbers = [own for label in self._labels for own in label.numbers]
        self.width = len(self.numbers)
        sizes = [len(own) for own in self.numbers]
        self._listed = np.flatnonzero(sizes)
        self._other = np.flatnonzero(np.array(sizes) == 0)
        self._starts = np.cumsum([0, *(sizes[column] for column in self._listed)])
        self._apart = [_apart(own, own) for own in self.numbers]

    def of(self, archs: Sequence[Sample]) -> Array:
        """Return an array ``(architectures, columns)``."""
        columns = [label.columns(archs) for label in self._labels]
        return np.concatenate([np.zeros((len(archs), 0)), *columns], axis=1)

    def distances(self, one: Array, other: Array) -> Array:
        """Return how far apart architectures are in each column, ``(columns, one, other)``."""
        found = np.empty((self.width, len(one), len(other)))
        for column, own in enumerate(self.numbers):
            left, right = one[:, column], other[:, column]
            if len(own):
                left, right = own[left.astype(np.intp)], own[right.astype(np.intp)]
            found[column] = _apart(left, right)
        return found

    def weighted(self, weights: Array, other: Array) -> Callable[[Array], Array]:
        """Return a function that gives the weighted sums of distances, ``(one, other)``.

        Of a label whose values are listed, what each of them contributes is a row; so a sum is a
        product of a matrix with a one in each such label by the rows of all of them.  Each sum is
        added up in the order of the columns, whichever rows are asked about with it.
        """
        rows = np.zeros((int(self._starts[-1]), len(other)))
        for column, start in zip(self._listed.tolist(), self._starts.tolist(), strict=False):
            own = weights[column] * self._apart[column]
            rows[start : start + len(own)] = own[:, other[:, column].astype(np.intp)]

        def sums(one: Array) -> Array:
            places = one[:, self._listed].astype(np.intp) + self._starts[:-1]
            ends = np.arange(len(one) + 1) * len(self._listed)
            ones = np.ones(places.size)
            shape = (len(one), len(rows))
            found: Array = csr_array((ones, places.reshape(-1), ends), shape) @ rows
            for column in self._other.tolist():
                found += weights[column] * _apart(one[:, column], other[:, column])
            return found

        return sums


class _LabelCodes:
    """The columns of one label."""

    def __init__(self, symbol: MutableSymbol[Any]) -> None:
        self.name, self.symbol = symbol.name, symbol
        self.number: Callable[[Any], float] = quantile_of(symbol) or symbol.code
        self.numbers = [np.zeros(0)]  # unless a code is looked up
        self.several = isinstance(symbol, CategoricalMultiple)
        if isinstance(symbol, CategoricalMultiple):
            self.numbers = [np.array([_NONE, 0.0, 1.0])] * len(symbol.values)
        elif symbol.size is not None and symbol.size <= _LISTED:
            values = [symbol.value(code) for code in range(symbol.size)]
            self.numbers = [np.array([_NONE, *map(self.number, values)])]
            self._place = _place_of(symbol, values)

    def columns(self, archs: Sequence[Sample]) -> Array:
        """Return an array ``(architectures, columns)``."""
        name = self.name
        if self.several:
            return np.array([self._members(arch) for arch in archs]).reshape(len(archs), -1)
        found: list[float]
        if len(self.numbers[0]):
            place = self._place
            found = [place(arch[name]) if name in arch else 0 for arch in archs]
        else:
            found = [self.number(arch[name]) if name in arch else _NONE for arch in archs]
        return np.array(found, dtype=np.float64)[:, None]

    def _members(self, arch: Mapping[str, Any]) -> Array:
        symbol = self.symbol
        assert isinstance(symbol, CategoricalMultiple)
        members = np.zeros(len(symbol.values))
        if self.name in arch:
            members += 1
            members[list(symbol.places(symbol.code(arch[self.name])))] = 2
        return members


def _place_of(symbol: MutableSymbol[Any], values: Sequence[Any]) -> Callable[[Any], int]:
    """Return what gives the code of a value, where 0 stands for a label that is not active."""
    try:
        return _Places(symbol, values).__getitem__
    except TypeError:  # a list is no key
        return lambda value: symbol.code(value) + 1


class _Places(dict[Any, int]):
    """The codes of values, which are looked up thousands of times for each proposal."""

    def __init__(self, symbol: MutableSymbol[Any], values: Sequence[Any]) -> None:
        super().__init__((value, code) for code, value in enumerate(values, 1))
        self.symbol = symbol

    def __missing__(self, value: Any) -> int:
        return self.symbol.code(value) + 1


def _apart(one: Array, other: Array) -> Array:
    """Return how far apart the numbers of a column are, ``(one, other)``."""
    # At least 1 between two values without an order, as between one that is there and none.
    found: Array = np.minimum(np.abs(one[:, None] - other), 1.0)
    return found
