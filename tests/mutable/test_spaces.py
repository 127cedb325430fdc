"""What every mutable can do: be checked, frozen, chosen from and gone through."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from nas_space.errors import (
    ConstraintViolation,
    ExpressionError,
    LabelError,
    SampleMissingError,
    SampleValidationError,
    UsageError,
)
from nas_space.mutable import (
    Categorical,
    CategoricalMultiple,
    ExpressionConstraint,
    Mutable,
    MutableDict,
    MutableExpression,
    MutableList,
    Numerical,
    Values,
)
from nas_space.mutable.node import key_of, leaves
from tests import strategies
from tests.mutable.oracle import meaning, touches

ME = MutableExpression
Space = tuple[list[Any], Any]


def listed(label: str) -> st.SearchStrategy[Any]:
    """Symbols whose grid is all their values."""
    return strategies.categoricals(label) | strategies.multiples(label)


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    pool = draw(strategies.pools(listed))
    return pool, draw(strategies.structures(pool))


def architectures(space: Space) -> list[dict[str, Any]]:
    """Every architecture with its active labels only, by brute force."""
    pool, mutable = space
    root = mutable.structure()
    rules = {str(rule.label): rule.expression for rule in mutable.constraints()}
    found: dict[Any, dict[str, Any]] = {}
    rows = strategies.combinations(pool, most=10**6)
    assume(len(rows) < 2000)
    for row in rows:
        touched = touches(root, {**row, **dict.fromkeys(rules)})
        active = {name: row[name] for name in touched if name in row}
        if all(meaning(rules[name], row) for name in touched if name in rules):
            found.setdefault(key_of(active, loose=True), active)
    return list(found.values())


@given(spaces())
def test_the_grid_is_every_architecture_once(space: Space) -> None:
    _, mutable = space
    expected = architectures(space)
    memo: dict[str, Any] = {}
    found = []
    for form in mutable.grid(memo):
        found.append(dict(memo))
        assert key_of(form) == key_of(mutable.freeze(memo))
    assert memo == {}
    keys = [key_of(sample, loose=True) for sample in found]
    assert len(keys) == len(set(keys)) == len(expected)
    assert set(keys) == {key_of(sample, loose=True) for sample in expected}


@given(spaces())
def test_what_is_in_the_grid_is_contained_also_after_json(space: Space) -> None:
    _, mutable = space
    for sample in architectures(space)[:30]:
        assert mutable.check_contains(sample) is None
        assert mutable.read(sample).active == sample
        again = json.loads(json.dumps(sample))
        assert key_of(mutable.freeze(again)) == key_of(mutable.freeze(sample))


@given(spaces(), st.integers(0, 2**32))
def test_what_is_drawn_is_contained(space: Space, seed: int) -> None:
    _, mutable = space
    memo: dict[str, Any] = {}
    try:
        form = mutable.random(memo, seed)
    except ConstraintViolation:
        assert memo == {}
        return
    assert key_of(mutable.freeze(memo)) == key_of(form)
    assert set(memo) == set(mutable.read(memo).active)
    assert key_of(mutable.random(random_state=seed)) == key_of(form)
    assert key_of(memo, loose=True) in {key_of(s, loose=True) for s in architectures(space)}


@given(spaces())
def test_the_default_is_contained(space: Space) -> None:
    _, mutable = space
    memo: dict[str, Any] = {}
    try:
        form = mutable.default(memo)
    except ConstraintViolation:
        assert memo == {}
    else:
        assert key_of(mutable.freeze(memo)) == key_of(form)
    possible = architectures(space)
    robust: dict[str, Any] = {}
    try:
        mutable.robust_default(robust, retries=300)
    except SampleValidationError:
        assert len(possible) == 0 or robust == {}
    else:
        assert key_of(robust, loose=True) in {key_of(s, loose=True) for s in possible}


@given(spaces(), st.data())
def test_a_bad_sample_is_returned_as_an_error_and_never_raised(space: Space, data: Any) -> None:
    pool, mutable = space
    labels = st.sampled_from([symbol.name for symbol in pool])
    sample = data.draw(
        st.dictionaries(labels, strategies.plain_values | st.lists(strategies.small))
    )
    before = dict(sample)
    found = mutable.check_contains(sample)
    assert sample == before
    if found is None:
        mutable.freeze(sample)
    else:
        assert isinstance(found, SampleValidationError)
        assert not mutable.contains(sample)
        assert any(repr(symbol.name) in str(found) or symbol.name in str(found) for symbol in pool)
        with pytest.raises(type(found)) as caught:
            mutable.freeze(sample)
        assert str(caught.value) == str(found)
        with pytest.raises(type(found)):
            mutable.validate(sample)


@given(spaces())
def test_simplify_lists_each_label_once(space: Space) -> None:
    _, mutable = space
    simple = mutable.simplify()
    occurring = leaves(mutable.structure())
    assert list(simple) == list(dict.fromkeys(leaf.name for leaf in occurring))
    drawn = {leaf.name: leaf for leaf in occurring if leaf.words}
    assert mutable.symbols() == drawn
    assert MutableDict(simple).symbols() == drawn
    flat = mutable.simplify(lambda mutable: isinstance(mutable, (Categorical, Numerical)))
    assert not any(isinstance(symbol, CategoricalMultiple) for symbol in flat.values())


# -- examples ---------------------------------------------------------------------------------

a = Categorical([1, 2, 3], label="a")
b = Categorical([4, 5], label="b")


def test_containers_nest() -> None:
    space = MutableList(
        [MutableDict({"x": a, "more": MutableList([b, a * b])}, plain=7), "text", None]
    )
    frozen = space.freeze({"a": 2, "b": 5})
    assert frozen == [{"x": 2, "more": [5, 10], "plain": 7}, "text", None]
    assert len(list(space.grid())) == 6
    assert space.equals(MutableList(list(space)))
    assert not space.equals(MutableList([*space, 1]))
    assert repr(MutableDict(x=a)) == "MutableDict({'x': Categorical([1, 2, 3], label='a')})"
    assert MutableList().structure() is None
    assert MutableList().freeze({}) == []
    assert list(MutableDict().grid()) == [{}]
    assert MutableList([1]).random() == [1]


def test_a_list_is_a_list_and_a_dict_a_dict() -> None:
    items = MutableList([a])
    items.append(b)
    items.extend([a + b])
    items += [3]
    items.insert(0, "first")
    assert len(items) == 5
    assert items[1] is a
    assert items[1:3].equals(MutableList([a, b]))
    assert b in items
    assert Categorical([9], label="c") not in items
    assert items.index(b) == 2
    items.remove(b)
    with pytest.raises(ValueError, match="not in the list"):
        items.index(b)
    items[1] = b
    items[2:] = [a, a]
    del items[0]
    assert items.freeze({"a": 1, "b": 4}) == [4, 1, 1]
    table = MutableDict([("x", a)], y=b)
    table["z"] = a + b
    assert list(table) == ["x", "y", "z"]
    assert table.pop("y") is b
    del table["x"]
    table.update({"w": 1})
    assert table.freeze({"a": 1, "b": 4}) == {"z": 5, "w": 1}
    assert "z" in table
    assert table.equals(MutableDict({"z": a + b, "w": 1}))
    assert not table.equals(MutableDict({"w": 1, "z": a + b}))
    with pytest.raises(UsageError, match="'x' is given twice"):
        MutableDict({"x": a}, x=b)


@pytest.mark.parametrize(
    "make",
    [
        lambda: MutableList([[a], b]),
        lambda: MutableList().append({"x": a}),
        lambda: MutableDict(x=[a]),
        lambda: MutableDict().update(x=(1, [a])),
        lambda: MutableList([1]).__setitem__(0, [a]),
        lambda: MutableList([1]).__setitem__(slice(0, 1), [[a]]),
    ],
)
def test_mutables_in_plain_containers_are_refused(make: Any) -> None:
    with pytest.raises(ExpressionError, match=r"a stands inside a .*wrap it in Mutable"):
        make()


def test_errors_say_where_in_the_containers() -> None:
    space = MutableDict(first=MutableList([a, MutableDict(deep=b + 1)]), second=b)
    with pytest.raises(SampleValidationError) as caught:
        space.freeze({"a": 1, "b": 9})
    assert caught.value.paths == ["first", "[1]", "deep"]
    assert str(caught.value).endswith("(path: first -> [1] -> deep)")
    missing = space.check_contains({"b": 4})
    assert isinstance(missing, SampleMissingError)
    assert missing.paths == ["first", "[0]"]
    rule = MutableList([a, ExpressionConstraint(a > 1, label="rule")])
    broken = rule.check_contains({"a": 1})
    assert isinstance(broken, ConstraintViolation)
    assert broken.paths == ["[1]"]


def test_a_sample_is_a_mapping() -> None:
    for wrong in (None, 3, [("a", 1)], "a"):
        found = a.check_contains(wrong)  # type: ignore[arg-type]
        assert found is not None
        assert "dict from label to value" in str(found)


@pytest.mark.parametrize("value", [np.array([1, 2]), torch.tensor([1, 2])], ids=["array", "tensor"])
def test_a_value_that_cannot_be_compared_is_refused_with_its_label(value: Any) -> None:
    found = MutableList([b, a]).check_contains({"a": value, "b": 4})
    assert isinstance(found, SampleValidationError)
    assert found.label == "a"
    assert f"'a' is a {type(value).__name__} that cannot be compared" in str(found)


def test_two_choices_of_one_label_are_refused() -> None:
    other = Categorical([1, 2], label="a")
    space = MutableList([a, other + 1])
    message = r"two different choices carry the label 'a': .*\[1, 2, 3\].* and .*\[1, 2\]"
    uses = (space.simplify, lambda: space.check_contains({"a": 1}), space.random, space.default)
    for use in uses:
        with pytest.raises(LabelError, match=message):
            use()
    with pytest.raises(LabelError, match=message):
        list(space.grid())
    same = MutableList([a, Categorical([1, 2, 3], label="a")])
    assert same.freeze({"a": 2}) == [2, 2]


def test_choices_made_before_are_kept() -> None:
    space = MutableList([a, b])
    memo = {"b": 5}
    assert space.default(memo) == [1, 5]
    assert memo == {"b": 5, "a": 1}
    assert space.random({"a": 3, "b": 4}) == [3, 4]
    fixed = {"a": 2}
    assert [(form, dict(fixed)) for form in space.grid(fixed)] == [
        ([2, 4], {"a": 2, "b": 4}),
        ([2, 5], {"a": 2, "b": 5}),
    ]
    assert fixed == {"a": 2}
    with pytest.raises(SampleValidationError, match="'a'"):
        space.default({"a": 9})


def test_a_failed_choice_changes_nothing() -> None:
    space = MutableList([a, b, ExpressionConstraint(a + b > 7)])
    memo = {"b": 4}
    with pytest.raises(ConstraintViolation, match=r"a \+ b > 7 does not hold for .*'a': 1"):
        space.default(memo)
    assert memo == {"b": 4}
    with pytest.raises(SampleValidationError, match=r"no valid default found in 50 .* loosen"):
        space.robust_default(memo, retries=50)
    assert memo == {"b": 4}
    del memo["b"]
    assert space.robust_default(memo) == [3, 5, None]
    assert memo == {"a": 3, "b": 5}


def test_fill_chooses_what_is_active_and_missing() -> None:
    space = ME.condition(a > 1, b, 0)
    asked = []

    def choose(symbol: Any) -> Any:
        asked.append(symbol)
        return symbol.values[-1]

    sample: dict[str, Any] = {"a": 2}
    values = space.fill(sample, choose)
    assert asked == [b]
    assert sample == {"a": 2, "b": 5} == values.active
    assert values(space) == 5
    asked.clear()
    assert space.fill({"a": 1}, choose).active == {"a": 1}
    assert asked == []


def test_a_grid_can_be_stopped_and_is_not_recursive() -> None:
    wide = MutableList([Categorical([0, 1], label=f"w{place}") for place in range(3000)])
    grid = wide.grid()
    assert sum(next(grid)) == 0
    assert sum(next(grid)) == 1
    with pytest.raises(UsageError, match="granularity must be at least 1, but got 0"):
        list(wide.grid(granularity=0))


def test_what_cannot_be_computed_is_not_contained() -> None:
    space = ME.condition(1 // (a - 1) > 0, b, 0)
    found = space.check_contains({"a": 1, "b": 4})
    assert found is not None
    assert "cannot be computed: integer division" in str(found)
    with pytest.raises(ZeroDivisionError):
        space.freeze({"a": 1, "b": 4})
    assert space.contains({"a": 2, "b": 4})


def test_a_mutable_of_ones_own_says_its_structure_and_how_it_freezes() -> None:
    class Twice(Mutable):
        def __init__(self, inner: Mutable) -> None:
            self.inner = inner

        def structure(self) -> Any:
            return self.inner.structure()

        def freeze_values(self, values: Values) -> Any:
            return [self.inner.freeze_values(values)] * 2

    space = MutableList([Twice(a + b), b])
    assert space.freeze({"a": 1, "b": 4}) == [[5, 5], 4]
    assert list(space.simplify()) == ["a", "b"]
    assert Twice(a).equals(Twice(a))
    assert not Twice(a).equals(Twice(b))
    assert repr(Twice(a)) == "Twice()"
    for call in (Mutable().structure, lambda: Mutable().freeze({})):
        with pytest.raises(NotImplementedError, match="Mutable must implement structure"):
            call()
