"""What does not run, or cannot be followed, is found before training and said clearly."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import flop_registry

from nas_space.errors import DecompositionError, SpaceError
from nas_space.mutable import Categorical, Numerical
from nas_space.nn import (
    InputChoice,
    LayerChoice,
    ModelSpace,
    MutableConv2d,
    MutableLinear,
    Repeat,
)
from nas_space.profiler import flops, macs, memory, params

from . import oracle


def space(
    build: Callable[[Any], None],
    forward: Callable[[Any, Any], Any],
) -> ModelSpace:
    class Net(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            build(self)

        def forward(self, x: Any) -> Any:
            return forward(self, x)

    return Net()


def either(net: Any) -> None:
    net.op = LayerChoice({"a": nn.Linear(4, 4), "b": nn.Identity()}, label="op")


# -- architectures that do not run --------------------------------------------------------------


def growing(net: Any) -> None:
    def block(index: int) -> Any:
        return MutableConv2d(3 if index == 0 else 4, 4, 1)

    net.body = Repeat(block, (0, 2), label="depth")
    net.head = nn.Conv2d(4, 1, 1)


def test_a_mismatch_that_some_architectures_have_is_found_with_one_of_them():
    net = space(growing, lambda net, x: net.head(net.body(x)))
    with pytest.raises(SpaceError) as caught:
        macs(net, (3, 4, 4))
    text = str(caught.value)
    assert "not every architecture" in text
    assert "{'depth': 0} fails at head" in text
    assert "conv2d of (1, 3, 4, 4), (1, 4, 1, 1)" in text
    with pytest.raises(RuntimeError):
        net.freeze({"depth": 0})(torch.zeros(1, 3, 4, 4))


def test_the_example_is_a_whole_architecture():
    def build(net: Any) -> None:
        growing(net)
        net.other = LayerChoice([nn.Identity(), nn.ReLU()], label="other")

    net = space(build, lambda net, x: net.head(net.body(net.other(x))))
    with pytest.raises(SpaceError, match=r"\{'depth': 0, 'other': 0\} fails"):
        macs(net, (3, 4, 4))


def test_what_constraints_exclude_may_fail():
    net = space(growing, lambda net, x: net.head(net.body(x)))
    net.require(net.body.expression("depth_choice") > 0)
    cost = macs(net, (3, 4, 4))
    for depth in (1, 2):
        frozen = net.freeze({"depth": depth})
        assert cost.evaluate({"depth": depth}) * 2 == oracle.flops(frozen, torch.zeros(1, 3, 4, 4))


def test_an_example_meets_the_constraints():
    def build(net: Any) -> None:
        growing(net)
        net.other = LayerChoice([nn.Identity(), nn.ReLU(), nn.Tanh()], label="other")

    net = space(build, lambda net, x: net.head(net.body(net.other(x))))
    net.require(net.other.expression("choice") == 2)
    with pytest.raises(SpaceError, match=r"\{'depth': 0, 'other': 2\} fails"):
        macs(net, (3, 4, 4))


def test_an_input_that_no_architecture_takes():
    net = space(growing, lambda net, x: net.head(net.body(x)))
    with pytest.raises(SpaceError, match="no architecture of Net runs on inputs"):
        macs(net, (5, 4, 4))
    with pytest.raises(SpaceError, match="Linear does not run on inputs"):
        macs(nn.Linear(4, 4), (5,))


def test_arguments_that_torch_refuses():
    groups = Categorical([1, 2], label="groups")
    net = space(
        lambda net: setattr(net, "conv", MutableConv2d(4, 9, 3, groups=groups)),
        lambda net, x: net.conv(x),
    )
    with pytest.raises(SpaceError, match=r"\{'groups': 2\} fails at conv: torch refuses Conv2d"):
        macs(net, (4, 4, 4))
    with pytest.raises(SpaceError, match=r"\{'groups': 2\} fails at conv"):
        params(net)


def test_an_error_of_the_forward_itself():
    def forward(net: Any, x: Any) -> Any:
        if net.times == 2:
            raise ValueError("twice is too much")
        return net.op(x)

    def build(net: Any) -> None:
        either(net)
        net.times = Categorical([1, 2], label="times")

    with pytest.raises(SpaceError, match=r"'times': 2.*fails in its forward: twice is too much"):
        macs(space(build, forward), (4,))


def test_a_failed_call_leaves_the_space_usable():
    net = space(growing, lambda net, x: net.head(net.body(x)))
    for _ in range(2):
        with pytest.raises(SpaceError):
            macs(net, (3, 4, 4))
    net.require(net.body.expression("depth_choice") > 0)
    assert net.freeze({"depth": 1})(torch.zeros(1, 3, 4, 4)).shape == (1, 1, 4, 4)


# -- what cannot be followed --------------------------------------------------------------------


@pytest.mark.parametrize(
    "forward",
    [
        lambda net, x: net.op(x)[x > 0],
        lambda net, x: net.op(x) if x.sum() > 0 else x,
        lambda net, x: torch.from_numpy(net.op(x).numpy()),
        lambda net, x: net.op(x) * x.max().item(),
    ],
)
def test_what_depends_on_the_values_in_tensors_is_refused(forward):
    with pytest.raises(SpaceError, match="values in tensors are not"):
        macs(space(either, forward), (4,))


@torch.jit.script
def compiled(x: torch.Tensor) -> torch.Tensor:
    return x @ x.t()


class _Compiled(nn.Module):
    def forward(self, x: Any) -> Any:
        return compiled(x)


def test_compiled_functions_are_counted_in_modules_of_their_own():
    def build(net: Any) -> None:
        either(net)
        net.compiled = _Compiled()

    net = space(build, lambda net, x: net.compiled(net.op(x)))
    cost = macs(net, (4,))
    assert cost.evaluate({"op": "a"}) == 16 + 4
    assert cost.evaluate({"op": "b"}) == 4


def test_compiled_functions_beside_choices_are_refused_by_name():
    net = space(either, lambda net, x: compiled(net.op(x)))
    with pytest.raises(SpaceError, match=r"aten\..*a module of its own that holds no choices"):
        macs(net, (4,))


def test_compiled_modules_are_refused():
    def build(net: Any) -> None:
        either(net)
        net.inner = torch.jit.script(nn.Linear(4, 4))

    with pytest.raises(SpaceError, match=r"inner is compiled by torch\.jit"):
        macs(space(build, lambda net, x: net.inner(net.op(x))), (4,))


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Any, b: Any) -> Any:
        ctx.save_for_backward(a, b)
        return a @ b

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        a, b = ctx.saved_tensors
        return gradient @ b.T, a.T @ gradient


def test_autograd_functions_of_ones_own_are_followed():
    def build(net: Any) -> None:
        either(net)
        net.weight = nn.Parameter(torch.zeros(4, 3))

    net = space(build, lambda net, x: _Product.apply(net.op(x), net.weight))
    assert macs(net, (4,)).evaluate({"op": "a"}) == 16 + 12


@torch.library.custom_op("nas_space_tests::double", mutates_args=())
def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


def test_operators_without_a_shape_are_refused_by_name():
    with pytest.raises(SpaceError, match=r"nas_space_tests.*double"):
        macs(space(either, lambda net, x: double(net.op(x))), (4,))


@torch.library.custom_op("nas_space_tests::triple", mutates_args=())
def triple(x: torch.Tensor) -> torch.Tensor:
    return x * 3


@triple.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def test_operators_without_a_formula_are_refused_by_name_never_silently_zero():
    net = space(either, lambda net, x: triple(net.op(x)))
    with pytest.raises(SpaceError, match="nobody knows what nas_space_tests::triple costs"):
        macs(net, (4,))
    assert memory(net, (4,)).evaluate({"op": "b"}) == 32  # for which no formula is needed


def test_operators_count_by_torchs_own_registry(monkeypatch):
    def formula(x: Any, **_: Any) -> int:
        return 10 * int(x.numel())

    monkeypatch.setitem(flop_registry, torch.ops.nas_space_tests.triple, formula)
    net = space(either, lambda net, x: triple(net.op(x)))
    assert flops(net, (4,)).evaluate({"op": "b"}) == 40


def test_tensors_kept_from_a_branch_are_refused():
    kept: list[Any] = []

    class Keeps(nn.Module):
        def forward(self, x: Any) -> Any:
            kept.append(x * 2)
            return x

    def build(net: Any) -> None:
        net.op = LayerChoice([Keeps(), nn.Identity()], label="op")

    net = space(build, lambda net, x: net.op(x) + kept[-1])
    with pytest.raises(SpaceError, match="made in a branch of a choice"):
        macs(net, (4,))


def test_continuous_choices_are_refused_by_name():
    def build(net: Any) -> None:
        either(net)
        net.scale = Numerical(0.0, 1.0, label="scale")

    with pytest.raises(DecompositionError, match=r"infinitely many.*'scale'.*quantize"):
        macs(space(build, lambda net, x: net.op(x) * net.scale), (4,))


def test_too_many_labels_at_once_are_refused_by_name():
    def build(net: Any) -> None:
        net.widths = [Categorical(range(1, 5), label=f"w{i}") for i in range(12)]
        net.layers = nn.ModuleList(MutableLinear(4, width) for width in net.widths)

    def forward(net: Any, x: Any) -> Any:
        return torch.cat([layer(x) for layer in net.layers], -1) @ torch.zeros(1, 1).expand(1, 1)

    with pytest.raises(DecompositionError, match=r"16777216 combinations.*w0.*w11"):
        macs(space(build, forward), (4,))


def test_lazy_modules_are_refused_by_name():
    def build(net: Any) -> None:
        either(net)
        net.lazy = nn.LazyLinear(3)

    with pytest.raises(SpaceError, match="lazy has no shape for 'weight' yet"):
        macs(space(build, lambda net, x: net.lazy(net.op(x))), (4,))


# -- what forks ---------------------------------------------------------------------------------


def test_lists_of_different_lengths():
    def build(net: Any) -> None:
        net.pick = InputChoice(3, n_chosen=None, reduction="none", label="pick")
        net.layer = nn.Linear(4, 4)

    def forward(net: Any, x: Any) -> Any:
        return functools.reduce(torch.add, map(net.layer, net.pick([x, x * 2, x * 3])), x)

    cost = macs(space(build, forward), (4,))
    for chosen in ([], [1], [0, 2], [0, 1, 2]):
        assert cost.evaluate({"pick": chosen}) == 16 * len(chosen)


def test_decisions_and_arithmetic_on_shapes():
    def build(net: Any) -> None:
        net.layer = MutableLinear(4, Categorical([4, 6, 8], label="width"))
        net.scale = nn.Parameter(torch.ones(8))

    def forward(net: Any, x: Any) -> Any:
        y = net.layer(x)
        width = y.shape[-1]
        y = y * net.scale[:width] / width**0.5 + torch.arange(width)
        if width % 4 == 0 and isinstance(width, int):
            y = y.view(-1, width // 4, 4)
        if y.shape == (1, 6):
            return y @ y.new_ones(width, 5)
        return sum(y[..., i] for i in range(y.size(-1))) @ torch.ones(y.shape[1], 1)

    cost = macs(space(build, forward), (4,))
    assert [cost.evaluate({"width": width}) for width in (4, 6, 8)] == [
        16 + 1,
        24 + 30,
        32 + 2,
    ]
