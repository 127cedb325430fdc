"""What functions of torch do to the tensors of a mixture: they carry axes along, or run by cases.

A rule gives the result for tensors that are wide, or ``NotImplemented`` where the elements of
another architecture would have to move differently; then the function is run by cases, which
is exact for any function.  So rules only save time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...mutable.node import key_of
from ..segments import Indices
from .beliefs import Support
from .mixed_tensor import (
    Absent,
    Array,
    Axes,
    MixedAxis,
    MixedNumber,
    MixedShape,
    MixedTensor,
    Values,
    mixed_in,
    mixer_of,
    named,
    readers_of,
    refused,
    run_by_cases,
    union,
)

if TYPE_CHECKING:
    from .weighted import Weighted

Rule = Callable[[str, Any, Any, Any], Any]
"""Takes the name of a function, the function, and its arguments."""


def apply(function: Any, args: Any, kwargs: Any) -> Any:
    """Return what a function of torch gives for arguments of which some differ.

    Raises
    ------
    SpaceError
        If that cannot be said exactly.
    """
    name = _name_of(function)
    mixed = mixed_in((args, kwargs))
    if name in _PROPERTIES:
        return _property(name, function, args, kwargs)
    tensors = [item for item in mixed if isinstance(item, MixedTensor)]
    if tensors and all(item.wide is not None for item in tensors):
        rule = _elementwise if _is_in_place(name) else _RULES.get(name)
        if rule is not None and (rule is not _elementwise or name.rstrip("_") in _POINTWISE):
            found = rule(name, function, args, kwargs)
            if found is not NotImplemented:
                return found
    atoms = union(*(item.atoms for item in mixed))
    _refuse_what_changes(name, kwargs, atoms)
    return run_by_cases(name, function, args, kwargs)


def _name_of(function: Any) -> str:
    name: str = getattr(function, "__name__", str(function))
    if name == "__get__":
        return str(getattr(function.__self__, "__name__", name))
    if name == "__set__":
        return f"{getattr(function.__self__, '__name__', name)}="
    return _ALIASES.get(name, name)


_ALIASES = {
    **{f"__{op}__": op for op in ("add", "sub", "mul", "pow", "mod", "and", "or", "xor", "neg")},
    **{f"__r{op}__": op for op in ("add", "sub", "mul", "pow", "and", "or", "xor")},
    **{f"__i{op}__": f"{op}_" for op in ("add", "sub", "mul", "truediv", "pow", "and", "or")},
    **{f"__{op}__": op for op in ("lt", "le", "gt", "ge", "eq", "ne", "abs", "invert")},
    "__truediv__": "div",
    "__rtruediv__": "div",
    "__rdiv__": "div",
    "__div__": "div",
    "__idiv__": "div_",
    "__floordiv__": "floor_divide",
    "__rfloordiv__": "floor_divide",
    "truediv_": "div_",
    "view_as_": "view_as",
}


def _is_in_place(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__")


_CHANGES = frozenset({"__setitem__", "data=", "grad=", "requires_grad_", "backward"})
_NUMBERS = frozenset(
    {"item", "tolist", "numpy", "__array__", "__bool__", "__int__", "__float__", "__index__"}
    | {"__contains__", "__iter__", "data_ptr", "storage", "untyped_storage", "__dlpack__"}
)


def _refuse_what_changes(name: str, kwargs: Any, atoms: Any) -> None:
    if _is_in_place(name) or name in _CHANGES or kwargs.get("out") is not None:
        raise refused(name, atoms, "it changes a tensor in place, for each of them differently")
    if kwargs.get("inplace"):
        raise refused(name, atoms, "it changes a tensor in place (inplace=True)")
    if name in _NUMBERS:
        raise refused(name, atoms, "it makes plain numbers of what differs")


# -- what a tensor tells of itself ------------------------------------------------------------

_PROPERTIES = frozenset(
    {"shape", "size", "dim", "ndim", "ndimension", "numel", "nelement", "__len__", "dtype"}
    | {"device", "layout", "is_floating_point", "is_complex", "requires_grad", "is_cuda"}
    | {"is_sparse", "is_quantized", "is_meta", "is_leaf", "element_size", "itemsize", "is_mps"}
    | {"get_device", "__repr__", "__str__", "__hash__", "__format__", "names", "is_nested"}
    | {"is_contiguous", "type", "is_signed", "is_cpu", "is_mkldnn", "is_xla", "is_inference"}
    | {"is_conj", "is_neg", "is_same_size", "result_type", "__reduce_ex__", "grad_fn"}
)


def _property(name: str, function: Any, args: Any, kwargs: Any) -> Any:
    tensor = args[0]
    if not isinstance(tensor, MixedTensor):
        return NotImplemented
    if name in ("shape", "size"):
        sizes = tensor.sizes()
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        return sizes if dim is None else sizes[dim]
    if name in ("numel", "nelement"):
        return tensor.sizes().numel()
    if name == "__len__":
        return int(tensor.sizes()[0])
    if name in ("__repr__", "__str__", "__format__"):
        return f"MixedTensor(shape={tuple(tensor.sizes())}, {named(tensor.atoms)})"
    if name == "__hash__":
        return id(tensor)
    if name == "type" and len(args) > 1:
        return _elementwise(name, function, args, kwargs)
    like = tensor.wide if tensor.wide is not None else next(iter(tensor.cases.values()))
    return function(like, *args[1:], **kwargs)


# -- element by element -----------------------------------------------------------------------


def _elementwise(name: str, function: Any, args: Any, kwargs: Any) -> Any:
    everything = (*args, *kwargs.values())
    if any(isinstance(item, MixedNumber) for item in everything):
        return NotImplemented
    operands = [item for item in everything if isinstance(item, Tensor)]
    axes = _joined(operands)
    if axes is None:
        return NotImplemented
    mixer = mixer_of([o for o in operands if isinstance(o, MixedTensor)])
    first = operands[0]
    in_place = _is_in_place(name) or kwargs.get("inplace")
    if in_place and not (
        isinstance(first, MixedTensor)
        and not first.copied
        and len(axes) == len(first.axes)
        and all(a is b or (a and b and a.is_like(b)) for a, b in zip(axes, first.axes, strict=True))
    ):
        return NotImplemented
    output = function(*map(_wide, args), **{k: _wide(v) for k, v in kwargs.items()})
    return first if in_place else MixedTensor.of(mixer, output, axes)


def _wide(item: Any) -> Any:
    return item.wide if isinstance(item, MixedTensor) else item


def _joined(operands: Sequence[Tensor]) -> Axes | None:
    """The axes of what operands give together, element by element; ``None`` if they disagree."""
    known = [(_wide(o).shape, o.axes if isinstance(o, MixedTensor) else ()) for o in operands]
    found: list[MixedAxis | None] = []
    for back in range(1, max(len(shape) for shape, _ in known) + 1):
        axis: MixedAxis | None = None
        plain = 1
        for shape, axes in known:
            if back > len(shape):
                continue
            its = axes[-back] if axes else None
            if its is None:
                plain = max(plain, shape[-back])
            elif axis is None:
                axis = its
            elif not axis.is_like(its):
                return None
        if axis is not None and plain != 1:
            return None
        found.append(axis)
    return tuple(reversed(found))


# -- along one dimension ----------------------------------------------------------------------

Ranks = Callable[[int, Values], Any]
"""Of so many elements, which are taken under some values, in order."""


def _selected(tensor: Any, dim: int, key: Any, ranks: Ranks, how: Any = ()) -> Any:
    """What takes some of the elements along a dimension, in some order, or several times."""
    axis = tensor.axes[dim]
    numbers, support = mixed_in(how), tensor.mixer.beliefs.support
    key = (key, tuple(item.key for item in numbers))
    try:
        kept, made, _ = axis.remember(
            key, lambda: (*_selection(axis, ranks, numbers, support), numbers)
        )
    except (Absent, IndexError, ValueError, ZeroDivisionError, RuntimeError):
        return NotImplemented
    wide, copied = _taken(tensor.wide, dim, kept)
    axes = (*tensor.axes[:dim], made, *tensor.axes[dim + 1 :])
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


def _arguments(names: Sequence[str], defaults: dict[str, Any], args: Any, kwargs: Any) -> list[Any]:
    given = {**defaults, **dict(zip(names, args, strict=False)), **kwargs}
    return [given[name] for name in names]


def _split(name: str, function: Any, args: Any, kwargs: Any) -> Any:
    second = {"chunk": "chunks", "split": "split_size_or_sections"}.get(name, "indices_or_sections")
    kwargs = {
        second if k in ("split_size", "sections", "indices") else k: v for k, v in kwargs.items()
    }
    kwargs = {("input" if k == "tensor" else k): v for k, v in kwargs.items()}
    tensor, how, dim = _arguments(("input", second, "dim"), {"dim": 0}, args, kwargs)
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
            for v in readers_of(atoms, tensor.mixer.beliefs.support)
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
            lambda n, values, p=place: pieces_of(n, values)[p].numpy(),
            how,
        )
        for place in range(counts.pop())
    ]
    return NotImplemented if any(p is NotImplemented for p in found) else tuple(found)


def _along(*names: str) -> Rule:
    """A rule for functions of a tensor that move elements along dimensions of their own."""

    def rule(name: str, function: Any, args: Any, kwargs: Any) -> Any:
        given = _arguments(("input", *names), dict.fromkeys(names), args, kwargs)
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
            return function(torch.arange(n), *moved, 0).numpy()

        return _selected(tensor, dims[0], key, ranks)

    return rule


def _narrow(_: str, function: Any, args: Any, kwargs: Any) -> Any:
    names = ("input", "dim", "start", "length")
    tensor, dim, start, length = _arguments(names, {}, args, kwargs)
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


def _getitem(_: str, _function: Any, args: Any, kwargs: Any) -> Any:
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
                lambda n, values, b=bounds: np.arange(n)[_plainly(b, values)],
                (bounds.start, bounds.stop, bounds.step),
            )
            if found is NotImplemented:
                return NotImplemented
            if isinstance(item, int) and (_axis(found, dim) or _wide(found).shape[dim] != 1):
                return NotImplemented  # it is another one in other architectures
            left.append(0 if isinstance(item, int) else slice(None))
        dim += 1
    axes: list[MixedAxis | None] = []
    dim = 0
    for item in left:
        if not isinstance(item, int):
            axes.append(None if item is None else _axis(found, dim))
        dim += item is not None
    copied = isinstance(found, MixedTensor) and found.copied
    return MixedTensor.of(tensor.mixer, _wide(found)[tuple(left)], axes, copied=copied)


def _set(_: str, function: Any, args: Any, kwargs: Any) -> Any:
    """Change elements in place, where that is along dimensions that do not differ."""
    del kwargs
    tensor, index, value = args
    plain = (int, slice, type(None), type(Ellipsis))
    parts = index if isinstance(index, tuple) else (index,)
    if isinstance(index, MixedTensor):  # a mask
        axes = _joined([tensor, index])
        if axes is None or len(axes) != len(tensor.axes) or isinstance(value, Tensor):
            return NotImplemented
        index = _wide(index)
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


def _select(_: str, function: Any, args: Any, kwargs: Any) -> Any:
    del function
    tensor, dim, index = _arguments(("input", "dim", "index"), {}, args, kwargs)
    dim %= tensor.wide.dim()
    return _getitem("", None, (tensor, (*[slice(None)] * dim, index)), {})


def _unbind(_: str, function: Any, args: Any, kwargs: Any) -> Any:
    tensor, dim = _arguments(("input", "dim"), {"dim": 0}, args, kwargs)
    dim %= tensor.wide.dim()
    if tensor.axes[dim] is not None:
        return NotImplemented
    axes = (*tensor.axes[:dim], *tensor.axes[dim + 1 :])
    return tuple(MixedTensor.of(tensor.mixer, t, axes) for t in function(tensor.wide, dim))


# -- several tensors --------------------------------------------------------------------------


def _cat(_: str, function: Any, args: Any, kwargs: Any) -> Any:
    if kwargs.get("out") is not None:
        return NotImplemented
    kwargs = {("dim" if k == "axis" else k): v for k, v in kwargs.items()}
    tensors, dim = _arguments(("tensors", "dim"), {"dim": 0}, args, kwargs)
    mixer = mixer_of(mixed_in(tensors))
    number = max(_wide(t).dim() for t in tensors)
    if any(_wide(t).dim() != number for t in tensors):
        return NotImplemented
    dim %= number
    axes: list[Any] = []
    for other in range(number):
        if other == dim:
            axes.append(_concatenated(mixer, tensors, dim))
            continue
        its = [_axis(t, other) for t in tensors]
        if any((a is None) != (its[0] is None) for a in its):
            return NotImplemented
        if its[0] is not None and not all(its[0].is_like(a) for a in its):
            return NotImplemented
        axes.append(its[0])
    return MixedTensor.of(mixer, function([_wide(t) for t in tensors], dim), axes)


def _axis(tensor: Any, dim: int) -> MixedAxis | None:
    return tensor.axes[dim] if isinstance(tensor, MixedTensor) else None


def _concatenated(mixer: Weighted, tensors: Sequence[Any], dim: int) -> MixedAxis | None:
    parts = [_axis(t, dim) for t in tensors]
    first = next((part for part in parts if part is not None), None)
    if first is None:
        return None
    sizes = [_wide(t).shape[dim] for t in tensors]
    key = ("cat", *map(id, parts), *sizes)
    found: MixedAxis = first.remember(key, lambda: (_chain(mixer, parts, sizes), parts))[0]
    return found


def _chain(mixer: Weighted, parts: Sequence[Any], sizes: Sequence[int]) -> MixedAxis:
    starts = np.cumsum([0, *sizes[:-1]])

    def indices(values: Values) -> Indices:
        return np.concatenate(
            [
                start + (np.arange(size) if part is None else part.indices(values))
                for start, size, part in zip(starts, sizes, parts, strict=True)
            ]
        )

    atoms = union(*(part.atoms for part in parts if part is not None))
    return MixedAxis(atoms, sum(sizes), indices, mixer.beliefs.support)


def _stack(_: str, function: Any, args: Any, kwargs: Any) -> Any:
    if kwargs.get("out") is not None:
        return NotImplemented
    tensors, dim = _arguments(("tensors", "dim"), {"dim": 0}, args, kwargs)
    axes = _joined(tensors)
    if axes is None or len({_wide(t).shape for t in tensors}) > 1:
        return NotImplemented
    if any(_axis(t, d) is None and axes[d] for t in tensors for d in range(len(axes))):
        return NotImplemented
    dim %= len(axes) + 1
    mixer = mixer_of(mixed_in(tensors))
    output = function([_wide(t) for t in tensors], dim)
    return MixedTensor.of(mixer, output, (*axes[:dim], None, *axes[dim:]))


# -- the order of dimensions ------------------------------------------------------------------


def _permuted(_: str, function: Any, args: Any, kwargs: Any) -> Any:
    tensor = args[0] if args else kwargs["input"]
    probe = torch.empty([*range(2, 2 + tensor.wide.dim())], device="meta")
    order = [size - 2 for size in function(probe, *args[1:], **kwargs).shape]
    output = function(tensor.wide, *args[1:], **kwargs)
    axes = [tensor.axes[place] for place in order]
    return MixedTensor.of(tensor.mixer, output, axes, copied=tensor.copied)


# -- the same elements in another shape -------------------------------------------------------


def _reshaped(name: str, function: Any, args: Any, kwargs: Any) -> Any:
    tensor = args[0] if args else kwargs["input"]
    target = _target(name, tensor, args[1:], kwargs)
    if target is None:
        return NotImplemented
    return _with_shape(tensor, target)


def _target(name: str, tensor: Any, args: Any, kwargs: Any) -> list[Any] | None:
    """The shape that is wanted, of which some numbers may differ."""
    sizes = list(tensor.sizes())
    n = len(sizes)
    if name in ("view", "reshape"):
        found = args or (kwargs.get("shape", kwargs.get("size")),)
        if len(found) == 1 and isinstance(found[0], (tuple, list)):
            found = found[0]
        return list(found) if all(isinstance(s, (int, MixedNumber)) for s in found) else None
    if name in ("view_as", "reshape_as"):
        return list(args[0].shape)
    if name == "flatten":
        start, end = _arguments(
            ("start_dim", "end_dim"), {"start_dim": 0, "end_dim": -1}, args, kwargs
        )
        start, end = start % n, end % n
        return [*sizes[:start], MixedShape(sizes[start : end + 1]).numel(), *sizes[end + 1 :]]
    if name == "ravel":
        return [MixedShape(sizes).numel()]
    if name == "unflatten":
        dim, inner = _arguments(("dim", "sizes"), {}, args, kwargs)
        dim %= n
        return [*sizes[:dim], *_inferred(sizes[dim], list(inner)), *sizes[dim + 1 :]]
    if name == "unsqueeze":
        (dim,) = args or (kwargs["dim"],)
        dim %= n + 1
        return [*sizes[:dim], 1, *sizes[dim:]]
    if name == "squeeze":
        dims = args[0] if args else kwargs.get("dim")
        if dims is None:
            return [s for s in sizes if not (isinstance(s, int) and s == 1)]
        dims = [d % n for d in ([dims] if isinstance(dims, int) else dims)]
        return [s for d, s in enumerate(sizes) if d not in dims or s != 1]
    return None


def _inferred(total: Any, sizes: list[Any]) -> list[Any]:
    if not any(isinstance(size, int) and size == -1 for size in sizes):
        return sizes
    known = MixedShape(s for s in sizes if not (isinstance(s, int) and s == -1)).numel()
    return [total // known if isinstance(s, int) and s == -1 else s for s in sizes]


def _with_shape(tensor: Any, target: list[Any]) -> Any:
    target = _inferred(tensor.sizes().numel(), target)
    axes = [axis for axis in tensor.axes if axis is not None]
    key = (
        "reshape",
        tuple(map(id, tensor.axes)),
        tuple(tensor.wide.shape),
        tuple(size.key if isinstance(size, MixedNumber) else size for size in target),
    )
    try:
        plan, _ = axes[0].remember(key, lambda: (_plan(tensor, target), (tensor.axes, target)))
    except Absent:
        return NotImplemented
    if plan is None:
        return NotImplemented
    flat, kept, shape, found = plan
    wide = tensor.wide.reshape(flat)
    copied = tensor.copied or wide._base is None
    for dim, places in kept:
        wide, more = _gathered(wide, dim, places)
        copied = copied or more
    return MixedTensor.of(tensor.mixer, wide.reshape(shape), found, copied=copied)


def _gathered(wide: Tensor, dim: int, places: Indices) -> tuple[Tensor, bool]:
    if np.array_equal(places, np.arange(wide.shape[dim])):
        return wide, False
    return wide.index_select(dim, torch.from_numpy(places).to(wide.device)), True


def _plan(tensor: Any, target: list[Any]) -> Any:
    """How a tensor gets another shape: groups of dimensions are made one, and taken apart."""
    atoms = union(tensor.atoms, *(s.atoms for s in target if isinstance(s, MixedNumber)))
    support = tensor.mixer.beliefs.support
    readers = readers_of(atoms, support)
    inputs = np.array(
        [
            [
                w if a is None else len(a.indices(v))
                for w, a in zip(tensor.wide.shape, tensor.axes, strict=True)
            ]
            for v in readers
        ]
    ).reshape(len(readers), -1)
    outputs = np.array(
        [[s.at(v) if isinstance(s, MixedNumber) else s for s in target] for v in readers]
    ).reshape(len(readers), -1)
    groups = _groups(inputs, outputs)
    if groups is None:
        return None
    flat: list[int] = []
    kept: list[tuple[int, Indices]] = []
    shape: list[int] = []
    axes: list[Any] = []
    for ins, outs in groups:
        sizes = [tensor.wide.shape[d] for d in ins]
        its = [tensor.axes[d] for d in ins]
        wanted = [outputs[:, d] for d in outs]
        if not any(its):
            if any((w != w[0]).any() for w in wanted):
                return None
            flat.append(int(np.prod(sizes)))
            shape += [int(w[0]) for w in wanted]
            axes += [None] * len(outs)
            continue
        flat.append(int(np.prod(sizes)))
        whole = its[0] if len(its) == 1 else _raveled(its, sizes, support)
        if len(outs) == 1:
            shape.append(flat[-1])
            axes.append(whole)
            continue
        sizes_of = [[int(n) for n in row] for row in np.stack(wanted, 1)]
        apart = _unraveled(whole, sizes_of, readers, atoms, support)
        if apart is None:
            return None
        places, lengths, found = apart
        kept.append((len(flat) - 1, places))
        shape += lengths
        axes += found
    return flat, kept, shape, axes


def _groups(inputs: Array, outputs: Array) -> list[tuple[list[int], list[int]]] | None:
    """Which dimensions make which: the finest groups whose products are always the same."""
    if not inputs.all() or not outputs.all():
        return None
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    n, m = inputs.shape[1], outputs.shape[1]
    while i < n or j < m:
        ins, outs = [], []
        a = b = np.ones(len(inputs), np.int64)
        while not ins or not outs or (a != b).any():
            if i < n and (not ins or (a < b).any() or j >= m):
                if ins and (a > b).any() and j < m:
                    return None
                ins.append(i)
                a = a * inputs[:, i]
                i += 1
            elif j < m:
                outs.append(j)
                b = b * outputs[:, j]
                j += 1
            elif not ins or not outs:
                break
            else:
                return None
        if (a != b).any():
            return None
        if not outs:
            # What is left has one element; it belongs to the last group.
            if not groups:
                return None
            groups[-1][0].extend(ins)
            continue
        if not ins and groups:
            groups[-1][1].extend(outs)
            continue
        groups.append((ins, outs))
    return groups


def _raveled(its: Sequence[Any], sizes: Sequence[int], support: Any) -> MixedAxis:
    def indices(values: Values) -> Indices:
        found = np.zeros(1, np.int64)
        for axis, size in zip(its, sizes, strict=True):
            inner = np.arange(size) if axis is None else axis.indices(values)
            found = (found[:, None] * size + inner).reshape(-1)
        return found

    atoms = union(*(axis.atoms for axis in its if axis is not None))
    return MixedAxis(atoms, int(np.prod(sizes)), indices, support)


def _unraveled(
    whole: MixedAxis,
    wanted: list[list[int]],
    readers: list[Values],
    atoms: Any,
    support: Support,
) -> tuple[Indices, list[int], list[Any]] | None:
    """Places that make one dimension several, how long these are, and their axes."""
    each = [whole.indices(v).reshape(sizes) for v, sizes in zip(readers, wanted, strict=True)]
    sizes = np.array(wanted)
    varying = [d for d in range(sizes.shape[1]) if (sizes[:, d] != sizes[0, d]).any()]
    if not varying:
        if any(not np.array_equal(one, each[0]) for one in each):
            return None
        return each[0].reshape(-1), list(each[0].shape), [None] * len(each[0].shape)
    if len(varying) == 1:
        (dim,) = varying
        rows: dict[bytes, int] = {}
        found = []
        for one in sorted(each, key=lambda one: -one.size):
            for row in np.moveaxis(one, dim, 0):
                if rows.setdefault(row.tobytes(), len(found)) == len(found):
                    found.append(row)

        def indices(values: Values) -> Indices:
            here = whole.indices(values)
            rest = list(each[0].shape)
            rest[dim] = -1
            return np.array(
                [rows[row.tobytes()] for row in np.moveaxis(here.reshape(rest), dim, 0)]
            )

        grid = np.moveaxis(np.stack(found), 0, dim)
        axes: list[Any] = [None] * grid.ndim
        axes[dim] = MixedAxis(whole.atoms, len(found), indices, support)
        return grid.reshape(-1), list(grid.shape), axes
    lengths = sizes.max(0)
    grid = np.full(lengths, -1, np.int64)
    for one in each:
        part = grid[tuple(slice(n) for n in one.shape)]
        if ((part != -1) & (part != one)).any():
            return None
        part[...] = one
    grid[grid == -1] = 0
    axes = []
    for dim in range(len(lengths)):
        if dim not in varying:
            axes.append(None)
            continue
        by_value = {
            _key(values, atoms): row[dim] for values, row in zip(readers, wanted, strict=True)
        }
        axes.append(
            MixedAxis(
                atoms,
                int(lengths[dim]),
                lambda values, known=by_value: np.arange(known[_key(values, atoms)]),
                support,
            )
        )
    return grid.reshape(-1), [int(n) for n in lengths], axes


def _key(values: Values, atoms: Any) -> Any:
    return key_of(tuple(map(values, atoms)))


# -- made of the others -----------------------------------------------------------------------


def _pixel_shuffle(_: str, _function: Any, args: Any, kwargs: Any) -> Any:
    x, r = _arguments(("input", "upscale_factor"), {}, args, kwargs)
    *batch, c, h, w = x.sizes()
    n = len(batch)
    apart = _with_shape(x, [*batch, c // (r * r), r, r, h, w])
    if apart is NotImplemented:
        return apart
    apart = apart.permute(*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return apart.reshape(*batch, c // (r * r), h * r, w * r)


def _pixel_unshuffle(_: str, _function: Any, args: Any, kwargs: Any) -> Any:
    x, r = _arguments(("input", "downscale_factor"), {}, args, kwargs)
    *batch, c, h, w = x.sizes()
    n = len(batch)
    apart = _with_shape(x, [*batch, c, h // r, r, w // r, r])
    if apart is NotImplemented:
        return apart
    apart = apart.permute(*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return apart.reshape(*batch, c * r * r, h // r, w // r)


def _channel_shuffle(_: str, _function: Any, args: Any, kwargs: Any) -> Any:
    x, groups = _arguments(("input", "groups"), {}, args, kwargs)
    batch, c, *rest = x.sizes()
    apart = _with_shape(x, [batch, groups, c // groups, *rest])
    if apart is NotImplemented:
        return apart
    return apart.transpose(1, 2).reshape(batch, c, *rest)


def _glu(_: str, _function: Any, args: Any, kwargs: Any) -> Any:
    x, dim = _arguments(("input", "dim"), {"dim": -1}, args, kwargs)
    if x.axes[dim % x.wide.dim()] is None:
        return _mapped(("dim",), {"dim": -1})("glu", _function, args, kwargs)
    first, second = torch.chunk(x, 2, dim)
    return first * torch.sigmoid(second)


# -- functions of some dimensions, each for all others by itself ------------------------------


def _mapped(names: Sequence[str], defaults: dict[str, Any]) -> Rule:
    """A rule for functions along dimensions that they are given."""

    def rule(name: str, function: Any, args: Any, kwargs: Any) -> Any:
        kwargs = {("dim" if k == "axis" else k): v for k, v in kwargs.items()}
        given = _arguments(("input", *names), {**dict.fromkeys(names), **defaults}, args, kwargs)
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


def _last(number: int | Callable[[Any, Any], int]) -> Rule:
    """A rule for functions of the last so many dimensions."""

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
    return _last(number + 1)


def _padding(args: Any, kwargs: Any) -> int:
    pad = kwargs.get("pad", args[1] if len(args) > 1 else None)
    return len(pad) // 2  # type: ignore[arg-type]


def _spatial_dims(args: Any, kwargs: Any) -> int:
    tensor = args[0] if args else kwargs["input"]
    return int(tensor.wide.dim()) - 2


def _normalized(args: Any, kwargs: Any) -> int:
    shape = kwargs.get("normalized_shape", args[1] if len(args) > 1 else None)
    return len(shape)  # type: ignore[arg-type]


def _repeated(_: str, function: Any, args: Any, kwargs: Any) -> Any:
    tensor = args[0]
    times = args[1:] or tuple(kwargs.values())
    if len(times) == 1 and isinstance(times[0], (tuple, list)):
        times = tuple(times[0])
    n = tensor.wide.dim()
    if not all(isinstance(t, int) for t in times) or len(times) < n:
        return NotImplemented
    new = len(times) - n
    on_axes = [axis is not None and times[new + d] != 1 for d, axis in enumerate(tensor.axes)]
    if any(on_axes):
        return NotImplemented
    axes = (*[None] * new, *tensor.axes)
    return MixedTensor.of(tensor.mixer, function(tensor.wide, *times), axes)


def _expanded(_: str, function: Any, args: Any, kwargs: Any) -> Any:
    tensor = args[0]
    sizes = args[1:] or (kwargs.get("size"),)
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = tuple(sizes[0])
    new = len(sizes) - tensor.wide.dim()
    wide: list[int] = list(sizes)
    own = tensor.sizes()
    for dim, axis in enumerate(tensor.axes):
        if axis is None:
            continue
        size = sizes[new + dim]
        same = isinstance(size, MixedNumber) and size.key == getattr(own[dim], "key", None)
        if not same and not (isinstance(size, int) and size == -1):
            return NotImplemented
        wide[new + dim] = axis.size
    if not all(isinstance(size, int) for size in wide):
        return NotImplemented
    axes = (*[None] * new, *tensor.axes)
    return MixedTensor.of(tensor.mixer, function(tensor.wide, *wide), axes, copied=tensor.copied)


_POINTWISE = """
abs absolute acos arccos acosh add addcdiv addcmul angle asin asinh atan atan2 atanh bitwise_and
bitwise_not bitwise_or bitwise_xor and or xor invert ceil celu clamp clamp_max clamp_min clip clone
contiguous conj copysign cos cosh cpu cuda deg2rad detach digamma div divide double elu eq erf erfc
erfinv exp exp2 expm1 float float_power floor floor_divide fmax fmin fmod frac ge gelu
greater greater_equal gt half hardshrink hardsigmoid hardswish hardtanh heaviside hypot igamma isnan isinf
isfinite isclose ldexp le leaky_relu lerp less less_equal lgamma log log10 log1p log2 logaddexp
logical_and logical_not logical_or logical_xor logit logsigmoid log_sigmoid lt masked_fill maximum minimum
mish mod mul multiply mvlgamma nan_to_num ne neg negative nextafter not_equal ones_like zeros_like
full_like empty_like positive pow rad2deg
reciprocal relu relu6 remainder round rrelu rsqrt rsub selu sgn sigmoid sign signbit silu sin sinc sinh
softplus softshrink softsign sqrt square sub subtract tan tanh tanhshrink threshold to true_divide
trunc fix type_as where xlogy bfloat16 int long short bool dropout alpha_dropout
rand_like randn_like bernoulli
""".split()
"""Functions that work element by element."""

_REDUCING = "sum mean prod amax amin any all logsumexp nansum nanmean norm".split()
_SCANS = "softmax log_softmax softmin cumsum cumprod logcumsumexp normalize argmax argmin max min".split()

_RULES: dict[str, Rule] = {
    **dict.fromkeys(_POINTWISE, _elementwise),
    **dict.fromkeys(("chunk", "split", "tensor_split"), _split),
    "flip": _along("dims"),
    "roll": _along("shifts", "dims"),
    "repeat_interleave": _along("repeats", "dim"),
    "narrow": _narrow,
    "select": _select,
    "unbind": _unbind,
    "__getitem__": _getitem,
    "__setitem__": _set,
    **dict.fromkeys(("cat", "concat", "concatenate"), _cat),
    "stack": _stack,
    **dict.fromkeys(
        ("permute", "transpose", "movedim", "moveaxis", "swapaxes", "swapdims", "t", "T", "mT"),
        _permuted,
    ),
    **dict.fromkeys(
        ("view", "reshape", "view_as", "reshape_as", "flatten", "ravel", "unflatten"), _reshaped
    ),
    **dict.fromkeys(("squeeze", "unsqueeze"), _reshaped),
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    **dict.fromkeys(("channel_shuffle", "native_channel_shuffle"), _channel_shuffle),
    "glu": _glu,
    **dict.fromkeys(("repeat", "tile"), _repeated),
    "expand": _expanded,
    **dict.fromkeys(_REDUCING, _mapped(("dim",), {})),
    "norm": _mapped(("p", "dim"), {"p": 2}),
    **dict.fromkeys(_SCANS, _mapped(("dim",), {})),
    "normalize": _mapped(("p", "dim"), {"p": 2, "dim": 1}),
    **dict.fromkeys(("std", "var"), _mapped(("dim",), {})),
    "linear": _last(1),
    **{f"conv{n}d": _last(n + 1) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _last(n + 1) for n in (1, 2, 3)},
    **{
        f"{kind}_pool{n}d": _last(n)
        for n in (1, 2, 3)
        for kind in ("max", "avg", "adaptive_avg", "adaptive_max", "lp", "fractional_max")
    },
    "pad": _last(_padding),
    **dict.fromkeys(("interpolate", "upsample"), _last(_spatial_dims)),
    **dict.fromkeys(("layer_norm", "rms_norm"), _last(_normalized)),
    **{f"dropout{n}d": _last(n) for n in (1, 2, 3)},
    "feature_alpha_dropout": _last(_spatial_dims),
}
