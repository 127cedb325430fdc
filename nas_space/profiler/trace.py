"""What happened when a space was followed: calls of modules and of functions, and memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .cases import Array, Context, Guard, Labels
from .evaluation import Outcome


class Held:
    """Memory of one tensor.

    Attributes
    ----------
    context
        The architectures that have it.
    labels, table
        Its bytes.
    """

    __slots__ = ("context", "labels", "table")

    def __init__(self, context: Context, labels: Labels, table: Array) -> None:
        self.context = context
        self.labels = labels
        self.table = table

    def exact(self, guards: tuple[Guard, ...] = ()) -> tuple[Labels, Array]:
        """Its bytes, 0 for architectures that do not have it or do not meet conditions."""
        return _exact(self.context, self.labels, self.table, guards)


class Claim(NamedTuple):
    """That a tensor lies in some memory.

    Attributes
    ----------
    held
        The memory.
    guards
        For which architectures it does: after a choice, the tensor lies elsewhere for others.
    """

    held: Held
    guards: tuple[Guard, ...]


class Share:
    """A claim that holds as long as this object lives.

    Parameters
    ----------
    live
        Where it is listed meanwhile.
    claim
        What is claimed.
    """

    __slots__ = ("claim", "live")

    def __init__(self, live: dict[int, Claim], claim: Claim) -> None:
        self.live = live
        self.claim = claim
        live[id(self)] = claim

    def where(self, guards: tuple[Guard, ...]) -> Share:
        """A claim of the same for the architectures alone that meet further conditions."""
        held, mine = self.claim
        return Share(self.live, Claim(held, (*guards, *mine)))

    def __del__(self) -> None:
        self.live.pop(id(self), None)


class Use(NamedTuple):
    """What memory an argument or a result of a call lies in.

    Attributes
    ----------
    place
        Which of the leaves it is.
    claim
        Where it lies.
    """

    place: int
    claim: Claim


class Step:
    """One call of a function, for all architectures that get there.

    Attributes
    ----------
    context
        Which these are.
    labels, ids, outcomes
        What the call gives and costs.
    live
        The memory that is held when it begins.
    arguments, results
        The memory of its arguments and of its results.
    """

    __slots__ = ("arguments", "context", "ids", "labels", "live", "outcomes", "results")

    def __init__(
        self,
        context: Context,
        labels: Labels,
        ids: Array,
        outcomes: list[Outcome],
        live: list[Claim],
    ) -> None:
        self.context = context
        self.labels = labels
        self.ids = ids
        self.outcomes = outcomes
        self.live = live
        self.arguments: list[Use] = []
        self.results: list[Use] = []

    def table(self, quantity: Callable[[Outcome], int]) -> Array:
        """A quantity of the outcomes, for each combination of values of the labels."""
        return np.array([*map(quantity, self.outcomes), 0], dtype=np.int64)[self.ids]

    def exact(self, table: Array, guards: tuple[Guard, ...] = ()) -> tuple[Labels, Array]:
        """A table over the labels, 0 for architectures that do not get there or meet conditions."""
        return _exact(self.context, self.labels, table, guards)


def _exact(
    context: Context, labels: Labels, table: Array, guards: tuple[Guard, ...]
) -> tuple[Labels, Array]:
    """A table, 0 for architectures that are not in a context or do not meet conditions."""
    if guards:
        context = Context((*context.guards, *guards))
    return context.table(labels, table)


class Call:
    """One call of a module.

    Attributes
    ----------
    path, kind
        Which module, and its class.
    context
        The architectures for which it is called.
    steps
        What happens in it: calls of functions and of further modules.
    decides
        Whether it is itself a choice between branches.
    arguments, results
        What goes in and comes out, taken apart; what differs between architectures as cases.
    """

    __slots__ = ("arguments", "context", "decides", "kind", "path", "results", "steps")

    def __init__(self, path: str, kind: str, context: Context) -> None:
        self.path = path
        self.kind = kind
        self.context = context
        self.steps: list[Step | Call] = []
        self.decides = False
        self.arguments: tuple[Any, list[Any]] = (None, [])
        self.results: tuple[Any, list[Any]] = (None, [])
