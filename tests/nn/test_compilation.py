"""Parts of a space compiled by themselves: after each has run, no draw compiles anything."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

import nas_space as ns
from nas_space import nn as mnn
from nas_space.mutable import Categorical
from nas_space.nn.decisions import Traced, Weighted


class Block(nn.Module):
    """A width, a kernel, depthwise groups, a residual, and tensors that are no layer's."""

    def __init__(self, width: Any, kernel: Any) -> None:
        super().__init__()
        self.deep = mnn.MutableConv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = mnn.MutableBatchNorm2d(width)
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("shift", torch.tensor(0.1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.deep(x)).relu() * self.scale + self.shift + x
        return y


class Mixed(ns.ModelSpace):
    """Plain candidates, and blocks with elastic layers."""

    def __init__(self) -> None:
        super().__init__()
        width = Categorical([8, 16, 24], label="width")
        self.first = mnn.MutableConv2d(3, width, 1)
        self.body = mnn.Repeat(
            lambda index: Block(width, Categorical([3, 5], label=f"kernel{index}")),
            (1, 2),
            label="depth",
        )
        self.last = mnn.MutableConv2d(width, 4, 1)
        self.op = mnn.LayerChoice(
            {
                "plain": nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)),
                "own": Shifted(),
                "skip": nn.Identity(),
            },
            label="op",
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.op(self.last(self.body(self.first(x))))
        return y


class Shifted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x * 2 + 1).tanh()


WARM: list[dict[str, Any]] = [
    {"width": 8, "depth": 2, "kernel0": 3, "kernel1": 3, "op": "plain"},
    {"width": 16, "depth": 2, "kernel0": 5, "kernel1": 5, "op": "own"},
]
"""Every form of every part."""


@pytest.fixture
def counting() -> Iterator[Any]:
    torch._dynamo.reset()
    counters.clear()
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        yield lambda: counters["stats"]["unique_graphs"]
    torch._dynamo.reset()


def pair() -> tuple[Any, Any]:
    """A space with compiled parts, and one without."""
    torch.manual_seed(0)
    space = Mixed()
    other = copy.deepcopy(space)
    space.compile_regions(backend="eager", fullgraph=True)
    return space, other


def stepped(space: Any, arch: Any, x: Tensor) -> Tensor:
    """Output of a pass along an architecture, after which there are gradients."""
    space.zero_grad()
    with space.activate(arch):
        y: Tensor = space(x)
    y.square().mean().backward()
    return y.detach()


def test_the_parts_are_the_largest_of_which_there_are_few_forms() -> None:
    found = Mixed().compile_regions()
    assert found == ["body.blocks.0", "body.blocks.1", "op.plain", "op.own"]


