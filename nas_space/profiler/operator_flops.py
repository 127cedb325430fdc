"""Floating-point operations of one call of an operator, as torch's own counter counts them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

__all__ = ["Formula", "aten", "formula_of", "is_free"]

aten = torch.ops.aten

Formula = Callable[[Any, Any, Any], int]
"""Operations of a call, by its arguments, its named arguments, and its result."""


def formula_of(func: Any) -> Formula | None:
    """Return how an operator's floating-point operations are counted; ``None`` if nothing says."""
    packet = func._overloadpacket
    if packet.__name__.endswith("_"):  # in place, and counted alike
        packet = getattr(aten, packet.__name__.removesuffix("_"), packet)
    torchs = flop_registry.get(packet)
    if torchs is not None:
        return lambda args, kwargs, out: int(torchs(*args, **kwargs, out_val=out))
    ours = _MORE.get(packet)
    return None if ours is None else lambda args, _kwargs, _out: 2 * int(ours(*args))


def is_free(func: Any) -> bool:
    """Return whether an operator without a formula multiplies no matrices, so that it counts as 0.

    That is so for torch's own operators, but for those whose name says otherwise.
    """
    name: str = func._overloadpacket.__name__
    if func.namespace not in ("aten", "prims", "prim"):
        return False
    if name in _FREE or name.startswith("upsample"):
        return True
    return _PRODUCTS.isdisjoint(name.strip("_").split("_"))


_PRODUCTS = frozenset(
    {
        *("mm", "bmm", "addmm", "addbmm", "baddbmm", "spmm", "hspmm", "sspaddmm", "spsolve"),
        *("matmul", "mv", "addmv", "dot", "vdot", "addr", "ger", "outer", "einsum", "tensordot"),
        *("linear", "bilinear", "trilinear", "convolution", "conv", "conv2d", "conv3d"),
        *("attention", "transformer", "rnn", "lstm", "gru", "cdist", "pdist"),
        *("linalg", "cholesky", "qr", "ormqr", "solve", "svd", "lstsq"),
    }
)
_FREE = frozenset({"linalg_vector_norm", "linalg_cross", "linalg__powsum", "_linalg_check_errors"})


def _trilinear(*args: Any) -> int:
    extents: dict[int, int] = {}
    for tensor, inserted in zip(args[:3], args[3:6], strict=True):
        shape = list(tensor.shape)
        for place in sorted(inserted):
            shape.insert(place, 1)
        for place, extent in enumerate(shape):
            extents[place] = max(extents.get(place, 1), extent)
    return math.prod(extents.values())


def _attention(query: Any, key: Any, value: Any, *_: Any) -> int:
    scores = math.prod(query.shape[:-1]) * key.shape[-2]
    return int(scores * (query.shape[-1] + value.shape[-1]))


_MORE: dict[Any, Callable[..., int]] = {
    aten.dot: lambda x, _: x.numel(),
    aten.vdot: lambda x, _: x.numel(),
    aten.mv: lambda a, _: a.numel(),
    aten.addmv: lambda _, a, *__: a.numel(),
    aten.addr: lambda _, x, y: x.numel() * y.numel(),
    aten._int_mm: lambda a, b: a.numel() * b.shape[-1],
    aten.addbmm: lambda _, a, b: a.numel() * b.shape[-1],
    aten._addmm_activation: lambda _, a, b: a.numel() * b.shape[-1],
    aten._cdist_forward: lambda a, b, *_: a.numel() * b.shape[-2],
    aten._trilinear: _trilinear,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_fused_attention_overrideable: _attention,
}
"""Multiply-adds, by the arguments, of what torch multiplies but has no formula for."""
