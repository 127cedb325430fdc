"""Timing in turns: the order of readings, and when they are enough."""

from __future__ import annotations

import itertools
import os
import warnings
from typing import Any

import numpy as np
import pytest

from nas_space.errors import UsageError
from nas_space.runtimes import time_in_turns
from nas_space.runtimes.alternating import on_cpu, rank_correlation


class Clock:
    """Reads made times: those of each callable in turn, one after the other."""

    def __init__(self, **times: list[float]) -> None:
        self.times, self.read = times, list[str]()

    def __call__(self, run: Any, times: int) -> float:
        name = run()
        done = self.read.count(name)
        self.read.append(name)
        return self.times[name][done % len(self.times[name])]

    @property
    def runs(self) -> list[Any]:
        return [lambda name=name: name for name in self.times]


STEADY = {name: [number / 100] for number, name in enumerate("abcdef", start=1)}


def test_callables_are_read_in_turns():
    clock = Clock(**STEADY)
    time_in_turns(clock.runs, turns=3, warmup=0, read=clock)
    assert "".join(clock.read) == "abcdef" * 4  # once before, to see how long they take


def test_all_run_equally_often_in_a_turn():
    asked = set[int]()

    def read(run: Any, times: int) -> float:
        asked.add(times)
        return float(run())

    time_in_turns([lambda: 1e-4, lambda: 1e-3, lambda: 5e-4], turns=2, read=read)
    assert asked == {3, 4}


def test_no_run_of_a_turn_stands_alone_after_those_of_others():
    asked = set[int]()

    def read(run: Any, times: int) -> float:
        asked.add(times)
        return float(run())

    time_in_turns([lambda: 1.0, lambda: 2.0], turns=2, read=read)
    assert asked == {3}


def test_readings_end_once_both_halves_agree():
    found = time_in_turns(Clock(**STEADY).runs, turns=4, read=Clock(**STEADY))
    assert found.agrees
    assert found.readings.shape == (4, 6)
    assert found.agreement == 1.0
    assert np.allclose(found.median, [10, 20, 30, 40, 50, 60])
    assert np.allclose(found.minimum, found.milliseconds)
    assert np.allclose(found.median, found.milliseconds)


def test_a_slow_stretch_hits_all_alike_and_changes_no_order():
    slow = {name: [t[0], t[0], 9 * t[0], 9 * t[0]] for name, t in STEADY.items()}
    found = time_in_turns(Clock(**slow).runs, turns=8, warmup=0, read=Clock(**slow))
    assert found.agrees
    assert list(np.argsort(found.milliseconds)) == list(range(6))
    assert np.allclose(found.minimum, [10, 20, 30, 40, 50, 60])


def test_a_machine_that_is_too_noisy_is_told():
    draws = np.random.default_rng(0)
    noise = {name: list(draws.uniform(0.01, 0.02, 1000)) for name in "abcdef"}
    clock = Clock(**noise)
    with pytest.warns(UserWarning, match="too noisy: after 20 turns two halves .* of 6 programs"):
        found = time_in_turns(clock.runs, turns=10, most=20, warmup=0, read=clock)
    assert not found.agrees
    assert len(found.readings) == 20


def test_a_quick_figure_does_not_wait_for_halves_that_agree():
    draws = np.random.default_rng(0)
    noise = {name: list(draws.uniform(0.01, 0.02, 1000)) for name in "abcdef"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clock = Clock(**noise)
        found = time_in_turns(clock.runs, turns=5, most=100, warmup=0, read=clock, seconds=0)
        assert (len(found.readings), found.agrees) == (5, False)
        clock = Clock(**noise)
        found = time_in_turns(clock.runs, turns=5, most=9, warmup=0, read=clock, seconds=60)
        assert len(found.readings) == 9


def test_times_that_are_the_same_need_no_ranks():
    same = {name: [0.01 + 1e-6 * k for k in range(7)] for name in "abcdef"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert time_in_turns(Clock(**same).runs, turns=7, read=Clock(**same)).agrees
        assert time_in_turns([lambda: "a"], turns=2, read=Clock(a=[0.01])).agrees


def test_few_callables_have_to_take_the_same_in_both_halves():
    unsteady = {"a": [0.01, 0.02], "b": [0.03, 0.06]}  # ranks agree, times do not
    with pytest.warns(UserWarning, match="too noisy"):
        time_in_turns(Clock(**unsteady).runs, turns=4, most=8, warmup=0, read=Clock(**unsteady))


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no processors to be bound to")
@pytest.mark.parametrize("pinned", [True, False])
def test_the_thread_is_on_one_processor_meanwhile(pinned):
    before = os.sched_getaffinity(0)
    seen = set[int]()
    time_in_turns([lambda: seen.add(len(os.sched_getaffinity(0)))], turns=1, pinned=pinned)
    assert seen == {1 if pinned else len(before)}
    assert os.sched_getaffinity(0) == before


def test_the_processor_is_given_back_after_a_failure():
    before = os.sched_getaffinity(0)
    with pytest.raises(ZeroDivisionError):
        time_in_turns([lambda: 1 / 0])
    assert os.sched_getaffinity(0) == before


def test_the_fastest_run_of_a_turn_counts():
    now, steps = [0.0], iter([1.0, 3.0, 2.0, 5.0, 4.0] * 10)

    def run() -> None:
        now[0] += next(steps)

    assert on_cpu(run, 5, lambda: now[0]) == 1.0


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no processors to be bound to")
def test_on_one_thread_waiting_for_a_processor_does_not_count(monkeypatch):
    clocks = {"process_time": itertools.count(0.0, 1.0), "perf_counter": itertools.count(0.0, 9.0)}
    for name, ticks in clocks.items():
        monkeypatch.setattr(
            f"nas_space.runtimes.alternating.time.{name}", lambda ticks=ticks: next(ticks)
        )
    alone, several = (
        time_in_turns([lambda: None], turns=1, most=1, pinned=pinned) for pinned in (True, False)
    )
    assert alone.readings.tolist() == [[1.0]]
    assert several.readings.tolist() == [[9.0]]


@pytest.mark.parametrize(
    "given", [{"turns": 0}, {"turns": 5, "most": 4}, {"warmup": -1}, {"agreement": 1.5}]
)
def test_numbers_that_make_no_sense(given):
    with pytest.raises(UsageError, match="1 turn or more"):
        time_in_turns([lambda: None], **given)
    with pytest.raises(UsageError, match="got 0 callables"):
        time_in_turns([])


def test_rank_correlation_is_spearmans():
    from scipy.stats import spearmanr

    draws = np.random.default_rng(1)
    one, other = draws.integers(0, 5, 30), draws.integers(0, 5, 30)  # with ties
    assert rank_correlation(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert rank_correlation([1, 1], [2, 2]) == 1.0
    assert rank_correlation([1, 1], [2, 3]) == 0.0
