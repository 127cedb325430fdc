"""Copy a network whatever it has run on."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

__all__ = ["copied"]

M = TypeVar("M", bound=nn.Module)


def copied(net: M, instead: Mapping[int, Any] | None = None) -> M:
    """Return a copy of a network.

    ``copy.deepcopy`` refuses tensors that were computed from parameters, which weight norm,
    spectral norm and pruning by hooks keep from one forward to the next.  Here they are copied
    without what they were computed from.

    Parameters
    ----------
    instead
        By identity of something in the network, what takes its place in the copy.

    Examples
    --------
    >>> from torch.nn.utils import prune
    >>> layer = prune.random_unstructured(nn.Linear(4, 4), "weight", 2)
    >>> copied(layer).weight_orig is layer.weight_orig
    False
    """
    computed = {
        id(value): value.detach().clone()
        for module in net.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    return copy.deepcopy(net, computed | dict(instead or {}))
