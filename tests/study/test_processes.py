"""Several workers at one study, and workers that die."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import optuna
import pytest

import nas_space as ns
from nas_space.errors import TrialError, UsageError
from nas_space.study.objectives import objectives_of
from nas_space.study.storage import open_storage
from nas_space.study.studies import open_study
from tests.problems import Various, deadly, failing, reporting, slow_worth, worth

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills processes as POSIX does")


def check(result, trials):
    """Nothing lost, nothing twice, the total right."""
    space = Various()
    assert [outcome.number for outcome in result.outcomes] == list(range(trials))
    assert {outcome.state for outcome in result.outcomes} == {"complete"}
    assert len({space.arch_id(outcome.arch) for outcome in result.outcomes}) == trials
    for outcome in result.outcomes:
        assert outcome.values["value"] == worth(None, outcome.arch)


def pids(log):
    """The processes that have evaluated."""
    return {line.split()[0] for line in log.read_text().splitlines()}


@pytest.mark.parametrize("store", [None, "search.db"])
def test_several_processes_share_the_trials(store, tmp_path, monkeypatch):
    log = tmp_path / "log"
    monkeypatch.setenv("EVALUATIONS", str(log))
    seen = []
    result = ns.search(
        Various(),
        slow_worth,
        trials=30,
        workers=2,
        storage=None if store is None else tmp_path / store,
        callbacks=[lambda _study, trial: seen.append(trial.number)],
    )
    check(result, 30)
    assert len(log.read_text().splitlines()) == 30
    assert len(seen) == len(set(seen)) == 30
    assert len(pids(log)) == 2


def test_errors_of_workers_come_home(tmp_path):
    before = set(multiprocessing.active_children())  # of tests before this one
    with pytest.raises(TrialError, match="2 trials have failed"):
        ns.search(
            Various(), failing, trials=100, workers=2, failures=2, storage=tmp_path / "search.db"
        )
    assert not set(multiprocessing.active_children()) - before


@pytest.mark.slow
def test_time_runs_out_for_all_of_them(tmp_path):
    result = ns.search(
        Various(), slow_worth, trials=100_000, workers=2, timeout=20, storage=tmp_path / "search.db"
    )
    assert 0 < len(result.outcomes) < 100_000
    check(result, len(result.outcomes))
    assert not multiprocessing.active_children()


def test_poor_trials_are_stopped_early_in_all_of_them(tmp_path, monkeypatch):
    log = tmp_path / "log"
    monkeypatch.setenv("EVALUATIONS", str(log))
    pruner = optuna.pruners.MedianPruner(n_startup_trials=3)
    result = ns.search(Various(), reporting, trials=40, workers=2, pruner=pruner)
    assert {outcome.state for outcome in result.outcomes} == {"complete", "pruned"}
    pruned = [t for t in result.study.trials if t.state == optuna.trial.TrialState.PRUNED]
    assert pruned
    assert all(trial.intermediate_values for trial in result.study.trials)
    assert len(pids(log)) == 2


def test_what_cannot_be_sent_is_refused():
    with pytest.raises(UsageError, match="top level of a module"):
        ns.search(Various(), lambda *_: 1.0, workers=2)


@pytest.mark.slow  # each death takes the start of a process
def test_an_architecture_of_which_processes_die_is_given_up(tmp_path):
    # One in four architectures kills its process.
    result = ns.search(
        Various(), deadly, trials=3, workers=2, storage=tmp_path / "search.db", seed=1
    )
    states = {outcome.arch["width"] == 8: outcome.state for outcome in result.outcomes}
    assert states == {True: "failed", False: "complete"}
    [reason] = {str(o.failure).splitlines()[-1] for o in result.outcomes if o.failure}
    assert "died" in reason


_SCRIPT = """
import sys
import nas_space as ns
from tests.problems import Various, slow_worth
if __name__ == "__main__":
    ns.search(Various(), slow_worth, trials=40, storage=sys.argv[1], resume=True)
"""


def start(tmp_path, store):
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    return subprocess.Popen([sys.executable, str(script), str(store)], env=environment)


def test_a_killed_search_is_resumed_to_the_same_end(tmp_path, monkeypatch):
    store, log = tmp_path / "search.db", tmp_path / "log"
    monkeypatch.setenv("EVALUATIONS", str(log))
    # At the tenth it waits to be killed, so it cannot come to its end before, on any machine.
    monkeypatch.setenv("LAST_EVALUATION", "10")
    process = start(tmp_path, store)
    while not log.exists() or len(log.read_text().splitlines()) < 10:
        time.sleep(0.01)
        assert process.poll() is None
    process.kill()
    process.wait()
    monkeypatch.delenv("LAST_EVALUATION")
    result = ns.search(Various(), slow_worth, trials=40, storage=store, resume=True)
    check(result, 40)
    whole = ns.search(Various(), worth, trials=40, weights="none")
    assert [o.arch for o in result.outcomes] == [o.arch for o in whole.outcomes]
    assert len(log.read_text().splitlines()) == 41  # what the killed one was at, twice


def test_two_commands_at_one_address_share_the_trials(tmp_path, monkeypatch):
    store, log = tmp_path / "search.db", tmp_path / "log"
    monkeypatch.setenv("EVALUATIONS", str(log))
    processes = [start(tmp_path, store) for _ in range(2)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    check(ns.search(Various(), slow_worth, trials=40, storage=store, resume=True), 40)
    assert len(log.read_text().splitlines()) == 40


def _opens(barrier, path, answers):
    barrier.wait()
    try:
        study = open_study(open_storage(path), "search", objectives_of("value"), None)
        answers.put(study.study_name)
    except Exception as error:  # noqa: BLE001 - told by the test
        answers.put(error)


@pytest.mark.parametrize("name", ["search.db", "search.journal"])
def test_processes_that_begin_at_the_same_moment_make_one_study(name, tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(4), context.Queue()
    team = [
        context.Process(target=_opens, args=(barrier, tmp_path / name, answers)) for _ in range(4)
    ]
    for process in team:
        process.start()
    assert [answers.get(timeout=60) for _ in team] == ["search"] * 4
    for process in team:
        process.join()
    assert [study.study_name for study in open_storage(tmp_path / name).get_all_studies()] == [
        "search"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_ten_workers_killed_at_random_moments(seed, tmp_path, monkeypatch):
    log = tmp_path / "log"
    monkeypatch.setenv("EVALUATIONS", str(log))
    draw = random.Random(seed)
    killed: list[int] = []

    def evaluations() -> int:
        return len(log.read_text().splitlines()) if log.exists() else 0

    def kill():
        while len(killed) < 10:
            # Something is under way again: five deaths of one trial alone would fail it.
            before = evaluations()
            while evaluations() == before:
                time.sleep(0.01)
            time.sleep(draw.uniform(0.0, 0.5))
            team = multiprocessing.active_children()
            victims = [process.pid for process in team if process.pid is not None]
            if victims:
                killed.append(draw.choice(victims))
                os.kill(killed[-1], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)

    def begin(_study, _trial):
        if not killer.is_alive() and not killed:
            killer.start()

    result = ns.search(
        Various(),
        slow_worth,
        trials=200,
        workers=2,
        storage=tmp_path / "search.db",
        callbacks=[begin],
    )
    killer.join(timeout=60)
    assert len(killed) == 10
    check(result, 200)
    assert 200 <= len(log.read_text().splitlines()) <= 210
