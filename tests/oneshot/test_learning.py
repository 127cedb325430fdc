"""How policies learn: gradients against finite differences and exhaustive expectations."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nas_space as ns
from nas_space import nn as mnn
from nas_space.errors import InfeasibleError, UsageError
from nas_space.mutable import Categorical, MutableExpression, MutableList
from nas_space.nn.decisions import Weighted
from nas_space.strategy.oneshot import (
    DARTS,
    ENAS,
    GumbelDARTS,
    Penalty,
    Policy,
    Proxyless,
    RandomOneShot,
    Run,
)
from nas_space.strategy.oneshot.controller import Controller
from nas_space.strategy.oneshot.differentiable import gumbel_softmax
from nas_space.strategy.oneshot.policy import allowed_codes, most_likely
from nas_space.strategy.oneshot.proxyless import pairs_of, rescale
from nas_space.strategy.oneshot.random_path import extremes, fair_paths
from nas_space.strategy.oneshot.rewards import advantage
from nas_space.tables import restrict
from tests.oneshot.planted import Planted, cost, task


class Toy(ns.ModelSpace):
    """Smooth, so that finite differences tell the truth."""

    def __init__(self) -> None:
        super().__init__()
        self.first = mnn.LayerChoice([nn.Linear(4, 4), nn.Identity()], label="first")
        self.second = mnn.LayerChoice([nn.Linear(4, 3), nn.Linear(4, 3)], label="second")

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(torch.tanh(self.first(x)))
        return y


def test_second_order_gradient_is_that_of_the_loss_one_step_ahead():
    toy, given = Toy().double(), task()
    data = given.train, given.validation
    tensors: Any = [[t.double() for t in each.tensors] for each in data]  # type: ignore[union-attr]
    sets = [torch.utils.data.TensorDataset(*t) for t in tensors]
    given = task(train=sets[0], validation=sets[1])
    run = Run(DARTS(unrolled=True), toy, given, steps=5)
    for logits in run.policy.logits:
        logits.data = torch.randn_like(logits)
    run.policy.double()
    batch, training = run.policy_batch(), run.training_batch()
    _, found = run.strategy._second_order(run, batch)  # type: ignore[attr-defined]

    def ahead() -> float:
        """The validation loss after one step of gradient descent on the training loss."""
        before = [p.detach().clone() for p in toy.parameters()]
        with Weighted({k: p.detach() for k, p in run.policy.probabilities().items()}):
            steps = torch.autograd.grad(run.policy_loss(training), list(toy.parameters()))
            with torch.no_grad():
                for parameter, step in zip(toy.parameters(), steps, strict=True):
                    parameter.sub_(run.learning_rate * step)
                loss = float(run.policy_loss(batch))
                for parameter, start in zip(toy.parameters(), before, strict=True):
                    parameter.copy_(start)
        return loss

    for logits, gradient in zip(run.policy.logits, found, strict=True):
        assert gradient is not None
        for place in range(len(logits)):
            sides = []
            for way in (1e-5, -1e-5):
                logits.data[place] += way
                sides.append(ahead())
                logits.data[place] -= way
            slope = (sides[0] - sides[1]) / 2e-5
            assert float(gradient[place]) == pytest.approx(slope, rel=2e-3, abs=1e-7)


def test_second_order_differs_from_first_and_leaves_the_weights_to_the_bit():
    runs = [Run(DARTS(unrolled=unrolled), Toy(), task(), steps=3) for unrolled in (True, False)]
    runs[1].network.load_state_dict(runs[0].network.state_dict())
    before = {k: v.clone() for k, v in runs[0].network.state_dict().items()}
    batch = runs[0].policy_batch()
    _, second = runs[0].strategy._second_order(runs[0], batch)  # type: ignore[attr-defined]
    loss = runs[1].strategy._loss(runs[1], batch)  # type: ignore[attr-defined]
    first = torch.autograd.grad(loss, list(runs[1].policy.parameters()))
    assert all(torch.equal(before[k], v) for k, v in runs[0].network.state_dict().items())
    assert any(not torch.allclose(a, b) for a, b in zip(first, second, strict=True))


def test_reinforce_is_unbiased_on_a_bandit():
    """Over all arms, the mean of the estimate is the gradient of the expected reward."""
    symbols = {
        "arm": Categorical([0, 1, 2], label="arm"),
        "lever": Categorical([0, 1], label="lever"),
    }
    policy = Policy(symbols).double()
    for logits in policy.logits:
        logits.data = torch.randn_like(logits)
    rewards = torch.randn(3, 2, dtype=torch.double)
    p = policy.probabilities()
    expected = (p["arm"][:, None] * p["lever"] * rewards).sum()
    wanted = torch.autograd.grad(expected, list(policy.parameters()))
    mean = [torch.zeros_like(parameter) for parameter in policy.parameters()]
    for arm, lever in product(range(3), range(2)):
        memory = {"baseline": 0.7}
        gain = advantage(memory, float(rewards[arm, lever]), 0.9)
        codes = {"arm": arm, "lever": lever}
        chance = float((p["arm"][arm] * p["lever"][lever]).detach())
        each = torch.autograd.grad(gain * policy.log_probability(codes), list(policy.parameters()))
        mean = [m + chance * g for m, g in zip(mean, each, strict=True)]
    torch.testing.assert_close(mean, list(wanted))


def test_controller_is_unbiased_on_a_bandit():
    space = MutableList([Categorical([0, 1, 2], label="arm"), Categorical([0, 1], label="lever")])
    controller = Controller(space.symbols(), hidden_size=4).double()
    rewards = torch.randn(3, 2, dtype=torch.double)
    parameters = list(controller.parameters())
    drawn: dict[tuple[int, int], Any] = {}
    generator = torch.Generator().manual_seed(0)
    while len(drawn) < 6:
        found = controller.draw(space, generator)
        drawn[found.arch["arm"], found.arch["lever"]] = found
    chances = {arms: one.log_probability.exp() for arms, one in drawn.items()}
    assert sum(chance.item() for chance in chances.values()) == pytest.approx(1.0)
    expected: Any = sum(chance * rewards[arms] for arms, chance in chances.items())
    wanted = torch.autograd.grad(expected, parameters, retain_graph=True, allow_unused=True)
    surprise: Any = sum(
        chance.detach() * (rewards[arms] - 0.3) * drawn[arms].log_probability
        for arms, chance in chances.items()
    )
    estimate = torch.autograd.grad(surprise, parameters, allow_unused=True)
    for one, other in zip(estimate, wanted, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)


def test_inactive_labels_are_neither_drawn_nor_rewarded():
    depth = Categorical([1, 2], label="depth")
    ops = [Categorical(["a", "b", "c"], label=f"op{i}") for i in range(2)]
    space = MutableExpression.switch_case(depth, {1: ops[0], 2: ops[0] * ops[1]})
    controller: Any = Controller(space.symbols(), hidden_size=4)
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(20):
        drawn = controller.draw(space, generator)
        active = {"depth", "op0"} | ({"op1"} if drawn.arch["depth"] == 2 else set())
        assert set(drawn.arch) == set(drawn.probabilities) == active
        found = torch.autograd.grad(
            drawn.log_probability,
            controller.heads[controller.places["op1"]].weight,
            allow_unused=True,
        )
        assert (found[0] is None) == (drawn.arch["depth"] == 1)
        seen.add(drawn.arch["depth"])
    assert seen == {1, 2}


def test_controller_says_when_nothing_it_draws_is_allowed():
    space: Any = Planted()
    nothing = space.where(cost(space) <= 20, space.symbols()["width"] >= 6)
    controller: Any = Controller(space.symbols())
    with torch.no_grad():
        controller.heads[controller.places["width"]].bias.copy_(torch.tensor([1e9, -1e9]))
        controller.tanh_constant = None
    with pytest.raises(InfeasibleError, match="restricted"):
        controller.draw(nothing, torch.Generator())


def test_gumbel_softmax_at_its_limits():
    logits = torch.tensor([0.5, -1.0, 1.5], dtype=torch.double, requires_grad=True)
    generator = torch.Generator().manual_seed(0)
    cold = torch.stack([gumbel_softmax(logits.detach(), 1e-3, generator) for _ in range(4000)])
    torch.testing.assert_close(cold.max(1).values.mean().item(), 1.0, atol=5e-3, rtol=0)
    torch.testing.assert_close(cold.mean(0), logits.detach().softmax(0), atol=0.03, rtol=0)
    hot = gumbel_softmax(logits, 1e6, generator)
    torch.testing.assert_close(hot, torch.full_like(hot, 1 / 3), atol=1e-5, rtol=0)


def test_hard_samples_are_corners_with_the_gradient_of_soft_ones():
    logits = torch.tensor([0.5, -1.0, 1.5], dtype=torch.double, requires_grad=True)
    value = torch.tensor([3.0, -2.0, 1.0], dtype=torch.double)

    def sample(*, hard: bool) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(4)
        made = gumbel_softmax(logits, 0.7, generator, hard=hard)
        return made, torch.autograd.grad((made * value).sum(), [logits])[0]

    (soft, wanted), (hard, found) = sample(hard=False), sample(hard=True)
    assert sorted(hard.tolist()) == [0.0, 0.0, 1.0]
    assert int(hard.argmax()) == int(soft.argmax())
    torch.testing.assert_close(found, wanted)


def test_temperature_falls_from_first_to_last_step():
    run = Run(GumbelDARTS(temperature=(2.0, 0.5)), Toy(), task(), steps=4)
    seen = []
    while not run.done:
        seen.append(run.strategy.temperature_at(run))  # type: ignore[attr-defined]
        run.advance()
    assert seen == pytest.approx([2.0, 1.5, 1.0, 0.5])


def test_pairs_are_two_different_codes_drawn_by_their_probabilities():
    p = {"op": torch.tensor([0.7, 0.2, 0.1]), "one": torch.ones(1)}
    generator = torch.Generator().manual_seed(0)
    pairs = [pairs_of(p, generator) for _ in range(3000)]
    assert all(pair["one"] == (0, 0) for pair in pairs)
    assert all(pair["op"][0] != pair["op"][1] for pair in pairs)
    # Drawn without replacement, then the active one of the two: worked out by hand.
    chance: dict[int, float] = dict.fromkeys(range(3), 0.0)
    q = [0.7, 0.2, 0.1]
    for i, j in product(range(3), range(3)):
        if i != j:
            both = q[i] * q[j] / (1 - q[i])
            chance[i] += both * q[i] / (q[i] + q[j])
            chance[j] += both * q[j] / (q[i] + q[j])
    for code, wanted in chance.items():
        share = sum(pair["op"][0] == code for pair in pairs) / len(pairs)
        assert share == pytest.approx(wanted, abs=0.03)


def test_rescaling_keeps_the_probabilities_of_what_was_not_drawn():
    before = torch.tensor([0.3, -0.5, 1.0, 0.2])
    after = before + torch.tensor([0.4, 0.0, -0.1, 0.0])
    rescale(before, after, (0, 2))
    p, q = before.softmax(0), after.softmax(0)
    torch.testing.assert_close(p[[1, 3]], q[[1, 3]])
    assert q[0] / q[2] == pytest.approx(float(torch.tensor(0.3 + 0.4 - 1.0 + 0.1).exp()))


def test_expected_cost_is_the_mean_over_all_architectures():
    space: Any = Planted()
    width = space.symbols()["width"]
    penalty = Penalty(cost(space) * width, baseline=50.0, scale=0.5)
    policy = Policy(space.symbols())
    for logits in policy.logits:
        logits.data = torch.randn_like(logits)
    p = policy.probabilities()
    total = 0.0
    for codes in product(*(range(s.size) for s in space.symbols().values())):
        named = dict(zip(space.symbols(), codes, strict=True))
        arch = policy.arch(named)
        chance = policy.log_probability(named).exp().item()
        total += chance * penalty.cost(arch)
    assert penalty.expected(p).item() == pytest.approx(total, rel=1e-5)
    loss = torch.tensor(2.0)
    excess = total / 50.0 - 1
    assert penalty(loss, penalty.expected(p)).item() == pytest.approx(2 + 0.5 * excess, rel=1e-5)
    multiplied = Penalty(cost(space) * width, 50.0, 0.5, aggregate="mul")
    wanted = 2 * (total / 50.0) ** 0.5
    assert multiplied(loss, multiplied.expected(p)).item() == pytest.approx(wanted, rel=1e-5)
    gradients = torch.autograd.grad(
        penalty.expected(p), list(policy.parameters()), allow_unused=True
    )
    assert [g is not None for g in gradients] == [label != "shape" for label in space.symbols()]


@pytest.mark.parametrize(
    ("shape", "below", "above"),
    [
        ("linear", -0.5, 1.0),
        ("positive", 0.0, 1.0),
        ("negative", -0.5, 0.0),
        ("absolute", 0.5, 1.0),
    ],
)
def test_which_excess_counts(shape, below, above):
    penalty = Penalty(Categorical([1, 4], label="w"), 2.0, nonlinear=shape)
    nothing = torch.tensor(0.0)
    assert float(penalty(nothing, 1.0)) == pytest.approx(below)
    assert float(penalty(nothing, 4.0)) == pytest.approx(above)


@pytest.mark.parametrize(("aggregate", "rewarded"), [("add", 0.8 - 0.5), ("mul", 0.8 * 2**-0.5)])
@pytest.mark.parametrize("scale", [0.5, -0.5])
def test_a_cost_always_lowers_a_reward(aggregate, rewarded, scale):
    penalty = Penalty(Categorical([1, 4], label="w"), 2.0, scale, aggregate=aggregate)
    assert penalty.rewarded(0.8, 4.0) == pytest.approx(rewarded)
    assert penalty.rewarded(0.8, 1.0) > penalty.rewarded(0.8, 2.0) == 0.8
    assert penalty.rewarded(0.8, 2.0) > penalty.rewarded(0.8, 4.0)


def test_arguments_that_make_no_sense_are_refused():
    width = Categorical([1, 4], label="w")
    cases: list[dict[str, Any]] = [{"baseline": 0}, {"baseline": 1, "aggregate": "max"}]
    for wrong in cases:
        with pytest.raises(UsageError):
            Penalty(width, **wrong)
    with pytest.raises(UsageError, match="paths"):
        RandomOneShot(paths="best")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="batches_per_update"):
        ENAS(batches_per_update=0)


def test_most_likely_is_exhaustive_ranking():
    depth = Categorical([1, 2], label="depth")
    ops = [Categorical([10, 20, 30], label=f"op{i}") for i in range(2)]
    space = MutableExpression.switch_case(depth, {1: ops[0], 2: ops[0] * ops[1]})
    generator = torch.Generator().manual_seed(3)
    scores = {
        label: torch.randn(symbol.size, generator=generator).double().tolist()
        for label, symbol in space.symbols().items()
    }

    def regret(arch: dict[str, Any]) -> float:
        return math.fsum(
            max(scores[label]) - scores[label][space.symbols()[label].code(value)]
            for label, value in arch.items()
        )

    every = [{"depth": 1, "op0": a} for a in (10, 20, 30)]
    every += [{"depth": 2, "op0": a, "op1": b} for a in (10, 20, 30) for b in (10, 20, 30)]
    every.sort(key=regret)
    assert most_likely(space, scores, 12) == every
    assert regret(most_likely(space, scores, 1)[0]) == 0


def test_fair_paths_take_every_value_equally_often():
    run = Run(RandomOneShot(paths="fair"), Planted(), task(), steps=2)
    seen = set()
    for _ in range(2):
        paths = fair_paths(run)
        assert len(paths) == 3
        assert sorted(path["take"] for path in paths) == ["clean", "lost", "noisy"]
        for label in ("shape", "width"):
            counts = [sum(p[label] == v for p in paths) for v in run.symbols[label].values]
            assert sorted(counts) == [1, 2]
        seen.add(str(paths))
        run.advance()
    assert len(seen) == 2


def test_largest_and_smallest_architecture():
    class Net(ns.ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            width = Categorical([4, 2, 8], label="width")
            op: Any = {"none": nn.Identity(), "linear": lambda: mnn.MutableLinear(width, width)}
            self.first = mnn.MutableLinear(4, width)
            self.op = mnn.LayerChoice(op, label="op")
            self.last = mnn.MutableLinear(width, 3)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.last(self.op(self.first(x)))
            return y

    run = Run(RandomOneShot(paths="sandwich"), Net(), task(), steps=1)
    assert extremes(run) == ({"width": 8, "op": "linear"}, {"width": 2, "op": "none"})


def test_the_entropy_of_a_policy_is_the_mean_of_its_labels():
    policy = Policy({n: Categorical(range(int(n)), label=n) for n in ("2", "4")}).double()
    with torch.no_grad():
        for logits, p in zip(policy.logits, ([0.5, 0.5], [0.7, 0.1, 0.1, 0.1]), strict=True):
            logits.copy_(torch.tensor(p).log())
    expected = (math.log(2) - 0.7 * math.log(0.7) - 0.3 * math.log(0.1)) / 2
    assert policy.entropy().item() == pytest.approx(expected)


def test_a_label_that_a_restriction_makes_inactive_keeps_its_values():
    outer, inner = Categorical([0, 1], label="outer"), Categorical([1, 2, 3], label="inner")
    size = MutableExpression.condition(outer == 0, 5, inner)
    assert allowed_codes(restrict(size, size >= 5)) == {"outer": (0,)}


def test_what_a_restriction_excludes_has_no_probability():
    space: Any = Planted()
    within = space.where(cost(space) * space.symbols()["width"] <= 60)
    assert allowed_codes(within) == {"take": (1, 2)}
    assert allowed_codes(space) == {}
    run = Run(Proxyless(), within, task(), steps=1)
    p = run.policy.probabilities()["take"].tolist()
    assert p[0] == 0.0
    assert sum(p) == pytest.approx(1.0)
    assert math.isfinite(run.policy.entropy().item())
    controller: Any = Controller(space.symbols(), allowed=allowed_codes(within))
    generator = torch.Generator().manual_seed(0)
    drawn = [controller.draw(space, generator) for _ in range(20)]
    assert {one.arch["take"] for one in drawn} == {"noisy", "lost"}
    assert all(math.isfinite(one.entropy.item()) for one in drawn)
    only = pairs_of({"take": torch.tensor([0.0, 1.0, 0.0])}, generator)
    assert only == {"take": (1, 1)}
