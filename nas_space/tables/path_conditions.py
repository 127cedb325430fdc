"""Path conditions: which way a lazy operator takes, as factors."""

from __future__ import annotations

from typing import Any

from ..mutable.factor_sum import FactorSum
from ..mutable.factors import FALSE, TRUE, Factor
from ..mutable.lazy import Branch, Condition, LastCase, SwitchBranch, way
from ..mutable.node import Node
from ..mutable.operators import LOOKUP
from ..mutable.piecewise import Piecewise

__all__ = ["PathConditions"]


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
    TooLargeError
        If all that decides does so together.
    """

    def __init__(self, node: Node) -> None:
        self.asked: list[tuple[Factor, Node]] = []
        self.taken: list[tuple[Factor, Any]] = []
        self.lost = FALSE
        if node.operator is LOOKUP:
            factors: FactorSum = node.arguments[0]
            self.asked += [(factors.activity.get(s, TRUE), s) for s in factors.symbols]
            return
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
        """Return the path conditions of a node; worked out once."""
        return node.remember("_guards", PathConditions)


def _choices(fork: Branch) -> list[tuple[Factor, Any]]:
    """Where each way of a fork is taken; nowhere, where the selector has no value."""
    found = Piecewise.of(fork.selector)
    if isinstance(fork, Condition):
        truth = found.truth()
        if isinstance(fork, LastCase):
            return [(truth, fork.yes)]
        return [(truth, fork.yes), (~truth & found.defined, fork.no)]
    ways = fork.ways if isinstance(fork, SwitchBranch) else {}
    number_of = {key: number for number, key in enumerate(ways)}
    numbers = found.quantity(lambda value: _number(number_of, value) + 1)
    return [
        (Factor(found.scope, numbers.values == number + 1).reduced(), beyond)
        for number, beyond in enumerate(ways.values())
    ]


def _number(number_of: dict[Any, int], value: Any) -> int:
    try:
        return number_of.get(value, -1)
    except TypeError:  # a list cannot be a key
        return -1
