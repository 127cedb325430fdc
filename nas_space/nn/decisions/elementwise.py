"""Functions of a mixture's tensors that work element by element: axes are joined.

Here, too, is what all rules of functions have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from .mixed_axis import Axes, MixedAxis, are_alike
from .mixed_number import MixedNumber
from .mixed_tensor import MixedTensor, mixer_of

__all__ = [
    "Rule",
    "arguments_of",
    "axis_at",
    "elementwise",
    "is_in_place",
    "joined_axes",
    "one_by_one",
    "wide_of",
]


Rule = Callable[[str, Any, Any, Any], Any]
"""Takes the name of a function, the function, and its arguments."""


def is_in_place(name: str) -> bool:
    """Return whether a function changes its first argument."""
    return name.endswith("_") and not name.endswith("__")


def elementwise(name: str, function: Any, args: Any, kwargs: Any) -> Any:
    """Return what an elementwise function gives."""
    everything = (*args, *kwargs.values())
    if any(isinstance(item, MixedNumber) for item in everything):
        return NotImplemented
    operands = [item for item in everything if isinstance(item, Tensor)]
    axes = joined_axes(operands)
    if axes is None:
        return NotImplemented
    mixer = mixer_of([o for o in operands if isinstance(o, MixedTensor)])
    first = operands[0]
    in_place = is_in_place(name) or kwargs.get("inplace")
    if in_place and not (
        isinstance(first, MixedTensor)
        and not first.copied
        and len(axes) == len(first.axes)
        and all(map(are_alike, axes, first.axes))
    ):
        return NotImplemented
    output = function(*map(wide_of, args), **{k: wide_of(v) for k, v in kwargs.items()})
    return first if in_place else MixedTensor.of(mixer, output, axes)


def wide_of(item: Any) -> Any:
    """Return the tensor of all elements, where something is of a mixture."""
    return item.wide if isinstance(item, MixedTensor) else item


def joined_axes(operands: Sequence[Tensor]) -> Axes | None:
    """Return the axes of operands taken element by element; ``None`` if they disagree."""
    if len(operands) == 1 and isinstance(operands[0], MixedTensor):
        return operands[0].axes
    known = [(wide_of(o).shape, o.axes if isinstance(o, MixedTensor) else ()) for o in operands]
    found: list[MixedAxis | None] = []
    for back in range(1, max(len(shape) for shape, _ in known) + 1):
        axis: MixedAxis | None = None
        plain = 1
        for shape, axes in known:
            if back > len(shape):
                continue
            its = axes[-back] if axes else None
            if its is None:
                plain = plain if shape[-back] == 1 else shape[-back]
            elif axis is None:
                axis = its
            elif not axis.is_like(its):
                return None
        if axis is not None and plain != 1:
            return None
        found.append(axis)
    return tuple(reversed(found))


def axis_at(tensor: Any, dim: int) -> MixedAxis | None:
    """Return the axis of a dimension, if that differs."""
    return tensor.axes[dim] if isinstance(tensor, MixedTensor) else None


def arguments_of(
    names: Sequence[str], defaults: dict[str, Any], args: Any, kwargs: Any
) -> list[Any]:
    """Return arguments in the order of some names, by whichever of their names they are given."""
    named = {_SYNONYMS.get(name, name): value for name, value in kwargs.items()}
    given = {**defaults, **dict(zip(names, args, strict=False)), **named}
    return [given[name] for name in names]


_SYNONYMS = {
    "axis": "dim",
    "tensor": "input",
    "split_size": "split_size_or_sections",
    "sections": "indices_or_sections",
    "indices": "indices_or_sections",
}
"""Arguments that methods, or NumPy, call otherwise than functions."""


def one_by_one(sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return sizes that are given one by one, or as one tuple."""
    together = len(sizes) == 1 and isinstance(sizes[0], (tuple, list))
    return tuple(sizes[0]) if together else sizes
