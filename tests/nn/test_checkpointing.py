"""Gradient checkpoints in a space's forward give the gradients of the architecture that ran."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import nas_space.nn as mnn
from nas_space.errors import SpaceError
from nas_space.mutable import Categorical
from nas_space.nn import LayerChoice, ModelSpace, Repeat
from nas_space.nn.decisions import Gated, Traced, Weighted
from nas_space.profiler import flops, memory

from ..profiler import oracle


def as_it_is(function: Any, *args: Any) -> Any:
    return function(*args)


def without_reentrance(function: Any, *args: Any) -> Any:
    return checkpoint(function, *args, use_reentrant=False)


def without_determinism_check(function: Any, *args: Any) -> Any:
    return checkpoint(function, *args, use_reentrant=False, determinism_check="none")


def reentrant(function: Any, *args: Any) -> Any:
    return checkpoint(function, *args, use_reentrant=True)


def nested(function: Any, *args: Any) -> Any:
    return checkpoint(lambda *a: without_reentrance(function, *a), *args, use_reentrant=False)


def in_sequence(function: Any, *args: Any) -> Any:
    class Run(nn.Module):
        def forward(self, x: Any) -> Any:
            return function(x)

    sequential: Any = checkpoint_sequential
    return sequential([Run(), nn.Identity()], 2, *args, use_reentrant=False)


CHECKPOINTS: list[Callable[..., Any]] = [
    without_reentrance, without_determinism_check, reentrant, nested, in_sequence,
]  # fmt: skip

every = pytest.mark.parametrize("run", CHECKPOINTS)


class Net(ModelSpace):
    """A choice, elastic layers and a repeat, one choice within a branch of another."""

    def __init__(self, run: Callable[..., Any]) -> None:
        super().__init__()
        self.width = Categorical([2, 4], label="width")
        self.stem = nn.Linear(3, 4)
        self.up, self.down = mnn.MutableLinear(4, self.width), mnn.MutableLinear(self.width, 4)
        inner = LayerChoice([nn.Sigmoid(), nn.Softplus()], label="inner")
        self.op = LayerChoice([nn.Tanh(), nn.Sequential(nn.Dropout(0.3), inner)], label="op")
        self.body = Repeat(lambda _: nn.Linear(4, 4), (1, 3), label="depth")
        self.run = run

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        x = self.run(self.part, x)
        return x * 2

    def part(self, x: Any) -> Any:
        return self.body(self.op(self.down(self.up(x))))


ARCHS: list[dict[str, Any]] = [
    {"width": 2, "op": 1, "inner": 1, "depth": 2},
    {"width": 4, "op": 0, "depth": 1},
    {"width": 2, "op": 0, "depth": 3},
]


def made(run: Callable[..., Any]) -> tuple[Net, Any]:
    torch.manual_seed(0)
    return Net(run), torch.randn(5, 3)


def gradients(space: nn.Module) -> dict[str, Any]:
    found = {name: p.grad for name, p in space.named_parameters() if p.grad is not None}
    space.zero_grad()
    return found


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        torch.allclose(one[name], other[name], atol=1e-6) for name in one
    )


def losses(space: Any, x: Any) -> list[Any]:
    torch.manual_seed(1)
    found = []
    for arch in ARCHS:
        with space.activate(arch):
            found.append(space(x).square().sum())
    return found


@every
def test_gradients_are_of_the_architecture_that_ran_wherever_backward_is_called(run):
    space, x = made(as_it_is)
    expected = []
    for loss in losses(space, x):
        loss.backward()
        expected.append(gradients(space))
    space.run = run
    for place, loss in enumerate(losses(space, x)):  # outside of all
        loss.backward()
        assert same(gradients(space), expected[place])
    found = losses(space, x)
    for place, loss in enumerate(found):  # within another one
        with space.activate(ARCHS[place - 1]):
            loss.backward()
        assert same(gradients(space), expected[place])
    found = losses(space, x)
    failed: list[Exception] = []

    def backward(loss: Any) -> None:
        try:
            loss.backward()
        except Exception as error:  # noqa: BLE001 - raised in the test below
            failed.append(error)

    for place, loss in enumerate(found):  # in another thread
        thread = threading.Thread(target=backward, args=(loss,))
        thread.start()
        thread.join()
        assert not failed
        assert same(gradients(space), expected[place])


@every
def test_slices_have_the_gradients_of_the_path_that_ran(run):
    space, x = made(run)
    for arch in ARCHS:
        torch.manual_seed(1)
        with Traced(space.read(arch)) as path:
            loss = space(x).square().sum()
        loss.backward()
        found = [part for part in path.used if part.leaf.grad is not None]
        torch.manual_seed(1)
        network = space.freeze(arch)
        network.run = as_it_is
        network(x).square().sum().backward()
        by_parameter = {id(part.parameter): part.leaf.grad for part in found}
        for name, parameter in network.named_parameters():
            whole: Any = space.get_parameter(name.replace("body.", "body.blocks."))
            found_of: Any = by_parameter.get(id(whole), whole.grad)
            expected: Any = parameter.grad
            assert torch.allclose(found_of, expected, atol=1e-6)
        space.zero_grad()


def mixtures() -> list[tuple[Any, list[Any]]]:
    def leaves(*values: list[float]) -> dict[str, Any]:
        labels = ("width", "op", "inner", "depth")
        return {
            label: torch.tensor(vector, requires_grad=True)
            for label, vector in zip(labels, values, strict=True)
        }

    soft = leaves([0.3, 0.7], [0.4, 0.6], [0.5, 0.5], [0.2, 0.5, 0.3])
    logits = leaves([0.3, 0.7], [0.4, 0.6], [0.5, 0.5], [0.2, 0.5, 0.3])
    pairs = {"width": (1, 0), "op": (1, 0), "inner": (0, 1), "depth": (2, 0)}
    derived = {label: (vector * 3).softmax(0) for label, vector in soft.items()}
    return [
        (Weighted(soft), list(soft.values())),
        (Weighted(derived), list(soft.values())),
        (Gated(logits, pairs), list(logits.values())),
    ]


@pytest.mark.parametrize("run", [r for r in CHECKPOINTS if r is not reentrant])
def test_mixtures_have_the_gradients_of_the_mixture_that_ran(run):
    space, x = made(as_it_is)
    space.eval()
    expected = []
    weights = [space.up.weight, space.stem.weight]  # while one is active, these are its parts
    for mixture, by in mixtures():
        with mixture:
            loss = space(x).square().sum()
        expected.append(torch.autograd.grad(loss, [*by, *weights]))
    space.run = run
    for place, (mixture, by) in enumerate(mixtures()):
        with mixture:
            loss = space(x).square().sum()
        with space.activate(ARCHS[0]):
            found = torch.autograd.grad(loss, [*by, *weights])
        for one, other in zip(found, expected[place], strict=True):
            assert torch.allclose(one, other, atol=1e-6)


def test_reentrance_keeps_probabilities_from_their_gradients_and_is_refused():
    space, x = made(reentrant)
    for mixture, _ in mixtures():
        with pytest.raises(SpaceError, match="use_reentrant=False"), mixture:
            space(x)
    fixed = {
        label: vector.detach() for label, vector in mixtures()[0][0].marginals.probabilities.items()
    }
    plain, _ = made(as_it_is)
    for each in (space, plain):
        each.eval()
        with Weighted(fixed):
            loss = each(x).sum()
        loss.backward()
    assert same(gradients(space), gradients(plain))


@every
def test_costs_are_those_of_inference_and_memory_of_training_is_refused(run):
    space, x = made(run)
    cost, peak = flops(space, inputs=x), memory(space, inputs=x)
    for arch in ARCHS:
        assert cost.evaluate(arch) == oracle.flops(space.freeze(arch), x)
        assert peak.evaluate(arch) == oracle.peak(space.freeze(arch), x)
    with pytest.raises(SpaceError, match="checkpoint"):
        memory(space, inputs=x, training=True)


def test_what_is_not_in_a_space_is_as_ever():
    net, x = nn.Linear(3, 3), torch.randn(2, 3, requires_grad=True)
    for run in CHECKPOINTS:
        run(net, x).square().sum().backward()
    expected: Any = x.grad
    x.grad = None
    (len(CHECKPOINTS) * net(x).square().sum()).backward()
    found: Any = x.grad
    assert torch.allclose(found, expected, atol=1e-5)
