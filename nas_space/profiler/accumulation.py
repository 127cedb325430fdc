"""``Accumulator``: factors that add up or of which the largest counts, and the cost they make."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from ..mutable import Mutable, MutableExpression
from ..mutable.factors import Factor, merged_scope
from ..mutable.node import Node
from ..nn.structure import Survey
from ..tables.lookup import lookup_expression
from .contexts import EVERYWHERE, Context

__all__ = ["Accumulator", "added", "largest", "titled"]


class Accumulator:
    """Factors, one for each scope, that add up or of which the largest counts.

    Parameters
    ----------
    space
        The space whose architectures they are about.
    """

    def __init__(self, space: nn.Module) -> None:
        self.space = space
        self.factors: dict[tuple[int, ...], Factor] = {}

    def add(self, factor: Factor, context: Context = EVERYWHERE) -> None:
        """Add a factor for the architectures of a context, and nothing for others."""
        if not factor.never:
            self.take(context.only(factor))

    def take(self, factor: Factor) -> None:
        """Add a factor that is 0 already where it does not count."""
        _take(self.factors, factor, np.add)

    def raise_to(self, factor: Factor, context: Context = EVERYWHERE) -> None:
        """Take a factor where it exceeds what is known, for the architectures of a context."""
        _take(self.factors, context.only(factor), np.maximum)

    def sum(self) -> Any:
        """Return the sum of all factors: a number, or an expression."""
        terms = self.factors
        settled: dict[int, Factor] = {}
        for _ in range(2):  # what adds up may depend on less than its parts
            factors, terms = list(terms.values()), {}
            for factor in factors:
                reduced = settled.get(id(factor)) or factor.reduced()
                settled[id(reduced)] = reduced
                _take(terms, reduced, np.add)
        constant = terms.pop((), Factor.constant(0)).values.item()
        return self._expression(list(terms.values()), constant)

    def maximum(self, *others: Any) -> Any:
        """Return the largest over all factors, and over other expressions."""
        # Whatever lies below what every architecture reaches somewhere does not matter.
        floor = max((factor.values.min().item() for factor in self.factors.values()), default=0)
        terms: dict[tuple[int, ...], Factor] = {}
        for factor in self.factors.values():
            above = Factor(factor.scope, np.maximum(factor.values, floor)).reduced()
            if above.scope:
                _take(terms, above, np.maximum)
        found = [self._expression([term], 0) for term in terms.values()]
        return MutableExpression.max([*found, *others, floor])

    def _expression(self, terms: list[Factor], constant: Any) -> Any:
        # The order of terms decides how ties between equal plans of elimination are broken.
        reduced = [term.reduced() for term in reversed(terms) if not term.never]
        return lookup_expression(_structure(self.space), reduced, constant)


def _structure(space: nn.Module) -> Node | None:
    return space.structure() if isinstance(space, Mutable) else Survey()(space)


def titled(cost: Any, title: str) -> Any:
    """Return a cost that prints as a title where it is too long to print, as in error messages."""
    return cost.titled(title) if isinstance(cost, MutableExpression) else cost


def _take(factors: dict[tuple[int, ...], Factor], factor: Factor, operation: np.ufunc) -> None:
    """Combine a factor with the one over the same variables, if there is one."""
    key = tuple(map(id, factor.scope))
    known = factors.get(key)
    factors[key] = (
        factor if known is None else Factor(known.scope, operation(known.values, factor.values))
    )


def added(*factors: Factor) -> Factor:
    """Return the sum of several factors, over all of their labels."""
    scope = merged_scope(*(factor.scope for factor in factors))
    total: Any = 0
    for factor in factors:
        total = total + factor.over(scope)
    return Factor(scope, np.asarray(total))


def largest(*factors: Factor) -> Factor:
    """Return the largest of several factors, over all of their labels."""
    found = factors[0]
    for factor in factors[1:]:
        scope = merged_scope(found.scope, factor.scope)
        found = Factor(scope, np.maximum(found.over(scope), factor.over(scope)))
    return found
