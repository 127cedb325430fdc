"""Networks of torch's rarer layers: what varies in them, and that it is cut as it should be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

import nas_space as ns

from .networks import Made

IMAGE = (2, 3, 8, 8)


def _normed(norm: nn.Module, conv: Any = nn.Conv2d, shape: Any = IMAGE) -> Made:
    net = nn.Sequential(conv(3, 32, 3), norm, nn.LeakyReLU(), conv(32, 4, 3))
    return net, torch.randn(shape)


class Cells(nn.Module):
    """Steps through a sequence by cells, some of which make their own first state."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Linear(12, 24)
        self.lstm, self.gru, self.rnn = nn.LSTMCell(24, 32), nn.GRUCell(32, 16), nn.RNNCell(16, 24)
        self.head = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inside(x)
        state: Any = None
        second = third = None
        for step in range(x.shape[1]):
            state = self.lstm(x[:, step], state)
            second = self.gru(state[0], second)
            third = self.rnn(second, third)
        return self.head(third)  # type: ignore[no-any-return]


class Translator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(50, 32)
        self.inner = nn.Transformer(32, 4, 1, 1, 64, batch_first=True)
        self.head = nn.Linear(32, 3)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        made = self.inner(self.tokens(source), self.tokens(target))
        return self.head(made)  # type: ignore[no-any-return]


class Temporal(nn.Module):
    """A block of a temporal convolutional network: only weight-normed layers have its width."""

    def __init__(self) -> None:
        super().__init__()
        self.first = weight_norm(nn.Conv1d(1, 32, 3, padding=2, dilation=2, bias=False))
        self.second = weight_norm(nn.Conv1d(32, 32, 3, padding=4, dilation=4))
        self.down = nn.Conv1d(1, 32, 1)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x).relu()).relu()
        return self.head((y + self.down(x)).mean(-1))  # type: ignore[no-any-return]


class Generator(nn.Module):
    """Weight norm of grouped and of transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = weight_norm(nn.Conv2d(3, 32, 3, padding=1))
        self.depthwise = weight_norm(nn.Conv2d(32, 32, 3, padding=1, groups=32))
        self.up = weight_norm(nn.ConvTranspose2d(32, 16, 2, 2), dim=1)
        self.out = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.out(self.up(x + self.depthwise(x).relu()).relu())  # type: ignore[no-any-return]


class Squash(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return torch.tanh(weight)


def _own_parametrizations() -> Made:
    net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 4))
    parametrize.register_parametrization(net[0], "weight", Squash())
    parametrize.register_parametrization(net[2], "weight", Squash())
    parametrize.register_parametrization(net[2], "bias", Squash())
    return net, torch.randn(3, 8)


class Scaled(nn.Module):
    """A width that, beside one layer's, is that of a parameter of a module of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.low = nn.Parameter(torch.randn(8, 24))
        self.high = nn.Parameter(torch.randn(24, 4))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.low).relu() @ self.high


class Interleaved(nn.Module):
    """A gate and what it opens, in turns."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = nn.Linear(8, 48), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.low(x)
        return self.high(x[..., ::2].sigmoid() * x[..., 1::2])  # type: ignore[no-any-return]


class Unit(nn.Module):
    """Divides by a norm whose order is a whole number, as its dimension is."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = nn.Linear(8, 24), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.low(x)
        return self.high(x / x.norm(1, -1)[..., None])  # type: ignore[no-any-return]


NETWORKS: dict[str, tuple[Callable[[], Made], set[str]]] = {
    "instance norm": (lambda: _normed(nn.InstanceNorm2d(32, affine=True)), {"0.width"}),
    "without weights": (lambda: _normed(nn.InstanceNorm2d(32)), {"0.width"}),
    "1d, statistics kept": (
        lambda: _normed(
            nn.InstanceNorm1d(32, affine=True, track_running_stats=True), nn.Conv1d, (2, 3, 8)
        ),
        {"0.width"},
    ),
    "3d": (
        lambda: _normed(nn.InstanceNorm3d(32, affine=True), nn.Conv3d, (1, 3, 5, 5, 5)),
        {"0.width"},
    ),
    "cells": (
        lambda: (Cells(), torch.randn(2, 5, 12)),
        {"inside.width", "lstm.weight_hh", "gru.weight_hh", "rnn.weight_ih"},
    ),
    "nn.Transformer": (
        lambda: (Translator(), (torch.arange(14).view(2, 7), torch.arange(10).view(2, 5))),
        {
            "tokens.heads", "inner.encoder.layers.0.linear1.width",
            "inner.decoder.layers.0.linear1.width",
        },
    ),
    "weight norm": (lambda: (Temporal(), torch.randn(2, 1, 64)), {"first.width", "second.width"}),
    "weight norm of groups": (
        lambda: (Generator(), torch.randn(IMAGE)), {"stem.width", "up.width"}
    ),
    "own parametrizations": (_own_parametrizations, {"0.width", "2.width"}),
    "every second": (lambda: (Interleaved(), torch.randn(2, 3, 8)), {"high.width"}),
    "norm of order 1": (lambda: (Unit(), torch.randn(2, 3, 8)), {"low.width"}),
    "own parameters": (
        lambda: (nn.Sequential(nn.Linear(8, 8), Scaled()), torch.randn(3, 8)),
        {"0.width", "1.low"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_rare_layers_vary_and_are_cut_exactly(name: str) -> None:
    torch.manual_seed(0)
    make, labels = NETWORKS[name]
    net, inputs = make()
    net.eval()
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    whole = net(*inputs).detach()
    space = ns.elastic(net, inputs)
    assert labels <= set(space.original)
    assert list(space.freeze(space.original).state_dict()) == list(net.state_dict())
    smallest = {label: min(s.values) for label, s in space.symbols().items()}
    for arch in (space.original, smallest, *(space.sample(seed=seed) for seed in range(4))):
        network = space.freeze(arch)
        with space.activate(arch), torch.no_grad():
            assert torch.equal(space(*inputs), network(*inputs))
        for path, module in network.named_modules():
            _assert_says_its_size(path, module)
    assert torch.equal(space.freeze(space.original)(*inputs), whole)
    space.sort_channels([inputs])
    assert torch.allclose(space.freeze(space.original)(*inputs), whole, atol=1e-5)


def _assert_says_its_size(path: str, module: nn.Module) -> None:
    """What a layer of torch says of its size is what its tensors have."""
    weight: Any = getattr(module, "weight", None)
    if isinstance(module, nn.Linear):
        assert (module.out_features, module.in_features) == tuple(weight.shape), path
    elif isinstance(module, nn.modules.conv._ConvNd):
        ends = (module.out_channels, module.in_channels)
        first, second = ends[::-1] if module.transposed else ends
        assert (first, second // module.groups) == tuple(weight.shape)[:2], path
    elif isinstance(module, nn.modules.instancenorm._InstanceNorm) and weight is not None:
        assert module.num_features == len(weight), path
    elif isinstance(module, nn.RNNCellBase):
        assert (module.hidden_size, module.input_size) == (
            module.weight_hh.shape[1], module.weight_ih.shape[1]
        ), path  # fmt: skip
