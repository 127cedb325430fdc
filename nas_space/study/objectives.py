"""``Objective``: what a search makes large or small."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ..errors import UsageError
from ..mutable import Mutable, MutableExpression

__all__ = ["Objective", "Objectives", "maximize", "minimize", "objectives_of", "ranking"]


@dataclass(frozen=True)
class Objective:
    """A number that a search makes as large or as small as it can.

    Made by :func:`maximize` and :func:`minimize`.

    Attributes
    ----------
    name
        What it is called; for a measured one, its key in what ``evaluate`` returns.
    direction
        ``'maximize'`` or ``'minimize'``.
    expression
        For a symbolic one, what it is: known before anything is trained, and never measured.
    """

    name: str
    direction: Literal["maximize", "minimize"]
    expression: MutableExpression[Any] | None = None

    @property
    def sign(self) -> int:
        """What to multiply values by, so that more is better."""
        return 1 if self.direction == "maximize" else -1

    def improve(self, best: dict[str, float], value: float) -> None:
        """Note a value among the best by name, if it is better than what is there."""
        best[self.name] = self.sign * max(self.sign * value, self.sign * best.get(self.name, value))


Objectives: TypeAlias = "Objective | str | Sequence[Objective | str] | Mapping[str, str]"
"""How objectives may be given: strings are names of what is measured, to be maximised."""


def maximize(name: str, expression: MutableExpression[Any] | None = None) -> Objective:
    """Return an objective of which more is better.

    Parameters
    ----------
    name
        What it is called.
    expression
        What it is, if it follows from the architecture.

    Examples
    --------
    >>> maximize("accuracy").sign
    1
    """
    return _objective(name, "maximize", expression)


def minimize(name: str, expression: MutableExpression[Any] | None = None) -> Objective:
    """Return an objective of which less is better.

    Parameters
    ----------
    name
        What it is called.
    expression
        What it is, if it follows from the architecture.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> width = Categorical([16, 32], label="width")
    >>> minimize("area", width * width).sign
    -1
    """
    return _objective(name, "minimize", expression)


def _objective(name: Any, direction: Any, expression: Any) -> Objective:
    """Return an objective, or say what is wrong with how it is asked for."""
    if direction not in ("maximize", "minimize"):
        raise UsageError(
            f"the direction of the objective {name!r} must be 'maximize' or 'minimize', "
            f"but got {direction!r}"
        )
    if not isinstance(name, str):
        what = "an expression" if isinstance(name, Mutable) else repr(name)
        raise UsageError(
            f"{direction}(...) takes the name of the objective first, but got {what}; write "
            f"{direction}('cost', expression) for what follows from the architecture, or "
            f"{direction}('accuracy') for a key of what evaluate returns"
        )
    if expression is not None and not isinstance(expression, MutableExpression):
        raise UsageError(
            f"the objective {name!r} is {expression!r}, which is no expression over labels; leave "
            "it out if evaluate measures it"
        )
    return Objective(name, direction, expression)


def ranking(
    objectives: Sequence[Objective], values: Sequence[float], cost: float | None, number: int
) -> tuple[float, ...]:
    """Return the key by which trials are sorted, the best first.

    Where the first objective is equal the next one decides, then what costs less, then the earlier
    trial. So the first of all is dominated by none, in the objectives and this cost.
    """
    better = [-objective.sign * value for objective, value in zip(objectives, values, strict=True)]
    return (*better, math.inf if cost is None else cost, number)


def objectives_of(given: Objectives) -> tuple[Objective, ...]:
    """Return objectives from whichever form they are given in.

    Raises
    ------
    UsageError
        If there are none, two of one name, or one of an unknown direction.

    Examples
    --------
    >>> [o.direction for o in objectives_of({"accuracy": "maximize", "energy": "minimize"})]
    ['maximize', 'minimize']
    """
    if isinstance(given, (Objective, str)):
        given = [given]
    if isinstance(given, Mutable):
        raise UsageError(
            "objectives are names, or made by maximize(...) or minimize(...), but got an "
            "expression; write minimize('cost', expression)"
        )
    found: list[Objective] = []
    for item in given:
        if isinstance(given, Mapping):
            found.append(_objective(item, given[str(item)], None))
        elif isinstance(item, Objective | str):
            found.append(maximize(item) if isinstance(item, str) else item)
        else:
            raise UsageError(
                f"an objective is a name, or made by maximize(...) or minimize(...), but got "
                f"{item!r}"
            )
    names = [objective.name for objective in found]
    if not found or len(set(names)) != len(names):
        raise UsageError(f"a search needs objectives, each of another name, but got {names}")
    return tuple(found)


class Unusable(Exception):  # noqa: N818 - what it says of a value, caught by the search
    """A value that cannot be an objective, though the next one may be."""


def measured(objectives: Sequence[Objective], returned: Any) -> dict[str, float]:
    """Return what ``evaluate`` returned, as a number for each name.

    Parameters
    ----------
    objectives
        Those of the search.
    returned
        A number, if one objective is measured; or a dict with one for each, and others.

    Raises
    ------
    UsageError
        If it has not this form: so it will be with every architecture.
    Unusable
        If a value is not a number (NaN).
    """
    wanted = [objective.name for objective in objectives if objective.expression is None]
    form = f"a dict with {wanted}" + (" or a number" if len(wanted) == 1 else "")
    if returned is None:
        raise UsageError(f"evaluate must return {form}, but returned nothing")
    if not isinstance(returned, Mapping):
        if len(wanted) != 1:
            raise UsageError(f"evaluate must return {form}, but returned {returned!r}")
        returned = {wanted[0]: returned}
    missing = [name for name in wanted if name not in returned]
    if missing:
        raise UsageError(
            f"evaluate must return {wanted}, but {missing} is missing: "
            f"it returned {dict(returned)!r}"
        )
    numbers: dict[str, float] = {}
    for name, value in returned.items():
        if not str(name).isprintable():
            raise UsageError(f"evaluate must return names that can be read, but got {name!r}")
        try:
            if isinstance(value, str | bytes):
                raise TypeError
            numbers[str(name)] = float(value)
        except (TypeError, ValueError, RuntimeError):
            raise UsageError(
                f"evaluate must return numbers, but {name!r} is {value!r}, a {type(value).__name__}"
            ) from None
    for name in wanted:
        if math.isnan(numbers[name]):
            raise Unusable(f"evaluate returned NaN for {name!r}")
    return numbers
