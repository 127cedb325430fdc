"""Profilers as NNI has them, with NNI's numbers."""

from __future__ import annotations

from functools import cache
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import nn

from nas_space.errors import UsageError
from nas_space.hub import ProxylessNAS
from nas_space.interop.nni_compat import (
    ExpressionProfiler,
    FlopsParamsCounterConfig,
    FlopsParamsProfiler,
    FlopsProfiler,
    NumParamsProfiler,
    Profiler,
)
from nas_space.mutable import Categorical, MutableExpression
from nas_space.nn import ElasticModule, ModelSpace, MutableLinear, MutableMultiheadAttention
from nas_space.profiler import FlopsResult, macs, register_flops_formula
from nas_space.profiler.cost import FORMULAS

IMAGE = torch.zeros(1, 3, 224, 224)


@pytest.fixture(autouse=True)
def _no_formulas_remain():
    with patch.dict(FORMULAS):
        yield


@cache
def proxyless() -> tuple[Any, dict[str, Any]]:
    net: Any = ProxylessNAS.load_searched_model("proxyless-mobile")
    return ProxylessNAS(), net.architecture


def test_the_numbers_are_nnis():
    # Of nni 3.0's FlopsParamsProfiler, on its own ProxylessNAS.
    space, arch = proxyless()
    assert FlopsParamsProfiler(space, IMAGE).profile(arch) == FlopsResult(346727080, 4080512)
    assert FlopsParamsProfiler(space, IMAGE, count_bias=False).profile(arch).flops == 346726080


def test_without_extras_the_operations_are_multiply_adds():
    space, arch = proxyless()
    nothing = dict.fromkeys(FlopsParamsCounterConfig.__dataclass_fields__, False)
    found = FlopsParamsProfiler(space, IMAGE, **nothing).profile(arch)
    net = space.freeze(arch, weights="share")
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert found.flops == macs(space, (3, 224, 224)).evaluate(arch)
    assert found.params == 4080512 - sum(2 * norm.num_features for norm in norms)


def test_a_profiler_of_one_number_has_its_expression():
    space, arch = proxyless()
    both = FlopsParamsProfiler(space, IMAGE)
    for kind, cost in (
        (FlopsProfiler, both.flops_result[0]),
        (NumParamsProfiler, both.flops_result[1]),
    ):
        profiler = kind(space, IMAGE)
        assert isinstance(profiler, ExpressionProfiler)
        assert isinstance(profiler, Profiler)
        assert profiler.expression is cost
        assert isinstance(cost, MutableExpression)
        assert profiler.profile(arch) == cost.evaluate(arch)


def test_the_batch_does_not_count():
    layer = nn.Linear(8, 4)
    one, many = (FlopsProfiler(layer, torch.zeros(n, 8)).expression for n in (1, 32))
    assert one == many == 32 + 4


@pytest.mark.parametrize(
    ("layers", "operations"),
    [
        ([nn.Conv2d(2, 3, 1)], 3 * 16 * (2 + 1)),
        ([nn.Conv2d(2, 3, 1, bias=False)], 3 * 16 * 2),
        ([nn.BatchNorm2d(2)], 4 * 2 * 16),
        ([nn.BatchNorm2d(2, affine=False)], 2 * 2 * 16),
        ([nn.ReLU(), nn.Hardswish(inplace=True), nn.Sigmoid()], 3 * 2 * 16),
        ([nn.AvgPool2d(2), nn.Flatten(), nn.Dropout()], 0),
    ],
)
def test_what_counts(layers, operations):
    assert FlopsProfiler(nn.Sequential(*layers), torch.zeros(1, 2, 4, 4)).expression == operations


def test_formulas_are_told_the_configuration():
    register_flops_formula(
        nn.Linear, lambda *_, config, count_bias: 10 * count_bias + config.count_bias
    )
    layer, x = nn.Linear(4, 4), torch.zeros(1, 4)
    assert FlopsProfiler(layer, x).expression == 11
    assert FlopsProfiler(layer, x, count_bias=False).expression == 0


def test_a_layer_says_itself_that_it_is_a_normalization():
    class Scale(nn.Module):
        def __init__(self, width, device=None, dtype=None):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(width, device=device, dtype=dtype))

    class MutableScale(ElasticModule, Scale, wraps=Scale):
        is_normalization = True

        @classmethod
        def shapes(cls, arguments):
            return {"weight": (arguments["width"],)}

    layer = nn.Sequential(nn.Linear(2, 3), MutableScale(Categorical([2, 4], label="width")))
    assert NumParamsProfiler(layer).profile({"width": 4}) == 9 + 4
    assert NumParamsProfiler(layer, count_normalization=False).expression == 9


def test_unknown_configuration_is_refused():
    for kind in (FlopsParamsProfiler, FlopsProfiler, NumParamsProfiler):
        with pytest.raises(UsageError, match="did you mean 'count_bias'"):
            kind(nn.Linear(4, 4), torch.zeros(1, 4), count_biass=True)


