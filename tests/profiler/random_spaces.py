"""Hypothesis strategies for whole spaces of small image networks.

Labels are shared, nested, switched and derived at will; a block says how it changes the number
of channels, so that most networks fit together, though not all need to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import nn

from nas_space.mutable import Categorical, MutableExpression
from nas_space.nn import (
    InputChoice,
    LayerChoice,
    ModelSpace,
    MutableBatchNorm2d,
    MutableConv2d,
    MutableGroupNorm,
    MutableLinear,
    Repeat,
)

from .spaces import Times

CHANNELS = 4
SIZE = 6

Draw = Callable[[st.SearchStrategy[Any]], Any]


class Add(nn.Module):
    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Any) -> Any:
        total = x
        for branch in self.branches:
            total = total + branch(x)
        return total


class Concat(nn.Module):
    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Any) -> Any:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Pick(nn.Module):
    def __init__(self, pick: InputChoice, *branches: nn.Module) -> None:
        super().__init__()
        self.pick = pick
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Any) -> Any:
        found = self.pick([branch(x) for branch in self.branches])
        return x if found is None else found


class Tokens(nn.Module):
    """Reads shapes, and computes with them."""

    def forward(self, x: Any) -> Any:
        b, c, h, w = x.shape
        y = x.view(b, c, h * w)
        scores = torch.softmax(y.transpose(1, 2) @ y / c**0.5, -1)
        return (y @ scores).reshape(b, c, h, -1)


class Halves(nn.Module):
    """A decision on a shape."""

    def forward(self, x: Any) -> Any:
        if x.shape[-1] > 3:
            return F.max_pool2d(x, 2)
        return x.relu_()


class Builder:
    """Draws modules."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.count = 0
        self.shared: list[Any] = []

    def label(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def number(self, kind: str, candidates: list[int]) -> Any:
        """A number, a label of its own, one that others have, or something derived."""
        way = self.draw(st.integers(0, 4))
        if way == 0:
            return self.draw(st.sampled_from(candidates))
        fitting = [s for s in self.shared if set(s.values) <= set(candidates)]
        if way == 1 and fitting:
            return self.draw(st.sampled_from(fitting))
        some = self.draw(st.lists(st.sampled_from(candidates), min_size=2, max_size=3, unique=True))
        made = Categorical(some, label=self.label(kind))
        self.shared.append(made)
        if way == 2 and self.shared:
            other = self.draw(st.sampled_from(self.shared))
            return MutableExpression.condition(other == other.values[0], made, candidates[0])
        return made

    def block(self, width: Any, depth: int) -> tuple[nn.Module, Any]:
        """A module for inputs of a width, and the width of its output."""
        simple = ["conv", "norm", "act", "shape", "halves"]
        nested = ["choice", "repeat", "add", "concat", "pick", "times", "sequence"]
        kind = self.draw(st.sampled_from(simple if depth == 0 else simple + nested * 2))
        return getattr(self, f"_{kind}")(width, depth - 1)  # type: ignore[no-any-return]

    def same(self, width: Any, depth: int) -> nn.Module:
        """A module that keeps the width: projected back, if it does not."""
        module, out = self.block(width, max(depth, 0))
        if out is width or (isinstance(out, int) and isinstance(width, int) and out == width):
            return module
        return nn.Sequential(module, MutableConv2d(out, width, 1))

    def _conv(self, width: Any, _: int) -> tuple[nn.Module, Any]:
        out = self.number("width", [2, 4, 6])
        kernel = self.number("kernel", [1, 3])
        if self.draw(st.booleans()):
            return MutableConv2d(width, width, kernel, padding=kernel // 2, groups=width), width
        return MutableConv2d(width, out, kernel, padding=kernel // 2), out

    def _norm(self, width: Any, _: int) -> tuple[nn.Module, Any]:
        if self.draw(st.booleans()):
            return MutableGroupNorm(self.number("groups", [1, 2]), width), width
        return MutableBatchNorm2d(width), width

    def _act(self, width: Any, _: int) -> tuple[nn.Module, Any]:
        return self.draw(st.sampled_from([nn.ReLU, nn.SiLU, nn.Identity]))(), width

    def _shape(self, width: Any, _: int) -> tuple[nn.Module, Any]:
        return Tokens(), width

    def _halves(self, width: Any, _: int) -> tuple[nn.Module, Any]:
        return nn.Sequential(Halves(), nn.Upsample((SIZE, SIZE))), width

    def _choice(self, width: Any, depth: int) -> tuple[nn.Module, Any]:
        branches = [self.same(width, depth) for _ in range(self.draw(st.integers(2, 3)))]
        return LayerChoice(branches, label=self.label("op")), width

    def _repeat(self, width: Any, depth: int) -> tuple[nn.Module, Any]:
        low = self.draw(st.integers(0, 1))
        blocks = [self.same(width, depth) for _ in range(2)]
        return Repeat(blocks, (low, 2), label=self.label("depth")), width

    def _add(self, width: Any, depth: int) -> tuple[nn.Module, Any]:
        return Add(*(self.same(width, depth) for _ in range(self.draw(st.integers(1, 2))))), width

    def _concat(self, width: Any, depth: int) -> tuple[nn.Module, Any]:
        (one, a), (other, b) = self.block(width, max(depth, 0)), self.block(width, max(depth, 0))
        return Concat(one, other), a + b

    def _pick(self, width: Any, depth: int) -> tuple[nn.Module, Any]:
        n = self.draw(st.integers(2, 3))
        chosen = self.draw(st.sampled_from([1, 2, None]))
        reduction = self.draw(st.sampled_from(["sum", "mean"]))
        pick = InputChoice(n, n_chosen=chosen, reduction=reduction, label=self.label("pick"))
        return Pick(pick, *(self.same(width, depth) for _ in range(n))), width

    def _times(self, width: Any, depth: int) -> tuple[nn.Module, Any]:
        return Times(self.number("times", [1, 2]), self.same(width, depth)), width

    def _sequence(self, width: Any, depth: int) -> tuple[nn.Module, Any]:
        modules = []
        for _ in range(self.draw(st.integers(2, 3))):
            module, width = self.block(width, max(depth, 0))
            modules.append(module)
        return nn.Sequential(*modules), width


class Net(ModelSpace):
    def __init__(self, draw: Draw) -> None:
        super().__init__()
        builder = Builder(draw)
        self.stem = nn.Conv2d(3, CHANNELS, 1)
        body = []
        width: Any = CHANNELS
        for _ in range(draw(st.integers(1, 3))):
            module, width = builder.block(width, 2)
            body.append(module)
        self.body = nn.Sequential(*body)
        self.head = MutableLinear(width, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


@st.composite
def spaces(draw: Draw) -> Net:
    """A space; its inputs have three channels and :data:`SIZE` rows and columns."""
    return Net(draw)
