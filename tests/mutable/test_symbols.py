"""The labelled dimensions: their domains, their codes, their distributions, what they refuse."""

from __future__ import annotations

import json
import math
import pickle
import sys
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import permutations
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from nas_space.errors import DomainError, SampleMissingError, SampleValidationError
from nas_space.mutable import (
    MISSING,
    Categorical,
    CategoricalMultiple,
    MutableSymbol,
    Numerical,
    SampleBatch,
    choice,
    lognormal,
    loguniform,
    normal,
    qlognormal,
    qloguniform,
    qnormal,
    quniform,
    randint,
    uniform,
)
from nas_space.mutable.columns import python_values
from nas_space.mutable.node import key_of
from nas_space.mutable.random_words import words
from tests import strategies

listed = strategies.symbols(listed=True)


# -- codes ------------------------------------------------------------------------------------


@given(listed)
def test_codes_number_the_values(symbol: MutableSymbol[Any]) -> None:
    values = strategies.decoded(symbol)
    assert len(values) == symbol.size
    assert len({key_of(value) for value in values}) == symbol.size
    for code, value in enumerate(values):
        assert key_of(symbol.value(code)) == key_of(value)
        assert symbol.code(value) == code
        assert key_of(symbol.coerce(value)) == key_of(value)
    column = symbol.column(np.arange(symbol.size or 0))
    assert [key_of(value) for value in python_values(column)] == [key_of(v) for v in values]


@given(strategies.symbols(), st.integers(0, 2**64 - 1))
def test_whatever_is_drawn_is_in_the_domain(symbol: MutableSymbol[Any], seed: int) -> None:
    value = symbol.draw(words(seed)(symbol.words))
    assert symbol.contains({"x": value})
    assert key_of(symbol.freeze({"x": value})) == key_of(value)
    raw = words(seed)(symbol.words + 3)
    shifted = symbol.drawer(3)(raw.tolist(), raw)
    assert key_of(shifted) == key_of(symbol.draw(raw[3:]))


@given(strategies.symbols())
def test_the_default_and_the_grid_are_in_the_domain(symbol: MutableSymbol[Any]) -> None:
    assert symbol.contains({"x": symbol.default()})
    finer = list(symbol.grid(granularity=3))
    assert len({key_of(value) for value in finer}) == len(finer)
    for value in finer:
        assert symbol.contains({"x": value})
    if not isinstance(symbol, Numerical):
        assert {key_of(value) for value in finer} == {
            key_of(value) for value in strategies.decoded(symbol)
        }


@given(listed, st.data())
def test_a_given_default_is_taken(symbol: MutableSymbol[Any], data: st.DataObject) -> None:
    value = data.draw(st.sampled_from(strategies.decoded(symbol)))
    positional, keywords = symbol.arguments_of_call()
    again = type(symbol)(*positional, **{**keywords, "default": value})
    assert key_of(again.default()) == key_of(value)
    assert again.default_value is not MISSING
    assert not again.equals(symbol)


# -- distributions ----------------------------------------------------------------------------


@given(listed)
def test_probabilities_are_a_distribution(symbol: MutableSymbol[Any]) -> None:
    probabilities = symbol.probabilities()
    assert probabilities.shape == (symbol.size,)
    assert probabilities.min() >= 0
    assert math.isclose(probabilities.sum(), 1, abs_tol=1e-9)


@given(listed)
def test_draws_follow_the_probabilities(symbol: MutableSymbol[Any]) -> None:
    n = 4000
    codes = symbol.draw_column(words(7)(n * symbol.words).reshape(n, -1))
    found = np.bincount(codes.astype(np.int64), minlength=symbol.size or 0)
    probabilities = symbol.probabilities()
    likely = probabilities > 1e-9
    assert found[~likely].sum() == 0
    expected = probabilities[likely] * n
    statistic = float(((found[likely] - expected) ** 2 / expected).sum())
    # A draw this far off comes once in ten million; with sound code never, at this seed.
    assert stats.chi2.sf(statistic, max(1, int(likely.sum()) - 1)) > 1e-7


