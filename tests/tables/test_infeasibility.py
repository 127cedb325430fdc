"""What nothing meets is refused at once, with how far off it is."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, product
from typing import Any

import pytest
import scipy.stats

from nas_space.errors import DecompositionError, InfeasibleError
from nas_space.mutable import Categorical, ExpressionConstraint, MutableExpression, MutableList
from nas_space.tables import (
    best,
    bounds,
    conditions,
    effort,
    grid,
    restrict,
    sample,
    sampler,
    solver,
)

ME = MutableExpression
WIDTHS = [Categorical([8, 16, 24], label=f"w{i}") for i in range(4)]
SPACE = MutableList(WIDTHS)
COST: Any = ME.sum([a * b for a, b in pairwise(WIDTHS)])
LEAST, MOST = 192, 1728


def refused(*conditions: Any) -> InfeasibleError:
    with pytest.raises(InfeasibleError) as caught:
        restrict(SPACE, *conditions)
    return caught.value


@pytest.mark.parametrize(
    "conditions",
    [
        (COST <= 10,),
        (COST < LEAST,),
        (COST >= 1e9,),
        (COST > MOST,),
        (COST == 10,),
        (COST <= 10.5,),
        (ME.to_float(COST) <= 10,),
        ((COST <= 10) & (WIDTHS[0] == 8),),
        (WIDTHS[0] == 24, COST <= 10),
        (COST <= 10, WIDTHS[0] + WIDTHS[1] >= 16),
    ],
)
def test_a_condition_on_a_cost_is_refused_with_its_range(conditions: Any) -> None:
    error = refused(*conditions)
    assert f"the smallest is {LEAST}" in str(error)
    assert f"the largest {MOST}" in str(error)
    assert error.smallest == LEAST


def test_the_range_is_in_the_unit_of_the_condition() -> None:
    assert refused(COST / 1000 <= 0.01).smallest == LEAST / 1000
    assert refused(COST - WIDTHS[0] <= 10).smallest == bounds(SPACE, COST - WIDTHS[0]).minimum


def test_conditions_that_only_together_leave_nothing_are_all_named() -> None:
    error = refused(COST >= 201, COST <= 205)
    assert "at the same time" in str(error)
    assert error.smallest == LEAST
    error = refused(WIDTHS[0] == 24, COST <= 300)
    assert f"the smallest possible is 8 for w0, {LEAST} for" in str(error)
    assert error.smallest is None


def test_the_smallest_is_that_of_what_meets_the_other_conditions() -> None:
    widths = [Categorical([8, 16, 24], label=f"w{i}") for i in range(40)]
    cost: Any = ME.sum([a * b for a, b in pairwise(widths)])
    least = 24 * 8 * 39
    with pytest.raises(InfeasibleError, match=f"the smallest is {least}") as caught:
        restrict(MutableList(widths), *[w == 24 for w in widths[::2]], cost <= least - 1)
    assert caught.value.smallest == least
    with pytest.raises(InfeasibleError, match="at the same time: the smallest possible is"):
        restrict(MutableList(widths), cost >= least + 1, cost <= least + 2)


def test_what_is_no_comparison_is_named() -> None:
    error = refused((WIDTHS[0] == 5) | (WIDTHS[1] == 5))
    assert "no architecture has (w0 == 5) | (w1 == 5)" in str(error)
    assert error.smallest is None


def test_constraints_of_the_space_itself_are_named_whatever_is_asked() -> None:
    space = MutableList([*WIDTHS, ExpressionConstraint(COST <= 10, label="few")])
    for ask in (
        lambda: sample(space, over="architectures"),
        lambda: best(space, COST),
        lambda: restrict(space, COST <= 500),
    ):
        with pytest.raises(InfeasibleError, match=f"the smallest is {LEAST}"):
            ask()
    assert list(grid(space)) == []


def test_what_would_take_too_long_is_refused_with_what_to_do_instead(monkeypatch) -> None:
    value = ME.sum([a * 7 + (b == 8) * a for a, b in pairwise(WIDTHS)])
    monkeypatch.setattr(conditions, "_FEW", 0)
    space = restrict(SPACE, COST <= 1000)
    everything = (
        dict(zip(SPACE.symbols(), c, strict=True)) for c in product([8, 16, 24], repeat=4)
    )
    assert best(space, value, maximize=True)[0].value == max(
        value.evaluate(arch) for arch in everything if COST.evaluate(arch) <= 1000
    )
    advice = r"more than 1e-06.* sums .* effort of .*tables\.effort.*tables\.rounded"
    monkeypatch.setattr(solver, "_ROWS", 0)
    with (
        effort(1e-6),
        pytest.raises(DecompositionError, match=rf"best within .* <= 1000.*{advice}"),
    ):
        best(space, value, maximize=True)


def test_budgets_too_varied_to_prove_a_share_are_met_by_drawing(monkeypatch) -> None:
    # Costs are told apart so coarsely that no sum is known to be within both budgets.
    for module, name, number in (
        (conditions, "_FEW", 0),
        (sampler, "_ROWS", 0),
        (sampler, "_FINE", 1),
    ):
        monkeypatch.setattr(module, name, number)
    other = ME.sum([(a == 8) * 5 + b for a, b in pairwise(WIDTHS)])
    space = restrict(SPACE, COST <= 1000, other <= 60)
    batch = sample(space, 2000, over="architectures", seed=0)
    found = Counter(tuple(arch.values()) for arch in batch)
    wanted = {
        codes
        for codes in product(WIDTHS[0].values, repeat=4)
        if COST.evaluate(codes) <= 1000 and other.evaluate(codes) <= 60
    }
    assert found.keys() == wanted
    assert scipy.stats.chisquare(list(found.values())).pvalue > 1e-4
    # The share that counts as enough is out of reach now.
    monkeypatch.setattr(sampler, "_RATE", 1.0)
    with pytest.raises(DecompositionError, match="drawn near them"):
        restrict(SPACE, COST <= 1001, other <= 61)
