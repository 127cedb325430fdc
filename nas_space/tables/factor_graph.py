"""A question about a space as variables and cliques: what elimination works on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..mutable.factors import Array, Factor
from .table import Table


@dataclass
class Clique:
    """What is known about a few variables together.

    Attributes
    ----------
    scope
        Places of the variables, ascending.
    allowed
        Which combinations of their classes are possible.
    weights
        By how much each counts.
    costs
        What each costs, for each of the problem's costs.
    """

    scope: tuple[int, ...]
    allowed: Array
    weights: Array
    costs: list[Array]


@dataclass
class FactorList:
    """The factors of a question, over codes.

    Attributes
    ----------
    allowed
        Truth values: all must hold.
    weights
        Numbers that are multiplied; object arrays hold integers of any size.
    costs
        Tables, of which each is summed.
    distinguishing
        What does not enter, but must be the same for all that is treated alike.
    """

    allowed: list[Factor] = field(default_factory=list)
    weights: list[Factor] = field(default_factory=list)
    costs: list[Table] = field(default_factory=list)
    distinguishing: list[Factor] = field(default_factory=list)

    def factors(self) -> list[Factor]:
        """All of them."""
        terms = [term for table in self.costs for term in table.terms]
        return [*self.allowed, *self.weights, *self.distinguishing, *terms]

    def scope(self) -> dict[Any, None]:
        """The variables that occur, in order."""
        return dict.fromkeys(v for factor in self.factors() for v in factor.scope)


class FactorGraph:
    """Variables, whose codes are merged into classes where nothing tells them apart, and cliques.

    Parameters
    ----------
    draft
        The factors.
    counted
        Whether a class weighs as much as it has members; otherwise each weighs the same.

    Attributes
    ----------
    variables
        In the order of the draft.
    classes
        For each variable, the class of each code.
    cliques
        Together they say everything; no scope is part of another.
    constants
        What is added to each cost.
    """

    def __init__(self, draft: FactorList, *, counted: bool = False) -> None:
        self.variables = list(draft.scope())
        self.place = {variable: place for place, variable in enumerate(self.variables)}
        factors = draft.factors()
        self.classes = [_classes(variable, factors) for variable in self.variables]
        self.sizes = [int(classes.max()) + 1 for classes in self.classes]
        self.first = [np.unique(classes, return_index=True)[1] for classes in self.classes]
        self.cliques: list[Clique] = []
        self._add_cliques(draft)
        self.constants: list[Any] = [table.constant for table in draft.costs]
        for factor in draft.allowed:
            self._multiply("allowed", factor)
        for factor in draft.weights:
            self._multiply("weights", factor)
        for number, table in enumerate(draft.costs):
            for term in table.terms:
                clique, values = self._placed(term)
                clique.costs[number] = clique.costs[number] + values
        if counted:
            for variable, classes in zip(self.variables, self.classes, strict=True):
                self._multiply("weights", Factor((variable,), np.bincount(classes)[classes]))
        for clique in self.cliques:
            shape = tuple(self.sizes[place] for place in clique.scope)
            clique.allowed = np.broadcast_to(clique.allowed, shape)
            clique.weights = np.broadcast_to(clique.weights, shape)
            clique.costs = [np.broadcast_to(cost, shape) for cost in clique.costs]

    def _add_cliques(self, draft: FactorList) -> None:
        tables = [term for table in draft.costs for term in table.terms]
        scopes = {
            tuple(sorted(self.place[v] for v in factor.scope if self.sizes[self.place[v]] > 1))
            for factor in (*draft.allowed, *draft.weights, *tables)
        }
        alone = {(place,) for place, size in enumerate(self.sizes) if size > 1}
        kept: list[set[int]] = []
        for scope in sorted(scopes | alone | {()}, key=lambda scope: (-len(scope), scope)):
            if not any(set(scope) <= other for other in kept):
                kept.append(set(scope))
                shape = (1,) * len(scope)
                nothing = [np.zeros(shape, np.int64) for _ in draft.costs]
                ones = np.ones(shape, np.int64)
                self.cliques.append(Clique(scope, np.ones(shape, np.bool_), ones, nothing))

    def _placed(self, factor: Factor) -> tuple[Clique, Array]:
        """A clique with all the variables of a factor, and its values on the axes of that one."""
        places = [self.place[variable] for variable in factor.scope]
        values = factor.values
        if places:
            values = values[np.ix_(*[self.first[place] for place in places])]
        needed = {place for place in places if self.sizes[place] > 1}
        clique = next(clique for clique in self.cliques if needed <= set(clique.scope))
        order = sorted(range(len(places)), key=places.__getitem__)
        shape = [self.sizes[place] if place in needed else 1 for place in clique.scope]
        return clique, values.transpose(order).reshape(shape)

    def _multiply(self, what: str, factor: Factor) -> None:
        clique, values = self._placed(factor)
        if what == "allowed":
            clique.allowed = clique.allowed & values
        else:
            clique.weights = _times(clique.weights, values)


def _times(left: Array, right: Array) -> Array:
    """The product of two arrays of weights, in integers of any size where it needs them."""
    whole = left.dtype.kind in "iu" and right.dtype.kind in "iu"
    if whole and float(left.max(initial=0)) * float(right.max(initial=0)) >= 2.0**62:
        left, right = left.astype(object), right.astype(object)
    return np.asarray(left * right, dtype=np.result_type(left, right))


def _classes(variable: Any, factors: Iterable[Factor]) -> Array:
    """The class of each code: codes that no factor tells apart are in one."""
    classes: Array = np.zeros(variable.size, np.int64)
    for factor in factors:
        axis = factor.axes().get(variable)
        if axis is None:
            continue
        rows = np.moveaxis(factor.values, axis, 0).reshape(variable.size, -1)
        if rows.dtype == object:
            numbers: dict[Any, int] = {}
            known = [numbers.setdefault(v, len(numbers)) for v in rows.reshape(-1).tolist()]
            rows = np.array(known).reshape(rows.shape)
        _, kinds = np.unique(rows, axis=0, return_inverse=True)
        _, classes = np.unique(
            classes * (int(kinds.max()) + 1) + kinds.reshape(-1), return_inverse=True
        )
    return classes
