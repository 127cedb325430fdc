"""Relaxed choices: a mixture is the sum over all architectures, each by its probability."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import nas_space as ns
from nas_space import nn as mnn
from nas_space.errors import SpaceError
from nas_space.mutable import Categorical, MutableList
from nas_space.nn.decisions import Marginals, Weighted, check_blendable
from nas_space.nn.decisions.blend_plan import BlendPlan
from nas_space.nn.elastic import ElasticModule
from nas_space.nn.widths import Widths

C = Categorical


class Chain(ns.ModelSpace):
    """Modules in a row."""

    def __init__(self, *make: Any) -> None:
        super().__init__()
        labels = {
            "w": C([2, 4, 7], label="w"),
            "v": C([3, 6], label="v"),
            "k": C([1, 3, 5], label="k"),
            "b": C([True, False], label="b"),
        }
        self.body = nn.Sequential(*(one(**labels) for one in make))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return y


def probabilities(space: Any, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for label, symbol in space.symbols().items():
        logits = torch.randn(symbol.size, generator=generator, dtype=torch.double)
        made[label] = logits.softmax(0)
    return made


def expectation(space: Any, p: dict[str, Tensor], x: Tensor) -> Tensor:
    """The sum over all combinations of labels, whatever is active."""
    symbols = space.symbols()
    total: Any = 0
    for codes in product(*(range(s.size) for s in symbols.values())):
        pairs = list(zip(symbols, codes, strict=True))
        arch = {label: symbols[label].value(code) for label, code in pairs}
        weight = torch.stack([p[label][code] for label, code in pairs]).prod()
        with space.activate(arch):
            total = total + weight * space(x)
    result: Tensor = total
    return result


def conv(inputs: Any, outputs: Any, kernel: Any = 3, **more: Any) -> nn.Module:
    return mnn.MutableConv2d(inputs, outputs, kernel, padding=kernel // 2, **more)


FIRST = lambda w, **_: conv(3, w)  # noqa: E731
LAST = lambda w, **_: conv(w, 5)  # noqa: E731

ROWS: dict[str, list[Any]] = {
    "width": [FIRST, LAST],
    "norm": [FIRST, lambda w, **_: mnn.MutableBatchNorm2d(w), LAST],
    "activation": [
        FIRST,
        lambda w, **_: mnn.MutableBatchNorm2d(w),
        lambda **_: nn.Hardswish(),
        LAST,
    ],
    "in and out share": [FIRST, lambda w, **_: conv(w, w), LAST],
    "in and out depend": [FIRST, lambda w, **_: conv(w, w * 2), lambda w, **_: conv(w * 2, 3)],
    "in and out": [FIRST, lambda w, v, **_: conv(w, v), lambda v, **_: conv(v, 2)],
    "kernel": [lambda k, **_: conv(3, 4, k)],
    "kernel of two": [lambda k, **_: mnn.MutableConv2d(3, 4, (k, 3), padding=(k // 2, 1))],
    "kernel and dilation": [
        lambda k, **_: mnn.MutableConv2d(3, 4, k, dilation=2, padding=k // 2 * 2)
    ],
    "same": [lambda k, **_: mnn.MutableConv2d(3, 4, k, padding="same")],
    "circular": [
        lambda k, **_: mnn.MutableConv2d(3, 4, k, padding=k // 2, padding_mode="circular")
    ],
    "depthwise": [FIRST, lambda w, k, **_: conv(w, w, k, groups=w), LAST],
    "groups": [FIRST, lambda **_: nn.Identity(), LAST],
    "bias": [lambda w, b, **_: conv(3, w, bias=b), LAST],
    "instance norm": [FIRST, lambda w, **_: mnn.MutableInstanceNorm2d(w, affine=True), LAST],
    "group norm": [FIRST, lambda w, **_: mnn.MutableGroupNorm(1, w), LAST],
    "prelu": [FIRST, lambda w, **_: mnn.MutablePReLU(w), LAST],
    "transposed": [
        FIRST,
        lambda w, v, **_: mnn.MutableConvTranspose2d(w, v, 3, padding=1),
        lambda v, **_: conv(v, 2),
    ],
    "grouped": [
        lambda v, **_: conv(3, v * 2),
        lambda v, **_: conv(v * 2, v * 2, groups=2),
        lambda v, **_: conv(v * 2, 2),
    ],
    "linear": [
        FIRST,
        lambda **_: nn.AdaptiveAvgPool2d(2),
        lambda **_: nn.Flatten(),
        lambda w, v, **_: mnn.MutableLinear(w * 4, v),
        lambda v, **_: mnn.MutableLinear(v, 2),
    ],
    "layer norm": [
        lambda v, **_: mnn.MutableLinear(6, v),
        lambda v, **_: mnn.MutableLayerNorm(v),
        lambda v, **_: mnn.MutableLinear(v, 2),
    ],
    "pool": [lambda k, **_: mnn.MutableMaxPool2d(k, stride=1, padding=k // 2)],
    "one choice of layers": [
        lambda **_: mnn.LayerChoice([nn.Identity(), nn.Conv2d(3, 3, 1)], label="op")
    ],
    "depth": [
        lambda **_: mnn.Repeat(
            lambda _: nn.Sequential(nn.Conv2d(3, 3, 1), nn.Tanh()), (0, 3), label="d"
        )
    ],
    "choice that its branch knows": [lambda k, **_: _knowing_kernel(k)],
    "instances": [lambda k, **_: Scaled(k)],
}


def _knowing_kernel(kernel: Any) -> nn.Module:
    choice = mnn.LayerChoice([conv(3, 3, kernel), conv(3, 3, kernel)], label="op")
    return nn.Sequential(choice)


class Scaled(mnn.ParametrizedModule):
    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.factor).sin()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("row", ROWS)
def test_a_mixture_is_the_sum_over_all_architectures(row, training):
    space = Chain(*ROWS[row]).double().train(training)
    for module in space.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0  # or the statistics would differ between the two sides
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.5, 1.5)
    p = probabilities(space)
    x = torch.randn(2, 3, 6, 6, dtype=torch.double)
    with Weighted(p):
        mixed = space(x)
    torch.testing.assert_close(mixed, expectation(space, p, x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("row", ["activation", "in and out share", "linear", "depthwise", "depth"])
def test_gradients_of_probabilities_are_those_of_the_sum(row):
    space = Chain(*ROWS[row]).double()
    logits = {k: v.log().requires_grad_() for k, v in probabilities(space).items()}
    x = torch.randn(2, 3, 6, 6, dtype=torch.double)

    def gradients(forward: Any) -> Any:
        p = {label: logit.softmax(0) for label, logit in logits.items()}
        return torch.autograd.grad(forward(p).square().sum(), [*logits.values()])

    def mixed(p: Any) -> Any:
        with Weighted(p):
            return space(x)

    found = gradients(mixed)
    assert all(gradient.abs().max() > 1e-6 for gradient in found)
    torch.testing.assert_close(found, gradients(lambda p: expectation(space, p, x)))


@pytest.mark.parametrize(
    "row", [r for r in ROWS if r not in {"group norm", "layer norm", "pool", "grouped"}]
)
def test_mixing_weights_is_mixing_outputs(row, monkeypatch):
    space = Chain(*ROWS[row]).double()
    p, x = probabilities(space), torch.randn(2, 3, 6, 6, dtype=torch.double)
    with Weighted(p):
        by_weights = space(x)
    monkeypatch.setattr(BlendPlan, "_together", lambda *_: False)
    other = Chain(*ROWS[row]).double()
    other.load_state_dict(space.state_dict())
    for module in other.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    with Weighted(p):
        torch.testing.assert_close(by_weights, other(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("row", ROWS)
def test_a_certain_choice_is_its_architecture(row):
    space = Chain(*ROWS[row]).double().eval()
    arch = space.sample(seed=3)
    symbols = space.symbols()
    p = {
        label: torch.eye(symbol.size or 0, dtype=torch.double)[symbol.code(arch[label])]
        for label, symbol in symbols.items()
    }
    x = torch.randn(2, 3, 6, 6, dtype=torch.double)
    with Weighted(p):
        mixed = space(x)
    with space.activate(arch):
        torch.testing.assert_close(mixed, space(x), rtol=1e-10, atol=1e-10)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_any_widths_mix_exactly(widths, seed):
    class Net(ns.ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            width, factor = C(widths, label="width"), C([1, 2], label="factor")
            self.first = mnn.MutableLinear(3, width)
            self.second = mnn.MutableLinear(width, width * factor)
            self.third = mnn.MutableLinear(width * factor, 2)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.third(self.second(self.first(x)))
            return y

    space = Net().double()
    p, x = probabilities(space, seed), torch.randn(4, 3, dtype=torch.double)
    with Weighted(p):
        mixed = space(x)
    torch.testing.assert_close(mixed, expectation(space, p, x), rtol=1e-10, atol=1e-10)


def test_a_block_knows_how_deep_it_is():
    depth = C([1, 2, 3], label="d")
    body = mnn.Repeat(lambda i: Scaled(depth * (i + 1)), depth)
    p = torch.tensor([0.2, 0.3, 0.5], dtype=torch.double)
    x = torch.randn(3, dtype=torch.double)
    with Weighted({"d": p}):
        mixed = body(x)
    first = 0.2 * x.sin() + 0.3 * (2 * x).sin() + 0.5 * (3 * x).sin()
    second = (0.3 * (4 * first).sin() + 0.5 * (6 * first).sin()) / 0.8
    third = (9 * second).sin()
    torch.testing.assert_close(mixed, 0.2 * first + 0.3 * second + 0.5 * third)


def test_a_block_that_is_never_reached_is_what_it_would_be_if_all_depths_were_as_likely():
    depth = C([1, 2, 3], label="d")
    body = mnn.Repeat(lambda i: Scaled(depth * (i + 1)), depth)
    p = torch.tensor([1.0, 0.0, 0.0], dtype=torch.double, requires_grad=True)
    x = torch.randn(3, dtype=torch.double)
    with Weighted({"d": p}):
        mixed = body(x)
    first = x.sin()
    second = ((4 * first).sin() + (6 * first).sin()) / 2
    torch.testing.assert_close(mixed, first)
    mixed.sum().backward()
    assert p.grad is not None
    # What is deeper adds its output, and its share of the first block's, which all depths run.
    deeper = torch.stack([second + (2 * x).sin(), (9 * second).sin() + (3 * x).sin()])
    torch.testing.assert_close(p.grad[1:], deeper.sum(1))


def test_branches_without_weight_do_not_run():
    op = mnn.LayerChoice([nn.Identity(), Refuses()], label="op")
    with Weighted({"op": torch.tensor([1.0, 0.0])}):
        assert op(torch.ones(1)).item() == 1.0


class Refuses(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("this branch must not run")


def test_shared_prefix_of_a_repeat_runs_once():
    calls: list[int] = []

    class Block(nn.Module):
        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

        def forward(self, x: Tensor) -> Tensor:
            calls.append(self.index)
            return x + 1

    body = mnn.Repeat(Block, (1, 4), label="d")
    with Weighted({"d": torch.full((4,), 0.25)}):
        assert body(torch.zeros(1)).item() == pytest.approx(2.5)
    assert calls == [0, 1, 2, 3]


@pytest.mark.parametrize("n_chosen", [1, 2, None])
def test_inputs_are_mixed_over_all_subsets(n_chosen):
    pick = mnn.InputChoice(3, n_chosen=n_chosen, label="pick")
    inputs = [torch.tensor([1.0]), torch.tensor([10.0]), torch.tensor([100.0])]
    symbol: Any = pick.symbols()["pick"]
    p = torch.rand(symbol.size).softmax(0)
    with Weighted({"pick": p}):
        mixed = pick(inputs)
    each = [sum(inputs[i] for i in symbol.value(code)) for code in range(symbol.size)]
    wanted = sum(share * value for share, value in zip(p, each, strict=True))
    torch.testing.assert_close(mixed, wanted)


REFUSED = {
    "stride": lambda k, **_: mnn.MutableConv2d(3, 4, 3, stride=k),
    "dilation": lambda k, **_: mnn.MutableConv2d(3, 4, 3, dilation=k),
    "padding": lambda k, **_: mnn.MutableConv2d(3, 4, k, padding=1),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_mixed_is_refused_by_name(what):
    space = Chain(REFUSED[what])
    layer: Any = space.body[0]
    with pytest.raises(SpaceError, match=rf"(?s){what}.*'k'.*body\.0"):
        check_blendable(layer, "body.0", Marginals({}))
    with Weighted(probabilities(space)), pytest.raises(SpaceError, match="'k'"):
        space(torch.randn(1, 3, 6, 6))


def test_a_pool_that_changes_the_shape_is_refused_by_name():
    space = Chain(lambda k, **_: mnn.MutableMaxPool2d(k))
    with Weighted(probabilities(space)), pytest.raises(SpaceError, match=r"MaxPool2d.*'k'"):
        space(torch.randn(1, 3, 6, 6))


class Around(ns.ModelSpace):
    """A space of one module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Any:
        return self.module(x)