@given(strategies.multiples())
def test_probabilities_of_subsets(symbol: CategoricalMultiple[Any]) -> None:
    weights, chosen = symbol.weights, symbol.n_chosen
    assume(symbol.size <= 70)
    for code, probability in enumerate(symbol.probabilities()):
        places = symbol.places(code)
        if chosen is None:
            expected = math.prod(
                weight if place in places else 1 - weight for place, weight in enumerate(weights)
            )
        else:
            expected = sum(_one_after_the_other(weights, order) for order in permutations(places))
        assert math.isclose(probability, expected, abs_tol=1e-12)


def test_probabilities_of_subsets_where_one_weight_is_nearly_all() -> None:
    symbol = CategoricalMultiple([1, 2, 3], n_chosen=2, weights=[1.0, 1e-20, 3e-20], label="x")
    assert symbol.probabilities().tolist() == pytest.approx([0.25, 0.75, 0.0])


def _one_after_the_other(weights: tuple[float, ...], order: tuple[int, ...]) -> float:
    probability, left = 1.0, 1.0
    for place in order:
        if weights[place] == 0:
            return 0.0
        probability *= weights[place] / left
        left -= weights[place]
    return probability


@given(strategies.numericals())
def test_numbers_follow_their_distribution(symbol: Numerical) -> None:
    for share in (0.01, 0.3, 0.5, 0.77, 0.99):
        if symbol.quantize is None and symbol.low < symbol.quantile(share) < symbol.high:
            assert math.isclose(symbol.cdf(symbol.quantile(share)), share, abs_tol=1e-9)
    assert symbol.quantile(1e-9) <= symbol.quantile(0.5) <= symbol.quantile(1 - 1e-9)


@pytest.mark.parametrize(
    ("symbol", "distribution"),
    [
        (Numerical(2, 5, label="x"), stats.uniform(2, 3)),
        (Numerical(1e-4, 1e-1, log_distributed=True, label="x"), stats.loguniform(1e-4, 1e-1)),
        (Numerical(mu=1, sigma=3, label="x"), stats.norm(1, 3)),
        (
            Numerical(mu=1, sigma=0.5, log_distributed=True, label="x"),
            stats.lognorm(0.5, 0, math.e),
        ),
        (Numerical(distribution=stats.beta(2, 5), label="x"), stats.beta(2, 5)),
    ],
    ids=["uniform", "loguniform", "normal", "lognormal", "beta"],
)
def test_continuous_draws_follow_their_distribution(symbol: Numerical, distribution: Any) -> None:
    drawn = symbol.draw_column(words(3)(2000).reshape(-1, 1))
    assert drawn.dtype == np.float64
    assert stats.kstest(drawn, distribution.cdf).pvalue > 1e-4
    assert all(symbol.contains({"x": value}) for value in drawn.tolist())


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")
@pytest.mark.parametrize(
    "symbol",
    [
        Numerical(mu=0, sigma=500, log_distributed=True, label="x"),
        Numerical(mu=0, sigma=500, log_distributed=True, quantize=0.1, label="x"),
        Numerical(distribution=stats.lognorm(500), label="x"),
        Numerical(distribution=stats.lognorm(500), high=1e3, quantize=0.1, label="x"),
    ],
    ids=["lognormal", "rounded", "given", "bounded"],
)
def test_quantiles_beyond_the_floats_are_clipped_to_them(symbol: Numerical) -> None:
    drawn = symbol.decode(symbol.draw_column(words(0)(50).reshape(-1, 1)))
    assert max(drawn) == min(symbol.high, sys.float_info.max)
    assert all(symbol.contains({"x": value}) for value in drawn)


