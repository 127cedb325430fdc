"""Call a network with inputs in any of the forms that a user may give them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..randomness import preserved_randomness

__all__ = ["arguments_of", "call", "filled_rows", "undisturbed"]


def arguments_of(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return positional arguments and those by name.

    Raises
    ------
    UsageError
        If the inputs are neither a tensor, nor a tuple, nor a dictionary.
    """
    if isinstance(inputs, Tensor):
        return (inputs,), {}
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if isinstance(inputs, (tuple, list)):
        return tuple(inputs), {}
    raise UsageError(
        "inputs are a tensor, a tuple of arguments or a dict of arguments by name, but got a "
        f"{type(inputs).__name__}"
    )


def call(net: Any, inputs: Any) -> Any:
    """Return what a network makes of inputs."""
    args, kwargs = arguments_of(inputs)
    return net(*args, **kwargs)


@contextmanager
def undisturbed(net: nn.Module) -> Iterator[None]:
    """Enter a context after which global generators are as before, that of the device included."""
    tensors = (*net.parameters(), *net.buffers())
    with preserved_randomness(next((t.device for t in tensors), torch.device("cpu"))):
        yield


def filled_rows(inputs: Any, x: Tensor) -> Tensor | None:
    """Return which rows of a matrix of activations are not padding; ``None`` if all may count.

    The rows are those of ``x.reshape(-1, x.shape[-1])``.  What is padding is told by the
    ``attention_mask`` in the inputs, and ``decoder_attention_mask``, where they are of that shape.
    """
    if not isinstance(inputs, Mapping):
        return None
    masks = [
        mask.reshape(-1) != 0
        for name, mask in inputs.items()
        if name.endswith("attention_mask")
        and isinstance(mask, Tensor)
        and mask.shape == x.shape[:-1]
    ]
    if not masks:
        return None
    filled: Tensor = torch.stack(masks).all(0)
    return filled.to(x.device)
