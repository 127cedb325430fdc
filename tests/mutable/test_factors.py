"""Factors and piecewise functions: axes by name, and what is done with them entry by entry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nas_space.errors import DecompositionError, SampleValidationError
from nas_space.mutable import Categorical, MutableExpression
from nas_space.mutable.factor_sum import FactorSum
from nas_space.mutable.factors import (
    Auxiliary,
    Factor,
    TooLargeError,
    absorbed,
    distinct_rows,
    joint_scope,
    merged_scope,
    multilinear,
)
from nas_space.mutable.piecewise import NOWHERE, Piecewise, joint, merged

A, B, C = SYMBOLS = [
    Categorical(range(n), label=name) for name, n in (("a", 2), ("b", 3), ("c", 2))
]
ORDERS = st.permutations(SYMBOLS)
SCOPES = ORDERS.flatmap(lambda order: st.integers(0, 3).map(lambda n: tuple(order[:n])))


def of_scope(scope: Any) -> st.SearchStrategy[Factor]:
    shape = tuple(symbol.size for symbol in scope)
    arrays = hnp.arrays(np.int64, shape, elements=st.integers(0, 3))
    return arrays.map(lambda values: Factor(scope, values))


FACTORS = SCOPES.flatmap(of_scope)


def every() -> list[dict[Any, int]]:
    return [{A: a, B: b, C: c} for a in range(2) for b in range(3) for c in range(2)]


def at(factor: Factor, codes: dict[Any, int]) -> int:
    return int(factor.values[tuple(codes[symbol] for symbol in factor.scope)])


def names(scope: Any) -> list[str]:
    return [symbol.name for symbol in scope]


# -- factors ------------------------------------------------------------------------------------


@given(FACTORS, FACTORS)
def test_operations_are_entry_by_entry_whatever_the_order_of_axes(one, other):
    for codes in every():
        x, y = at(one, codes), at(other, codes)
        assert at(one + other, codes) == x + y
        assert at(one * other, codes) == x * y
        assert at(one.maximum(other), codes) == max(x, y)
        assert at(one.where(other), codes) == (x if y else 0)
        truth = Factor(one.scope, one.values > 1), Factor(other.scope, other.values > 1)
        assert at(truth[0] & truth[1], codes) == (x > 1 and y > 1)
        assert at(truth[0] | ~truth[1], codes) == (x > 1 or not y > 1)


@given(FACTORS)
def test_a_reduced_factor_is_the_same_over_the_variables_that_matter(factor):
    small = factor.reduced()
    assert all(at(small, codes) == at(factor, codes) for codes in every())
    for axis, symbol in enumerate(factor.scope):
        matters = (factor.values != factor.values.take([0], axis)).any()
        assert (symbol in set(small.scope)) == matters


@given(FACTORS, SCOPES)
def test_eliminating_reduces_and_knowing_cuts(factor, gone):
    left = factor.eliminated(gone, np.maximum)
    for codes in every():
        same = [c for c in every() if all(c[s] == codes[s] for s in left.scope)]
        assert at(left, codes) == max(at(factor, c) for c in same)
        cut = factor.given({symbol: codes[symbol] for symbol in gone})
        assert not set(cut.scope) & set(gone)
        assert at(cut, codes) == at(factor, codes)


@given(st.lists(FACTORS, max_size=4))
def test_absorbing_keeps_the_sum(terms):
    fewer = absorbed(terms)
    for codes in every():
        assert sum(at(t, codes) for t in fewer) == sum(at(t, codes) for t in terms)
    for term in fewer:
        others = [set(other.scope) for other in fewer if other is not term]
        assert not term.scope or not any(set(term.scope) <= other for other in others)


@given(st.lists(st.lists(st.integers(0, 2), unique=True).map(sorted), max_size=4))
def test_a_merged_scope_agrees_with_all_scopes(places):
    scopes = [tuple(SYMBOLS[place] for place in each) for each in places]
    result = merged_scope(*scopes)
    assert sorted(names(result)) == sorted({s.name for scope in scopes for s in scope})
    order = {symbol: place for place, symbol in enumerate(result)}
    for scope in scopes:
        assert [order[s] for s in scope] == sorted(order[s] for s in scope)


def test_scopes_that_contradict_each_other_still_give_one():
    assert sorted(names(merged_scope((A, B), (B, A), (C,)))) == ["a", "b", "c"]
    assert names(joint_scope((B, A), (A, C))) == ["b", "a", "c"]


def test_what_would_be_too_large_is_refused_by_name():
    many = [Categorical(range(32), label=f"many{i}") for i in range(5)]
    for attempt in (lambda: joint_scope(many), lambda: Piecewise.of(sum(many[1:], many[0]))):
        with pytest.raises(DecompositionError, match=r"33554432 combinations.*many0.*many4"):
            attempt()
    error = TooLargeError(many)
    assert names(error.scope) == [f"many{i}" for i in range(5)]


def test_what_does_not_fit_into_64_bits_is_not_wrapped():
    large = Factor((A,), np.array([2**61, 2**61]))
    for operation in (Factor.__add__, Factor.__mul__):
        with pytest.raises(OverflowError):
            operation(large, large)


# -- piecewise functions --------------------------------------------------------------------------


def function(factor: Factor, values: Any = "wxyz") -> Piecewise:
    return Piecewise(factor, list(values))


def value(pieces: Piecewise, codes: dict[Any, int]) -> Any:
    return pieces.values[at(pieces.places, codes)]


@given(FACTORS)
def test_a_reduced_function_is_the_same_with_fewer_variables_and_values(factor):
    pieces = function(factor)
    small = pieces.reduced()
    assert set(small.scope) <= set(factor.scope)
    assert all(value(small, codes) == value(pieces, codes) for codes in every())
    assert len(small.values) == len(set(factor.values.flat))
    assert pieces.quantity(ord).values.tolist() == (factor.values + ord("w")).tolist()


def test_where_it_is_not_defined_makes_no_difference():
    places = np.array([[0, 1, NOWHERE], [NOWHERE, 1, 0]])
    small = function(Factor((A, B), places), ["x", "y", "never"]).reduced()
    assert names(small.scope) == ["b"]
    assert list(small.values) == ["x", "y"]


@given(st.lists(FACTORS, min_size=1, max_size=3), FACTORS)
def test_a_joint_function_is_every_combination_that_occurs(factors, condition):
    def possible(scope: Any) -> Any:
        outside = set(condition.scope) - set(scope)
        return (condition.eliminated(outside, np.logical_or)).over(scope) > 0

    parts = [function(factor).reduced() for factor in factors]
    together = joint(parts, possible)
    assert len(set(together.values)) == len(together.values)
    for codes in every():
        if at(condition, codes):
            for part, place in zip(parts, value(together, codes), strict=True):
                assert part.values[place] == value(part, codes)


@given(FACTORS, st.lists(FACTORS, min_size=4, max_size=4))
def test_a_merged_function_is_that_of_the_condition_that_holds(selector, factors):
    labels = [[f"{place}{i}" for i in range(4)] for place in range(4)]
    parts = [
        (Factor(selector.scope, selector.values == place), function(factor, labels[place]))
        for place, factor in enumerate(factors)
    ]
    together = merged(parts, key=str)
    for codes in every():
        place = at(selector, codes)
        assert value(together, codes) == f"{place}{at(factors[place], codes)}"


def test_the_values_of_an_expression():
    expression = A + B * 2
    pieces = Piecewise.of(expression)
    assert (names(pieces.scope), pieces.values) == (["a", "b"], [0, 2, 4, 1, 3, 5])
    assert Piecewise.of(expression) is pieces
    failing = Piecewise.of(6 // A)
    assert list(failing.failures) == [0]
    assert (failing.values, failing.defined.values.tolist()) == ([6], [False, True])
    assert Piecewise.of(7).values == (7,)


def test_what_has_no_value_somewhere_says_so_after_it_was_mapped() -> None:
    for pieces in (Piecewise.of(6 // B), Piecewise.of(6 // B).map(lambda quotient: quotient)):
        assert pieces.defined.values.tolist() == [False, True, True]
        assert [pieces.at({"b": value}) for value in (1, 2)] == [6, 3]
        with pytest.raises(SampleValidationError, match="'b' has no value"):
            pieces.at({"b": 0})


def test_values_are_told_apart_as_constants_are():
    same = MutableExpression.switch_case(A, {0: 0.0, 1: -0.0})
    assert [str(v) for v in Piecewise.of(same).values] == ["0.0", "-0.0"]
    kinds = MutableExpression.switch_case(B, {0: 1, 1: True, 2: 1.0})
    assert list(map(type, Piecewise.of(kinds).values)) == [int, bool, float]


@given(FACTORS)
def test_truth_and_numbers(factor):
    pieces = function(factor, [0, 2, 0.5, True])
    assert pieces.truth().values.tolist() == (factor.values > 0).tolist()
    numbers = pieces.numbers("x").values
    assert numbers.tolist() == np.array([0, 2, 0.5, 1])[factor.values].tolist()


def test_what_is_no_number_is_refused():
    for wrong, message in (("a", "no number"), (float("nan"), "no number"), (2**62, "too large")):
        with pytest.raises(DecompositionError, match=message):
            Piecewise.constant(wrong).numbers("x")


@given(
    hnp.arrays(
        st.sampled_from([np.bool_, np.int64, np.float64]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.sampled_from([0, 1, -0.0]),
    )
)
def test_different_rows_are_those_that_numpy_finds_in_the_same_order(rows):
    kept, case = distinct_rows(rows)
    expected, expected_case = np.unique(rows, axis=0, return_inverse=True)
    assert np.array_equal(kept, expected)
    assert np.array_equal(case, expected_case.reshape(-1))


def test_a_sum_over_many_symbols_shows_the_first_eight():
    symbols = [Categorical([0, 1], label=f"x{number}") for number in range(9)]
    terms = [Factor([symbol], np.arange(2)) for symbol in symbols]
    assert repr(FactorSum(terms[:8])).endswith("x6, x7)")
    assert repr(FactorSum(terms)).endswith("x6, x7, ...)")


def test_a_sum_of_factors_prints_its_constant_if_it_has_one():
    term = Factor([A], np.array([3, 5]))
    assert FactorSum([term]).text() == "{0: 3, 1: 5}[a]"
    assert FactorSum([term], 2).text() == "sum([{0: 3, 1: 5}[a], 2])"
    assert FactorSum([]).text() == "0"


def test_a_factor_is_the_polynomial_in_its_conditions():
    one, two = (Auxiliary.of(Factor([symbol], np.arange(symbol.size) == 1)) for symbol in (A, B))
    factor = Factor([one, two, C], np.array([[[3, 1], [4, 1]], [[5, 9], [2, 6]]]))
    terms = list(multilinear(factor))
    for truth in np.ndindex(2, 2):
        holds = dict(zip((one, two), truth, strict=True))
        present = [part for product, part in terms if all(holds[each] for each in product)]
        total = sum(part.over((C,)) for part in present)
        np.testing.assert_array_equal(total, factor.given(holds).values)
