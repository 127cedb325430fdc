"""Every layer of torch.nn, with expressions for its arguments, costs what the plain one does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

import nas_space.nn as mnn
from nas_space.errors import SpaceError
from nas_space.mutable import Categorical, MutableExpression
from nas_space.profiler import flops, memory, params

from ..nn.layer_cases import EVERY, Case
from . import oracle

NEEDS_DATA = frozenset({"AdaptiveLogSoftmaxWithLoss", "CTCLoss", "GaussianNLLLoss"})
"""What comes out, or whether it runs, depends on the values in the tensors."""

MOST = 8


class _Asked(dict[str, Any]):
    """Arguments that remember which were asked for."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.keys_asked: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.keys_asked.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.keys_asked.add(name)
        return super().get(name, default)


def free_arguments(case: Case) -> tuple[dict[str, list[Any]], Any]:
    """The arguments that the input does not depend on; and an input."""
    assert case.inputs is not None
    first = _Asked({**case.fixed, **{name: values[0] for name, values in case.varied.items()}})
    inputs = case.inputs(first)
    free = {n: values for n, values in case.varied.items() if n not in first.keys_asked}
    return free, inputs


def plain(name: str, case: Case, values: dict[str, Any], inputs: Any) -> nn.Module | None:
    """The layer by hand, on the meta device; ``None`` if torch refuses arguments or input."""
    first = {n: candidates[0] for n, candidates in case.varied.items()}
    try:
        layer: nn.Module = getattr(nn, name)(**{**case.fixed, **first, **values})
        with torch.no_grad():
            layer.eval()(*[tensor.clone() for tensor in inputs])
    except (ValueError, AssertionError, RuntimeError):
        return None
    return layer


def variations(free: dict[str, list[Any]]) -> Iterator[dict[str, list[Any]]]:
    """All arguments that can vary together; else one after another."""
    yield free
    for name, values in free.items():
        yield {name: values}


@pytest.fixture(autouse=True)
def _plain_attention():
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(before)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of layers that torch will drop
@pytest.mark.parametrize(
    "name", [name for name, case in EVERY.items() if case.inputs and not name.startswith("Lazy")]
)
def test_a_layer_costs_what_the_plain_one_does(name):
    case = EVERY[name]
    free, inputs = free_arguments(case)
    first = {n: candidates[0] for n, candidates in case.varied.items()}
    compared = 0
    for varied in variations(free):
        combinations = [
            dict(zip(varied, values, strict=True)) for values in product(*varied.values())
        ]
        if len(combinations) > 200:
            continue
        layers = [plain(name, case, values, inputs) for values in combinations]
        expressions = {n: Categorical(values, label=n) for n, values in varied.items()}
        layer = getattr(mnn, f"Mutable{name}")(**{**case.fixed, **first, **expressions})
        if None in layers or name in NEEDS_DATA:
            # Some architecture does not run: exactly then it is refused.
            unknown = torch.utils._pytree.tree_map_only(
                torch.Tensor, lambda t: t.to("meta"), inputs
            )
            with pytest.raises(SpaceError, match=r"run"):
                flops(layer, inputs=unknown)
            compared += 1
            continue
        costs = (flops(layer, inputs=inputs), params(layer), memory(layer, inputs=inputs))
        step = max(1, len(combinations) // MOST) | 1
        for values, by_hand in list(zip(combinations, layers, strict=True))[::step]:
            assert by_hand is not None
            found = [
                cost.evaluate(values) if isinstance(cost, MutableExpression) else cost
                for cost in costs
            ]
            wanted = [oracle.params(by_hand), oracle.peak(by_hand, inputs)]
            assert found[1:] == wanted, values
            if name != "Bilinear":  # for which torch's counter has no formula
                assert found[0] == oracle.flops(by_hand, inputs), values
            compared += 1
    assert compared


class _Unlike(mnn.ModelSpace):
    """Two elastic layers with the same arguments, of which one is something else otherwise."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        width = Categorical([2, 4], label="width")
        self.before, self.after = mnn.MutableLinear(3, width), mnn.MutableLinear(3, width)
        self.layers = nn.ModuleList([make(width), make(width)])

    def forward(self, x: torch.Tensor) -> Any:
        found = [layer(self.before(x).to(_kind(layer))) for layer in self.layers]
        return found, self.after(x)


def _kind(layer: nn.Module) -> torch.dtype:
    return next(layer.parameters()).dtype


def _frozen(space: Any) -> None:
    space.layers[0].requires_grad_(False)
    space.before.requires_grad_(False)


def _evaluating(space: Any) -> None:
    before = type(space).train

    class Partly(type(space)):  # type: ignore[misc]
        def train(self, mode: bool = True) -> Any:
            before(self, mode)
            self.layers[0].eval()
            return self

    space.__class__ = Partly


def _double(space: Any) -> None:
    space.layers[0].double()


@pytest.mark.parametrize("change", [_frozen, _evaluating, _double])
@pytest.mark.parametrize("make", [lambda w: mnn.MutableLinear(w, 3), mnn.MutableBatchNorm1d])
def test_layers_of_the_same_arguments_are_told_apart_by_what_else_they_are(make, change):
    space = _Unlike(make)
    change(space)
    inputs = torch.zeros(2, 3)
    for training in (False, True):
        cost = memory(space, inputs=inputs, training=training)
        for width in (2, 4):
            network = space.freeze({"width": width})
            alone = memory(network, inputs=inputs, training=training)
            assert cost.evaluate({"width": width}) == alone
