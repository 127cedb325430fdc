"""Sizes that say where their elements lie, and cutting tensors to such sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["Indices", "Places", "centred", "leading", "spread"]

Indices = npt.NDArray[np.int64]
"""Places of elements along a dimension, in order."""

_FEW = 16
"""Up to how many pieces are copied one by one, rather than element by element."""


class Places(int):
    """A size, with where its elements lie in the dimension that is owned.

    A plain number stands for what comes first.

    Attributes
    ----------
    runs
        Start and length of each piece, in order.
    """

    runs: tuple[tuple[int, int], ...]

    @staticmethod
    def of(indices: Indices) -> int:
        """Return the size of a list of places: plain if they are the first ones."""
        size = len(indices)
        if not size:
            return 0
        breaks = np.flatnonzero(np.diff(indices) != 1) + 1
        starts = [0, *breaks.tolist()]
        ends = [*breaks.tolist(), size]
        runs = tuple((int(indices[a]), b - a) for a, b in zip(starts, ends, strict=True))
        if len(runs) == 1 and runs[0][0] == 0:
            return size
        return _places(size, runs)

    def take(self, tensor: Tensor, dim: int) -> Tensor:
        """Return the elements of a tensor that are there, along a dimension."""
        if len(self.runs) == 1:
            return tensor.narrow(dim, *self.runs[0])
        if len(self.runs) <= _FEW:
            return torch.cat([tensor.narrow(dim, *run) for run in self.runs], dim)
        indices = np.concatenate([np.arange(start, start + n) for start, n in self.runs])
        return tensor.index_select(dim, torch.from_numpy(indices).to(tensor.device))

    def __eq__(self, other: object) -> bool:
        # No plain number is the same, for that is what comes first.
        return isinstance(other, Places) and self.runs == other.runs

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = int.__hash__

    def __reduce__(self) -> tuple[Any, ...]:
        return _places, (int(self), self.runs)


def _places(size: int, runs: tuple[tuple[int, int], ...]) -> Places:
    made = Places(size)
    made.runs = runs
    return made


def leading(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the part of a tensor that a shape takes: along each dimension what comes first.

    A size that is :class:`Places` says itself which elements it takes.
    """
    for dim, size in enumerate(shape):
        if type(size) is Places:
            tensor = size.take(tensor, dim)
        elif tensor.shape[dim] != size:
            tensor = tensor.narrow(dim, 0, size)
    return tensor


def centred(tensor: Tensor, shape: Sequence[int], start: int) -> Tensor:
    """Return the leading part along dimensions before ``start``, the middle along the others."""
    tensor = leading(tensor, shape[:start])
    for dim in range(start, len(shape)):
        size = int(shape[dim])
        if tensor.shape[dim] != size:
            tensor = tensor.narrow(dim, (tensor.shape[dim] - size) // 2, size)
    return tensor


def spread(value: Any, n: int) -> tuple[Any, ...]:
    """Return an argument that is one number or one for each of ``n`` dimensions."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * n
