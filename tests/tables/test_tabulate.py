"""Tables are the expression they were made of: value, expectation, extremes."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas_space.errors import DecompositionError, LabelError, SampleMissingError, UsageError
from nas_space.mutable import (
    Categorical,
    MutableExpression,
    MutableList,
    MutableSymbol,
    Numerical,
    SampleBatch,
)
from nas_space.mutable.expression import apply
from nas_space.mutable.factors import Auxiliary, Factor
from nas_space.mutable.node import Node
from nas_space.mutable.random_words import words
from nas_space.tables import tabulate
from nas_space.tables.lookup import lookup_expression
from tests.strategies import combinations, decoded, expressions, pools
from tests.tables.brute import architectures
from tests.tables.spaces import Costed, spaces, unhurried

ME = MutableExpression


@unhurried
@given(spaces())
def test_a_table_has_the_values_of_its_expression(drawn: Costed) -> None:
    space, (cost,) = drawn
    archs = list(architectures(space).values())
    table = tabulate(cost)
    batch = SampleBatch.from_samples(space, archs)
    assert table.evaluate(batch).tolist() == [ME.evaluate(cost, arch) for arch in archs]


@unhurried
@given(st.data())
def test_any_expression_is_tabulated_or_refused_by_its_term(data: st.DataObject) -> None:
    pool: list[MutableSymbol[Any]] = data.draw(pools())
    expression = data.draw(expressions(pool, several=False))
    try:
        table = tabulate(expression)
    except DecompositionError as error:
        assert isinstance(error.term, (Node, int, float))  # noqa: PT017 - or there is no error
        return
    # What a difference cancels out is not looked at, so it need not have a value.
    archs = [arch for arch in combinations(pool) if _has_value(expression, arch)]
    if not archs:
        return
    batch = SampleBatch.from_samples(MutableList(pool), archs)
    expected = np.array([float(expression.evaluate(arch)) for arch in archs])
    assert table.evaluate(batch).astype(float) == pytest.approx(expected, rel=1e-9)
    if table.whole:
        assert table.evaluate(batch).tolist() == [expression.evaluate(arch) for arch in archs]
    assert table.evaluate(archs[0]) == pytest.approx(float(expected[0]), rel=1e-9)


def _has_value(expression: Any, arch: dict[str, Any]) -> bool:
    try:
        expression.evaluate(arch)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return False
    return True


@unhurried
@given(spaces(), st.data())
def test_the_expectation_is_that_of_enumeration(drawn: Costed, data: st.DataObject) -> None:
    _, (cost,) = drawn
    table = tabulate(cost)
    if not isinstance(cost, ME):
        return
    symbols = list(cost.symbols().values())
    policy = {}
    for symbol in symbols:
        size = symbol.size or 0
        parts = data.draw(st.lists(st.integers(0, 5), min_size=size, max_size=size))
        parts[0] += 1
        policy[symbol.name] = np.array(parts) / sum(parts)
    expected = 0.0
    for codes in np.ndindex(*[symbol.size or 0 for symbol in symbols]):
        share = np.prod([policy[s.name][c] for s, c in zip(symbols, codes, strict=True)])
        values = {s.name: s.value(c) for s, c in zip(symbols, codes, strict=True)}
        expected += float(share) * float(cost.evaluate(values))
    scale = 1e-9 * max(1.0, *map(abs, table.interval()))
    assert float(table.expected(policy)) == pytest.approx(expected, rel=1e-9, abs=scale)
    tensors = {name: torch.tensor(vector, requires_grad=True) for name, vector in policy.items()}
    found = table.expected(tensors)
    assert float(found.detach() if tensors else found) == pytest.approx(
        expected, rel=1e-9, abs=scale
    )


def test_gradients_are_what_a_change_of_the_policy_changes() -> None:
    a, b = Categorical([1, 2, 5], label="a"), Categorical([3, 4], label="b")
    table = tabulate(ME.condition(a > 1, a * b, 7))
    logits = {"a": torch.randn(3, dtype=torch.float64), "b": torch.randn(2, dtype=torch.float64)}

    def cost(first: torch.Tensor, second: torch.Tensor) -> Any:
        return table.expected({"a": first.softmax(0), "b": second.softmax(0)})

    inputs = [logit.requires_grad_() for logit in logits.values()]
    assert torch.autograd.gradcheck(cost, inputs)


def test_tensors_give_a_scalar_of_their_type() -> None:
    a, b = Categorical([1, 2], label="a"), Categorical([3, 4], label="b")
    table = tabulate(a * 10 + b)
    half = torch.full((2,), 0.5, dtype=torch.float32)
    mixed = table.expected({"a": half, "b": [0.25, 0.75], "other": "not looked at"})
    assert (mixed.dtype, mixed.shape, mixed.item()) == (torch.float32, (), 18.75)
    assert isinstance(table.expected({"a": [1, 0], "b": [0, 1]}), float)


@unhurried
@given(spaces())
def test_bounds_are_attained_and_nothing_lies_outside(drawn: Costed) -> None:
    _, (cost,) = drawn
    table = tabulate(cost)
    found = table.bounds()
    values = (
        [cost.evaluate(arch) for arch in architectures(cost).values()]
        if isinstance(cost, ME)
        else [cost]
    )
    assert (found.minimum, found.maximum) == (min(values), max(values))
    assert table.evaluate(found.at_minimum) == found.minimum
    assert table.evaluate(found.at_maximum) == found.maximum


def test_terms_stay_small() -> None:
    widths = [Categorical([8, 16, 32], label=f"w{i}") for i in range(60)]
    on = [Categorical([True, False], label=f"on{i}") for i in range(60)]
    depth = Categorical(range(1, 61), label="depth")
    blocks = [
        ME.condition(flag, (a * b * 9 + a) * 2, -b)
        for a, b, flag in zip(widths, widths[1:], on, strict=False)
    ]
    cost = ME.switch_case(depth, {n: ME.sum(blocks[: n - 1]) for n in depth.values}) / 2 * 4
    table = tabulate(cost)
    assert len(table.terms) == 59
    assert max(term.values.size for term in table.terms) == 60 * 3 * 3 * 2
    arch = MutableList([*widths, *on, depth])
    batch = SampleBatch.draw(arch, 50, words(0))
    assert table.evaluate(batch).tolist() == cost.evaluate(batch).tolist()


def test_a_part_that_several_ways_lead_to_is_taken_apart_once() -> None:
    # 2 ** 40 paths lead to the innermost part.
    flags = [Categorical([True, False], label=f"f{i}") for i in range(40)]
    cost: Any = Categorical([3, 5], label="x")
    for number, flag in enumerate(flags):
        cost = ME.condition(flag, cost + number, cost - 1)
    table = tabulate(cost)
    assert [len(term.scope) for term in table.terms] == [1] * 41
    assert table.interval() == (3 - 40, 5 + sum(range(40)))


def test_products_with_something_small_are_distributed() -> None:
    scale = Categorical([1, 2], label="scale")
    labels = [Categorical([1, 2, 3], label=f"x{i}") for i in range(30)]
    table = tabulate(scale * (ME.sum(labels) + 5) * 3)
    assert {tuple(s.name for s in term.scope) for term in table.terms} == {
        ("scale", f"x{i}") for i in range(30)
    }
    everything = {"scale": 2, **{f"x{i}": 3 for i in range(30)}}
    assert table.evaluate(everything) == 2 * 95 * 3


def test_roundings_of_whole_sums_change_nothing() -> None:
    labels = [Categorical([1, 2, 3], label=f"x{i}") for i in range(30)]
    assert len(tabulate(round(ME.sum(labels))).terms) == 30
    halves = [Categorical([0.5, 1.0], label=f"h{i}") for i in range(30)]
    with pytest.raises(DecompositionError, match="30 labels at once"):
        tabulate(round(ME.sum(halves)))


def test_what_does_not_decompose_is_refused_by_its_term() -> None:
    labels = [Categorical([1, 2, 3], label=f"x{i}") for i in range(30)]
    peak = ME.max(*labels)
    with pytest.raises(DecompositionError, match="30 labels at once") as caught:
        tabulate(peak + labels[0])
    assert caught.value.term is peak
    rate = Numerical(0, 1, label="rate")
    with pytest.raises(DecompositionError, match=r"'rate'.*quantize"):
        tabulate(rate * 3 + labels[0])
    with pytest.raises(DecompositionError, match="'big', which is no number"):
        tabulate(Categorical(["big", "small"], label="size") + 0 * labels[0])
    with pytest.raises(DecompositionError, match="too large"):
        tabulate(labels[0] * 2**62)
    with pytest.raises(DecompositionError, match="no value for some"):
        tabulate(ME.switch_case(labels[0], {1: 5, 2: labels[1]}))


def test_where_a_part_has_no_value_it_need_not_have_one() -> None:
    a, b = Categorical([0, 1, 2], label="a"), Categorical([1, 2], label="b")
    table = tabulate(ME.condition(a != 0, 12 // a, 0) + b)
    assert [table.evaluate({"a": n, "b": 1}) for n in (0, 1, 2)] == [1, 13, 7]


def test_a_unit_makes_fractions_whole() -> None:
    times = Categorical([0.0004, 1.2503], label="t")
    assert not tabulate(times).whole
    table = tabulate(times, unit=0.001)
    assert table.whole
    assert [table.evaluate({"t": t}) for t in (0.0004, 1.2503)] == [0, 1250]
    with pytest.raises(UsageError, match="positive"):
        tabulate(times, unit=0)


@pytest.mark.parametrize("large", [2**53, 2**53 - 1, 5 * 2**51])
def test_sums_of_floats_that_depend_on_the_order_are_refused_and_integers_exact(large):
    a = Categorical([0, 1, 3, large], label="a")
    b = Categorical([0, 1, large, large + 1], label="b")
    as_float = MutableExpression.to_float
    forms: list[Any] = [
        lambda a, b, real: real(1 + a) + (1 + b),
        lambda a, b, real: real(a) + b + 1,
        lambda a, b, real: real(2 + 2 * a) / 2 + (1 + b),
        lambda a, b, real: real(a) * 3 - b,
        lambda a, b, real: 1 + (b + real(a)) + 1,
    ]
    for form in forms:
        with pytest.raises(DecompositionError, match=r"reach 2\*\*53.*order of its terms"):
            tabulate(form(a, b, as_float))
        if form is not forms[2]:  # which divides
            whole = tabulate(form(a, b, MutableExpression.to_int))
            for arch in combinations([a, b]):
                assert whole.evaluate(arch) == form(arch["a"], arch["b"], int)
    small = tabulate(as_float(Categorical([0, 2**51], label="a")) + b * 0 + 1)
    assert small.evaluate({"a": 2**51, "b": 1}) == 2**51 + 1


def test_plain_numbers_are_tables_without_labels() -> None:
    table = tabulate(7)
    assert (table.evaluate({}), table.bounds()[:2], table.expected({})) == (7, (7, 7), 7.0)


def test_batches_of_other_spaces_are_refused() -> None:
    a, b = Categorical([1, 2], label="width"), Categorical([1, 2], label="depth")
    batch = SampleBatch.from_samples(MutableList([a]), [{"width": 1}])
    with pytest.raises(LabelError, match=r"'wdth', which the space does not have \(did you mean"):
        tabulate(Categorical([1, 2], label="wdth") + 1).evaluate(batch)
    with pytest.raises(LabelError, match="another choice labelled 'width'"):
        tabulate(Categorical([1, 3], label="width") + 1).evaluate(batch)
    space = ME.condition(a == 1, b, 0)
    some = SampleBatch.from_samples(space, [{"width": 2}])
    with pytest.raises(SampleMissingError, match="'depth' where it is not active"):
        tabulate(a + b).evaluate(some)
    guarded = tabulate(a + ME.condition(a == 1, b * 5, 100))
    assert guarded.evaluate(some).tolist() == [102]


def test_policies_are_checked() -> None:
    table = tabulate(Categorical([1, 2], label="width") * Categorical([1, 2], label="depth"))
    with pytest.raises(UsageError, match=r"'depth' has no probabilities.*did you mean 'deph'"):
        table.expected({"width": [0.5, 0.5], "deph": [0.5, 0.5]})
    with pytest.raises(UsageError, match=r"needs 2 probabilities, but got an array of shape .3,"):
        table.expected({"width": [0.5, 0.5, 0], "depth": [0.5, 0.5]})
    with pytest.raises(UsageError, match="sum to 1"):
        table.expected({"width": [0.5, 0.6], "depth": [0.5, 0.5]})


def test_what_depends_on_a_condition_over_a_label_that_is_not_active_is_zero() -> None:
    outer, inner = Categorical([0, 1], label="outer"), Categorical([0, 1, 2], label="inner")
    space = MutableList([ME.condition(outer == 1, inner, 0)])
    holds = Auxiliary.of(Factor((inner,), np.array([False, True, True])))
    found = lookup_expression(space.structure(), [Factor((holds,), np.array([0, 5]))], 3)
    archs: Any = [{"outer": 0}, *({"outer": 1, "inner": value} for value in range(3))]
    assert [found.evaluate(arch) for arch in archs] == [3, 3, 8, 8]


def test_tables_pickle() -> None:
    table = tabulate(Categorical([1, 2], label="a") * Categorical([1, 2], label="b") + 1)
    table.expected({"a": torch.ones(2) / 2, "b": torch.ones(2) / 2})
    again = pickle.loads(pickle.dumps(table))
    assert again.expression is table.expression
    assert again.evaluate({"a": 2, "b": 2}) == 5


@unhurried
@given(spaces())
def test_labels_without_a_say_do_not_occur(drawn: Costed) -> None:
    _, (cost,) = drawn
    unused = list(cost.symbols().values()) if isinstance(cost, ME) else []
    table = tabulate(ME.sum([symbol == decoded(symbol)[0] for symbol in unused] or [1]) * 0)
    assert (table.terms, table.constant) == ((), 0)
    assert tabulate(apply("sub", cost, cost) if unused else 0).interval() == (0, 0)
