"""``lookup_expression``: a sum of factors as an expression over the labels of a space."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from ..errors import DecompositionError
from ..mutable import MutableExpression
from ..mutable.factor_sum import FactorSum, covered_by
from ..mutable.factors import (
    FALSE,
    TRUE,
    Auxiliary,
    Factor,
    TooLargeError,
    absorbed,
    labels_of,
    multilinear,
)
from ..mutable.node import Node
from .activity import Activity

__all__ = ["lookup_expression"]


def lookup_expression(root: Node | None, terms: Sequence[Factor], constant: Any = 0) -> Any:
    """Return the expression that adds up what factors say of an architecture.

    Parameters
    ----------
    root
        The structure of the space that the architectures are of, which says when labels are
        active; ``None`` if it has none.
    terms
        Factors over labels, each the same whatever the code of a label that is not active.  Of
        auxiliary variables they are a polynomial: look-ups where conditions hold.
    constant
        What is added to their sum.

    Returns
    -------
    MutableExpression or number
        A number where no label matters.
    """
    # By the conditions that all have to hold for a factor to count.
    parts: dict[tuple[Auxiliary, ...], list[Factor]] = {(): []}
    for term in terms:
        for conditions, factor in multilinear(term):
            parts.setdefault(conditions, []).append(factor)
    found = _sum(root, parts.pop(()), constant)
    if parts:
        under = [_under(root, conditions, factors) for conditions, factors in parts.items()]
        found = MutableExpression.sum([found, *under])
    if root is not None and isinstance(found, Node):
        covered_by(root).add(found)  # by the activity of the same structure
    return found


def _sum(root: Node | None, factors: Sequence[Factor], constant: Any = 0) -> Any:
    """The sum of factors over labels."""
    # What several factors are together may depend on nothing, as the largest of some that are
    # each large where the others are not.
    constant += sum(factor.values.item() for factor in factors if not factor.scope)
    kept = absorbed([factor for factor in factors if factor.scope])
    return MutableExpression.lookup(FactorSum(kept, constant, _conditions(root, kept)))


def _under(root: Node | None, conditions: tuple[Auxiliary, ...], factors: Sequence[Factor]) -> Any:
    """The sum of factors where some conditions hold, and 0 elsewhere."""
    found = _sum(root, factors)
    for variable in reversed(conditions):
        truth = variable.expression
        if truth is None:
            truth = _sum(root, [_numbers(variable.condition.resolved())]) == 1
        found = MutableExpression.condition(truth, found, 0)
    # Where a label of a condition is not active, what depends on it is 0.
    reach = _conditions(root, ())
    active = TRUE
    for label in labels_of(conditions):
        active = active & reach.get(label, TRUE)
    if active.always:
        return found
    return MutableExpression.condition(_sum(root, [_numbers(active)]) == 1, found, 0)


def _numbers(condition: Factor) -> Factor:
    return Factor(condition.scope, condition.values.astype(np.int64))


def _conditions(root: Node | None, terms: Sequence[Factor]) -> dict[Any, Factor]:
    """The condition under which each label is active, in the order of the structure."""
    known = {} if root is None else root.remember("_conditions", _known_conditions)
    return {
        leaf: reduce(Factor.__or__, _dependences(terms, leaf), FALSE) if found is None else found
        for leaf, found in known.items()
    }


def _known_conditions(root: Node) -> dict[Any, Factor | None]:
    """The condition under which each label is active; ``None`` where it is too large to list."""
    try:
        activity = Activity.of(root)
    except DecompositionError:
        return {}  # of something that no term needs, or it would have been refused before
    found: dict[Any, Factor | None] = {}
    for leaf in activity.reach:
        if leaf.words:
            try:
                found[leaf] = activity.condition(leaf)
            except TooLargeError:
                found[leaf] = None
    return found


def _dependences(terms: Sequence[Factor], symbol: Any) -> list[Factor]:
    """Where terms depend on a symbol: there it is active, or they would be the same."""
    found = []
    for term in terms:
        axis = term.axes().get(symbol)
        if axis is not None:
            differs = (term.values != term.values.take([0], axis)).any(axis)
            found.append(Factor(term.scope[:axis] + term.scope[axis + 1 :], differs))
    return found
