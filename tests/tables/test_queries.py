"""Whatever is asked of a space, restricted or not, agrees with going through it one by one."""

from __future__ import annotations

import functools
import math
import operator
import pickle
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from nas_space.errors import (
    ConstraintViolation,
    DecompositionError,
    DomainError,
    ExpressionError,
    InfeasibleError,
    LabelError,
    SampleMissingError,
    UsageError,
)
from nas_space.mutable import (
    Categorical,
    CategoricalMultiple,
    Constraint,
    ExpressionConstraint,
    MutableExpression,
    MutableList,
    MutableSymbol,
    Numerical,
    SampleBatch,
)
from nas_space.mutable.factor_sum import FactorSum
from nas_space.mutable.factors import Factor
from nas_space.mutable.printing import brief
from nas_space.tables import (
    Over,
    Restricted,
    best,
    bounds,
    count,
    default,
    grid,
    pareto,
    restrict,
    rounded,
    sample,
    tabulate,
)
from tests.strategies import pools, structures
from tests.strategies import symbols as any_symbols
from tests.tables.brute import architectures, front, key, probabilities
from tests.tables.limits import limits, ways
from tests.tables.restrictions import Restriction, restrictions
from tests.tables.spaces import unhurried

ME = MutableExpression


def value(cost: Any, arch: dict[str, Any]) -> Any:
    return cost.evaluate(arch) if isinstance(cost, ME) else cost


@unhurried
@given(st.data(), ways)
def test_every_structure_is_counted(data: st.DataObject, way: str) -> None:
    pool: list[MutableSymbol[Any]] = data.draw(pools(lambda label: any_symbols(label, listed=True)))
    assume(math.prod(symbol.size or 1 for symbol in pool) <= 600)
    space = data.draw(structures(pool))
    expected = architectures(space)
    with limits(way):
        assert count(space) == len(expected)
        assert sorted(key(arch) for arch in grid(space)) == sorted(expected)
        if expected:
            assert key(sample(space, over="architectures", seed=0)) in expected
        else:
            with pytest.raises(InfeasibleError):
                sample(space, over="architectures", seed=0)


@unhurried
@given(restrictions())
def test_a_restricted_space_holds_what_meets_the_conditions(drawn: Restriction) -> None:
    with limits(drawn.way):
        space = drawn.space()
        assert count(space) == len(drawn.left)
        assert sorted(key(arch) for arch in grid(space)) == sorted(drawn.left)
        ways_: tuple[Over, ...] = ("architectures", "labels")
        for over in ways_:
            try:
                batch = sample(space, 20, over=over, seed=1)
            except InfeasibleError:
                assert over == "labels"
                assert not any(probabilities(drawn.whole)[name] for name in drawn.left)
                continue
            assert {key(arch) for arch in batch} <= set(drawn.left)
            assert all(space.contains(arch) for arch in batch)
            assert batch[:5] == sample(space, 5, over=over, seed=1)
            assert batch[0] == sample(space, over=over, seed=1)


@unhurried
@given(restrictions(empty=True))
def test_what_is_empty_is_refused_at_once(drawn: Restriction) -> None:
    with limits(drawn.way), pytest.raises(InfeasibleError) as caught:
        drawn.space()
    (condition, *others) = drawn.conditions
    operator = condition.operator if isinstance(condition, ME) and not others else None
    if operator is not None and operator.name != "or":
        one, other = condition.arguments
        cost = one - other if isinstance(one, ME) == isinstance(other, ME) else one
        cost = other if isinstance(other, ME) and not isinstance(one, ME) else cost
        values = [value(cost, arch) for arch in architectures(drawn.whole).values()]
        assert caught.value.smallest == min(values)


@unhurried
@given(restrictions(), st.integers(1, 12), st.booleans())
def test_the_best_are_the_best(drawn: Restriction, k: int, maximize: bool) -> None:
    cost = drawn.costs[0]
    with limits(drawn.way):
        found = best(drawn.space(), cost, k, maximize=maximize)
    values = sorted((value(cost, arch) for arch in drawn.left.values()), reverse=maximize)
    assert [scored.value for scored in found] == values[:k]
    assert [value(cost, scored.arch) for scored in found] == values[:k]
    assert len({key(scored.arch) for scored in found} & set(drawn.left)) == min(k, len(values))


LAYERS = [Categorical(range(3), label=f"layer{i}") for i in range(6)]


