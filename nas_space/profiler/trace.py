"""What happened when a space was followed: calls of modules and of functions, and memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .cases import Array, Context, Guard, Labels, chained, sizes, spread
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

    def exact(self) -> tuple[Labels, Array]:
        """Its bytes, 0 for architectures that do not have it."""
        labels, mask = self.context.exact(self.labels)
        return labels, np.where(mask, spread(self.table, self.labels, labels), 0)


class Handle:
    """Memory is held as long as this object is.

    Parameters
    ----------
    live
        Where it is listed meanwhile.
    held
        What is listed.
    """

    __slots__ = ("held", "live")

    def __init__(self, live: dict[int, Held], held: Held) -> None:
        self.live = live
        self.held = held
        live[id(held)] = held

    def __del__(self) -> None:
        self.live.pop(id(self.held), None)


class Share:
    """That a tensor lies in some memory.

    Attributes
    ----------
    handle
        Keeps the memory alive.
    guards
        For which architectures the tensor is that one: after a choice, it lies elsewhere for
        others.
    """

    __slots__ = ("guards", "handle")

    def __init__(self, handle: Handle, guards: tuple[Guard, ...] = ()) -> None:
        self.handle = handle
        self.guards = guards


class Use:
    """Memory that an argument or a result of a call lies in.

    Attributes
    ----------
    place
        Which of the leaves it is.
    held
        The memory.
    guards
        As of :class:`Share`.
    """

    __slots__ = ("guards", "held", "place")

    def __init__(self, place: int, share: Share) -> None:
        self.place = place
        self.held = share.handle.held
        self.guards = share.guards


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
        live: list[Held],
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
        """A table over the labels, 0 for architectures that do not get there or not meet guards."""
        labels, mask = self.context.exact(self.labels)
        if guards:
            named = (guard.labels for guard in guards)
            labels, outer = chained(self.context.labels, *named, labels), labels
            mask = np.broadcast_to(spread(mask, outer, labels), sizes(labels))
            for guard in guards:
                mask = mask & spread(guard.mask, guard.labels, labels)
        return labels, np.where(mask, spread(table, self.labels, labels), 0)


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
