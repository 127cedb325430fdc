"""One architecture, a column of them, and an architecture from JSON: the same values exactly."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nas_space.errors import SampleMissingError, SampleValidationError
from nas_space.mutable import Categorical, MutableExpression, MutableSymbol, SampleBatch, Values
from nas_space.mutable.columns import Columns, Source
from nas_space.mutable.expression import apply
from nas_space.mutable.lazy import Walk, evaluate, needed
from nas_space.mutable.node import Leaf, Node, key_of, leaves
from nas_space.mutable.operators import OPERATORS
from tests import strategies
from tests.mutable.oracle import meaning, outcome, touches

ME = MutableExpression
Case = tuple[list[MutableSymbol[Any]], Any]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    pool = draw(strategies.pools())
    return pool, draw(strategies.expressions(pool))


def columns_of(pool: list[MutableSymbol[Any]], rows: list[dict[str, Any]]) -> Columns:
    codes = {s: np.array([s.code(row[s.name]) for row in rows], dtype=np.int64) for s in pool}
    return Columns(Source(codes), len(rows))


def test_the_random_expressions_are_of_every_operator() -> None:
    assert {"matmul", "lookup", *strategies.SIGNATURES, *strategies.LAZY} == set(OPERATORS)


@given(cases())
def test_one_by_one_is_what_python_computes(case: Case) -> None:
    pool, expression = case
    for row in strategies.combinations(pool):
        expected = outcome(meaning, expression, row)
        assert outcome(expression.evaluate, row) == expected
        # Freezing reads the sample first, along the branches that are taken, and computes then.
        read = outcome(touches, expression, row)
        assert outcome(expression.freeze, row) == (expected if read[0] == "value" else read)


def test_a_sample_without_a_case_is_refused_before_anything_is_computed() -> None:
    a = Categorical([0, 1], label="a")
    both = 1 // a + ME.case([(a > 0, 1)])
    with pytest.raises(ZeroDivisionError):
        both.evaluate({"a": 0})
    with pytest.raises(SampleValidationError, match="no case holds"):
        both.freeze({"a": 0})


@given(cases())
def test_columns_are_the_values_one_by_one(case: Case) -> None:
    pool, expression = case
    rows = strategies.combinations(pool)
    single = [outcome(expression.evaluate, row) for row in rows]
    failures = {kind for what, kind in single if what == "error"}
    fine = [row for row, (what, _) in zip(rows, single, strict=True) if what == "value"]
    if failures:
        what, kind = outcome(columns_of(pool, rows).get, expression)
        assert what == "error"
        assert kind in failures
    column = columns_of(pool, fine).get(expression)
    expected = [key for what, key in single if what == "value"]
    assert [key_of(value) for value in column.tolist()] == expected


@given(cases())
def test_a_batch_is_the_values_one_by_one(case: Case) -> None:
    pool, expression = case
    rows = strategies.combinations(pool, most=12)
    expected = [outcome(expression.evaluate, row) for row in rows]
    if any(what == "error" for what, _ in expected):
        return
    batch = SampleBatch.from_samples(apply("tuple", *pool), rows)
    assert [("value", key_of(v)) for v in expression.evaluate(batch).tolist()] == expected


@given(cases())
def test_json_changes_nothing(case: Case) -> None:
    pool, expression = case
    for row in strategies.combinations(pool, most=12):
        again = json.loads(json.dumps(row))
        assert outcome(expression.freeze, again) == outcome(expression.freeze, row)


@given(st.data())
def test_samples_of_any_values_come_through_json(data: st.DataObject) -> None:
    symbol = data.draw(strategies.symbols(listed=True))
    for value in symbol.decode(np.arange(symbol.size or 0)):
        again = json.loads(json.dumps({"x": value}))
        assert key_of(symbol.freeze(again)) == key_of(value)


@given(cases())
def test_a_walk_touches_the_labels_on_its_way_and_no_others(case: Case) -> None:
    pool, expression = case

    def touched_by_walk(row: dict[str, Any]) -> list[str]:
        known: dict[Node, Any] = {}
        evaluate(expression, lambda leaf: row[leaf.name], known)
        return [node.name for node in known if isinstance(node, Leaf)]

    def touched(row: dict[str, Any]) -> list[str]:
        return touches(expression, row, compute=True)

    for row in strategies.combinations(pool, most=12):
        assert outcome(touched_by_walk, row) == outcome(touched, row)


@given(cases())
def test_what_is_needed_is_found_without_computing_the_rest(case: Case) -> None:
    pool, expression = case

    def found(row: dict[str, Any]) -> list[str]:
        known: dict[Node, Any] = {}
        for leaf in needed(expression, known):
            known[leaf] = row[leaf.name]
        return [node.name for node in known if isinstance(node, Leaf)]

    for row in strategies.combinations(pool, most=12):
        assert outcome(found, row) == outcome(touches, expression, row)


@given(st.data())
def test_activity_of_a_batch_is_that_of_its_rows(data: st.DataObject) -> None:
    pool = data.draw(strategies.pools(lambda label: strategies.symbols(label, listed=True), most=5))
    space = data.draw(strategies.structures(pool))
    rows = strategies.combinations(pool, most=40)
    root = space.structure()
    assert root is not None
    every = SampleBatch.from_samples(apply("tuple", *pool), rows)
    markers = {leaf.name: None for leaf in leaves(root) if not leaf.words}
    for sample, row in zip(SampleBatch(root, every.codes, len(rows)), rows, strict=True):
        reached = set(touches(root, {**row, **markers})) - set(markers)
        assert sample == {name: row[name] for name in reached}


# -- laziness ---------------------------------------------------------------------------------

flag = Categorical([False, True], label="flag")
number = Categorical([0, 1, 2], label="number")
other = Categorical([5, 7], label="other")
TRAP = other // (other - other)


@pytest.mark.parametrize(
    "lazy",
    [
        ME.condition(flag, 1, TRAP),
        ME.case([(flag, 1), (TRAP > 0, 2), (True, TRAP)]),
        ME.switch_case(flag, {True: 1, False: TRAP}),
        ME.condition(flag, ME.switch_case(number, {0: 1, 1: TRAP, 2: TRAP}), TRAP),
    ],
    ids=str,
)
def test_a_branch_that_is_not_taken_is_not_evaluated(lazy: Any) -> None:
    taken = {"flag": True, "number": 0}
    assert lazy.freeze(taken) == 1
    assert "other" not in lazy.read(taken).active
    batch = SampleBatch.from_samples(lazy, [taken, taken])
    assert lazy.evaluate(batch).tolist() == [1, 1]
    with pytest.raises(ZeroDivisionError):
        lazy.freeze({"flag": False, "number": 0, "other": 5})


def test_only_lazy_operators_are_lazy() -> None:
    assert list((0 * other).read({"other": 5}).active) == ["other"]
    assert list((flag & (other > 5)).read({"flag": False, "other": 5}).active) == ["flag", "other"]
    with pytest.raises(SampleMissingError, match="'other'"):
        (0 * other).freeze({})


def test_a_label_is_active_if_any_of_its_uses_is_reached() -> None:
    space = apply("tuple", ME.condition(flag, number, 0), ME.condition(number > 0, other, 0))
    assert list(space.read({"flag": False, "number": 0}).active) == ["flag", "number"]
    assert list(space.read({"flag": True, "number": 1, "other": 7}).active) == [
        "flag",
        "number",
        "other",
    ]


def test_the_first_case_that_holds_counts() -> None:
    case = ME.case([(number > 1, "high"), (number > 0, "middle"), (True, None)])
    assert [case.freeze({"number": value}) for value in (0, 1, 2)] == [None, "middle", "high"]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (ME.switch_case(number, {0: 1, 1: 2}), r"number is 2.* no branch.* \[0, 1\]"),
        (ME.case([(number == 0, 1), (number == 1, 2)]), "no case holds in case.*True"),
    ],
    ids=str,
)
def test_where_no_branch_is_taken_the_error_says_which_there_are(
    expression: Any, message: str
) -> None:
    with pytest.raises(SampleValidationError, match=message):
        expression.freeze({"number": 2})
    rows = SampleBatch.from_samples(number, [{"number": 0}, {"number": 2}])
    with pytest.raises(SampleValidationError, match=message):
        expression.evaluate(rows)


def test_a_switch_compares_as_python_does() -> None:
    mixed = Categorical([1, "1", 2.0, (3, 4)], label="mixed")
    switch = ME.switch_case(mixed, {True: "one", "1": "text", 2: "two", (3, 4): "pair"})
    for value, expected in [(1, "one"), ("1", "text"), (2.0, "two"), ([3, 4], "pair")]:
        assert switch.freeze({"mixed": value}) == expected
    batch = SampleBatch.from_samples(mixed, [{"mixed": v} for v in (1, "1", 2.0, (3, 4))])
    assert switch.evaluate(batch).tolist() == ["one", "text", "two", "pair"]


# -- exactness --------------------------------------------------------------------------------


@example(2**63 - 1, 1, "add")
@example(-(2**63), 1, "sub")
@example(-(2**63), -1, "mul")
@example(-(2**63), -1, "floordiv")
@example(2**62, 1, "lshift")
@example(2**53 + 1, 3, "truediv")
@example(3, 40, "pow")
@given(
    st.integers(-(2**64), 2**64),
    st.integers(-(2**64), 2**64) | st.integers(-2, 64),
    st.sampled_from(
        ["add", "sub", "mul", "floordiv", "mod", "truediv", "lshift", "rshift", "pow", "max", "eq"]
    ),
)
def test_integers_never_wrap(a: int, b: int, name: str) -> None:
    if name in {"pow", "lshift", "rshift"} and not -3 < b < 99:
        b %= 64
    left = Categorical(dict.fromkeys([a, 1]), label="left")
    right = Categorical(dict.fromkeys([b, 2]), label="right")
    expression = apply(name, left, right)
    batch = SampleBatch.from_samples(expression, [{"left": a, "right": b}, {"left": 1, "right": 2}])

    def expected() -> list[Any]:
        return [OPERATORS[name].scalar(a, b), OPERATORS[name].scalar(1, 2)]

    def found() -> list[Any]:
        values: list[Any] = expression.evaluate(batch).tolist()
        return values

    assert outcome(found) == outcome(expected)


@example(2**53 + 1, 2.0**53)
@example(2**63 - 1, 2.0**63)
@example(-(2**53) - 1, -(2.0**53))
@given(st.integers(-(2**63), 2**63 - 1), st.floats())
def test_integers_and_floats_are_compared_exactly(a: int, b: float) -> None:
    left, right = Categorical([a], label="left"), Categorical([b], label="right")
    batch = SampleBatch.from_samples(apply("tuple", left, right), [{"left": a, "right": b}] * 2)
    for name in ("lt", "le", "eq", "ne", "ge", "gt"):
        expected = OPERATORS[name].scalar(a, b)
        assert apply(name, left, right).evaluate(batch).tolist() == [expected] * 2
        assert apply(name, right, left).freeze({"left": a, "right": b}) == OPERATORS[name].scalar(
            b, a
        )


@example([0.1] * 10)
@example([1e16, 1.0, 1.0, -1e16])
@example([2**62, 2**62, -(2**62)])
@example([-(2**63), -1, 5])
@given(st.lists(st.floats(allow_nan=False) | st.integers(-(2**63), 2**63), min_size=2, max_size=9))
def test_a_sum_adds_from_left_to_right(terms: list[float]) -> None:
    symbols = [Categorical([term], label=f"t{place}") for place, term in enumerate(terms)]
    expected: Any = 0
    for term in terms:
        expected = expected + term
    total = ME.sum(symbols)
    sample = {symbol.name: symbol.values[0] for symbol in symbols}
    assert key_of(total.freeze(sample)) == key_of(expected)
    batch = SampleBatch.from_samples(total, [sample])
    assert key_of(total.evaluate(batch).tolist()) == key_of([expected])


def test_types_are_kept() -> None:
    expressions = [flag + flag, flag & flag, flag & 1, +flag, ~flag, ME.max(flag, 0), number / 1]
    rows = [{"flag": True, "number": 2}] * 2
    batch = SampleBatch.from_samples(apply("tuple", flag, number), rows)
    for expression in expressions:
        one = expression.evaluate(rows[0])
        assert [key_of(value) for value in expression.evaluate(batch).tolist()] == [key_of(one)] * 2
    assert [type(expression.evaluate(rows[0])) for expression in expressions] == [
        int, bool, int, int, int, bool, float,
    ]  # fmt: skip


def test_texts_lists_and_nothing_pass_through_columns() -> None:
    values = ["k3", [1, 2], (1, 2), None, {"a": 1}, 2.5, True, 3]
    mixed = Categorical([v for v in values if v != (1, 2)], label="mixed")
    rows = [{"mixed": v} for v in mixed.values]
    batch = SampleBatch.from_samples(mixed, rows)
    assert mixed.evaluate(batch).tolist() == list(mixed.values)
    pair = apply("tuple", mixed, number)
    both = SampleBatch.from_samples(pair, [{**row, "number": 1} for row in rows])
    assert pair.evaluate(both).tolist() == [(v, 1) for v in mixed.values]


# -- under way --------------------------------------------------------------------------------


def test_expressions_may_be_deeper_than_the_recursion_limit() -> None:
    total: Any = number
    for step in range(5000):
        total = (
            ME.condition(number > step % 3, total + 1, total - 1) if step % 9 == 0 else total + 1
        )
    assert total.freeze({"number": 2}) == meaning_by_loop(2)
    batch = SampleBatch.from_samples(number, [{"number": 2}, {"number": 0}])
    assert total.evaluate(batch).tolist() == [meaning_by_loop(2), meaning_by_loop(0)]
    assert list(total.read({"number": 1}).active) == ["number"]
    assert len(str(total)) < 10_000


def meaning_by_loop(value: int) -> int:
    total = value
    for step in range(5000):
        total += 1 if step % 9 or value > step % 3 else -1
    return total


def test_a_chain_that_shares_its_parts_is_not_walked_twice() -> None:
    # Without sharing this would take two to the power of 200 steps.
    width: Any = number + 1
    for _ in range(200):
        width = ME.condition(width > 2, width, width + number)
    assert width.freeze({"number": 1}) == 3
    assert list(width.read({"number": 1}).active) == ["number"]
    batch = SampleBatch.from_samples(number, [{"number": 1}, {"number": 2}])
    assert width.evaluate(batch).tolist() == [3, 3]


def test_what_is_needed_is_listed_once() -> None:
    # Each level is reached in two ways: walked anew, this would take 2 to the power of 60 steps.
    part: Any = apply("tuple", number, flag)
    for _ in range(60):
        part = apply("tuple", ME.condition(flag, part, 0), ME.condition(number > 0, part, other))
    known: dict[Node, Any] = {}
    found = []
    for leaf in needed(part, known):
        found.append(leaf.name)
        known[leaf] = {"number": 1, "flag": True}[leaf.name]
    assert found == ["flag", "number"]
    batch = SampleBatch.from_samples(part, [{"number": 1, "flag": True}] * 3)
    assert batch[1] == {"flag": True, "number": 1}


def test_an_error_says_what_was_being_evaluated() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        (1 + number // (number - 2)).freeze({"number": 2})
    assert "while evaluating number // (number - 2)" in caught.value.__notes__
    batch = SampleBatch.from_samples(number, [{"number": 2}])
    with pytest.raises(ZeroDivisionError) as caught:
        (number // (number - 2)).evaluate(batch)
    assert "while evaluating number // (number - 2)" in caught.value.__notes__


def test_a_walk_stops_at_each_leaf() -> None:
    walk = Walk(ME.condition(flag, number + other, other))
    assert walk.next_leaf() is flag
    walk.known[flag] = True
    assert walk.next_leaf() is number
    walk.known[number] = 1
    assert walk.next_leaf() is other
    walk.known[other] = 5
    assert walk.next_leaf() is None
    assert walk.known[walk.root] == 6


def test_values_remember_what_they_computed() -> None:
    class Counted:
        computed = 0

        def __add__(self, other: object) -> int:
            Counted.computed += 1
            return 40

    values = Values()
    values.known[number] = 2
    expression = apply("add", Counted(), number)
    assert values(expression + 2) == 42
    assert values(expression) == 40
    assert values("plain") == "plain"
    assert Counted.computed == 1


def test_values_of_what_is_not_active_are_refused() -> None:
    values = number.read({"number": 1})
    with pytest.raises(
        SampleMissingError, match=r"'numbers' is not active.* \(did you mean 'number'"
    ):
        values(Categorical([1], label="numbers") + 1)


def test_values_may_be_given_in_the_order_of_the_symbols() -> None:
    lazy = ME.condition(flag, number, other)
    assert lazy.leaf_symbols() == [flag, number, other]
    assert lazy.evaluate([False, 1, 5]) == 5
    assert lazy.evaluate(iter([True, 1, 5])) == 1
    with pytest.raises(SampleMissingError, match="'other'"):
        lazy.evaluate([False, 1])


@pytest.mark.parametrize("value", [0.0, -0.0, 0.5, -1.5, 2.5, 3.5, -2.5, math.inf, math.nan, 1e300])
@pytest.mark.parametrize("name", [*strategies.ROUNDING, "abs", "neg", "pos", "float", "max"])
def test_floats_round_as_in_python(name: str, value: float) -> None:
    symbol = Categorical([value, 1.25], label="x")
    expression = apply(name, symbol, *([0.0] if name == "max" else []))
    samples = [{"x": value}, {"x": 1.25}]

    def one_by_one() -> list[Any]:
        return [expression.evaluate(sample) for sample in samples]

    def found() -> list[Any]:
        values: list[Any] = columns_of([symbol], samples).get(expression).tolist()
        return values

    assert outcome(found) == outcome(one_by_one)
