"""Mixtures in which the obvious simpler rule gives another mean than that over architectures."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import nas_space as ns
from nas_space import nn as mnn
from nas_space.errors import SampleValidationError, SpaceError
from nas_space.mutable import Categorical
from nas_space.nn.decisions import Weighted
from nas_space.nn.segments import listed
from nas_space.strategy.oneshot import DARTS, Run
from nas_space.training import Task


def even(space: Any) -> dict[str, Tensor]:
    return {
        label: torch.full((symbol.size,), 1 / symbol.size)
        for label, symbol in space.symbols().items()
    }


class Between(ns.ModelSpace):
    """A width, and a function of the elements that are there."""

    def __init__(self) -> None:
        super().__init__()
        width = Categorical([2, 4], label="width")
        self.first = mnn.MutableLinear(3, width)
        self.op = mnn.LayerChoice([nn.Identity(), nn.ReLU()], label="op")


@pytest.mark.parametrize("wanted", [True, False])
def test_what_is_known_may_tie_a_choice_to_a_width(wanted):
    torch.manual_seed(0)
    space = Between()
    width, op = space.symbols().values()
    both = (width == 4) == (op == 1)
    probabilities = {"width": torch.tensor([0.3, 0.7]), "op": torch.tensor([0.4, 0.6])}
    x = torch.randn(2, 3)
    mixture = Weighted(probabilities)
    with torch.no_grad(), mixture, mixture.knowing(both, wanted):
        mixed = space.op(space.first(x)).wide
    total, share = torch.zeros(2, 4), torch.zeros(4)
    for i, j in product(range(2), range(2)):
        if (i == j) is wanted:
            size, weight = [2, 4][i], probabilities["width"][i] * probabilities["op"][j]
            with torch.no_grad(), space.activate({"width": size, "op": j}):
                total[:, :size] += weight * space.op(space.first(x))
            share[:size] += weight
    torch.testing.assert_close(mixed, total / share)


class Reader(ns.ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        self.width = Categorical([2, 4], label="width")
        self.last = mnn.MutableLinear(self.expression("width"), 1)


@pytest.mark.parametrize("width", [2, 4])
def test_the_widest_layer_reads_none_of_what_its_input_has_for_others(width):
    space = Reader()
    is_four, is_two = (space.expression("width") == value for value in (4, 2))
    four, two = torch.randn(2, 4), torch.randn(2, 2)
    mixture = Weighted(even(space))
    with torch.no_grad(), mixture:
        parts = [mixture.optional(is_four, four, 1), mixture.optional(is_two, two, 1)]
        x = torch.cat(parts, 1)
        with mixture.knowing(is_four, width == 4):
            mixed = space.last(x)
    with torch.no_grad(), space.activate({"width": width}):
        torch.testing.assert_close(mixed, space.last(four if width == 4 else two))


class Turned(ns.ModelSpace):
    """Layers of which one value takes the elements in another order."""

    def __init__(self, of_input: bool) -> None:
        super().__init__()
        turn = Categorical([0, 1], label="turn")
        size = listed(turn * 0 + 3, turn, {0: [0, 1, 2], 1: [2, 0, 1]})
        self.layer = mnn.MutableLinear(size, 3) if of_input else mnn.MutableLinear(3, size)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y


@pytest.mark.parametrize("of_input", [True, False])
def test_elements_in_another_order_are_not_the_same(of_input):
    space = Turned(of_input)
    x, outputs = torch.randn(2, 3), []
    for turn in range(2):
        with torch.no_grad(), space.activate({"turn": turn}):
            outputs.append(space(x))
    assert not torch.allclose(*outputs)
    with torch.no_grad(), Weighted(even(space)):
        torch.testing.assert_close(space(x), sum(outputs) / 2)


class Guarded(ns.ModelSpace):
    """Layers of a width that one of the candidates, which has none of them, gives no value."""

    def __init__(self) -> None:
        super().__init__()
        op = Categorical(["skip", "wide", "narrow"], label="op")
        width = ns.MutableExpression.switch_case(op, {"wide": 8, "narrow": 4})
        block = [mnn.MutableLinear(3, width), nn.ReLU(), mnn.MutableLinear(width, 3)]
        both = nn.Sequential(*block)
        candidates = {"skip": nn.Identity(), "wide": both, "narrow": both}
        self.op = mnn.LayerChoice(candidates, label="op")

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.op(x)
        return y


def test_a_width_may_have_no_value_where_nothing_reads_it():
    space, x = Guarded(), torch.randn(2, 3)
    total = torch.zeros(2, 3)
    probabilities = torch.tensor([0.2, 0.3, 0.5])
    for op, probability in zip(["skip", "wide", "narrow"], probabilities, strict=True):
        with torch.no_grad(), space.activate({"op": op}):
            total += probability * space(x)
    with torch.no_grad(), Weighted({"op": probabilities}):
        torch.testing.assert_close(space(x), total)
        with pytest.raises(SampleValidationError, match="'skip'"):
            space.op.get_submodule("wide")(x)


class Whole(ns.ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        width = Categorical([2, 4], label="width")
        idle = Categorical(range(7), label="idle")
        self.layer = mnn.MutableLinear(3, width + 0 * idle)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y.argmax(1)


def test_whole_numbers_of_the_only_case_are_as_they_are():
    space = Whole()
    x = torch.randn(8, 3)
    with torch.no_grad(), space.activate({"width": 4, "idle": 0}):
        right = space(x)
    for seed in range(20):  # sums of probabilities are rounded to less than 1 for some
        idle = torch.rand(7, generator=torch.Generator().manual_seed(seed)).softmax(0)
        with torch.no_grad(), Weighted({"width": torch.tensor([0.0, 1.0]), "idle": idle}):
            assert torch.equal(space(x), right)


class Folded(ns.ModelSpace):
    """A norm of a batch whose size differs between architectures."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        heads, width = Categorical([1, 3], label="heads"), Categorical([2, 4], label="width")
        self.first = mnn.MutableLinear(3, heads)
        self.each = mnn.MutableLinear(1, width)
        self.norm = norm(width)
        self.last = mnn.MutableLinear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        each = self.each(self.first(x).reshape(-1, 1))
        y: Tensor = self.last(self.norm(each)).square().mean()
        return y


