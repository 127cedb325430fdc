"""Numbers of initial weights, taken in constructors where sizes are expressions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import nas_space.nn as mnn
from nas_space.errors import ExpressionError
from nas_space.mutable import Categorical
from nas_space.nn import ModelSpace


class Drawn(ModelSpace):
    """Does something with plain numbers in its constructor."""

    def __init__(self, draw: Callable[[Any], object]) -> None:
        super().__init__()
        kernel, width = Categorical([1, 3, 5], label="kernel"), Categorical([64, 256], label="w")
        self.conv = mnn.MutableConv2d(3, width, kernel, padding=kernel // 2)
        self.depthwise = mnn.MutableConv2d(width, width, (kernel, 3), groups=width)
        self.last = mnn.MutableLinear(width, 4)
        draw(self)

    conv: Any
    depthwise: Any

    def forward(self, x: torch.Tensor) -> Any:
        return self.last(self.depthwise(self.conv(x)).mean((2, 3)))


def he_fan_out(space: Any) -> None:
    for layer in space.modules():
        if isinstance(layer, nn.Conv2d):
            fan: Any = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels
            fan /= layer.groups
            layer.weight.data.normal_(0, math.sqrt(2.0 / fan))


def deviation(layer: Any) -> float:
    return float(layer.weight.detach().std())


def test_initial_weights_are_those_of_the_largest_sizes():
    space = Drawn(he_fan_out)
    assert deviation(space.conv) == pytest.approx(math.sqrt(2 / (5 * 5 * 256)), rel=0.05)
    assert deviation(space.depthwise) == pytest.approx(math.sqrt(2 / (5 * 3)), rel=0.1)


def test_what_is_built_for_one_architecture_has_its_initial_weights():
    network = Drawn.frozen_factory({"kernel": 3, "w": 64})(he_fan_out)
    assert deviation(network.conv) == pytest.approx(math.sqrt(2 / (3 * 3 * 64)), rel=0.1)


@pytest.mark.parametrize(
    "draw",
    [
        lambda space: nn.init.uniform_(space.conv.weight, -1 / math.sqrt(space.conv.out_channels)),
        lambda space: nn.init.normal_(space.conv.weight, 0, float((2 / space.conv.groups) ** 0.5)),
        lambda space: space.conv.weight.data.mul_(np.sqrt(float(space.conv.out_channels))),
        lambda space: setattr(
            space, "scale", nn.Parameter(torch.tensor(math.log(space.conv.out_channels)))
        ),
    ],
)
def test_however_they_are_drawn(draw):
    space = Drawn(draw)
    arch = {"kernel": 3, "w": 64}
    x = torch.randn(2, 3, 8, 8)
    with space.activate(arch):
        assert torch.equal(space(x), space.freeze(arch)(x))


def test_a_space_is_drawn_as_if_it_were_built_once():
    torch.manual_seed(0)
    space, after = Drawn(he_fan_out), torch.randn(3)
    torch.manual_seed(0)
    again = Drawn(id)
    fan = 5 * 5 * 256
    again.conv.weight.data.normal_(0, math.sqrt(2 / fan))
    again.depthwise.weight.data.normal_(0, math.sqrt(2 / (5 * 3)))
    assert torch.equal(after, torch.randn(3))
    for mine, its in zip(space.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, its)


def width(space: Any) -> float:
    return float(space.conv.out_channels)


def captured(space: Any) -> None:
    scale = width(space)
    space.function = lambda x: x * scale


OTHERWISE: dict[str, Callable[[Any], object]] = {
    "scale": lambda space: setattr(space, "scale", math.sqrt(space.conv.out_channels)),
    "drop.p": lambda space: setattr(space, "drop", nn.Dropout(0.1 if width(space) > 99 else 0.2)),
    "act.inplace": lambda space: setattr(space, "act", nn.ReLU(width(space) == 256)),
    "odd.inplace": lambda space: setattr(space, "odd", nn.ReLU(width(space) % 2 == 0)),
    "buffer": lambda space: space.register_buffer("buffer", torch.tensor(width(space))),
    "fixed": lambda space: setattr(
        space, "fixed", nn.Parameter(torch.tensor(width(space)), requires_grad=False)
    ),
    "held": lambda space: setattr(space, "held", {"list": [width(space)]}),
    "function": captured,
}


@pytest.mark.parametrize("where", OTHERWISE)
def test_anything_else_that_depends_on_a_number_is_refused_with_its_place(where):
    with pytest.raises(ExpressionError, match=rf"but {where} is another with other numbers"):
        Drawn(OTHERWISE[where])


@pytest.mark.parametrize(
    ("count", "listed"), [(3, "w + 1, w + 2, w + 3"), (4, "w + 1, w + 2, w + 3, ...")]
)
def test_the_first_three_numbers_that_were_taken_are_named(count, listed):
    def draw(space: Any) -> None:
        space.numbers = [float(space.conv.out_channels + n) for n in range(1, count + 1)]

    with pytest.raises(ExpressionError) as caught:
        Drawn(draw)
    assert f"takes {listed} as a plain number" in str(caught.value)


def test_arguments_that_are_used_up_are_refused():
    sizes = iter([1])

    def draw(space: Any) -> None:
        space.conv.weight.data.mul_(width(space) * next(sizes))

    with pytest.raises(ExpressionError, match="built again with others"):
        Drawn(draw)


def test_modules_that_a_constructor_is_given_are_drawn_once():
    class Given(ModelSpace):
        def __init__(self, layer: nn.Linear) -> None:
            super().__init__()
            self.layer = layer
            self.last = mnn.MutableLinear(2, Categorical([2, 4], label="w"))
            self.layer.weight.data.fill_(float(self.last.out_features))

    layer = nn.Linear(2, 2)
    assert Given(layer).layer is layer
    assert layer.weight.unique().tolist() == [4.0]


def test_outside_of_a_constructor_there_is_no_number():
    with pytest.raises(ExpressionError, match="a plain number is needed"):
        float(Categorical([1, 2], label="w"))
    with pytest.raises(ExpressionError, match="a plain number is needed"):
        Drawn(lambda space: int(space.conv.out_channels))


@pytest.mark.parametrize("number", [lambda w: (2 / w) ** 0.5, np.sqrt])
def test_functions_that_do_not_ask_for_a_number_are_refused_with_what_to_write(number):
    with pytest.raises(ExpressionError, match=r"for initial weights write float\(\.\.\.\)"):
        Drawn(lambda space: space.conv.weight.data.normal_(0, number(space.conv.out_channels)))


def test_attributes_of_a_layer_read_as_torch_keeps_them():
    """In the constructor, under an active architecture and in the network."""
    read: list[Any] = []

    class Reads(Drawn):
        def forward(self, x: torch.Tensor) -> Any:
            read.append([(m.kernel_size, m.padding, m.groups) for m in (self.conv, self.depthwise)])
            return super().forward(x)

    space = Reads(id)
    kernel = space.simplify()["kernel"]
    assert space.conv.kernel_size == (kernel, kernel)
    assert space.depthwise.kernel_size == (kernel, 3)
    arch, x = {"kernel": 3, "w": 64}, torch.randn(1, 3, 8, 8)
    with space.activate(arch):
        space(x)
    space.freeze(arch)(x)
    assert read[0] == read[1] == [((3, 3), (1, 1), 1), ((3, 3), (0, 0), 64)]


def test_sizes_that_are_tuples_read_as_tuples():
    stride = Categorical([(1, 2), (2, 2)], label="stride")
    conv: Any = mnn.MutableConv2d(2, 4, 3, stride)
    assert [part.evaluate({"stride": (1, 2)}) for part in conv.stride] == [1, 2]
    norm: Any = mnn.MutableLayerNorm(Categorical([4, 8], label="w"))
    (only,) = norm.normalized_shape
    assert only.evaluate({"w": 4}) == 4
