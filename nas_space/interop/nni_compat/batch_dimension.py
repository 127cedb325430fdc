"""Which dimension of a network's inputs is the batch, found by what its layers are given."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map_only

from ...mutable import Mutable
from ...nn.structure import Survey
from ...tables.model import BareStructure
from .contexts import recursive_freeze

__all__ = ["batch_dimension", "cut"]

_SEQUENCES = (nn.MultiheadAttention, nn.RNNBase)
"""Layers that say by ``batch_first`` where the batch is in what they take."""


def batch_dimension(space: nn.Module, args: Any) -> int | None:
    """Return the dimension along which inputs are samples; ``None`` if there is none.

    That is the first one, unless a layer takes the sequence first.  Where there are such layers,
    the default architecture is run on inputs that are cut along each of their first dimensions in
    turn: along that of the batch, each of those layers gets one sample of its sequence, the whole
    of it.

    Parameters
    ----------
    space
        A space, or any other module.
    args
        Inputs, as of :class:`~nas_space.interop.nni_compat.FlopsParamsProfiler`.
    """
    if not any(isinstance(module, _SEQUENCES) for module in space.modules()):
        return 0
    structure = space.structure() if isinstance(space, Mutable) else Survey().contents(space)
    sample = {} if structure is None else dict(BareStructure(structure).default().active)
    network, _ = recursive_freeze(space, sample)
    whole = _given(network, args)
    if whole == []:
        return 0  # it has other layers only
    for dim in range(2):
        found = _given(network, cut(args, dim))
        if (
            whole
            and found
            and all(
                shape == _one_sample(layer, of_all)
                for (layer, of_all), (_, shape) in zip(whole, found, strict=True)
            )
        ):
            return dim
    return None


def cut(args: Any, dim: int) -> Any:
    """Return inputs of which one dimension is cut to one; those that lack it stay."""
    return tree_map_only(torch.Tensor, lambda x: x.narrow(dim, 0, 1) if x.dim() > dim else x, args)


def _one_sample(layer: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of one sample of what a layer takes; the whole, if it has no batch."""
    batch = None if len(shape) < 3 else 0 if layer.batch_first else 1
    return tuple(1 if dim == batch else size for dim, size in enumerate(shape))


def _given(network: nn.Module, args: Any) -> list[tuple[nn.Module, tuple[int, ...]]] | None:
    """Return the shape of what each sequence layer takes; ``None`` if the network does not run."""
    found: list[tuple[nn.Module, tuple[int, ...]]] = []

    def note(layer: Any, inputs: Any, kwargs: Any) -> None:
        tensors = [x for x in tree_leaves((inputs, kwargs)) if isinstance(x, torch.Tensor)]
        found.append((layer, tuple(tensors[0].shape)))

    hooks = [
        module.register_forward_pre_hook(note, with_kwargs=True)
        for module in network.modules()
        if isinstance(module, _SEQUENCES)
    ]
    given = args if isinstance(args, (tuple, list)) else (args,)
    named = given[-1] if len(given) > 1 and isinstance(given[-1], dict) else {}
    training = network.training
    try:
        with torch.no_grad():
            network.eval()(*given[: len(given) - bool(named)], **named)
    except Exception:  # noqa: BLE001 - inputs that are cut elsewhere need not fit together
        return None
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return found
