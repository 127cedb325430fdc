"""What is said while a search goes on."""

from __future__ import annotations

import sys
import time

import optuna
import pytest

import nas_space as ns
from nas_space.strategy import GridSearch
from nas_space.study import SearchProgress, ShowProgress, maximize, minimize
from tests.problems import Tiny, Various, failing, slow_worth, worth


def watched(space, evaluate, **options):
    seen: list[SearchProgress] = []
    progress = ShowProgress(options["trials"], seen.append, every=0)
    result = ns.search(space, evaluate, callbacks=[progress], weights="none", **options)
    return seen, result


def test_it_says_what_the_result_says_in_the_end():
    space = Various()
    seen, result = watched(
        space, worth, trials=25, objectives=[maximize("value"), minimize("width", space.width)]
    )
    assert [now.done for now in seen] == list(range(1, 26))
    last = seen[-1]
    assert last.best == {
        "value": max(outcome.values["value"] for outcome in result.outcomes),
        "width": min(outcome.values["width"] for outcome in result.outcomes),
    }
    assert last.front == len(result.front())
    assert last.seconds_left == 0


def test_failures_are_counted_and_void_attempts_are_not(tmp_path):
    store = tmp_path / "search.db"

    def interrupted(network, arch):
        if len(optuna.load_study(study_name="search", storage=f"sqlite:///{store}").trials) == 3:
            raise KeyboardInterrupt
        return failing(network, arch)

    with pytest.raises(KeyboardInterrupt):
        ns.search(Tiny(), interrupted, trials=8, storage=store, strategy=GridSearch())
    seen, result = watched(
        Tiny(), failing, trials=12, storage=store, strategy=GridSearch(), resume=True
    )
    assert [now.done for now in seen] == list(range(3, 13))
    assert seen[-1].failed == sum(o.state == "failed" for o in result.outcomes) == 8


def test_trials_of_other_processes_count(tmp_path):
    seen, _ = watched(Various(), slow_worth, trials=8, workers=2, storage=tmp_path / "search.db")
    assert seen[-1].done == 8


def test_it_is_not_said_more_often_than_wanted(capsys):
    progress = ShowProgress(20, every=1000)
    ns.search(Various(), worth, trials=20, weights="none", callbacks=[progress])
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("1 of 20 trials, best value")
    assert last.startswith("20 of 20 trials")
    assert last.endswith("0:00 left")


def test_a_plain_log_is_told_of_a_search_only_once_that_has_taken_some_time(capsys, monkeypatch):
    ns.search(Various(), worth, trials=3, weights="none")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.modules["nas_space.study.search"], "_QUIET", 0.0)
    ns.search(Various(), worth, trials=3, weights="none")
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("1 of 3 trials, best value")
    assert last.startswith("3 of 3 trials, best value")


def test_the_pace_is_that_since_the_search_began_though_the_first_trials_were_not_told():
    seen: list[SearchProgress] = []
    late = ShowProgress(9, seen.append, every=0, since=(time.monotonic() - 60.0, 2))

    def tell_the_third(study, trial):
        if trial.number == 2:
            late(study, trial)

    ns.search(Various(), worth, trials=3, weights="none", callbacks=[tell_the_third])
    [now] = seen
    assert now.done == 3
    assert now.seconds_left is not None
    assert now.seconds_left >= 60.0 / 3 * 6


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (SearchProgress(0, 9), "0 of 9 trials"),
        (
            SearchProgress(3, 9, 0, {"a": 0.5, "b": 12.0}, 2, 3725.0),
            "3 of 9 trials, best a 0.5, best b 12, 2 on the front, 1:02:05 left",
        ),
    ],
)
def test_words(progress, text):
    assert str(progress) == text
