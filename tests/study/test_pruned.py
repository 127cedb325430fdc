"""What strategies are told of trials that a pruner stopped."""

from __future__ import annotations

import optuna
import pytest

import nas_space as ns
from nas_space.strategy import LinearThompson, Random
from nas_space.study import maximize, minimize, report
from nas_space.study.curves import expected_end
from tests.problems import Various, worth


def test_the_expected_end_is_the_last_report_and_what_others_gained_from_there_on():
    curves = [({0: 0.1, 1: 0.5}, 0.7), ({0: 0.2, 1: 0.6}, 0.9), ({0: 0.3, 1: 0.7}, 0.8)]
    assert expected_end({0: 0.1, 1: 0.2}, curves) == pytest.approx(0.2 + 0.2)
    assert expected_end({0: 0.1}, curves) == pytest.approx(0.1 + 0.6)
    assert expected_end({0: 0.1, 4: 0.2}, curves) is None
    assert expected_end({}, curves) is None
    assert expected_end({0: 0.1}, []) is None


class Watching(Random):
    """Remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: dict[int, float] = {}

    def propose(self, state):
        self.told = {one.number: one.fitness[0] for one in state.history}
        return super().propose(state)


def gaining(_network, arch):
    """Two above what is told first, and one above what comes then."""
    for step, less in enumerate((2.0, 1.0)):
        report(worth(None, arch) - less, step)
    return worth(None, arch)


def falling(_network, arch):
    for step, more in enumerate((2.0, 1.0)):
        report(more - worth(None, arch), step)
    return -worth(None, arch)


@pytest.mark.parametrize("objective", [maximize("value"), minimize("value")])
def test_strategies_are_told_what_stopped_trials_would_have_come_to(objective):
    strategy = Watching()
    result = ns.search(
        Various(),
        gaining if objective.direction == "maximize" else falling,
        objectives=objective,
        strategy=strategy,
        trials=30,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
    )
    assert {outcome.state for outcome in result.outcomes} == {"complete", "pruned"}
    for outcome in result.outcomes[:-1]:
        assert strategy.told[outcome.number] == pytest.approx(worth(None, outcome.arch))


def test_what_has_reported_nothing_is_not_told():
    def refused(_network, arch):
        if arch["width"] == 8:
            raise optuna.TrialPruned
        return worth(None, arch)

    strategy = Watching()
    result = ns.search(Various(), refused, strategy=strategy, trials=20)
    complete = {outcome.number for outcome in result.complete}
    assert set(strategy.told) == complete - {19} != set(range(19))


def test_a_search_with_a_pruner_is_resumed_to_the_same_end(tmp_path):
    def searched(trials, **options):
        pruner = optuna.pruners.SuccessiveHalvingPruner(reduction_factor=2)
        return ns.search(
            Various(), gaining, strategy=LinearThompson(), trials=trials, pruner=pruner, **options
        )

    whole = searched(24)
    for trials in (9, 16, 24):
        resumed = searched(trials, storage=tmp_path / "search.db", resume=True)
    assert [o.arch for o in resumed.outcomes] == [o.arch for o in whole.outcomes]
    assert "pruned" in {outcome.state for outcome in whole.outcomes}
