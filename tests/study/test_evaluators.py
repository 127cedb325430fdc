"""Ready-made evaluators: what they train, what they score, what they leave alone."""

from __future__ import annotations

from functools import partial

import numpy as np
import optuna
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import nas_space as ns
from nas_space import nn as mnn
from nas_space.errors import UsageError
from nas_space.hub import NasBenchMacro
from nas_space.strategy import LinearThompson
from nas_space.study import filtered, from_scratch, inherited, proxy_scores, zero_cost
from nas_space.training import Task, evaluate, fit, recalibrate


class Normed(ns.ModelSpace):
    """With a batch norm, whose statistics mix those of all architectures."""

    def __init__(self):
        super().__init__()
        width = ns.Categorical([4, 8], label="width")
        self.body = nn.Sequential(
            mnn.MutableLinear(2, width),
            mnn.MutableBatchNorm1d(width),
            mnn.LayerChoice({"relu": nn.ReLU, "tanh": nn.Tanh}, label="op"),
            mnn.MutableLinear(width, 2),
        )

    def forward(self, x):
        return self.body(x)


@pytest.fixture(scope="module")
def task():
    x = torch.randn(192, 2, generator=torch.Generator().manual_seed(0)) + 3
    y = (x[:, 0] > x[:, 1]).long()
    return Task.classification(
        TensorDataset(x[:128], y[:128]),
        validation=TensorDataset(x[128:], y[128:]),
        optimizer=partial(torch.optim.SGD, lr=0.1),
        batch_size=32,
    )


def test_inherited_weights_are_scored_with_statistics_of_their_own(task):
    space = Normed()
    before = {name: tensor.clone() for name, tensor in space.state_dict().items()}
    result = ns.search(space, inherited(task), trials=4)
    assert result.objectives[0].name == "accuracy"
    for outcome in result.outcomes:
        network = recalibrate(space.freeze(outcome.arch), task)
        scores = evaluate(network, task)
        assert outcome.values["accuracy"] == scores["accuracy"]
        assert outcome.metrics["loss"] == scores["loss"]
        plain = evaluate(space.freeze(outcome.arch), task)["loss"]
        assert outcome.metrics["loss"] != plain
    assert all(torch.equal(before[name], t) for name, t in space.state_dict().items())


def test_from_scratch_trains_each_alone(task):
    space = Normed()
    result = ns.search(space, from_scratch(task, epochs=8), trials=3, seed=1)
    assert all(outcome.values["accuracy"] > 0.8 for outcome in result.outcomes)
    again = ns.search(space, from_scratch(task, epochs=8), trials=3, seed=1)
    assert [o.values for o in again.outcomes] == [o.values for o in result.outcomes]
    untrained = ns.search(space, inherited(task), trials=3, seed=1)
    assert [o.values for o in untrained.outcomes] != [o.values for o in result.outcomes]


def test_a_task_alone_trains_from_scratch(task):
    space = Normed()
    by_task = ns.search(space, task, trials=1)
    by_hand = ns.search(space, from_scratch(task), trials=1)
    assert by_task.outcomes[0].values == by_hand.outcomes[0].values


def test_poor_ones_are_stopped_after_an_epoch(task):
    pruner = optuna.pruners.ThresholdPruner(lower=2.0)  # an accuracy that nothing reaches
    with pytest.warns(UserWarning, match="all 2 trials were stopped early"):
        result = ns.search(Normed(), from_scratch(task, epochs=3), trials=2, pruner=pruner)
    assert [o.state for o in result.outcomes] == ["pruned"] * 2
    assert [list(t.intermediate_values) for t in result.study.trials] == [[0], [0]]


def test_less_is_better_for_an_error():
    x = torch.rand(64, 2)
    data = TensorDataset(x, x.sum(1, keepdim=True).repeat(1, 2))
    task = Task.regression(data, validation=data, batch_size=32)
    result = ns.search(Normed(), inherited(task), trials=4)
    assert result.objectives[0].direction == "minimize"
    assert result.values(result.best())["rmse"] == min(o.values["rmse"] for o in result.outcomes)


def test_weights_may_be_inherited_for_training(task):
    space = Normed()
    fit(space, task, epochs=2, path=lambda step: space.activate(space.sample(seed=step)))
    result = ns.search(space, from_scratch(task, epochs=1), trials=2, weights="inherit")
    network = fit(space.freeze(result.outcomes[0].arch), task, epochs=1)
    assert evaluate(network, task)["loss"] == pytest.approx(
        result.outcomes[0].metrics["loss"], rel=1e-4
    )


def test_no_epochs_are_refused(task):
    with pytest.raises(UsageError, match="epochs"):
        from_scratch(task, epochs=0)


class TestZeroCost:
    @pytest.fixture
    def space(self) -> NasBenchMacro:
        return NasBenchMacro(num_labels=4, init_channels=4)

    @pytest.fixture
    def images(self) -> Task:
        x = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        return Task.classification(TensorDataset(x, torch.arange(16) % 4), batch_size=16)

    def test_a_proxy_is_an_objective_of_its_own(self, space, images):
        result = ns.search(space, zero_cost("naswot", images), trials=5)
        assert [objective.name for objective in result.objectives] == ["naswot"]
        assert len({outcome.values["naswot"] for outcome in result.complete}) == 5

    def test_what_it_lets_not_through_is_not_trained(self, space, images):
        scores = proxy_scores(space, zero_cost("naswot", images), 9, seed=0)
        least = float(np.median([score for _, score in scores]))
        trained = []

        def count(_network, arch):
            trained.append(space.arch_id(arch))
            return 1.0

        result = ns.search(space, filtered(count, zero_cost("naswot", images), least), trials=9)
        states = [outcome.state for outcome in result.outcomes]
        assert states.count("complete") == len(trained)
        assert 0 < states.count("pruned") < 9

    def test_scores_for_a_warm_start_are_those_of_the_architectures(self, space, images):
        narrow = space.where(space.symbols()["op0"] == "identity")
        scores = proxy_scores(narrow, zero_cost("synflow", images), 6, seed=3)
        assert scores == proxy_scores(narrow, zero_cost("synflow", images), 6, seed=3)
        assert all(narrow.contains(arch) for arch, _ in scores)
        warm = LinearThompson(warm_start=scores)
        result = ns.search(narrow, lambda *_: 1.0, strategy=warm, trials=3, weights="none")
        assert len(result.complete) == 3

    def test_an_unknown_proxy_is_refused(self, images):
        with pytest.raises(UsageError, match="did you mean 'zico'"):
            zero_cost("zicco", images)
