"""What cannot work is refused before the first trial, or ends the search with its cause."""

from __future__ import annotations

import math
import warnings
from functools import partial
from typing import Any, cast

import numpy as np
import optuna
import pytest
import torch
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nas_space as ns
from nas_space.errors import (
    DataError,
    DivergenceError,
    DomainError,
    ExpressionError,
    SpaceError,
    TrialError,
    UsageError,
)
from nas_space.nn import LayerChoice, MutableBatchNorm1d, MutableLinear
from nas_space.profiler import macs
from nas_space.strategy import DARTS, Random
from nas_space.study import (
    filtered,
    from_scratch,
    inherited,
    load_search,
    maximize,
    minimize,
    zero_cost,
)
from nas_space.training import Metric, Task, evaluate, fit
from tests.problems import Tiny, Various, worth


class Net(ns.ModelSpace):
    """Four networks of two inputs and two classes."""

    def __init__(self) -> None:
        super().__init__()
        width = ns.Categorical([4, 8], label="width")
        self.body = nn.Sequential(
            MutableLinear(2, width),
            MutableBatchNorm1d(width),
            LayerChoice({"relu": nn.ReLU, "tanh": nn.Tanh}, label="op"),
            MutableLinear(width, 2),
        )

    def forward(self, x):
        return self.body(x)


class Misfit(ns.ModelSpace):
    """Of its two networks one does not run."""

    def __init__(self) -> None:
        super().__init__()
        self.first = LayerChoice({"small": nn.Linear(2, 4), "large": nn.Linear(2, 5)}, label="op")
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.first(x))


def points(number=96, dtype=torch.int64, classes=2):
    x = torch.randn(number, 2, generator=torch.Generator().manual_seed(0)) + 1
    return TensorDataset(x, (x[:, 0] > x[:, 1]).to(dtype) * (classes - 1))


def task_of(train=None, validation=None, **options):
    options = {"optimizer": partial(torch.optim.SGD, lr=0.1), "batch_size": 32, **options}
    train, validation = (points() if data is None else data for data in (train, validation))
    return Task.classification(train, validation=validation, **options)


# What types would tell beforehand.
untyped: Any = ns.search
less: Any = minimize
more: Any = maximize


# -- a search that cannot work ---------------------------------------------------------------------


def broken(_network, _arch):
    raise ValueError("out of luck")


def test_a_search_without_a_complete_trial_raises_with_the_first_cause(tmp_path):
    with pytest.raises(TrialError, match="none of 2 trials is complete; trial 0") as caught:
        ns.search(Tiny(), broken, trials=2, storage=tmp_path / "s.db")
    assert "out of luck" in str(caught.value)
    assert "in broken" in caught.value.__notes__[0]
    assert len(load_search(tmp_path / "s.db").outcomes) == 2


def test_three_first_failures_for_the_same_reason_end_a_search():
    calls = []

    def evaluate(_network, _arch):
        calls.append(1)
        raise ValueError(f"shape {len(calls)}x{7 * len(calls)} at 0x{len(calls)}f does not fit")

    with pytest.raises(TrialError, match=r"first trials have all failed.*shape 1x7"):
        ns.search(Various(), evaluate, trials=30)
    assert len(calls) == 3
    calls.clear()
    with pytest.raises(TrialError, match="5 trials have failed"):
        ns.search(Various(), evaluate, trials=30, failures=5)
    assert len(calls) == 5


def test_different_failures_and_a_success_among_the_first_do_not_end_it():
    def various(_network, _arch, calls=[]):  # noqa: B006 - remembers
        calls.append(1)
        if len(calls) < 4:
            raise (ValueError, LookupError, RuntimeError)[len(calls) - 1]("no")
        return 1.0

    with pytest.warns(UserWarning, match="trial"):
        assert len(ns.search(Various(), various, trials=6).complete) == 3

    def second(_network, _arch, calls=[]):  # noqa: B006 - remembers
        calls.append(1)
        if len(calls) != 2 and len(calls) < 8:
            raise ValueError("no")
        return 1.0

    with pytest.warns(UserWarning, match="trial 0"):
        assert len(ns.search(Various(), second, trials=9).complete) == 3


def test_a_search_that_was_mended_is_resumed_past_its_first_failures(tmp_path):
    store = tmp_path / "s.db"
    with pytest.raises(TrialError, match="all failed"):
        ns.search(Various(), broken, trials=8, storage=store)
    assert len(ns.search(Various(), worth, trials=8, storage=store, resume=True).complete) == 5


