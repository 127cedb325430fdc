"""How architectures are ranked by shared weights: by evaluations, main effects first."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from nas_space.errors import DecompositionError, UsageError
from nas_space.mutable import Categorical, MutableExpression, MutableList, Numerical, Sample
from nas_space.strategy.oneshot import (
    ENAS,
    MainEffects,
    Penalty,
    Proxyless,
    RandomOneShot,
    Ranking,
    Run,
    ranking,
)
from nas_space.tables import restrict
from tests.oneshot.planted import BEST, Planted, task

LABELS, VALUES = 5, 3


def listed(labels: int = LABELS) -> tuple[Any, list[Sample]]:
    """A space of independent choices, and all of its architectures."""
    names = [f"op{place}" for place in range(labels)]
    space = MutableList([Categorical(range(VALUES), label=name) for name in names])
    codes = product(range(VALUES), repeat=labels)
    return space, [dict(zip(names, each, strict=True)) for each in codes]


def worths(seed: int, labels: int = LABELS) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=(labels, VALUES))


def additive(worth: Any, arch: Sample) -> float:
    return float(sum(worth[place, code] for place, code in enumerate(arch.values())))


def fake_run(space: Any, fitness: Any) -> Any:
    """What a ranking needs of a run; notes what it evaluated."""
    seen: list[Sample] = []

    def evaluated(arch: Sample, _: int) -> float:
        seen.append(arch)
        return float(fitness(arch))

    network = SimpleNamespace(canonical=dict, arch_id=lambda arch: repr(sorted(arch.items())))
    return SimpleNamespace(space=space, network=network, fitness=evaluated, seen=seen)


@given(seed=st.integers(0, 50))
def test_main_effects_see_through_what_combinations_add(seed):
    space, archs = listed()
    noise = np.random.default_rng(seed + 1000).normal(size=len(archs))
    truth = [additive(worths(seed), arch) for arch in archs]
    values = [t + 2 * n for t, n in zip(truth, noise, strict=True)]
    found = MainEffects(space, archs, values).discounted(0.3)
    assert kendalltau(found, truth).statistic > kendalltau(values, truth).statistic + 0.1


def test_with_all_interactions_values_are_as_they_were_evaluated():
    space, archs = listed(3)
    values = list(np.random.default_rng(0).normal(size=len(archs)))
    assert MainEffects(space, archs, values).discounted(1.0) == values


@given(
    seed=st.integers(0, 20),
    share=st.sampled_from([0.0, 0.3, 0.7]),
    scale=st.sampled_from([1e-3, 1.0, 50.0]),
    shift=st.sampled_from([-100.0, 0.0, 3.0]),
)
def test_the_unit_of_the_metric_does_not_matter(seed, share, scale, shift):
    space, archs = listed(3)
    values = np.random.default_rng(seed).normal(size=len(archs))
    one = np.array(MainEffects(space, archs, list(values)).discounted(share))
    other = MainEffects(space, archs, list(scale * values + shift)).discounted(share)
    np.testing.assert_allclose(other, scale * one + shift, atol=1e-6 * (scale + abs(shift)))


@pytest.mark.parametrize("failure", [float("nan"), -1e6])
def test_what_failed_comes_last_and_spoils_no_main_effect(failure):
    space, archs = listed(3)
    worth = worths(0, 3)
    values = [additive(worth, arch) for arch in archs]
    sound = MainEffects(space, archs[1:], values[1:]).discounted(0.0)
    found = MainEffects(space, archs, [failure, *values[1:]]).discounted(0.3)
    assert min(range(len(archs)), key=lambda place: found[place]) == 0
    broken = MainEffects(space, archs, [failure, *values[1:]]).discounted(0.0)[1:]
    assert kendalltau(broken, sound).statistic > 0.6


def test_a_poor_value_counts_in_full_up_to_four_deviations_below_the_median():
    space, archs = listed()
    values = np.random.default_rng(0).normal(size=len(archs))
    values[0] = -1e6
    middle = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - middle))

    def effects(deviations: float) -> list[float]:
        values[0] = middle - deviations * spread
        return MainEffects(space, archs, list(values)).discounted(0.0)

    assert effects(4.01) == pytest.approx(effects(9.0))
    assert effects(3.9) != pytest.approx(effects(3.5))


@given(seed=st.integers(0, 20))
def test_the_best_by_main_effects_is_the_best_of_all_that_are_left(seed):
    space, archs = listed()
    ops = space.simplify().values()
    small = restrict(space, sum(MutableExpression.to_int(op) for op in ops) == 4)
    inside = [arch for arch in archs if sum(arch.values()) == 4]
    known = [inside[place] for place in np.random.default_rng(seed).permutation(len(inside))[:20]]
    worth = worths(seed)
    effects = MainEffects(small, known, [additive(worth, arch) for arch in known])
    assert effects.encoding is not None
    fitted = {
        repr(arch): float(effects.encoding.row(arch) @ effects.weights[:-1]) for arch in inside
    }
    found = effects.best(3)
    others = sorted((fitted[repr(arch)] for arch in inside if arch not in known), reverse=True)
    assert [fitted[repr(arch)] for arch in found] == pytest.approx(others[:3])
    assert not any(arch in known for arch in found)


def test_finds_the_best_of_many_by_a_few_evaluations():
    space, archs = listed(7)
    worth = worths(3, 7)
    run = fake_run(space, lambda arch: additive(worth, arch))

    def propose(_: int) -> Iterable[Sample]:
        return (archs[place] for place in np.random.default_rng(0).permutation(len(archs)))

    found = Ranking(48, 1, 0.3).rank(run, 1, propose)
    better = [arch for arch in archs if additive(worth, arch) > additive(worth, found[0])]
    assert len(better) <= 2
    assert len(run.seen) == len(found) == 48
    assert len({repr(arch) for arch in run.seen}) == 48


def test_ranks_as_many_as_asked_for_and_all_if_there_are_fewer():
    space, archs = listed(3)
    run = fake_run(space, lambda arch: additive(worths(1, 3), arch))
    assert len(Ranking(4, 1, 0.3).rank(run, 20, lambda _: iter(archs))) == 20
    assert len(Ranking(99, 1, 0.3).rank(run, 1, lambda _: iter(archs))) == len(archs)


def test_what_is_not_allowed_is_never_evaluated():
    space, archs = listed(4)

    def allowed(arch: Sample) -> bool:
        return bool(arch["op0"] != 0)

    run = fake_run(space, lambda arch: additive(worths(2, 4), arch) + 9 * (arch["op0"] == 0))
    proposals = [arch for arch in archs if allowed(arch)]
    Ranking(30, 1, 0.3).rank(run, 1, lambda _: iter(proposals), allowed=allowed)
    assert run.seen
    assert all(allowed(arch) for arch in run.seen)


def test_a_penalty_counts_beside_the_metric():
    space, archs = listed(3)
    first = space.simplify()["op0"]
    price = MutableExpression.switch_case(first, {0: 100, 1: 10, 2: 10})
    run = fake_run(space, lambda arch: 1.0 if arch["op0"] == 0 else 0.9)
    over = Penalty(price, 20, scale=1.0, nonlinear="positive")
    assert Ranking(27, 1, 0.3).rank(run, 1, lambda _: archs)[0]["op0"] == 0
    assert Ranking(27, 1, 0.3).rank(run, 1, lambda _: archs, penalty=over)[0]["op0"] != 0


def test_what_a_policy_has_not_learned_evaluations_tell():
    """A policy that has hardly moved says nothing; the weights that it trained do."""
    torch.manual_seed(0)
    strategy = Proxyless(form="reinforce", arc_learning_rate=1e-9, candidates=12)
    run = Run(strategy, Planted(), task(), steps=150)
    while not run.done:
        run.advance()
    assert run.best() == BEST


@pytest.mark.parametrize("make", [RandomOneShot, ENAS, Proxyless])
@pytest.mark.parametrize(
    ("argument", "value"),
    [("candidates", 0), ("calibration_batches", 0), ("interactions", 1.5), ("interactions", -0.1)],
)
def test_arguments_out_of_range_are_refused_by_name(make, argument, value):
    with pytest.raises(UsageError, match=argument):
        make(**{argument: value})


def test_where_tables_give_up_all_candidates_are_proposed(monkeypatch):
    def refused(*_: Any, **__: Any) -> None:
        raise DecompositionError("too many sums to tell apart")

    monkeypatch.setattr(ranking, "best", refused)
    space, archs = listed(4)
    run = fake_run(space, lambda arch: additive(worths(5, 4), arch))
    found = Ranking(20, 1, 0.3).rank(run, 1, lambda _: iter(archs))
    assert run.seen == archs[:20]
    assert found[0] == max(archs[:20], key=lambda arch: additive(worths(5, 4), arch))


def test_a_continuous_label_gets_its_best_value_too():
    space: Any = MutableList(
        [Numerical(0.0, 1.0, label="rate"), Categorical([0, 1, 2], label="op")]
    )
    run = fake_run(space, lambda arch: arch["op"] - 4 * (arch["rate"] - 0.9) ** 2)
    draws = np.random.default_rng(0).random((99, 2))
    proposals = [{"rate": float(rate), "op": int(3 * op)} for rate, op in draws]
    best = Ranking(24, 1, 0.3).rank(run, 1, lambda _: iter(proposals))[0]
    assert best["op"] == 2
    assert best["rate"] == pytest.approx(0.9, abs=0.15)
    assert len(run.seen) == 24
