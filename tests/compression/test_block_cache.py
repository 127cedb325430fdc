"""Blocks that are the same in two networks run once, and nobody can tell but by the time."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nas_space.compression.block_cache import BlockCache

RUNS: list[int] = []
"""The names of the blocks that have run, in their order."""


class Block(nn.Module):
    def __init__(self, name: int, *, in_place: bool = False) -> None:
        super().__init__()
        self.name, self.in_place = name, in_place
        self.layer = nn.Linear(4, 4)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        RUNS.append(self.name)
        out: Tensor = scale * self.dropout(self.layer(x))
        return x.add_(out) if self.in_place else x + out


class Net(nn.Module):
    def __init__(self, *blocks: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.blocks, self.scale = nn.ModuleList(blocks), scale

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0
        for block in self.blocks:
            x = block(x, scale=self.scale)
        return x


def net_of(**options: Any) -> Any:
    torch.manual_seed(0)
    return Net(*(Block(name, **options) for name in range(4))).eval()


X = torch.randn(3, 4)


def ran(net: nn.Module, x: Tensor = X) -> tuple[Tensor, list[int]]:
    RUNS.clear()
    with torch.no_grad():
        out = net(x)
    return out, list(RUNS)


@settings(max_examples=40, deadline=None)
@given(
    in_place=st.booleans(),
    most=st.sampled_from([0, 50, 120, 1 << 20]),
    changes=st.lists(
        st.tuples(st.sampled_from(["weight", "without", "scale", "input"]), st.integers(0, 3)),
        max_size=6,
    ),
)
def test_whatever_is_changed_a_network_returns_what_it_returns_by_itself(in_place, most, changes):
    net = net_of(in_place=in_place)
    cache = BlockCache(net, X, most)
    for kind, place in changes:
        other, x = copy.deepcopy(net), X
        if kind == "weight":
            other.blocks[place].layer.weight.data *= 2
        elif kind == "without":
            del other.blocks[place]
        elif kind == "scale":
            other.scale = 1.0 + place
        else:
            x = X + place
        wanted = ran(other, x)[0]
        with cache.of(net), cache.of(other):
            ran(net, x)
            for _ in range(2):
                assert torch.equal(ran(other, x)[0], wanted)
        assert torch.equal(ran(other, x)[0], wanted)
        assert not any("forward" in vars(block) for block in (*net.blocks, *other.blocks))


def test_a_block_that_is_changed_in_place_is_run_again_and_so_is_what_comes_after():
    net = net_of()
    with BlockCache(net, X, 1 << 20).of(net), torch.no_grad():
        assert ran(net)[1] == []
        net.blocks[2].layer.weight.mul_(2)
        out, runs = ran(net)
        assert runs == [2, 3]
        assert ran(net)[1] == []
    assert torch.equal(ran(net)[0], out)


def test_what_comes_before_a_change_is_not_run_again():
    net = net_of()
    cache, other = BlockCache(net, X, 1 << 20), copy.deepcopy(net)
    other.blocks[2].layer.bias.data += 1
    with cache.of(net), cache.of(other):
        assert [ran(each)[1] for each in (net, other)] == [[], [2, 3]]
        assert [ran(each, 2 * X)[1] for each in (other, net, other)] == [[0, 1, 2, 3]] * 2 + [
            [2, 3]
        ]
    with BlockCache(net, X, 0).of(net):
        assert ran(net)[1] == [0, 1, 2, 3]


@pytest.mark.parametrize("why", ["hook", "training", "gradients"])
def test_a_block_that_is_watched_or_trained_is_run(why):
    net = net_of()
    cache, seen = BlockCache(net, X, 1 << 20), []
    with cache.of(net):
        if why == "hook":
            handle = net.blocks[1].layer.register_forward_hook(lambda *_: seen.append(1))
            assert (ran(net)[1], seen) == ([1], [1])
            handle.remove()
            assert ran(net)[1] == []
        elif why == "training":
            net.blocks[1].dropout.train()
            assert ran(net)[1][0] == 1
        else:
            RUNS.clear()
            net(X).sum().backward()
            assert RUNS == [0, 1, 2, 3]
            assert net.blocks[0].layer.weight.grad is not None


class Noting(Block):
    """A block that leaves something for the next one beside what it returns."""

    noted: Tensor

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        out = super().forward(x, scale)
        Noting.noted = Noting.noted + 1
        return out * Noting.noted


def test_where_a_block_does_more_than_return_all_blocks_run():
    Noting.noted = torch.zeros(())
    net = Net(Noting(0), Noting(1)).eval()
    with BlockCache(net, X, 1 << 20).of(net):
        assert ran(net)[1] == [0, 1]
