"""Formulas: torch's, ours for what torch has none for, and a user's own."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import flop_registry

from nas_space.errors import UsageError
from nas_space.mutable import Categorical
from nas_space.nn import LayerChoice, ModelSpace, MutableLinear
from nas_space.profiler import FlopsResult, flops, macs, register_flops_formula
from nas_space.profiler.cost import FORMULAS
from nas_space.profiler.operator_flops import formula_of, is_free


@pytest.fixture(autouse=True)
def _no_formulas_remain():
    with patch.dict(FORMULAS):
        yield


class _Calls(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


def zeros(*shapes: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.zeros(shape) for shape in shapes)


@pytest.mark.parametrize(
    ("function", "shapes", "multiply_adds"),
    [
        (torch.matmul, ((3, 4), (4, 5)), 60),
        (torch.bmm, ((2, 3, 4), (2, 4, 5)), 120),
        (torch.einsum, None, 60),
        # These torch multiplies, but does not count.
        (torch.mv, ((3, 4), (4,)), 12),
        (torch.dot, ((7,), (7,)), 7),
        (torch.addmv, ((3,), (3, 4), (4,)), 12),
        (torch.addr, ((3, 4), (3,), (4,)), 12),
        (torch.addbmm, ((3, 5), (2, 3, 4), (2, 4, 5)), 120),
        (torch.cdist, ((2, 3, 4), (2, 5, 4)), 120),
        (F.bilinear, ((2, 3), (2, 4), (5, 3, 4)), 120),
        (F.scaled_dot_product_attention, ((1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 6)), 300),
    ],
)  # fmt: skip
def test_products(function, shapes, multiply_adds):
    if shapes is None:
        net, inputs = _Calls(lambda a, b: torch.einsum("ij,jk->ik", a, b)), zeros((3, 4), (4, 5))
    else:
        net, inputs = _Calls(function), zeros(*shapes)
    assert macs(net, inputs=inputs) == multiply_adds


def test_products_in_place_count_as_well():
    net = _Calls(lambda a, b, c: a.addmm_(b, c))
    assert macs(net, inputs=zeros((3, 5), (3, 4), (4, 5))) == 60


def test_no_product_of_torchs_own_is_free():
    aten = torch.ops.aten
    for name in (
        *("mm", "matmul", "linear", "convolution", "conv2d", "lstm", "gru", "mkldnn_rnn_layer"),
        *("_native_multi_head_attention", "_transformer_encoder_layer_fwd", "_cudnn_rnn"),
        *("cudnn_convolution_relu", "mkldnn_linear", "_grouped_mm", "linalg_qr", "mv", "dot"),
        *("_scaled_dot_product_attention_math", "bilinear", "outer", "einsum", "tensordot"),
    ):
        packet = getattr(aten, name)
        func = getattr(packet, packet.overloads()[0])
        assert formula_of(func) is not None or not is_free(func), name


def test_what_multiplies_nothing_is_free():
    aten = torch.ops.aten
    for name in (
        *("add", "relu", "view", "cat", "softmax", "native_batch_norm", "native_layer_norm"),
        *("upsample_bilinear2d", "max_pool2d_with_indices", "embedding", "sort", "cumsum"),
        *("linalg_vector_norm", "grid_sampler_2d", "dropout", "multi_margin_loss"),
    ):
        packet = getattr(aten, name)
        assert is_free(getattr(packet, packet.overloads()[0])), name


def test_torchs_formulas_are_used_as_they_are():
    assert all(
        formula_of(getattr(packet, packet.overloads()[0])) is not None
        for packet in flop_registry
        if hasattr(packet, "overloads")
    )


# -- formulas of ones own -----------------------------------------------------------------------


class Scan(nn.Linear):
    pass


class MutableScan(Scan):
    """Deeper: the formula of its base class holds."""


class Net(ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        width = Categorical([4, 8], label="width")
        self.first = MutableLinear(4, width)
        self.op = LayerChoice({"scan": _Wide(), "none": nn.Identity()}, label="op")

    def forward(self, x: Any) -> Any:
        return self.op(self.first(x))


class _Wide(nn.Module):
    def forward(self, x: Any) -> Any:
        return x @ x.transpose(-1, -2)


def test_a_formula_takes_the_place_of_what_is_counted_inside():
    seen: list[Any] = []

    def formula(module: Any, inputs: Any, outputs: Any) -> int:
        seen.append((type(module), inputs, outputs))
        return int(inputs[0].numel()) * 100

    register_flops_formula(_Wide, formula)
    cost = macs(Net(), (4,))
    assert cost.evaluate({"width": 8, "op": "scan"}) == 32 + 800
    assert cost.evaluate({"width": 4, "op": "none"}) == 16
    assert flops(Net(), (4,)).evaluate({"width": 8, "op": "scan"}) == 2 * 832
    assert (_Wide, (torch.Size([1, 8]),), (torch.Size([1, 1]),)) in seen


def test_a_formula_sees_plain_modules():
    register_flops_formula(nn.Linear, lambda *given: given[0].out_features * 1000)
    cost = macs(Net(), (4,))
    assert cost.evaluate({"width": 8, "op": "none"}) == 8000


def test_a_formula_may_ask_for_more():
    def formula(_: Any, inputs: Any, outputs: Any, name: str, shapes: Any, config: Any) -> Any:
        assert shapes[name] == (inputs, outputs)
        assert config is None
        return FlopsResult(flops=len(name), params=0)

    register_flops_formula(_Wide, formula)
    assert macs(Net(), (4,)).evaluate({"width": 4, "op": "scan"}) == 16 + len("op.scan")


def test_a_formula_holds_for_subclasses_and_the_nearest_counts():
    register_flops_formula(Scan, lambda *_: 5)
    assert macs(MutableScan(4, 4), (4,)) == 5
    register_flops_formula(MutableScan, lambda *_: 7)
    assert macs(nn.Sequential(MutableScan(4, 4), Scan(4, 4)), (4,)) == 12


def test_a_class_may_count_itself():
    class Own(nn.Linear):
        def _count_flops(self, inputs: Any, outputs: Any) -> int:
            return self.in_features

    assert macs(Own(4, 4), (4,)) == 4


@pytest.mark.parametrize("result", [-1, float("nan"), "many", None, True])
def test_a_formula_that_gives_no_number_is_refused(result):
    register_flops_formula(_Wide, lambda *_: result)
    with pytest.raises(UsageError, match=r"a number of multiply-adds.*op\.scan"):
        macs(Net(), (4,))


def test_a_formula_is_for_a_class():
    with pytest.raises(UsageError, match="class of modules"):
        register_flops_formula(nn.Linear(4, 4), lambda *_: 0)  # type: ignore[arg-type]
