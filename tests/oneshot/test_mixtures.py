"""Mixtures of whatever torch makes of elastic widths: a certain one is its architecture."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from hypothesis import given, settings
from torch import Tensor

import nas_space as ns
import nas_space.nn as mnn
from nas_space.nn.decisions import Gated, Weighted
from tests.oneshot.mixtures import SIZE, Net, networks


def architectures(space: Any) -> Iterator[tuple[dict[str, int], dict[str, Any]]]:
    """Codes and values, whatever is active."""
    symbols = space.symbols()
    for codes in product(*(range(symbol.size) for symbol in symbols.values())):
        chosen = dict(zip(symbols, codes, strict=True))
        yield chosen, {label: symbols[label].value(code) for label, code in chosen.items()}


def certain(space: Any, codes: dict[str, int]) -> dict[str, Tensor]:
    return {
        label: torch.eye(symbol.size, dtype=torch.double)[codes[label]]
        for label, symbol in space.symbols().items()
    }


def uniform(space: Any) -> dict[str, Tensor]:
    return {
        label: torch.full((symbol.size,), 1 / symbol.size, dtype=torch.double, requires_grad=True)
        for label, symbol in space.symbols().items()
    }


@given(networks())
@settings(max_examples=60, deadline=None)
def test_random_networks_are_their_architectures(space: Net) -> None:
    x = torch.randn(2, 3, SIZE, SIZE, dtype=torch.double)
    for training in (True, False):
        space.train(training)
        outputs = []
        for codes, arch in architectures(space):
            with space.activate(arch):
                right = space(x)
            outputs.append(right)
            with Weighted(certain(space, codes)):
                torch.testing.assert_close(space(x), right, rtol=1e-9, atol=1e-9)
            others = {
                label: (code, (code + 1) % space.symbols()[label].size)
                for label, code in codes.items()
            }
            logits = {label: torch.zeros_like(p) for label, p in certain(space, codes).items()}
            with Gated({k: v.requires_grad_() for k, v in logits.items()}, others):
                torch.testing.assert_close(space(x), right, rtol=1e-9, atol=1e-9)
        probabilities = uniform(space)
        with Weighted(probabilities):
            mixed = space(x)
        if space.is_exact:
            mean = torch.stack(outputs).mean(0)
            torch.testing.assert_close(mixed, mean, rtol=1e-9, atol=1e-9)
        gradients: Any = torch.autograd.grad(
            mixed.square().sum(), [*probabilities.values()], allow_unused=True
        )
        assert all(torch.as_tensor(0.0 if g is None else g).isfinite().all() for g in gradients)


def test_random_networks_are_of_all_kinds() -> None:
    """Most are exact, so that uniform probabilities are compared as well."""
    found: list[bool] = []
    seen: set[str] = set()

    @given(networks())
    @settings(max_examples=200, deadline=None, database=None, derandomize=True)
    def look(space: Net) -> None:
        found.append(space.is_exact)
        seen.update(getattr(step.run, "__name__", type(step.run).__name__) for step in space.steps)

    look()
    assert sum(found) / len(found) > 0.2
    assert {"glu", "attention", "flipped", "shuffled", "LayerChoice"} <= seen


def test_a_width_of_several_forms_is_mixed_in_all_of_its_parts() -> None:
    """As when a width is rounded and then made larger: its largest layer has no place for all."""

    class Rounded(ns.ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            share = ns.Categorical([1, 2, 4], label="share")
            width = ns.MutableExpression.condition(share == 2, 2 * share + 2, 2 * share)
            self.first = mnn.MutableConv2d(3, width, 1)
            self.depthwise = mnn.MutableConv2d(width, width, 3, padding=1, groups=width)
            self.norm = mnn.MutableBatchNorm2d(width)
            self.last = mnn.MutableConv2d(width, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.norm(self.depthwise(self.first(x))))  # type: ignore[no-any-return]

    space, x = Rounded().double(), torch.randn(2, 3, 4, 4, dtype=torch.double)
    outputs = []
    for codes, arch in architectures(space):
        with space.activate(arch):
            outputs.append(space(x))
        with Weighted(certain(space, codes)):
            torch.testing.assert_close(space(x), outputs[-1])
    with Weighted(uniform(space)):
        mixed = space(x)
    torch.testing.assert_close(mixed, torch.stack(outputs).mean(0))
    # Statistics of parts are written while the backward passes of others still need them.
    torch.autograd.backward(mixed.square().sum())
    assert all(parameter.grad is not None for parameter in space.parameters())
