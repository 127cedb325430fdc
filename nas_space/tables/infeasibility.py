"""What to say when no architecture is left: how far off the conditions are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import DecompositionError, InfeasibleError
from ..mutable.constraints import Constraint, ExpressionConstraint
from ..mutable.node import Node
from ..mutable.printing import brief
from .conditions import COMPARISONS, against_number
from .model import Model, find_constraints
from .tabulation import tabulate

__all__ = ["refusal"]


def refusal(root: Node) -> InfeasibleError:
    """Return the error that says why no architecture meets the conditions of a structure.

    A comparison that no architecture meets is named, with the range of its cost; where conditions
    only together leave nothing, all are, with the smallest of each cost.

    Parameters
    ----------
    root
        The structure, with its conditions as markers.
    """
    free, model = Model(root, constraints=()), Model.of(root)
    conditions = root.remember("_constraints", find_constraints)
    if not conditions:
        return InfeasibleError("no architecture is possible: what decides leads nowhere")
    smallest: dict[Node, Any] = {}
    comparisons = list(_comparisons(conditions))
    # On its own, and then among what the conditions on few labels leave.
    for given in (free, model):
        for cost, name, bound, text in comparisons:
            try:
                table = tabulate(cost)
                compiled = given.compiled([table])
            except DecompositionError:
                continue
            if not compiled.tree.possible:
                continue
            low, high = compiled.extremes(table)
            if not _can_hold(name, low, high, bound):
                return InfeasibleError(
                    f"no architecture has {text}: the smallest is {low}, the largest {high}",
                    smallest=low,
                )
            smallest.setdefault(cost, low)
    texts = " and ".join(map(_text, conditions))
    if not smallest:
        floors = {cost: _floor(cost) for cost, *_ in comparisons}
        known = [
            f"{brief(cost)} is at least {low}" for cost, low in floors.items() if low is not None
        ]
        return InfeasibleError(": ".join([f"no architecture has {texts}", *known[:1]]))
    least = ", ".join(f"{low} for {brief(cost)}" for cost, low in smallest.items())
    together = " at the same time" if len(conditions) > 1 else ""
    return InfeasibleError(
        f"no architecture has {texts}{together}: the smallest possible is {least}",
        smallest=next(iter(smallest.values())) if len(smallest) == 1 else None,
    )


def _floor(cost: Node) -> Any:
    """What a maximum never falls below; ``None`` if that is not known."""
    if cost.operator is None or cost.operator.name != "max":
        return None
    try:
        return max(tabulate(part).interval()[0] for part in cost.arguments)
    except DecompositionError:
        return None


def _can_hold(name: str, low: Any, high: Any, bound: Any) -> bool:
    """Whether a comparison can be met by something between two values."""
    if name == "eq":
        return bool(low <= bound <= high)
    return bool(COMPARISONS[name](low if name in {"lt", "le"} else high, bound))


def _text(constraint: Constraint) -> str:
    if isinstance(constraint, ExpressionConstraint):
        return brief(constraint.expression)
    return repr(constraint)


def _comparisons(conditions: list[Constraint]) -> Iterator[tuple[Node, str, Any, str]]:
    """The comparisons of a cost with a number that must hold: cost, operator, number, text."""
    waiting: list[Any] = [
        condition.expression
        for condition in reversed(conditions)
        if isinstance(condition, ExpressionConstraint)
    ]
    while waiting:
        part = waiting.pop()
        if not isinstance(part, Node) or part.operator is None:
            continue
        name = part.operator.name
        if name == "and":
            waiting += reversed(part.arguments)
        elif name in COMPARISONS:
            name, cost, bound = against_number(part)
            if isinstance(bound, (int, float)):
                yield cost, name, bound, brief(part)