def test_bounds_clip_what_is_drawn() -> None:
    symbol = Numerical(-1, 1, mu=0, sigma=10, label="x")
    drawn = symbol.draw_column(words(0)(1000).reshape(-1, 1))
    assert drawn.min() == -1
    assert drawn.max() == 1


def test_a_step_rounds_and_then_clips() -> None:
    symbol = Numerical(2.5, 5.5, quantize=2, label="x")
    assert strategies.decoded(symbol) == [2.5, 4.0, 5.5]
    assert symbol.probabilities().tolist() == pytest.approx([1 / 6, 4 / 6, 1 / 6])
    assert symbol.coerce(4.0000001) == 4.0
    assert symbol.coerce(5.5) == 5.5
    for wrong in (3.0, 2.0, 4.1):
        assert not symbol.contains({"x": wrong})
    tenths = Numerical(0, 0.3, quantize=0.1, label="y")
    assert strategies.decoded(tenths) == [0.0, 0.1, 0.2, 0.3]
    reached_by_clipping = Numerical(0, 4.5, mu=3, sigma=1, quantize=1, label="z")
    assert strategies.decoded(reached_by_clipping) == [0.0, 1.0, 2.0, 3.0, 4.0, 4.5]
    assert reached_by_clipping.probabilities()[-1] == pytest.approx(stats.norm(3, 1).sf(4.5))
    never_reached = Numerical(0, 4.5, quantize=1, label="z")
    assert never_reached.coerce(4.5) == 4.5
    assert never_reached.probabilities()[-1] == 0


def test_numbers_are_floats() -> None:
    for symbol in (Numerical(0, 10, label="x"), Numerical(0, 10, quantize=5, label="x")):
        for value in (symbol.default(), symbol.freeze({"x": 5}), *symbol.grid(granularity=2)):
            assert type(value) is float
    rows = [{"x": 5}, {"x": 10}]
    halves = Numerical(0, 10, label="x") // 2
    assert halves.evaluate(SampleBatch.from_samples(halves, rows)).tolist() == [2.0, 5.0]
    assert key_of(halves.freeze({"x": 5})) == key_of(2.0)
    steps = Numerical(0.5, 4.5, quantize=1, label="x")
    assert [key_of(steps.int().freeze({"x": v})) for v in (1, 4)] == [key_of(1), key_of(4)]


def test_a_grid_of_numbers_gets_finer() -> None:
    unit = Numerical(0, 1, label="x")
    assert list(unit.grid()) == [0.5]
    assert list(unit.grid(granularity=3)) == [place / 8 for place in range(1, 8)]
    bell = Numerical(mu=0, sigma=1, quantize=0.5, label="x")
    assert list(bell.grid(granularity=3)) == [-1.0, -0.5, 0.0, 0.5, 1.0]


def test_a_grid_begins_with_what_is_most_probable() -> None:
    symbol = Categorical(["a", "c", "d"], weights=[0.2, 0.5, 0.3], label="x")
    assert list(symbol.grid()) == ["c", "d", "a"]


def test_a_grid_of_subsets_begins_with_small_ones() -> None:
    symbol = CategoricalMultiple([1, 2, 3], label="x")
    assert list(symbol.grid()) == [[], [1], [2], [3], [1, 2], [1, 3], [2, 3], [1, 2, 3]]


# -- what is meant ----------------------------------------------------------------------------


def test_a_value_may_come_in_the_form_json_or_numpy_give_it() -> None:
    pairs = Categorical([(3, 3), (5, 5)], label="x")
    assert pairs.freeze({"x": [5, 5]}) == (5, 5)
    widths = Categorical([16, 24], label="x")
    assert key_of(widths.freeze({"x": np.int64(24)})) == key_of(24)
    assert key_of(widths.freeze({"x": 24.0})) == key_of(24)
    assert key_of(Categorical([0.5, 1.0], label="x").freeze({"x": 1})) == key_of(1.0)
    assert key_of(Categorical(np.array([1, 2]), label="x").values) == key_of((1, 2))
    options = Categorical([{"kernel": 3, "act": "relu"}, None], label="x")
    text = json.dumps({"x": {"act": "relu", "kernel": 3}}, sort_keys=True)
    assert options.freeze(json.loads(text)) == {"kernel": 3, "act": "relu"}
    several = CategoricalMultiple(["a", "b", "c"], label="x")
    assert several.freeze({"x": ("c", "a")}) == ["a", "c"]


