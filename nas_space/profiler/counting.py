"""What torch's own counter says one call of a function costs."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what happens while it is entered, on the meta device.

    Attributes
    ----------
    flops
        Floating-point operations: two for each multiply-add of a matrix product, a
        convolution or an attention, by the formulas of ``torch.utils.flop_counter``.
    unknown
        Operators of which it is not known what they cost.
    peak
        The most bytes that were held at once by tensors made in the meantime.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        self.unknown: list[str] = []
        self.peak = 0
        self._held = 0
        self._alive: dict[int, _Memory] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        formula = formula_of(func)
        free = formula is None and is_free(func)
        if formula is None and not free:
            with self:  # in inference mode, composite operators come here whole
                parts = func.decompose(*args, **kwargs)
                if parts is not NotImplemented:
                    return parts
        before = {
            storage._cdata: storage.nbytes()
            for storage in (a.untyped_storage() for a in tree_leaves(args) if _is_tensor(a))
        }
        out = func(*args, **kwargs)
        if formula is not None:
            self.flops += formula(args, kwargs, out)
        elif not free:
            self.unknown.append(str(func.name()))
        for tensor in tree_leaves(out):
            if _is_tensor(tensor):
                self._hold(tensor, before)
        return out

    def _hold(self, tensor: torch.Tensor, before: dict[int, int]) -> None:
        """Count the memory of a result: all that is new, or by how much it has grown."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        known = self._alive.get(key)
        if known is None and before.get(key) == size:
            return  # an argument's
        first = before.get(key, 0) if known is None else known.first
        if known is None:

            def release(_: Any) -> None:
                gone = self._alive.pop(key)
                self._held -= gone.size - gone.first

            known = _Memory(weakref.ref(storage, release), first, first)
        self._alive[key] = known._replace(size=size)
        self._held += size - known.size
        self.peak = max(self.peak, self._held)


class _Memory(NamedTuple):
    """Memory that a call has made, or made larger: how large it was at first, and is now."""

    reference: weakref.ref[Any]
    first: int
    size: int


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


Formula = Callable[[Any, Any, Any], int]
"""Operations of a call, by its arguments, its named arguments, and its result."""


def formula_of(func: Any) -> Formula | None:
    """How an operator's floating-point operations are counted; ``None`` if nothing says."""
    packet = func._overloadpacket
    if packet.__name__.endswith("_"):  # in place, and counted alike
        packet = getattr(aten, packet.__name__.removesuffix("_"), packet)
    torchs = flop_registry.get(packet)
    if torchs is not None:
        return lambda args, kwargs, out: int(torchs(*args, **kwargs, out_val=out))
    ours = _MORE.get(packet)
    return None if ours is None else lambda args, _kwargs, _out: ours(args)


def is_free(func: Any) -> bool:
    """Whether an operator without a formula multiplies no matrices, so that it counts as 0.

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


# What torch multiplies, but has no formula for.  Two operations for each multiply-add.


def _each(args: Any) -> int:
    return 2 * int(args[0].numel())


def _each_of_second(args: Any) -> int:
    return 2 * int(args[1].numel())


def _outer(args: Any) -> int:
    return 2 * int(args[1].numel() * args[2].numel())


def _matrices(args: Any) -> int:
    return 2 * int(args[0].numel() * args[1].shape[-1])


def _added_matrices(args: Any) -> int:
    return _matrices(args[1:])


def _distances(args: Any) -> int:
    return 2 * int(args[0].numel() * args[1].shape[-2])


def _trilinear(args: Any) -> int:
    extents: dict[int, int] = {}
    for tensor, inserted in zip(args[:3], args[3:6], strict=True):
        shape = list(tensor.shape)
        for place in sorted(inserted):
            shape.insert(place, 1)
        for place, extent in enumerate(shape):
            extents[place] = max(extents.get(place, 1), extent)
    return 2 * math.prod(extents.values())


def _attention(args: Any) -> int:
    query, key, value = args[:3]
    scores = math.prod(query.shape[:-1]) * key.shape[-2]
    return 2 * int(scores * (query.shape[-1] + value.shape[-1]))


_MORE: dict[Any, Callable[[Any], int]] = {
    aten.dot: _each,
    aten.vdot: _each,
    aten.mv: _each,
    aten.addmv: _each_of_second,
    aten.addr: _outer,
    aten._int_mm: _matrices,
    aten.addbmm: _added_matrices,
    aten._addmm_activation: _added_matrices,
    aten._cdist_forward: _distances,
    aten._trilinear: _trilinear,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_fused_attention_overrideable: _attention,
}
