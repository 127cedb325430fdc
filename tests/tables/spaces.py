"""Hypothesis strategies for spaces together with costs over them."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from nas_space.mutable import Categorical, MutableExpression, MutableList, MutableSymbol
from nas_space.mutable.expression import apply
from nas_space.mutable.node import Node
from tests.strategies import LABELS, categoricals, decoded, multiples, numericals

ME = MutableExpression

unhurried = settings(
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
"""For tests that go through whole spaces."""

_few, _any = st.integers(-4, 12), st.sampled_from([0, 0, 100, 1000, 10**6, 10**9])


def amounts(costs: int) -> st.SearchStrategy[int]:
    """Numbers that costs are made of: all of several must fit into one key together."""
    return _few | _any if costs == 1 else _few | st.just(60)


class Costed(NamedTuple):
    """A space, and costs that need nothing where it is not active."""

    space: MutableList
    costs: tuple[Any, ...]


class _Part(NamedTuple):
    node: Node
    costs: tuple[Any, ...]


@st.composite
def symbols(draw: st.DrawFn, label: str) -> MutableSymbol[Any]:
    """A label with a few values."""
    few = st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True)
    plain = few.map(lambda values: Categorical(values, label=label))
    kinds = [plain, plain, categoricals(label), numericals(label, listed=True), multiples(label)]
    return draw(st.one_of(kinds).filter(lambda s: s.size is not None and s.size <= 8))


def lookup(draw: st.DrawFn, symbol: Any, costs: int) -> Any:
    """A number for each value of a label."""
    values = decoded(symbol)
    if any(isinstance(value, list) for value in values):
        return ME.condition(symbol == values[0], draw(amounts(costs)), draw(amounts(costs)))
    return ME.switch_case(symbol, {value: draw(amounts(costs)) for value in values})


@st.composite
def parts(draw: st.DrawFn, pool: list[Any], costs: int, depth: int) -> _Part:
    """A part of a structure, and what it costs."""
    kind = draw(
        st.sampled_from(["symbol", "pair", *(["list", "choice", "depth"] * 2 if depth else [])])
    )
    symbol = draw(st.sampled_from(pool))
    own = [lookup(draw, symbol, costs) for _ in range(costs)]
    if kind == "symbol":
        return _Part(symbol, tuple(own))
    if kind == "pair":
        other = draw(st.sampled_from(pool))
        both = [one * lookup(draw, other, costs) + draw(amounts(costs)) for one in own]
        return _Part(apply("tuple", symbol, other), tuple(both))
    inner = draw(st.lists(parts(pool, costs, depth - 1), min_size=1, max_size=3))
    if kind == "list":
        sums = [ME.sum(part.costs[k] for part in inner) for k in range(costs)]
        return _Part(apply("tuple", *(part.node for part in inner)), tuple(sums))
    values = decoded(symbol)
    if kind == "choice" or any(isinstance(value, list) for value in values):
        test = symbol == draw(st.sampled_from(values))
        node = ME.condition(test, inner[0].node, inner[-1].node)
        chosen = [ME.condition(test, inner[0].costs[k], inner[-1].costs[k]) for k in range(costs)]
        return _Part(apply("tuple", symbol, node), tuple(chosen))
    # As a repeat: the first so many of the parts.
    taken = {value: inner[: place % (len(inner) + 1)] for place, value in enumerate(values)}
    node = ME.switch_case(
        symbol, {v: apply("tuple", symbol, *(p.node for p in some)) for v, some in taken.items()}
    )
    sums = [
        ME.switch_case(symbol, {v: ME.sum([p.costs[k] for p in some]) for v, some in taken.items()})
        for k in range(costs)
    ]
    return _Part(node, tuple(one + other for one, other in zip(sums, own, strict=True)))


@st.composite
def spaces(draw: st.DrawFn, costs: int = 1, most: int = 5) -> Costed:
    """A space of up to some hundred architectures."""
    pool: list[Any] = []
    total = 1
    for label in LABELS[: draw(st.integers(1, most))]:
        symbol = draw(symbols(label))
        total *= symbol.size or 1
        if total <= 400 or not pool:
            pool.append(symbol)
    chosen = draw(st.lists(parts(pool, costs, 2), min_size=1, max_size=3))
    sums = [ME.sum(part.costs[k] for part in chosen) + draw(amounts(costs)) for k in range(costs)]
    return Costed(MutableList([part.node for part in chosen]), tuple(sums))