def test_a_multiple_choice_may_be_given_as_flags() -> None:
    symbol = CategoricalMultiple(["p", "q", "r"], n_chosen=2, label="x")
    flags = {"x/0": True, "x/1": False, "x/2": True}
    assert symbol.freeze(flags) == ["p", "r"]
    assert symbol.read(flags).active == {"x": ["p", "r"]}
    with pytest.raises(SampleValidationError, match=r"'x'.*3 are given"):
        symbol.freeze({"x/0": True, "x/1": True, "x/2": True})
    with pytest.raises(SampleMissingError, match="'x/2'"):
        symbol.freeze({"x/0": True, "x/1": True})
    simple = symbol.simplify(lambda mutable: not isinstance(mutable, CategoricalMultiple))
    assert list(simple) == ["x/0", "x/1", "x/2", "x/n"]
    assert simple["x/n"].check_contains(flags) is None
    assert simple["x/n"].check_contains({**flags, "x/1": True}) is not None
    anything = CategoricalMultiple(["p"], label="y")
    assert list(anything.simplify(lambda m: isinstance(m, Categorical))) == ["y/0"]


def test_a_symbol_that_cannot_be_simpler_says_so() -> None:
    with pytest.raises(DomainError, match="cannot be expanded"):
        Categorical([1], label="x").simplify(lambda _: False)


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("symbol", "value", "message"),
    [
        (Categorical([16, 24], label="w"), 20, r"20 is not allowed for .* 'w', .*\[16, 24\]"),
        (Categorical([16, 24], label="w"), "24", "did you mean 24, of type int"),
        (Categorical([1, 2], label="w"), True, "True is not allowed.*did you mean 1, of type int"),
        (Categorical(["k3e6", "k5e6"], label="w"), "k3e5", "did you mean 'k3e6'"),
        (Categorical(["relu", "none"], label="w"), "RELU", "did you mean 'relu'"),
        (Categorical(range(100), label="w"), -1, r"one of \[0, 1, 2, 3, \.\.\., 97, 98, 99\]$"),
        (Categorical([1, 2], label="w"), [1], r"\[1\] is not allowed for the label 'w'"),
        (Numerical(0, 1, label="w"), 1.5, r"1\.5 .*'w'.* a number between 0 and 1$"),
        (Numerical(0, 1, label="w"), math.nan, "nan .*'w'"),
        (Numerical(mu=0, sigma=1, label="w"), math.inf, "inf .*'w'"),
        (Numerical(mu=0, sigma=1, label="w"), 10**400, "'w'"),
        (Numerical(0, 1, label="w"), "0.5", "'w'.* not a str"),
        (Numerical(0, 1, label="w"), True, "'w'.* not a bool"),
        (Numerical(0, 10, quantize=5, label="w"), 4, r"multiple of 5 .*nearest is 5\.0"),
        (Numerical(mu=0, sigma=1, log_distributed=True, label="w"), -1, "between 0"),
        (Numerical(distribution=stats.beta(2, 5), label="w"), 1.5, r"between 0\.0 and 1\.0"),
        (CategoricalMultiple(["a", "b"], label="w"), ["a", "c"],
         r"'w'.* a list of any number of \['a', 'b'\]: 'c' is not among them"),
        (CategoricalMultiple(["a", "b"], label="w"), ["a", "a"], "'w'.* occurs twice"),
        (CategoricalMultiple(["a", "b"], n_chosen=1, label="w"), [], "list of 1 of.* 0 are given"),
        (CategoricalMultiple(["a", "b"], label="w"), "a", "'w'.* give a list"),
    ],
    ids=str,
)  # fmt: skip
def test_a_value_that_is_not_in_the_domain(symbol: Any, value: Any, message: str) -> None:
    with pytest.raises(SampleValidationError, match=message):
        symbol.freeze({"w": value})
    found = symbol.check_contains({"w": value})
    assert isinstance(found, SampleValidationError)
    assert not symbol.contains({"w": value})
    with pytest.raises(SampleValidationError, match=message):
        symbol.validate({"w": value})


