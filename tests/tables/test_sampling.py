"""What is drawn has the distribution that it should have: chi-squared tests on small spaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from scipy import stats

from nas_space.mutable import (
    Categorical,
    ExpressionConstraint,
    MutableExpression,
    MutableList,
    Numerical,
    SampleBatch,
)
from nas_space.nn import ModelSpace, MutableLinear, Repeat
from nas_space.tables import Over, restrict, sample
from tests.tables.brute import architectures, key, probabilities
from tests.tables.limits import WAYS, limits
from tests.tables.restrictions import Restriction, restrictions
from tests.tables.spaces import unhurried

ME = MutableExpression
BOTH: tuple[Over, ...] = ("labels", "architectures")


def fit(batch: SampleBatch, expected: dict[str, float]) -> float:
    """How probable it is that a sample is at least this far from what is expected of it."""
    drawn = dict.fromkeys(expected, 0)
    for arch in batch:
        drawn[key(arch)] += 1  # what cannot be drawn is no key
    found = np.array([drawn[name] for name in expected])
    wanted = np.array(list(expected.values())) * len(batch)
    rare = wanted < 5
    assert not found[wanted == 0].any()
    if rare.any():  # too few for the approximation, so they count as one
        found, wanted = (np.append(part[~rare], part[rare].sum()) for part in (found, wanted))
    keep = wanted > 0
    return float(stats.chisquare(found[keep], wanted[keep]).pvalue) if keep.sum() > 1 else 1.0


def given_left(whole: Any, left: Any, over: Over) -> dict[str, float]:
    """The probability of each architecture that is left of a space."""
    share = probabilities(whole) if over == "labels" else dict.fromkeys(left, 1.0)
    total = sum(share[name] for name in left)
    return {name: share[name] / total for name in left} if total else {}


def nested() -> tuple[MutableList, Any]:
    """Labels under labels, some values more probable than others, and a cost."""
    depth = Categorical([1, 2, 3], label="depth")
    widths: list[Any] = [
        Numerical(1, 8, log_distributed=True, quantize=1, label=f"width{i}") for i in range(3)
    ]
    body = ME.switch_case(depth, {n: ME.sum(widths[:n]) for n in (1, 2, 3)})
    cost = ME.condition(Categorical(["conv", "none"], label="op") == "conv", body, 0)
    return MutableList([cost]), cost


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("over", BOTH)
def test_restricted_spaces_are_drawn_from_as_the_whole_is_given_the_conditions(
    over: Over, way: str
) -> None:
    space, cost = nested()
    everything = architectures(space)
    for low, high in ((0, 24), (0, 9), (7, 13), (20, 24)):
        left = [name for name, arch in everything.items() if low <= cost.evaluate(arch) <= high]
        with limits(way):
            small = restrict(space, cost >= low, cost <= high)
            batch = sample(small, 20_000, over=over, seed=low + high)
        assert fit(batch, given_left(space, left, over)) > 1e-3


@pytest.mark.parametrize("over", BOTH)
def test_whole_spaces_are_drawn_from_by_labels_or_by_architectures(over: Over) -> None:
    space, cost = nested()
    everything = architectures(space)
    assert fit(sample(space, 20_000, over=over, seed=1), given_left(space, everything, over)) > 1e-3
    bound = MutableList([space, ExpressionConstraint(cost <= 9, label="few")])
    left = architectures(bound)
    assert len(left) < len(everything)
    assert fit(sample(bound, 20_000, over=over, seed=2), given_left(space, left, over)) > 1e-3
    # And the test tells the two apart.
    other = BOTH[over == "labels"]
    assert (
        fit(sample(space, 20_000, over=over, seed=1), given_left(space, everything, other)) < 1e-9
    )


class Net(ModelSpace):
    """A space of networks whose labels are not always active."""

    def __init__(self) -> None:
        super().__init__()
        widths: list[Any] = [Categorical([4, 8, 16], label=f"width{i}") for i in range(3)]
        self.layers = Repeat(lambda i: MutableLinear(2, widths[i]), (1, 3), label="depth")
        self.depth = self.layers.depth_choice
        self.width = widths[0]


@pytest.mark.parametrize("over", BOTH)
def test_networks_are_drawn_so_under_declared_and_asked_conditions(over: Over) -> None:
    whole, space = Net(), Net()
    space.require(space.depth * space.width <= 24)
    left = architectures(space)
    assert 0 < len(left) < len(architectures(whole))
    assert fit(space.sample(20_000, over=over, seed=0), given_left(whole, left, over)) > 1e-3
    small = space.where(space.width >= 8)
    left = {name: arch for name, arch in left.items() if arch["width0"] >= 8}
    assert fit(small.sample(20_000, over=over, seed=0), given_left(whole, left, over)) > 1e-3


@unhurried
@given(restrictions())
def test_any_restriction_is_drawn_from_so(drawn: Restriction) -> None:
    for over in BOTH:
        expected = given_left(drawn.whole, drawn.left, over)
        if not expected:
            continue  # what is left is never drawn by the labels
        with limits(drawn.way):
            batch = sample(drawn.space(), 2000, over=over, seed=0)
        assert fit(batch, expected) > 1e-9  # so little that it happens in none of many runs


@given(restrictions())
@settings(unhurried, max_examples=15)
def test_the_labels_that_are_looked_up_as_active_are_those_that_evaluation_needs(
    drawn: Restriction,
) -> None:
    looked_up = sample(drawn.space(), 20, over="architectures", seed=0)
    walked = SampleBatch(looked_up.root, looked_up.codes, len(looked_up))
    assert list(looked_up.active) == list(walked.active)
    for label, mask in walked.active.items():
        assert (looked_up.active[label] == mask).all()
