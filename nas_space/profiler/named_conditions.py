"""Conditions on many labels, each of which costs treat as a single variable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..errors import DecompositionError
from ..mutable.factors import Auxiliary, Factor
from ..mutable.node import Node, leaves, postorder
from ..mutable.operators import CASE, CONDITION
from ..mutable.piecewise import Piecewise

__all__ = ["named_conditions"]


def named_conditions(roots: Iterable[Node]) -> dict[Node, Auxiliary]:
    """Return the conditions in expressions that are variables of their own, with these variables.

    The channels of a cell whose loose ends are concatenated depend on what all of its nodes read:
    on ten labels together, and with the number of cells on twenty.  But they are a sum of one width
    for each node, where no other reads it.  With a truth value for each node in the place of what
    decides it, there are few combinations again, and a cost that is linear in the channels is a sum
    over nodes.  Some combinations of truth values and labels then belong to no architecture; what
    follows from these is never looked up.

    A condition is one variable everywhere or nowhere: what depends on it in one place through its
    labels, and in another through its variable, would not agree.

    Parameters
    ----------
    roots
        Expressions of a space that are too large to be enumerated.
    """
    found: dict[Node, Auxiliary] = {}
    for root in roots:
        for node in filter(_is_wide, _conditions(root)):
            if node not in found and (truth := _truth(node)) is not None:
                found[node] = Auxiliary.of(truth, node)
    return found


def _conditions(root: Node) -> Iterator[Node]:
    """What decides between two ways somewhere in an expression."""
    for node in postorder(root):
        places = _DECIDING.get(node.operator) if node.operator is not None else None
        if places is not None:
            yield from (part for part in node.arguments[places] if isinstance(part, Node))


_DECIDING = {CONDITION: slice(0, 1), CASE: slice(0, None, 2)}


def _is_wide(condition: Node) -> bool:
    """Whether a condition is about several labels."""
    return len(leaves(condition)) > 1


def _truth(condition: Node) -> Factor | None:
    """Where a condition holds; ``None`` if it is no truth value, or that is too much to list."""
    try:
        found = Piecewise.of(condition)
    except DecompositionError:
        return None
    plain = not found.failures and all(type(value) is bool for value in found.values)
    return found.truth() if plain else None
