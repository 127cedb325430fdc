"""With which values constructors are tried: those that the constraints declared so far allow.

A constraint that a module declares holds for all that its constructor makes after it, so layers
need not be possible under other values, and torch may refuse these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from ..errors import DecompositionError, DomainError, InfeasibleError
from ..mutable import Constraint, ExpressionConstraint, Mutable, Sample, distinct_values
from ..mutable.containers import MutableList
from ..mutable.context_stack import Entered
from ..mutable.expression import apply
from ..mutable.node import Node, leaves
from ..tables.feasibility import is_feasible
from ..tables.queries import default

__all__ = [
    "CONSTRUCTED",
    "Construction",
    "allowed_values",
    "is_allowed",
    "nearest_allowed",
    "robust",
]


class Construction:
    """That the constructor of a class runs.

    Attributes
    ----------
    cls
        The class.
    constraints
        What it has declared so far.
    """

    __slots__ = ("cls", "constraints")

    def __init__(self, cls: type) -> None:
        self.cls = cls
        self.constraints: list[Constraint] = []

    def note(self, owner: object, constraint: Constraint) -> None:
        """Take down a constraint if it is one of the module's own."""
        if type(owner) is self.cls:
            self.constraints.append(constraint)


CONSTRUCTED: Entered[Construction] = Entered("constructed")
"""The constructors that run, the outermost first."""


def _declared() -> list[Constraint]:
    """Return the constraints of the modules whose constructors run, as far as declared."""
    return [constraint for construction in CONSTRUCTED for constraint in construction.constraints]


def allowed_values(expressions: Sequence[Any], limit: int = 1024) -> list[tuple[Any, ...]]:
    """Return the distinct values that some expressions take together and constraints allow.

    Raises
    ------
    DomainError
        If there are more than the limit, or too many labels to enumerate.
    """
    constraints = _declared()
    if not constraints:
        return distinct_values(expressions, limit)
    found = distinct_values(expressions, max(limit, 2**12))
    allowed = [values for values in found if _is_allowed(constraints, expressions, values)]
    if len(allowed) > limit:
        return distinct_values(expressions, limit)  # which says what is too much
    return allowed or found


def nearest_allowed(expressions: Sequence[Any]) -> Callable[[Any], Any] | None:
    """Return the values of the architecture nearest to the default that constraints allow.

    ``None`` where there are none, or they cannot be taken apart.
    """
    constraints = _declared()
    if constraints:
        space = MutableList([*(e for e in expressions if isinstance(e, Mutable)), *constraints])
        with suppress(DecompositionError, DomainError, InfeasibleError):
            arch = default(space)
            return lambda expression: expression.evaluate(arch)
    return None


def is_allowed(expressions: Sequence[Any], values: Callable[[Any], Any]) -> bool:
    """Return whether constraints allow that some expressions have some values together."""
    constraints = _declared()
    return not constraints or _is_allowed(constraints, expressions, [*map(values, expressions)])


def _is_allowed(
    constraints: list[Constraint], expressions: Sequence[Any], values: Sequence[Any]
) -> bool:
    wanted = [
        ExpressionConstraint(equal, label=f"trial_{place}").marker
        for place, equal in enumerate(_equal(expressions, values))
    ]
    needed = [constraint.structure() for constraint in constraints]
    return is_feasible(apply("tuple", *expressions, *needed, *wanted))


def _equal(expressions: Sequence[Any], values: Sequence[Any]) -> Iterator[Any]:
    for expression, value in zip(expressions, values, strict=True):
        equal = expression == value
        if isinstance(equal, Node):
            yield equal


def robust(mutable: Mutable, memo: Sample, retries: int) -> Any:
    """Return :meth:`~nas_space.mutable.Mutable.robust_default`, made to meet the constraints."""
    constraints = [each for each in _declared() if _is_about(each, mutable)]
    if not constraints:
        return mutable.robust_default(memo, retries=retries)
    return MutableList([mutable, *constraints]).robust_default(memo, retries=retries)[0]


def _is_about(constraint: Constraint, mutable: Mutable) -> bool:
    needed = constraint.needs()
    mine = set(mutable.simplify())
    return needed is None or any(leaf.name in mine for leaf in leaves(needed))