def test_a_profiler_must_say_how():
    with pytest.raises(NotImplementedError, match="Profiler must implement profile"):
        Profiler(nn.Linear(4, 4)).profile({})


class Tripled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return self.inner(self.inner(self.inner(x)))


def test_formulas_keep_their_parameters():
    register_flops_formula(
        Tripled, lambda module, x, _: FlopsResult(7 * x[0][-1], module.inner.in_features)
    )
    shared = Tripled()
    space, x = nn.Sequential(nn.Linear(4, 4), shared, shared), torch.zeros(1, 4)
    assert FlopsParamsProfiler(space, x).profile({}) == FlopsResult(20 + 2 * 28, 20 + 4)
    assert NumParamsProfiler(space, x).expression == 24
    assert NumParamsProfiler(space).expression == 40  # without shapes, no formula can be asked
    register_flops_formula(Tripled, lambda *_: 5)
    assert FlopsParamsProfiler(space, x).profile({}) == FlopsResult(20 + 2 * 5, 20 + 20)


def test_the_parameters_of_formulas_are_those_of_the_architecture():
    register_flops_formula(
        nn.Linear, lambda module, *_: FlopsResult(1, module.in_features * module.out_features)
    )
    width = Categorical([2, 4], label="width")
    found = FlopsParamsProfiler(MutableLinear(8, width), torch.zeros(1, 8))
    assert found.profile({"width": 2}) == FlopsResult(1, 16)
    assert found.flops_result.freeze({"width": 4}) == FlopsResult(1, 32)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(8, 4), (8,)),
        (nn.Conv2d(3, 4, 3), (3, 8, 8)),
        (nn.Conv1d(3, 4, 3), (3, 8)),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), (3, 8, 8)),
    ],
)
def test_inputs_may_have_no_batch(layer, shape):
    none = FlopsProfiler(layer, torch.zeros(shape)).expression
    assert none == FlopsProfiler(layer, torch.zeros(5, *shape)).expression > 0


def test_attention_that_takes_the_sequence_first_counts_all_of_it():
    first, second = nn.MultiheadAttention(8, 2), nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.zeros(5, 3, 8)
    wanted = FlopsProfiler(second, (x.transpose(0, 1),) * 3).expression
    assert FlopsProfiler(first, (x,) * 3).expression == wanted
    assert FlopsProfiler(first, (x[:, 0],) * 3).expression == wanted
    assert FlopsProfiler(second, (x[:, 0],) * 3, batch_dim=2).expression == wanted


def by_hand(length: int, source: int, width: int, heads: int, bias: int = 1) -> int:
    """Scaling, projections, products with their softmax, and the last projection."""
    products = length * source * (2 * width + heads)
    projections = length * (width + bias) + 2 * source * (width + bias) + length * (width + bias)
    return length * width + width * projections + products


class Attending(nn.Module):
    """Attention somewhere inside, after and before layers that know of no sequence."""

    def __init__(self, layer: nn.Module, transposed: bool = False) -> None:
        super().__init__()
        self.first, self.layer, self.transposed = nn.Linear(8, 8), layer, transposed

    def forward(self, x):
        x = self.first(x)
        x = x.transpose(0, 1) if self.transposed else x
        inputs = [x] * (3 if isinstance(self.layer, nn.MultiheadAttention) else 1)
        return self.layer(*inputs)[0]


LAYERS = {
    "attention": (nn.MultiheadAttention, (8, 2)),
    "lstm": (nn.LSTM, (8, 4)),
    "gru of two layers": (nn.GRU, (8, 4, 2)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_one_sample_of_a_sequence_is_counted_wherever_its_batch_is(name):
    kind, sizes = LAYERS[name]
    batch_first = Attending(kind(*sizes, batch_first=True))
    x = torch.zeros(3, 5, 8)  # three sequences of five
    wanted = FlopsProfiler(batch_first, x[:1], batch_dim=0).expression
    assert FlopsProfiler(batch_first, x).expression == wanted
    for length_first in (Attending(kind(*sizes)), Attending(kind(*sizes, batch_first=True), True)):
        assert FlopsProfiler(length_first, x.transpose(0, 1)).expression == wanted
        assert FlopsProfiler(length_first, torch.zeros(5, 5, 8)).expression == wanted
    for unbatched in (Attending(kind(*sizes)), batch_first):
        assert FlopsProfiler(unbatched, x[0]).expression == wanted
    if name == "attention":
        assert wanted == 5 * 8 * 9 + by_hand(5, 5, 8, 2)


def test_a_space_with_attention_of_elastic_width_needs_no_word_on_its_batch():
    width = Categorical([4, 8], label="width")

    class Net(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.first = MutableLinear(8, width)
            self.attention = MutableMultiheadAttention(width, 2)

        def forward(self, x):
            x = self.first(x)
            return self.attention(x, x, x, need_weights=False)[0]

    profiler = FlopsProfiler(Net(), torch.zeros(5, 3, 8))
    for number in (4, 8):
        expected = 5 * number * 9 + by_hand(5, 5, number, 2)
        assert profiler.profile({"width": number}) == expected
