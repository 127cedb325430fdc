"""Drawing combinations of classes at random, from the root of a tree downwards."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..mutable.factors import Array
from .histograms import CHUNK
from .join_tree import CliqueVertex, Join, JoinTree
from .message_passing import Messages


class BackwardSampler:
    """Draws combinations in proportion to their weights.

    Parameters
    ----------
    lists
        In floats, with all rows kept.
    low, high
        Bounds on keys, both included; by default those of the lists' scale.

    Attributes
    ----------
    words
        How many random numbers a draw takes.
    weight
        The weight of everything that can be drawn.
    """

    def __init__(
        self, lists: Messages, low: list[int] | None = None, high: list[int] | None = None
    ) -> None:
        self.lists, self.tree = lists, lists.tree
        scale = lists.scale
        self.endings = lists.endings(
            scale.low if low is None else low, scale.high if high is None else high
        )
        self.weight = float(self.endings.weights.sum())
        joins = [p for p, v in enumerate(self.tree.vertices[:-1]) if isinstance(v, Join)]
        self.column = {place: 2 + number for number, place in enumerate(joins)}
        self.words = 2 + len(joins)

    def draw(self, uniform: Array) -> dict[int, Array]:
        """Combinations from rows of numbers between 0 and 1: the class of each variable."""
        endings, classes = self.endings, dict[int, Array]()
        ending = _pick(endings.weights, uniform[:, 0])
        at = {
            endings.one: endings.row[ending],
            endings.other: self._inside(endings.begin[ending], endings.end[ending], uniform[:, 1]),
        }
        for place in reversed(range(len(self.tree.vertices) - 1)):
            vertex, rows = self.tree.vertices[place], at.pop(place, None)
            if rows is None:  # what stands for nothing may not be needed
                continue
            if isinstance(vertex, Join):
                chance = uniform[:, self.column[place]]
                at[vertex.left], at[vertex.right] = self._origins(place, rows, chance)
            elif isinstance(vertex, CliqueVertex):
                classes.update(classes_of(self.tree, place, self.lists.rows[place].starts, rows))
        return classes

    def _inside(self, begin: Array, end: Array, uniform: Array) -> Array:
        """A row of each range, by weight."""
        rows = self.lists.rows[self.endings.other]
        sums = np.append(0.0, np.cumsum(rows.weights))
        wanted = sums[begin] + uniform * (sums[end] - sums[begin])
        found: Array = np.clip(np.searchsorted(sums, wanted, "right") - 1, begin, end - 1)
        return found

    def _origins(self, place: int, rows: Array, uniform: Array) -> tuple[Array, Array]:
        """The rows of its children that each row of a join comes from, by weight."""
        own = self.lists.rows[place]
        wanted, which = np.unique(rows, return_inverse=True)
        order = np.argsort(which, kind="stable")
        left, right = np.empty_like(rows), np.empty_like(rows)
        for some in self._portions(place, wanted):
            found = self.lists.candidates(place, wanted[some])
            # In shares of each row, so that the sums stay about as large as what is added.
            shares = found.weights / own.weights[wanted[some]][found.owner]
            sums = np.append(0.0, np.cumsum(shares))
            begin = np.searchsorted(found.owner, np.arange(len(wanted[some])), "left")
            end = np.searchsorted(found.owner, np.arange(len(wanted[some])), "right")
            span = slice(*np.searchsorted(which[order], [some.start, some.stop]))
            asked = order[span]
            row = which[asked] - some.start
            low, high = sums[begin[row]], sums[end[row]]
            target = low + uniform[asked] * (high - low)
            chosen = np.clip(np.searchsorted(sums, target, "right") - 1, begin[row], end[row] - 1)
            left[asked], right[asked] = found.left[chosen], found.right[chosen]
        return left, right

    def _portions(self, place: int, rows: Array) -> Iterator[slice]:
        """Ranges of rows whose candidates are few enough to look at together."""
        states = np.searchsorted(self.lists.rows[place].starts, rows, "right") - 1
        ends = np.cumsum(self.lists.burden(place)[states])
        start = done = 0
        while start < len(rows):
            stop = max(start + 1, int(np.searchsorted(ends, done + CHUNK, "right")))
            yield slice(start, stop)
            start, done = stop, int(ends[stop - 1])


def _pick(weights: Array, uniform: Array) -> Array:
    """Indices in proportion to weights."""
    sums = np.cumsum(weights)
    found = np.searchsorted(sums, uniform * sums[-1], "right")
    last = int(np.flatnonzero(weights)[-1])
    picked: Array = np.minimum(found, last)
    return picked


def classes_of(tree: JoinTree, place: int, starts: Array, rows: Array) -> dict[int, Array]:
    """The classes of the variables that rows of a clique stand for."""
    vertex = tree.vertices[place]
    shape = [tree.problem.sizes[variable] for variable in vertex.scope]
    states = vertex.states[np.searchsorted(starts, rows, "right") - 1]
    digits = np.unravel_index(states, shape) if shape else ()
    return dict(zip(vertex.scope, digits, strict=True))