@pytest.mark.parametrize(
    "symbol",
    [
        Categorical([16, 24], label="width"),
        Numerical(0, 1, label="width"),
        CategoricalMultiple([1, 2], label="width"),
    ],
    ids=repr,
)
def test_a_missing_label(symbol: Any) -> None:
    message = (
        r"the label 'width' has no value; it takes .*; labels given: 'widht', 'depth'; .*'widht'"
    )
    with pytest.raises(SampleMissingError, match=message):
        symbol.freeze({"widht": 16, "depth": 3})
    assert isinstance(symbol.check_contains({}), SampleMissingError)
    many = {f"label{place}": 1 for place in range(300)}
    assert len(str(symbol.check_contains(many))) < 1000


@dataclass
class _Point:
    x: float


_NAN = float("nan")


@pytest.mark.parametrize("kind", [Categorical, CategoricalMultiple])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (_NAN, _NAN),
        (_NAN, -float("nan")),
        (np.float32("nan"), np.float64("nan")),
        (Decimal("nan"), _NAN),
        (complex(_NAN, 0), complex(_NAN, 0)),
        ((_NAN, 1), [float("nan"), 1]),
        ({"a": _NAN}, {"a": float("nan")}),
        (0.0, -0.0),
        ((0,), (-0.0,)),
        (True, 1),
        ((True,), (1,)),
        ({"a": True}, {"a": 1}),
        (frozenset([1]), frozenset([True])),
        (1, 1 + 0j),
        (Fraction(1, 2), 0.5),
        (np.zeros(2), np.zeros(2)),
        (np.array([_NAN]), np.array([_NAN])),
        (np.array(1), 1),
        (torch.zeros(2), torch.zeros(2)),
        (torch.tensor([_NAN]), torch.tensor([_NAN])),
        (torch.Size([1]), (1,)),
        (_Point(1), _Point(1)),
        ([_Point(1)], [_Point(1.0)]),
    ],
)
def test_values_that_nobody_can_tell_apart_are_refused_together(
    kind: Any, one: Any, other: Any
) -> None:
    with pytest.raises(DomainError, match=r"'w' has .*, among its values"):
        kind([one, "between", other], label="w")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (_NAN, 0.0),
        (1, "1"),
        (None, False),
        (np.zeros(2), np.ones(2)),
        (np.zeros((0, 3)), np.zeros((0, 2))),
        (torch.zeros(2), torch.ones(2)),
        (torch.zeros(2, device="meta"), torch.zeros(2, device="meta")),
        (_Point(1), _Point(2)),
        (torch.nn.ReLU(), torch.nn.ReLU()),
    ],
)
def test_values_that_can_be_told_apart_are_each_a_choice(one: Any, other: Any) -> None:
    choice = Categorical([one, other], label="w")
    for code, value in enumerate((one, other)):
        assert choice.code(value) == code
        assert choice.value(code) is value


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Categorical([], label="w"), "'w' has no values"),
        (lambda: Categorical("abc", label="w"), "values of 'w' must be listed, but got 'abc'"),
        (lambda: Categorical({"a", "b"}, label="w"), "'w' must be in an order.*give a list"),
        (lambda: CategoricalMultiple(frozenset({1}), label="w"), "'w' must be in an order"),
        (
            lambda: Categorical([1, 1.0], label="w"),
            "'w' has 1 and 1.0, which are equal, among its values",
        ),
        (lambda: Categorical([0, False], label="w"), "'w'"),
        (lambda: Categorical([[1], (1,)], label="w"), "which are equal, among its values"),
        (
            lambda: Categorical([1, Categorical([2], label="v") + 1], label="w"),
            "'w'.*v \\+ 1.*switch",
        ),
        (lambda: Categorical([1, 2], weights=[1], label="w"), "'w' has 2 values, but 1 weights"),
        (lambda: Categorical([1, 2], weights=[], label="w"), "'w' has 2 values, but 0 weights"),
        (lambda: Categorical([1, 2], weights=[0.9, 0.9], label="w"), "'w' must sum to 1, .* 1.8"),
        (lambda: Categorical([1, 2], weights=[1.5, -0.5], label="w"), "'w' must not be negative"),
        (lambda: Categorical([1, 2], default=3, label="w"), "default of 'w' .* one of .1, 2."),
        (lambda: CategoricalMultiple([1, 2], n_chosen=3, label="w"), "'w' .*between 1 and 2, .* 3"),
        (lambda: CategoricalMultiple([1, 2], n_chosen=0, label="w"), "between 1 and 2, but got 0"),
        (lambda: CategoricalMultiple([1, 2], n_chosen=True, label="w"), "between 1 and 2"),
        (lambda: CategoricalMultiple([1], weights=[2], label="w"), "'w' must be 1 probabilities"),
        (
            lambda: CategoricalMultiple([1], weights=[-0.5], label="w"),
            "must be 1 probabilities, but got .-0.5",
        ),
        (
            lambda: CategoricalMultiple([1, 2], n_chosen=2, weights=[1, 0], label="w"),
            "'w' chooses 2",
        ),
        (lambda: Numerical(2, 1, label="w"), "low <= high must hold for 'w', but got 2 and 1"),
        (lambda: Numerical(label="w"), "'w' is uniform, so it needs finite bounds"),
        (
            lambda: Numerical(cast(float, "0"), 1, label="w"),
            "low of 'w' must be a number, but got '0'",
        ),
        (lambda: Numerical(0, math.nan, label="w"), "high of 'w' must be a number"),
        (lambda: Numerical(0, 1, quantize=0, label="w"), "quantize of 'w' must be positive"),
        (lambda: Numerical(mu=0, label="w"), "'w' needs both mu and sigma"),
        (lambda: Numerical(mu=0, sigma=-1, label="w"), "sigma of 'w' must be positive, but got -1"),
        (lambda: Numerical(mu=0, sigma=0, label="w"), "sigma of 'w' must be positive, but got 0"),
        (lambda: Numerical(0, 1, log_distributed=True, label="w"), "'w' is log-uniform.*positive"),
        (
            lambda: Numerical(distribution=stats.norm(), mu=1, sigma=1, label="w"),
            "'w' .*leave out mu",
        ),
        (lambda: Numerical(distribution=object(), label="w"), "'w' must have ppf.*lacks"),
        (lambda: Numerical(5, 6, distribution=stats.beta(1, 1), label="w"), "'w' lies between 0.0"),
        (lambda: Numerical(0, 1, default=2, label="w"), "default of 'w' is not in its domain"),
    ],
)
def test_malformed_domains_are_refused(make: Any, message: str) -> None:
    with pytest.raises(DomainError, match=message):
        make()


