"""Whether the constraints that a space declares leave any architecture."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import DecompositionError, DomainError, InfeasibleError
from ..mutable.constraints import Constraint
from ..mutable.node import Node
from .infeasibility import refusal
from .model import Model, find_constraints
from .sampler import any_within

__all__ = ["check_feasible", "is_feasible"]


def check_feasible(root: Node) -> None:
    """Refuse a structure of which no architecture meets the constraints.

    What cannot be told, because a constraint is any function of very many labels, is left to
    whoever draws architectures.

    Parameters
    ----------
    root
        The structure, with its constraints as markers.

    Raises
    ------
    InfeasibleError
        Names the constraints that leave nothing: no fewer of them do.
    """
    declared = root.remember("_constraints", find_constraints)
    if not declared or is_feasible(root):
        return
    culprits = list(declared)
    for constraint in declared:  # a deletion filter: what remains is irreducible
        fewer = [other for other in culprits if other is not constraint]
        if not _is_possible(root, fewer):
            culprits = fewer
    reason = refusal(root)
    names = " and ".join(f"{str(each.label)!r}" for each in culprits)
    which, are = ("constraint", "is") if len(culprits) == 1 else ("constraints", "are")
    raise InfeasibleError(
        f"the {which} {names} {are} met by no architecture: {reason}; loosen "
        f"{'it' if len(culprits) == 1 else 'one'}, or give its labels more values",
        smallest=reason.smallest,
    )


def is_feasible(root: Node) -> bool:
    """Return whether some architecture meets the constraints of a structure, or nobody can tell."""
    try:
        compiled = Model.of(root).compiled()
        possible = compiled.possible
        return any_within(compiled) if possible is None else possible
    except (DecompositionError, DomainError):
        return True


def _is_possible(root: Node, constraints: Iterable[Constraint]) -> bool:
    """Return whether some architecture meets some of them, as far as is easily told."""
    try:
        return Model(root, constraints=constraints).compiled().possible is not False
    except (DecompositionError, DomainError):
        return True
