"""Factor graphs: variables, and cliques that hold what is known about a few of them together.

Codes of a variable that nothing tells apart are merged into one class, which keeps cliques small: a
width that no cost depends on has one class only.  What combinations weigh is not part of a graph.
Weights of the codes of a variable add up over the members of a class, so one graph serves to count,
to draw by any distribution, and to optimise.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..mutable.factors import Array, Factor, distinct_rows

__all__ = ["Clique", "FactorGraph", "TermPattern", "partition"]


@dataclass
class Clique:
    """What is known about a few variables together.

    Attributes
    ----------
    scope
        Places of the variables, ascending.
    allowed
        Which combinations of their classes are possible.
    """

    scope: tuple[int, ...]
    allowed: Array


class FactorGraph:
    """Variables, whose codes are merged into classes where nothing tells them apart, and cliques.

    Parameters
    ----------
    allowed
        Truth values: all must hold.
    values
        What sums are made of; each is within one clique.
    alike
        What must be the same for all codes that are treated alike.
    variables
        Variables in the order that is wanted, after those of ``allowed``.

    Attributes
    ----------
    variables
        All of them.
    place
        The place of each variable among them.
    classes
        For each variable, the class of each code.
    sizes
        How many classes each variable has.
    first
        For each variable, the first code of each class.
    cliques
        Together they say everything; no scope is part of another.
    """

    def __init__(
        self,
        allowed: Sequence[Factor],
        values: Sequence[Factor] = (),
        alike: Sequence[Factor] = (),
        variables: Iterable[Any] = (),
    ) -> None:
        factors = [*allowed, *alike, *values]
        scopes = [factor.scope for factor in (*allowed, *alike, *values)]
        first = [variable for factor in allowed for variable in factor.scope]
        everything = (*first, *variables, *(v for scope in scopes for v in scope))
        self.variables = list(dict.fromkeys(everything))
        self.place = {variable: place for place, variable in enumerate(self.variables)}
        self.classes = [partition(variable, factors) for variable in self.variables]
        self.sizes = [int(classes.max()) + 1 for classes in self.classes]
        self.first = [np.unique(classes, return_index=True)[1] for classes in self.classes]
        self.cliques = self._cliques(scopes)
        for factor in allowed:
            clique, holds = self._placed(factor)
            clique.allowed = clique.allowed & holds

    @cached_property
    def members(self) -> list[list[list[int]]]:
        """For each variable, the codes of each class, ascending."""
        found: list[list[list[int]]] = [[[] for _ in range(size)] for size in self.sizes]
        for members, classes in zip(found, self.classes, strict=True):
            for code, number in enumerate(classes.tolist()):
                members[number].append(code)
        return found

    def _cliques(self, scopes: Sequence[Sequence[Any]]) -> list[Clique]:
        places = {
            tuple(sorted(self.place[v] for v in scope if self.sizes[self.place[v]] > 1))
            for scope in scopes
        }
        alone = {(place,) for place, size in enumerate(self.sizes) if size > 1}
        kept: list[Clique] = []
        for scope in sorted(places | alone | {()}, key=lambda scope: (-len(scope), scope)):
            if not any(set(scope) <= set(other.scope) for other in kept):
                shape = tuple(self.sizes[place] for place in scope)
                kept.append(Clique(scope, np.ones(shape, np.bool_)))
        return kept

    def _placed(self, factor: Factor, summed: Any = None) -> tuple[Clique, Array]:
        """A clique with all the variables of a factor, and its values on the axes of that one.

        Of each class, the first code stands for all; of a variable that is summed, all count.
        """
        places = [self.place[variable] for variable in factor.scope]
        values = factor.values
        for axis, (variable, place) in enumerate(zip(factor.scope, places, strict=True)):
            if variable is summed:
                order = np.argsort(self.classes[place], kind="stable")
                starts = np.searchsorted(self.classes[place][order], np.arange(self.sizes[place]))
                values = np.add.reduceat(values.take(order, axis), starts, axis)
            else:
                values = values.take(self.first[place], axis)
        needed = {place for place in places if self.sizes[place] > 1}
        clique = next(clique for clique in self.cliques if needed <= set(clique.scope))
        axes = sorted(range(len(places)), key=places.__getitem__)
        shape = [self.sizes[place] if place in needed else 1 for place in clique.scope]
        return clique, values.transpose(axes).reshape(shape)

    def sums(self, terms: Sequence[Factor]) -> list[Array]:
        """Return what some terms add up to in each clique.

        Parameters
        ----------
        terms
            Factors that are told apart, and within a clique: see :meth:`holds`.
        """
        found: dict[int, Array] = {}
        for term in terms:
            clique, values = self._placed(term)
            found[id(clique)] = found.get(id(clique), 0) + values
        return [self._full(clique, found.get(id(clique), np.int64(0))) for clique in self.cliques]

    def weights(self, own: Sequence[Factor], others: Sequence[Factor] = ()) -> list[Array]:
        """Return the weight of each combination of a clique, as a product of factors.

        Parameters
        ----------
        own
            Factors that belong to their first variable: the codes of a class add up.
        others
            Further factors.
        """
        found: dict[int, Array] = {}
        for factor, summed in [(f, f.scope[0]) for f in own] + [(f, None) for f in others]:
            clique, values = self._placed(factor, summed)
            found[id(clique)] = _times(found.get(id(clique), np.ones((), np.int64)), values)
        return [self._full(clique, found.get(id(clique), np.int64(1))) for clique in self.cliques]

    def _full(self, clique: Clique, values: Any) -> Array:
        full: Array = np.broadcast_to(values, clique.allowed.shape).reshape(-1)
        return full

    def holds(self, terms: Iterable[Factor]) -> bool:
        """Tell whether the classes tell apart what some terms do, and each is within a clique."""
        for term in terms:
            if not all(variable in self.place for variable in term.scope):
                return False
            places = [self.place[variable] for variable in term.scope]
            needed = {place for place in places if self.sizes[place] > 1}
            if not any(needed <= set(clique.scope) for clique in self.cliques):
                return False
            alike = [self.first[place][self.classes[place]] for place in places]
            if places and not np.array_equal(term.values[np.ix_(*alike)], term.values):
                return False
        return True


class TermPattern:
    """What of some terms a graph depends on: their scopes, and which codes they tell apart.

    A graph is made of the pattern alone, never of the numbers in the terms.  So one that is kept
    answers for all terms of an equal pattern as one that is made for them would, and whichever
    terms came first leave no trace in it.

    Parameters
    ----------
    terms
        Factors.

    Attributes
    ----------
    scopes
        Of each term.
    classes
        For each of their variables, the class of each code, numbered as they first occur.
    """

    def __init__(self, terms: Sequence[Factor]) -> None:
        self.scopes = [term.scope for term in terms]
        about: dict[Any, list[Factor]] = {}
        for term in terms:
            for variable in term.scope:
                about.setdefault(variable, []).append(term)
        self.classes = {v: _as_first_met(partition(v, some)) for v, some in about.items()}

    @cached_property
    def key(self) -> Hashable:
        """A key under which two patterns are the same, as long as their variables live."""
        # Not the variables themselves: ``==`` on symbols builds expressions.
        scopes = tuple(tuple(map(id, scope)) for scope in self.scopes)
        return scopes, tuple(classes.tobytes() for classes in self.classes.values())

    def spans(self) -> list[Factor]:
        """Return a factor over each scope, which tells nothing apart."""
        shapes = (tuple(variable.size for variable in scope) for scope in self.scopes)
        zeros = (np.broadcast_to(np.int64(0), shape) for shape in shapes)
        return [Factor(scope, values) for scope, values in zip(self.scopes, zeros, strict=True)]

    def distinctions(self) -> list[Factor]:
        """Return a factor over each variable, which tells apart what the terms do."""
        return [Factor((variable,), classes) for variable, classes in self.classes.items()]


def _as_first_met(classes: Array) -> Array:
    """Number classes anew, in the order in which they first occur."""
    _, first = np.unique(classes, return_index=True)
    numbers: Array = np.argsort(np.argsort(first))[classes]
    return numbers


def partition(variable: Any, factors: Iterable[Factor]) -> Array:
    """Return the class of each code of a variable: what no factor tells apart is in one."""
    classes: Array = np.zeros(variable.size, np.int64)
    for factor in factors:
        axis = factor.axes().get(variable)
        if axis is None:
            continue
        rows = np.moveaxis(factor.values, axis, 0).reshape(variable.size, -1)
        _, kinds = distinct_rows(rows)
        if classes.any():
            kinds = classes * (int(kinds.max()) + 1) + kinds.reshape(-1)
            _, kinds = np.unique(kinds, return_inverse=True)
        classes = kinds.reshape(-1)
    return classes


def _times(left: Array, right: Array) -> Array:
    """The product of two arrays of weights, in integers of any size where it needs them."""
    whole = left.dtype.kind in "iu" and right.dtype.kind in "iu"
    if whole and float(left.max(initial=0)) * float(right.max(initial=0)) >= 2.0**62:
        left, right = left.astype(object), right.astype(object)
    return np.asarray(left * right, dtype=np.result_type(left, right))
