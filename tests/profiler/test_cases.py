"""The arrays behind costs: cases, conditions, tables, and the expressions they become."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from nas_space.errors import DecompositionError, SampleMissingError
from nas_space.mutable import Categorical, CategoricalMultiple, MutableExpression, MutableList
from nas_space.mutable.node import key_of
from nas_space.nn import MutableModule
from nas_space.profiler.cases import (
    NONE,
    Cases,
    Context,
    Guard,
    Label,
    cases_of,
    chained,
    joint,
    ordered,
    selected,
    sizes,
    spread,
)
from nas_space.profiler.order import Order
from nas_space.profiler.terms import Tables, essential, expression_of, total
from tests.strategies import categoricals, pools, structures

from . import oracle

SYMBOLS = [Categorical(range(n), label=name) for name, n in (("a", 2), ("b", 3), ("c", 2))]
A, B, C = map(Label.of, SYMBOLS)


def tables(labels: Any) -> st.SearchStrategy[Any]:
    return hnp.arrays(np.int64, sizes(labels), elements=st.integers(0, 3))


some_labels = st.permutations([A, B, C]).flatmap(
    lambda order: st.integers(0, 3).map(lambda n: tuple(order[:n]))
)
labelled = some_labels.flatmap(lambda labels: st.tuples(st.just(labels), tables(labels)))


def at(labels: Any, table: Any, codes: dict[Any, int]) -> int:
    return int(table[tuple(codes[label] for label in labels)])


def of(item: tuple[Any, Any], codes: dict[Any, int]) -> int:
    return at(item[0], item[1], codes)


def every() -> list[dict[Any, int]]:
    return [{A: a, B: b, C: c} for a in range(A.size) for b in range(B.size) for c in range(C.size)]


def named(codes: dict[Any, int]) -> dict[str, int]:
    return {label.name: code for label, code in codes.items()}


# -- order --------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.integers(0, 6), unique=True).map(sorted).map(tuple), max_size=4))
def test_an_order_agrees_with_all_sequences(sequences):
    result = ordered(*sequences)
    assert sorted(result) == sorted({item for sequence in sequences for item in sequence})
    places = {item: place for place, item in enumerate(result)}
    for sequence in sequences:
        assert [places[item] for item in sequence] == sorted(places[item] for item in sequence)


def test_sequences_that_contradict_each_other_still_give_an_order():
    assert sorted(ordered(("a", "b"), ("b", "a"), ("c",))) == ["a", "b", "c"]
    assert chained(("b", "a"), ("a", "c")) == ("b", "a", "c")


@given(labelled, some_labels)
def test_spreading_puts_axes_in_place(item, more):
    labels, table = item
    onto = ordered(chained(more, labels))
    wide = np.broadcast_to(spread(table, labels, onto), sizes(onto))
    for codes in every():
        assert at(onto, wide, codes) == at(labels, table, codes)


# -- cases --------------------------------------------------------------------------------------


@given(labelled)
def test_reduced_cases_are_the_same_with_fewer_labels(item):
    labels, table = item
    cases = Cases(labels, table, list("wxyz"))
    small = cases.reduced()
    assert set(small.labels) <= set(labels)
    for codes in every():
        place = at(small.labels, small.ids, codes)
        assert small.values[place] == "wxyz"[at(labels, table, codes)]
    assert len(small.values) == len(set(table.flat))


def test_what_does_not_occur_makes_no_difference():
    cases = Cases((A, B), np.array([[0, 1, NONE], [NONE, 1, 0]]), ["x", "y", "never"]).reduced()
    assert cases.labels == (B,)
    assert list(cases.values) == ["x", "y"]


@given(st.lists(labelled, min_size=1, max_size=3), labelled)
def test_joint_cases_are_every_combination_that_occurs(items, condition):
    guard = Guard(condition[0], condition[1] > 0)
    context = Context().within(guard)
    parts = [Cases(labels, table, list("wxyz")).reduced() for labels, table in items]
    labels, ids, combinations = joint(parts, context)
    assert len(set(combinations)) == len(combinations)
    for codes in every():
        if of(condition, codes):
            found = combinations[at(labels, ids, codes)]
            for part, place in zip(parts, found, strict=True):
                assert part.values[place] == part.values[at(part.labels, part.ids, codes)]


@given(labelled, st.lists(labelled, min_size=4, max_size=4))
def test_selected_cases_are_those_of_the_condition_that_holds(selector, items):
    names = [[f"{place}{i}" for i in range(4)] for place in range(4)]
    outcomes = [
        (Guard(selector[0], selector[1] == place), Cases(item[0], item[1], names[place]))
        for place, item in enumerate(items)
    ]
    merged = selected(outcomes, key=str)
    for codes in every():
        place = of(selector, codes)
        expected = f"{place}{of(items[place], codes)}"
        assert merged.values[at(merged.labels, merged.ids, codes)] == expected


def test_cases_of_an_expression():
    a, b, _ = SYMBOLS
    cases, failures = cases_of(a + b * 2)
    assert (cases.labels, list(cases.values)) == ((A, B), [0, 2, 4, 1, 3, 5])
    assert not failures
    cases, failures = cases_of(6 // a)
    assert list(failures) == [0]
    assert list(cases.values) == [6]


def test_what_would_be_too_large_is_refused_by_name():
    many = [Categorical(range(32), label=f"many{i}") for i in range(5)]
    with pytest.raises(DecompositionError, match=r"33554432 combinations.*many0.*many4"):
        cases_of(sum(many[1:], many[0]))


# -- contexts -----------------------------------------------------------------------------------


@given(st.lists(labelled, max_size=3), some_labels)
def test_a_context_knows_what_occurs_in_it(items, labels):
    context = Context()
    for found, table in items:
        context = context.within(Guard(found, table > 0))
    joint_labels, mask = context.exact(labels)
    rough = context.mask(labels)
    for codes in every():
        inside = all(of(item, codes) for item in items)
        assert at(joint_labels, np.broadcast_to(mask, sizes(joint_labels)), codes) == inside
        if inside:  # what is rough never leaves out too much
            assert at(labels, rough, codes)


def test_contexts_within_contexts():
    outer = Context().within(Guard((A,), np.array([True, False])))
    inner = outer.within(Guard((B,), np.array([True, True, False])))
    assert Context().reaches_into(inner)
    assert outer.reaches_into(inner)
    assert not inner.reaches_into(outer)
    assert not outer.reaches_into(Context().within(Guard((A,), np.array([True, False]))))


# -- tables as expressions ----------------------------------------------------------------------

ANY = Order(nn.Module())  # no label decides about another


@given(labelled)
def test_an_expression_of_a_table_has_its_values(item):
    labels, table = item
    expression = expression_of(labels, table, ANY)
    for codes in every():
        found = (
            expression.evaluate(named(codes))
            if isinstance(expression, MutableExpression)
            else expression
        )
        assert found == of(item, codes)


def test_an_expression_needs_no_label_that_does_not_matter_there():
    table = np.array([[5, 5, 5], [1, 2, 3]])
    expression = expression_of((A, B), table, ANY)
    assert str(expression) == "condition(a == 0, 5, switch_case(b, {0: 1, 1: 2, 2: 3}))"
    assert expression.evaluate({"a": 0}) == 5
    with pytest.raises(SampleMissingError):
        expression.evaluate({"a": 1})


class Holding(MutableModule):
    """Has the labels that some expression has."""

    def __init__(self, part: Any) -> None:
        super().__init__()
        self.part = part


def identity(arch: dict[str, Any]) -> Any:
    return frozenset((name, key_of(value)) for name, value in arch.items())


@given(st.data())
def test_an_expression_asks_for_no_inactive_label(data):
    pool = data.draw(pools(categoricals, most=3))
    space = Holding(MutableList([data.draw(structures(pool))]))
    architectures = oracle.architectures(space)
    costs = {identity(arch): data.draw(st.integers(0, 2)) for arch in architectures}
    labels = tuple(map(Label.of, data.draw(st.permutations(pool))))
    table = np.zeros(sizes(labels), dtype=np.int64)
    for codes in np.ndindex(table.shape):
        everything = {x.name: x.symbol.value(c) for x, c in zip(labels, codes, strict=True)}
        if space.contains(everything):
            table[codes] = costs[identity(space.read(everything).active)]
    expression = expression_of(labels, table, Order(space))
    for arch in architectures:
        found = expression if isinstance(expression, int) else expression.evaluate(arch)
        assert found == costs[identity(arch)]


def test_thresholds_print_as_such():
    depth = Categorical([1, 2, 3, 4], label="depth")
    labels = (Label.of(depth),)
    assert str(expression_of(labels, np.array([0, 0, 7, 7]), ANY)) == "condition(depth >= 3, 7, 0)"
    assert str(expression_of(labels, np.array([7, 0, 7, 0]), ANY)) == (
        "case([(depth == 1, 7), (depth == 2, 0), (depth == 3, 7), (True, 0)])"
    )


def test_values_that_do_not_hash():
    pick = CategoricalMultiple(range(3), n_chosen=2, label="pick")
    expression = expression_of((Label.of(pick),), np.array([1, 2, 3]), ANY)
    assert [expression.evaluate({"pick": pick.value(code)}) for code in range(3)] == [1, 2, 3]


@given(st.lists(st.tuples(labelled, labelled), max_size=5))
def test_sums_and_maxima_of_tables(items):
    sums, most = Tables(nn.Module()), Tables(nn.Module())
    for condition, item in items:
        context = Context().within(Guard(condition[0], condition[1] > 0))
        sums.add(context, *item)
        most.raise_to(context, *item)
    wanted, largest = sums.sum(), most.maximum()
    for codes in every():
        values = [of(item, codes) for condition, item in items if of(condition, codes)]
        for found, expected in ((wanted, sum(values)), (largest, max(values, default=0))):
            assert found == expected if isinstance(found, int) else (
                found.evaluate(named(codes)) == expected
            )  # fmt: skip


@given(labelled, labelled)
def test_totals(one, other):
    labels, table = total(one, other)
    for codes in every():
        assert at(labels, table, codes) == of(one, codes) + of(other, codes)
    assert essential(labels, table)[0] == tuple(
        label for axis, label in enumerate(labels) if (table != table.take([0], axis=axis)).any()
    )
