"""Channels that are shuffled: a smaller width keeps some at places that no segment says."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

import nas_space as ns
from nas_space.nn.decisions import Weighted
from tests.compression.networks import Shuffle, ShuffleNet


def _norms(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.get_buffer("running_mean"))
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 2)


class Down(nn.Module):
    """A unit of ShuffleNet V2 that makes images smaller: both halves are computed."""

    def __init__(self, before: int, half: int) -> None:
        super().__init__()
        self.left = nn.Sequential(
            nn.Conv2d(before, before, 3, 2, 1, groups=before, bias=False),
            *(nn.BatchNorm2d(before), nn.Conv2d(before, half, 1, bias=False)),
            *(nn.BatchNorm2d(half), nn.ReLU()),
        )
        self.right = nn.Sequential(
            *(nn.Conv2d(before, half, 3, 2, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU()),
        )

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.left(x), self.right(x)], 1)
        n, c, h, w = both.shape
        return both.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Stages(nn.Module):
    """Two stages, the second of an odd half, with more units than the half has factors of two."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.first = nn.Sequential(Down(8, 12), Shuffle(24), Shuffle(24), Shuffle(24))
        self.second = nn.Sequential(Down(24, 15), Shuffle(30), Shuffle(30))
        self.fc = nn.Linear(30, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.second(self.first(self.stem(x))).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def stages():
    torch.manual_seed(0)
    net = Stages().eval()
    _norms(net)
    x = torch.randn(2, 3, 16, 16)
    return net, x, ns.elastic(net, x, widths=(0.3, 0.5, 0.75, 1), divisor=1)


def test_every_stage_of_units_that_shuffle_has_a_width(stages):
    _, _, space = stages
    places = {place for group in space.groups() for place in group.places}
    for layer in ("stem.0", "first.0.right.0", "first.2.branch.5", "second.1.branch.5"):
        assert f"{layer}.weight[0]" in places, layer
    for group in space.groups():
        if group.kind == "width":
            assert len(group.values) == 4, group


def test_smaller_networks_that_shuffle_are_what_is_active(stages):
    _, x, space = stages
    for seed in range(6):
        arch = space.sample(seed=seed)
        small = space.freeze(arch)
        with torch.no_grad(), space.activate(arch):
            assert torch.equal(space(x), small(x))


def test_the_original_is_as_it_was(stages):
    net, x, space = stages
    with torch.no_grad(), space.activate(space.original):
        assert torch.equal(space(x), net(x))
        assert torch.equal(space.freeze(space.original)(x), net(x))


@pytest.mark.parametrize("value", [0, 1, 2])
def test_a_cut_is_the_network_in_which_the_other_channels_are_silent(stages, value):
    """Which channels are kept is found by their weights: those of norms are all different."""
    net, x, space = stages
    arch = dict(space.original)
    for label, symbol in space.symbols().items():
        if "width" in label:
            arch[label] = symbol.values[value]
    small = space.freeze(arch)
    silent = copy.deepcopy(net)
    modules = dict(small.named_modules())
    for path, norm in silent.named_modules():
        if isinstance(norm, nn.BatchNorm2d):
            cut = modules[path].get_buffer("running_mean")
            kept = torch.isin(norm.get_buffer("running_mean"), cut)
            assert int(kept.sum()) == len(cut) < norm.num_features
            with torch.no_grad():
                norm.weight.mul_(kept)
                norm.bias.mul_(kept)
    with torch.no_grad():
        torch.testing.assert_close(small(x), silent(x))


def test_a_certain_mixture_of_what_is_shuffled_is_its_architecture():
    torch.manual_seed(0)
    net = ShuffleNet().eval().double()
    _norms(net)
    x = torch.randn(2, 3, 16, 16).double()
    space = ns.elastic(net, x)
    symbols = space.symbols()
    for seed in range(4):
        arch = space.original | space.sample(seed=seed)
        certain = {
            label: torch.eye(symbol.size, dtype=torch.double)[symbol.code(arch[label])]
            for label, symbol in symbols.items()
        }
        with torch.no_grad(), Weighted(certain):
            mixed = space(x)
        with torch.no_grad(), space.activate(arch):
            torch.testing.assert_close(mixed, space(x), rtol=1e-9, atol=1e-9)


def test_spaces_of_shuffles_count_refit_pickle_and_cost(stages):
    net, x, space = stages
    again = pickle.loads(pickle.dumps(space))
    half = 0.5 * ns.profiler.macs(space, inputs=x[:1]).evaluate(space.original)
    macs = ns.profiler.macs(again, inputs=x[:1])
    arch = again.where(macs <= half).sample(seed=0)
    small = space.freeze(arch)
    with torch.no_grad():
        assert torch.equal(again.freeze(arch)(x), small(x))
        before = (small(x) - net(x)).square().mean()
    data = [torch.randn(32, 3, 16, 16) for _ in range(2)]
    space.refit(small, data, teacher=net)
    with torch.no_grad():
        held = torch.randn(64, 3, 16, 16)
        assert (small(held) - net(held)).square().mean() < before
