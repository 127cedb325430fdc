"""Auxiliary variables: what defines them, and costs that are over them."""

from __future__ import annotations

import pickle
from itertools import product
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nas_space.mutable import Categorical, MutableExpression, MutableList
from nas_space.mutable.factors import Auxiliary, Factor
from nas_space.tables import count, restrict, sample, tabulate
from nas_space.tables.decision_diagrams import defining
from nas_space.tables.model import Model, root_of
from tests.tables.limits import limits

ME = MutableExpression
LABELS = [Categorical(range(2 + place % 2), label=f"x{place}") for place in range(4)]


def _possible(factors: list[Factor], codes: dict[Any, int]) -> set[int]:
    """The values that the condition's variable can have: all others are summed out."""
    left = [factor.given(codes) for factor in factors]
    variables = list(dict.fromkeys(v for factor in left for v in factor.scope))
    wanted = next(v for v in variables if isinstance(v, Auxiliary))
    found = []
    for row in product(*[range(v.size) for v in variables]):
        known = dict(zip(variables, row, strict=True))
        if all(factor.given(known).always for factor in left):
            found.append(known[wanted])
    assert len(found) == 1  # so that nothing is counted twice
    return set(found)


@given(st.lists(st.booleans(), min_size=36, max_size=36))
def test_a_chain_says_what_its_condition_says(entries: list[bool]) -> None:
    condition = Factor(LABELS, np.array(entries).reshape(2, 3, 2, 3))
    with limits("named"):
        factors = list(defining(Auxiliary.of(condition)))
    for codes in np.ndindex(*condition.values.shape):
        known = dict(zip(LABELS, map(int, codes), strict=True))
        assert _possible(factors, known) == {int(condition.values[codes])}


def test_a_condition_that_is_many_small_ones_is_a_chain_of_small_factors() -> None:
    labels = [Categorical(range(6), label=f"input{place}") for place in range(6)]
    values = np.ones((6,) * 6, np.bool_)
    for axis in range(6):
        values &= np.arange(6).reshape(6, *[1] * (5 - axis)) != 0
    factors = list(defining(Auxiliary.of(Factor(labels, values))))
    assert sum(factor.values.size for factor in factors) == 12 + 5 * 24


def test_equal_conditions_are_one_variable_also_after_pickling() -> None:
    condition = Factor(LABELS[:2], np.eye(2, 3, dtype=np.bool_))
    variable = Auxiliary.of(condition)
    assert Auxiliary.of(Factor(LABELS[:2], np.eye(2, 3, dtype=np.bool_))) is variable
    assert pickle.loads(pickle.dumps(variable)) is variable
    assert Auxiliary.of(Factor(LABELS[:2], ~condition.values)) is not variable


def test_a_cost_under_conditions_on_many_labels_is_exact_and_small() -> None:
    inputs = [Categorical(range(9), label=f"in{place}") for place in range(6)]
    widths = [Categorical([4, 8, 12], label=f"width{place}") for place in range(3)]
    loose = [(inputs[n] != n) & (inputs[n + 1] != n) & (inputs[n + 2] != n) for n in range(3)]
    loose = [here & (inputs[5] != place) for place, here in enumerate(loose)]
    cost = ME.sum(ME.condition(h, w * 3 + 1, 0) for h, w in zip(loose, widths, strict=True))
    table = tabulate(cost)
    assert max(term.values.size for term in table.terms) <= 6
    few = restrict(MutableList([*inputs, *widths]), cost <= 40)
    batch = sample(few, 500, seed=0)
    assert table.evaluate(batch).tolist() == [cost.evaluate(arch) for arch in batch]
    costs = [
        sum((w * 3 + 1) * h for w, h in zip(row, here, strict=True))
        for here in product([0, 1], repeat=3)
        for row in product([4, 8, 12], repeat=3)
    ]
    assert (table.bounds().minimum, table.bounds().maximum) == (min(costs), max(costs))
    # By another way: of each combination of inputs, which nodes are loose.
    grids = np.meshgrid(*[np.arange(9)] * 6, indexing="ij")
    here = [
        (grids[n] != n) & (grids[n + 1] != n) & (grids[n + 2] != n) & (grids[5] != n)
        for n in range(3)
    ]
    number = 0
    mean = 0.0
    for row in product([4, 8, 12], repeat=3):
        values = sum((w * 3 + 1) * h for w, h in zip(row, here, strict=True))
        number += int((values <= 40).sum())
        mean += float(values.mean()) / 27
    assert few.count() == number
    even = {s.name: np.full(size := len(s.values), 1 / size) for s in (*inputs, *widths)}
    assert abs(float(table.expected(even)) - mean) < 1e-9


def test_conditions_on_which_no_label_depends_are_not_in_the_model():
    one, two, three = (Categorical([0, 1], label=name) for name in ("one", "two", "three"))
    inner = ME.condition(one + two > 1, ME.condition(three + one > 1, two, 1), 0)
    space = MutableList([one, two, three, inner])
    with limits("named"):
        model = Model.of(root_of(space))
        assert model.activity.definitions
        assert not model.allowed
        assert count(space) == 8
