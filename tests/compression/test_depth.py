"""Blocks that can be left out: any subset of them, or so many of the most important."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import nas_space as ns
from nas_space.errors import UsageError
from tests.compression.networks import NETWORKS
from tests.compression.test_elastic import assert_equal, run


class Scaled(nn.Module):
    """A residual block that knows its number."""

    def __init__(self, width: int, number: int, scale: float = 1.0) -> None:
        super().__init__()
        self.number, self.scale = number, scale
        self.inner, self.outer = nn.Linear(width, 16), nn.Linear(16, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.outer(torch.relu(self.inner(x)))
        z: torch.Tensor = x + self.scale * y + 0.0 * self.number
        return z


class Listed(nn.Module):
    def __init__(self, scales: tuple[float, ...]) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 8)
        self.blocks = nn.ModuleList(Scaled(8, i, scale) for i, scale in enumerate(scales))
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)  # type: ignore[no-any-return]


X = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))


def listed(*scales: float) -> Any:
    torch.manual_seed(0)
    return Listed(scales).eval()


NET = listed(1, 1, 1, 1)
ANY = ns.elastic(NET, X, depth="any")


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.booleans()] * 4), st.sampled_from([8, 16]))
def test_any_subset_can_be_kept_and_at_least_one_is(kept, width):
    arch = ANY.original | {f"blocks.{i}.depth": int(k) for i, k in enumerate(kept)}
    arch["blocks.1.inner.width"] = width
    arch = ANY.canonical(arch)
    small = ANY.freeze(arch)
    wanted = [i for i, k in enumerate(kept) if k] or [0]
    assert [block.number for block in small.blocks] == list(range(len(wanted)))
    with torch.no_grad(), ANY.activate(arch):
        assert_equal(run(ANY, X), run(small, X))
    whole: Any = NET
    with torch.no_grad():
        x = whole.stem(X)
        for place in wanted:
            if place != 1 or width == 16:
                x = whole.blocks[place](x)
            else:
                x = small.blocks[wanted.index(1)](x)
        assert torch.equal(whole.head(x), run(small, X)[0])
    cost = ns.profiler.macs(ANY, inputs=X)
    assert cost.evaluate(arch) == ns.profiler.macs(small, inputs=X)


def test_a_space_of_subsets_counts_them_all():
    space = ns.elastic(listed(1, 1, 1), X, depth="any", only=["*.depth"])
    assert space.count() == 2**3
    assert {len(cast(Any, net).blocks) for net in space.grid()} == {1, 2, 3}


@pytest.mark.parametrize("by", ["output", "influence", lambda _, block: block.scale])
def test_a_depth_keeps_the_most_important_blocks_in_their_order(by):
    net = listed(0.3, 0.0, 2.0, 0.0)
    space = ns.elastic(net, X).sort_blocks([X], by=by)
    with torch.no_grad(), space.activate(space.original):
        assert torch.equal(space(X), net(X))
    small = space.freeze(space.original | {"blocks.depth": 2})
    assert [block.scale for block in small.blocks] == [0.3, 2.0]
    assert [block.number for block in small.blocks] == [0, 1]
    with torch.no_grad():
        torch.testing.assert_close(small(X), net(X))
        for depth in (1, 2, 3):
            arch = space.original | {"blocks.depth": depth}
            arch = space.canonical(arch)
            with space.activate(arch):
                assert_equal(run(space, X), run(space.freeze(arch), X))
    cost = ns.profiler.params(space)
    assert cost.evaluate(space.original | {"blocks.depth": 2}) == sum(
        p.numel() for p in small.parameters()
    )
    again = space.sort_blocks(by="end").freeze(space.original | {"blocks.depth": 2})
    assert [block.scale for block in again.blocks] == [0.3, 0.0]


def test_an_order_of_blocks_that_is_not_known_or_needs_data_is_refused():
    space: Any = ns.elastic(listed(1, 1), X)
    with pytest.raises(UsageError, match="influenc"):
        space.sort_blocks([X], by="influenc")
    with pytest.raises(UsageError, match="data is needed"):
        space.sort_blocks(by="output")
    with pytest.raises(UsageError, match="'any'"):
        ns.elastic(listed(1, 1), X, depth=cast(Any, "some"))


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("ResNet", {"stages.0.depth", "stages.1.depth", "stages.2.depth"}),
        ("ResNet (transformers)", {f"encoder.stages.{i}.layers.depth" for i in (0, 1)}),
        pytest.param("Swin", {f"encoder.layers.{i}.blocks.depth" for i in (0, 1)},
                     marks=pytest.mark.slow),
        pytest.param("GPT-2", {"transformer.h.depth"}, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_blocks_are_those_that_add_something_to_what_the_layers_in_them_give(name, labels):
    try:
        net, inputs = NETWORKS[name]()
    except ImportError as error:
        pytest.skip(f"not installed: {error.name}")
    space = ns.elastic(net, inputs, only=["*depth"]).sort_blocks([inputs])
    assert set(space.symbols()) == labels
    arch = space.sample(seed=0)
    with torch.no_grad(), space.activate(arch):
        assert_equal(run(space, inputs), run(space.freeze(arch), inputs))


def test_the_line_of_a_reason_is_one_of_the_network_and_never_of_its_caller():
    class Fixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 16), nn.Linear(16, 2)

        def forward(self, x):
            return self.b(self.a(x).view(-1, 16))

    (a,) = [g for g in ns.elastic(Fixing().eval(), X).groups().fixed if "a.weight[0]" in g.places]
    assert "test_depth.py" in str(a.reason)
    plain = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)).eval()
    reasons = [str(group.reason) for group in ns.elastic(plain, X).groups().fixed]
    assert any("must be 4" in reason for reason in reasons)
    assert not any(".py" in reason for reason in reasons)
