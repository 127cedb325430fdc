"""Functions that give the elements of a mixture's tensors another shape.

A reshape keeps the row-major order of the elements of *each architecture*, which in the wide tensor
have gaps between them.  It is split into groups of dimensions that exchange no elements
(:func:`_groups`); each group is made one dimension, whose axis says which of its elements an
architecture has (:func:`_raveled`), and that is taken apart again (:func:`_unraveled`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...mutable.factors import Array
from ...mutable.node import key_of
from ..places import Indices
from .elementwise import arguments_of, one_by_one
from .marginals import Support
from .mixed_axis import MixedAxis
from .mixed_number import MixedNumber, MixedShape
from .mixed_tensor import MixedTensor
from .mixer import Values, readers_of, union
from .per_dimension import along_given_dims
from .refusals import Absent

__all__ = ["channel_shuffle", "glu", "pixel_shuffle", "pixel_unshuffle", "reshaped"]


def reshaped(name: str, _function: Any, args: Any, kwargs: Any) -> Any:
    """Return the same elements in another shape."""
    tensor = args[0] if args else kwargs["input"]
    target = _target(name, tensor, args[1:], kwargs)
    if target is None:
        return NotImplemented
    return _with_shape(tensor, target)


def _target(name: str, tensor: Any, args: Any, kwargs: Any) -> list[Any] | None:
    """Return the shape that is wanted, of which some numbers may differ."""
    sizes = list(tensor.sizes())
    n = len(sizes)
    if name in ("view", "reshape"):
        found = one_by_one(args or (kwargs.get("shape", kwargs.get("size")),))
        return list(found) if all(isinstance(s, (int, MixedNumber)) for s in found) else None
    if name in ("view_as", "reshape_as"):
        return list(args[0].shape)
    if name == "flatten":
        start, end = arguments_of(
            ("start_dim", "end_dim"), {"start_dim": 0, "end_dim": -1}, args, kwargs
        )
        start, end = start % n, end % n
        return [*sizes[:start], MixedShape(sizes[start : end + 1]).numel(), *sizes[end + 1 :]]
    if name == "ravel":
        return [MixedShape(sizes).numel()]
    if name == "unflatten":
        dim, inner = arguments_of(("dim", "sizes"), {}, args, kwargs)
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
    """Return how a tensor gets another shape; ``None`` where only cases can tell.

    Returns
    -------
    tuple
        The shape of one dimension a group; of groups with several dimensions in the result, the
        dimension and the flat indices to be taken along it; the final shape; and its axes.
    """
    atoms = union(tensor.atoms, *(s.atoms for s in target if isinstance(s, MixedNumber)))
    support = tensor.mixer.marginals.support
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
    """Return which dimensions become which: the finest groups of equal products.

    Parameters
    ----------
    inputs, outputs
        The sizes of the dimensions before and after, a row for each architecture.
    """
    # A cut between two groups must be one in every architecture: there, as many elements are to the
    # right of it before and after.  So dimensions are added on whichever side the product is still
    # the smaller.  If it is so in some architectures and the larger in others, a cut may yet come,
    # but the group would be one that nothing simple can be said of.
    if not inputs.all() or not outputs.all():
        return None
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    n, m = inputs.shape[1], outputs.shape[1]
    while i < n or j < m:
        ins: list[int] = []
        outs: list[int] = []
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
    """Return the axis of dimensions that are made one, the last changing fastest."""

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
    """Return how one dimension becomes several; ``None`` where architectures contradict each other.

    Parameters
    ----------
    whole
        The axis of the dimension.
    wanted
        The sizes of the new dimensions, a row for each architecture.
    readers, atoms
        What gives the values of the atoms, for each architecture.

    Returns
    -------
    tuple
        The flat indices that fill the new dimensions, how long these are, and their axes.
    """
    # An architecture has a grid of flat indices.  A larger grid is wanted of which each of these is
    # a part, by an axis for each dimension.
    #
    # If one dimension differs, its slices are compared: equal ones are one element of the new axis,
    # wherever they are in an architecture.  So the halves of a concatenation, or channels between
    # which others are inserted, keep their identity.  Larger grids come first, which leaves the
    # slices in the order of the widest architecture.
    each = [whole.indices(v).reshape(sizes) for v, sizes in zip(readers, wanted, strict=True)]
    sizes = np.array(wanted)
    varying = [d for d in range(sizes.shape[1]) if (sizes[:, d] != sizes[0, d]).any()]
    if len(varying) == 1:
        (dim,) = varying
        rows: dict[bytes, int] = {}
        found: list[Indices] = []
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
    # If several differ, each architecture must have the leading part along all of them, and the
    # same index wherever two overlap.  What no architecture has may be any element.
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
                partial(_first_of, by_value, atoms),
                support,
            )
        )
    return grid.reshape(-1), [int(n) for n in lengths], axes


def _first_of(known: dict[Any, int], atoms: Any, values: Values) -> Indices:
    return np.arange(known[_key(values, atoms)])


def _key(values: Values, atoms: Any) -> Any:
    return key_of(tuple(map(values, atoms)))


def pixel_shuffle(_: str, _function: Any, args: Any, kwargs: Any) -> Any:
    """Return channels as pixels."""
    x, r = arguments_of(("input", "upscale_factor"), {}, args, kwargs)
    *batch, c, h, w = x.sizes()
    apart, together = (c // (r * r), r, r, h, w), (c // (r * r), h * r, w * r)
    return _rearranged(x, batch, apart, (0, 3, 1, 4, 2), together)


def pixel_unshuffle(_: str, _function: Any, args: Any, kwargs: Any) -> Any:
    """Return pixels as channels."""
    x, r = arguments_of(("input", "downscale_factor"), {}, args, kwargs)
    *batch, c, h, w = x.sizes()
    apart, together = (c, h // r, r, w // r, r), (c * r * r, h // r, w // r)
    return _rearranged(x, batch, apart, (0, 2, 4, 1, 3), together)


def channel_shuffle(_: str, _function: Any, args: Any, kwargs: Any) -> Any:
    """Return the channels of several groups in turn."""
    x, groups = arguments_of(("input", "groups"), {}, args, kwargs)
    batch, c, *rest = x.sizes()
    order = (1, 0, *range(2, 2 + len(rest)))
    return _rearranged(x, [batch], (groups, c // groups, *rest), order, (c, *rest))


def _rearranged(
    x: Any, batch: list[Any], apart: Sequence[Any], order: Sequence[int], together: Sequence[Any]
) -> Any:
    """Take dimensions after those of a batch apart, and put them together in another order."""
    n = len(batch)
    found = _with_shape(x, [*batch, *apart])
    if found is NotImplemented:
        return found
    return found.permute(*range(n), *[n + place for place in order]).reshape(*batch, *together)


def glu(_: str, _function: Any, args: Any, kwargs: Any) -> Any:
    """Return one half of the channels, gated by the other."""
    x, dim = arguments_of(("input", "dim"), {"dim": -1}, args, kwargs)
    axis = x.axes[dim % x.wide.dim()]
    if axis is None:
        return along_given_dims("dim", dim=-1)("glu", _function, args, kwargs)
    # Of an odd number torch has no halves; a longer part times a shorter one could be broadcast.
    if any(len(axis.indices(values)) % 2 for values in readers_of(axis.atoms, axis.support)):
        return NotImplemented
    first, second = torch.chunk(x, 2, dim)
    return first * torch.sigmoid(second)
