"""Blocks that code tells by their places are not left out: others would take their part."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nas_space as ns


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x).relu())  # type: ignore[no-any-return]


class Stack(nn.Module):
    """Blocks, and one thing of another kind for each of them."""

    def __init__(self, beside: Any = None) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 32), nn.Linear(32, 4)
        self.blocks = nn.ModuleList(Block() for _ in range(4))
        self.beside = beside

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for place, block in enumerate(self.blocks):
            x = x + self.step(place, block, x)
        return self.last(x)  # type: ignore[no-any-return]

    def step(self, place: int, block: nn.Module, x: Tensor) -> Tensor:
        return block(x)  # type: ignore[no-any-return]


class Scaled(Stack):
    def step(self, place: int, block: nn.Module, x: Tensor) -> Tensor:
        return self.beside[place] * block(x)  # type: ignore[no-any-return]


class Normed(Stack):
    def step(self, place: int, block: nn.Module, x: Tensor) -> Tensor:
        return block(self.beside[place](x))  # type: ignore[no-any-return]


class Embedded(Stack):
    def step(self, place: int, block: nn.Module, x: Tensor) -> Tensor:
        return block(x + self.beside(torch.tensor(place)))  # type: ignore[no-any-return]


class Kinds:
    """As a configuration that says of each block what it is."""

    def __init__(self, *kinds: str) -> None:
        self.kinds = list(kinds)


class Masked(Stack):
    def step(self, place: int, block: nn.Module, x: Tensor) -> Tensor:
        assert set(self.beside.kinds) <= {"cut", "whole"}  # which goes through all of them
        kind = self.beside.kinds[place]
        return block(x.relu() if kind == "cut" else x)  # type: ignore[no-any-return]


class MaskedInTurn(Masked):
    def forward(self, x: Tensor) -> Tensor:
        assert set(self.beside.kinds) <= {"cut", "whole"}  # which goes through all of them
        x = self.first(x)
        for block, kind in zip(self.blocks, self.beside.kinds[:4], strict=False):
            x = x + block(x.relu() if kind == "cut" else x)
        return self.last(x)  # type: ignore[no-any-return]


class Shifted(nn.Module):
    """A block that is given a table beside its input."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        return x + self.down((self.up(x + table)).relu())  # type: ignore[no-any-return]


class Tables(Stack):
    """Makes a table for each block by its number, as code does for positions."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Shifted() for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        tables = [torch.full((32,), 0.1 * (place + 1)) for place in range(4)]
        for block, table in zip(self.blocks, tables, strict=False):
            x = block(x, table)
        return self.last(x)  # type: ignore[no-any-return]


class Routed(nn.Module):
    """Experts, of which each token has two by their numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(32, 4)
        self.experts = nn.ModuleList(Block() for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        weights, chosen = self.gate(rows).softmax(-1).topk(2)
        out = torch.zeros_like(rows)
        for number, expert in enumerate(self.experts):
            token, place = torch.where(chosen == number)
            if len(token):
                out.index_add_(0, token, expert(rows[token]) * weights[token, place, None])
        return out.view(x.shape)


PAIRED: dict[str, tuple[Any, str]] = {
    "a table of scales": (lambda: Scaled(nn.Parameter(torch.rand(4))), r"beside\[3\] is paired"),
    "a list of parameters": (
        lambda: Scaled(nn.ParameterList(torch.rand(32) for _ in range(4))),
        r"beside\.3 is paired",
    ),
    "a list of norms": (
        lambda: Normed(nn.ModuleList(nn.LayerNorm(32) for _ in range(4))),
        r"beside\.3\.\w+ is paired",
    ),
    "a list in a configuration": (
        lambda: Masked(Kinds("cut", "whole", "whole", "cut")),
        r"beside\.kinds\[3\] is paired",
    ),
    "a list beside the blocks": (
        lambda: MaskedInTurn(Kinds("cut", "whole", "whole", "cut")),
        r"beside\.kinds \(in loop 2\)\[2\] is paired",
    ),
    "a table made in the forward": (Tables, "what a block is given beside the output"),
    "an embedding": (lambda: Embedded(nn.Embedding(4, 32)), r"beside.weight\[3\] is paired"),
}


@pytest.mark.parametrize("name", PAIRED)
def test_blocks_with_something_beside_each_are_all_kept_and_that_is_told(name):
    make, reason = PAIRED[name]
    space = ns.elastic(make().eval(), torch.randn(3, 8))
    assert not any(label.endswith("depth") for label in space.original)
    (said,) = [str(group) for group in space.groups().fixed if group.kind == "depth"]
    assert re.search(reason, said)


@pytest.mark.parametrize("make", [Stack, lambda: Masked(Kinds(*4 * ["cut"]))])
def test_blocks_one_after_the_other_can_be_left_out(make):
    space = ns.elastic(make().eval(), torch.randn(3, 8))
    assert space.original["blocks.depth"] == 4


def test_experts_vary_by_their_widths_and_none_is_left_out():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 32), Routed(), nn.Linear(32, 4)).eval()
    x = torch.randn(4, 16, 8)
    space = ns.elastic(net, x)
    assert {f"1.experts.{number}.up.width" for number in range(4)} <= set(space.original)
    assert "1.experts.depth" not in space.original
    assert "side by side" in str(space.groups())
    for seed in range(3):
        arch = space.sample(seed=seed)
        with space.activate(arch):
            assert torch.equal(space(x), space.freeze(arch)(x))


