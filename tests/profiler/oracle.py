"""What the profiler must agree with: torch's own counters, on frozen networks, one by one."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from nas_space.mutable import Mutable


def architectures(space: Any, limit: int = 2000) -> list[dict[str, Any]]:
    """Every architecture of a small space."""
    found: list[dict[str, Any]] = []
    memo: dict[str, Any] = {}
    for _ in Mutable.grid(_Bare(space), memo):
        found.append(dict(memo))
        assert len(found) <= limit, "too many to enumerate"
    return found


class _Bare(Mutable):
    """A space without its modules: enumerating freezes nothing."""

    def __init__(self, space: Any) -> None:
        self.space = space

    def structure(self) -> Any:
        return self.space.structure()

    def freeze_values(self, values: Any) -> None:
        pass


def on_meta(value: Any) -> Any:
    return tree_map_only(torch.Tensor, lambda t: torch.empty_like(t, device="meta"), value)


def arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs as macs() takes them, as arguments of a forward on the meta device."""
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    named: dict[str, Any] = {}
    if len(given) > 1 and isinstance(given[-1], dict):
        given, named = given[:-1], given[-1]
    return on_meta(given), on_meta(named)


def flops(net: nn.Module, inputs: Any) -> int:
    """By torch's counter."""
    args, kwargs = arguments(inputs)
    net = net.to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(*args, **kwargs)
    return int(counter.get_total_flops())


def params(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def kept(net: nn.Module, inputs: Any) -> int:
    """Bytes that autograd saves for the backward pass, but for the network's own tensors."""
    args, kwargs = arguments(inputs)
    net = net.to("meta").train()
    own = {t.untyped_storage()._cdata for t in (*net.parameters(), *net.buffers())}
    saved: dict[int, Any] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            saved[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = net(*args, **kwargs)
    del out
    return sum(storage.nbytes() for storage in saved.values())


class _Peak(TorchDispatchMode):
    """The most bytes held at once by tensors that were made, or were there at first."""

    def __init__(self, first: list[torch.Tensor], own: list[torch.Tensor]) -> None:
        super().__init__()
        self.own = {t.untyped_storage()._cdata for t in own}
        self.alive: dict[int, Any] = {}
        self.sizes: dict[int, int] = {}
        self.held = self.peak = 0
        for tensor in first:
            self.note(tensor)

    def note(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self.own:
            return

        def gone(_: Any) -> None:
            del self.alive[key]
            self.held -= self.sizes.pop(key)

        if key not in self.alive:
            self.alive[key] = weakref.ref(storage, gone)
        self.held += size - self.sizes.get(key, 0)  # it may have been made larger
        self.sizes[key] = size
        self.peak = max(self.peak, self.held)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.note(leaf)
        return out


def peak(net: nn.Module, inputs: Any) -> int:
    """The most bytes of activations that are held at once in inference."""
    args, kwargs = arguments(inputs)
    net = net.to("meta").eval()
    first = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    mode = _Peak(first, [*net.parameters(), *net.buffers()])
    with torch.no_grad(), mode:
        net(*args, **kwargs)
    return mode.peak
