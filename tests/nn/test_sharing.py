"""Networks that share the parameters of their space, until they change."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import nas_space as ns
from nas_space import nn as mnn
from nas_space.mutable import Categorical

from .small import ARCH, Net, images


def pointers(module: nn.Module) -> set[int]:
    return {p.untyped_storage().data_ptr() for p in module.parameters()}


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in nn.Module.state_dict(module).items()}


def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    return all(torch.equal(left[key], right[key]) for key in left)


def test_parameters_are_those_of_the_space() -> None:
    space = Net().eval()
    network = space.freeze(ARCH, weights="share")
    assert pointers(network) & pointers(space)
    assert not any(p.requires_grad for p in network.parameters())
    with torch.no_grad():
        space.head.bias.fill_(3)
    assert network.head.bias.tolist() == [3, 3, 3]  # a view, which follows
    assert torch.allclose(network(images()), space.freeze(ARCH)(images()))


def step(network: nn.Module) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0, weight_decay=0.1)
    network(images()).square().sum().backward()
    optimizer.step()


CHANGES: dict[str, Callable[[Any], Any]] = {
    "train": lambda net: step(net.train()),
    "requires_grad_": lambda net: step(net.requires_grad_()),
    "to": lambda net: net.to(torch.float64),
    "half": lambda net: net.half().float(),
    "to_empty": lambda net: net.to_empty(device="cpu"),
    "share_memory": lambda net: net.share_memory(),
    "apply": lambda net: net.apply(lambda m: [nn.init.zeros_(p) for p in m.parameters()]),
    "load_state_dict": lambda net: net.load_state_dict(
        {key: torch.zeros_like(value) for key, value in Net().freeze(ARCH).state_dict().items()}
    ),
    "state_dict": lambda net: [value.zero_() for value in net.state_dict().values()],
    "pickle": lambda net: [p.data.zero_() for p in pickle.loads(pickle.dumps(net)).parameters()],
    "deepcopy": lambda net: [p.data.zero_() for p in copy.deepcopy(net).parameters()],
    "copy": lambda net: step(copy.copy(net).requires_grad_()),
    "save": lambda net: torch.save(net, io.BytesIO()),
    "buffers": lambda net: [module.train() for module in net.children()] and net(images()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_would_change_the_network_leaves_the_space(name: str) -> None:
    space = Net().eval()
    before = snapshot(space)
    network = space.freeze(ARCH, weights="share")
    CHANGES[name](network)
    assert same(snapshot(space), before)
    if name != "buffers":
        assert not pointers(network) & pointers(space)


@pytest.mark.parametrize("name", ["deepcopy", "pickle", "state_dict"])
def test_what_is_copied_is_all_there(name: str) -> None:
    space = Net().eval()
    expected = space.freeze(ARCH)
    shared = space.freeze(ARCH, weights="share")
    network = copy.deepcopy(expected if name == "state_dict" else shared)
    if name == "pickle":
        network = pickle.loads(pickle.dumps(shared))
    elif name == "state_dict":
        network.load_state_dict(shared.state_dict())
    assert same(network.state_dict(), expected.state_dict())
    assert [p.requires_grad for p in network.parameters()] == [
        p.requires_grad for p in expected.parameters()
    ]
    assert torch.equal(network(images()), expected(images()))


def test_what_is_saved_is_no_larger_than_the_network() -> None:
    space = Net()
    small, large = io.BytesIO(), io.BytesIO()
    torch.save(space.freeze(ARCH).state_dict(), small)
    torch.save(space.freeze(ARCH, weights="share").state_dict(), large)
    assert len(large.getvalue()) <= len(small.getvalue()) + 64


def test_owning_the_weights_keeps_what_is_tied_and_what_is_not_trained() -> None:
    class Tied(ns.ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            width = Categorical([4, 8], label="width")
            self.embed = mnn.MutableEmbedding(10, width)
            self.head = mnn.MutableLinear(width, 10)
            self.head.weight = self.embed.weight
            self.head.bias.requires_grad_(False)
            self.listed = [self.embed.weight]  # torch does not know of this one

    space = Tied()
    network = space.freeze({"width": 4}, weights="share")
    weight = network.embed.weight
    assert network.own_weights() is network
    assert network.embed.weight is weight is network.head.weight
    assert weight.requires_grad
    assert not network.head.bias.requires_grad
    assert not pointers(network) & pointers(space)
    assert weight.is_contiguous()
    assert weight.untyped_storage().nbytes() == weight.nbytes


def test_a_network_with_weights_of_its_own_stays_as_it_is() -> None:
    network = Net().freeze(ARCH)
    before = [p.data_ptr() for p in network.parameters()]
    assert network.train().own_weights() is network
    assert [p.data_ptr() for p in network.parameters()] == before


def test_evaluating_copies_nothing() -> None:
    space = Net().eval()
    network = space.freeze(ARCH, weights="share")
    before = pointers(network)
    network.eval()
    network.requires_grad_(False)
    with torch.no_grad():
        network(images())
    assert pointers(network) == before
