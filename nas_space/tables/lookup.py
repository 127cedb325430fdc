"""``lookup_expression``: a sum of factors as an expression over the labels of a space."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from ..errors import DecompositionError
from ..mutable import MutableExpression
from ..mutable.factor_sum import FactorSum, covered_by
from ..mutable.factors import FALSE, Factor, TooLargeError
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
        Factors over labels, each the same whatever the code of a label that is not active.
    constant
        What is added to their sum.

    Returns
    -------
    MutableExpression or number
        A number where no label matters.
    """
    found = MutableExpression.lookup(FactorSum(terms, constant, _conditions(root, terms)))
    if root is not None and isinstance(found, Node):
        covered_by(root).add(found)  # by the activity of the same structure
    return found


def _conditions(root: Node | None, terms: Sequence[Factor]) -> dict[Any, Factor]:
    """The condition under which each label is active, in the order of the structure."""
    if root is None:
        return {}
    try:
        activity = Activity.of(root)
    except DecompositionError:
        return {}  # of something that no term needs, or it would have been refused before
    found: dict[Any, Factor] = {}
    for leaf in activity.reach:
        if leaf.words:
            try:
                found[leaf] = activity.condition(leaf)
            except TooLargeError:
                found[leaf] = reduce(Factor.__or__, _dependences(terms, leaf), FALSE)
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