def test_outputs_of_different_shapes_are_refused_by_name():
    op = mnn.LayerChoice([nn.Identity(), nn.Flatten()], label="op")
    with Weighted({"op": torch.full((2,), 0.5)}), pytest.raises(SpaceError, match="op"):
        Around(op)(torch.ones(1, 2, 2))


def test_outputs_of_different_kinds_are_refused_by_name():
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return x, x

    op = mnn.LayerChoice([nn.Identity(), Pair()], label="op")
    with Weighted({"op": torch.full((2,), 0.5)}), pytest.raises(SpaceError, match=r"op.*kind"):
        op(torch.ones(1, 2))


class Reading(mnn.MutableModule):
    """Reads numbers in its forward."""

    def __init__(self, *numbers: Any) -> None:
        super().__init__()
        self.numbers = MutableList(numbers)
        self.runs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        numbers: Any = self.numbers
        y: Tensor = x * sum(numbers)
        return y


def test_a_forward_that_reads_numbers_is_run_once_for_each_of_their_values():
    module = Reading(C([1, 10, 100], label="a"), C([2, 4], label="b"))
    likely = {"a": torch.tensor([0.5, 0.25, 0.25]), "b": torch.tensor([0.5, 0.5])}
    for _ in range(2):
        before = module.runs
        with Weighted(likely):
            y = module(torch.ones(1))
        torch.testing.assert_close(y, torch.tensor([28.0 + 3.0]))
    assert module.runs == before + 6


