"""Put the weights of a network that was frozen from a space, and trained, back into the space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .layouts import indices
from .refitting import paths
from .sorting import Axis, TensorLayout
from .symbolic import own_tensors

__all__ = ["absorb"]


def absorb(
    space: nn.Module, plan: TensorLayout, network: nn.Module, arch: Mapping[str, Any]
) -> None:
    """Copy the tensors of a network to where they come from; see :meth:`ElasticSpace.absorb`.

    The network is what the space is frozen to: see :func:`~.recognition.frozen_to`.
    """
    values = plan.values(arch)
    axes: dict[tuple[str, str], list[Axis]] = {}
    for axis in plan.axes:
        for place in axis.places:
            axes.setdefault(place, []).append(axis)
    ours, theirs = dict(space.named_modules()), dict(network.named_modules())
    found: list[tuple[Tensor, tuple[Tensor, ...], Tensor]] = []
    for small, large in paths(space, arch):
        for name, tensor in own_tensors(theirs[small]).items():
            whole = own_tensors(ours[large])[name]
            # What no layout says is whole, or the middle of a kernel.
            kept = [
                torch.arange(size) + (most - size) // 2
                for size, most in zip(tensor.shape, whole.shape, strict=True)
            ]
            for axis in axes.get((large, name), ()):
                kept[axis.dim] = torch.from_numpy(indices(axis.layout, values, plan.sizes)[0])
            mesh = torch.meshgrid(*kept, indexing="ij") if kept else ()
            found.append((whole, mesh, tensor))
    with torch.no_grad():
        for whole, mesh, tensor in found:
            if mesh:
                whole[tuple(m.to(whole.device) for m in mesh)] = tensor.to(whole)
            else:
                whole.copy_(tensor)