@pytest.mark.slow  # processes take their time to start
def test_several_workers_raise_too():
    with pytest.raises(TrialError, match=r"out of luck"):
        ns.search(Various(), broken, trials=6, workers=2)


def test_later_failures_are_told_once_for_each_kind():
    def evaluate(_network, _arch, calls=[]):  # noqa: B006 - remembers
        calls.append(1)
        if len(calls) > 4:
            raise (ValueError if len(calls) % 2 else LookupError)(f"number {len(calls)}")
        return 1.0

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        ns.search(Various(), evaluate, trials=12)
    assert [str(one.message).split(" failed with")[0] for one in told] == [
        "trial 4 of the search 'search'",
        "trial 5 of the search 'search'",
    ]


# -- before the first trial -------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        lambda: points().tensors,
        lambda: points().tensors[0],
        lambda: np.zeros((4, 2)),
        lambda: {"x": torch.zeros(4, 2), "y": torch.zeros(4)},
    ],
)
@pytest.mark.parametrize("make", [Task.classification, Task.regression])
def test_whole_tensors_are_no_data_set(make, data):
    with pytest.raises(DataError, match="TensorDataset"):
        make(data())
    with pytest.raises(DataError, match="validation data"):
        make(points(), validation=data())


def refused(task, error=UsageError, match="", **options):
    """Assert that a search is refused before its first trial."""
    with pytest.raises(error, match=match):
        ns.search(Net(), task, trials=2, callbacks=[lambda *_: pytest.fail("a trial")], **options)


def test_a_task_without_data_is_refused_before_the_first_trial():
    empty = TensorDataset(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    refused(task_of(train=empty), DataError, "train data is empty")
    refused(task_of(validation=empty), DataError, "validation data is empty")
    without = Task.classification(points())
    refused(without, UsageError, "no 'validation' data")
    for make in (from_scratch, inherited):
        with pytest.raises(UsageError, match="no 'validation' data"):
            make(without)
    with pytest.raises(UsageError, match="no 'test' data"):
        inherited(task_of(), split="test")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": "sgd"}, "optimizer is called"),
        ({"optimizer": torch.optim.SGD([torch.zeros(1)], lr=1.0)}, "partial"),
        ({"schedule": "cosine"}, "schedule is called"),
        ({"loss": "cross_entropy"}, "loss is called"),
        ({"lr": 0.1}, "belongs to the optimizer"),
        ({"weight_decay": 0.1}, "belongs to the optimizer"),
        ({"epochs": 3}, "how long"),
        ({"batchsize": 3}, "did you mean 'batch_size'"),
    ],
)
def test_arguments_of_a_task_are_refused_by_name(options, words):
    for make in (Task.classification, Task.regression):
        with pytest.raises(UsageError, match=words):
            make(points(), **options)


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(lambda: task_of(train=points(classes=9)), id="targets out of range"),
        pytest.param(lambda: task_of(train=points(dtype=torch.float32)), id="targets of a type"),
        pytest.param(lambda: task_of(validation=points(classes=9)), id="validation targets"),
        pytest.param(lambda: Task.regression(points(), validation=points()), id="shapes"),
        pytest.param(lambda: task_of(loss=nn.CrossEntropyLoss), id="a class as loss"),
        pytest.param(lambda: task_of(optimizer=lambda _: None), id="no optimizer"),
        pytest.param(lambda: task_of(metrics={"a": Metric(lambda y, _: y)}), id="no number"),
        pytest.param(lambda: task_of(train=DataLoader(points().tensors[0], 8)), id="no pairs"),
        pytest.param(
            lambda: task_of(train=TensorDataset(points()[:][0] * math.nan, points()[:][1])),
            id="NaN in the data",
        ),
    ],
)
def test_one_batch_is_tried_before_the_first_trial(task):
    refused(task(), UsageError, "on one batch")


@pytest.mark.parametrize(
    "number", [lambda s: s.width, lambda s: s.width * 2 + 1, lambda s: macs(s, (2,))]
)
def test_a_number_is_no_condition(number):
    space = Tiny()
    for refusing in (space.where, space.require):
        with pytest.raises(ExpressionError, match="is a number: compare it"):
            refusing(number(space))


@pytest.mark.parametrize("strategy", ["random-path", "darts"])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_one_batch_is_tried_before_the_first_step_of_a_one_shot_search(strategy, split):
    space = Net()
    before = {name: tensor.clone() for name, tensor in space.state_dict().items()}
    task = task_of(**{split: points(classes=9)})
    with pytest.raises(UsageError, match="on one batch: IndexError"):
        ns.search(space, task, strategy=strategy, steps=8)
    assert all(torch.equal(before[name], t) for name, t in space.state_dict().items())


