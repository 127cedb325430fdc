"""The tables that one-shot strategies are compared with, and the statistics of the comparison."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import oneshot_problems
from benchmarks.oneshot_problems import PROBLEMS, Signs, alone, archs_of, together
from benchmarks.oneshot_quality import agreement, holm, random_searches


def test_p_values_are_adjusted_by_holm():
    assert holm([0.01, 0.04, 0.03, 0.02]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.9, 0.001]) == pytest.approx([0.9, 0.002])


def test_counting_finds_the_best_of_the_digits_but_tells_nothing_of_networks_of_one_size():
    digits, two = PROBLEMS["digits"], PROBLEMS["two"]
    assert len(two.archs) == 80
    assert set(two.costs) == {two.costs[0]}
    assert agreement(two, [two.costs]) == (0.0, 0.0)
    assert digits.place[digits.costs.argmax()] == 1
    assert agreement(digits, [digits.costs])[0] == pytest.approx(0.67, abs=0.01)


def test_more_networks_tried_at_random_find_better_ones_and_all_find_what_one_training_does():
    two = PROBLEMS["two"]
    few, many, every = (two.place[random_searches(two, n)].mean() for n in (2, 10, 80))
    assert few > 2 * many > 2 * every
    hits = np.mean(two.place[random_searches(two, 80)] <= two.good)
    # The truth there is of two of three trainings, here of all.
    assert hits == pytest.approx(two.second_training(), abs=0.15)


def test_trainings_that_are_called_once_for_all_are_those_one_by_one(monkeypatch):
    monkeypatch.setattr(oneshot_problems, "ALONE", 5)
    problem, arch = PROBLEMS["signs"], archs_of(Signs)[17]
    found = together(problem, arch, [0, 1])
    single = [alone(problem, arch, seed) for seed in (0, 1)]
    for split in ("validation", "test"):
        assert found[split] == pytest.approx([one[split] for one in single], abs=0.005)
