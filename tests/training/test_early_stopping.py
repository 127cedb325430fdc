"""Early stopping: when a training ends, with which weights; that it resumes to the same bits."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas_space.errors import CheckpointError, UsageError
from nas_space.study import from_scratch
from nas_space.training import EarlyStopping, Metric, Progress, Task, fit

from . import small


class Scores:
    """A metric whose values are told in advance, whatever the network does."""

    def __init__(self, *values: float) -> None:
        self.values = iter(values)

    def __call__(self, output: Tensor, target: Tensor) -> float:
        return next(self.values)


def told(*values: float, maximize: bool = True) -> Task:
    data = small.dataset()
    metric = Metric(Scores(*values), maximize=maximize)
    return Task.classification(data, data, batch_size=20, metrics={"told": metric})


def trained(
    task: Task, stop: EarlyStopping, epochs: int = 9
) -> tuple[nn.Module, list[dict[str, Tensor]]]:
    """The network, and the weights after each step, of which two make an epoch."""
    net = small.network()
    weights: list[dict[str, Tensor]] = []

    def note(_: Progress) -> None:
        weights.append({name: value.clone() for name, value in net.state_dict().items()})

    fit(net, task, epochs=epochs, early_stopping=stop, on_step=note)
    return net, weights


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_training_ends_when_scores_have_not_improved_for_so_many_epochs() -> None:
    task = told(0.1, 0.3, 0.2, 0.3, 0.25, 0.9)
    net, weights = trained(task, EarlyStopping(patience=3))
    assert len(weights) == 2 * 5
    assert same(net.state_dict(), weights[3])  # those of the second epoch, the best one


def test_a_score_that_improves_in_time_begins_the_count_anew() -> None:
    _, weights = trained(told(0.1, 0.0, 0.2, 0.1, 0.1), EarlyStopping(patience=2))
    assert len(weights) == 2 * 5


def test_less_is_better_where_the_metric_says_so() -> None:
    net, weights = trained(told(3.0, 1.0, 2.0, 2.0, maximize=False), EarlyStopping(patience=2))
    assert len(weights) == 2 * 4
    assert same(net.state_dict(), weights[3])


def test_small_improvements_count_as_none_and_nan_as_no_improvement() -> None:
    _, weights = trained(told(0.1, 0.15, 0.19), EarlyStopping(patience=2, min_delta=0.1))
    assert len(weights) == 2 * 3
    _, weights = trained(told(0.1, float("nan"), float("nan")), EarlyStopping(patience=2))
    assert len(weights) == 2 * 3


def test_the_last_step_is_scored_and_the_best_weights_are_kept_without_a_stop() -> None:
    net, weights = trained(told(0.5, 0.1, 0.2), EarlyStopping(patience=5, every=4), epochs=5)
    assert len(weights) == 10  # scored after the steps 4, 8 and 10
    assert same(net.state_dict(), weights[3])
    net, weights = trained(told(0.5, 0.1), EarlyStopping(patience=1, restore=False))
    assert same(net.state_dict(), weights[3])  # as it was when it ended: the second epoch


def test_no_gradients_are_left_behind() -> None:
    net, _ = trained(told(0.5, 0.1), EarlyStopping(patience=1))
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize("cut", [3, 6])
def test_a_training_that_was_cut_off_resumes_to_the_same_bits(cut: int, tmp_path: Path) -> None:
    values = (0.1, 0.4, 0.2, 0.3, 0.3)
    stop = EarlyStopping(patience=3)
    whole, _ = trained(told(*values), stop)

    def cut_off(progress: Progress) -> None:
        if progress.step == cut:
            raise KeyboardInterrupt

    file = tmp_path / "state.safetensors"
    options: dict[str, Any] = {"epochs": 9, "early_stopping": stop, "checkpoint": file, "every": 1}
    with pytest.raises(KeyboardInterrupt):
        fit(small.network(), told(*values), on_step=cut_off, **options)
    rest = told(*values[cut // 2 :])
    again = fit(small.network(1), rest, resume=True, **options)
    assert same(again.state_dict(), whole.state_dict())
    ended = fit(small.network(2), told(), resume=True, **options)  # it scores nothing any more
    assert same(ended.state_dict(), whole.state_dict())


def test_a_state_of_other_rules_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "state.safetensors"
    options: dict[str, Any] = {"epochs": 2, "checkpoint": file, "resume": True}
    fit(small.network(), told(0.1, 0.2), early_stopping=EarlyStopping(patience=2), **options)
    with pytest.raises(CheckpointError, match="early_stopping"):
        fit(small.network(), told(), early_stopping=EarlyStopping(patience=3), **options)
    with pytest.raises(CheckpointError, match="early_stopping"):
        fit(small.network(), told(), **options)


def test_what_cannot_be_is_refused_before_the_first_step() -> None:
    data = small.dataset()
    alone, both = Task.classification(data), Task.classification(data, data)
    with pytest.raises(UsageError, match="no 'validation' data"):
        fit(small.network(), alone, epochs=1, early_stopping=EarlyStopping())
    with pytest.raises(UsageError, match="did you mean 'accuracy'"):
        from_scratch(both, 1, early_stopping=EarlyStopping(metric="acuracy"))
    with pytest.raises(UsageError, match="trains a space"):
        fit(
            small.network(), both, epochs=1, early_stopping=EarlyStopping(),
            path=lambda _: nullcontext(),
        )  # fmt: skip
    wrong_kind: Any = 3
    with pytest.raises(UsageError, match="is an EarlyStopping"):
        fit(small.network(), both, epochs=1, early_stopping=wrong_kind)
    refused: list[dict[str, Any]] = [{"patience": 0}, {"every": 1.5}, {"min_delta": -1.0}]
    for wrong in refused:
        with pytest.raises(UsageError):
            EarlyStopping(**wrong)


def test_trials_stop_early_too() -> None:
    data = small.dataset()
    metric = Metric(Scores(0.5, 0.1, 0.1, 0.5), maximize=True)
    task = Task.classification(data, data, batch_size=20, metrics={"told": metric})
    evaluate = from_scratch(task, 9, early_stopping=EarlyStopping(patience=2))
    assert evaluate(small.network(), {})["told"] == 0.5  # the fourth score: after the training
