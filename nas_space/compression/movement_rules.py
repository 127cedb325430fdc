"""What functions that move data ask of sizes: parts, every second element, padding, resizing."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .rules import fixed, int_hint, new_like, rule, same, spread

__all__: list[str] = []  # the rules are found by the functions that they are of


@rule(torch.chunk, Tensor.chunk)
def _chunk(input: Tensor, chunks: int, dim: int = 0) -> Any:
    size = input.shape[dim]
    if type(size) is int:
        return NotImplemented
    if int_hint(size) % chunks:
        return NotImplemented
    same(size % chunks, 0)
    return tuple(input.narrow(dim, i * (size // chunks), size // chunks) for i in range(chunks))


@rule(torch.split, Tensor.split)
def _split(tensor: Tensor, split_size: Any = None, dim: int = 0, **kwargs: Any) -> Any:
    split_size = kwargs.get("split_size_or_sections", split_size)
    size = tensor.shape[dim]
    if isinstance(split_size, (list, tuple)):
        total: Any = sum(split_size[1:], split_size[0])
        same(size, total)
        parts, start = [], 0
        for part in split_size:
            parts.append(_narrow(tensor, dim, part))
            start = start + part
        return tuple(parts)
    if type(size) is int and type(split_size) is int:
        return NotImplemented
    same(size % split_size, 0)
    count = int_hint(size) // int_hint(split_size)
    same(size, split_size * count)
    return tuple(_narrow(tensor, dim, split_size) for _ in range(count))


@rule(Tensor.__getitem__)
def _strided(input: Tensor, index: Any) -> Any:
    """Every second element, and the like, of a size that the step divides."""
    parts = index if isinstance(index, tuple) else (index,)
    if not all(isinstance(part, slice) or part is ... for part in parts):
        return NotImplemented
    place = parts.index(...) if ... in parts else len(parts)
    behind = len(parts) - place - 1
    sliced = dict(enumerate(parts[:place]))
    sliced |= {input.dim() - behind + i: part for i, part in enumerate(parts[place + 1 :])}
    strides = {dim: part for dim, part in sliced.items() if part.step not in (None, 1)}
    if not strides:
        return NotImplemented
    whole = {**dict.fromkeys(range(input.dim()), slice(None)), **sliced}
    out = input[tuple(slice(None) if dim in strides else whole[dim] for dim in sorted(whole))]
    shape = list(out.shape)
    for dim, part in strides.items():
        size, step = shape[dim], part.step
        if part.stop is not None or (part.start or 0) not in range(step) or int_hint(size) % step:
            return NotImplemented
        same(size % step, 0)
        shape[dim] = size // step
    return new_like(out, shape)


def _narrow(tensor: Tensor, dim: int, size: Any) -> Tensor:
    shape = list(tensor.shape)
    shape[dim] = size
    return new_like(tensor, shape)


@rule(F.pad)
def _pad(input: Tensor, pad: Any, mode: str = "constant", value: Any = None) -> Tensor:
    shape = list(input.shape)
    for place in range(len(pad) // 2):
        before, after = pad[2 * place], pad[2 * place + 1]
        if not (type(before) is int and before == 0 and type(after) is int and after == 0):
            shape[-1 - place] = shape[-1 - place] + before + after
    return new_like(input, shape)


@rule(F.interpolate)
def _interpolate(
    input: Tensor, size: Any = None, scale_factor: Any = None, *_: Any, **__: Any
) -> Tensor:
    n = input.dim() - 2
    if size is not None:
        extents = spread(size, n)
    else:
        factors = spread(scale_factor, n)
        extents = tuple(
            math.floor(fixed(e) * f) for e, f in zip(input.shape[2:], factors, strict=True)
        )
    return new_like(input, (*input.shape[:2], *extents))