class Stacked(nn.Module):
    """Experts whose weights are one tensor, each token by one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(32, 4)
        self.up = nn.Parameter(torch.randn(4, 32, 96) / 6)
        self.down = nn.Parameter(torch.randn(4, 48, 32) / 7)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        weight, chosen = self.gate(rows).softmax(-1).max(-1)
        chosen, order = chosen.sort()
        counts = torch.histc(chosen.float(), bins=4, min=0, max=3)
        ends = counts.cumsum(0).to(torch.int32)
        gate, up = nn.functional.grouped_mm(rows[order], self.up, offs=ends).chunk(2, -1)
        made = nn.functional.grouped_mm(gate.relu() * up, self.down, offs=ends)
        out: Tensor = made[order.argsort()] * weight[:, None]
        return out.view(x.shape)


def test_experts_in_one_tensor_vary_by_their_width_and_by_that_of_what_they_read():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 32), Stacked(), nn.Linear(32, 4)).eval()
    x = torch.randn(4, 16, 8)
    space = ns.elastic(net, x, depth=False)
    assert set(space.original) == {"0.width", "1.down"}
    whole = net(x).detach()
    macs = ns.profiler.macs(space, inputs=x)
    wanted = 64 * (8 * 32 + 32 * 4 + 32 * 96 + 48 * 32 + 32 * 4)
    assert macs.evaluate(space.original) == wanted
    small: Any = space.freeze({"0.width": 32, "1.down": 24})
    assert macs.evaluate({"0.width": 32, "1.down": 24}) == wanted - 64 * (48 * 32 + 24 * 32)
    silent: Any = nn.Sequential(nn.Linear(8, 32), Stacked(), nn.Linear(32, 4)).eval()
    silent.load_state_dict(net.state_dict())
    with torch.no_grad():
        silent[1].down[:, 24:] = 0
    torch.testing.assert_close(small(x), silent(x))
    space.sort_channels([x])
    torch.testing.assert_close(space.freeze(space.original)(x), whole)
    for seed in range(3):
        arch = space.sample(seed=seed)
        with space.activate(arch):
            assert torch.equal(space(x), space.freeze(arch)(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Mixtral", "Qwen2Moe", "Olmoe"])
def test_models_with_experts_vary_as_those_without(name):
    transformers: Any = pytest.importorskip("transformers")
    config = getattr(transformers, f"{name}Config")(
        vocab_size=64, hidden_size=32, intermediate_size=48, moe_intermediate_size=48,
        shared_expert_intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4, num_experts=4, num_experts_per_tok=2,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    net = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    inputs = {"input_ids": torch.arange(24).view(2, 12)}
    space = ns.elastic(net, inputs)
    kinds = {label.rpartition(".")[2] for label in space.original}
    assert {"width", "heads", "depth"} <= kinds
    assert sum("mlp.experts" in label for label in space.original) == 2
    whole = net(**inputs).logits
    assert torch.equal(space.freeze(space.original)(**inputs).logits, whole)
    cost = ns.profiler.macs(space, inputs=inputs)
    for seed in range(3):
        arch = space.sample(seed=seed)
        small = space.freeze(arch)
        with space.activate(arch):
            assert torch.equal(space(**inputs).logits, small(**inputs).logits)
        assert cost.evaluate(arch) <= cost.evaluate(space.original)
    space.sort_channels([inputs])
    again = space.freeze(space.original)(**inputs).logits
    torch.testing.assert_close(again, whole, rtol=1e-4, atol=1e-5)
