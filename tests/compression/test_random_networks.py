"""What must hold of every network, on networks that are put together at random."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import nas_space as ns
from tests.compression.test_elastic import assert_equal, run

WIDTH, PLACES = 16, 6


class Piece(nn.Module):
    """One step of a random network, from tokens of a width to tokens of another."""

    def __init__(self, kind: str, inputs: int, outputs: int) -> None:
        super().__init__()
        self.kind, self.heads = kind, 2
        inner = 2 * outputs if kind == "gate" else outputs
        if kind == "attention":
            self.qkv, self.first = nn.Linear(inputs, 3 * inputs), nn.Linear(inputs, outputs)
        elif kind == "convolution":
            self.norm: nn.Module = nn.BatchNorm1d(outputs)
            self.first = nn.Conv1d(inputs, outputs, 3, padding=1)  # type: ignore[assignment]
        elif kind == "branches":
            self.first, self.other = nn.Linear(inputs, 8), nn.Linear(inputs, outputs - 8)
        else:
            self.first = nn.Linear(inputs, inner)
        if kind == "normed":
            self.norm = nn.LayerNorm(outputs)
        if kind in ("residual", "gate"):
            self.last = nn.Linear(outputs, inputs if kind == "residual" else outputs)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "attention":
            q, k, v = (
                t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1)
            )
            y = nn.functional.scaled_dot_product_attention(q, k, v)
            y = self.first(y.transpose(1, 2).flatten(2))
        elif self.kind == "convolution":
            y = self.norm(self.first(x.transpose(1, 2))).transpose(1, 2)
        elif self.kind == "branches":
            y = torch.cat([self.first(x), self.other(x).relu()], -1)
        elif self.kind == "gate":
            a, b = self.first(x).chunk(2, -1)
            y = self.last(a.sigmoid() * b)
        elif self.kind == "residual":
            y = x + self.last(self.first(x).relu())
        else:
            y = self.first(x).relu()
            y = self.norm(y) if self.kind == "normed" else y
        return y


class Together(nn.Module):
    """Pieces one after the other, some of which read what an earlier one gave as well."""

    def __init__(self, pieces: list[tuple[str, int]], skips: list[bool]) -> None:
        super().__init__()
        self.stem = nn.Linear(4, WIDTH)
        self.pieces, self.skips = nn.ModuleList(), skips
        width = WIDTH
        for (kind, outputs), skip in zip(pieces, skips, strict=True):
            made = width if kind == "residual" else outputs
            self.pieces.append(Piece(kind, width, made))
            width = made + width if skip else made
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for piece, skip in zip(self.pieces, self.skips, strict=True):
            x = torch.cat([piece(x), x], -1) if skip else piece(x)
        return self.head(x.mean(1))  # type: ignore[no-any-return]


KINDS = ("plain", "normed", "residual", "gate", "branches", "convolution", "attention")


@st.composite
def networks(draw: Any) -> nn.Module:
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3))
    widths = [draw(st.sampled_from([16, 24])) for _ in kinds]
    skips = [draw(st.booleans()) for _ in kinds]
    torch.manual_seed(draw(st.integers(0, 3)))
    return Together(list(zip(kinds, widths, strict=True)), skips).eval()


X = torch.randn(2, PLACES, 4, generator=torch.Generator().manual_seed(0))


@settings(max_examples=8, deadline=None)
@given(networks(), st.data())
def test_of_every_network_the_original_and_every_architecture_are_exact(net, data):
    state = {key: value.clone() for key, value in net.state_dict().items()}
    space = ns.elastic(net, X, outputs=data.draw(st.sampled_from(["fixed", "free"])))
    assert list(space.state_dict()) == list(state)
    found: list[list[Any]] = []
    for model in (copy.deepcopy(net), space, space.freeze(space.original)):
        with space.activate(space.original):
            (output,) = run(model, X)
        output.square().sum().backward()
        found.append([output, *(p.grad for p in model.parameters())])
    assert_equal(found[1], found[0])
    assert_equal(found[2], found[0])
    space.zero_grad()
    assert space.groups()
    cost = ns.profiler.macs(space, inputs=X)
    again = pickle.loads(pickle.dumps(space))
    for seed in range(3):
        arch = space.sample(seed=seed)
        small: Any = space.freeze(arch)
        with torch.no_grad(), space.activate(arch), again.activate(arch):
            assert_equal(run(space, X), run(small, X))
            assert_equal(run(again, X), run(small, X))
        assert type(small) is Together
        assert cost.evaluate(arch) == ns.profiler.macs(small, inputs=X)
    budget = (cost.evaluate(space.original) + cost.evaluate(space.sample(seed=0))) // 2
    within = space.where(cost <= budget)
    assert 0 < within.count() < space.count()
    assert cost.evaluate(within.sample(seed=1)) <= budget
    with torch.no_grad():
        space.sort_channels([X], by="magnitude")
        with space.activate(space.original):
            torch.testing.assert_close(space(X), net(X), rtol=1e-4, atol=1e-5)
    assert_equal(list(net.state_dict().values()), list(state.values()))