@pytest.mark.parametrize(("forms", "found"), [(16, ["block"]), (17, [])])
def test_a_part_of_more_than_sixteen_forms_is_not_compiled(forms: int, found: list[str]) -> None:
    class Net(ns.ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.block = Block(8, Categorical(range(1, 2 * forms, 2), label="kernel"))

    assert Net().compile_regions() == found


def test_after_each_part_has_run_no_architecture_compiles_anything(counting: Any) -> None:
    space, _ = pair()
    x = torch.randn(2, 3, 8, 8)
    for arch in WARM:
        stepped(space, arch, x)
    # Two kernels in each of two blocks, and two candidates.
    assert counting() == 6
    for seed in range(20):
        stepped(space, space.sample(seed=seed), x)
    assert counting() == 6


def test_compiled_parts_do_what_they_did(counting: Any) -> None:
    del counting
    space, other = pair()
    for seed in range(6):
        x, arch = torch.randn(2, 3, 8, 8), space.sample(seed=seed)
        torch.testing.assert_close(stepped(space, arch, x), stepped(other, arch, x))
        for mine, its in zip(space.parameters(), other.parameters(), strict=True):
            if its.grad is None or mine.grad is None:
                assert mine.grad is its.grad
            else:
                torch.testing.assert_close(mine.grad, its.grad, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(space.state_dict(), other.state_dict())  # running statistics
    space.eval(), other.eval()
    with torch.no_grad(), space.activate(arch), other.activate(arch):
        torch.testing.assert_close(space(x), other(x))


def test_slices_are_noted_in_compiled_parts(counting: Any) -> None:
    del counting
    space, other = pair()
    x, arch, used = torch.randn(2, 3, 8, 8), WARM[1], []
    for each in (space, other):
        with Traced(each.read(arch)) as path:
            each(x).square().mean().backward()
        names = {id(p): name for name, p in each.named_parameters()}
        used.append({names[id(part.parameter)]: part.leaf.grad for part in path.used})
    assert used[0].keys() == used[1].keys()
    for name, gradient in used[0].items():
        torch.testing.assert_close(gradient, used[1][name], rtol=1e-4, atol=1e-5)


def test_a_mixture_runs_elastic_layers_as_ever(counting: Any) -> None:
    space, other = pair()
    x = torch.randn(2, 3, 8, 8)
    even = {name: torch.full((s.size,), 1 / s.size) for name, s in space.symbols().items()}
    with Weighted(even):
        torch.testing.assert_close(space(x), other(x))
    assert counting() == 2  # the candidates


def test_what_is_frozen_copied_or_pickled_is_not_compiled(counting: Any) -> None:
    space, other = pair()
    x, arch = torch.randn(2, 3, 8, 8), WARM[0]
    stepped(space, arch, x), stepped(other, arch, x)
    known = counting()
    network, copied = space.freeze(arch), copy.deepcopy(space)
    again = pickle.loads(pickle.dumps(space))
    for each in (network, copied, again):
        assert not any(m._compiled_call_impl for m in each.modules())
    with copied.activate(arch), again.activate(arch), other.activate(arch):
        torch.testing.assert_close(network(x), other(x))
        copied(x), again(x)
    assert counting() == known


def test_costs_are_counted_as_ever(counting: Any) -> None:
    space, other = pair()
    arch = WARM[0]
    macs = [ns.profiler.macs(each, (3, 8, 8)).evaluate(arch) for each in (space, other)]
    assert macs[0] == macs[1]
    assert counting() == 0


@pytest.mark.slow
def test_widths_make_no_kernels_of_their_own(counting: Any) -> None:
    """With the compiler that torch takes by default."""
    torch.manual_seed(0)
    space: Any = Mixed()
    other = copy.deepcopy(space)
    space.compile_regions(fullgraph=True)
    x = torch.randn(2, 3, 8, 8)
    for arch in WARM:
        stepped(space, arch, x), stepped(other, arch, x)
    known = counting()
    for seed in range(8):
        arch = space.sample(seed=seed)
        one, two = stepped(space, arch, x), stepped(other, arch, x)
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)
    assert counting() == known


def test_parameters_and_buffers_that_are_no_layers_go_into_a_compiled_part() -> None:
    class Scaled(Block):
        shift: Tensor

        def __init__(self, width: Any, kernel: Any) -> None:
            super().__init__(width, kernel)
            self.scale = nn.Parameter(torch.tensor(0.5))
            self.register_buffer("shift", torch.tensor(0.1))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.scale + self.shift

    class Net(ns.ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            width = Categorical([2, 4], label="width")
            self.first = mnn.MutableConv2d(3, width, 1)
            self.block = Scaled(width, Categorical([1, 3], label="kernel"))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.block(self.first(x))
            return y

    space = Net()
    other = copy.deepcopy(space)
    space.compile_regions(backend="eager", fullgraph=True)
    x = torch.randn(2, 3, 4, 4)
    arch = {"width": 2, "kernel": 3}
    torch.testing.assert_close(stepped(space, arch, x), stepped(other, arch, x))
    torch.testing.assert_close(space.block.scale.grad, other.block.scale.grad)
