"""Functions that take some elements of a mixture's tensors, in some order, along a dimension."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..places import Indices
from .elementwise import Rule, arguments_of, axis_at, joined_axes, wide_of
from .marginals import Support
from .mixed_axis import MixedAxis
from .mixed_number import MixedNumber
from .mixed_tensor import MixedTensor, mixed_in, narrowed
from .mixer import Values, readers_of, union
from .refusals import Absent

__all__ = ["Ranks", "get_item", "select", "set_item", "taking"]

Ranks = Callable[[int, Values], Any]
"""Gives which of ``n`` elements are taken in an architecture, as indices in order."""


def _selected(
    tensor: Any, dim: int, key: Any, ranks: Ranks, how: Any = (), *, views: bool = True
) -> Any:
    """Return some elements along a dimension, in some order, or several times.

    The wide result has the union of what architectures take, in the order of the wide input; the
    axis says in which order and how often each architecture has them.

    Parameters
    ----------
    tensor, dim
        A tensor, and one of its dimensions, which has an axis.
    key
        Equal for what takes the same elements.
    ranks
        Gives which of its elements an architecture takes.
    how
        The arguments that may hold numbers which differ.
    views
        Whether torch gives a view.  Where it gives a copy, so must this, as a later change in place
        would be seen in both.
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


def _key_of(how: Any) -> Any:
    """Return a key of an argument, in which numbers that differ stand as theirs."""
    if isinstance(how, slice):
        return ("slice", *(_key_of(part) for part in (how.start, how.stop, how.step)))
    if isinstance(how, (tuple, list)):
        return tuple(map(_key_of, how))
    return how.key if isinstance(how, MixedNumber) else how


def _taken(wide: Tensor, dim: int, kept: Indices) -> tuple[Tensor, bool]:
    """Return some elements of a tensor, and whether that is a copy."""
    if len(kept) == wide.shape[dim]:
        return wide, False
    if kept[-1] - kept[0] + 1 == len(kept):
        return wide.narrow(dim, int(kept[0]), len(kept)), False
    index = torch.from_numpy(np.asarray(kept)).to(wide.device)
    return wide.index_select(dim, index), True


def taking(*names: str, copies: bool = False, **defaults: Any) -> Rule:
    """Return a rule for functions that take elements along a dimension.

    The function itself says which: it is called with ``0, ..., n - 1`` instead of the ``n``
    elements of an architecture, and gives the indices of those it takes.

    Parameters
    ----------
    names
        Its arguments after the tensor, ``dim`` or ``dims`` among them.
    copies
        Whether torch gives a copy, not a view.
    defaults
        Of these arguments.
    """
    place = next(place for place, name in enumerate(names) if name in ("dim", "dims"))

    def rule(name: str, function: Any, args: Any, kwargs: Any) -> Any:
        tensor, *how = arguments_of(("input", *names), defaults, args, kwargs)
        if len(names) == 1 and len(args) > 2:  # of a method, dimensions one by one
            how = [args[1:]]
        if how[place] is None:
            return NotImplemented
        dims = [how[place]] if isinstance(how[place], int) else list(how[place])
        dims = [dim % tensor.wide.dim() for dim in dims]
        mixer, copied = tensor.mixer, tensor.copied and not copies
        if all(tensor.axes[dim] is None for dim in dims):
            found = function(tensor.wide, *how)
            if isinstance(found, Tensor):
                return MixedTensor.of(mixer, found, tensor.axes, copied=copied)
            return tuple(MixedTensor.of(mixer, p, tensor.axes, copied=copied) for p in found)
        if len(dims) > 1 or any(isinstance(item, Tensor) for item in how):
            return NotImplemented
        how[place] = 0 if isinstance(how[place], int) else (0,)
        (dim,), axis = dims, tensor.axes[dims[0]]

        def pieces(n: int, values: Values) -> Any:
            found = function(torch.arange(n), *narrowed(how, values))
            return (found,) if isinstance(found, Tensor) else found

        def ranks_of(number: int) -> Ranks:
            return lambda n, values: pieces(n, values)[number].numpy()

        atoms = union(axis.atoms, *(item.atoms for item in mixed_in(how)))
        readers = readers_of(atoms, mixer.marginals.support)
        try:
            numbers = {len(pieces(len(axis.indices(values)), values)) for values in readers}
        except (Absent, IndexError, RuntimeError, TypeError):
            return NotImplemented
        if len(numbers) != 1:
            return NotImplemented
        found = [
            _selected(
                tensor,
                dim,
                (name, _key_of(how), number),
                ranks_of(number),
                how,
                views=not copies,
            )
            for number in range(numbers.pop())
        ]
        if any(piece is NotImplemented for piece in found):
            return NotImplemented
        return tuple(found) if name in _SEVERAL else found[0]

    return rule


