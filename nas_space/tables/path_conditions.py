"""Path conditions: which way a lazy operator takes, as factors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..mutable.lazy import Branch, Condition, LastCase, Switch, way
from ..mutable.node import Node
from .factors import FALSE, TRUE, Enumerated, Factor


class PathConditions:
    """Under which codes each argument of a lazy node is evaluated.

    Parameters
    ----------
    node
        A node of a lazy operator.

    Attributes
    ----------
    asked
        What decides the way, and where it is needed.
    taken
        What the value is, and where: arguments, and factors that exclude each other.
    lost
        Where no way leads on, so that the node has no value.

    Raises
    ------
    DecompositionError
        If what decides depends on too many labels.
    TooLarge
        If all that decides does so together.
    """

    def __init__(self, node: Node) -> None:
        self.asked: list[tuple[Factor, Node]] = []
        self.taken: list[tuple[Factor, Any]] = []
        self.lost = FALSE
        open_: list[tuple[Factor, Any]] = [(TRUE, way(node))]
        while open_:
            guard, further = open_.pop()
            if guard.never:
                continue
            if not isinstance(further, Branch):
                self.taken.append((guard, further))
                continue
            self.asked.append((guard, further.selector))
            reached = FALSE
            for chosen, beyond in _choices(further):
                reached = reached | chosen
                open_.append((guard & chosen, beyond))
            self.lost = self.lost | (guard & ~reached)

    @staticmethod
    def of(node: Node) -> PathConditions:
        """The guards of a node; worked out once."""
        return node.remember("_guards", PathConditions)


def _choices(fork: Branch) -> list[tuple[Factor, Any]]:
    """Where each way of a fork is taken; nowhere, where the selector has no value."""
    found = Enumerated(fork.selector)
    if isinstance(fork, Condition):
        truth = found.truth()
        if isinstance(fork, LastCase):
            return [(truth, fork.yes)]
        falsehood = ~truth if found.defined is None else ~truth & found.defined
        return [(truth, fork.yes), (falsehood, fork.no)]
    ways = fork.ways if isinstance(fork, Switch) else {}
    place = {key: number for number, key in enumerate(ways)}
    numbers = np.array([_place(place, value) for value in found.column.tolist()])
    parts = [
        (found.factor(numbers == number).reduced(), beyond)
        for number, beyond in enumerate(ways.values())
    ]
    if found.defined is None:
        return parts
    return [(guard & found.defined, beyond) for guard, beyond in parts]


def _place(place: dict[Any, int], value: Any) -> int:
    try:
        return place.get(value, -1)
    except TypeError:  # a list cannot be a key
        return -1
