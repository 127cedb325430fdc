"""Bounds contain every value, and are exact where combinations can be gone through."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nas_space.errors import DomainError
from nas_space.mutable import (
    Categorical,
    CategoricalMultiple,
    MutableExpression,
    Numerical,
    bounds,
    distinct_values,
    make_divisible,
)
from nas_space.mutable.intervals import EVERYTHING
from nas_space.mutable.node import Node, key_of, leaves, postorder
from nas_space.mutable.operators import OPERATORS
from tests import strategies
from tests.mutable.oracle import outcome

ME = MutableExpression


def values_of(expression: Any, pool: list[Any]) -> list[Any]:
    """Every value that the expression takes; those without one left out."""
    rows = strategies.combinations(pool, most=10**6)
    fine = [row for row in rows if outcome(expression.evaluate, row)[0] == "value"]
    return [expression.evaluate(row) for row in fine]


def interval_of(expression: Node) -> Any:
    """What the intervals of the operators give, without enumerating."""
    from nas_space.mutable.bounds import _interval

    known: dict[Node, Any] = {}
    for node in postorder(expression):
        known[node] = _interval(node, known)
    return known[expression]


def within(low: Any, value: Any, high: Any) -> bool:
    """Whether an interval holds a value; its ends may be rounded where they are floats."""
    if isinstance(value, float) or abs(value) < 2**53:
        return bool(low <= value <= high)
    below = low - abs(low) * 1e-15 if isinstance(low, float) else low
    above = high + abs(high) * 1e-15 if isinstance(high, float) else high
    return bool(below <= value <= above)


@given(st.data())
def test_intervals_contain_every_value(data: st.DataObject) -> None:
    pool = data.draw(strategies.pools(most=3))
    expression = data.draw(strategies.expressions(pool, several=False))
    low, high = interval_of(expression)
    for value in values_of(expression, pool):
        if value == value:  # noqa: PLR0124 - what is no number is nowhere
            assert within(low, value, high)


BOUNDED = sorted(name for name, operator in OPERATORS.items() if operator.bounds is not None)
ends = st.integers(-20, 20) | st.sampled_from([-7.5, -0.5, 0.0, 0.25, 1.5, 33.3, 2**62, -(2**63)])


@given(st.sampled_from(BOUNDED), st.data())
def test_each_operator_stays_within_its_bounds(name: str, data: st.DataObject) -> None:
    operator = OPERATORS[name]
    wanted, _ = strategies.SIGNATURES[name][-1].split(" -> ")
    points, intervals = [], []
    for kind in wanted.split():
        small = st.integers(-1, 5) if kind in {"shift", "exponent"} else ends
        low, point, high = sorted(data.draw(st.tuples(small, small, small)))
        points.append(point)
        intervals.append((low, high))
    assert operator.bounds is not None
    what, _ = outcome(operator.scalar, *points)
    value = operator.scalar(*points) if what == "value" else None
    if isinstance(value, (int, float)) and value == value:  # noqa: PLR0124
        low, high = operator.bounds(*intervals)
        assert within(low, value, high)


@given(st.data())
def test_bounds_are_exact_where_every_combination_has_a_value(data: st.DataObject) -> None:
    pool = data.draw(strategies.pools(most=3))
    expression = data.draw(strategies.expressions(pool, several=False))
    rows = strategies.combinations(pool, most=10**6)
    values = values_of(expression, pool)
    assume(len(values) == len(rows))
    assume(all(value == value for value in values))  # noqa: PLR0124
    assert bounds(expression) == (min(values), max(values))


def test_bounds_of_plain_values_and_symbols() -> None:
    assert bounds(3) == (3, 3)
    assert bounds(Categorical([5, -2, 3], label="x")) == (-2, 5)
    assert bounds(Numerical(0.5, 2, label="x")) == (0.5, 2)
    assert bounds(Numerical(mu=0, sigma=1, label="x") * 2) == EVERYTHING
    assert bounds(Numerical(mu=0, sigma=1, log_distributed=True, label="x")) == (0, math.inf)


def test_bounds_of_many_labels_are_those_of_the_operators() -> None:
    many = [Categorical(range(10), label=f"m{place}") for place in range(12)]
    total = ME.sum(many)
    assert bounds(total) == (0, 108)
    assert bounds(total - total) == (-108, 108)
    assert bounds(make_divisible(total + 1, 8)) == (8, 120)
    assert bounds(ME.condition(total > 3, total * 2, -5)) == (-5, 216)
    assert bounds(ME.case([(total > 3, total), (True, 200)])) == (0, 200)
    assert bounds(ME.switch_case(total % 2, {0: total, 1: -total})) == (-108, 108)
    assert bounds(total // (total + 1)) == (0, 108)
    assert bounds(total // total) == EVERYTHING
    assert bounds(divmod(total, 3)[1]) == EVERYTHING
    assert bounds(Categorical(["a", "b"], label="s") == "a") == (False, True)


def test_bounds_leave_out_what_has_no_value() -> None:
    x = Categorical([0, 1, 2], label="x")
    low, high = bounds(10 // x)
    assert low <= 5
    assert high >= 10
    infinite = Categorical([math.inf, 1.0], label="infinite")
    assert bounds(infinite - infinite) == (0.0, 0.0)


@given(st.data())
def test_distinct_values_are_those_of_all_combinations(data: st.DataObject) -> None:
    pool = data.draw(strategies.pools(most=3))
    expressions = [data.draw(strategies.expressions(pool, several=False)) for _ in range(2)]
    used = leaves(*expressions)
    rows = strategies.combinations(used, most=10**6)
    outcomes = [outcome(lambda e, r: [x.evaluate(r) for x in e], expressions, row) for row in rows]
    assume(all(what == "value" for what, _ in outcomes))
    expected: dict[Any, None] = dict.fromkeys(
        key_of(tuple(expression.evaluate(row) for expression in expressions)) for row in rows
    )
    found = [key_of(row) for row in distinct_values(expressions)]
    assert len(found) == len(set(found))
    assert set(found) == set(expected)


def test_distinct_values_come_in_the_order_of_the_labels_values() -> None:
    a, b = Categorical([3, 1], label="a"), Categorical([0, 2], label="b")
    assert distinct_values([a + b]) == [(3,), (5,), (1,)]
    assert distinct_values([a, 7, b]) == [(x, 7, y) for x, y in product([3, 1], [0, 2])]
    assert distinct_values(["plain", 1]) == [("plain", 1)]
    lists = CategoricalMultiple([1, 2], n_chosen=1, label="lists")
    assert distinct_values([lists]) == [([1],), ([2],)]
    assert distinct_values([Categorical([True, 2], label="c"), 1]) == [(True, 1), (2, 1)]


def test_distinct_values_are_limited() -> None:
    wide = Categorical(range(50), label="wide")
    assert len(distinct_values([wide], limit=50)) == 50
    with pytest.raises(DomainError, match=r"take 50 .* labels .'wide'.; the limit is 49"):
        distinct_values([wide], limit=49)
    assert distinct_values([wide * 0], limit=1) == [(0,)]
    many = [Categorical(range(10), label=f"m{place}") for place in range(12)]
    with pytest.raises(DomainError, match=f"depend on {10**12} combinations .* 'm11'"):
        distinct_values([ME.sum(many)])
    with pytest.raises(DomainError, match=r"infinitely many.*'lr'.*quantize"):
        distinct_values([Numerical(0, 1, label="lr")])
