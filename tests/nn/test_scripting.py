"""Frozen networks are scripted by ``torch.jit.script`` as the same networks in plain torch are."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nas_space.nn as mnn
from nas_space.hub import ProxylessNAS
from nas_space.mutable import Categorical
from nas_space.nn import LayerChoice, ModelSpace, MutableModule, Repeat


class Part(MutableModule):
    """A module with an expression of its own, a property and a method."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = Categorical([1, 10], label="factor")

    @property
    def offset(self) -> int:
        return 3

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor + self.offset  # type: ignore[return-value]


class Inner(ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        self.op = LayerChoice([nn.ReLU(), nn.Tanh()], label="op")

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)  # type: ignore[no-any-return]


class Net(ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        width = Categorical([2, 3], label="w")
        self.up = mnn.MutableLinear(4, width)
        self.norm = mnn.MutableLayerNorm(width)
        self.inner = Inner()
        self.body = Repeat(lambda _: mnn.MutableLinear(width, width), (0, 2), label="depth")
        self.part = Part()

    def forward(self, x: Tensor) -> Tensor:
        return self.part(self.body(self.inner(self.norm(self.up(x)))))  # type: ignore[no-any-return]


@pytest.mark.parametrize("seed", range(4))
def test_a_frozen_network_scripts(seed):
    torch.manual_seed(0)
    space, x = Net(), torch.randn(2, 4)
    network = space.freeze(space.sample(seed=seed))
    scripted: Any = torch.jit.script(network)
    assert torch.equal(scripted(x), network(x))
    buffer = io.BytesIO()
    torch.jit.save(scripted, buffer)
    buffer.seek(0)
    loaded: Any = torch.jit.load(buffer)
    assert torch.equal(loaded(x), network(x))
    assert network.architecture is not None


def test_networks_built_for_one_architecture_and_of_the_hub_script():
    arch = Net().sample(seed=1)
    network, x = Net.frozen_factory(arch)(), torch.randn(2, 4)
    scripted: Any = torch.jit.script(network)
    assert torch.equal(scripted(x), network(x))
    space = ProxylessNAS(num_labels=5, width_mult=0.25).eval()
    image = torch.randn(1, 3, 32, 32)
    network_of_hub = space.freeze(space.sample(seed=0))
    scripted = torch.jit.script(network_of_hub)
    assert torch.allclose(scripted(image), network_of_hub(image), atol=1e-6)
