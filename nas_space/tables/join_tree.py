"""Cliques joined two by two: which states meet on the way to a single relation.

The tree of joins, and the pairs of states that meet in each, are the same for everything that is
asked about a problem.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import DecompositionError
from ..mutable.factors import Array
from .elimination_order import CliqueSize, planned
from .factor_graph import Clique, FactorGraph

_MOST_PAIRS = 2**24
"""How many pairs of states may meet in one join."""


class Vertex:
    """A relation between a few variables: which of their combinations are possible.

    Attributes
    ----------
    scope
        Places of the variables, ascending.
    states
        Possible combinations as mixed-radix numbers, ascending.
    """

    scope: tuple[int, ...]
    states: Array


class CliqueVertex(Vertex):
    """A clique of the problem."""

    def __init__(self, clique: Clique) -> None:
        self.clique = clique
        self.scope = clique.scope
        self.states = np.flatnonzero(clique.allowed & (clique.weights != 0))


class Join(Vertex):
    """Two relations put together, and variables that nothing else has eliminated.

    Attributes
    ----------
    left, right
        Numbers of the vertices that are joined.
    pairs
        Which state of the left meets which of the right, as positions; sorted by what results.
    starts
        Where the pairs of each resulting state begin, and the end.
    """

    def __init__(
        self,
        left: int,
        right: int,
        scope: tuple[int, ...],
        states: Array,
        pairs: Array,
        starts: Array,
    ) -> None:
        self.left, self.right = left, right
        self.scope, self.states = scope, states
        self.pairs, self.starts = pairs, starts


class JoinTree:
    """The joins of a problem's cliques.

    Parameters
    ----------
    problem
        Variables and cliques.
    keyed
        Costs that are told apart; the lists of them decide what is joined first.
    rooms
        For each of them, the range within which a sum must stay.

    Attributes
    ----------
    vertices
        Children before parents; the last one is the root, a join without variables.

    Raises
    ------
    DecompositionError
        If the variables are so entangled that too many states meet.
    """

    def __init__(
        self, problem: FactorGraph, keyed: Sequence[int] = (), rooms: Sequence[int] = ()
    ) -> None:
        self.problem = problem
        nothing = [np.zeros((), np.int64)] * len(problem.constants)
        unit = Clique((), np.ones((), np.bool_), np.ones((), np.int64), nothing)
        self.vertices: list[Vertex] = [CliqueVertex(clique) for clique in (*problem.cliques, unit)]
        items = []
        for vertex, clique in zip(self.vertices, problem.cliques, strict=False):
            costs = [clique.costs[k].reshape(-1)[vertex.states] for k in keyed]
            items.append(CliqueSize(frozenset(vertex.scope), 1.0, tuple(map(_span, costs))))
        for step in planned(problem.sizes, items, rooms).steps:
            self.vertices.append(self._meet(step.left, step.right, tuple(sorted(step.scope))))

    @property
    def root(self) -> Join:
        root = self.vertices[-1]
        assert isinstance(root, Join)
        return root

    @property
    def possible(self) -> bool:
        """Whether any combination is."""
        return bool(len(self.root.states))

    def _digits(self, vertex: Vertex) -> dict[int, Array]:
        shape = [self.problem.sizes[place] for place in vertex.scope]
        digits = np.unravel_index(vertex.states, shape) if shape else ()
        return dict(zip(vertex.scope, digits, strict=True))

    def _number(self, digits: dict[int, Array], scope: Sequence[int], length: int) -> Array:
        """The part of a state's number that some variables contribute."""
        number: Array = np.zeros(length, np.int64)
        stride = 1
        for place in reversed(scope):
            if place in digits:
                number += digits[place] * stride
            stride *= self.problem.sizes[place]
        return number

    def _meet(self, left: int, right: int, scope: tuple[int, ...]) -> Join:
        """The join of two vertices, with the states that agree on what they share."""
        one, other = self.vertices[left], self.vertices[right]
        ours, theirs = self._digits(one), self._digits(other)
        shared = [place for place in one.scope if place in theirs]
        mine = self._number(ours, shared, len(one.states))
        yours = self._number(theirs, shared, len(other.states))
        order = np.argsort(yours, kind="stable")
        begin = np.searchsorted(yours[order], mine, "left")
        counts = np.searchsorted(yours[order], mine, "right") - begin
        if counts.sum() > _MOST_PAIRS:
            names = [
                str(self.problem.variables[place].name) for place in (*one.scope, *other.scope)
            ]
            raise DecompositionError(
                f"too many labels depend on each other: {int(counts.sum())} combinations of "
                f"{', '.join(dict.fromkeys(names))} would have to be looked at together, but at "
                f"most {_MOST_PAIRS} can be"
            )
        a = np.repeat(np.arange(len(mine)), counts)
        b = order[runs(begin, counts)]
        rest = {place: digit for place, digit in theirs.items() if place not in ours}
        result = self._number(ours, scope, len(mine))[a] + self._number(rest, scope, len(yours))[b]
        by_result = np.argsort(result, kind="stable")
        states, starts = np.unique(result[by_result], return_index=True)
        pairs = np.stack([a[by_result], b[by_result]])
        return Join(left, right, scope, states, pairs, np.append(starts, len(result)))


def runs(begin: Array, counts: Array) -> Array:
    """Consecutive numbers from several beginnings on, one run after the other."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    offset: Array = np.arange(total) - np.repeat(ends - counts, counts)
    return np.repeat(begin, counts) + offset


def _span(cost: Array) -> tuple[int, int]:
    """The range of some costs, and the largest number that divides their differences."""
    if not len(cost):
        return (0, 0)
    low = cost.min()
    return int(cost.max() - low), int(np.gcd.reduce(cost - low))
