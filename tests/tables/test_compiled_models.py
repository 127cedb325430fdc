"""A compiled model answers for all terms of a pattern, as one that is made for them alone would."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_space.mutable import Categorical, MutableList, SampleBatch
from nas_space.mutable.factors import Factor, distinct_rows
from nas_space.tables import Table, best, restrict, tabulate
from nas_space.tables.factor_graph import TermPattern
from nas_space.tables.model import Model, root_of
from tests.tables.restrictions import Restriction, restrictions
from tests.tables.spaces import unhurried

LAYERS = [Categorical(range(size), label=f"layer{size}") for size in (2, 3, 4)]
"""Of different sizes, so that an axis is not taken for another."""


def renumbered(table: Table, seed: int) -> Table:
    """A table that tells apart what another does, with other numbers."""
    source = np.random.default_rng(seed)
    terms = []
    for term in table.terms:
        numbers, places = np.unique(term.values, return_inverse=True)
        others = source.permutation(3 * len(numbers))[: len(numbers)] - 2
        terms.append(Factor(term.scope, others[places].reshape(term.values.shape)))
    return Table(None, terms, int(source.integers(-5, 5)))


@unhurried
@given(restrictions(), st.integers(1, 6), st.booleans(), st.integers(0, 2**32 - 1))
def test_new_numbers_in_a_kept_model_give_what_a_fresh_one_gives(
    drawn: Restriction, k: int, maximize: bool, seed: int
) -> None:
    space = drawn.space()
    model = Model.of(root_of(space))
    tables = [renumbered(tabulate(drawn.costs[0]), seed + number) for number in range(3)]
    kept = [best(space, table, k, maximize=maximize) for table in (*tables, tables[0])]
    assert kept[0] == kept[3]
    left = list(drawn.left.values())
    batch = SampleBatch.from_samples(drawn.whole, left)
    for table, found in zip(tables, kept, strict=False):
        model._compiled.clear()
        assert best(space, table, k, maximize=maximize) == found  # of equal ones, the same
        every = sorted(table.evaluate(batch).tolist(), reverse=maximize)
        assert [scored.value for scored in found] == every[:k]
        assert all(scored.arch in left for scored in found)


@st.composite
def terms(draw: st.DrawFn) -> list[Factor]:
    """Terms over one label or two, of few numbers, so that codes are often alike."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        scope = draw(st.permutations(LAYERS))[: draw(st.integers(1, 2))]
        numbers = draw(st.lists(st.sampled_from([0, 1]), min_size=12))
        values = np.resize(numbers, tuple(label.size for label in scope))
        found.append(Factor(scope, values * draw(st.sampled_from([1, 2.5]))))
    return found


def alike(some: list[Factor]) -> Any:
    """Of each label, which pairs of codes no term tells apart; gone through one by one."""
    return {
        (label.name, one, other)
        for label in {label: None for term in some for label in term.scope}
        for one, other in combinations(range(label.size), 2)
        if all(
            np.array_equal(term.given({label: one}).values, term.given({label: other}).values)
            for term in some
            if label in term.axes()
        )
    }


def scopes(some: list[Factor]) -> list[list[str]]:
    return [[label.name for label in term.scope] for term in some]


@given(terms(), terms())
def test_patterns_are_equal_where_labels_and_what_is_told_apart_are(one, other):
    same = scopes(one) == scopes(other) and alike(one) == alike(other)
    assert (TermPattern(one).key == TermPattern(other).key) == same


@given(terms(), terms(), st.booleans())
def test_a_model_is_kept_for_its_pattern_and_for_no_other(one, other, within):
    space: Any = MutableList(LAYERS)
    if within:
        space = restrict(space, LAYERS[0] + LAYERS[1] <= 2)
    model = Model(root_of(space))
    first, second = (model.compiled([Table(None, some)]) for some in (one, other))
    if TermPattern(one).key == TermPattern(other).key:
        assert first is second
    for some, compiled in ((one, first), (other, second)):
        assert compiled.graph.holds(some)
        assert model.compiled([Table(None, some)]) is compiled


def test_more_patterns_than_are_kept_are_answered_as_well():
    space = MutableList(LAYERS)
    tables = [
        Table(None, [Factor((one, other), np.arange(one.size * other.size).reshape(one.size, -1))])
        for one in LAYERS
        for other in LAYERS
        if one is not other
    ] + [Table(None, [Factor((LAYERS[2],), np.array([0, 0, 1, 2]) == n)]) for n in range(3)]
    model = Model.of(root_of(space))
    for table in tables * 2:
        found = best(space, table, maximize=True)[0]
        batch = SampleBatch.from_samples(space, [found.arch])
        assert table.evaluate(batch).tolist() == [found.value]
        assert found.value == max(int(term.values.max()) for term in table.terms)
        assert len(model._compiled) <= 8


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.sampled_from(["f8", "i8", "?"]))
def test_different_rows_are_those_that_numpy_finds(seed, columns, kind):
    source = np.random.default_rng(seed)
    rows = source.choice([-0.0, 0.0, 1.0, -2.5], size=(12, columns)).astype(kind)
    rows = rows[source.integers(0, 12, 20)]
    kept, case = distinct_rows(rows)
    wanted, places = np.unique(rows, axis=0, return_inverse=True)
    assert np.array_equal(kept, wanted)
    assert np.array_equal(case, places.reshape(-1))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1)])
def test_few_rows_or_columns_are_told_apart(shape):
    kept, case = distinct_rows(np.zeros(shape))
    assert len(kept) == min(1, shape[0])
    assert case.tolist() == [0] * shape[0]