def test_more_values_than_a_forward_is_run_for_are_refused_by_name():
    module = Around(Reading(*(C(range(5), label=label) for label in "abc")))
    likely = {label: torch.full((5,), 0.2) for label in "abc"}
    with (
        Weighted(likely),
        pytest.raises(SpaceError, match=r"Reading of .module. reads.*125 values"),
    ):
        module(torch.ones(1))


class First(nn.Module):
    """Adds to what it is given, in place."""

    def forward(self, x: Tensor) -> Tensor:
        return x.add_(1)


IN_PLACE: dict[str, Callable[[], nn.Module]] = {
    "candidate": lambda: mnn.LayerChoice([nn.ReLU(inplace=True), nn.Tanh()], label="op"),
    "last candidate": lambda: mnn.LayerChoice([nn.Tanh(), First()], label="op"),
    "block": lambda: mnn.Repeat(lambda _: First(), (0, 2), label="op"),
    "reader": lambda: nn.Sequential(ReadingInPlace(C([1, 2], label="op"))),
    "instance": lambda: AddInPlace(C([1, 2], label="op")),
}


class ReadingInPlace(Reading):
    def forward(self, x: Tensor) -> Tensor:
        (number,) = self.numbers
        return x.mul_(number)


class AddInPlace(mnn.ParametrizedModule):
    def __init__(self, number: Any) -> None:
        super().__init__()
        self.number = number

    def forward(self, x: Tensor) -> Tensor:
        return x.add_(self.number)


