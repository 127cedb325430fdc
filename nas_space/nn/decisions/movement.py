"""Functions that put dimensions of a mixture's tensors, or several tensors, in another order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...mutable import MutableExpression
from ..places import Indices
from .cases import run_by_cases
from .elementwise import arguments_of, axis_at, joined_axes, one_by_one, wide_of
from .marginals import Support, support_of
from .mixed_axis import MixedAxis, are_alike, axis_of
from .mixed_number import MixedNumber
from .mixed_tensor import MixedTensor, mixed_in, mixer_of
from .mixer import Mixer, Values, union

__all__ = ["cat", "expanded", "permuted", "repeated", "side_by_side", "stack", "with_or_without"]


def cat(_: str, function: Any, args: Any, kwargs: Any) -> Any:
    """Return tensors one after the other."""
    tensors, dim = arguments_of(("tensors", "dim"), {"dim": 0}, args, kwargs)
    mixer = mixer_of(mixed_in(tensors))
    number = max(wide_of(t).dim() for t in tensors)
    if any(wide_of(t).dim() != number for t in tensors):
        return NotImplemented
    dim %= number
    axes: list[Any] = []
    for other in range(number):
        if other == dim:
            axes.append(_concatenated(mixer, tensors, dim))
            continue
        first, *its = [axis_at(t, other) for t in tensors]
        if not all(are_alike(first, axis) for axis in its):
            return NotImplemented
        axes.append(first)
    return MixedTensor.of(mixer, function([wide_of(t) for t in tensors], dim), axes)


def side_by_side(name: str, _: Any, args: Any, kwargs: Any) -> Any:
    """Return tensors one after the other along their second dimension."""
    (tensors,) = arguments_of(("tensors",), {}, args, kwargs)
    if any(wide_of(t).dim() < 2 for t in tensors):
        return NotImplemented
    return cat(name, torch.cat, (tensors, 1), {})


def _concatenated(mixer: Mixer, tensors: Sequence[Any], dim: int) -> MixedAxis | None:
    parts = [axis_at(t, dim) for t in tensors]
    first = next((part for part in parts if part is not None), None)
    if first is None:
        return None
    # Remembered with its first part: the same concatenation, step by step, is one axis, and plans
    # that are remembered by the identity of axes are found again.
    sizes = [wide_of(t).shape[dim] for t in tensors]
    key = ("cat", *map(id, parts), *sizes)
    found: MixedAxis = first.remember(key, lambda: (_chain(mixer, parts, sizes), parts))[0]
    return found


def _chain(mixer: Mixer, parts: Sequence[Any], sizes: Sequence[int]) -> MixedAxis:
    # Wide tensors are concatenated whole, so a part starts at the same index in every architecture,
    # with gaps before it where the parts before are narrow.
    starts = np.cumsum([0, *sizes[:-1]])

    def indices(values: Values) -> Indices:
        return np.concatenate(
            [
                start + (np.arange(size) if part is None else part.indices(values))
                for start, size, part in zip(starts, sizes, parts, strict=True)
            ]
        )

    atoms = union(*(part.atoms for part in parts if part is not None))
    return MixedAxis(atoms, sum(sizes), indices, mixer.marginals.support)


def with_or_without(mixer: Mixer, condition: Any, tensor: Tensor, dim: int) -> Any:
    """Return a tensor that has no elements along a dimension unless a condition holds.

    Nothing is computed: the elements stay, and the axis says which architectures have them.
    """
    if isinstance(tensor, MixedTensor) and tensor.wide is None:
        there = MixedNumber(mixer, (condition,), lambda values: bool(values(condition)), condition)
        narrow = lambda x, there: x if there else x.narrow(dim, 0, 0)  # noqa: E731
        return run_by_cases("cat", narrow, (tensor, there), {})
    axes: list[MixedAxis | None] = (
        [*tensor.axes] if isinstance(tensor, MixedTensor) else [None] * tensor.dim()
    )
    own, support = axes[dim], mixer.marginals.support
    if own is None:
        size = wide_of(tensor).shape[dim]
        axes[dim] = axis_of(MutableExpression.condition(condition, size, 0), support)
    else:
        # The axis has the same support whenever it is met, the condition has not: where each step
        # draws two values of a label, what was worked out for others would be taken for all.
        key = ("optional", id(condition), support_of((condition,), support))
        axes[dim] = own.remember(key, lambda: (_optional(own, condition, support), condition))[0]
    copied = isinstance(tensor, MixedTensor) and tensor.copied
    return MixedTensor.of(mixer, wide_of(tensor), axes, copied=copied)


def _optional(own: MixedAxis, condition: Any, support: Support) -> MixedAxis:
    def indices(values: Values) -> Indices:
        return own.indices(values) if values(condition) else np.arange(0)

    return MixedAxis(union((condition,), own.atoms), own.size, indices, support)


def stack(_: str, function: Any, args: Any, kwargs: Any) -> Any:
    """Return tensors along a new dimension."""
    tensors, dim = arguments_of(("tensors", "dim"), {"dim": 0}, args, kwargs)
    axes = joined_axes(tensors)
    if axes is None or len({wide_of(t).shape for t in tensors}) > 1:
        return NotImplemented
    if any(axis_at(t, d) is None and axes[d] for t in tensors for d in range(len(axes))):
        return NotImplemented
    dim %= len(axes) + 1
    mixer = mixer_of(mixed_in(tensors))
    output = function([wide_of(t) for t in tensors], dim)
    return MixedTensor.of(mixer, output, (*axes[:dim], None, *axes[dim:]))


def permuted(_: str, function: Any, args: Any, kwargs: Any) -> Any:
    """Return a tensor with its dimensions in another order."""
    tensor = args[0] if args else kwargs["input"]
    # torch itself says where dimensions go: those of a meta tensor are told apart by their sizes.
    probe = torch.empty([*range(2, 2 + tensor.wide.dim())], device="meta")
    order = [size - 2 for size in function(probe, *args[1:], **kwargs).shape]
    output = function(tensor.wide, *args[1:], **kwargs)
    axes = [tensor.axes[place] for place in order]
    return MixedTensor.of(tensor.mixer, output, axes, copied=tensor.copied)


def repeated(_: str, function: Any, args: Any, kwargs: Any) -> Any:
    """Return copies of a tensor side by side."""
    tensor = args[0]
    times = one_by_one(args[1:] or tuple(kwargs.values()))
    n = tensor.wide.dim()
    if not all(isinstance(t, int) for t in times) or len(times) < n:
        return NotImplemented
    new = len(times) - n
    on_axes = [axis is not None and times[new + d] != 1 for d, axis in enumerate(tensor.axes)]
    if any(on_axes):
        return NotImplemented
    axes = (*[None] * new, *tensor.axes)
    return MixedTensor.of(tensor.mixer, function(tensor.wide, *times), axes)


def expanded(_: str, function: Any, args: Any, kwargs: Any) -> Any:
    """Return a tensor of which dimensions of size 1 are made larger."""
    tensor = args[0]
    sizes = one_by_one(args[1:] or (kwargs.get("size"),))
    new = len(sizes) - tensor.wide.dim()
    wide: list[int] = list(sizes)
    own = tensor.sizes()
    for dim, axis in enumerate(tensor.axes):
        if axis is None:
            continue
        size = sizes[new + dim]
        same = isinstance(size, MixedNumber) and size.key == getattr(own[dim], "key", None)
        if not same and not (isinstance(size, int) and size == -1):
            return NotImplemented
        wide[new + dim] = axis.size
    if not all(isinstance(size, int) for size in wide):
        return NotImplemented
    axes = (*[None] * new, *tensor.axes)
    return MixedTensor.of(tensor.mixer, function(tensor.wide, *wide), axes, copied=tensor.copied)
