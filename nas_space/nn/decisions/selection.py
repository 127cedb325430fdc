"""Functions that take some elements of a mixture's tensors, in some order, along a dimension."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..places import Indices
from .marginals import Support
from .mixed_axis import MixedAxis
from .mixed_number import MixedNumber
from .mixed_tensor import MixedTensor, mixed_in
from .mixer import Values, readers_of, union
from .refusals import Absent

if TYPE_CHECKING:
    pass
from .elementwise import Rule, arguments_of, axis_at, joined_axes, wide_of

__all__ = ["Ranks", "along_own_dims", "get_item", "narrow", "select", "set_item", "split", "unbind"]

Ranks = Callable[[int, Values], Any]
"""Of so many elements, which are taken under some values, in order."""


def _selected(
    tensor: Any, dim: int, key: Any, ranks: Ranks, how: Any = (), *, views: bool = True
) -> Any:
    """What takes some of the elements along a dimension, in some order, or several times.

    Where torch gives a copy, ``views`` is false: what is changed later must not be seen in both.
    """
    axis = tensor.axes[dim]
    numbers, support = mixed_in(how), tensor.mixer.marginals.support
    key = (key, tuple(item.key for item in numbers))
    try:
        kept, made, _ = axis.remember(
            key, lambda: (*_selection(axis, ranks, numbers, support), numbers)
        )
    except (Absent, IndexError, ValueError, ZeroDivisionError, RuntimeError):
        return NotImplemented
    wide, copied = _taken(tensor.wide, dim, kept)
    axes = (*tensor.axes[:dim], made, *tensor.axes[dim + 1 :])
    if not views:
        return MixedTensor.of(tensor.mixer, wide if copied else wide.clone(), axes)
    return MixedTensor.of(tensor.mixer, wide, axes, copied=copied or tensor.copied)


def _selection(
    axis: MixedAxis, ranks: Ranks, numbers: Sequence[MixedNumber], support: Support
) -> tuple[Indices, MixedAxis | None]:
    atoms = union(axis.atoms, *(item.atoms for item in numbers))

    def sources(values: Values) -> Indices:
        there = axis.indices(values)
        return there[ranks(len(there), values)]

    each = [sources(values) for values in readers_of(atoms, support)]
    kept = np.unique(np.concatenate(each))
    if not len(kept):
        raise ValueError("nothing is left")
    if all(np.array_equal(one, kept) for one in each):
        return kept, None
    return kept, MixedAxis(
        atoms, len(kept), lambda values: np.searchsorted(kept, sources(values)), support
    )


def _plainly(how: Any, values: Values) -> Any:
    """An argument as it is under some values."""
    if isinstance(how, MixedNumber):
        return how.at(values)
    if isinstance(how, slice):
        return slice(*(_plainly(part, values) for part in (how.start, how.stop, how.step)))
    return (
        type(how)(_plainly(item, values) for item in how) if isinstance(how, (tuple, list)) else how
    )


def _key_of(how: Any) -> Any:
    """What tells an argument from others, but for the numbers that differ."""
    if isinstance(how, slice):
        return ("slice", *(_key_of(part) for part in (how.start, how.stop, how.step)))
    if isinstance(how, (tuple, list)):
        return tuple(map(_key_of, how))
    return how.key if isinstance(how, MixedNumber) else how


def _taken(wide: Tensor, dim: int, kept: Indices) -> tuple[Tensor, bool]:
    """Some elements of a tensor, and whether that is a copy."""
    if len(kept) == wide.shape[dim]:
        return wide, False
    if kept[-1] - kept[0] + 1 == len(kept):
        return wide.narrow(dim, int(kept[0]), len(kept)), False
    index = torch.from_numpy(np.asarray(kept)).to(wide.device)
    return wide.index_select(dim, index), True


def _piece(pieces_of: Any, place: int, n: int, values: Values) -> Any:
    return pieces_of(n, values)[place].numpy()


def _slice(bounds: slice, n: int, values: Values) -> Any:
    return np.arange(n)[_plainly(bounds, values)]


def split(name: str, function: Any, args: Any, kwargs: Any) -> Any:
    """Return the pieces of a tensor."""
    second = {"chunk": "chunks", "split": "split_size_or_sections"}.get(name, "indices_or_sections")
    kwargs = {
        second if k in ("split_size", "sections", "indices") else k: v for k, v in kwargs.items()
    }
    kwargs = {("input" if k == "tensor" else k): v for k, v in kwargs.items()}
    tensor, how, dim = arguments_of(("input", second, "dim"), {"dim": 0}, args, kwargs)
    dim %= tensor.wide.dim()
    if tensor.axes[dim] is None:
        pieces = function(tensor.wide, how, dim)
        return type(pieces)(MixedTensor.of(tensor.mixer, p, tensor.axes) for p in pieces)
    if isinstance(how, Tensor):
        return NotImplemented

    def pieces_of(n: int, values: Values) -> Any:
        return function(torch.arange(n), _plainly(how, values), 0)

    axis = tensor.axes[dim]
    atoms = union(axis.atoms, *(item.atoms for item in mixed_in(how)))
    try:
        counts = {
            len(pieces_of(len(axis.indices(v)), v))
            for v in readers_of(atoms, tensor.mixer.marginals.support)
        }
    except (Absent, RuntimeError, TypeError):
        return NotImplemented
    if len(counts) != 1:
        return NotImplemented
    found = [
        _selected(
            tensor,
            dim,
            (name, _key_of(how), place),
            partial(_piece, pieces_of, place),
            how,
        )
        for place in range(counts.pop())
    ]
    return NotImplemented if any(p is NotImplemented for p in found) else tuple(found)


def along_own_dims(*names: str) -> Rule:
    """Return a rule for functions of a tensor that move elements along dimensions of their own."""

    def rule(name: str, function: Any, args: Any, kwargs: Any) -> Any:
        given = arguments_of(("input", *names), dict.fromkeys(names), args, kwargs)
        tensor, dims = given[0], given[-1]
        if name == "flip":
            dims = args[1:] if len(args) > 2 else dims
        if dims is None:
            return NotImplemented
        dims = [dims] if isinstance(dims, int) else list(dims)
        dims = [dim % tensor.wide.dim() for dim in dims]
        if all(tensor.axes[dim] is None for dim in dims):
            output = function(tensor.wide, *args[1:], **kwargs)
            return MixedTensor.of(tensor.mixer, output, tensor.axes)
        if len(dims) > 1:
            return NotImplemented
        fixed = given[1:-1]
        if any(isinstance(item, (Tensor, MixedNumber)) for item in fixed):
            return NotImplemented
        key = (name, tuple(map(repr, fixed)))

        def ranks(n: int, _: Values) -> Any:
            moved = [item if not isinstance(item, (tuple, list)) else item[0] for item in fixed]
            along = (0,) if name == "flip" else 0
            return function(torch.arange(n), *moved, along).numpy()

        return _selected(tensor, dims[0], key, ranks, views=False)

    return rule


def narrow(_: str, function: Any, args: Any, kwargs: Any) -> Any:
    """Return a part of a dimension."""
    names = ("input", "dim", "start", "length")
    tensor, dim, start, length = arguments_of(names, {}, args, kwargs)
    dim %= tensor.wide.dim()
    if tensor.axes[dim] is None:
        output = function(tensor.wide, dim, start, length)
        return MixedTensor.of(tensor.mixer, output, tensor.axes)

    def ranks(n: int, values: Values) -> Any:
        first, number = _plainly(start, values), _plainly(length, values)
        first = first % n if first < 0 else first
        if first + number > n:
            raise IndexError
        return np.arange(first, first + number)

    how = (start, length)
    return _selected(tensor, dim, ("narrow", _key_of(how)), ranks, how)


def get_item(_: str, _function: Any, args: Any, kwargs: Any) -> Any:
    """Return what an index takes."""
    del kwargs
    tensor, index = args
    if not isinstance(tensor, MixedTensor):
        return NotImplemented
    index = index if isinstance(index, tuple) else (index,)
    if any(item is True or item is False for item in index):
        return NotImplemented
    plain = (int, slice, type(None), type(Ellipsis))
    if not all(isinstance(item, plain) for item in index):
        return NotImplemented
    taken = sum(item is not None and item is not Ellipsis for item in index)
    rest = [slice(None)] * (tensor.wide.dim() - taken)
    place = next((i for i, item in enumerate(index) if item is Ellipsis), len(index))
    left: list[Any] = []  # of the index, once what differs has been taken
    found: Any = tensor
    dim = 0
    for item in (*index[:place], *rest, *index[place + 1 :]):
        if item is None:
            left.append(None)
            continue
        axis = tensor.axes[dim]
        if axis is None or (isinstance(item, slice) and item == slice(None)):
            left.append(item)
        else:
            bounds = item if isinstance(item, slice) else slice(item, item + 1 or None)
            found = _selected(
                found,
                dim,
                _key_of(bounds),
                partial(_slice, bounds),
                (bounds.start, bounds.stop, bounds.step),
            )
            if found is NotImplemented:
                return NotImplemented
            if isinstance(item, int) and (axis_at(found, dim) or wide_of(found).shape[dim] != 1):
                return NotImplemented  # it is another one in other architectures
            left.append(0 if isinstance(item, int) else slice(None))
        dim += 1
    axes: list[MixedAxis | None] = []
    dim = 0
    for item in left:
        if not isinstance(item, int):
            axes.append(None if item is None else axis_at(found, dim))
        dim += item is not None
    copied = isinstance(found, MixedTensor) and found.copied
    return MixedTensor.of(tensor.mixer, wide_of(found)[tuple(left)], axes, copied=copied)


def set_item(_: str, function: Any, args: Any, kwargs: Any) -> Any:
    """Change elements in place, where that is along dimensions that do not differ."""
    del kwargs
    tensor, index, value = args
    plain = (int, slice, type(None), type(Ellipsis))
    parts = index if isinstance(index, tuple) else (index,)
    if isinstance(index, MixedTensor):  # a mask
        axes = joined_axes([tensor, index])
        if axes is None or len(axes) != len(tensor.axes) or isinstance(value, Tensor):
            return NotImplemented
        index = wide_of(index)
    elif not all(isinstance(item, plain) for item in parts) or isinstance(value, Tensor):
        return NotImplemented
    else:
        taken = sum(item is not None and item is not Ellipsis for item in parts)
        place = next((i for i, item in enumerate(parts) if item is Ellipsis), len(parts))
        rest = [slice(None)] * (tensor.wide.dim() - taken)
        full = [item for item in (*parts[:place], *rest, *parts[place + 1 :]) if item is not None]
        if any(
            axis is not None and not (isinstance(item, slice) and item == slice(None))
            for axis, item in zip(tensor.axes, full, strict=True)
        ):
            return NotImplemented
    if tensor.copied or isinstance(value, MixedNumber):
        return NotImplemented
    return function(tensor.wide, index, value)


def select(_: str, function: Any, args: Any, kwargs: Any) -> Any:
    """Return one element of a dimension, which is gone."""
    del function
    tensor, dim, index = arguments_of(("input", "dim", "index"), {}, args, kwargs)
    dim %= tensor.wide.dim()
    return get_item("", None, (tensor, (*[slice(None)] * dim, index)), {})


def unbind(_: str, function: Any, args: Any, kwargs: Any) -> Any:
    """Return all elements of a dimension, one by one."""
    tensor, dim = arguments_of(("input", "dim"), {"dim": 0}, args, kwargs)
    dim %= tensor.wide.dim()
    if tensor.axes[dim] is not None:
        return NotImplemented
    axes = (*tensor.axes[:dim], *tensor.axes[dim + 1 :])
    return tuple(MixedTensor.of(tensor.mixer, t, axes) for t in function(tensor.wide, dim))
