"""When labels are active: for each leaf of a structure, the condition under which it is needed."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DecompositionError
from ..mutable.factors import FALSE, LIMIT, TRUE, Auxiliary, Factor, TooLargeError
from ..mutable.node import Leaf, Node, postorder
from ..mutable.printing import brief
from .path_conditions import PathConditions

__all__ = ["Activity"]

_EASY = 2**12
"""Conditions with more entries than this are named by an auxiliary variable."""


class Activity:
    """Under which codes of other labels each leaf of a structure is needed.

    All labels are taken to have a value, active or not; what is not active decides nothing.

    Parameters
    ----------
    root
        The structure of a space, or an expression.

    Attributes
    ----------
    reach
        Leaf to the condition under which it is needed; in the order of the structure.
    definitions
        What determines the auxiliary variables that occur in these conditions.
    lost
        Conditions under which an evaluation leads nowhere: no architecture meets one of them.

    Raises
    ------
    DecompositionError
        If what decides at a single point depends on too many labels.
    """

    def __init__(self, root: Node) -> None:
        self.reach: dict[Leaf, Factor] = {}
        self.definitions: list[Factor] = []
        self.lost: list[Factor] = []
        nodes = list(postorder(root))
        reached = {root: TRUE}
        for node in reversed(nodes):
            here = reached.pop(node, FALSE)
            for guard, child in self._children(node, here):
                known = reached.get(child)
                reached[child] = guard if known is None else self._either(known, guard)
            if isinstance(node, Leaf):
                self.reach[node] = here
        self.reach = {n: self.reach[n] for n in nodes if isinstance(n, Leaf)}

    @staticmethod
    def of(root: Node) -> Activity:
        """Return the activity of a structure; worked out once."""
        return root.remember("_activity", Activity)

    def condition(self, leaf: Leaf) -> Factor:
        """Return the condition under which a leaf is needed, over other leaves alone.

        Raises
        ------
        TooLargeError
            If the auxiliary variables in it stand for too much together.
        """
        return self.reach[leaf].resolved()

    def share(self, root: Node, markers: Sequence[Node]) -> None:
        """Note the activity of a structure that has this one, and some leaves that are always on.

        Parameters
        ----------
        root
            That structure.
        markers
            The leaves beside this structure.
        """

        def extended(_: Node) -> Activity:
            activity = copy.copy(self)
            activity.reach = {**self.reach, **{m: TRUE for m in markers if isinstance(m, Leaf)}}
            return activity

        root.remember("_activity", extended)

    def _children(self, node: Node, here: Factor) -> list[tuple[Factor, Node]]:
        if here.never or node.operator is None:
            return []
        if not node.operator.lazy:
            return [(here, child) for child in node.children]
        try:
            guards = PathConditions.of(node)
        except TooLargeError as error:
            raise DecompositionError(
                f"the ways of {brief(node)} depend on {len(error.scope)} labels at once, whose "
                f"combinations exceed {LIMIT}",
                term=node,
            ) from None
        if not guards.lost.never:
            self.lost.append(self._both(here, guards.lost))
        ways = [*guards.asked, *guards.taken]
        return [(self._both(here, g), child) for g, child in ways if isinstance(child, Node)]

    def _both(self, left: Factor, right: Factor) -> Factor:
        return self._small(left, right, Factor.__and__)

    def _either(self, left: Factor, right: Factor) -> Factor:
        return self._small(left, right, Factor.__or__)

    def _small(self, left: Factor, right: Factor, operation: Any) -> Factor:
        """The combination of two conditions, of which the larger is named if it gets too large."""
        for _ in range(2):
            variables = {*left.scope, *right.scope}
            if math.prod(variable.size for variable in variables) <= _EASY:
                break
            if left.values.size >= right.values.size:
                left = self._named(left)
            else:
                right = self._named(right)
        found: Factor = operation(left, right)
        return found

    def _named(self, condition: Factor) -> Factor:
        name = Auxiliary(f"condition {len(self.definitions)}", condition)
        truth = Factor((name,), np.array([False, True]))
        self.definitions.append(condition.combine(truth, np.equal))
        return truth
