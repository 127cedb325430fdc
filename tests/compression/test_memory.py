"""Memory: a network is analysed, sorted and frozen within 1.3 times its own, beyond itself."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import nas_space as ns


class Held(TorchDispatchMode):
    """Counts the bytes of storages that are held at once, of those that come to be in it."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.known: dict[int, list[Any]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in torch.utils._pytree.tree_leaves(result):
            if type(leaf) in (torch.Tensor, nn.Parameter) and not leaf.is_meta:
                self._note(leaf)
        self.peak = max(self.peak, self.now())
        return result

    def _note(self, tensor: torch.Tensor) -> None:
        address = tensor.untyped_storage().data_ptr()
        self.sizes[address] = tensor.untyped_storage().nbytes()
        self.known.setdefault(address, []).append(weakref.ref(tensor))

    def now(self) -> int:
        for address, tensors in list(self.known.items()):
            if not any(reference() is not None for reference in tensors):
                del self.known[address]
        return sum(self.sizes[address] for address in self.known)


def wide() -> nn.Sequential:
    torch.manual_seed(0)
    hidden = [layer for _ in range(16) for layer in (nn.Linear(128, 128), nn.ReLU())]
    return nn.Sequential(nn.Linear(8, 128), nn.ReLU(), *hidden, nn.Linear(128, 4)).eval()


def bytes_of(net: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in net.parameters())


X = torch.ones(2, 8)


@pytest.mark.parametrize("by", ["magnitude", "activation", "taylor"])
def test_a_space_and_its_sorting_hold_no_more_than_a_third_beyond_one_copy(by):
    net = wide()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with Held() as held:
        space = ns.elastic(net, X)
        made = held.peak
        held.peak = 0
        space.sort_channels([X], by=by)
    size = bytes_of(net)
    assert 0.9 * size < made <= 1.3 * size
    assert held.peak <= 1.3 * size
    assert all(torch.equal(net.state_dict()[key], value) for key, value in before.items())


@pytest.mark.parametrize("smallest", [False, True])
def test_freezing_holds_less_than_a_third_of_the_space_beyond_what_it_makes(smallest):
    space = ns.elastic(wide(), X)
    arch = {n: s.values[0] for n, s in space.symbols().items()} if smallest else space.original
    with Held() as held:  # a parameter is seen until it is one: what is held on the way
        small = space.freeze(arch)
    assert bytes_of(small) <= bytes_of(space)
    assert 0 < held.peak <= 0.3 * bytes_of(space)


def test_a_refit_holds_no_more_than_the_network_where_its_data_are_small():
    net = wide()
    space = ns.elastic(net, X)
    small = space.freeze({n: s.values[0] for n, s in space.symbols().items()})
    with Held() as held:
        space.refit(small, [X, X], teacher=net)
    assert 0 < held.peak <= 1.3 * bytes_of(net)


def test_in_place_nothing_is_copied():
    net = wide()
    with Held() as held:
        space: Any = ns.elastic(net, X, in_place=True)
        left = held.now()
    assert left < 0.1 * bytes_of(net)
    assert space is net


class Counting(nn.Module):
    """Has a buffer that its forward changes."""

    calls: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.b(self.a(x))


def test_buffers_that_a_forward_changes_have_their_values_afterwards():
    net: Any = Counting().eval()
    net.calls += 3
    space: Any = ns.elastic(net, X)
    assert net.calls == space.calls == 3
    assert set(space.symbols()) == {"a.width"}
