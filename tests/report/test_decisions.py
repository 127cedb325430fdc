"""The rows of pictures: every label once, where it decides, with all its values and its share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import nas_space as ns
from nas_space import nn as mnn
from nas_space.hub import ProxylessNAS
from nas_space.profiler import LatencyTable, blocks, macs, params
from nas_space.report import architecture_picture, space_picture
from nas_space.report.decisions import decisions_of, shape_in_words

SHAPE = (3, 32, 32)


class Former(ns.ModelSpace):
    """A small transformer, whose width is not the number of its tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 32)

        def block(i: int) -> nn.Module:
            inner = ns.Categorical([48, 64], label=f"mlp{i}")
            first, second = mnn.MutableLinear(32, inner), mnn.MutableLinear(inner, 32)
            return nn.Sequential(first, nn.GELU(), second)

        self.body = mnn.Repeat(block, (1, 3), label="depth")
        self.drop = mnn.MutableDropout(ns.quniform("drop", 0.0, 0.5, 0.001))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.drop(self.body(self.embed(x)))
        return out


class Many(ns.ModelSpace):
    """More labels, and values of one, than a picture has ever room for on one line."""

    def __init__(self) -> None:
        super().__init__()
        wide = ns.Categorical(list(range(1, 41)), label="wide")
        self.first = mnn.MutableLinear(2, wide)
        self.rest = nn.Sequential(
            *(mnn.LayerChoice([nn.Identity(), nn.ReLU()], label=f"op{i}") for i in range(50))
        )
        self.unread = self.add_mutable(ns.Categorical([1, 2], label="unread"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.rest(self.first(x))
        return out


@pytest.fixture(scope="module")
def space() -> Any:
    return ProxylessNAS(num_labels=10, width_mult=0.25)


@pytest.mark.parametrize("cost", ["macs", "params"])
def test_every_label_has_a_row_and_the_shares_are_those_of_the_whole_cost(space, cost):
    arch = space.sample(seed=3)
    rows = decisions_of(space, arch, SHAPE, cost=cost)
    assert sorted(row.label for row in rows if row.label) == sorted(space.symbols())
    assert sum(row.share for row in rows) == pytest.approx(1)
    total = macs(space, SHAPE).evaluate(arch) if cost == "macs" else params(space).evaluate(arch)
    for row in rows:
        if row.label:
            assert row.used == (row.label in arch)
            expected = [str(arch[row.label])] if row.used else []
            assert [row.values[i] for i in row.chosen] == expected
    # What one block costs is what torch's own counter says of it in the frozen network.
    network = space.freeze(arch).eval()
    block = network.get_submodule("blocks.1.0")
    if cost == "params":
        alone = sum(parameter.numel() for parameter in block.parameters())
    else:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, *SHAPE))
        counts = counter.get_flop_counts()["ProxylessNAS.blocks.1.0"]
        alone = sum(counts.values()) // 2
    [share] = [row.share for row in rows if row.label == "s2_i0"]
    assert share == pytest.approx(alone / total)


def test_measured_times_are_shared_out(space):
    arch = space.sample(seed=3)
    found = blocks(space, SHAPE)
    table = LatencyTable({block.key: 1.0 + place for place, block in enumerate(found)})
    rows = decisions_of(space, arch, SHAPE, cost=table)
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert all(row.share > 0 for row in rows if row.used and row.label.startswith("s2_i"))


def test_rows_stand_in_the_order_of_the_network_and_unused_blocks_among_their_group(space):
    arch = next(arch for arch in space.sample(100, seed=0) if arch["s2_depth"] == 2)
    rows = [row for row in decisions_of(space, arch, SHAPE) if row.label.startswith("s2")]
    assert [row.label for row in rows] == ["s2_depth", "s2_i0", "s2_i1", "s2_i2", "s2_i3"]
    assert [row.used for row in rows] == [True, True, True, False, False]
    assert len({row.group for row in rows[1:]}) == 1


def test_shapes_are_named_by_what_they_are():
    space = Former()
    arch = space.sample(seed=0)
    rows = {row.label: row for row in decisions_of(space, arch, (16, 4))}
    assert rows["depth"].shape == "16 tokens × 32 features"
    assert rows["mlp0"].shape == f"16 tokens × {arch['mlp0']} features"
    assert rows["mlp0"].more == 1
    assert 0 <= (rows["drop"].position or 0) <= 1
    assert rows["drop"].values == ("0", "0.5")
    assert shape_in_words([(2, 1, 8, 8)]) == "1 channel, 8×8"
    assert shape_in_words([(2, 12, 9)], "a", {"a": "Conv1d"}) == "12 channels, 9"
    assert shape_in_words([(2, 7, 7, 96)], "a", {"a.norm": "LayerNorm"}) == "7×7 × 96 features"


def test_nothing_is_dropped_however_much_there_is(tmp_path: Path) -> None:
    space = Many()
    arch = space.sample(seed=0)
    rows = decisions_of(space, arch, (2,))
    assert len(rows) == len(space.symbols()) + 1 > 50
    assert len(next(row for row in rows if row.label == "wide").values) == 40
    architecture_picture(space, arch, (2,), tmp_path / "many.png")
    assert (tmp_path / "many.png").stat().st_size > 20_000


def test_a_picture_of_a_space_says_where_the_cost_is_among_random_architectures(
    space, tmp_path: Path
) -> None:
    rows = decisions_of(space, None, SHAPE)
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert all(row.spread[0] <= row.share <= row.spread[1] for row in rows)
    assert all(not row.chosen for row in rows)
    space_picture(space, SHAPE, tmp_path / "space.png")
    assert (tmp_path / "space.png").read_bytes().startswith(b"\x89PNG")


def test_looking_at_an_architecture_changes_nothing(space) -> None:
    before = {name: tensor.clone() for name, tensor in space.train().state_dict().items()}
    decisions_of(space, space.sample(seed=0), SHAPE)
    assert space.training
    assert all(torch.equal(before[name], tensor) for name, tensor in space.state_dict().items())
    assert not any(module._forward_hooks for module in space.modules())