def chained(tables: np.ndarray) -> Any:
    """A cost with a table for each two neighbours of :data:`LAYERS`."""
    return ME.sum(
        ME.switch_case(
            one, {i: ME.switch_case(other, dict(enumerate(row))) for i, row in enumerate(table)}
        )
        for (one, other), table in zip(pairwise(LAYERS), tables.tolist(), strict=True)
    )


@unhurried
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 2),
    st.tuples(st.integers(0, 95), st.integers(1, 60)),
    st.sampled_from([1, 4, 30]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["windows", "arrays", "portions"]),
)
def test_the_best_by_one_cost_within_windows(seed, windows, window, k, maximize, own, way):
    random = np.random.default_rng(seed)
    tables = random.integers(0, 40, (1 + windows, 5, 3, 3))
    # What costs more is often worth more: so the best is at an end of a window.
    tables[0] += tables[1:].sum(0) * random.integers(-1, 3)
    codes = np.stack(np.meshgrid(*[range(3)] * 6, indexing="ij")).reshape(6, -1)
    worth, *sums = [sum(t[i][codes[i], codes[i + 1]] for i in range(5)) for t in tables]
    ends = [np.percentile(each, [window[0], min(100, sum(window))]) for each in sums]
    inside = np.all(
        [(low <= each) & (each <= high) for each, (low, high) in zip(sums, ends, strict=True)], 0
    )
    assume(inside.any())
    objective, *costs = map(chained, tables)
    if own:  # by a cost that has a window itself
        objective, worth = costs[0], sums[0]
    conditions = [
        condition
        for cost, (low, high) in zip(costs, ends, strict=True)
        for condition in (cost >= low, cost <= high)
    ]
    with limits(way):
        found = best(restrict(MutableList(LAYERS), *conditions), objective, k, maximize=maximize)
    places = [
        int("".join(str(scored.arch[layer.name]) for layer in LAYERS), base=3) for scored in found
    ]
    values = [scored.value for scored in found]
    assert values == sorted(worth[inside].tolist(), reverse=maximize)[:k]
    assert values == worth[places].tolist()
    assert inside[places].all()
    assert len(set(places)) == len(places)


@unhurried
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 3, 10, 2.5, 0.25]),
    st.sampled_from([1, -1, 3, 0.5]),
)
def test_a_rounded_cost_is_off_by_half_a_unit_for_each_term(seed, unit, factor):
    tables = np.random.default_rng(seed).integers(-40, 40, (3, 5, 3, 3))
    one, other, more = map(chained, tables)
    cost = factor * (one - other) + (more + 7)
    coarse = rounded(cost, unit)
    assert str(coarse) == f"rounded({brief(cost)}, {unit})"
    archs = list(sample(MutableList(LAYERS), 20, seed=seed))
    for arch in archs:
        assert type(coarse.evaluate(arch)) is int
        assert abs(coarse.evaluate(arch) * unit - cost.evaluate(arch)) <= 16 * unit / 2
    few = restrict(MutableList(LAYERS), coarse <= coarse.evaluate(archs[0]))
    everything = [
        dict(zip(few.symbols(), codes, strict=True)) for codes in product(range(3), repeat=6)
    ]
    limit = coarse.evaluate(archs[0])
    assert few.count() == sum(coarse.evaluate(arch) <= limit for arch in everything)


def test_a_multiple_of_a_condition_between_tables_is_rounded_in_each_of_them() -> None:
    rows = ([3, 8, 21], [1, 40, 5])
    ways = [ME.lookup(FactorSum([Factor(LAYERS[:1], np.array(row))])) for row in rows]
    cost = 3 * ME.condition(LAYERS[1] > 0, *ways)
    coarse = rounded(cost, 7)
    for code, flag in product(range(3), range(2)):
        arch = {LAYERS[0].name: code, LAYERS[1].name: flag}
        assert coarse.evaluate(arch) == math.floor(cost.evaluate(arch) / 7 + 0.5)


def test_what_is_rounded_needs_a_unit() -> None:
    assert [rounded(7, 2), rounded(-7, 2), rounded(1e9, 1e6)] == [4, -3, 1000]
    units: list[Any] = [0, -1, math.nan, math.inf, "1e6"]
    for unit in units:
        with pytest.raises(UsageError, match="unit"):
            rounded(LAYERS[0] * 2, unit)


