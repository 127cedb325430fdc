"""Follow the identity of channels through a network: which elements of weights meet which.

Beside every tensor run integers that say from which index of which parameter an element comes.
Data movement (views, concatenation, chunks, indexing, ...) moves the integers alike.  Where two
elements are added or multiplied they *meet*.  A smaller network is the original with some
channels left out exactly if all that meets in it has met in the original: that is what
:meth:`Identities.check` holds a network to, whatever its code does to the order of channels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

__all__ = ["Identities", "Misplaced"]

Axis = tuple[int, int]
"""Where the numbers of a dimension start, and how many there are."""

_NONE = -1
_aten = torch.ops.aten


class Misplaced(Exception):  # noqa: N818 - caught here, where it becomes a reason
    """Channels meet that never met in the original."""


class Identities(TorchDispatchMode):
    """What meets what.

    Parameters
    ----------
    tensors
        For each tensor, the dimensions that are followed.

    Attributes
    ----------
    starts
        For each dimension that is followed, the number of its first element.
    lost
        Functions whose effect on channels is not known, with the numbers of those.
    """

    def __init__(self, tensors: Mapping[Tensor, Sequence[int]]) -> None:
        super().__init__()
        self._known = WeakTensorKeyDictionary()
        self._of_parameters = WeakTensorKeyDictionary()
        self.starts: dict[tuple[int, int], int] = {}
        self.lost: dict[str, set[int]] = {}
        self._recorded: list[tuple[str, list[npt.NDArray[np.int64]]]] = []
        self._final: list[tuple[str, npt.NDArray[np.int64]]] | None = None
        self._step = 0
        total = 0
        for tensor, dims in tensors.items():
            components = []
            for dim in dims:
                size = tensor.shape[dim]
                self.starts[id(tensor), dim] = total
                shape = [1] * tensor.dim()
                shape[dim] = size
                components.append(torch.arange(total, total + size).view(shape))
                total += size
            self._of_parameters[tensor] = components
        self.total = total
        self._parent = np.arange(total + 1)  # the last one is its own: -1 stays apart

    # -- recording, then checking ---------------------------------------------------------------

    @contextmanager
    def recording(self) -> Iterator[None]:
        """A context in which what meets is noted."""
        with self._running():
            yield
        roots = self.roots()
        self._final = []
        for name, found in self._recorded:
            codes = np.concatenate(found) if found else np.empty(0, dtype=np.int64)
            first, second = roots[codes // self._base], roots[codes % self._base]
            self._final.append((name, np.unique(first * self._base + second)))
        self._recorded = []

    @contextmanager
    def checking(self) -> Iterator[None]:
        """A context in which what meets must have met before; raises :class:`Misplaced`."""
        with self._running():
            yield

    @contextmanager
    def _running(self) -> Iterator[None]:
        self._step = 0
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with (
                warnings.catch_warnings(action="ignore"),
                torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
                torch.backends.mkldnn.flags(enabled=False),  # recurrent layers as what they do
                self,
            ):
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            self._known.clear()

    @property
    def _base(self) -> int:
        return self.total + 1

    def roots(self) -> npt.NDArray[np.int64]:
        """For each number, the number of its class: channels that are one channel."""
        parent = self._parent
        while True:
            above = parent[parent]
            if np.array_equal(above, parent):
                return parent
            self._parent = parent = above

    # -- tensors --------------------------------------------------------------------------------

    def components(self, tensor: Tensor) -> list[Tensor]:
        """Numbers of elements: tensors of as many dimensions, of size 1 where they do not vary."""
        found = self._known.get(tensor)
        if found is None:
            found = self._of_parameters.get(tensor)
        return found or []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        given = [t for t in torch.utils._pytree.tree_leaves((args, kwargs)) if type(t) is not int]
        given = [t for t in given if isinstance(t, Tensor)]
        name = str(func.overloadpacket.__name__)
        moves = name in _MOVES or (func.is_view and name not in _RULES)
        if not moves:
            self._begin(name)
        if any(self.components(t) for t in given):
            with _outside():
                self._follow(func, name, moves, out, args, kwargs)
        elif isinstance(out, Tensor) and out in self._known and name.endswith("_"):
            del self._known[out]
        return out

    def _begin(self, name: str) -> None:
        if self._final is None:
            self._recorded.append((name, []))
        elif self._step >= len(self._final) or self._final[self._step][0] != name:
            raise Misplaced(f"the forward takes another path: {name} is called")
        self._step += 1

    def _follow(
        self, func: Any, name: str, moves: bool, out: Any, args: Any, kwargs: Any
    ) -> None:
        if name in _RULES:
            found = _RULES[name](self, out, *args, **kwargs)
        elif moves:
            found = self._moved(func, name, out, args, kwargs)
        elif torch.Tag.pointwise in func.tags or name in _POINTWISE:
            found = self._pointwise(out, args, kwargs)
        else:
            found = None
        if found is None:
            self._lose(name, args, kwargs)
            return
        first = out[0] if isinstance(out, (tuple, list)) and out else out
        if isinstance(found, dict):
            for place, components in found.items():
                self._known[out[place]] = components
        elif isinstance(first, Tensor):
            self._known[first] = found

    def _lose(self, name: str, args: Any, kwargs: Any) -> None:
        if self._final is not None:
            return
        into = self.lost.setdefault(name, set())
        for leaf in torch.utils._pytree.tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                for component in self.components(leaf):
                    into.update(component.unique().tolist())

    # -- meeting --------------------------------------------------------------------------------

    def meet(self, a: Tensor, b: Tensor) -> None:
        """Notes, or checks, that elements at the same place meet."""
        shared = [i for i in range(a.dim()) if a.shape[i] > 1 and b.shape[i] > 1]
        if not shared:
            return
        x, y = torch.broadcast_tensors(a, b)
        first, second = x.reshape(-1).numpy(), y.reshape(-1).numpy()
        there = (first >= 0) & (second >= 0)
        first, second = first[there], second[there]
        if self._final is None:
            codes = np.unique(first * self._base + second)
            self._recorded[-1][1].append(codes)
            first, second = codes // self._base, codes % self._base
            alike = len(np.unique(first)) == len(codes) == len(np.unique(second))
            if a.shape == b.shape and alike:
                self._unite(first, second)
            return
        roots = self.roots()
        codes = np.unique(roots[first] * self._base + roots[second])
        name, known = self._final[self._step - 1]
        if not np.isin(codes, known, assume_unique=True).all():
            raise Misplaced(f"channels meet in {name} that do not belong together")

    def _unite(self, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> None:
        roots = self.roots()
        a, b = roots[first], roots[second]
        while True:
            low, high = np.minimum(a, b), np.maximum(a, b)
            differ = low != high
            if not differ.any():
                return
            np.minimum.at(self._parent, high[differ], low[differ])
            roots = self.roots()
            a, b = roots[a], roots[b]

    def apart(self, components: Sequence[Tensor]) -> list[Tensor]:
        """Components without those that say the same, and those that say nothing."""
        roots = self.roots()
        found: list[Tensor] = []
        for component in components:
            if component.numel() == 1:
                continue
            named = torch.from_numpy(roots[component.numpy()])
            if not any(named.shape == other.shape and torch.equal(named, other) for other in found):
                found.append(named)
        return found

    def grouped(self, component: Tensor, dims: Sequence[int]) -> Tensor:
        """What stands for a component after dimensions are summed over: its first element.

        Elements that are summed together meet in it.
        """
        dims = [d for d in dims if component.shape[d] > 1]
        if not dims:
            return component
        first = component
        for dim in dims:
            first = first.narrow(dim, 0, 1)
        if first.numel() > 1:
            whole = first.expand(component.shape)
            self.meet(component, whole.contiguous())
        return first

    # -- kinds of functions ---------------------------------------------------------------------

    def _pointwise(self, out: Any, args: Any, kwargs: Any) -> list[Tensor]:
        shaped = out[0] if isinstance(out, (tuple, list)) else out
        operands: list[list[Tensor]] = []
        for leaf in torch.utils._pytree.tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                lead = shaped.dim() - leaf.dim()
                operands.append(
                    [c.reshape((1,) * lead + tuple(c.shape)) for c in self.components(leaf)]
                )
        return self.join(operands)

    def join(self, operands: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """Components of what is made of several operands, element by element."""
        for place, one in enumerate(operands):
            for other in operands[place + 1 :]:
                for a in one:
                    for b in other:
                        self.meet(a, b)
        return self.apart([component for one in operands for component in one])

    def _moved(self, func: Any, name: str, out: Any, args: Any, kwargs: Any) -> Any:
        if name in ("cat", "stack"):
            return self._concatenated(func, args, kwargs)
        source = args[0]
        if name in ("copy_", "slice_scatter", "select_scatter"):
            source = args[1]
            if name != "copy_":
                return None
            lead = args[0].dim() - source.dim()
            return [c.reshape((1,) * lead + tuple(c.shape)) for c in self.components(source)]
        if any(
            self.components(t)
            for t in torch.utils._pytree.tree_leaves((args[1:], kwargs))
            if isinstance(t, Tensor)
        ):
            return None
        if name in _VIEWS:
            func = _reshaped
        elif name == "constant_pad_nd":
            args = (*args[:2], _NONE)
        results = [
            func(component.expand(source.shape), *args[1:], **kwargs)
            for component in self.components(source)
        ]
        if isinstance(out, (tuple, list)):
            return {
                place: [_compressed(result[place]) for result in results]
                for place in range(len(out))
            }
        return self.apart([_compressed(result) for result in results])

    def _concatenated(self, func: Any, args: Any, kwargs: Any) -> list[Tensor]:
        tensors = [t for t in args[0] if not (t.dim() == 1 and t.numel() == 0)]
        parts = [self.components(t) for t in tensors]
        made = []
        for place in range(max(map(len, parts))):
            row = [
                (own[place] if place < len(own) else torch.tensor(_NONE)).expand(t.shape)
                for own, t in zip(parts, tensors, strict=True)
            ]
            made.append(_compressed(func(row, *args[1:], **kwargs)))
        return self.apart(made)

    def contract(self, sides: Sequence[Sequence[Tensor]], dim: int) -> list[Tensor]:
        """Components of a product of two sides in one space of dimensions, summed over one."""
        for a in sides[0]:
            for b in sides[1]:
                self.meet(a, b)
        return self.apart([self.grouped(c, [dim]) for side in sides for c in side])


def _reshaped(tensor: Tensor, shape: Any) -> Tensor:
    return tensor.reshape(shape)


def _compressed(tensor: Tensor) -> Tensor:
    for dim in range(tensor.dim()):
        if tensor.shape[dim] > 1:
            first = tensor.narrow(dim, 0, 1)
            if tensor.stride(dim) == 0 or bool((tensor == first).all()):
                tensor = first
    return tensor


@contextmanager
def _outside() -> Iterator[None]:
    from torch.utils._python_dispatch import _disable_current_modes

    with _disable_current_modes():
        yield


_VIEWS = frozenset({"view", "_unsafe_view", "reshape", "_reshape_alias", "_reshape_copy"})
_MOVES = frozenset(
    {
        *("cat", "stack", "clone", "contiguous", "_to_copy", "to", "detach", "lift_fresh", "alias"),
        *("repeat", "roll", "flip", "index", "index_select", "gather", "constant_pad_nd", "expand"),
        *("_unsafe_view", "_reshape_copy", "permute_copy", "copy_", "pixel_shuffle", "copy"),
        *("pixel_unshuffle", "channel_shuffle", "native_channel_shuffle", "im2col", "take_along_dim"),
        *("_unsafe_index", "slice_scatter", "select_scatter", "tril", "triu", "_conj", "set_"),
        *("unsafe_split", "unsafe_chunk", "unsafe_split_with_sizes"),
        *("reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d"),
    }
)
_POINTWISE = frozenset({"dropout", "native_dropout", "masked_fill", "masked_fill_", "where", "rrelu"})
_RULES: dict[str, Callable[..., Any]] = {}


def _rule(*names: str) -> Callable[[Any], Any]:
    def register(made: Any) -> Any:
        _RULES.update(dict.fromkeys(names, made))
        return made

    return register


@_rule("mm")
def _mm(ids: Identities, out: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    return ids.apart(
        [
            c.squeeze(1)
            for c in ids.contract(
                ([c.unsqueeze(2) for c in ids.components(a)],
                 [c.unsqueeze(0) for c in ids.components(b)]), 1)
        ]
    )


@_rule("addmm")
def _addmm(ids: Identities, out: Tensor, bias: Tensor, a: Tensor, b: Tensor, **_: Any) -> Any:
    lead = 2 - bias.dim()
    own = [c.reshape((1,) * lead + tuple(c.shape)) for c in ids.components(bias)]
    return ids.join([_mm(ids, out, a, b), own])


@_rule("bmm")
def _bmm(ids: Identities, out: Tensor, a: Tensor, b: Tensor, **_: Any) -> list[Tensor]:
    made = ids.contract(
        ([c.unsqueeze(3) for c in ids.components(a)], [c.unsqueeze(1) for c in ids.components(b)]),
        2,
    )
    return ids.apart([c.squeeze(2) for c in made])


@_rule("baddbmm")
def _baddbmm(ids: Identities, out: Tensor, bias: Tensor, a: Tensor, b: Tensor, **_: Any) -> Any:
    lead = 3 - bias.dim()
    own = [c.reshape((1,) * lead + tuple(c.shape)) for c in ids.components(bias)]
    return ids.join([_bmm(ids, out, a, b), own])


@_rule("mv", "dot")
def _mv(ids: Identities, out: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    lead = a.dim() - b.dim()
    sides = (ids.components(a), [c.reshape((1,) * lead + tuple(c.shape)) for c in ids.components(b)])
    made = ids.contract(sides, a.dim() - 1)
    return ids.apart([c.squeeze(-1) for c in made])


@_rule("convolution")
def _convolution(
    ids: Identities, out: Tensor, x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any,
    dilation: Any, transposed: bool, output_padding: Any, groups: int,
) -> list[Tensor] | None:
    inner = [c for c in ids.components(x) if math.prod(c.shape[2:]) == 1]
    n, channels = x.shape[0], x.shape[1]
    if len(inner) < len(ids.components(x)):
        return None
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
    sides = ([_compressed(c) for c in left], [_compressed(c) for c in right])
    made = [
        c.squeeze(2).expand(c.shape[0], groups, outs).reshape(c.shape[0], -1)
        for c in ids.contract(sides, 2)
    ]
    tail = (1,) * (out.dim() - 2)
    made = [_compressed(c.reshape(*c.shape, *tail)) for c in made]
    own = [] if bias is None else [c.reshape(1, -1, *tail) for c in ids.components(bias)]
    return ids.join([made, own])


@_rule("embedding")
def _embedding(ids: Identities, out: Tensor, weight: Tensor, index: Tensor, *_: Any) -> Any:
    lead = (1,) * (out.dim() - 1)
    return [c.reshape(*lead, -1) for c in ids.components(weight) if c.shape[0] == 1]


def _along(channel: Tensor | None, dims: int, ids: Identities) -> list[Tensor]:
    if channel is None:
        return []
    return [c.reshape(1, -1, *(1,) * (dims - 2)) for c in ids.components(channel)]


@_rule("native_batch_norm", "_native_batch_norm_legit", "_batch_norm_with_update", "cudnn_batch_norm",
       "_native_batch_norm_legit_no_training", "_batch_norm_no_update", "native_batch_norm_legit")
def _batch_norm(ids: Identities, out: Any, x: Tensor, *others: Any, **_: Any) -> Any:
    per_channel = [t for t in others if isinstance(t, Tensor)]
    return ids.join([ids.components(x), *(_along(t, x.dim(), ids) for t in per_channel)])


@_rule("native_layer_norm", "_fused_rms_norm")
def _layer_norm(ids: Identities, out: Any, x: Tensor, shape: Any, *others: Any) -> Any:
    own = []
    for tensor in others:
        if isinstance(tensor, Tensor):
            lead = (1,) * (x.dim() - tensor.dim())
            own.append([c.reshape(*lead, *c.shape) for c in ids.components(tensor)])
    dims = range(x.dim() - len(shape), x.dim())
    for c in ids.components(x):
        ids.grouped(c, dims)
    return ids.join([ids.components(x), *own])


@_rule("native_group_norm")
def _group_norm(
    ids: Identities, out: Any, x: Tensor, weight: Any, bias: Any, n: int, c: int, hw: int,
    group: int, eps: float,
) -> Any:
    for component in ids.components(x):
        if component.shape[1] > 1:
            ids.grouped(component.reshape(component.shape[0], group, -1), [2])
    return ids.join(
        [ids.components(x), _along(weight, x.dim(), ids), _along(bias, x.dim(), ids)]
    )


def _dims(x: Tensor, dim: Any) -> list[int]:
    if dim is None or dim == []:
        return list(range(x.dim()))
    return [d % x.dim() for d in (dim if isinstance(dim, (list, tuple)) else [dim])]


@_rule("mean", "sum", "amax", "amin", "var", "std", "argmax", "argmin", "norm", "logsumexp", "prod",
       "linalg_vector_norm", "max", "min", "any", "all", "var_mean", "std_mean", "nansum", "median")
def _reduced(ids: Identities, out: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
    shaped = out[0] if isinstance(out, (tuple, list)) else out
    if len(args) and isinstance(args[0], Tensor):  # maximum of two
        return None
    if shaped.dim() == x.dim():
        dims = [d for d in range(x.dim()) if shaped.shape[d] == 1]
    elif shaped.dim() == 0:
        dims = list(range(x.dim()))
    else:
        # ``dim`` is the only argument that is a list or, for some, a number.
        given = [a for a in (*args, kwargs.get("dim")) if isinstance(a, list) or type(a) is int]
        dims = _dims(x, given[-1] if isinstance(given[0], float) else given[0])
    firsts = [ids.grouped(c, dims) for c in ids.components(x)]
    if shaped.dim() < x.dim():
        kept = [d for d in range(x.dim()) if d not in dims]
        firsts = [c.reshape([c.shape[d] for d in kept]) for c in firsts]
    return ids.apart(firsts)


@_rule("_softmax", "_log_softmax", "_safe_softmax", "cumsum", "cumprod")
def _softmax(ids: Identities, out: Any, x: Tensor, dim: int, *_: Any, **__: Any) -> Any:
    for c in ids.components(x):
        ids.grouped(c, _dims(x, dim))
    return ids.components(x)


@_rule("max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d",
       "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "_upsample_bilinear2d_aa",
       "upsample_nearest1d", "upsample_linear1d", "avg_pool1d", "max_pool3d_with_indices",
       "avg_pool3d", "_adaptive_avg_pool3d", "upsample_trilinear3d", "grid_sampler_2d",
       "_upsample_nearest_exact2d", "mkldnn_max_pool2d", "_upsample_bicubic2d_aa")
def _spatial(ids: Identities, out: Any, x: Tensor, *_: Any, **__: Any) -> Any:
    channels = 2 if x.dim() in (4, 5) else 1
    found = ids.components(x)
    return found if all(math.prod(c.shape[channels:]) == 1 for c in found) else None


@_rule("native_dropout")
def _dropout(ids: Identities, out: Any, x: Tensor, *_: Any) -> Any:
    return ids.components(x)
