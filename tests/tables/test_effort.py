"""Hard queries are answered exactly, or refused within an effort that is counted, not timed."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_space.errors import DecompositionError, UsageError
from nas_space.hub import ProxylessNAS
from nas_space.mutable import Categorical, MutableExpression, MutableList
from nas_space.profiler import macs, params
from nas_space.tables import (
    best,
    bounds,
    conditions,
    count,
    dominance,
    effort,
    grid,
    histograms,
    pareto,
    restrict,
    sample,
    solver,
    tabulate,
)
from nas_space.tables.dominance import TooManyRowsError
from nas_space.tables.effort import Meter, TooMuchWorkError
from tests.tables.brute import front
from tests.tables.spaces import unhurried

ME = MutableExpression
Numbers = Any


def lookup(labels: list[Any], numbers: Numbers) -> Any:
    """A sum of a number for each value of each label."""
    terms = [
        ME.switch_case(label, dict(enumerate(row)))
        for label, row in zip(labels, numbers.tolist(), strict=True)
    ]
    return ME.sum(terms)


def knapsack(rng: np.random.Generator, items: int, copies: int, span: int, kind: str) -> Numbers:
    """Costs, and values that are correlated with them, for up to so many copies of items.

    The kinds are those of Pisinger, "Where are the hard knapsack problems?" (2005).
    """
    costs = rng.integers(1, span, (items, copies)).cumsum(1)
    values = {
        "uncorrelated": lambda: rng.integers(1, span, (items, copies)).cumsum(1),
        "weakly": lambda: np.maximum(
            1, costs + rng.integers(-span // 10, span // 10 + 1, costs.shape)
        ),
        "strongly": lambda: costs + span // 10,
        "inversely": lambda: np.maximum(1, costs - span // 10),
        "subset sum": lambda: costs,
        "concave": lambda: np.sqrt(costs),
    }[kind]()
    zeros = np.zeros((items, 1), costs.dtype)
    return np.hstack([zeros, costs]), np.hstack([zeros, values])


KINDS = ["uncorrelated", "weakly", "strongly", "inversely", "subset sum", "concave"]


@pytest.mark.parametrize("first", [True, False], ids=["histograms", "dominance"])
@unhurried
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(KINDS),
    st.sampled_from([10, 10**4, 10**9]),
    st.integers(1, 2),
    st.sampled_from([1, 4, 30]),
)
def test_knapsacks_are_solved_as_by_going_through_all(
    first: bool, seed: int, kind: str, span: int, windows: int, k: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = [Categorical(range(3), label=f"x{i}") for i in range(6)]
    costs, values = knapsack(rng, 6, 2, span, kind)
    other = rng.permutation(costs)
    codes = np.array(list(product(range(3), repeat=6)))
    at = [array[np.arange(6), codes].sum(1) for array in (costs, other, values)]
    high = [int(np.quantile(cost, rng.uniform(0.2, 0.9))) for cost in at[:2]][:windows]
    inside = np.all([cost <= end for cost, end in zip(at, high, strict=False)], axis=0)
    conditions = [
        lookup(labels, array) <= end for array, end in zip((costs, other), high, strict=False)
    ]
    with pytest.MonkeyPatch.context() as patch:
        if not first:
            patch.setattr(solver, "_ROWS", -1)
            patch.setattr(solver, "_MOST_ROWS", -1)
        space = restrict(MutableList(labels), *conditions)
        found = best(space, lookup(labels, values), k, maximize=True)
        wanted = np.sort(at[2][inside])[::-1][:k]
        np.testing.assert_allclose([scored.value for scored in found], wanted, rtol=1e-12)
        assert len({tuple(scored.arch.values()) for scored in found}) == len(wanted)
        # What was found before does not count any more.
        tried = [scored.arch for scored in found[: k // 2]]
        rest = best(space, lookup(labels, values), k, maximize=True, exclude=tried)
        wanted = np.sort(at[2][inside])[::-1][k // 2 :][:k]
        np.testing.assert_allclose([scored.value for scored in rest], wanted, rtol=1e-12)
        assert not [scored for scored in rest if scored.arch in tried]
    points = [(-v, c) for v, c in zip(at[2][inside].tolist(), at[0][inside].tolist(), strict=True)]
    if kind != "concave":
        value, cost = lookup(labels, values), lookup(labels, costs)
        trade_offs = pareto(space, value, cost, maximize=(True, False))
        assert {(-point.first, point.second) for point in trade_offs} == front(points)


def test_when_all_are_excluded_none_is_left() -> None:
    labels = [Categorical([True, False, 2.5], label="a"), Categorical([[1], [2]], label="b")]
    space = MutableList(labels)
    cost = (labels[0] == 2.5) * 1
    everything = list(grid(space))
    assert best(space, cost, 9, exclude=everything) == []
    others = [arch for arch in everything if not (arch["a"] is True and arch["b"] == [1])]
    (left,) = best(space, cost, 9, exclude=others)
    assert left.arch["a"] is True
    assert left.arch["b"] == [1]


def hard(kind: str, span: int, windows: int = 1) -> tuple[Any, Any, Any]:
    """A space within tight windows on widely varied costs, a value, and a cost."""
    rng = np.random.default_rng(7)
    labels = [Categorical(range(7), label=f"x{i}") for i in range(40)]
    costs, values = knapsack(rng, 40, 6, span, kind)
    arrays = [costs, rng.permutation(costs)][:windows]
    conditions = [
        lookup(labels, array) <= int(array[:, -1].sum()) // (4 - len(arrays)) for array in arrays
    ]
    value, cost = lookup(labels, values), lookup(labels, rng.permutation(costs))
    return restrict(MutableList(labels), *conditions), value, cost


FEW = {("uncorrelated", 10**9, 1), ("subset sum", 10**9, 1), ("strongly", 10**3, 2)}


@pytest.mark.parametrize(
    ("kind", "span", "windows"),
    [
        pytest.param(*case, marks=[] if case in FEW else pytest.mark.slow)
        for case in product(KINDS, (10**3, 10**9), (1, 2))
    ],
)
def test_queries_on_hard_instances_return_or_are_refused(
    kind: str, span: int, windows: int
) -> None:
    space, value, cost = hard(kind, span, windows)
    refusals: list[str] = []
    for query in (
        lambda: best(space, value, 2, maximize=True),
        lambda: bounds(space, cost),
        lambda: count(space),
        lambda: pareto(space, value, cost, maximize=(True, False)),
        lambda: next(grid(space)),
        lambda: sample(space, 3, seed=0),
    ):
        try:
            with effort(0.1):
                query()
        except DecompositionError as error:
            refusals.append(str(error))
    assert len(refusals) < 6
    assert all("effort" in text and "sums" in text for text in refusals)


@settings(unhurried, max_examples=20)
@given(
    st.booleans(),
    st.integers(0, 2**32 - 1),
    st.sampled_from([10, 10**4, 10**9]),
    st.sampled_from([1, 4]),
    st.sampled_from([1, 3]),
    st.sampled_from([0, 30]),
)
def test_a_bounded_cost_itself_is_best_at_its_bound_and_equal_ones_stay_as_they_are(
    maximize: bool, seed: int, span: int, k: int, factor: int, excluded: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = [Categorical(range(3), label=f"x{i}") for i in range(6)]
    costs = 4 * rng.integers(0, span, (6, 3)) + 1
    at = costs[np.arange(6), np.array(list(product(range(3), repeat=6)))].sum(1)
    end = int(np.quantile(at, rng.uniform(0.2, 0.8)))
    inside = np.sort(at[at <= end])[::-1] if maximize else np.sort(at[at >= end])
    cost = lookup(labels, costs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solver, "_ROWS", -1)
        patch.setattr(solver, "_MOST_ROWS", -1)
        patch.setattr(conditions, "_FEW", 0)
        space = restrict(MutableList(labels), cost <= end if maximize else cost >= end)
        tried = list(grid(space))[:excluded]
        rest = inside.tolist()
        for arch in tried:
            rest.remove(cost.evaluate(arch))
        query = partial(best, space, cost * factor + 5, k, maximize=maximize, exclude=tried)
        found = query()
        assert [scored.value for scored in found] == [c * factor + 5 for c in rest[:k]]
        with pytest.MonkeyPatch.context() as longer:
            longer.setattr(solver.Solver, "_at_the_end", lambda *_: None)
            assert query() == found
        # Where too many combinations are worth keeping, what is at the end is found all the same.
        patch.setattr(dominance, "_MOST", 0)
        patch.setattr(histograms, "CHUNK", 1)
        try:
            alone = query()
        except DecompositionError:
            inner = at.min() < rest[0] < at.max() and abs(rest[0] - end) < 4
            assert tried or rest[:k] != [rest[0]] * k or not inner
        else:
            assert [scored.value for scored in alone] == [c * factor + 5 for c in rest[:k]]
            assert len({tuple(scored.arch.values()) for scored in alone}) == len(alone)


def test_a_subset_sum_that_is_too_long_to_list_is_found_by_drawn_lists() -> None:
    space, value, _ = hard("subset sum", 10**6)
    (condition,) = space.conditions
    with effort(2):
        found = best(space, value * 2, 3, maximize=True)
    assert len({tuple(scored.arch.values()) for scored in found}) == 3
    assert {scored.value for scored in found} == {2 * condition.expression.arguments[1]}


def test_the_k_best_are_not_looked_for_beyond_what_is_known_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[float, int]] = []
    within = dominance.DominanceSearch.within

    def spied(self: Any, most: float, wanted: int = 1) -> Any:
        asked.append((most, wanted))
        return within(self, most, wanted)

    monkeypatch.setattr(dominance.DominanceSearch, "within", spied)
    space, value, _ = hard("weakly", 10**9)
    found = best(space, value, 2, maximize=True)
    assert [wanted for _, wanted in asked].index(2) == len(asked) - 1
    last = found[-1].value - tabulate(value).constant
    assert -last <= asked[-1][0] < asked[-2][0]


@pytest.mark.parametrize(("kind", "k"), [("inversely", 2), ("subset sum", 20), ("concave", 20)])
def test_combinations_that_are_known_bound_where_better_ones_are_looked_for(
    kind: str, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    within, known, beyond = dominance.DominanceSearch.within, [np.inf], []

    def spied(self: Any, most: float, wanted: int = 1) -> Any:
        beyond.append(most - known[0])
        found = within(self, most, wanted)
        objective = np.sort(found[-1].costs[0])
        if len(objective) >= k:
            known[0] = min(known[0], objective[k - 1])
        return found

    monkeypatch.setattr(dominance.DominanceSearch, "within", spied)
    monkeypatch.setattr(solver, "_ROWS", -1)
    monkeypatch.setattr(solver, "_MOST_ROWS", -1)
    labels = [Categorical(range(3), label=f"x{i}") for i in range(8)]
    costs, values = knapsack(np.random.default_rng(0), 8, 2, 10**6, kind)
    limit = int(costs[:, -1].sum()) // 2
    best(
        restrict(MutableList(labels), lookup(labels, costs) <= limit),
        lookup(labels, values),
        k,
        maximize=True,
    )
    assert len(beyond) > 1
    assert max(beyond) <= 1e-6 * abs(known[0])


def test_a_join_of_more_pairs_than_the_effort_left_allows_is_not_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    searches: list[Any] = []
    within = dominance.DominanceSearch.within

    def spied(self: Any, most: float, wanted: int = 1) -> Any:
        searches.append(self)
        return within(self, most, wanted)

    monkeypatch.setattr(dominance.DominanceSearch, "within", spied)
    monkeypatch.setattr(solver, "_ROWS", -1)
    monkeypatch.setattr(solver, "_MOST_ROWS", -1)
    labels = [Categorical(range(100), label=f"x{i}") for i in range(3)]
    costs, values = knapsack(np.random.default_rng(0), 3, 99, 10**9, "weakly")
    space = restrict(MutableList(labels), lookup(labels, costs) <= int(costs.max()))
    best(space, lookup(labels, values), maximize=True)
    search = searches[0]
    search.meter = Meter(3e5)
    with pytest.raises(TooManyRowsError):
        within(search, search.bound + 1e15)
    assert search.meter.left > 0


def test_two_budgets_on_a_space_of_networks_return_or_are_refused() -> None:
    space = ProxylessNAS(num_labels=10, width_mult=0.25)
    costs = [macs(space, (3, 32, 32)), params(space)]
    low, high = zip(*[bounds(space, cost)[:2] for cost in costs], strict=True)
    rng = np.random.default_rng(0)
    labels: dict[str, Any] = dict(space.simplify())
    score = (
        ME.sum(
            ME.condition(labels[name] == value, float(rng.normal()), 0.0)
            for name, value in (("s2_depth", 2), ("s3_depth", 3), ("s4_depth", 1), ("s5_depth", 4))
        )
        - costs[0] * 1e-7
    )
    small = space.where(*(c <= (2 * a + b) // 3 for c, a, b in zip(costs, low, high, strict=True)))
    (found,) = small.best(score, maximize=True)
    drawn = small.sample(500, seed=0)
    assert found.value >= score.evaluate(drawn).max()
    assert found.value == pytest.approx(score.evaluate(found.arch))
    with effort(0.05), pytest.raises(DecompositionError, match=r"counting .* sums .* effort"):
        small.count()
    with (
        effort(0.05),
        pytest.raises(DecompositionError, match=r"front .* effort of more than"),
    ):
        small.pareto(score, costs[1], maximize=(True, False))


@pytest.mark.parametrize("bounded", [False, True])
def test_the_best_is_refused_by_name_whatever_way_it_is_looked_for(bounded: bool) -> None:
    width, depth = Categorical([1, 2, 3], label="width"), Categorical([1, 2], label="depth")
    space = MutableList([width, depth])
    found = restrict(space, width * 3 + depth <= 9) if bounded else space
    assert best(found, width + depth)[0].value == 2
    with effort(1e-12), pytest.raises(DecompositionError, match="finding the best"):
        best(found, width + depth)


def test_an_effort_is_that_of_its_context_and_positive() -> None:
    with effort(3):
        with effort(1e-9), pytest.raises(TooMuchWorkError):
            Meter().spend(2)
        Meter().spend(2e9)
        with pytest.raises(TooMuchWorkError):
            Meter().spend(4e9)
    for wrong in (0, -1, float("nan")):
        with pytest.raises(UsageError, match="positive"), effort(wrong):
            pass
