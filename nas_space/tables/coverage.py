"""Whether a space decides every label that an expression needs, whenever it needs it."""

from __future__ import annotations

from typing import Any

from ..errors import LabelError, SampleMissingError, suggest
from ..mutable import Constraint
from ..mutable.factor_sum import covered_by, is_covered, parts_of
from ..mutable.factors import TRUE, Factor
from ..mutable.node import Leaf, Node
from ..mutable.printing import brief
from .activity import Activity
from .join_tree import satisfiable

__all__ = ["check_constraint", "check_covered"]


def check_covered(root: Node, expression: Node, guard: Factor = TRUE) -> None:
    """Refuse an expression that needs what the space does not have, or not always.

    Parameters
    ----------
    root
        The structure of the space.
    expression
        What is to be evaluated for each of its architectures.
    guard
        Where it is evaluated; everywhere by default.

    Raises
    ------
    LabelError
        If a label is not one of the space, or is another choice there.
    SampleMissingError
        If a label is needed where it is not active.
    """
    if is_covered(root, expression):
        return
    space, here = Activity.of(root), Activity.of(expression)
    known = {leaf.name: leaf for leaf in space.reach if leaf.words}
    text = brief(expression)
    for leaf in here.reach:
        if not leaf.words:
            continue
        if leaf.name not in known:
            raise LabelError(
                f"{text} is about the label {leaf.name!r}, which the space does not have"
                f"{suggest(leaf.name, known)}"
            )
        if known[leaf.name] is not leaf:
            raise LabelError(
                f"{text} is about another choice labelled {leaf.name!r} than the space: "
                f"{leaf!r}, not {known[leaf.name]!r}; it may be the cost of another space"
            )
        _check_active(leaf, space, here, expression, guard)
    if guard.always:  # and so is what it always evaluates
        covered_by(root).update([expression, *parts_of(expression)])


def check_constraint(root: Node, constraint: Constraint) -> None:
    """Refuse a constraint that needs a label where it is not active; see :func:`check_covered`.

    Parameters
    ----------
    root
        The structure of the space.
    constraint
        One of the space's, which must hold where its marker is reached, or one to be added to it.
    """
    needed = constraint.needs()
    if needed is not None:
        reach: dict[Any, Factor] = Activity.of(root).reach
        check_covered(root, needed, reach.get(constraint.marker, TRUE))


def _check_active(
    leaf: Leaf, space: Activity, here: Activity, expression: Node, guard: Factor
) -> None:
    """Every combination of codes occurs, so a single one that goes wrong is enough."""
    active, needed = space.reach[leaf], here.reach[leaf]
    definitions = [*space.definitions, *here.definitions]
    if not active.always and satisfiable([*definitions, needed, ~active, guard]):
        raise SampleMissingError(
            f"{brief(expression)} needs the label {leaf.name!r} where it is not active; guard its "
            "use with MutableExpression.condition(...)"
        )
