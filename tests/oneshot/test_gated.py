"""Binary gates: one path runs, and the gate's gradient is that of the paper."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nas_space as ns
from nas_space import nn as mnn
from nas_space.mutable import Categorical
from nas_space.nn.decisions import Gated


def by_formula(p: Tensor, gates: Tensor) -> Tensor:
    """The sum over j of g_j p_j (delta_ij - p_i), written out."""
    n = len(p)
    return torch.stack(
        [sum(gates[j] * p[j] * (float(i == j) - p[i]) for j in range(n)) for i in range(n)]  # type: ignore[misc]
    )


def test_gate_has_the_gradient_of_the_paper():
    op = mnn.LayerChoice([nn.Linear(3, 2) for _ in range(4)], label="op").double()
    logits = torch.randn(4, dtype=torch.double, requires_grad=True)
    x = torch.randn(5, 3, dtype=torch.double)
    with Gated({"op": logits}, {"op": (2, 0)}):
        y = op(x)
    torch.testing.assert_close(y, op[2](x))
    (found,) = torch.autograd.grad((y**3).sum(), [logits], retain_graph=True)
    slope = 3 * y.detach() ** 2
    gates = torch.stack([(slope * op[0](x)).sum(), (slope * op[2](x)).sum()])
    two = by_formula(logits[[0, 2]].softmax(0), gates)
    torch.testing.assert_close(found[[0, 2]], two.detach())
    assert found[1] == found[3] == 0


def test_mean_over_pairs_follows_the_true_gradient_for_a_linear_loss():
    """For a loss that is linear in the outputs, two paths say exactly how they compare."""
    values = torch.tensor([1.0, -2.0, 5.0], dtype=torch.double)
    op = mnn.LayerChoice([Constant(v) for v in values], label="op")
    logits = torch.tensor([0.3, -0.2, 0.9], dtype=torch.double, requires_grad=True)
    for pair in [(0, 1), (1, 0), (2, 1), (0, 2)]:
        with Gated({"op": logits}, {"op": pair}):
            (found,) = torch.autograd.grad(op(torch.zeros((), dtype=torch.double)), [logits])
        chosen = list(pair)
        p = logits[chosen].softmax(0)
        (wanted,) = torch.autograd.grad((p * values[chosen]).sum(), [logits])
        torch.testing.assert_close(found, wanted)


class Constant(nn.Module):
    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return x + self.value


class Block(nn.Module):
    def __init__(self, index: int, kernel: Any) -> None:
        super().__init__()
        del index  # all are alike
        self.conv = mnn.MutableConv2d(2, 2, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.conv(x) * 0.1
        return y


class Net(ns.ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        width = Categorical([2, 4, 7], label="width")
        kernel = Categorical([1, 3, 5], label="kernel")
        self.first = mnn.MutableConv2d(3, width, 3, padding=1)
        self.norm = mnn.MutableBatchNorm2d(width, momentum=0.0)
        self.second = mnn.MutableConv2d(width, width * 2, 1)
        self.third = mnn.MutableConv2d(width * 2, 2, 1)
        self.deep = mnn.Repeat(lambda index: Block(index, kernel), (1, 3), label="depth")

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.deep(self.third(self.second(self.norm(self.first(x)).relu())))
        return y


def outputs(space: Any, codes: dict[str, int], x: Tensor) -> Tensor:
    symbols = space.symbols()
    with space.activate({label: symbols[label].value(code) for label, code in codes.items()}):
        y: Tensor = space(x)
    return y


@pytest.mark.parametrize("other", [{"width": 2}, {"width": 0}, {"depth": 0}, {"depth": 2}])
def test_elastic_layers_are_compared_as_wholes(other):
    """Where nothing nonlinear follows, the gate compares two whole architectures."""
    space = Net().double()
    active = {"width": 1, "kernel": 1, "depth": 1}
    logits = {
        label: torch.randn(3, dtype=torch.double, requires_grad=True) for label in space.symbols()
    }
    pairs = {label: (code, other.get(label, code)) for label, code in active.items()}
    x = torch.randn(2, 3, 5, 5, dtype=torch.double)
    with Gated(logits, pairs):
        y = space(x)
    plain = outputs(space, active, x)
    torch.testing.assert_close(y, plain)
    ((label, b),) = other.items()
    (found,) = torch.autograd.grad((y**2).sum(), [logits[label]])
    difference = outputs(space, active | other, x) - plain
    p = logits[label][[active[label], b]].softmax(0)
    slope = (2 * plain * difference).sum() * p[0] * p[1]
    torch.testing.assert_close(found[b], slope.detach())
    torch.testing.assert_close(found[active[label]], -slope.detach())


def test_output_is_that_of_the_active_path_and_labels_off_it_have_no_gradient():
    class Nested(ns.ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            inner = mnn.LayerChoice([nn.Identity(), nn.Tanh()], label="inner")
            self.outer = mnn.LayerChoice([nn.Linear(3, 3), inner], label="outer")

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.outer(x)
            return y

    space = Nested()
    logits = {k: torch.zeros(2, requires_grad=True) for k in ("inner", "outer")}
    with Gated(logits, {"inner": (0, 1), "outer": (0, 1)}):
        y = space(torch.ones(1, 3))
    y.sum().backward()
    assert logits["outer"].grad is not None
    assert logits["inner"].grad is None


def test_only_the_active_path_keeps_activations():
    """What the backward pass keeps grows with one path, however many candidates there are."""

    def kept(n: int) -> int:
        op = mnn.LayerChoice(
            [nn.Sequential(nn.Linear(8, 99), nn.Tanh(), nn.Linear(99, 8)) for _ in range(n)],
            label="op",
        )
        seen: list[int] = []

        def pack(t: Tensor) -> Tensor:
            seen.append(t.numel())
            return t

        logits = torch.zeros(n, requires_grad=True)
        x = torch.randn(50, 8)
        with (
            Gated({"op": logits}, {"op": (0, n - 1)}),
            torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t),
        ):
            op(x)
        return sum(seen)

    assert kept(2) == kept(9)
    assert kept(9) < 1.3 * kept_by_plain_pass()


def kept_by_plain_pass() -> int:
    seen: list[int] = []

    def pack(t: Tensor) -> Tensor:
        seen.append(t.numel())
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        nn.Sequential(nn.Linear(8, 99), nn.Tanh(), nn.Linear(99, 8))(torch.randn(50, 8))
    return sum(seen)
