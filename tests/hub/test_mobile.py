"""The parts of mobile networks, with numbers and with expressions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas_space.errors import ExpressionError, UsageError
from nas_space.hub import (
    ConvBNReLU,
    DepthwiseSeparableConv,
    InvertedResidual,
    inverted_residual_choice_builder,
    reset_parameters,
    same_width,
    simplify_sequential,
)
from nas_space.mutable import Categorical, make_divisible
from nas_space.nn import Activation, MutableBatchNorm2d, MutableConv2d, Repeat

WIDTH = Categorical([8, 16], label="width")
RATIO = Categorical([3, 6], label="ratio")
KERNEL = Categorical([3, 5, 7], label="kernel")


class Wrap(nn.Module):
    """Freezes and runs any module that holds expressions."""

    @staticmethod
    def freeze(module: nn.Module, **arch: Any) -> Any:
        return Repeat([module], 1).freeze(arch)[0]

    @staticmethod
    def active(module: nn.Module, x: Tensor, **arch: Any) -> Tensor:
        with Activation(Repeat([module], 1).read(arch)):
            y: Tensor = module(x)
        return y


def types(module: nn.Module) -> list[type]:
    return [type(Wrap.freeze(child)) for child in module.children()]


# -- ConvBNReLU -------------------------------------------------------------------------------


def test_conv_norm_activation() -> None:
    block = ConvBNReLU(3, 8)
    assert types(block) == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU6]
    assert block[0].bias is None
    assert block[2].inplace


@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_keeps_the_size_up_to_the_stride(
    kernel_size: int, dilation: int, stride: int
) -> None:
    block = ConvBNReLU(4, 8, kernel_size, stride, groups=2, dilation=dilation)
    assert block(torch.zeros(2, 4, 16, 16)).shape == (2, 8, 16 // stride, 16 // stride)
    assert block[0].groups == 2


def test_there_is_a_bias_exactly_when_the_norm_is_an_identity() -> None:
    def nothing(channels: Any) -> nn.Module:
        del channels
        return nn.Identity()

    plain = ConvBNReLU(3, 8, norm_layer=nothing)
    assert types(plain) == [nn.Conv2d, nn.ReLU6]
    assert plain[0].bias is not None
    group = ConvBNReLU(3, 8, norm_layer=partial(nn.GroupNorm, 2))
    assert types(group) == [nn.Conv2d, nn.GroupNorm, nn.ReLU6]
    assert group[0].bias is None


def test_the_activation_is_called_in_place() -> None:
    asked = []

    def activation(**kwargs: Any) -> nn.Module:
        asked.append(kwargs)
        return nn.Tanh()

    assert types(ConvBNReLU(3, 8, activation_layer=activation)) == [
        nn.Conv2d,
        nn.BatchNorm2d,
        nn.Tanh,
    ]
    assert asked == [{"inplace": True}]
    assert types(ConvBNReLU(3, 8, activation_layer=nn.Identity)) == [nn.Conv2d, nn.BatchNorm2d]


def test_everything_of_a_convolution_may_be_an_expression() -> None:
    stride = Categorical([1, 2], label="stride")
    dilation = Categorical([1, 2], label="dilation")
    block = ConvBNReLU(WIDTH, WIDTH * 2, KERNEL, stride, WIDTH, dilation=dilation)
    x = torch.randn(2, 16, 9, 9)
    for arch in ({"width": w, "kernel": k, "stride": s, "dilation": d}
                 for w in (8, 16) for k in (3, 7) for s in (1, 2) for d in (1, 2)):  # fmt: skip
        hand = ConvBNReLU(
            arch["width"], arch["width"] * 2, arch["kernel"], arch["stride"], arch["width"],
            dilation=arch["dilation"],
        ).eval()  # fmt: skip
        frozen = Wrap.freeze(block.eval(), **arch)
        hand.load_state_dict(frozen.state_dict())
        expected = hand(x[:, : arch["width"]])
        assert torch.equal(frozen(x[:, : arch["width"]]), expected)
        assert torch.equal(Wrap.active(block, x[:, : arch["width"]], **arch), expected)


# -- blocks -----------------------------------------------------------------------------------


class Excite(nn.Module):
    """Notes its widths; scales, so that its place shows."""

    def __init__(self, hidden: Any, width: Any) -> None:
        super().__init__()
        self.widths = (hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return x * 2


def test_an_inverted_residual_widens_and_narrows() -> None:
    block = InvertedResidual(16, 24, 3, kernel_size=5, stride=2)
    assert types(block) == [
        *(nn.Conv2d, nn.BatchNorm2d, nn.ReLU6) * 2,
        *(nn.Conv2d, nn.BatchNorm2d),
    ]
    shapes = [tuple(m.weight.shape) for m in block if isinstance(m, nn.Conv2d)]
    assert shapes == [(48, 16, 1, 1), (48, 1, 5, 5), (24, 48, 1, 1)]
    assert block(torch.zeros(1, 16, 8, 8)).shape == (1, 24, 4, 4)


def test_the_first_convolution_stays_at_ratio_one() -> None:
    assert len([m for m in InvertedResidual(16, 16, 1) if isinstance(m, nn.Conv2d)]) == 3


@pytest.mark.parametrize("ratio", [0.5, 1, 2.3, 6])
def test_the_hidden_width_is_divisible_by_eight(ratio: float) -> None:
    block: Any = InvertedResidual(20, 20, ratio)
    assert block[0].out_channels == make_divisible(20 * ratio, 8)


@pytest.mark.parametrize(
    "make", [partial(InvertedResidual, expand_ratio=2), DepthwiseSeparableConv]
)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("source", "target", "same"),
    [(320, 320, True), (8, 16, False), (WIDTH, WIDTH, True), (WIDTH, 8, False),
     (WIDTH * 2, Categorical([8, 16], label="width") * 2, True), (WIDTH, WIDTH * 1, False)],
)  # fmt: skip
def test_there_is_a_residual_where_the_shape_stays(
    make: Any, stride: int, source: Any, target: Any, same: bool
) -> None:
    assert make(source, target, stride=stride).has_skip is (same and stride == 1)
    assert same_width(source, target) is same


def test_widths_that_are_equal_but_not_identical_skip() -> None:
    # Integers beyond 256 are different objects: comparing identity would tell them apart.
    assert InvertedResidual(320, int("320"), 1).has_skip


@pytest.mark.parametrize(
    "make", [partial(InvertedResidual, expand_ratio=1), DepthwiseSeparableConv]
)
def test_a_residual_adds_the_input(make: Any) -> None:
    block = make(8, 8).eval()
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.weight)
    x = torch.randn(1, 8, 4, 4)
    assert torch.equal(block(x), x)


def test_squeeze_and_excite_stands_before_the_projection() -> None:
    block: Any = InvertedResidual(16, 24, RATIO, squeeze_excite=Excite)
    assert type(block[6]) is Excite
    assert block[6].widths == (block[0].expression("out_channels"), 16)
    assert Wrap.freeze(block, ratio=6)[6].widths == (96, 16)
    separable: Any = DepthwiseSeparableConv(16, 24, squeeze_excite=Excite)
    assert type(separable[3]) is Excite
    assert separable[3].widths == (16, 16)


def test_a_separable_convolution_is_depthwise_then_pointwise() -> None:
    block = DepthwiseSeparableConv(16, 24, 5, 2)
    assert types(block) == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU6, nn.Conv2d, nn.BatchNorm2d]
    shapes = [tuple(m.weight.shape) for m in block if isinstance(m, nn.Conv2d)]
    assert shapes == [(16, 1, 5, 5), (24, 16, 1, 1)]


@pytest.mark.parametrize(
    "make", [partial(InvertedResidual, expand_ratio=1), DepthwiseSeparableConv]
)
@pytest.mark.parametrize("stride", [0, 3, Categorical([1, 2], label="s")])
def test_the_stride_of_a_block_is_one_or_two(make: Any, stride: Any) -> None:
    with pytest.raises(UsageError, match="the stride of a block is 1 or 2"):
        make(8, 8, stride=stride)


@pytest.mark.parametrize("mode", [True, False])
def test_a_block_of_expressions_is_the_block_of_their_values(mode: bool) -> None:
    block = InvertedResidual(WIDTH, WIDTH, RATIO, KERNEL).train(mode)
    for arch in ({"width": w, "ratio": r, "kernel": k}
                 for w in (8, 16) for r in (3, 6) for k in (3, 5, 7)):  # fmt: skip
        hand = InvertedResidual(arch["width"], arch["width"], arch["ratio"], arch["kernel"])
        frozen = Wrap.freeze(block, **arch)
        hand.train(mode).load_state_dict(frozen.state_dict())
        x = torch.randn(2, arch["width"], 6, 6)
        expected = hand(x)
        assert torch.equal(frozen(x), expected)
        assert torch.equal(Wrap.active(block, x, **arch), expected)
        assert frozen.out_channels == arch["width"]


def test_norm_and_activation_are_those_asked_for() -> None:
    norm = partial(MutableBatchNorm2d, momentum=0.3)
    for block in (
        InvertedResidual(8, 16, 2, norm_layer=norm, activation_layer=nn.Hardswish),
        DepthwiseSeparableConv(8, 16, norm_layer=norm, activation_layer=nn.Hardswish),
    ):
        assert all(m.momentum == 0.3 for m in block if isinstance(m, nn.BatchNorm2d))
        assert not any(isinstance(m, nn.ReLU6) for m in block)
        assert not isinstance(block[-1], nn.Hardswish)


def test_a_plain_norm_with_an_expression_says_what_to_use() -> None:
    with pytest.raises((ExpressionError, TypeError)):
        ConvBNReLU(3, WIDTH, norm_layer=nn.BatchNorm2d)


# -- stages -----------------------------------------------------------------------------------


def test_only_the_first_block_of_a_stage_changes_the_shape() -> None:
    build = inverted_residual_choice_builder([3, 6], [3, 5, 7], True, 16, 24, "s2")
    first, second = build(0), build(1)
    assert (first.label, second.label) == ("s2_i0", "s2_i1")
    assert first.names == ["k3e3", "k5e3", "k7e3", "k3e6", "k5e6", "k7e6"]
    for name, block in first.candidates.items():  # type: ignore[union-attr]
        kernel, ratio = int(name[1]), int(name[3])
        convolutions = [m for m in block if isinstance(m, nn.Conv2d)]  # type: ignore[union-attr]
        assert convolutions[0].weight.shape == (16 * ratio, 16, 1, 1)
        assert convolutions[1].kernel_size == (kernel, kernel)
        assert convolutions[1].stride == (2, 2)
        assert not block.has_skip
    for block in second:
        assert block.has_skip
        assert block[3].stride == (1, 1)  # type: ignore[index]
    steady = inverted_residual_choice_builder([3], [3], False, 24, 24, "s3")
    assert all(block.has_skip for block in steady(0))


# -- simplify_sequential ----------------------------------------------------------------------


def test_sequences_are_opened_one_level_and_identities_dropped() -> None:
    inner = nn.Sequential(nn.Tanh(), nn.Identity())
    relu = nn.ReLU()
    given = [nn.Identity(), nn.Sequential(relu, inner, nn.Identity()), nn.Sequential()]
    assert list(simplify_sequential(given)) == [relu, inner]


def test_it_is_lazy() -> None:
    def modules() -> Iterator[nn.Module]:
        yield nn.ReLU()
        raise AssertionError("asked for too much")

    assert isinstance(next(iter(simplify_sequential(modules()))), nn.ReLU)


# -- reset_parameters -------------------------------------------------------------------------


def deviation(module: nn.Module) -> float:
    weight: Any = module.weight
    return float(weight.detach().std())


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("divided", [True, False])
@pytest.mark.parametrize("init", ["he_fout", "he_fin"])
def test_convolutions_get_the_variance_of_their_fan(init: Any, divided: bool, groups: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 128, 3, groups=groups)
    reset_parameters(conv, init, init_div_groups=divided)
    fan = 9 * (128 if init == "he_fout" else 64) / (groups if divided else 1)
    assert deviation(conv) == pytest.approx(math.sqrt(2 / fan), rel=0.03)


def test_batch_norms_and_linear_layers_get_constants_and_small_weights() -> None:
    model: Any = nn.ModuleList(
        [nn.BatchNorm2d(4), nn.BatchNorm1d(4), nn.Linear(100, 100), nn.BatchNorm2d(4, affine=False)]
    )
    for parameter in model.parameters():
        nn.init.constant_(parameter, 7)
    reset_parameters(model, bn_momentum=0.2, bn_eps=0.3)
    assert (model[0].eps, model[0].momentum) == (0.3, 0.2)
    assert model[0].weight.tolist() == model[1].weight.tolist() == [1] * 4
    assert model[0].bias.tolist() == [0] * 4
    assert deviation(model[2]) == pytest.approx(0.01, rel=0.05)
    assert model[2].bias.abs().max() == 0
    reset_parameters(nn.Linear(2, 2, bias=False))


@pytest.mark.parametrize(
    ("conv", "fan_out", "fan_in"),
    [
        (lambda: MutableConv2d(WIDTH, WIDTH * 4, 3), 64, 16),
        (lambda: MutableConv2d(WIDTH, WIDTH, 3, groups=WIDTH), 1, 1),
        (lambda: MutableConv2d(64, 64, 3, groups=Categorical([1, 4], label="g")), 64, 64),
    ],
    ids=["widths", "depthwise", "groups"],
)
def test_an_elastic_layer_has_the_fan_of_its_largest_shape(
    conv: Any, fan_out: int, fan_in: int
) -> None:
    torch.manual_seed(0)
    layer = conv()
    for init, fan in (("he_fout", fan_out), ("he_fin", fan_in)):
        reset_parameters(layer, init, init_div_groups=True)
        assert deviation(layer) == pytest.approx(math.sqrt(2 / (9 * fan)), rel=0.15)


def test_an_unknown_initialisation_changes_nothing() -> None:
    conv = nn.Conv2d(2, 2, 1)
    before = conv.weight.clone()
    with pytest.raises(UsageError, match="'he_fout' or 'he_fin', but got 'xavier'"):
        reset_parameters(conv, "xavier")
    assert torch.equal(conv.weight, before)
