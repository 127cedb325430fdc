"""Whether a space decides every label that an expression needs, whenever it needs it."""

from __future__ import annotations

from ..errors import LabelError, SampleMissingError, suggest
from ..mutable.factors import TRUE, Factor
from ..mutable.node import Leaf, Node
from ..mutable.printing import brief
from .activity import Activity


def check_covered(root: Node, expression: Node, guard: Factor = TRUE) -> None:
    """Refuses an expression that needs what the space does not have, or not always.

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
    checked: set[Node] = root.remember("_covers", lambda _: {root})
    if expression in checked:
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
    if guard.always:
        checked.add(expression)


def _check_active(
    leaf: Leaf, space: Activity, here: Activity, expression: Node, guard: Factor
) -> None:
    """Every combination of codes occurs, so a single one that goes wrong is enough."""
    from .model import possible

    active, needed = space.reach[leaf], here.reach[leaf]
    definitions = [*space.definitions, *here.definitions]
    if not active.always and possible([*definitions, needed, ~active, guard]):
        raise SampleMissingError(
            f"{brief(expression)} needs the label {leaf.name!r} where it is not active; guard its "
            "use with MutableExpression.condition(...)"
        )