def test_what_a_filter_lets_through_is_tried_beforehand_too():
    task = task_of(train=points(classes=9))
    refused(
        filtered(from_scratch(task), zero_cost("naswot", task), 0.0), UsageError, "on one batch"
    )


def test_a_number_of_numpy_is_a_number_of_trials():
    assert len(untyped(Tiny(), worth, trials=np.int64(2), seed=np.int64(3)).outcomes) == 2


def test_a_space_of_which_some_networks_do_not_run_is_searched_all_the_same():
    with pytest.warns(UserWarning, match="failed with"):
        result = ns.search(Misfit(), from_scratch(task_of(), epochs=1), trials=2)
    assert [outcome.arch for outcome in result.complete] == [{"op": "small"}]


def test_trying_a_batch_changes_nothing():
    space = Net()
    before = {name: tensor.clone() for name, tensor in space.state_dict().items()}
    state = torch.get_rng_state()
    inherited(task_of()).check(space)
    from_scratch(task_of()).check(space)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], t) for name, t in space.state_dict().items())


# -- numbers that are not finite --------------------------------------------------------------


def test_a_training_whose_loss_is_not_finite_is_a_failed_trial():
    def loss(output, target, calls=[]):  # noqa: B006 - remembers
        calls.append(1)
        return nn.functional.cross_entropy(output, target) * (math.inf if len(calls) > 9 else 1)

    with pytest.warns(UserWarning, match="DivergenceError"):
        result = ns.search(Net(), from_scratch(task_of(loss=loss), epochs=1), trials=4)
    assert result.outcomes[0].state == "complete"
    assert "failed" in [outcome.state for outcome in result.outcomes]
    assert "the loss of step" in str(result.outcomes[-1].failure)


