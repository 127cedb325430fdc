"""What is kept of a history is what reading all of it anew gives."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nas_space.strategy.base import Evaluated
from nas_space.strategy.history_rows import FeatureRows, FitnessRows

trials = st.builds(
    Evaluated,
    st.integers(0, 9),
    st.fixed_dictionaries({"width": st.integers(0, 3)}),
    st.tuples(st.floats(-9, 9), st.floats(-9, 9)),
)

histories = st.lists(trials, min_size=1, max_size=10, unique_by=lambda one: one.number)
"""Of which one seldom goes on from another: other trials of the same numbers."""


@st.composite
def turns(draw: st.DrawFn) -> list[list[Evaluated]]:
    """The histories that a strategy is shown, one after the other."""
    found = [draw(histories)]
    for _ in range(draw(st.integers(1, 6))):
        history = list(found[-1])
        match draw(st.sampled_from(["go on", "insert", "drop", "another", "same"])):
            case "go on":
                history.append(draw(trials))
            case "insert":
                history.insert(draw(st.integers(0, len(history))), draw(trials))
            case "drop":
                history = history[draw(st.integers(0, len(history) - 1)) :]
            case "another":
                history = draw(histories)
        found.append(list({one.number: one for one in history}.values()))
    return found


@given(turns(), st.booleans())
def test_fitness_is_that_of_the_history(turns, growing):
    kept, shown = FitnessRows(), list[Evaluated]()
    for history in turns:
        if growing:  # in place, as a search does it
            shown[:] = history
        rows = kept.of(shown if growing else history)
        assert rows.tolist() == [list(one.fitness) for one in history]


@given(turns())
def test_features_are_those_of_the_architectures(turns):
    asked: list[Any] = []

    def features(archs):
        asked.extend(archs)
        return np.array([[arch["width"], arch["width"] ** 2] for arch in archs], np.float64)

    kept = FeatureRows(features)
    for history in turns:
        found = kept.of(history)
        assert found.tolist() == [[one.arch["width"], one.arch["width"] ** 2] for one in history]
        asked.clear()
        assert np.array_equal(kept.of(history[::-1]), found[::-1])
        assert not asked  # what is known is not worked out again


def test_objectives_of_another_search_may_be_more():
    kept = FitnessRows()
    assert kept.of([Evaluated(0, {}, (1.0,))]).shape == (1, 1)
    assert kept.of([Evaluated(0, {}, (1.0, 2.0)), Evaluated(1, {}, (3.0, 4.0))]).shape == (2, 2)
