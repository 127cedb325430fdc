"""Every strategy finds what is best by far, with and without a limit on what it costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from nas_space.strategy.oneshot import (
    DARTS,
    ENAS,
    GumbelDARTS,
    OneShot,
    Penalty,
    Proxyless,
    RandomOneShot,
    Run,
)
from tests.oneshot.planted import BEST, BEST_WITHIN, Planted, best_of, cost, task

FAST: dict[str, Any] = {"arc_learning_rate": 0.03, "warmup_epochs": 8}
SHARED: dict[str, Any] = {"candidates": 12}

ALL: dict[str, Callable[..., OneShot]] = {
    "random": lambda **_: RandomOneShot(**SHARED),
    "fair": lambda **_: RandomOneShot(paths="fair", **SHARED),
    "sandwich": lambda **_: RandomOneShot(paths="sandwich", **SHARED),
    "darts": lambda **more: DARTS(**FAST, **more),
    "darts, second order": lambda **more: DARTS(unrolled=True, **FAST, **more),
    "gumbel": lambda **more: GumbelDARTS(**FAST, **more),
    "gumbel, hard": lambda **more: GumbelDARTS(hard=True, **FAST, **more),
    "proxyless": lambda **more: Proxyless(**FAST, **more),
    "proxyless, reinforce": lambda **more: Proxyless(
        form="reinforce", **FAST | {"arc_learning_rate": 0.05}, **more
    ),
    "enas": lambda **more: ENAS(
        arc_learning_rate=0.003, warmup_epochs=8, batches_per_update=2, **SHARED, **more
    ),
}
BY_GRADIENT = [name for name in ALL if "darts" in name or "gumbel" in name or name == "proxyless"]
BY_REWARD = ["proxyless, reinforce", "enas"]


def found(name: str, seed: int, *, limit: str = "") -> bool:
    torch.manual_seed(seed)
    space: Any = Planted(elastic="darts" not in name)
    more: dict[str, Any] = {}
    where = space
    if limit == "where":
        where = space.where(cost(space) <= 20)
    elif limit:
        how: Any = limit
        # A reward that falls far below all others would drown them for long.
        scale = 0.2 if name in BY_REWARD and limit == "add" else 0.5
        over = Penalty(cost(space), 20, scale=scale, aggregate=how, nonlinear="positive")
        more["penalty"] = over
    run = Run(ALL[name](**more), where, task(seed), steps=300, seed=seed)
    while not run.done:
        run.advance()
    return run.best() == best_of(space, BEST_WITHIN if limit else BEST)


@pytest.mark.parametrize("name", ALL)
def test_finds_the_best(name):
    assert found(name, seed=0)


@pytest.mark.parametrize("name", BY_GRADIENT[::2] + BY_REWARD)
@pytest.mark.parametrize("limit", ["add", pytest.param("mul", marks=pytest.mark.slow)])
def test_finds_the_best_that_can_be_afforded(name, limit):
    assert found(name, seed=0, limit=limit)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ALL if name != "fair"])
def test_finds_the_best_within_a_restricted_space(name):
    assert found(name, seed=0, limit="where")


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_finds_the_best_in_nine_of_ten_seeds(name):
    assert sum(found(name, seed) for seed in range(10)) >= 9


@pytest.mark.slow
@pytest.mark.parametrize("name", [*BY_GRADIENT, *BY_REWARD])
def test_finds_the_best_that_can_be_afforded_in_nine_of_ten_seeds(name):
    assert sum(found(name, seed, limit="add") for seed in range(10)) >= 9