@pytest.mark.parametrize("what", IN_PLACE)
@pytest.mark.parametrize("elastic", [True, False])
def test_branches_that_change_what_others_read_are_refused_by_name(what, elastic):
    width: Any = C([2, 4], label="width") if elastic else 4
    space = Around(
        nn.Sequential(mnn.MutableLinear(3, width), IN_PLACE[what](), mnn.MutableLinear(width, 2))
    )
    x = torch.randn(2, 3)
    with Weighted(probabilities(space)), pytest.raises(SpaceError, match=r"op.*inplace=False"):
        space(x)
    certain = {label: p * 0 for label, p in probabilities(space).items()}
    for vector in certain.values():
        vector[-1] = 1
    symbols = space.symbols()
    with space.activate({label: symbol.value(-1) for label, symbol in symbols.items()}):
        expected = space(x)
    with Weighted(certain):
        torch.testing.assert_close(space(x), expected)


class Scale(nn.Module):
    """A factor for each channel."""

    def __init__(self, width: int, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.uniform_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class MutableScale(ElasticModule, Scale, wraps=Scale):
    """Says which argument is its width."""

    widths = Widths("width", "width", -1, "channel")

    @classmethod
    def shapes(cls, arguments: Any) -> Any:
        return {"weight": (arguments["width"],)}


class Doubled(nn.Linear):
    """Not what a linear layer computes."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x).square()


class MutableDoubled(ns.nn.MutableLinear, Doubled, wraps=Doubled):
    """Says nothing of its widths."""


def scaled() -> Chain:
    return Chain(
        lambda w, **_: ns.nn.MutableLinear(5, w),
        lambda w, **_: MutableScale(w),
        lambda w, **_: ns.nn.MutableLinear(w, 3),
    ).double()


def test_a_layer_of_ones_own_that_says_its_widths_runs_once_for_all(monkeypatch):
    space, x = scaled(), torch.randn(4, 5, dtype=torch.double)
    p = probabilities(space)
    runs: list[Any] = []
    once = MutableScale.run_as

    def noted(layer: Any, *args: Any, **kwargs: Any) -> Any:
        runs.append(layer)
        return once(layer, *args, **kwargs)

    monkeypatch.setattr(MutableScale, "run_as", noted)
    with Weighted(p):
        found = space(x)
    assert len(runs) == 1
    torch.testing.assert_close(found, expectation(space, p, x))


def test_a_layer_that_wraps_another_one_does_not_inherit_how_that_is_mixed():
    assert ns.nn.MutableLinear.widths is not None
    assert MutableDoubled.widths is None
