"""Whether layers read their inputs as these lie, found out while a space is followed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import torch
from torch import nn

from ..nn.elastic import ElasticModule
from ..nn.root import RootModule
from .execution import name_of
from .meta_copy import Twins
from .trace import FunctionCall

__all__ = ["read_otherwise"]

_MOVING = frozenset(
    {"cat", "concat", "concatenate", "hstack", "vstack", "dstack", "column_stack", "stack"}
    | {"chunk", "split", "tensor_split", "unbind", "unfold", "flip", "roll", "repeat", "tile"}
    | {"expand", "expand_as", "broadcast_to", "repeat_interleave", "permute", "transpose", "glu"}
    | {"movedim", "moveaxis", "swapaxes", "swapdims", "t", "T", "mT", "einsum", "index_select"}
    | {"__getitem__", "gather", "take_along_dim", "pixel_shuffle", "pixel_unshuffle", "kron"}
    | {"channel_shuffle", "native_channel_shuffle", "unflatten"}
)
"""Functions after which the elements of a width may lie otherwise than first of all its own."""


def read_otherwise(
    space: nn.Module,
    calls: Iterable[FunctionCall],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> list[str]:
    """Return a sentence for each layer that reads elements by the weights of others.

    See :func:`nas_space.nn.decisions.misread`.  Following a space as a mixture takes about as
    long as following it here, so that is done where it could find something: where tensors of
    differing shape are put together or in another order, and an elastic layer reads.

    Parameters
    ----------
    space
        The space.
    calls
        The calls of functions in its forward, as far as they are given what differs.
    args, kwargs
        What it was followed on: meta tensors.
    """
    if not isinstance(space, RootModule) or not any(
        isinstance(module, ElasticModule) for module in space.modules()
    ):
        return []
    if not any(map(_moves, calls)):
        return []
    from ..nn.decisions import misread  # loads all of mixtures

    try:
        return misread(Twins(space, cache(_on_meta))[id(space)], *args, **kwargs)
    except Exception:  # noqa: BLE001 - the forward is not ours; costs are not to fail of advice
        return []


def _moves(call: FunctionCall) -> bool:
    return any(
        not _MOVING.isdisjoint(name_of(execution.call[0]).split("."))
        for execution in call.executions.values[:1]
    )


def _on_meta(tensor: torch.Tensor) -> torch.Tensor:
    made = torch.empty_like(tensor, device="meta")
    return nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made
