"""A refit where the rows of a layer are channels: the teacher's come in the order of the space."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import nas_space as ns
from nas_space.errors import UsageError
from tests.compression.architectures import smallest

TOKENS, WIDTH = 8, 32


class Mixed(nn.Module):
    """Tokens that are embedded, go through blocks that add to them, and are averaged."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.embed = nn.Linear(6, WIDTH)
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean(1))  # type: ignore[no-any-return]


class OverTokens(nn.Module):
    """A module that is given rows which are channels, and columns which are tokens."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(WIDTH), inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.norm(x).transpose(1, 2)).transpose(1, 2)  # type: ignore[no-any-return]


class TokensAsChannels(nn.Module):
    """A convolution whose channels are tokens, along what other layers have as channels."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Conv1d(TOKENS, 32, 1), nn.Conv1d(32, TOKENS, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x).relu())  # type: ignore[no-any-return]


class SpatialGating(nn.Module):
    """A block of gMLP: half of the channels are mixed over tokens, and gate the other half."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, 64), nn.Linear(32, WIDTH)
        self.norm = nn.LayerNorm(32)
        self.mix = nn.Sequential(nn.Linear(TOKENS, 16), nn.GELU(), nn.Linear(16, TOKENS))

    def forward(self, x: Tensor) -> Tensor:
        kept, gate = self.up(x).relu().chunk(2, -1)
        gate = self.mix(self.norm(gate).transpose(1, 2)).transpose(1, 2)
        return self.down(kept * (1 + gate))  # type: ignore[no-any-return]


class CrossCovariance(nn.Module):
    """Attention over channels, whose output is mixed over tokens."""

    def __init__(self, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mix = nn.Sequential(nn.Linear(TOKENS, 16), nn.ReLU(), nn.Linear(16, TOKENS))

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 4, 1)
        q, k, v = (nn.functional.normalize(t, dim=-1) for t in qkv)
        mixed = self.mix((q @ k.transpose(-2, -1)).softmax(-1) @ v)
        return self.out(mixed.permute(0, 3, 1, 2).flatten(2))  # type: ignore[no-any-return]


class OverEinsum(nn.Module):
    """Tokens mixed by a table of one's own, and then by a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(16, TOKENS) / 3)
        self.back = nn.Linear(16, TOKENS)

    def forward(self, x: Tensor) -> Tensor:
        mixed = torch.einsum("st,btc->bcs", self.table, x).relu()
        return torch.einsum("bct->btc", self.back(mixed))


class Grid(nn.Module):
    """A block of S-MLP: rows of a picture are mixed, columns, and channels."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 1)
        self.rows = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 6))
        self.columns = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 5))
        self.fuse = nn.Conv2d(3 * channels, channels, 1)
        self.head = nn.Conv2d(channels, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        across = self.rows(x)
        down = self.columns(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = x + self.fuse(torch.cat([x, across, down], 1))
        return self.head(x)  # type: ignore[no-any-return]


class Heads(nn.Module):
    """A layer that runs on each head by itself: its rows are heads."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(6, 64)
        self.each = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 8))
        self.down = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.up(x).unflatten(-1, (-1, 8))
        return self.down((hidden + self.each(hidden)).flatten(-2))  # type: ignore[no-any-return]


def mixing() -> nn.Module:
    return OverTokens(nn.Sequential(nn.Linear(TOKENS, 24), nn.GELU(), nn.Linear(24, TOKENS)))


def channels() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 64), nn.GELU(), nn.Linear(64, WIDTH))


def normalised() -> nn.Module:
    """A token mixer whose weights are computed from others."""
    inner = (weight_norm(nn.Linear(TOKENS, 24)), nn.GELU(), weight_norm(nn.Linear(24, TOKENS)))
    return OverTokens(nn.Sequential(*inner))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Mixer": (lambda: Mixed(mixing(), channels()), (TOKENS, 6)),
    "ResMLP": (lambda: Mixed(OverTokens(nn.Linear(TOKENS, TOKENS)), channels()), (TOKENS, 6)),
    "Conv1d": (lambda: Mixed(TokensAsChannels(), channels()), (TOKENS, 6)),
    "gMLP": (lambda: Mixed(SpatialGating(), SpatialGating()), (TOKENS, 6)),
    "XCiT": (lambda: Mixed(CrossCovariance(), channels()), (TOKENS, 6)),
    "einsum": (lambda: Mixed(OverEinsum(), channels()), (TOKENS, 6)),
    "S-MLP": (Grid, (3, 5, 6)),
    "heads": (Heads, (6,)),
    "weight norm": (lambda: Mixed(normalised(), channels()), (TOKENS, 6)),
}


def made(name: str) -> tuple[nn.Module, Tensor, Tensor, Any]:
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    net = make().eval()
    with torch.no_grad():  # else blocks say little beside what they are added to
        for parameter in net.parameters():
            parameter.mul_(1.5)
    x, probe = torch.randn(2, 160, *shape)
    return net, x, probe, ns.elastic(net, x[:2], widths=(0.5, 1.0), depth=False)


def error(net: nn.Module, teacher: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return float((net(x) - teacher(x)).square().mean())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_sorted_network_that_is_refitted_is_no_further_from_the_original(name):
    net, x, probe, space = made(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    space.sort_channels([x])
    whole = space.refit(space.freeze(space.original), [x], teacher=net)
    torch.testing.assert_close(whole(probe), net(probe), rtol=1e-4, atol=1e-5)
    for label in space.original:  # cut alone, so that rows are channels that were only sorted
        small = space.freeze(space.original | {label: min(space.symbols()[label].values)})
        plain = error(small, net, probe)
        space.refit(small, [x], teacher=net)
        assert error(small, net, probe) <= 1.02 * plain + 1e-9, label
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("name", ["Mixer", "gMLP"])
def test_the_original_teaches_what_the_whole_network_of_the_space_does(name):
    net, x, _, space = made(name)
    space.sort_channels([x])
    for label in space.original:
        arch = space.original | {label: min(space.symbols()[label].values)}
        ours = space.refit(space.freeze(arch), [x], teacher=net)
        same = space.refit(space.freeze(arch), [x])
        torch.testing.assert_close(ours.state_dict(), same.state_dict(), rtol=1e-3, atol=1e-4)


def test_a_teacher_whose_ties_were_lost_is_put_in_order_at_all_places():
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.out = nn.Linear(6, 32), nn.Linear(6, 32), nn.Linear(32, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out((self.first(x) + self.second(x.flip(-1))).relu())  # type: ignore[no-any-return]

    torch.manual_seed(0)
    net, loose = Both().eval(), Both().eval()
    net.second.weight = net.first.weight
    loose.load_state_dict(net.state_dict())
    x = torch.randn(100, 6)
    space = ns.elastic(net, x, widths=(0.5, 1.0)).sort_channels([x])
    arch = smallest(space)
    ours = space.refit(space.freeze(arch), [x], teacher=net)
    theirs = space.refit(space.freeze(arch), [x], teacher=loose)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_a_teacher_that_cannot_be_copied_is_refused_once_channels_were_sorted():
    net: Any = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3)).eval()
    x = torch.randn(50, 6)
    space = ns.elastic(net, x, widths=(0.5, 1.0)).sort_channels([x])
    small = space.freeze({"0.width": 16})
    net.lock = threading.Lock()
    with pytest.raises(UsageError, match="teacher cannot be copied"):
        space.refit(small, [x], teacher=net)
    space.refit(small, [x])
