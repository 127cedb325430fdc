"""Many architectures as columns: the same as one by one, whatever their number."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_space.errors import SampleMissingError, SampleValidationError, UsageError
from nas_space.mutable import (
    Categorical,
    CategoricalMultiple,
    ExpressionConstraint,
    MutableExpression,
    MutableList,
    Numerical,
    SampleBatch,
)
from nas_space.mutable import batch as module
from nas_space.mutable.batch import draw_one
from nas_space.mutable.expression import apply
from nas_space.mutable.node import key_of
from nas_space.mutable.random_words import words
from tests import strategies

ME = MutableExpression


@st.composite
def spaces(draw: st.DrawFn) -> Any:
    """Structures over symbols of any kind, continuous ones too, without constraints."""
    pool = draw(strategies.pools(lambda label: strategies.symbols(label, listed=True)))
    structure = draw(strategies.structures(pool).filter(lambda space: not space.constraints()))
    return MutableList([structure, draw(strategies.symbols("z"))])


@given(spaces(), st.integers(0, 2**64), st.integers(0, 40), st.integers(0, 40))
def test_a_prefix_of_a_draw_is_a_draw(space: Any, seed: int, n: int, k: int) -> None:
    few, many = sorted((n, k))
    prefix = SampleBatch.draw(space, many, words(seed))[:few]
    assert prefix == SampleBatch.draw(space, few, words(seed))
    assert len(prefix) == few


@given(spaces(), st.integers(0, 2**64))
def test_one_is_the_first_of_many(space: Any, seed: int) -> None:
    one = draw_one(space, words(seed))
    first = SampleBatch.draw(space, 3, words(seed))[0]
    assert key_of(one, loose=True) == key_of(first, loose=True)
    assert key_of(space.random(random_state=seed)) == key_of(space.freeze(one))


@settings(max_examples=20)
@given(spaces())
def test_draws_do_not_depend_on_how_many_are_made_at_a_time(space: Any) -> None:
    whole = SampleBatch.draw(space, 50, words(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", 7)
        pieces = SampleBatch.draw(space, 50, words(0))
        assert pieces == whole
        assert list(pieces) == list(whole)


@given(spaces())
def test_rows_are_architectures_of_the_space(space: Any) -> None:
    batch = SampleBatch.draw(space, 20, words(1))
    assert len(batch) == 20
    rows = list(batch)
    assert rows == [batch[place] for place in range(20)]
    for row in rows:
        assert row == space.read(row).active
        assert all(type(name) is str for name in row)
    again = SampleBatch.from_samples(space, rows)
    assert again == batch
    assert list(again) == rows
    assert pickle.loads(pickle.dumps(batch)) == batch


@given(spaces(), st.data())
def test_rows_can_be_picked(space: Any, data: st.DataObject) -> None:
    batch = SampleBatch.draw(space, 12, words(2))
    rows = list(batch)
    places = np.array(data.draw(st.lists(st.integers(0, 11), max_size=8)), dtype=np.int64)
    assert list(batch[places]) == [rows[place] for place in places.tolist()]
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=12, max_size=12)))
    assert list(batch[mask]) == [row for row, kept in zip(rows, mask, strict=True) if kept]
    part = data.draw(st.slices(12))
    assert list(batch[part]) == rows[part]
    joined = SampleBatch.concatenate([batch[:5], batch[5:5], batch[5:]])
    assert joined == batch


# -- examples ---------------------------------------------------------------------------------

flag = Categorical([False, True], label="flag")
width = Categorical([16, 24], label="width")
rate = Numerical(0, 1, label="rate")
some = CategoricalMultiple(["p", "q"], label="some")
space = MutableList([flag, ME.condition(flag, width, 0), rate, some])


def test_inactive_labels_are_left_out() -> None:
    batch = SampleBatch.from_samples(
        space,
        [
            {"flag": True, "width": 24, "rate": 0.5, "some": ["q"]},
            {"flag": False, "width": 16, "rate": 1, "some": []},
        ],
    )
    assert batch[0] == {"flag": True, "width": 24, "rate": 0.5, "some": ["q"]}
    assert batch[-1] == {"flag": False, "rate": 1.0, "some": []}
    assert batch.labels() == ["flag", "width", "rate", "some"]
    assert repr(batch) == "SampleBatch(2 architectures over 4 labels)"
    with pytest.raises(IndexError):
        batch[2]
    with pytest.raises(SampleMissingError, match=r"'width' .* not active, in 1 of 2.*condition"):
        batch.evaluate(width * 2)
    assert batch[:1].evaluate(width * 2).tolist() == [48]
    guarded = ME.condition(flag, width * 2, rate)
    assert batch.evaluate(guarded).tolist() == [48, 1.0]
    with pytest.raises(SampleMissingError, match=r"no label 'other'; it has .*'rate'"):
        batch.evaluate(Categorical([1], label="other") + 1)


def test_batches_of_different_spaces_or_rows_are_different() -> None:
    batch = SampleBatch.draw(space, 4, words(0))
    assert batch != SampleBatch.draw(space, 4, words(1))
    assert batch != SampleBatch.draw(space, 3, words(0))
    assert batch != SampleBatch.draw(MutableList([flag, width]), 4, words(0))
    assert batch != list(batch)
    with pytest.raises(TypeError, match="unhashable"):
        hash(batch)
    # What is not active plays no role.
    on = {"flag": False, "rate": 0.5, "some": []}
    first = SampleBatch.from_samples(space, [{**on, "width": 16}])
    assert first == SampleBatch.from_samples(space, [{**on, "width": 24}])


def test_values_that_are_not_allowed_are_refused() -> None:
    with pytest.raises(SampleValidationError, match="'width'"):
        SampleBatch.from_samples(space, [{"flag": True, "width": 20, "rate": 0, "some": []}])
    with pytest.raises(UsageError, match="must not be negative, but got -1"):
        SampleBatch.draw(space, -1, words(0))


def test_batches_of_nothing() -> None:
    empty = SampleBatch.draw(space, 0, words(0))
    assert len(empty) == 0
    assert list(empty) == []
    assert empty.evaluate(rate + 1).tolist() == []
    assert len(SampleBatch.from_samples(space, [])) == 0
    fixed = MutableList([1, 2])
    assert list(SampleBatch.draw(fixed, 3, words(0))) == [{}, {}, {}]
    assert draw_one(fixed, words(0)) == {}


def test_constraints_are_looked_at_for_one_but_not_for_many() -> None:
    never = MutableList([width, ExpressionConstraint(width > 24, label="rule")])
    assert len(SampleBatch.draw(never, 5, words(0))) == 5
    with pytest.raises(SampleValidationError, match="width > 24"):
        draw_one(never, words(0))
    with pytest.raises(SampleValidationError, match="width > 24"):
        SampleBatch.from_samples(never, [{"width": 16}])


def test_a_batch_has_its_columns_at_hand() -> None:
    batch = SampleBatch.draw(apply("tuple", width, flag), 1000, words(5))
    columns = batch.columns()
    assert columns.get(width).dtype == np.int64
    assert columns.get(flag).dtype == np.bool_
    assert columns.get("constant").tolist() == ["constant"] * 1000
    total = columns.get(width * flag)
    assert total.tolist() == [row["width"] * row["flag"] for row in batch]
    assert columns.get(width * flag) is total