@pytest.mark.parametrize("norm", [mnn.MutableBatchNorm1d, mnn.MutableLayerNorm])
def test_statistics_are_of_the_elements_of_one_architecture(norm):
    space, x = Folded(norm).double(), torch.randn(5, 3, dtype=torch.double)
    for codes in product(range(2), range(2)):
        with (
            torch.no_grad(),
            space.activate({"heads": [1, 3][codes[0]], "width": [2, 4][codes[1]]}),
        ):
            right = space(x)
        one = torch.eye(2, dtype=torch.double)
        with torch.no_grad(), Weighted({"heads": one[codes[0]], "width": one[codes[1]]}):
            torch.testing.assert_close(space(x), right)


class Optional(ns.ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        c, w = Categorical(range(5), label="c"), Categorical([2, 3], label="w")
        self.c = c
        self.one = mnn.MutableLinear(3, w)
        self.other = mnn.MutableLinear(3, ns.MutableExpression.condition(c % 3 == 1, w, 0))


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_axes_of_one_step_are_not_those_of_another():
    """Of five values, a step draws two; for the first two both tensors have the same elements."""
    space, x = Optional(), torch.randn(2, 3)
    odd = space.expression("c") % 2 == 1
    for codes, alike in (((0, 1), True), ((3, 4), False)):
        vector = torch.zeros(5)
        vector[list(codes)] = 0.5
        mixture = Weighted({"c": vector, "w": torch.tensor([0.5, 0.5])}, {"c": codes})
        with torch.no_grad(), mixture:
            tensors = space.other(x), mixture.optional(odd, space.one(x), 1)
            if alike:
                assert (tensors[0] + tensors[1]).wide is not None
            else:
                with pytest.raises(SpaceError, match="'c'"):
                    tensors[0] + tensors[1]


def test_a_tensor_of_no_elements_does_not_go_with_one_of_several():
    space = Between()
    with torch.no_grad(), Weighted(even(space)), pytest.raises(SpaceError, match="'width'"):
        space.first(torch.randn(2, 3)) + torch.zeros(2, 0)


IN_PLACE = {
    "a slice": lambda x: x[:, :, ::2],
    "of the same type": lambda x: x[:, :, ::2].float(),
    "without gradients": lambda x: x[:, :, ::2].detach(),
    "without a dimension": lambda x: x[:, :, ::2].unbind(1)[0],
    "in another order": lambda x: x[:, :, ::2].transpose(1, 2),
}


@pytest.mark.parametrize("view", IN_PLACE)
def test_a_change_of_a_view_is_seen_or_refused(view):
    """Every other channel of any width has no view in the widest tensor."""
    space = Between()
    with torch.no_grad(), Weighted(even(space)):
        x = space.first(torch.randn(2, 3)).unsqueeze(1).repeat(1, 2, 1)
        part = IN_PLACE[view](x)
        with pytest.raises(SpaceError, match="in place"):
            part.add_(1)


def test_a_condition_alone_is_run_by_cases():
    space = Between()
    x = torch.randn(2, 3)
    certain = {"width": torch.tensor([1.0, 0.0]), "op": torch.tensor([1.0, 0.0])}
    with torch.no_grad(), space.activate({"width": 2, "op": 0}):
        right = torch.where(space.first(x) > 0)[0]
    with torch.no_grad(), Weighted(certain):
        mixed: Any = torch.where(space.first(x) > 0)[0]
        (found,) = mixed.cases.values()
    assert torch.equal(found, right)


def test_indices_that_others_have_set_nothing():
    space = Between()
    with torch.no_grad():
        space.first.weight.zero_()
        space.first.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 1.0]))
    with torch.no_grad(), Weighted(even(space)):
        x = space.first(torch.randn(2, 3))
        with pytest.raises(SpaceError, match="in place"):
            x[(x > 0.5).long()] = 7.0  # the second row, for the fourth element alone


class Noisy(nn.Module):
    """A stand-in for dropout, which keeps what it drew."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.rand(())
        self.drawn.append(noise.item())
        return x * (1 + noise)


class Small(ns.ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        self.op = mnn.LayerChoice([nn.Linear(3, 1), nn.Linear(3, 1)], label="op")
        self.noise = Noisy()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.noise(self.op(x))
        return y


def test_both_sides_of_a_finite_difference_draw_the_same():
    space = Small()
    data = TensorDataset(torch.rand(8, 3), torch.rand(8, 1))
    task = Task.regression(data, validation=data, batch_size=4)
    run = Run(DARTS(unrolled=True), space, task, steps=2)
    for _ in range(2):
        space.noise.drawn.clear()
        run.advance()
        training, validation, *sides, path = space.noise.drawn
        assert sides[0] == sides[1]
        assert len({training, validation, sides[0], path}) == 4
