"""``Accumulator``: factors that add up or of which the largest counts, and the cost they make."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
from torch import nn

from ..errors import DecompositionError
from ..mutable import Mutable, MutableExpression
from ..mutable.factor_sum import FactorSum, covered_by
from ..mutable.factors import (
    FALSE,
    TRUE,
    Auxiliary,
    Factor,
    TooLargeError,
    absorbed,
    merged_scope,
    multilinear,
)
from ..mutable.node import Node
from ..nn.structure import Survey
from ..tables.activity import Activity
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
            _take(self.factors, context.only(factor), np.add)

    def raise_to(self, factor: Factor, context: Context = EVERYWHERE) -> None:
        """Take a factor where it exceeds what is known, for the architectures of a context."""
        _take(self.factors, context.only(factor), np.maximum)

    def sum(self) -> Any:
        """Return the sum of all factors: a number, or an expression."""
        terms = self.factors
        for _ in range(2):  # what adds up may depend on less than its parts
            factors, terms = list(terms.values()), {}
            for factor in factors:
                _take(terms, factor.reduced(), np.add)
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
        # Factors over labels, by the conditions that all have to hold for them to count.
        under: dict[tuple[Auxiliary, ...], list[Factor]] = {(): []}
        for term in reduced:
            for conditions, part in multilinear(term):
                under.setdefault(conditions, []).append(part)
        found = self._looked_up(under.pop(()), constant)
        parts = [self._under(conditions, factors) for conditions, factors in under.items()]
        if parts:
            found = MutableExpression.sum([found, *parts])
        root = _structure(self.space)
        if root is not None and isinstance(found, Node):
            covered_by(root).add(found)  # by the activity of the same structure
        return found

    def _looked_up(self, factors: list[Factor], constant: Any = 0) -> Any:
        # What several factors are together may depend on nothing, as the largest of some that are
        # each large where the others are not.
        constant += sum(factor.values.item() for factor in factors if not factor.scope)
        terms = absorbed([factor for factor in factors if factor.scope])
        return MutableExpression.lookup(FactorSum(terms, constant, self._activity(terms)))

    def _under(self, conditions: tuple[Auxiliary, ...], factors: list[Factor]) -> Any:
        """The sum of factors where some conditions hold, and 0 elsewhere."""
        found = self._looked_up(factors)
        for condition in reversed(conditions):
            found = MutableExpression.condition(condition.expression, found, 0)
        active = TRUE  # where a label of a condition is not, what depends on it is 0
        reach = self._activity([])
        for condition in conditions:
            for symbol in condition.condition.scope:
                active = active & reach.get(symbol, TRUE)
        if active.always:
            return found
        here = Factor(active.scope, active.values.astype(np.int64))
        return MutableExpression.condition(self._looked_up([here]) == 1, found, 0)

    def _activity(self, terms: list[Factor]) -> dict[Any, Factor]:
        """The condition under which each label is active, in the order of the structure."""
        root = _structure(self.space)
        if root is None:
            return {}
        try:
            activity = Activity.of(root)
        except DecompositionError:
            return {}  # of something that no cost needs, or it would have been refused before
        found: dict[Any, Factor] = {}
        for leaf in activity.reach:
            if leaf.words:
                try:
                    found[leaf] = activity.condition(leaf)
                except TooLargeError:
                    found[leaf] = reduce(Factor.__or__, _dependences(terms, leaf), FALSE)
        return found


def _dependences(terms: list[Factor], symbol: Any) -> list[Factor]:
    """Where terms depend on a symbol: there it is active, or they would be the same."""
    found = []
    for term in terms:
        axis = term.axes().get(symbol)
        if axis is not None:
            differs = (term.values != term.values.take([0], axis)).any(axis)
            found.append(Factor(term.scope[:axis] + term.scope[axis + 1 :], differs))
    return found


def _structure(space: nn.Module) -> Node | None:
    return space.structure() if isinstance(space, Mutable) else Survey()(space)


def titled(cost: Any, title: str) -> Any:
    """Return a cost that prints as a title where it is too long to print, as in error messages."""
    return cost.titled(title) if isinstance(cost, MutableExpression) else cost


def _take(factors: dict[tuple[int, ...], Factor], factor: Factor, operation: np.ufunc) -> None:
    """Combine a factor with the one over the same variables, if there is one."""
    key = tuple(map(id, factor.scope))
    known = factors.get(key)
    factors[key] = factor if known is None else known.combine(factor, operation)


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
