"""What meets what in functions of ATen that are neither data movement nor element by element.

Contractions, normalisations and reductions: each rule notes which elements meet, and says of
which the output is made.  A function without a rule loses the numbers, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor

__all__ = ["MEETS", "Numbering", "aligned", "compressed"]


class Numbering(Protocol):
    """What says the numbers of elements, and is told which of them meet."""

    def components(self, tensor: Tensor) -> list[Tensor]:
        """Return numbers of elements: tensors of size 1 along dimensions where none vary."""

    def apart(self, components: Sequence[Tensor]) -> list[Tensor]:
        """Return components without those that say the same, and those that say nothing."""

    def grouped(self, component: Tensor, dims: Sequence[int], *, are_sums: bool = False) -> Tensor:
        """Return the first element of each sum along some dimensions, in which the others meet."""

    def is_weight(self, *tensors: Tensor) -> bool:
        """Return whether one of some tensors is a parameter, or a view of one."""

    def join(self, operands: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """Return the components of several operands together, whose elements meet."""

    def contract(
        self, sides: Sequence[Sequence[Tensor]], dim: int, *, has_weight: bool
    ) -> list[Tensor]:
        """Return the components of a product of two sides, summed along a dimension."""


def compressed(tensor: Tensor) -> Tensor:
    """Return numbers with size 1 along each dimension in which they do not vary."""
    for dim in range(tensor.dim()):
        if tensor.shape[dim] > 1:
            first = tensor.narrow(dim, 0, 1)
            if tensor.stride(dim) == 0 or bool((tensor == first).all()):
                tensor = first
    return tensor


MEETS: dict[str, Callable[..., Any]] = {}
"""By name of a function of ATen, what gives the numbers of its output: of its first tensor."""


def _rule(*names: str) -> Callable[[Any], Any]:
    def register(made: Any) -> Any:
        MEETS.update(dict.fromkeys(names, made))
        return made

    return register


def aligned(ids: Numbering, tensor: Tensor, dims: int) -> list[Tensor]:
    """Return the components of a tensor that is broadcast to more dimensions, from the left."""
    return [c.reshape(*(1,) * (dims - c.dim()), *c.shape) for c in ids.components(tensor)]


@_rule("mm", "bmm")
def _mm(ids: Numbering, out: Tensor, a: Tensor, b: Tensor, **_: Any) -> list[Tensor]:
    rows, columns = a.dim(), a.dim() - 2
    sides = (
        [c.unsqueeze(rows) for c in ids.components(a)],
        [c.unsqueeze(columns) for c in ids.components(b)],
    )
    made = ids.contract(sides, rows - 1, has_weight=ids.is_weight(a, b))
    return ids.apart([c.squeeze(rows - 1) for c in made])


@_rule("_grouped_mm")
def _grouped_mm(ids: Numbering, out: Tensor, a: Tensor, b: Tensor, *_: Any, **__: Any) -> Any:
    matrices = ids.components(b)
    if a.dim() != 2 or b.dim() != 3 or any(c.shape[0] != 1 for c in matrices):
        return None
    sides = ([c.unsqueeze(2) for c in ids.components(a)], matrices)
    made = ids.contract(sides, 1, has_weight=ids.is_weight(a, b))
    return ids.apart([c.squeeze(1) for c in made])


@_rule("addmm", "baddbmm")
def _addmm(ids: Numbering, out: Tensor, bias: Tensor, a: Tensor, b: Tensor, **_: Any) -> Any:
    return ids.join([_mm(ids, out, a, b), aligned(ids, bias, a.dim())])


@_rule("mv", "dot", "vdot")
def _mv(ids: Numbering, out: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    sides = (ids.components(a), aligned(ids, b, a.dim()))
    made = ids.contract(sides, a.dim() - 1, has_weight=ids.is_weight(a, b))
    return ids.apart([c.squeeze(-1) for c in made])


@_rule("convolution")
def _convolution(
    ids: Numbering,
    out: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> list[Tensor] | None:
    channels = x.shape[1]
    # What differs from place to place, as after a pixel shuffle, meets in what reads it.
    inner = [ids.grouped(c, range(2, c.dim()), are_sums=True) for c in ids.components(x)]
    # One space: samples, groups, inputs of a group, outputs of a group.
    left = [
        c.reshape(c.shape[0], -1).expand(-1, channels).reshape(c.shape[0], groups, -1, 1)
        for c in inner
    ]
    outs = out.shape[1] // groups
    right = []
    for c in ids.components(weight):
        if math.prod(c.shape[2:]) != 1:
            return None
        whole = c.reshape(c.shape[:2]).expand(weight.shape[:2])
        if transposed:
            whole = whole.reshape(groups, channels // groups, outs)
        else:
            whole = whole.reshape(groups, outs, -1).transpose(1, 2)
        right.append(whole[None])
    sides = ([compressed(c) for c in left], [compressed(c) for c in right])
    made = [
        c.squeeze(2).expand(c.shape[0], groups, outs).reshape(c.shape[0], -1)
        for c in ids.contract(sides, 2, has_weight=ids.is_weight(weight))
    ]
    tail = (1,) * (out.dim() - 2)
    made = [compressed(c.reshape(*c.shape, *tail)) for c in made]
    own = [] if bias is None else [c.reshape(1, -1, *tail) for c in ids.components(bias)]
    return ids.join([made, own])


@_rule("embedding", "_embedding_bag", "_embedding_bag_forward_only")
def _embedding(ids: Numbering, out: Any, weight: Tensor, index: Tensor, *_: Any) -> Any:
    shaped = out[0] if isinstance(out, (tuple, list)) else out
    lead = (1,) * (shaped.dim() - 1)
    return [c.reshape(*lead, -1) for c in ids.components(weight) if c.shape[0] == 1]


def _along(channel: Tensor | None, dims: int, ids: Numbering) -> list[Tensor]:
    if channel is None:
        return []
    return [c.reshape(1, -1, *(1,) * (dims - 2)) for c in ids.components(channel)]


@_rule(
    *("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
    *("_batch_norm_with_update", "_batch_norm_no_update", "cudnn_batch_norm"),
    "native_batch_norm_legit",
)
def _batch_norm(ids: Numbering, out: Any, x: Tensor, *others: Any, **_: Any) -> Any:
    per_channel = [t for t in others if isinstance(t, Tensor)]
    return ids.join([ids.components(x), *(_along(t, x.dim(), ids) for t in per_channel)])


@_rule("native_layer_norm", "_fused_rms_norm")
def _layer_norm(ids: Numbering, out: Any, x: Tensor, shape: Any, *others: Any) -> Any:
    own = [aligned(ids, t, x.dim()) for t in others if isinstance(t, Tensor)]
    dims = range(x.dim() - len(shape), x.dim())
    for c in ids.components(x):
        ids.grouped(c, dims)
    return ids.join([ids.components(x), *own])


@_rule("native_group_norm")
def _group_norm(ids: Numbering, out: Any, x: Tensor, weight: Any, bias: Any, *sizes: Any) -> Any:
    group = sizes[3]
    for component in ids.components(x):
        if component.shape[1] > 1:
            ids.grouped(component.reshape(component.shape[0], group, -1), [2])
    return ids.join([ids.components(x), _along(weight, x.dim(), ids), _along(bias, x.dim(), ids)])


def _dims(x: Tensor, dim: Any) -> list[int]:
    if dim is None or dim == []:
        return list(range(x.dim()))
    return [d % x.dim() for d in (dim if isinstance(dim, (list, tuple)) else [dim])]


@_rule(
    *("mean", "sum", "amax", "amin", "var", "std", "argmax", "argmin", "norm", "logsumexp", "prod"),
    *("linalg_vector_norm", "max", "min", "any", "all", "var_mean", "std_mean", "nansum", "median"),
)
def _reduced(ids: Numbering, out: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
    shaped = out[0] if isinstance(out, (tuple, list)) else out
    if args and isinstance(args[0], Tensor):  # maximum of two
        return None
    if shaped.dim() == x.dim():
        dims = [d for d in range(x.dim()) if shaped.shape[d] == 1]
    elif shaped.dim() == 0:
        dims = list(range(x.dim()))
    else:
        # ``dim`` is the only argument that is a list, or else the first number: of norms, the order
        # is the first.
        given = [a for a in (*args, kwargs.get("dim")) if isinstance(a, list) or type(a) is int]
        dims = _dims(x, next((a for a in given if isinstance(a, list)), given[0]))
    firsts = [ids.grouped(c, dims) for c in ids.components(x)]
    if shaped.dim() < x.dim():
        kept = [d for d in range(x.dim()) if d not in dims]
        firsts = [c.reshape([c.shape[d] for d in kept]) for c in firsts]
    return ids.apart(firsts)


@_rule("_softmax", "_log_softmax", "_safe_softmax", "cumsum", "cumprod", "logcumsumexp")
def _softmax(ids: Numbering, out: Any, x: Tensor, dim: int, *_: Any, **__: Any) -> Any:
    for c in ids.components(x):
        ids.grouped(c, _dims(x, dim))
    return ids.components(x)


def _spatial(dims: int, *names: str) -> None:
    """Register functions that work on each channel by itself, along the last so many dimensions."""

    @_rule(*names)
    def rule(ids: Numbering, out: Any, x: Tensor, *_: Any, **__: Any) -> Any:
        own = range(x.dim() - dims, x.dim())
        return ids.apart([ids.grouped(c, own) for c in ids.components(x)])


_spatial(1, "reflection_pad1d", "replication_pad1d", "upsample_nearest1d", "upsample_linear1d")
_spatial(1, "avg_pool1d", "_upsample_nearest_exact1d")
_spatial(2, "max_pool2d_with_indices", "mkldnn_max_pool2d", "avg_pool2d", "_adaptive_avg_pool2d")
_spatial(2, "adaptive_max_pool2d", "fractional_max_pool2d", "grid_sampler_2d")
_spatial(2, "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d")
_spatial(2, "_upsample_nearest_exact2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa")
_spatial(2, "reflection_pad2d", "replication_pad2d")
_spatial(3, "max_pool3d_with_indices", "avg_pool3d", "_adaptive_avg_pool3d", "adaptive_max_pool3d")
_spatial(3, "upsample_nearest3d", "upsample_trilinear3d", "_upsample_nearest_exact3d")
_spatial(3, "reflection_pad3d", "replication_pad3d", "grid_sampler_3d")


@_rule("glu")
def _glu(ids: Numbering, out: Any, x: Tensor, dim: int = -1) -> Any:
    halves = [c.expand(x.shape).chunk(2, dim) for c in ids.components(x)]
    return ids.join([[compressed(half[part]) for half in halves] for part in (0, 1)])


@_rule("_weight_norm_interface")
def _weight_norm(ids: Numbering, out: Any, v: Tensor, g: Tensor, dim: int = 0) -> Any:
    for c in ids.components(v):
        ids.grouped(c, [d for d in range(v.dim()) if d != dim])
    return ids.join([ids.components(v), ids.components(g)])


@_rule("_trilinear")
def _trilinear(
    ids: Numbering,
    out: Any,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    expand1: Any,
    expand2: Any,
    expand3: Any,
    sumdim: Any,
    *_: Any,
) -> Any:
    sides = []
    for tensor, dims in ((a, expand1), (b, expand2), (c, expand3)):
        found = ids.components(tensor)
        for dim in sorted(dims):
            found = [component.unsqueeze(dim) for component in found]
        sides.append(found)
    dims = out.dim() + len(sumdim)
    summed = [dim % dims for dim in sumdim]
    made = [ids.grouped(component, summed, are_sums=True) for component in ids.join(sides)]
    kept = [dim for dim in range(dims) if dim not in summed]
    return ids.apart([component.permute(*kept, *summed).flatten(len(kept)) for component in made])


@_rule("view_as_complex")
def _view_as_complex(ids: Numbering, out: Any, x: Tensor) -> Any:
    return ids.apart([ids.grouped(c, [x.dim() - 1])[..., 0] for c in ids.components(x)])


@_rule("view_as_real")
def _view_as_real(ids: Numbering, out: Any, x: Tensor) -> Any:
    return [c.unsqueeze(-1) for c in ids.components(x)]
