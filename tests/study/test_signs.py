"""Workers elsewhere: what they have is theirs as long as they give signs of life."""

from __future__ import annotations

import time
from types import SimpleNamespace

import optuna
import pytest

import nas_space as ns
from nas_space.mutable.random_words import words
from nas_space.strategy.neighbours import nearest
from nas_space.study import driver, open_storage, shared_ledger, signs
from nas_space.study.objectives import objectives_of
from nas_space.study.shared_ledger import _GAVE_WAY, WORKER
from nas_space.study.stored import open_ledger
from tests.problems import Tiny, Various, worth

ELSEWHERE = "another-machine:17:4711/0"


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Three trials are done, and somebody elsewhere is at the fourth."""
    monkeypatch.setattr(signs, "SILENCE", 0.4)
    file = tmp_path / "search.db"
    ns.search(Various(), worth, trials=3, storage=file)
    trial = study(file).ask()
    trial.set_user_attr("worker", ELSEWHERE)
    trial.set_user_attr("architecture", Various().sample(seed=5))
    return file


def study(file):
    return optuna.load_study(study_name="search", storage=open_storage(file))


def drivers_of_one_study(folder, number):
    """The ledgers of some drivers, and an architecture with which one may begin."""
    space = Tiny()
    ledgers = [
        open_ledger(
            folder / "search.db", "search", space, objectives_of("value"), None,
            weights="none", keep_networks=0, resume=True, elsewhere=False,
        )
        for _ in range(number)
    ]  # fmt: skip
    found = nearest(space, space.sample(seed=0), words(0))
    assert found is not None
    return ledgers, found


def test_one_that_is_silent_is_dead_and_its_trial_is_done_again(store):
    begin = time.monotonic()
    result = ns.search(Various(), worth, trials=6, storage=store, resume=True)
    assert time.monotonic() - begin > 0.3
    assert [outcome.number for outcome in result.outcomes] == list(range(6))
    # The very architecture that was lost.
    assert result.outcomes[3].arch == Various().sample(seed=5)


def test_one_that_gives_signs_is_waited_for(store, monkeypatch):
    other = study(store)
    trial = optuna.trial.Trial(other, other.trials[3]._trial_id)
    clock, told = [0.0], []

    def waits():
        """Wait by a clock of the test's: in each pause, the other one gives a sign."""
        for beat in range(1, 9):
            trial.set_user_attr("alive", beat)
            clock[0] += 0.9 * signs.SILENCE
            yield 0.0
        told.append(other.tell(trial, 42.0))
        while True:
            yield 0.0

    monkeypatch.setattr(shared_ledger, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(driver, "pauses", waits)
    result = ns.search(Various(), worth, trials=6, storage=store, resume=True)
    assert told
    assert [outcome.number for outcome in result.outcomes] == list(range(6))
    assert result.outcomes[3].values == {"value": 42.0}


def test_time_may_run_out_while_others_are_waited_for(store, monkeypatch):
    monkeypatch.setattr(signs, "SILENCE", 60.0)
    result = ns.search(Various(), worth, trials=4, storage=store, resume=True, timeout=0.3)
    assert len(result.outcomes) == 3


def test_what_a_dead_one_tells_after_all_is_not_taken(store):
    other = study(store)
    ns.search(Various(), worth, trials=6, storage=store, resume=True)
    with pytest.raises(ValueError, match="FAIL"):
        other.tell(3, 42.0)


def test_signs_are_given_while_an_evaluation_lasts(tmp_path, monkeypatch):
    monkeypatch.setattr(signs, "BEAT", 0.05)
    file = tmp_path / "search.db"
    seen = []

    def slow(_network, _arch):
        # However long that takes where the machine is busy.
        while (beat := study(file).trials[-1].user_attrs.get("alive", 0)) < 2:
            time.sleep(0.05)
        seen.append(beat)
        return 1.0

    ns.search(Various(), slow, trials=2, storage=file)
    assert len(seen) == 2


def test_one_who_was_thought_dead_goes_on_with_another(tmp_path):
    file = tmp_path / "search.db"

    def declared_dead(_network, arch):
        current = study(file)
        running = [t for t in current.trials if t.state == optuna.trial.TrialState.RUNNING]
        if len(current.trials) == 2:
            current.tell(running[0].number, state=optuna.trial.TrialState.FAIL)
        return worth(None, arch)

    result = ns.search(Various(), declared_dead, trials=4, storage=file)
    assert [outcome.number for outcome in result.outcomes] == list(range(4))
    assert len(result.study.trials) == 5
    whole = ns.search(Various(), worth, trials=4)
    assert [o.arch for o in result.outcomes] == [o.arch for o in whole.outcomes]


def test_a_trial_that_is_none_of_the_search_is_left_alone(tmp_path):
    file = tmp_path / "search.db"
    ns.search(Various(), worth, trials=2, storage=file)
    study(file).ask()
    result = ns.search(Various(), worth, trials=4, storage=file, resume=True)
    assert [outcome.number for outcome in result.outcomes] == list(range(4))


def test_a_driver_that_dies_while_another_looks_on_is_counted_as_one_death(tmp_path):
    (one, other), found = drivers_of_one_study(tmp_path, 2)
    with one.open():
        one.begin(0, found)
        other.look()
        assert other.held == {0: 0}
    other.look()
    assert other.deaths == {0: 1}
    assert other.free == 0


def test_an_attempt_that_gives_way_to_one_that_has_ended_leaves_its_number_free(tmp_path):
    (one, other, third), found = drivers_of_one_study(tmp_path, 3)
    with one.open(), other.open():
        first = one.begin(0, found)
        assert first is not None
        second = other._write({WORKER: other.me}, 0, found)
        one.abandon(first, "interrupted")
        third.look()
        assert set(third.working) == {second.trial}
        other.abandon(second, _GAVE_WAY)
    third.look()
    assert not third.working
    assert third.free == 0
    assert third.to_repeat() == [0]
