"""The join tree: cliques joined two by two, and messages that pass up and down between them.

Which states of two relations meet in a join is the same for every query about a factor graph.  A
query says what a state carries: its message upward (a number, a histogram, a list of rows) comes
from those of the two states that meet in it; its message downward, from that of its parent and
the upward message of its sibling (belief propagation: Pearl, 1988; Shafer and Shenoy, 1990).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from ..errors import DecompositionError
from ..mutable.factors import Array, Factor
from .effort import CALL, LOOKUP
from .elimination_order import CliqueSize, cheapest_order
from .factor_graph import Clique, FactorGraph

__all__ = ["CliqueVertex", "Join", "JoinTree", "Vertex", "runs", "satisfiable"]

T = TypeVar("T")

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
    """A clique of the graph."""

    def __init__(self, clique: Clique) -> None:
        self.scope = clique.scope
        self.states = np.flatnonzero(clique.allowed)


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

    @cached_property
    def owners(self) -> Array:
        """The resulting state of each pair."""
        return np.repeat(np.arange(len(self.states)), np.diff(self.starts))

    def minimum(self, values: Array) -> Array:
        """Return the least value among the pairs of each resulting state; one row for each sum."""
        least: Array = np.minimum.reduceat(values, self.starts[:-1], axis=-1)
        return least


class JoinTree:
    """The joins of a problem's cliques.

    Parameters
    ----------
    graph
        Variables and cliques.
    costs
        For each cost that is bounded, what each combination of a clique adds to it; histograms
        of these decide what is joined first.
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
        self,
        graph: FactorGraph,
        costs: Sequence[Sequence[Array]] = (),
        rooms: Sequence[int] = (),
    ) -> None:
        self.graph = graph
        self.vertices: list[Vertex] = [CliqueVertex(clique) for clique in graph.cliques]
        items = []
        for place, vertex in enumerate(self.vertices):
            spans = tuple(_span(cost[place][vertex.states]) for cost in costs)
            items.append(CliqueSize(frozenset(vertex.scope), 1.0, spans))
        order = cheapest_order(graph.sizes, items, rooms)
        # What changes nothing is a clique of its own each time that it is joined.
        unit = Clique((), np.ones((), np.bool_))
        units = [n for step in order.steps for n in (step.left, step.right) if n == order.nothing]
        numbers = iter(range(len(items), len(items) + len(units)))
        self.vertices += [CliqueVertex(unit) for _ in units]
        shift = len(units) - 1  # of the joins, which come after what changes nothing
        for step in order.steps:
            left, right = (
                next(numbers) if n == order.nothing else n if n < len(items) else n + shift
                for n in (step.left, step.right)
            )
            self.vertices.append(self._meet(left, right, tuple(sorted(step.scope))))

    @property
    def root(self) -> Join:
        root = self.vertices[-1]
        assert isinstance(root, Join)
        return root

    @property
    def possible(self) -> bool:
        """Whether any combination is."""
        return bool(len(self.root.states))

    @cached_property
    def work(self) -> float:
        """About how many nanoseconds a pass with a few numbers for each state takes."""
        pairs = [vertex.pairs.shape[1] for vertex in self.vertices if isinstance(vertex, Join)]
        return float(CALL * len(pairs) + LOOKUP / 4 * sum(pairs))

    # -- passes -------------------------------------------------------------------------------

    def preorder(self, start: int) -> list[int]:
        """Return a vertex and all below it, parents before children."""
        order, waiting = [], [start]
        while waiting:
            order.append(waiting.pop())
            vertex = self.vertices[order[-1]]
            if isinstance(vertex, Join):
                waiting += [vertex.left, vertex.right]
        return order

    def upward(
        self,
        clique: Callable[[int, CliqueVertex], T],
        join: Callable[[int, Join, T, T], T],
        *,
        keep: bool = True,
    ) -> list[T]:
        """Return the message of each vertex to its parent, worked out from the leaves to the root.

        Parameters
        ----------
        clique
            Gives the message of a clique, from its number and itself.
        join
            Gives that of a join, from its number, itself, and the messages of its children.
        keep
            Whether the messages of all are wanted; otherwise, only the root and its children
            are sure to have theirs.
        """
        messages: list[T] = []
        for place, vertex in enumerate(self.vertices):
            if isinstance(vertex, Join):
                own = join(place, vertex, messages[vertex.left], messages[vertex.right])
                if not keep and vertex is not self.root:  # the memory of the others is free again
                    messages[vertex.left] = messages[vertex.right] = own
            else:
                assert isinstance(vertex, CliqueVertex)
                own = clique(place, vertex)
            messages.append(own)
        return messages

    def downward(
        self, root: T, split: Callable[[int, Join, T], tuple[T, T]]
    ) -> Iterator[tuple[int, T]]:
        """Yield each vertex with the message from its parent, parents before children.

        Parameters
        ----------
        root
            The message that the root starts from.
        split
            Gives the messages to the left and the right child of a join.
        """
        messages = {len(self.vertices) - 1: root}
        for place in self.preorder(len(self.vertices) - 1):
            message, vertex = messages.pop(place), self.vertices[place]
            yield place, message
            if isinstance(vertex, Join):
                messages[vertex.left], messages[vertex.right] = split(place, vertex, message)

    def minima(self, own: Sequence[Array]) -> list[Array]:
        """Return the least sum that the cliques below each state of a vertex can come to.

        Parameters
        ----------
        own
            For each clique, in order, what each of its states adds to each of some sums: arrays
            of shape ``(sums, states)``.

        Returns
        -------
        list of numpy.ndarray
            For each vertex, an array of shape ``(sums, states)``.
        """

        def join(_: int, vertex: Join, left: Array, right: Array) -> Array:
            a, b = vertex.pairs
            return vertex.minimum(left[:, a] + right[:, b])

        return self.upward(lambda place, _: own[place], join)

    def at_states(self, values: Sequence[Array], neutral: float = 0) -> list[Array]:
        """Return the values of the states of each clique, from those of all its combinations.

        Parameters
        ----------
        values
            One array for each clique of the graph.
        neutral
            The value of what changes nothing.
        """
        cliques = [v for v in self.vertices if isinstance(v, CliqueVertex)]
        known = [own[v.states] for own, v in zip(values, cliques, strict=False)]
        return known + [np.full(1, neutral) for _ in cliques[len(known) :]]

    def extremes(self, values: Sequence[Array]) -> tuple[Any, Any]:
        """Return the lowest and the highest sum of values, one array for each clique."""
        own = [np.stack([value, -value]) for value in self.at_states(values)]
        low, high = self.minima(own)[-1][:, 0].tolist()
        return low, -high

    def min_marginals(self, below: Sequence[Array]) -> list[Array]:
        """Return the least sum that everything outside of the subtree of a state can come to.

        Together with what is below, that is the least sum of all combinations with that state.

        Parameters
        ----------
        below
            What :meth:`minima` gives.
        """
        # Integers stay integers: as floats, large ones would be rounded.
        never = [2**62 if sums.dtype == np.int64 else np.inf for sums in below]
        rest = [np.full_like(sums, value) for sums, value in zip(below, never, strict=True)]

        def split(_: int, vertex: Join, outside: Array) -> tuple[Array, Array]:
            (a, b), result = vertex.pairs, vertex.owners
            for child, own, other, states in (
                (vertex.left, a, vertex.right, b),
                (vertex.right, b, vertex.left, a),
            ):
                sums = outside[:, result] + below[other][:, states]
                for least, values in zip(rest[child], sums, strict=True):
                    np.minimum.at(least, own, values)
            return rest[vertex.left], rest[vertex.right]

        root = np.zeros_like(below[-1])
        for place, message in self.downward(root, split):
            rest[place] = message
        return rest

    def classes(self, place: int, states: Array) -> dict[int, Array]:
        """Return the classes of the variables of a vertex, in some of its states by number."""
        return self._digits(self.vertices[place], states)

    # -- building -----------------------------------------------------------------------------

    def _digits(self, vertex: Vertex, states: Any = slice(None)) -> dict[int, Array]:
        shape = [self.graph.sizes[place] for place in vertex.scope]
        digits = np.unravel_index(vertex.states[states], shape) if shape else ()
        return dict(zip(vertex.scope, digits, strict=True))

    def _number(self, digits: dict[int, Array], scope: Sequence[int], length: int) -> Array:
        """The part of a state's number that some variables contribute."""
        number: Array = np.zeros(length, np.int64)
        stride = 1
        for place in reversed(scope):
            if place in digits:
                number += digits[place] * stride
            stride *= self.graph.sizes[place]
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
            names = [str(self.graph.variables[place].name) for place in (*one.scope, *other.scope)]
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
    """Return consecutive numbers from several beginnings on, one run after the other."""
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


def satisfiable(factors: Sequence[Factor]) -> bool:
    """Tell whether any combination of codes meets all of some conditions."""
    return JoinTree(FactorGraph(factors)).possible