def test_weights_that_are_spoilt_by_the_last_step_fail_the_trial_although_it_has_an_accuracy():
    class Spoiling(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(math.nan)

    task = task_of(optimizer=partial(Spoiling, lr=0.1), batch_size=96)
    with pytest.raises((TrialError, UsageError), match="not finite"):
        ns.search(Net(), from_scratch(task, epochs=1), trials=2)


def test_fit_stops_before_the_weights_are_spoilt_and_keeps_its_checkpoint(tmp_path):
    calls = []

    def loss(output, target):
        calls.append(1)
        return nn.functional.cross_entropy(output, target) * (math.nan if len(calls) == 8 else 1)

    network = nn.Linear(2, 2)
    with pytest.raises(DivergenceError, match="step 7 of 10 is nan"):
        fit(network, task_of(loss=loss), steps=10, checkpoint=tmp_path / "c.safetensors", every=3)
    assert all(weight.isfinite().all() for weight in network.parameters())
    other = nn.Linear(2, 2)
    calls[:] = [1] * 7  # the first step after the checkpoint
    with pytest.raises(DivergenceError):
        fit(other, task_of(loss=loss), steps=10, checkpoint=tmp_path / "c.safetensors", resume=True)
    assert all(weight.isfinite().all() for weight in other.parameters())


@pytest.mark.parametrize("strategy", ["random-path", "enas", "gumbel"])
def test_a_one_shot_search_stops_and_says_at_which_step(strategy, tmp_path):
    calls = []

    def loss(output, target):
        calls.append(1)
        return nn.functional.cross_entropy(output, target) * (math.nan if len(calls) > 12 else 1)

    space, file = Net(), tmp_path / "s.safetensors"
    with pytest.raises(DivergenceError, match=r"step \d+.*the state before is in") as caught:
        ns.search(space, task_of(loss=loss), strategy=strategy, steps=40, storage=file, every=1)
    assert "s.safetensors" in str(caught.value)
    assert all(weight.isfinite().all() for weight in space.parameters())
    from nas_space.training import load_state

    state = load_state(file)["run"]["weights"]
    assert 0 < state["step"] < 13
    tensors = [t for t in state["network"].values() if t.is_floating_point()]
    assert all(tensor.isfinite().all() for tensor in tensors)


# -- ties --------------------------------------------------------------------------------------


def test_of_equal_scores_the_winner_is_the_one_with_fewer_parameters():
    result = ns.search(Tiny(), lambda *_: 1.0, trials=12, strategy="random")
    sizes = [sum(p.numel() for p in result.network(o.arch).parameters()) for o in result.outcomes]
    winner = result.winner()
    assert winner.cost == min(sizes)
    assert len(set(sizes)) > 1
    assert len(result.sharing()) == 12
    assert "12 share" in repr(result)


def test_of_equal_scores_the_first_budget_decides(tmp_path):
    space = Various()
    small = space.where(-space.width >= -24, space.symbols()["depth"] < 3)
    larger = ns.search(small, lambda *_: 1.0, trials=9, weights="none", storage=tmp_path / "s.db")
    depths = [outcome.arch["depth"] for outcome in larger.outcomes]
    assert larger.winner().cost == min(depths) < max(depths)  # the width is limited from below
    cheap = ns.search(space.where(space.width <= 24), lambda *_: 1.0, trials=9, weights="none")
    assert cheap.best()["width"] == min(outcome.arch["width"] for outcome in cheap.outcomes)
    assert load_search(tmp_path / "s.db").best() == larger.best()


def test_of_equal_scores_the_other_objectives_decide_so_the_winner_is_on_the_front():
    space = Various()
    objectives = [maximize("value"), minimize("width", space.width)]
    result = ns.search(space, lambda *_: 1.0, trials=12, objectives=objectives)
    assert result.winner() in result.front()
    assert result.best()["width"] == min(outcome.arch["width"] for outcome in result.outcomes)


def test_the_standard_error_of_the_score_is_that_of_a_share():
    result = ns.search(Net(), from_scratch(task_of(validation=points(400)), epochs=1), trials=2)
    share = result.winner().values["accuracy"]
    expected = math.sqrt(share * (1 - share) / 400)
    assert result.standard_error == pytest.approx(expected, rel=0.35)
    assert "standard error" in repr(result)


# -- networks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("store", [None, "s.db", "s.journal"])
@pytest.mark.parametrize("make", [from_scratch, inherited])
def test_the_network_is_what_was_scored(make, store, tmp_path):
    task = task_of()
    evaluator = make(task, epochs=1) if make is from_scratch else make(task)
    options = {} if store is None else {"storage": tmp_path / store}
    space = Net()
    result = ns.search(space, evaluator, trials=4, **options)
    scores = evaluate(result.network(), task)
    assert scores["accuracy"] == result.winner().values["accuracy"]
    assert scores["loss"] == result.winner().metrics["loss"]
    if store is not None:
        assert len(list((tmp_path / f"{store}.networks").rglob("trial*"))) == 1
        loaded = load_search(tmp_path / store, space=space)
        assert evaluate(loaded.network(), task) == scores


def test_as_many_are_kept_as_asked_for_and_others_warn(tmp_path):
    task, store = task_of(), tmp_path / "s.db"
    result = ns.search(
        Net(), from_scratch(task, epochs=1), trials=4, storage=store, keep_networks=2
    )
    assert len(list((tmp_path / "s.db.networks").rglob("trial*"))) == 2
    for place, outcome in enumerate(result.ranked()):
        if place < 2:
            scored = evaluate(result.network(outcome.arch), task)
            assert scored["loss"] == outcome.metrics["loss"]
        else:
            with pytest.warns(UserWarning, match="freshly initialised"):
                result.network(outcome.arch)
    none = ns.search(Net(), from_scratch(task, epochs=1), trials=2, keep_networks=0)
    with pytest.warns(UserWarning, match="freshly initialised"):
        none.network()


def test_a_resumed_search_keeps_the_network_of_its_first_part(tmp_path):
    task, store = task_of(), tmp_path / "s.db"
    evaluator = from_scratch(task, epochs=1)
    first = ns.search(Net(), evaluator, trials=2, storage=store)
    before = evaluate(first.network(), task)
    result = ns.search(Net(), evaluator, trials=4, storage=store, resume=True)
    assert evaluate(result.network(), task)["loss"] == result.winner().metrics["loss"]
    if result.winner().number == first.winner().number:
        assert evaluate(result.network(), task) == before


@pytest.mark.slow  # processes take their time to start
@pytest.mark.parametrize("store", [None, "s.db"])
def test_several_workers_keep_the_network_too(store, tmp_path):
    options = {} if store is None else {"storage": tmp_path / store}
    result = ns.search(Tiny(), constant_bias, trials=6, workers=2, weights="fresh", **options)
    network = result.network()
    assert float(network.last.bias) == result.winner().values["value"]


def constant_bias(network, arch):
    """Trains, so to say, and scores what was trained."""
    with torch.no_grad():
        network.last.bias.fill_(0.25 * len(arch) + 0.125 * (arch["width"] == 8))
    return float(network.last.bias)


def test_a_pruned_trial_is_not_kept_and_the_best_is():
    task = task_of()
    pruner = optuna.pruners.PercentilePruner(50.0, n_startup_trials=1, n_warmup_steps=0)
    result = ns.search(Net(), from_scratch(task, epochs=3), trials=4, pruner=pruner)
    assert evaluate(result.network(), task)["loss"] == result.winner().metrics["loss"]


# -- messages ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("search", "error", "words"),
    [
        (lambda: untyped(Tiny(), worth, strategy=Random), UsageError, r"Random\(\)"),
        (lambda: untyped(Net(), task_of(), strategy=DARTS, steps=2), UsageError, r"DARTS\(\)"),
        (lambda: untyped(nn.Linear(2, 2), worth), UsageError, "not a space"),
        (lambda: untyped(Tiny, worth), UsageError, r"Tiny\(\)"),
        (lambda: untyped(3, worth), UsageError, "ModelSpace"),
        (lambda: untyped(Tiny(), worth, trials="5"), UsageError, "trials is a whole number"),
        (lambda: untyped(Tiny(), worth, trials=5.0), UsageError, "trials is a whole number"),
        (lambda: untyped(Tiny(), worth, workers=True), UsageError, "workers is a whole"),
        (lambda: untyped(Tiny(), worth, keep_networks=-1), UsageError, "0 or more"),
        (lambda: untyped(Tiny(), worth, timeout="1h"), UsageError, "seconds"),
        (lambda: untyped(Tiny(), worth, strategy=lambda _: {}), UsageError, "OptunaSampler"),
        (lambda: untyped(Tiny(), worth, strategy=TPESampler()), UsageError, "OptunaSampler"),
        (lambda: untyped(Tiny(), worth, strategy=TPESampler), UsageError, "OptunaSampler"),
        (lambda: untyped(Tiny(), worth, pruner="hyperband"), UsageError, "HyperbandPruner"),
        (lambda: untyped(Tiny(), worth, pruner=MedianPruner), UsageError, "pruner is one"),
        (lambda: untyped(Tiny(), worth, callbacks=worth), UsageError, "list of functions"),
        (lambda: untyped(Tiny(), worth, callbacks=[3]), UsageError, "list of functions"),
        (lambda: untyped(Tiny(), worth, seed="0"), UsageError, "seed is a whole number"),
        (lambda: untyped(Tiny(), worth, seed=None), UsageError, "seed is a whole number"),
        (lambda: untyped(Tiny(), worth, name=3), UsageError, "name is that of the study"),
        (lambda: untyped(Tiny(), worth, resume="no"), UsageError, "True or False"),
        (lambda: untyped(Tiny(), worth, objectives=[]), UsageError, "needs objectives"),
        (lambda: untyped(Tiny(), worth, objectives=Tiny().width), UsageError, "minimize"),
        (lambda: untyped(Net(), task_of(), objectives="acuracy"), UsageError, "'accuracy'"),
        (lambda: untyped(Net(), Task), UsageError, "Task.classification"),
        (lambda: untyped(Net(), nn.Linear(2, 2)), UsageError, "scores no network"),
        (lambda: untyped(Tiny(), lambda *_: "1.0", trials=2), UsageError, "numbers"),
        (lambda: untyped(Net(), task_of(), strategy="darts", steps="5"), UsageError, "steps is"),
        (lambda: untyped(Net(), task_of(), strategy="darts", epochs="5"), UsageError, "epochs is"),
        (lambda: from_scratch(cast(Any, Net())), UsageError, "is a Task"),
        (lambda: from_scratch(task_of(), epochs=cast(Any, 1.5)), UsageError, "epochs is"),
        (lambda: task_of(batch_size="32"), UsageError, "batch_size is a whole number"),
        (lambda: less(Tiny().width), UsageError, "name"),
        (lambda: more(Tiny().width * 2), UsageError, "name"),
        (lambda: less("size", 3), UsageError, "no expression"),
        (lambda: Tiny().where(lambda _: True), ExpressionError, "never called"),
        (lambda: ns.Categorical([1, 2, 1], label="a"), DomainError, "1 twice"),
        (lambda: ns.Categorical([1, 1.0], label="a"), DomainError, "equal"),
        *(
            (
                lambda s=s: untyped(Misfit(), task_of(), strategy=s, steps=8),
                SpaceError,
                r"'op': 'large'} fails at last|cannot be mixed",
            )
            for s in ("random-path", "enas", "darts", "sandwich")
        ),
    ],
)
def test_messages_say_what_is_wrong(search, error, words):
    with pytest.raises(error, match=words):
        search()