def test_what_cannot_be_listed() -> None:
    continuous = Numerical(0, 1, label="w")
    assert continuous.size is None
    for ask in (
        continuous.probabilities,
        lambda: continuous.value(0),
        lambda: continuous.code(0.5),
    ):
        with pytest.raises(DomainError, match=r"'w' is continuous.*quantize"):
            ask()
    huge = CategoricalMultiple(range(40), label="h")
    assert huge.size == 2**40
    with pytest.raises(DomainError, match=r"'h' has .* values, too many"):
        huge.probabilities()
    assert Numerical(mu=0, sigma=1, quantize=0.5, label="w").size is None


def test_subsets_of_many_are_numbered_beyond_64_bits() -> None:
    huge = CategoricalMultiple(range(100), label="h")
    batch = SampleBatch.draw(huge, 5, words(0))
    assert SampleBatch.from_samples(huge, batch) == batch
    assert huge.value(huge.code([0, 99])) == [0, 99]
    half = CategoricalMultiple(range(100), n_chosen=50, label="h")
    assert half.value((half.size or 0) - 1) == list(range(50, 100))
    assert half.code(half.value(12345678901234567890)) == 12345678901234567890


# -- the rest ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (choice("x", [1, 2]), Categorical([1, 2], label="x")),
        (randint("x", 1, 4), Categorical([1, 2, 3], label="x")),
        (uniform("x", 0, 1), Numerical(0, 1, label="x")),
        (quniform("x", 0, 1, 0.5), Numerical(0, 1, quantize=0.5, label="x")),
        (loguniform("x", 1, 2), Numerical(1, 2, log_distributed=True, label="x")),
        (
            qloguniform("x", 1, 9, 2),
            Numerical(1, 9, log_distributed=True, quantize=2, label="x"),
        ),
        (normal("x", 0, 1), Numerical(mu=0, sigma=1, label="x")),
        (qnormal("x", 0, 1, 0.5), Numerical(mu=0, sigma=1, quantize=0.5, label="x")),
        (lognormal("x", 0, 1), Numerical(mu=0, sigma=1, log_distributed=True, label="x")),
        (
            qlognormal("x", 0, 1, 0.5),
            Numerical(mu=0, sigma=1, log_distributed=True, quantize=0.5, label="x"),
        ),
    ],
)
def test_short_forms(made: Any, expected: Any) -> None:
    assert made is expected