@unhurried
@given(restrictions())
def test_bounds_are_those_of_what_is_left(drawn: Restriction) -> None:
    for cost in drawn.costs:
        with limits(drawn.way):
            found = bounds(drawn.space(), cost)
        values = [value(cost, arch) for arch in drawn.left.values()]
        assert (found.minimum, found.maximum) == (min(values), max(values))
        assert value(cost, found.at_minimum) == found.minimum
        assert value(cost, found.at_maximum) == found.maximum
        assert {key(found.at_minimum), key(found.at_maximum)} <= set(drawn.left)


@unhurried
@given(restrictions(), st.booleans(), st.booleans())
def test_trade_offs_are_the_whole_front(drawn: Restriction, high: bool, low: bool) -> None:
    first, second = drawn.costs
    signs = [-1 if high else 1, -1 if low else 1]
    points = [
        (signs[0] * value(first, arch), signs[1] * value(second, arch))
        for arch in drawn.left.values()
    ]
    with limits(drawn.way):
        try:
            found = pareto(drawn.space(), first, second, maximize=(high, low))
        except DecompositionError as error:
            if drawn.way != "portions" or "the front" not in str(error):
                raise
            return  # where three rows of a vertex are allowed, what needs more is refused
    got = [(signs[0] * point.first, signs[1] * point.second) for point in found]
    assert got == sorted(front(points))
    for point in found:
        assert key(point.arch) in drawn.left
        assert (value(first, point.arch), value(second, point.arch)) == (point.first, point.second)


def test_a_trade_off_of_many_architectures_is_given_once() -> None:
    a, b = Categorical([1, 2, 3], label="a"), Categorical(range(200), label="b")
    points = pareto(MutableList([a, b]), a, a * a, maximize=(True, False))
    assert [(point.first, point.second) for point in points] == [(3, 9), (2, 4), (1, 1)]


@unhurried
@given(restrictions())
def test_the_default_differs_as_little_as_possible(drawn: Restriction) -> None:
    symbols = drawn.whole.symbols()

    def distance(arch: dict[str, Any]) -> int:
        return sum(
            symbols[name].code(v) != symbols[name].code(symbols[name].default_choice())
            for name, v in arch.items()
        )

    with limits(drawn.way):
        found = default(drawn.space())
    assert key(found) in drawn.left
    assert distance(found) == min(map(distance, drawn.left.values()))


def test_the_default_counts_labels_whose_activity_is_named_by_a_variable() -> None:
    one, two, three = (Categorical([0, 1], label=name) for name in ("one", "two", "three"))
    deep = Categorical([1, 2, 3], default=2, label="deep")
    last = ME.condition(three > 0, deep, 1)
    inner = ME.condition(one + two > 1, last, 0)
    space = MutableList([one, two, three, inner])
    with limits("named"):
        few = restrict(space, inner + one * 2 >= 4)
        found = default(few)
    assert found == {"one": 1, "two": 1, "three": 1, "deep": 2}


# -- a restricted space is a space -----------------------------------------------------------------


def _chain(n: int = 6) -> tuple[MutableList, Any]:
    widths = [Categorical([8, 16, 24], label=f"w{i}") for i in range(n)]
    return MutableList(widths), ME.sum([a * b for a, b in pairwise(widths)])


def test_a_restricted_space_freezes_validates_and_chooses() -> None:
    space, cost = _chain()
    small = restrict(space, cost <= 700)
    arch = small.sample(seed=0)
    assert small.freeze(arch) == list(arch.values())
    assert small.contains(arch)
    large = {f"w{i}": 24 for i in range(6)}
    assert not small.contains(large)
    with pytest.raises(ConstraintViolation, match="700"):
        small.freeze(large)
    memo: dict[str, Any] = {}
    assert small.random(memo, 0) == list(memo.values()) == list(small.sample(seed=0).values())
    assert small.default() == [8] * 6
    frozen = list(small.grid())
    assert len(frozen) == len({tuple(item) for item in frozen}) == small.count()
    assert all(sum(a * b for a, b in pairwise(f)) <= 700 for f in frozen)
    assert list(small.simplify()) == [*space.simplify(), "where/0"]
    assert repr(small).startswith("Restricted(MutableList where ")


def test_values_chosen_already_are_kept() -> None:
    space, cost = _chain()
    small = restrict(space, cost >= 0)
    memo = {"w0": 16}
    assert small.random(memo, 3)[0] == small.default({"w0": 16})[0] == 16
    assert len(list(small.grid({"w0": 16}))) == 3**5


