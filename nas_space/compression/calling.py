"""Call a network with inputs in any of the forms that a user may give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import UsageError

__all__ = ["arguments_of", "call"]


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