def test_symbols_print_as_they_are_made() -> None:
    assert repr(Categorical([1, 2], label="x")) == "Categorical([1, 2], label='x')"
    assert repr(CategoricalMultiple([1, 2], n_chosen=1, label="x")) == (
        "CategoricalMultiple([1, 2], n_chosen=1, label='x')"
    )
    assert repr(Numerical(1, 8, log_distributed=True, quantize=2, label="x")) == (
        "Numerical(1, 8, log_distributed=True, quantize=2, label='x')"
    )
    assert (
        repr(Numerical(mu=0, sigma=1, label="x"))
        == "Numerical(-inf, inf, mu=0, sigma=1, label='x')"
    )
    beta = Numerical(distribution=stats.beta(2, b=5), label="x")
    assert repr(beta) == "Numerical(0.0, 1.0, distribution=beta(2, b=5), label='x')"
    assert beta is Numerical(distribution=stats.beta(2, b=5), label="x")
    assert len(Categorical([4, 5, 6], label="x")) == 3
    assert repr(MISSING) == "MISSING"


@pytest.mark.parametrize(
    ("high", "step", "given"), [(1, 0.3, 0.9), (1, 0.1, 0.3), (2, 0.7, 1.4), (1, 0.3, 0.6)]
)
def test_a_default_on_the_grid_stays_the_float_that_was_given(high, step, given):
    symbol = Numerical(0, high, default=given, quantize=step, label="x")
    assert symbol.default() == given
    assert symbol.contains({"x": given})
    assert given in set(symbol.grid(granularity=6))
    assert symbol.freeze({"x": given}) == given
    assert pickle.loads(pickle.dumps(symbol)).default() == given


def test_classes_and_values_that_cannot_be_compared_are_values():
    @dataclass
    class Holding:
        tensor: Any

    assert Categorical([np.float32, np.float16], label="kind").size == 2
    assert Categorical([torch.Tensor, list], label="kind").size == 2
    held = [Holding(torch.ones(2)), Holding(torch.zeros(2))]
    assert Categorical(held, label="held").size == 2
