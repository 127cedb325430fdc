"""Functions along some dimensions of a mixture's tensors, that do the same for all others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .mixed_tensor import MixedTensor, mixed_in

if TYPE_CHECKING:
    pass
from .elementwise import Rule, arguments_of

__all__ = ["along_given_dims", "normalized_dims", "of_last_dims", "padded_dims", "spatial_dims"]


def along_given_dims(names: Sequence[str], defaults: dict[str, Any]) -> Rule:
    """Make a rule for functions along dimensions that they are given."""

    def rule(_: str, function: Any, args: Any, kwargs: Any) -> Any:
        kwargs = {("dim" if k == "axis" else k): v for k, v in kwargs.items()}
        given = arguments_of(("input", *names), {**dict.fromkeys(names), **defaults}, args, kwargs)
        tensor, dims = given[0], given[1 + names.index("dim")]
        if not isinstance(tensor, MixedTensor) or dims is None or isinstance(dims, str):
            return NotImplemented
        if len(mixed_in((args, kwargs))) > 1:
            return NotImplemented
        dims = [dims] if isinstance(dims, int) else list(dims)
        if not all(isinstance(dim, int) for dim in dims):
            return NotImplemented
        dims = [dim % tensor.wide.dim() for dim in dims]
        if not dims or any(tensor.axes[dim] is not None for dim in dims):
            return NotImplemented
        rest = args[1:] if args else ()
        extra = {k: v for k, v in kwargs.items() if k != "input"}
        output = function(tensor.wide, *rest, **extra)
        axes = list(tensor.axes)
        flat = output if isinstance(output, Tensor) else output[0]
        if flat.dim() < len(axes):
            axes = [axis for dim, axis in enumerate(axes) if dim not in dims]
        if isinstance(output, Tensor):
            return MixedTensor.of(tensor.mixer, output, axes)
        return type(output)([MixedTensor.of(tensor.mixer, each, axes) for each in output])

    return rule


def of_last_dims(number: int | Callable[[Any, Any], int]) -> Rule:
    """Return a rule for functions of the last so many dimensions."""

    def rule(name: str, function: Any, args: Any, kwargs: Any) -> Any:
        del name
        tensor = args[0] if args else kwargs.get("input")
        if not isinstance(tensor, MixedTensor) or len(mixed_in((args, kwargs))) > 1:
            return NotImplemented
        try:
            n = number if isinstance(number, int) else number(args, kwargs)
        except (TypeError, KeyError, IndexError):
            return NotImplemented
        if any(axis is not None for axis in tensor.axes[len(tensor.axes) - n :]):
            return NotImplemented
        rest = args[1:]
        extra = {k: v for k, v in kwargs.items() if k != "input"}
        output = function(tensor.wide, *rest, **extra)
        many = (output,) if isinstance(output, Tensor) else tuple(output)
        made = [
            MixedTensor.of(tensor.mixer, each, (*tensor.axes[: len(tensor.axes) - n], *[None] * n))
            for each in many
        ]
        return made[0] if isinstance(output, Tensor) else tuple(made)

    return rule


def _spatial(number: int) -> Rule:
    """A rule for functions with channels before the last so many dimensions, which they mix."""
    return of_last_dims(number + 1)


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
