"""Follow the identity of channels through a network: which elements of weights meet which.

Beside every tensor run integers that say from which index of which parameter an element comes.
Data movement (views, concatenation, chunks, indexing, ...) moves the integers alike.  Where two
elements are added or multiplied they *meet*.  A smaller network is the original with some
channels left out exactly if all that meets in it has met in the original: that is what
:meth:`Identities.check` holds a network to, whatever its code does to the order of channels.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from .identity_rules import MEETS, aligned, compressed

__all__ = ["Identities", "Misplaced"]

_NONE = -1


class Misplaced(Exception):  # noqa: N818 - caught here, where it becomes a reason
    """Channels meet that never met in the original."""


class Identities(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What meets what.

    Parameters
    ----------
    tensors
        For each tensor, the dimensions that are followed.

    Attributes
    ----------
    starts, lengths
        For each dimension that is followed, the number of its first element, and how many it has.
    lost
        Functions whose effect on channels is not known, with the numbers of those.
    normalised
        Numbers of elements whose sums are more than products with weights: if one of these is
        zero, the others are not what they were without it.
    """

    def __init__(self, tensors: Mapping[Tensor, Sequence[int]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known: Any = WeakTensorKeyDictionary()
        self._of_parameters: Any = WeakTensorKeyDictionary()
        self.starts: dict[tuple[int, int], int] = {}
        self.lengths: dict[tuple[int, int], int] = {}
        self.lost: dict[str, set[int]] = {}
        self.normalised: set[int] = set()
        self._losing: set[tuple[str, int]] = set()
        self._weights: Any = WeakTensorKeyDictionary()  # parameters that were moved only
        self._recorded: list[tuple[str, list[npt.NDArray[np.int64]]]] = []
        self._final: list[tuple[str, npt.NDArray[np.int64]]] | None = None
        self._step = 0
        total = 0
        for tensor, dims in tensors.items():
            components = []
            for dim in dims:
                size = tensor.shape[dim]
                self.starts[id(tensor), dim], self.lengths[id(tensor), dim] = total, size
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
        """Enter a context in which what meets is noted."""
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
        """Enter a context in which what meets must have met before; raises :class:`Misplaced`."""
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
            self._weights.clear()

    @property
    def _base(self) -> int:
        return self.total + 1

    def roots(self) -> npt.NDArray[np.int64]:
        """Return for each number that of its class: channels that are one channel."""
        parent = self._parent
        while True:
            above = parent[parent]
            if np.array_equal(above, parent):
                return parent
            self._parent = parent = above

    # -- tensors --------------------------------------------------------------------------------

    def components(self, tensor: Tensor) -> list[Tensor]:
        """Return numbers of elements: as many dimensions, of size 1 where they do not vary."""
        found = self._known.get(tensor)
        if found is None:
            found = self._of_parameters.get(tensor)
        return found or []

    def is_weight(self, *tensors: Tensor) -> bool:
        """Tell whether one of some tensors is a parameter, or a view of one."""
        return any(t in self._of_parameters or t in self._weights for t in tensors)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        given = [t for t in torch.utils._pytree.tree_leaves((args, kwargs)) if type(t) is not int]
        given = [t for t in given if isinstance(t, Tensor)]
        name = str(func.overloadpacket.__name__)
        moves = name in _MOVES or (func.is_view and name not in MEETS)
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

    def _follow(self, func: Any, name: str, moves: bool, out: Any, args: Any, kwargs: Any) -> None:
        try:
            found = self._found(func, name, moves, out, args, kwargs)
        except Misplaced:
            raise
        except Exception:  # noqa: BLE001 - what a rule cannot take is what none is known of
            found = None
        if found is None:
            self._lose(name, args, kwargs)
            return
        if moves and isinstance(args[0], Tensor) and self.is_weight(args[0]):
            for part in out if isinstance(out, (tuple, list)) else [out]:
                self._weights[part] = True
        first = out[0] if isinstance(out, (tuple, list)) and out else out
        if isinstance(found, dict):
            for place, components in found.items():
                self._known[out[place]] = components
        elif isinstance(first, Tensor):
            self._known[first] = found

    def _found(self, func: Any, name: str, moves: bool, out: Any, args: Any, kwargs: Any) -> Any:
        """The numbers of what a function returns; ``None`` where they are not known."""
        if name in _CONSTANT:
            return []
        if name in MEETS:
            return MEETS[name](self, out, *args, **kwargs)
        if moves:
            return self._moved(func, name, out, args, kwargs)
        if torch.Tag.pointwise in func.tags or name in _POINTWISE:
            return self._pointwise(out, args, kwargs)
        return None

    def _lose(self, name: str, args: Any, kwargs: Any) -> None:
        if self._final is not None:
            if (name, self._step) in self._losing:
                return  # it was so in the original: what it takes is held
            raise Misplaced(f"what {name} does to the order of channels is not known")
        self._losing.add((name, self._step))
        into = self.lost.setdefault(name, set())
        for leaf in torch.utils._pytree.tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                for component in self.components(leaf):
                    into.update(np.unique(component.numpy()).tolist())

    # -- meeting --------------------------------------------------------------------------------

    def meet(self, a: Tensor, b: Tensor) -> None:
        """Note, or check, that elements at the same place meet."""
        shared = [i for i in range(a.dim()) if a.shape[i] > 1 and b.shape[i] > 1]
        if not shared:
            return
        x, y = np.broadcast_arrays(a.numpy(), b.numpy())
        first, second = x.reshape(-1), y.reshape(-1)
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
        """Return components without those that say the same, and those that say nothing."""
        roots = self.roots()
        found: list[Tensor] = []
        for component in components:
            if component.numel() == 1:
                continue
            named = torch.from_numpy(roots[component.numpy()])
            if not any(named.shape == other.shape and torch.equal(named, other) for other in found):
                found.append(named)
        return found

    def grouped(self, component: Tensor, dims: Sequence[int], *, are_sums: bool = False) -> Tensor:
        """Return what stands for a component after dimensions are summed over: its first element.

        Elements that are summed together meet in it.

        Parameters
        ----------
        are_sums
            Whether an element that is zero is one that is not there.
        """
        dims = [d for d in dims if component.shape[d] > 1]
        if not dims:
            return component
        if not are_sums and self._final is None:
            self.normalised.update(np.unique(component.numpy()).tolist())
        first = component
        for dim in dims:
            first = first.narrow(dim, 0, 1)
        if first.numel() > 1:
            self.meet(component, first.expand(component.shape))
        return first

    # -- kinds of functions ---------------------------------------------------------------------

    def _pointwise(self, out: Any, args: Any, kwargs: Any) -> list[Tensor]:
        shaped = out[0] if isinstance(out, (tuple, list)) else out
        leaves = torch.utils._pytree.tree_leaves((args, kwargs))
        operands = [
            aligned(self, leaf, shaped.dim()) for leaf in leaves if isinstance(leaf, Tensor)
        ]
        return self.join(operands)

    def join(self, operands: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """Return components of what is made of several operands, element by element."""
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
        if name in ("slice_scatter", "select_scatter", "as_strided", "set_"):
            return None
        if name == "copy_":
            return aligned(self, args[1], args[0].dim())
        if any(
            self.components(t)
            for t in torch.utils._pytree.tree_leaves((args[1:], kwargs))
            if isinstance(t, Tensor)
        ):
            return None
        if name in _IN_PLACE:  # the tensor has its new shape already, its numbers have not
            made = [_IN_PLACE[name](c, *args[1:]) for c in self.components(source)]
            return made if all(c.dim() == out.dim() for c in made) else None
        if name in _VIEWS:
            func = _reshaped
        elif name == "constant_pad_nd":
            return self._padded(source, args[1])
        rest, named = tree_map(_beside_numbers, (tuple(args[1:]), kwargs))
        results = [
            func(component.expand(source.shape), *rest, **named)
            for component in self.components(source)
        ]
        if isinstance(out, (tuple, list)):
            return {
                place: [compressed(result[place]) for result in results]
                for place in range(len(out))
            }
        return self.apart([compressed(result) for result in results])

    def _padded(self, source: Tensor, pad: Sequence[int]) -> list[Tensor]:
        """Zeros around meet nothing: along what does not vary, they need no number of their own."""
        made = []
        for component in self.components(source):
            own = list(pad)
            for place in range(len(own)):
                if component.shape[-1 - place // 2] == 1:
                    own[place] = 0
            made.append(torch.nn.functional.pad(component, own, value=_NONE))
        return self.apart(made)

    def _concatenated(self, func: Any, args: Any, kwargs: Any) -> list[Tensor]:
        tensors = [t for t in args[0] if not (t.dim() == 1 and t.numel() == 0)]
        parts = [self.components(t) for t in tensors]
        made = []
        for place in range(max(map(len, parts))):
            row = [
                (own[place] if place < len(own) else torch.tensor(_NONE)).expand(t.shape)
                for own, t in zip(parts, tensors, strict=True)
            ]
            made.append(compressed(func(row, *args[1:], **kwargs)))
        return self.apart(made)

    def contract(
        self, sides: Sequence[Sequence[Tensor]], dim: int, *, has_weight: bool
    ) -> list[Tensor]:
        """Return components of a product of two sides in one space of dimensions, summed over one.

        Parameters
        ----------
        has_weight
            Whether a side is a weight.  What two activations make together is often scaled by
            how many elements there are.
        """
        for a in sides[0]:
            for b in sides[1]:
                self.meet(a, b)
        return self.apart(
            [self.grouped(c, [dim], are_sums=has_weight) for side in sides for c in side]
        )


def _beside_numbers(value: Any) -> Any:
    """Indices, and devices to move to, where the numbers are, wherever the network is."""
    if isinstance(value, Tensor):
        return value.cpu()
    return torch.device("cpu") if isinstance(value, torch.device) else value


def _reshaped(tensor: Tensor, shape: Any) -> Tensor:
    return tensor.reshape(shape)


@contextmanager
def _outside() -> Iterator[None]:
    from torch.utils._python_dispatch import _disable_current_modes

    with _disable_current_modes():
        yield


_VIEWS = frozenset({"view", "_unsafe_view", "reshape", "_reshape_alias", "_reshape_copy"})
_IN_PLACE: dict[str, Any] = {
    "t_": torch.t,
    "transpose_": torch.transpose,
    "squeeze_": torch.squeeze,
    "unsqueeze_": torch.unsqueeze,
}
_MOVES = frozenset(
    {
        *("cat", "stack", "clone", "contiguous", "_to_copy", "to", "detach", "lift_fresh", "alias"),
        *("repeat", "roll", "flip", "index", "index_select", "gather", "constant_pad_nd", "expand"),
        *("_unsafe_view", "_reshape_copy", "permute_copy", "copy_", "copy", "take_along_dim"),
        *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle"),
        *("im2col", "_unsafe_index", "slice_scatter", "select_scatter", "tril", "triu", "set_"),
        *("unsafe_split", "unsafe_chunk", "unsafe_split_with_sizes", "_conj"),
        *_IN_PLACE,
    }
)
_POINTWISE = frozenset(
    {
        *("dropout", "native_dropout", "masked_fill", "masked_fill_", "where", "rrelu"),
        *("hardswish", "hardswish_", "_prelu_kernel", "log_sigmoid_forward", "rsub"),
        *("rrelu_with_noise", "floor_divide", "polar", "complex"),
    }
)
_CONSTANT = frozenset(
    {
        *("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like"),
        *("new_zeros", "new_ones", "new_full", "new_empty", "fill", "fill_", "zero_"),
    }
)
"""Functions whose result does not depend on which elements there are."""