_SEVERAL = frozenset({"chunk", "split", "tensor_split"})
"""Functions that return pieces, even where it is one."""


def _of_each(index: Any, dims: int) -> list[Any] | None:
    """Return an index with an item for each dimension; ``None`` of one with tensors or lists."""
    items = index if isinstance(index, tuple) else (index,)
    if not all(isinstance(i, _PLAIN) and not isinstance(i, bool) for i in items):
        return None
    taken = sum(item is not None and item is not Ellipsis for item in items)
    place = next((i for i, item in enumerate(items) if item is Ellipsis), len(items))
    return [*items[:place], *[slice(None)] * (dims - taken), *items[place + 1 :]]


_PLAIN = (int, slice, type(None), type(Ellipsis))


def _ranks_between(bounds: slice) -> Ranks:
    return lambda n, values: np.arange(n)[narrowed(bounds, values)]


def _is_whole(item: Any) -> bool:
    return isinstance(item, slice) and item == slice(None)


def get_item(_: str, _function: Any, args: Any, kwargs: Any) -> Any:
    """Return what an index takes."""
    del kwargs
    tensor, index = args
    if not isinstance(tensor, MixedTensor):
        return NotImplemented
    items = _of_each(index, tensor.wide.dim())
    if items is None:
        return NotImplemented
    left: list[Any] = []  # of the index, once what differs has been taken
    found: Any = tensor
    dim = 0
    for item in items:
        if item is None:
            left.append(None)
            continue
        axis = tensor.axes[dim]
        if axis is None or _is_whole(item):
            left.append(item)
        else:
            bounds = item if isinstance(item, slice) else slice(item, item + 1 or None)
            found = _selected(
                found,
                dim,
                _key_of(bounds),
                _ranks_between(bounds),
                bounds,
            )
            if found is NotImplemented:
                return NotImplemented
            # An index is a slice of one element, dropped at the end.  If that is another element in
            # other architectures, there are several, and no dimension to keep them in.
            if isinstance(item, int) and (axis_at(found, dim) or wide_of(found).shape[dim] != 1):
                return NotImplemented
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
    if isinstance(value, (Tensor, MixedNumber)) or tensor.copied:
        return NotImplemented
    if isinstance(index, MixedTensor):
        # A mask sets what it stands on, so one of the wide tensor sets in each architecture what
        # its own would.  Of indices, those that others have would be set as well.
        if wide_of(index).dtype != torch.bool:
            return NotImplemented
        axes = joined_axes([tensor, index])
        if axes is None or len(axes) != len(tensor.axes):
            return NotImplemented
        return function(tensor.wide, wide_of(index), value)
    items = _of_each(index, tensor.wide.dim())
    if items is None:
        return NotImplemented
    each = (item for item in items if item is not None)
    if not all(a is None or _is_whole(item) for a, item in zip(tensor.axes, each, strict=True)):
        return NotImplemented
    return function(tensor.wide, index, value)


def select(_: str, function: Any, args: Any, kwargs: Any) -> Any:
    """Return one element of a dimension, which is gone."""
    del function
    tensor, dim, index = arguments_of(("input", "dim", "index"), {}, args, kwargs)
    dim %= tensor.wide.dim()
    return get_item("", None, (tensor, (*[slice(None)] * dim, index)), {})
