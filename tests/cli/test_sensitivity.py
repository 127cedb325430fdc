"""What values of a label lose, where only some of them were tried."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nas_space as ns
from nas_space.runs.sensitivity import changes, loses_least, running_once, summed


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.layer(x)
        return out


def space_of(widths: tuple[float, ...]) -> Any:
    layers = [nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)]
    return ns.elastic(nn.Sequential(*layers).eval(), torch.ones(1, 8), widths=widths)


def test_at_most_two_values_of_a_width_are_tried_the_smallest_among_them():
    space = space_of((0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875))
    tried = dict(changes(space))
    assert set(tried) == {f"{n}.width={value}" for n in (0, 2) for value in (8, 32)}
    for name, arch in tried.items():
        label, _, value = name.partition("=")
        assert arch == space.original | {label: int(value)}


def test_of_a_depth_one_block_less_is_tried_too_for_that_may_lose_much():
    net = nn.Sequential(*(Block() for _ in range(6))).eval()
    space: Any = ns.elastic(net, torch.ones(1, 4))
    assert set(dict(changes(space))) == {"depth=1", "depth=3", "depth=5"}


def test_what_is_between_loses_as_a_square_and_the_original_nothing():
    space = space_of((0.25, 0.5, 0.75))
    losses = {"0.width=16": 9.0, "0.width=32": 4.0, "2.width=16": 0.0, "2.width=32": -1.0}
    first, second = summed(space, losses).terms
    assert first.values.tolist() == pytest.approx([9.0, 4.0, 1.0, 0.0])
    assert second.values.tolist() == [0.0, 0.0, 0.0, 0.0]


def test_the_least_loss_within_a_budget_is_found_over_values_that_were_not_tried():
    space = space_of((0.25, 0.5, 0.75))
    cost = ns.profiler.params(space)
    within = space.where(cost <= 0.6 * cost.evaluate(space.original))
    losses = {"0.width=16": 90.0, "2.width=16": 0.9}
    (found,) = loses_least(within, losses, 1)
    assert found["2.width"] < found["0.width"]
    assert cost.evaluate(found) <= 0.6 * cost.evaluate(space.original)


class Wide(Block):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 4))  # type: ignore[assignment]


def test_a_fit_whose_blocks_run_once_is_the_same_bit_for_bit():
    torch.manual_seed(0)
    net = nn.Sequential(*(Wide() for _ in range(4))).eval()
    batches = list(torch.randn(3, 50, 4))
    space: Any = ns.elastic(net, batches[0], depth=False, widths=(0.25, 1.0))
    arch = {label: min(symbol.values) for label, symbol in space.symbols().items()}
    one, other = space.freeze(arch), space.freeze(arch)
    calls = []
    one[0].layer[0].register_forward_hook(lambda *_: calls.append(1))
    with running_once(batches[0], one, net):
        space.refit(one, batches, teacher=net)
    space.refit(other, batches, teacher=net)
    assert len(calls) < len(arch) * len(batches)
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
