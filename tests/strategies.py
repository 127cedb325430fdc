"""Hypothesis strategies for symbols, expressions over them, structures and constraints.

A *pool* is a list of symbols with different labels; everything else is drawn over one, so that
parts share labels and sub-expressions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nas_space.mutable import (
    Categorical,
    CategoricalMultiple,
    ExpressionConstraint,
    MutableDict,
    MutableExpression,
    MutableList,
    MutableSymbol,
    Numerical,
)
from nas_space.mutable.expression import apply
from nas_space.mutable.factor_sum import FactorSum
from nas_space.mutable.factors import TRUE, Factor
from nas_space.mutable.node import Node, key_of

LABELS = ("a", "b", "c", "d", "e", "f")

# -- symbols ----------------------------------------------------------------------------------

small = st.integers(-3, 9)
integers = small | st.sampled_from(
    [2**31, -(2**31), 2**53, 2**53 + 1, 2**62, 2**63 - 1, 2**63, -(2**63), 10**20]
)
floats = st.sampled_from([0.0, 0.5, -1.5, 2.5, 3.0, 1e-3, 0.1, 2.0**53, 1e18, 1e300, -7.25])
strings = st.sampled_from(["", "k3", "k5", "conv", "pool", "é"])
plain_values = small | floats | st.booleans() | strings | st.none()
"""What a choice may be between."""


def _different(values: st.SearchStrategy[Any], most: int = 4) -> st.SearchStrategy[list[Any]]:
    def same(value: Any) -> Any:
        return ("number", value) if isinstance(value, (int, float)) else key_of(value, loose=True)

    return st.lists(values, min_size=1, max_size=most, unique_by=same)


def weights(n: int) -> st.SearchStrategy[list[float] | None]:
    """None, or as many as there are values, summing to 1; some may be 0."""

    def shares(parts: list[int]) -> list[float]:
        return [part / sum(parts) for part in parts]

    given_weights = st.lists(st.integers(0, 4), min_size=n, max_size=n).filter(any).map(shares)
    return st.none() | given_weights


@st.composite
def categoricals(
    draw: st.DrawFn, label: str = "x", values: st.SearchStrategy[Any] = plain_values
) -> Categorical[Any]:
    chosen = draw(_different(values))
    return Categorical(chosen, weights=draw(weights(len(chosen))), label=label)


@st.composite
def multiples(draw: st.DrawFn, label: str = "x") -> CategoricalMultiple[Any]:
    values = draw(_different(small | strings))
    n_chosen = draw(st.none() | st.integers(1, len(values)))
    share = st.sampled_from([0.0, 0.25, 0.5, 1.0])
    given_weights = draw(weights(len(values)))
    if n_chosen is None:
        given_weights = draw(
            st.none() | st.lists(share, min_size=len(values), max_size=len(values))
        )
    elif given_weights is not None and sum(w > 0 for w in given_weights) < n_chosen:
        given_weights = None
    return CategoricalMultiple(values, n_chosen=n_chosen, weights=given_weights, label=label)


@st.composite
def numericals(draw: st.DrawFn, label: str = "x", *, listed: bool = False) -> Numerical:
    """Uniform or normal, perhaps of the logarithm, perhaps with a step; always, if `listed`."""
    step = draw(st.sampled_from([0.5, 1, 2.5, 0.1] if listed else [None, None, 0.5, 1, 2.5]))
    kind = draw(st.sampled_from(["uniform", "loguniform", "normal", "lognormal"]))
    log = kind.startswith("log")
    low = draw(st.sampled_from([0.5, 1.0, 2.0] if log else [-1.5, 0, 2]))
    high = low + draw(st.sampled_from([0, 1, 3, 4.5]))
    if kind.endswith("normal"):
        return Numerical(
            low, high, mu=1.0, sigma=2.0, log_distributed=log, quantize=step, label=label
        )
    return Numerical(low, high, log_distributed=log, quantize=step, label=label)


def symbols(label: str = "x", *, listed: bool = False) -> st.SearchStrategy[MutableSymbol[Any]]:
    """A symbol of any kind; `listed`: of finitely many values."""
    return categoricals(label) | multiples(label) | numericals(label, listed=listed)


def numbers(label: str) -> st.SearchStrategy[MutableSymbol[Any]]:
    """A symbol of finitely many numbers."""
    kinds: st.SearchStrategy[Any] = integers | floats | st.booleans()
    return (
        categoricals(label, integers)
        | categoricals(label, st.booleans())
        | categoricals(label, floats)
        | categoricals(label, kinds)
        | numericals(label, listed=True)
    )


@st.composite
def pools(
    draw: st.DrawFn,
    make: Callable[[str], st.SearchStrategy[MutableSymbol[Any]]] = numbers,
    most: int = 4,
) -> list[MutableSymbol[Any]]:
    """Symbols with different labels."""
    return [draw(make(label)) for label in LABELS[: draw(st.integers(1, most))]]


def combinations(pool: Sequence[Any], most: int = 60) -> list[dict[str, Any]]:
    """All architectures over a pool of symbols of finitely many values, thinned to some."""
    values = [decoded(symbol) for symbol in pool]
    total = math.prod(map(len, values))
    step = max(1, total // most) | 1  # odd, so that no label stands still
    rows = list(product(*values))[::step] if total < 100_000 else [tuple(v[0] for v in values)]
    return [dict(zip([s.name for s in pool], row, strict=True)) for row in rows]


def decoded(symbol: MutableSymbol[Any]) -> list[Any]:
    """All values of a symbol that has finitely many."""
    return symbol.decode(np.arange(symbol.size or 0))


# -- expressions ------------------------------------------------------------------------------

ME = MutableExpression

_BINARY = ("whole whole -> whole", "number number -> number")
_UNARY = ("whole -> whole", "number -> number")
_MANY = ("whole whole whole -> whole", "number number -> number")
SIGNATURES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("add", "sub", "mul", "mod", "floordiv"), _BINARY),
    **dict.fromkeys(("neg", "pos", "abs"), _UNARY),
    **dict.fromkeys(("max", "min", "sum", "tuple", "flattened"), _MANY),
    **dict.fromkeys(("and", "or", "xor"), ("whole whole -> whole", "truth truth -> truth")),
    **dict.fromkeys(("lt", "le", "eq", "ne", "ge", "gt"), ("number number -> truth",)),
    **dict.fromkeys(("round", "floor", "ceil", "trunc", "int"), ("number -> whole",)),
    **dict.fromkeys(("truediv", "divmod"), ("number number -> number",)),
    **dict.fromkeys(("lshift", "rshift"), ("whole shift -> whole",)),
    "pow": ("number exponent -> number",),
    "powmod": ("whole exponent whole -> whole",),
    "invert": ("whole -> whole",),
    "round_to": ("number digits -> number",),
    "float": ("number -> number",),
    "getitem": ("triple third -> whole",),
    "listed": ("whole number -> whole", "number number -> number"),
}
"""Eager operators: what kinds of arguments they take, and what kind of value they give."""

LAZY = ("condition", "case", "switch_case")
LOOKUP = "lookup"
ROUNDING = ("round", "floor", "ceil", "trunc", "int")

_CONSTANTS: dict[str, st.SearchStrategy[Any]] = {
    "shift": st.integers(0, 70),
    "exponent": st.integers(-1, 3),
    "digits": st.integers(-2, 2),
    "triple": st.tuples(small, small, small),
    "third": st.integers(0, 2),
}
_REDUCED = {"shift": 70, "exponent": 4, "third": 3}
"""Which of these may be an expression as well, below a limit: others would fill the memory."""


class Stock:
    """The nodes and constants made so far, by kind of value; later ones build on them."""

    def __init__(self, draw: st.DrawFn, pool: list[MutableSymbol[Any]]) -> None:
        self.draw = draw
        self.kinds: dict[str, list[Any]] = {"number": [0.5, 3], "whole": [1, 2, True], "truth": []}
        self.add("truth", False)
        for symbol in pool:
            types = {type(value) for value in decoded(symbol)}
            kind = "truth" if types == {bool} else "whole" if types <= {int, bool} else "number"
            self.add(kind, symbol)

    def add(self, kind: str, made: Any) -> None:
        """Truth values count as whole numbers, and these as numbers."""
        wider = {"truth": ("truth", "whole", "number"), "whole": ("whole", "number")}
        for each in wider.get(kind, ("number",)):
            self.kinds[each].append(made)

    def pick(self, kind: str) -> Any:
        if kind in _CONSTANTS and (kind not in _REDUCED or self.draw(st.booleans())):
            return self.draw(_CONSTANTS[kind])
        if kind in _REDUCED:
            return self.pick("whole") % _REDUCED[kind]
        made = [item for item in self.kinds[kind] if isinstance(item, Node)]
        if made and self.draw(st.integers(0, 3)) > 0:
            return self.draw(st.sampled_from(made[::-1]))
        return self.draw(st.sampled_from(self.kinds[kind]))


@st.composite
def expressions(
    draw: st.DrawFn, pool: list[MutableSymbol[Any]], most: int = 10, *, several: bool = True
) -> Any:
    """A random expression over a pool of numbers; lazy operators are among them.

    Steps build on earlier ones, so sub-expressions are shared.  Evaluation may fail, by a
    division by zero or a switch without a branch.  With `several`, it may be a tuple of numbers.
    """
    stock = Stock(draw, pool)
    powers = 0
    for _ in range(draw(st.integers(5, most))):
        name = draw(st.sampled_from((*SIGNATURES, *LAZY, LOOKUP)))
        if name == "pow" and (powers := powers + 1) > 2:
            name = "mul"  # towers of powers fill the memory
        if name == LOOKUP:
            kind, factors = draw(_lookups(pool))
            stock.add(kind, ME.lookup(factors))
            continue
        if name in LAZY:
            kind = draw(st.sampled_from(["whole", "number"]))
            arguments = _branches(stock, name, kind, pool)
        else:
            wanted, kind = draw(st.sampled_from(SIGNATURES[name])).split(" -> ")
            arguments = [stock.pick(one) for one in wanted.split()]
        if any(isinstance(argument, Node) for argument in arguments):
            made: Any = apply(name, *arguments)
            if name in {"tuple", "divmod"}:
                made = made[draw(st.integers(0, 1))]
            stock.add(kind, made)
    nodes = [node for node in stock.kinds["number"] if isinstance(node, Node)]
    return apply("tuple", *nodes[-3:]) if several and draw(st.booleans()) else nodes[-1]


@st.composite
def _lookups(draw: st.DrawFn, pool: list[MutableSymbol[Any]]) -> tuple[str, FactorSum]:
    """A sum of factors in which a symbol may decide whether others are active."""
    deciding, *others = draw(st.permutations(pool))
    activity: dict[Any, Factor] = {deciding: TRUE}
    for symbol in others:
        here = draw(hnp.arrays(np.bool_, deciding.size or 0))
        activity[symbol] = draw(st.sampled_from([TRUE, Factor([deciding], here)]))
    kind = draw(st.sampled_from(["whole", "number"]))
    elements: st.SearchStrategy[Any] = (
        small if kind == "whole" else st.sampled_from([0.5, -1.5, 3.0])
    )
    terms = []
    for _ in range(draw(st.integers(1, 2))):
        scope = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=2, unique_by=id))
        shape = tuple(symbol.size or 0 for symbol in scope)
        dtype: np.dtype[Any] = np.dtype(np.int64 if kind == "whole" else np.float64)
        term = Factor(scope, draw(hnp.arrays(dtype, shape, elements=elements)))
        for symbol in scope:
            # The same where the symbol is not active, whatever its code.
            term = term.combine(activity[symbol], lambda values, here: np.where(here, values, 0))
        terms.append(term)
    constant = draw(small)
    return kind, FactorSum(terms, constant, activity)


def _branches(stock: Stock, name: str, kind: str, pool: list[MutableSymbol[Any]]) -> list[Any]:
    """Arguments of a lazy operator, which may lead to what is not there."""
    draw, pick = stock.draw, stock.pick
    if name == "condition":
        return [pick(draw(st.sampled_from(["truth", "whole"]))), pick(kind), pick(kind)]
    if name == "case":
        ways = draw(st.integers(1, 3))
        last = True if draw(st.integers(0, 3)) else pick("truth")
        return [*(pick(one) for one in ["truth", kind] * ways), last, pick(kind)]
    symbol = draw(st.sampled_from(pool))
    keys = tuple(decoded(symbol))[: 1 if draw(st.integers(0, 4)) == 0 else None]
    return [symbol, keys, *(pick(kind) for _ in keys)]


# -- structures -------------------------------------------------------------------------------


@st.composite
def structures(draw: st.DrawFn, pool: list[MutableSymbol[Any]], depth: int = 3) -> Any:
    """Lists, dictionaries, choices among parts, symbols, expressions and constraints, nested."""
    kind = draw(
        st.sampled_from(
            ["symbol", "symbol", "expression", "constraint"]
            + (["list", "dict", "choice", "choice", "depth"] if depth else [])
        )
    )
    if kind == "symbol":
        return draw(st.sampled_from(pool))
    if kind == "constraint":
        return draw(constraints(pool))
    if kind == "expression":
        return draw(total_expressions(pool))
    parts = draw(st.lists(structures(pool, depth - 1), min_size=1, max_size=3))
    if kind == "list":
        return MutableList([*parts, draw(plain_values)])
    if kind == "dict":
        return MutableDict({f"p{place}": part for place, part in enumerate(parts)}, plain=3)
    nodes = [node for part in parts if (node := part.structure()) is not None]
    symbol = draw(st.sampled_from(pool))
    values = decoded(symbol)
    hashable = [v for v in values if not isinstance(v, list)]
    if kind == "choice" or not hashable:
        value = draw(st.sampled_from(values))
        return ME.condition(symbol == value, nodes[0], nodes[-1])
    # A choice that takes the first so many of the parts, as a repeat does.
    branches = {
        value: apply("tuple", *nodes[: place % (len(nodes) + 1)], symbol)
        for place, value in enumerate(hashable)
    }
    return ME.switch_case(symbol, branches)


@st.composite
def total_expressions(draw: st.DrawFn, pool: list[MutableSymbol[Any]]) -> Any:
    """An expression that has a value under every architecture."""
    first, second = draw(st.sampled_from(pool)), draw(st.sampled_from(pool))
    flag = draw(st.sampled_from([first == second, first != 2, (first == "k3") ^ True]))
    return draw(
        st.sampled_from(
            [
                apply("tuple", first, second),
                ME.condition(flag, first, apply("tuple", flag, 1)),
                ME.case([(flag, second), (first == 0, 1), (True, first)]),
                flag * 3 + 1,
            ]
        )
    )


@st.composite
def constraints(draw: st.DrawFn, pool: list[MutableSymbol[Any]]) -> ExpressionConstraint:
    """A constraint that most architectures meet."""
    first, second = draw(st.sampled_from(pool)), draw(st.sampled_from(pool))
    value = decoded(first)[0]
    condition = draw(st.sampled_from([first != value, (first == value) | (second != value)]))
    return ExpressionConstraint(condition, label=f"rule {condition}")
