"""`make_divisible` is one formula, for integers, floats and expressions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nas_space.mutable import Categorical, MutableExpression, SampleBatch, make_divisible
from nas_space.mutable.node import key_of

widths = st.integers(1, 4000) | st.floats(0.01, 4000.0) | st.integers(1, 400).map(lambda v: v / 4)


def formula(v: float, divisor: int, min_val: int | None = None) -> int:
    least = divisor if min_val is None else min_val
    new = max(least, round(v + divisor // 2) // divisor * divisor)
    return new + divisor if new < 0.9 * v else new


def tensorflow(v: float, divisor: int) -> int:
    """The rule in TensorFlow's MobileNet code, which truncates."""
    new = max(divisor, int(v + divisor / 2) // divisor * divisor)
    return new + divisor if new < 0.9 * v else new


@example(43.6, 8, None)
@example(12, 8, None)
@example(3, 8, None)
@example(3, 8, 4)
@example(17.5, 5, None)
@given(widths, st.integers(1, 33), st.none() | st.integers(1, 64))
def test_it_is_the_formula(v: float, divisor: int, min_val: int | None) -> None:
    expected = key_of(formula(v, divisor, min_val))
    assert key_of(make_divisible(v, divisor, min_val)) == expected
    symbol = Categorical([v, 5000], label="v")
    made = make_divisible(symbol, divisor, min_val)
    assert isinstance(made, MutableExpression)
    assert key_of(made.freeze({"v": v})) == expected
    batch = SampleBatch.from_samples(symbol, [{"v": v}, {"v": 5000}])
    column = [key_of(value) for value in made.evaluate(batch).tolist()]
    assert column == [expected, key_of(formula(5000, divisor, min_val))]


def test_it_differs_from_tensorflow_just_below_a_tie() -> None:
    assert make_divisible(43.6, 8) == 48
    assert tensorflow(43.6, 8) == 40
    assert make_divisible(11.6, 8) == tensorflow(11.6, 8) == 16  # 8 would lose too much


@given(st.integers(1, 10_000), st.integers(1, 64))
def test_for_integers_it_is_tensorflows_rule(v: int, divisor: int) -> None:
    assert make_divisible(v, divisor) == tensorflow(v, divisor)


@given(st.floats(1, 1000), st.integers(1, 16).map(lambda half: 2 * half))
def test_it_differs_from_tensorflows_rule_only_within_half_a_unit_of_a_tie(
    v: float, divisor: int
) -> None:
    below_tie = (divisor / 2 - v) % divisor
    if make_divisible(v, divisor) != tensorflow(v, divisor):
        assert 0 < below_tie <= 0.5


@given(widths, st.sampled_from([1, 2, 4, 8, 16]))
def test_it_loses_less_than_a_tenth(v: float, divisor: int) -> None:
    made: Any = make_divisible(v, divisor)
    assert made % divisor == 0
    assert made >= 0.9 * v


def test_the_least_result_is_the_divisor_unless_given() -> None:
    assert make_divisible(1, 8) == 8
    assert make_divisible(1, 8, 16) == 16
    assert make_divisible(1, 8, 0) == 8  # 0 would lose more than a tenth
    assert make_divisible(100, 8, 3) == 104


def test_floats_that_round_to_a_whole_give_integers() -> None:
    assert type(make_divisible(24.0, 8)) is int
    assert type(make_divisible(24.0, 8, min_val=8)) is int


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError):
        make_divisible("wide", 8)  # type: ignore[call-overload]
