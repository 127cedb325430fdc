"""How dimensions are laid out: the order of what a size is the sum or the product of.

A size does not say where its elements are: heads times head size may be either order, and a sum
any.  The order is read from the reshapes and concatenations of the symbolic run; where these do
not say, all orders are candidates, of which the trial takes the one that is right.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .equations import Solution
from .polynomials import Polynomial, quotient
from .symbolic import Trace

__all__ = [
    "Dimension",
    "Layout",
    "Listed",
    "Product",
    "Sum",
    "expression_of",
    "indices",
    "layouts_of",
]


class Sum(NamedTuple):
    """Segments, one after the other."""

    parts: tuple[Layout, ...]


class Product(NamedTuple):
    """Axes made one, the last one fastest."""

    parts: tuple[Layout, ...]


class Listed(NamedTuple):
    """The elements of one variable at listed places, for each of its values.

    After a shuffle of channels, those that go one way are not the first of any segment.
    """

    name: str
    size: Polynomial
    places: tuple[tuple[int, tuple[int, ...]], ...]


Layout: TypeAlias = "int | str | Sum | Product | Listed"

Dimension: TypeAlias = "tuple[int, int]"
"""A dimension of a tensor, by the identity of the tensor."""

_MOST = 24
"""How many orders are tried."""


class _Compositions:
    def __init__(self, trace: Trace, solution: Solution) -> None:
        self.known: dict[Polynomial, list[tuple[str, tuple[Polynomial, ...]]]] = {}
        for name, step in solution.multiples:
            groups, size = Polynomial.name(name), Polynomial.constant(step)
            orders = [("product", (groups, size)), ("product", (size, groups))]
            self.known[groups * size] = list(orders)
        for kind, whole, parts in trace.compositions:
            of = tuple(map(solution.of, parts))
            total = solution.of(whole)
            if total.as_name() is None and total.as_constant() is None:
                entries = self.known.setdefault(total, [])
                if (kind, of) not in entries and total not in of:
                    entries.append((kind, of))

    def layouts(self, size: Polynomial, depth: int = 0) -> list[Layout]:
        """Return the layouts that a size may have, the most likely first."""
        constant, name = size.as_constant(), size.as_name()
        if constant is not None:
            return [constant]
        if name is not None:
            return [name]
        found: dict[Layout, None] = {}
        for kind, parts in self.known.get(size, ()) if depth < 12 else ():
            options = [self.layouts(part, depth + 1) for part in parts]
            for chosen in itertools.islice(itertools.product(*options), _MOST):
                found[_made(kind, chosen)] = None
        if not found:
            found = dict.fromkeys(itertools.islice(self._unseen(size, depth), _MOST))
        return list(found)[:_MOST]

    def _unseen(self, size: Polynomial, depth: int) -> Iterator[Layout]:
        """All orders of something that was never seen to be taken apart as a whole."""
        if len(size.terms) > 1:
            terms = [Polynomial({m: c}) for m, c in size.terms.items()]
            for order in itertools.permutations(terms):
                for parts in itertools.product(*(self.layouts(t, depth + 1) for t in order)):
                    yield _made("sum", parts)
            return
        ((monomial, c),) = size.terms.items()
        # A part of the factors may have been seen together: it stays in its order.
        for whole in sorted(self.known, key=lambda w: -sum(map(len, w.terms))):
            rest = None
            if len(whole.terms) == 1:
                rest = quotient((monomial, c), next(iter(whole.terms.items())))
            if rest is not None and rest != ((), 1):
                others: list[Layout] = [*([] if rest[1] == 1 else [rest[1]]), *rest[0]]
                for inner in self.layouts(whole, depth + 1):
                    for among in itertools.permutations([*others, inner]):
                        yield _made("product", among)
                return
        factors: list[Layout] = [*monomial]
        if c != 1:
            factors.insert(0, c)
        for ordered in itertools.permutations(factors):
            yield _made("product", ordered)


def _made(kind: str, parts: Any) -> Layout:
    flat: list[Layout] = []
    for part in parts:
        inner = Sum if kind == "sum" else Product
        flat.extend(part.parts if isinstance(part, inner) else [part])
    if kind == "product":
        flat = [part for part in flat if part != 1] or [1]
    if len(flat) == 1:
        return flat[0]
    if kind == "sum":
        if all(part == flat[0] for part in flat):
            return _made("product", (len(flat), flat[0]))
        return Sum(tuple(flat))
    if all(isinstance(part, int) for part in flat):
        return math.prod(flat)
    return Product(tuple(flat))


def layouts_of(trace: Trace, solution: Solution) -> dict[Polynomial, list[Layout]]:
    """Return, for each size that a dimension has, the layouts that it may have."""
    compositions = _Compositions(trace, solution)
    found: dict[Polynomial, list[Layout]] = {}
    for name, origin in solution.origins.items():
        size = solution.resolve(Polynomial.name(name))
        if origin.dim is not None and size not in found:
            found[size] = compositions.layouts(size)
    return found


def indices(
    layout: Layout,
    values: Mapping[str, int],
    sizes: Mapping[str, int],
    orders: Mapping[str, npt.NDArray[np.int64]] | None = None,
) -> tuple[npt.NDArray[np.int64], int]:
    """Return the elements that are kept, in order, and how many there are in all.

    Parameters
    ----------
    values
        Of the variables.
    sizes
        Their values in the network as it is.
    orders
        Of some variables, the order in which elements come; the first ones are kept.
    """
    if isinstance(layout, int):
        return np.arange(layout), layout
    if isinstance(layout, str):
        kept = values.get(layout, sizes[layout])
        order = None if orders is None else orders.get(layout)
        return np.arange(kept) if order is None else order[:kept], sizes[layout]
    if isinstance(layout, Listed):
        listed, whole = dict(layout.places), sizes[layout.name]
        return np.array(listed[values.get(layout.name, whole)]), len(listed[whole])
    if isinstance(layout, Sum):
        segments, total = [], 0
        for part in layout.parts:
            places, size = indices(part, values, sizes, orders)
            segments.append(places + total)
            total += size
        return np.concatenate(segments), total
    found, total = np.zeros(1, dtype=np.int64), 1
    for part in layout.parts:
        places, size = indices(part, values, sizes, orders)
        found = (found[:, None] * size + places).reshape(-1)
        total *= size
    return found, total


def expression_of(layout: Layout, values: Mapping[str, Any]) -> Any:
    """Return the size as an expression that says how it is laid out."""
    from ..nn.segments import flattened, listed

    if isinstance(layout, int):
        return layout
    if isinstance(layout, str):
        return values[layout]
    if isinstance(layout, Listed):
        return listed(layout.size.evaluate(values), values[layout.name], dict(layout.places))
    parts = [expression_of(part, values) for part in layout.parts]
    if isinstance(layout, Product):
        return flattened(*parts)
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
