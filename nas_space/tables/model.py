"""What a space allows, as factors: its labels, when they are active, and its constraints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ..errors import DecompositionError, DomainError
from ..mutable import Mutable, MutableExpression
from ..mutable.bounds import combinations_of
from ..mutable.constraints import Constraint, ExpressionConstraint, Marker
from ..mutable.factors import Factor
from ..mutable.node import Node, leaves
from ..mutable.operators import OPERATORS
from .activity import Activity
from .conditions import Conditions, Window
from .coverage import check_covered
from .factor_graph import FactorGraph, FactorList
from .join_tree import JoinTree
from .table import Table

_CALLS = 2**14
"""How many combinations a constraint written in Python is called for."""


class Model:
    """A structure as factors over its labels.

    Parameters
    ----------
    root
        The structure of a space.
    constrained
        Whether its constraints are to hold.

    Attributes
    ----------
    activity
        When labels are active.
    labels
        Its symbols, in order.
    allowed
        Factors that must all hold, beside those on activity.
    windows
        Bounds on costs.
    others
        Constraints that cannot be taken apart, and why.
    """

    def __init__(self, root: Node, *, constrained: bool = True) -> None:
        self.root = root
        self.activity = Activity.of(root)
        self.labels: list[Any] = [leaf for leaf in self.activity.reach if leaf.words]
        self.allowed = [*self.activity.definitions, *(~lost for lost in self.activity.lost)]
        self.others: dict[Constraint, DecompositionError] = {}
        conditions = Conditions()
        for leaf, reach in self.activity.reach.items() if constrained else ():
            if isinstance(leaf, Marker) and isinstance(leaf.annotation, Constraint):
                self._require(leaf.annotation, reach, conditions)
        self.allowed += conditions.factors
        self.windows: list[Window] = list(conditions.windows.values())

    @staticmethod
    def of(root: Node) -> Model:
        """The model of a structure; worked out once."""
        return root.remember("_model", Model)

    def _require(self, constraint: Constraint, reach: Factor, conditions: Conditions) -> None:
        if isinstance(constraint, ExpressionConstraint):
            check_covered(self.root, constraint.expression, reach)
            try:
                conditions.add(constraint.expression, reach)
            except DecompositionError as error:
                self.others[constraint] = error
            return
        needed = constraint.needs()
        symbols: Sequence[Any] = leaves(needed)
        total = combinations_of(symbols)
        always = all(s in self.activity.reach and self.activity.reach[s].always for s in symbols)
        if needed is None or not always or total is None or total > _CALLS:
            self.others[constraint] = DecompositionError(
                f"{constraint!r} may be any function of the architecture; give it the labels it is "
                f"about (leaf_mutables), of at most {_CALLS} combinations, or write it as an "
                "expression",
                term=constraint,
            )
            return
        shape = tuple(symbol.size for symbol in symbols)
        good = [
            constraint.check_contains(
                {s.name: s.value(code) for s, code in zip(symbols, codes, strict=True)}
            )
            is None
            for codes in np.ndindex(shape)
        ]
        conditions.factors.append(Factor(symbols, np.array(good).reshape(shape)) | ~reach)

    @property
    def free(self) -> bool:
        """Whether every architecture is allowed."""
        return not (self.allowed or self.windows or self.others)

    def draft(self, costs: Sequence[Table] = (), over: Over | None = None) -> FactorList:
        """The factors of a question about the space, or about a part of it.

        Parameters
        ----------
        costs
            What is asked about, beside the windows, whose costs come first.
        over
            How architectures are weighed: each the same, or by the distributions of their
            labels; ``None`` if they are not.

        Raises
        ------
        DomainError
            If every architecture is to weigh the same, but there are infinitely many.
        """
        draft = FactorList(list(self.allowed), [], [*(w.table for w in self.windows), *costs])
        reach = {label: self.activity.reach[label] for label in self.labels}
        draft.distinguishing = [factor for factor in reach.values() if not factor.always]
        scope = draft.scope()
        for label in scope:
            if label in reach and not reach[label].always:
                draft.allowed.append(_only_first(label) | reach[label])
        if over == "labels":
            tight = [label for label in self.labels if label in scope]
            draft.weights = [_by_distribution(label, reach[label]) for label in tight]
        elif over == "architectures":
            loose = [label for label in self.labels if label not in scope]
            draft.weights = [_by_number(label, reach[label]) for label in loose]
        return draft


class BareStructure(Mutable):
    """A structure on its own, as something to read architectures with."""

    def __init__(self, root: Node) -> None:
        self.root = root

    def structure(self) -> Node:
        return self.root


def root_of(space: Mutable) -> Node:
    """The structure of a space; an empty one where nothing differs between architectures."""
    root = space.structure()
    return _NOTHING if root is None else root


_NOTHING: Node = MutableExpression(OPERATORS["tuple"], ())

Over = Literal["labels", "architectures"]


def possible(factors: Sequence[Factor]) -> bool:
    """Whether any combination of codes meets all of some conditions."""
    return JoinTree(FactorGraph(FactorList(list(factors)))).possible


def _only_first(label: Any) -> Factor:
    """Of all that are the same because the label is not active, the first stands for all."""
    return Factor((label,), np.arange(label.size) == 0)


def _by_distribution(label: Any, active: Factor) -> Factor:
    own = Factor((label,), label.probabilities())
    return own.combine(active, lambda share, here: np.where(here, share, 1.0))


def _by_number(label: Any, active: Factor) -> Factor:
    if label.size is None:
        raise DomainError(
            f"{label.name!r} is continuous, so there are infinitely many architectures; give it a "
            "step (quantize=...) and finite bounds"
        )
    numbers = np.where(active.values, np.array(label.size, dtype=object), 1)
    return Factor(active.scope, np.asarray(numbers, dtype=object))
