"""Contexts, sums and maxima of factors, and the costs that they become."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nas_space.errors import SampleMissingError
from nas_space.mutable import (
    Categorical,
    CategoricalMultiple,
    MutableExpression,
    MutableList,
    SampleBatch,
)
from nas_space.mutable.factors import Factor
from nas_space.mutable.node import key_of
from nas_space.nn import MutableModule
from nas_space.profiler import accumulation
from nas_space.profiler.accumulation import Accumulator, added, largest
from nas_space.profiler.contexts import EVERYWHERE, Context
from nas_space.tables import activity
from tests.mutable.test_factors import FACTORS, SCOPES, A, B, at, every
from tests.strategies import categoricals, pools, structures

from . import oracle


def true(factor: Factor) -> Factor:
    return Factor(factor.scope, factor.values > 0)


def named(codes: dict[Any, int]) -> dict[str, int]:
    return {symbol.name: code for symbol, code in codes.items()}


def value(cost: Any, arch: Any) -> Any:
    return cost.evaluate(arch) if isinstance(cost, MutableExpression) else cost


# -- contexts -----------------------------------------------------------------------------------


@given(st.lists(FACTORS.map(true), max_size=3), SCOPES, FACTORS)
def test_a_context_knows_what_occurs_in_it(conditions, scope, factor):
    context = EVERYWHERE
    for condition in conditions:
        context = context.within(condition)
    rough = Factor(scope, context.possible(scope))
    for codes in every():
        inside = all(at(condition, codes) for condition in conditions)
        assert context.has(named(codes)) == inside
        assert bool(at(context.exact, codes)) == inside
        assert at(context.only(factor), codes) == (at(factor, codes) if inside else 0)
        if inside:  # what is rough never leaves out too much
            assert at(rough, codes)


def test_contexts_within_contexts():
    first, second = Factor((A,), np.array([True, False])), Factor((B,), np.array([1, 1, 0]) > 0)
    outer = EVERYWHERE.within(first)
    inner = outer.within(second)
    assert EVERYWHERE.reaches_into(inner)
    assert outer.reaches_into(inner)
    assert not inner.reaches_into(outer)
    assert not outer.reaches_into(EVERYWHERE.within(Factor((A,), np.array([True, False]))))
    assert inner.has({"a": 0, "b": 1})
    assert outer.has({"a": 0})  # whatever the labels are that it does not have
    assert not inner.has({"a": 0, "b": 2})


# -- sums and maxima ----------------------------------------------------------------------------


@given(st.lists(st.tuples(FACTORS.map(true), FACTORS), max_size=5))
def test_sums_and_maxima_of_factors(items):
    sums, most = Accumulator(nn.Module()), Accumulator(nn.Module())
    for condition, factor in items:
        context = Context((condition,))
        sums.add(factor, context)
        most.raise_to(factor, context)
    total, maximum = sums.sum(), most.maximum()
    for codes in every():
        values = [at(factor, codes) for condition, factor in items if at(condition, codes)]
        assert value(total, named(codes)) == sum(values)
        assert value(maximum, named(codes)) == max(values, default=0)


@given(FACTORS, FACTORS)
def test_totals(one, other):
    for codes in every():
        assert at(added(one, other), codes) == at(one, codes) + at(other, codes)
        assert at(largest(one, other), codes) == max(at(one, codes), at(other, codes))


# -- costs ask for no label that an architecture does not have ------------------------------------


class Holding(MutableModule):
    """Has the labels that some expression has."""

    def __init__(self, part: Any) -> None:
        super().__init__()
        self.part = part


def identity(arch: dict[str, Any]) -> Any:
    return frozenset((name, key_of(item)) for name, item in arch.items())


def drawn(data: st.DataObject) -> tuple[Any, list[dict[str, Any]], dict[Any, int], Any]:
    """A space, its architectures, what each shall cost, and the cost as an expression."""
    pool = data.draw(pools(categoricals, most=3))
    space = Holding(MutableList([data.draw(structures(pool))]))
    architectures = oracle.architectures(space)
    costs = {identity(arch): data.draw(st.integers(0, 2)) for arch in architectures}
    scope = data.draw(st.permutations(pool))
    table = np.zeros(tuple(symbol.size or 0 for symbol in scope), dtype=np.int64)
    for codes in np.ndindex(table.shape):
        everything = {s.name: s.value(code) for s, code in zip(scope, codes, strict=True)}
        if space.contains(everything):
            table[codes] = costs[identity(space.read(everything).active)]
    total = Accumulator(space)
    total.add(Factor(scope, table))
    return space, architectures, costs, total.sum()


@given(st.data())
def test_a_cost_asks_for_no_inactive_label(data):
    space, architectures, costs, cost = drawn(data)
    expected = [costs[identity(arch)] for arch in architectures]
    assert [value(cost, arch) for arch in architectures] == expected
    if isinstance(cost, MutableExpression) and architectures:
        batch = SampleBatch.from_samples(space, architectures)
        assert cost.evaluate(batch).tolist() == expected
        again = pickle.loads(pickle.dumps(cost))
        assert again is cost
        # As a space of its own, too: asked one label after another.
        assert [cost.freeze(arch) for arch in architectures] == expected


@given(st.data())
def test_where_what_decides_is_too_much_it_counts_where_a_cost_depends_on_a_label(data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(activity, "_EASY", 1)  # all conditions are named
        space, architectures, costs, cost = drawn(data)
    assert [value(cost, arch) for arch in architectures] == [
        costs[identity(arch)] for arch in architectures
    ]
    del space


def test_a_label_that_is_active_must_be_given():
    inner = Categorical([1, 2], label="inner")
    outer = Categorical([0, 1], label="outer")
    space = Holding(MutableExpression.condition(outer == 1, inner, 0))
    total = Accumulator(space)
    total.add(Factor((outer, inner), np.array([[5, 5], [1, 2]])))
    cost = total.sum()
    assert cost.evaluate({"outer": 0}) == 5
    with pytest.raises(SampleMissingError, match="'inner' has no value"):
        cost.evaluate({"outer": 1})
    with pytest.raises(SampleMissingError, match="'outer' has no value"):
        cost.evaluate({"inner": 1})


def test_values_that_do_not_hash():
    pick = CategoricalMultiple(range(3), n_chosen=2, label="pick")
    total = Accumulator(nn.Module())
    total.add(Factor((pick,), np.array([1, 2, 3])))
    assert [total.sum().evaluate({"pick": pick.value(code)}) for code in range(3)] == [1, 2, 3]


def test_a_small_cost_prints_its_entries():
    depth = Categorical([1, 2, 3, 4], label="depth")
    total = Accumulator(nn.Module())
    total.add(Factor((depth,), np.array([0, 0, 7, 7])))
    total.add(Factor.constant(2))
    assert str(total.sum()) == "sum([{1: 0, 2: 0, 3: 7, 4: 7}[depth], 2])"
    assert accumulation.titled(total.sum(), "x") is total.sum()
