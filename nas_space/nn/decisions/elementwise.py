"""Functions of a mixture's tensors that work element by element, and what all rules share.

They are computed once, on the wide tensors, if the operands have the same axes: then elements that
meet there are those that meet in every architecture.
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
    # A change in place is one of the wide tensor, and must reach whatever torch would have it
    # reach: not where ``wide`` is a copy that stands for a view.  Nor may the result have axes
    # that the first operand has not.  (``inplace`` always comes by name: the functions of torch
    # pass their arguments so to those that override them.)
    in_place = is_in_place(name) or kwargs.get("inplace")
    if in_place and not (
        isinstance(first, MixedTensor)
        and not first.copied
        and len(axes) == len(first.axes)
        and all(map(are_alike, axes, first.axes))
    ):
        return NotImplemented
    output = function(*map(wide_of, args), **{k: wide_of(v) for k, v in kwargs.items()})
    # Some give what they are given: ``contiguous``, ``to``.
    if in_place or output is wide_of(first):
        return first
    if not isinstance(output, Tensor):  # as of ``where`` with a condition alone
        return NotImplemented
    copied = isinstance(first, MixedTensor) and first.is_copied_in(output)
    return MixedTensor.of(mixer, output, axes, copied=copied)


def wide_of(item: Any) -> Any:
    """Return the tensor of all elements, where something is of a mixture."""
    return item.wide if isinstance(item, MixedTensor) else item


def joined_axes(operands: Sequence[Tensor]) -> Axes | None:
    """Return the axes of what operands broadcast to; ``None`` if theirs disagree.

    A plain dimension goes with an axis only if it is broadcast, that is of size 1.  One that is as
    long as the wide tensor does not: no architecture but the widest has as many elements.
    """
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
"""Other names of arguments, of methods and of NumPy."""


def one_by_one(sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return sizes that are given one by one, or as one tuple."""
    together = len(sizes) == 1 and isinstance(sizes[0], (tuple, list))
    return tuple(sizes[0]) if together else sizes
