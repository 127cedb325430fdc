"""Functions along some dimensions of a mixture's tensors, that do the same for all others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .elementwise import Rule, arguments_of
from .mixed_tensor import MixedTensor, mixed_in

__all__ = ["along_given_dims", "normalized_dims", "of_last_dims", "padded_dims", "spatial_dims"]


def _along(dims_of: Callable[[int, Any, Any], Any]) -> Rule:
    """Return a rule for functions that mix elements along some dimensions and no others.

    If these dimensions are plain, every other one is a batch: what an element gives depends on no
    other element of its axis, so the wide tensor gives for each architecture what its own would.

    Parameters
    ----------
    dims_of
        Gives the dimensions for their number and the arguments; ``None`` where they are unknown.
    """

    def rule(_: str, function: Any, args: Any, kwargs: Any) -> Any:
        tensor = args[0] if args else kwargs.get("input")
        if not isinstance(tensor, MixedTensor) or len(mixed_in((args, kwargs))) > 1:
            return NotImplemented
        try:
            dims = dims_of(tensor.wide.dim(), args, kwargs)
        except IndexError:
            return NotImplemented
        if dims is None or any(tensor.axes[dim] is not None for dim in dims):
            return NotImplemented
        output = function(tensor.wide, *args[1:], **{k: kwargs[k] for k in kwargs if k != "input"})
        # A reduction drops its dimensions, unless it keeps them with size 1.
        axes = list(tensor.axes)
        first = output if isinstance(output, Tensor) else output[0]
        if first.dim() < len(axes):
            axes = [axis for dim, axis in enumerate(axes) if dim not in dims]
        found = [
            MixedTensor.of(tensor.mixer, each, axes, copied=tensor.is_copied_in(each))
            for each in ((output,) if isinstance(output, Tensor) else output)
        ]
        return found[0] if isinstance(output, Tensor) else type(output)(found)

    return rule


def along_given_dims(*names: str, **defaults: Any) -> Rule:
    """Return a rule for functions that are given their dimensions.

    Parameters
    ----------
    names
        The arguments after the tensor, up to the dimensions.
    defaults
        Their defaults.
    """

    def dims_of(n: int, args: Any, kwargs: Any) -> list[int] | None:
        known = {**dict.fromkeys(names), **defaults}
        dims = arguments_of(("input", *names), known, args, kwargs)[-1]
        if dims is None or isinstance(dims, str):
            return None
        dims = [dims] if isinstance(dims, int) else list(dims)
        if not dims or not all(isinstance(dim, int) for dim in dims):
            return None
        return [dim % n for dim in dims]

    return _along(dims_of)


def of_last_dims(number: int | Callable[[Any, Any], int]) -> Rule:
    """Return a rule for functions of the last dimensions, of which there are ``number``."""

    def dims_of(n: int, args: Any, kwargs: Any) -> range:
        return range(n - (number if isinstance(number, int) else number(args, kwargs)), n)

    return _along(dims_of)


def padded_dims(args: Any, kwargs: Any) -> int:
    """Return how many of the last dimensions are padded."""
    pad = kwargs.get("pad", args[1] if len(args) > 1 else None)
    return len(pad) // 2


def spatial_dims(args: Any, kwargs: Any) -> int:
    """Return how many dimensions come after the channels."""
    tensor = args[0] if args else kwargs["input"]
    return int(tensor.wide.dim()) - 2


def normalized_dims(args: Any, kwargs: Any) -> int:
    """Return how many of the last dimensions are normalised."""
    shape = kwargs.get("normalized_shape", args[1] if len(args) > 1 else None)
    return len(shape)