def test_restrictions_of_restrictions_hold_together() -> None:
    space, cost = _chain()
    small = restrict(space, cost <= 1500)
    both = restrict(small, cost >= 1400)
    again = small.where(cost >= 1400)
    together = restrict(space, (cost <= 1500) & (cost >= 1400))
    assert both.count() == again.count() == together.count() > 0
    assert id(both.space) == id(space)
    assert small.count() > both.count()
    assert restrict(space, cost <= 1500, cost >= 1400).count() == both.count()


def test_conditions_on_one_cost_become_one() -> None:
    space, cost = _chain(40)
    small = restrict(space, cost >= 9000, cost <= 9064, cost / 2 >= 4510)
    (window,) = _model(small).windows
    assert (window.low, window.high) == (9020, 9064)


def _model(space: Restricted[Any]) -> Any:
    from nas_space.tables.model import Model

    return Model.of(space.structure())


def test_comparisons_are_undone_as_python_computes_them() -> None:
    # 3 / 10 <= 0.3 holds in floats, though 3 / 10 is above the float 0.3.
    digits = [Categorical([0, 1], label=f"x{i}") for i in range(30)]
    total = ME.sum(digits)
    space = MutableList(digits)
    assert restrict(space, total / 10 <= 0.3).count() == sum(math.comb(30, n) for n in range(4))
    assert restrict(space, total * 0.1 <= 0.3).count() == sum(math.comb(30, n) for n in range(3))
    assert restrict(space, -total // 7 >= -2).count() == sum(math.comb(30, n) for n in range(15))
    assert restrict(space, round(total / 4) == 2).count() == sum(
        math.comb(30, n) for n in range(31) if round(n / 4) == 2
    )
    assert restrict(space, total == 15).count() == math.comb(30, 15)
    assert restrict(space, total < 3).count() == sum(math.comb(30, n) for n in range(3))
    halves = ME.sum(digits[:15]) * 2 - ME.sum(digits[15:])
    assert restrict(space, ME.sum(digits[:15]) * 2 <= ME.sum(digits[15:])).count() == sum(
        math.comb(15, a) * math.comb(15, b) for a in range(16) for b in range(16) if 2 * a <= b
    )
    assert restrict(space, halves <= 0, halves >= 0).count() == sum(
        math.comb(15, a) * math.comb(15, 2 * a) for a in range(8)
    )


def test_a_condition_holds_where_it_is_guarded() -> None:
    flag = Categorical([True, False], label="flag")
    digits = [Categorical([0, 1], label=f"x{i}") for i in range(20)]
    space = MutableList([flag, *digits])
    total = ME.sum(digits)
    one = restrict(space, ME.condition(flag, total <= 1, total >= 20))
    assert one.count() == 21 + 1
    two = restrict(space, ME.switch_case(flag, {True: total == 2, False: False}))
    assert two.count() == math.comb(20, 2)
    nested = MutableList([flag, ME.condition(flag, MutableList(digits).structure(), 0)])
    three = restrict(nested, ME.condition(flag, total <= 1, True))
    assert three.count() == 21 + 1
    with pytest.raises(SampleMissingError, match="where it is not active; guard its use"):
        restrict(nested, total <= 1)


def test_a_constraint_holds_where_it_is_reached() -> None:
    flag = Categorical([True, False], label="flag")
    digits = [Categorical([0, 1], label=f"x{i}") for i in range(14)]
    rule = ExpressionConstraint(ME.sum(digits) <= 1, label="rule")
    ruled, free = MutableList([*digits, rule]), MutableList(digits)
    space = ME.condition(flag, ruled.structure(), free.structure())
    assert count(space) == 15 + 2**14


# -- what Python decides ---------------------------------------------------------------------------


class Even(Constraint):
    """A constraint that no expression says, over labels that it names."""

    def __init__(self, labels: list[Any], *, named: bool, label: str = "even") -> None:
        super().__init__(label=label)
        self.labels, self.named = labels, named

    def violation(self, values: Any) -> str | None:
        odd = sum(values[label.name] for label in self.labels) % 2
        return "odd" if odd else None

    def leaf_mutables(self, is_leaf: Any) -> Any:
        if self.named:
            yield from self.labels
        yield self


def test_constraints_in_python_are_tabulated_over_the_labels_they_name() -> None:
    digits = [Categorical([0, 1], label=f"x{i}") for i in range(12)]
    named = MutableList([*digits, Even(digits[:3], named=True)])
    assert count(named) == 2**11
    hidden = MutableList([*digits, Even(digits[:3], named=False)])
    with pytest.raises(DecompositionError, match="any function of the architecture"):
        count(hidden)
    assert len(list(grid(hidden))) == 2**11
    batch = sample(hidden, 50, over="architectures", seed=0)
    assert all(sum(list(arch.values())[:3]) % 2 == 0 for arch in batch)
    found = best(hidden, ME.sum(digits), 3, maximize=True)
    assert [scored.value for scored in found] == [11, 11, 11]
    assert sum(default(hidden).values()) == 0
    with pytest.raises(DecompositionError, match="any function"):
        pareto(hidden, ME.sum(digits), digits[0])


def test_a_bound_on_a_maximum_is_one_on_each_part() -> None:
    digits = [Categorical([0, 1, 2], label=f"x{i}") for i in range(30)]
    space = MutableList(digits)
    highest = ME.max(*[digit * n for n, digit in enumerate(digits)])
    assert restrict(space, highest <= 28).count() == 3**15 * 2**14
    assert restrict(space, highest < 28).count() == 3**14 * 2**14
    lowest = ME.min(*[digit + n for n, digit in enumerate(digits)], 2)
    assert restrict(space, lowest >= 2).count() == 2 * 3**28
    assert restrict(space, lowest >= 1, highest <= 28).count() == 2 * 3**14 * 2**14
    guarded = ME.condition(digits[0] == 1, highest <= 0, True)
    assert restrict(space, guarded).count() == 2 * 3**29 + 1
    with pytest.raises(InfeasibleError):
        restrict(space, lowest > 2)
    with pytest.raises(InfeasibleError, match=r"no architecture has .*: max.* is at least 7"):
        restrict(space, ME.max(*digits, 7) <= 6)
    together = ME.max(functools.reduce(operator.mul, digits), 3)  # of too many labels for a table
    with pytest.raises(InfeasibleError, match=r"no architecture has .*: max.* is at least 7"):
        restrict(space, together <= 4, ME.max(*digits, 7) <= 6, attempts=10)


def test_restrictions_that_only_drawing_can_meet_must_be_allowed_to() -> None:
    digits = [Categorical([0, 1], label=f"x{i}") for i in range(30)]
    space = MutableList(digits)
    highest = ME.max(*[digit * n for n, digit in enumerate(digits)])
    with pytest.raises(DecompositionError, match=r"30 labels at once.*give attempts=1000"):
        restrict(space, highest >= 29)
    small = restrict(space, highest >= 29, attempts=100)
    assert all(arch["x29"] == 1 for arch in small.sample(50, seed=0))
    never = restrict(space, highest >= 30, attempts=100)
    with pytest.raises(InfeasibleError, match=r"0 of .* met the conditions"):
        never.sample(seed=0)
    with pytest.raises(UsageError, match="attempts must be 1 or more"):
        restrict(space, highest <= 1, attempts=0)


def test_costs_are_told_apart_finely_enough_that_one_attempt_will_do() -> None:
    digits = [Categorical(range(4), label=f"x{i}") for i in range(10)]
    tables = np.random.default_rng(0).integers(0, 10**6, (2, 10, 4)).tolist()
    one, other = (
        ME.sum([ME.switch_case(digit, dict(enumerate(row))) for digit, row in pairs])
        for table in tables
        for pairs in [zip(digits, table, strict=True)]
    )
    low, high = 49 * 10**5, 5 * 10**6
    bounds_on_both = (one >= low, one <= high, other >= low, other <= high)
    space = restrict(MutableList(digits), *bounds_on_both, attempts=1)
    drawn = list(space.sample(50, seed=0))
    assert len(drawn) == 50
    assert all(low <= cost.evaluate(arch) <= high for arch in drawn for cost in (one, other))


# -- labels of infinitely many, or very many values ------------------------------------------------


def test_continuous_labels_cannot_be_counted_but_drawn() -> None:
    rate = Numerical(0.0, 1.0, label="rate")
    space, cost = _chain()
    whole = MutableList([space, rate])
    with pytest.raises(DomainError, match=r"'rate' is continuous.*quantize"):
        count(whole)
    small = restrict(whole, cost <= 700)
    rates = {arch["rate"] for arch in small.sample(20, seed=0)}
    assert len(rates) == 20
    for refused in (lambda: small.sample(over="architectures"), lambda: list(grid(small))):
        with pytest.raises(DomainError, match="'rate' is continuous"):
            refused()
    assert best(whole, cost)[0].arch["rate"] == 0.5
    assert default(small)["rate"] == 0.5


def test_labels_that_decide_nothing_cost_nothing() -> None:
    many = CategoricalMultiple(range(200), label="many")
    space, cost = _chain()
    whole = MutableList([space, many])
    assert count(whole) == 3**6 * 2**200
    small = restrict(whole, cost <= 700)
    assert small.count() == restrict(space, cost <= 700).count() * 2**200
    sizes = [len(arch["many"]) for arch in small.sample(200, over="architectures", seed=0)]
    assert 90 < sum(sizes) / 200 < 110
    assert len(best(whole, cost, 5)) == 5


@example(spread=[1, 10**12 + 1, 999])
@given(st.lists(st.integers(-(10**12), 10**12), min_size=3, max_size=3, unique=True))
@unhurried
def test_costs_may_be_far_apart(spread: list[int]) -> None:
    labels = [Categorical([0, 1], label=f"x{i}") for i in range(8)]
    weights = [n * spread[i % 3] + i for i, n in enumerate(range(1, 9))]
    cost = ME.sum([label * weight for label, weight in zip(labels, weights, strict=True)])
    space = MutableList(labels)
    values = sorted(cost.evaluate(arch) for arch in architectures(space).values())
    low, high = values[40], values[90]
    found = restrict(space, cost >= low, cost <= high)
    assert found.count() == sum(low <= v <= high for v in values)
    assert all(low <= cost.evaluate(arch) <= high for arch in found.sample(30, seed=0))


# -- refusals ------------------------------------------------------------------------------------


def test_conditions_on_what_the_space_lacks_are_refused() -> None:
    space, cost = _chain()
    other = Categorical([1, 2], label="w00")
    with pytest.raises(
        LabelError, match=r"'w00', which the space does not have \(did you mean 'w0'"
    ):
        restrict(space, other <= 1)
    with pytest.raises(LabelError, match="another choice labelled 'w0'"):
        restrict(space, Categorical([8, 16], label="w0") <= 8)
    with pytest.raises(LabelError, match="cost of another space"):
        best(space, cost + Categorical([8, 16], label="w0"))
    with pytest.raises(ExpressionError, match="the same for every architecture"):
        restrict(space, True)


def test_fractions_are_not_counted_with() -> None:
    times = [Categorical([0.1, 0.25], label=f"t{i}") for i in range(25)]
    space = MutableList(times)
    with pytest.raises(DecompositionError, match="round it to whole units"):
        restrict(space, ME.sum(times) <= 3.0)
    found = best(space, ME.sum(times), maximize=True)
    assert found[0].value == pytest.approx(6.25)
    ticks = ME.sum([round(time * 100) for time in times])
    assert restrict(space, ticks <= 265).count() == 1 + 25


def test_arguments_are_checked() -> None:
    space, cost = _chain()
    with pytest.raises(UsageError, match="k must be a whole number"):
        best(space, cost, 0)
    for question in (lambda: best(space, "cost"), lambda: pareto(space, cost, None)):
        with pytest.raises(ExpressionError, match="a cost is an expression over the labels"):
            question()
    with pytest.raises(UsageError, match="over must be 'labels' or 'architectures'"):
        sample(space, over="labelss")  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="0 or more"):
        sample(space, -1)


def test_what_never_differs_has_one_architecture() -> None:
    space = MutableList([1, 2])
    assert count(space) == 1
    assert sample(space, seed=0) == {}
    assert list(grid(space)) == [{}]
    assert len(sample(space, 3, over="architectures", seed=0)) == 3
    assert default(space) == {}
    assert bounds(space, 5)[:2] == (5, 5)


def test_restricted_spaces_pickle() -> None:
    space, cost = _chain()
    small = restrict(space, cost <= 700)
    again = pickle.loads(pickle.dumps(small))
    assert again.count() == small.count()
    assert again.sample(5, seed=1).codes.keys() == small.sample(5, seed=1).codes.keys()
    assert [dict(a) for a in again.sample(5, seed=1)] == [dict(a) for a in small.sample(5, seed=1)]


def test_a_batch_of_a_restricted_space_can_be_evaluated() -> None:
    space, cost = _chain()
    batch = restrict(space, cost <= 700).sample(100, seed=0)
    assert isinstance(batch, SampleBatch)
    assert (tabulate(cost).evaluate(batch) == cost.evaluate(batch)).all()
    assert cost.evaluate(batch).max() <= 700
