"""Costs and weights of everything below each vertex of a tree, and what follows at its root."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..mutable.factors import Array
from .arithmetic import Arithmetic, Modular
from .histograms import Histograms, RowPairs, joined
from .join_tree import CliqueVertex, Join, runs
from .quantisation import Quantisation


class RootPairs(NamedTuple):
    """What meets at the root within a window: a row of one side with a range of the other.

    Attributes
    ----------
    one, other
        The vertices.
    row
        Rows of the first.
    begin, end
        For each, the range of rows of the other.
    weights
        How much each ending weighs.
    """

    one: int
    other: int
    row: Array
    begin: Array
    end: Array
    weights: Array


class BackPointers(NamedTuple):
    """What rows of a join can have come from.

    Attributes
    ----------
    owner
        Which of the rows asked about; ascending.
    left, right
        A row of each child.
    weights
        Of the combination.
    """

    owner: Array
    left: Array
    right: Array
    weights: Array


class Messages:
    """For each vertex and state: which keys the variables below can give, and how often.

    Parameters
    ----------
    scale
        Keys, and the windows that they must end up in; what cannot is left out.
    numbers
        What to count with.
    keep
        Whether rows are kept after they were joined, to find out later what they came from.
    """

    def __init__(self, scale: Quantisation, numbers: Arithmetic, *, keep: bool) -> None:
        self.scale, self.numbers, self.tree = scale, numbers, scale.tree
        self.rows: list[Histograms] = []
        self._places: dict[int, tuple[Array, Array, int]] = {}
        for place, vertex in enumerate(self.tree.vertices[:-1]):
            if isinstance(vertex, Join):
                self.rows.append(self._joined(place, vertex))
                for child in (vertex.left, vertex.right):
                    if not keep and isinstance(self.tree.vertices[child], Join):
                        self.rows[child] = _NONE
            elif isinstance(vertex, CliqueVertex):
                self.rows.append(self._given(place, vertex))

    def _given(self, place: int, vertex: CliqueVertex) -> Histograms:
        states = np.arange(len(vertex.states))
        keys = self.scale.single(self.scale.keys[place])
        weights = self.numbers.of(vertex.clique.weights.reshape(-1)[vertex.states])
        alive = self.scale.alive(place, states, keys)
        return Histograms.of(len(states), states[alive], keys[alive], weights[alive])

    def _joined(self, place: int, join: Join) -> Histograms:
        nothing = np.zeros(0, np.int64)
        parts = [(nothing, nothing, np.zeros(0, self.numbers.dtype))]
        left, right = self.rows[join.left], self.rows[join.right]
        for part in joined(join, left, right, self.numbers, self.scale.step(place)):
            alive = self.scale.alive(place, part[0], part[1])
            parts.append(part if alive.all() else (part[0][alive], part[1][alive], part[2][alive]))
        states, keys, weights = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Histograms.of(len(join.states), states, keys, weights)

    # -- the root -----------------------------------------------------------------------------

    def endings(self, low: list[int], high: list[int]) -> RootPairs:
        """What meets at the root with keys between bounds, both included."""
        root = self.tree.root
        one, other = root.left, root.right
        a, b = root.pairs
        if len(self.rows[one].keys) > len(self.rows[other].keys):
            one, other, a, b = other, one, b, a
        left, right = self.rows[one], self.rows[other]
        meeting = RowPairs(left, right, a, b)
        row, begin, end = meeting.row, meeting.begin, meeting.begin + meeting.width
        if len(low) == 1:
            states = b[meeting.pair]
            begin = self.find(other, states, low[0] - left.keys[row])
            end = np.maximum(begin, self.find(other, states, high[0] - left.keys[row] + 1))
        elif low:
            row, begin = self._within(meeting, low, high)
            end = begin + 1
        weights = self.numbers.times(left.weights[row], self._between(right, begin, end))
        return RootPairs(one, other, row, begin, end, weights)

    def _within(self, meeting: RowPairs, low: list[int], high: list[int]) -> tuple[Array, Array]:
        """As for a single cost, but one by one: there is no order in which several ascend."""
        rows = [np.zeros((2, 0), np.int64)]
        for _, row, other in meeting.chunks():
            good = np.ones(len(row), np.bool_)
            parts = self.scale.parts(meeting.left.keys[row] + meeting.right.keys[other])
            for key, least, most in zip(parts, low, high, strict=True):
                good &= (least <= key) & (key <= most)
            rows.append(np.stack([row[good], other[good]]))
        found = np.concatenate(rows, axis=1)
        return found[0], found[1]

    def _between(self, rows: Histograms, begin: Array, end: Array) -> Array:
        """The weight of ranges of rows."""
        zero = np.zeros(1, rows.weights.dtype)
        before = np.concatenate([zero, np.cumsum(rows.weights)])
        if isinstance(self.numbers, Modular):
            return self.numbers.reduced(before[end] - before[begin])
        # Differences of large sums lose what is small; from the other end, they may be smaller.
        after = np.concatenate([np.cumsum(rows.weights[::-1])[::-1], zero])
        upward, downward = before[end] - before[begin], after[begin] - after[end]
        exact = np.where(before[end] < after[begin], upward, downward)
        if len(rows.weights):
            exact = np.where(
                end - begin == 1, rows.weights[np.minimum(begin, len(rows.weights) - 1)], exact
            )
        result: Array = exact
        return result

    # -- on the way back ----------------------------------------------------------------------

    def find(self, vertex: int, states: Array, keys: Array) -> Array:
        """The first row of each given state with at least a given key; the end if there is none."""
        rows = self.rows[vertex]
        if vertex not in self._places:
            values = np.arange(0)
            keys_ = rows.keys
            if len(keys_) and int(keys_.max()) * len(rows.starts) > 2**61:
                values = np.unique(keys_)
                keys_ = np.searchsorted(values, keys_)
            span = int(keys_.max(initial=0)) + 2
            self._places[vertex] = values, rows.states * span + keys_, span
        values, places, span = self._places[vertex]
        if len(values):
            keys = np.searchsorted(values, keys)
        found: Array = np.searchsorted(places, states * span + np.clip(keys, 0, span - 1), "left")
        return found

    def candidates(self, place: int, rows: Array) -> BackPointers:
        """Which rows of its children each given row of a join can have come from."""
        join = self.tree.vertices[place]
        assert isinstance(join, Join)
        small, large = join.left, join.right
        a, b = join.pairs
        swap = len(self.rows[small].keys) > len(self.rows[large].keys)
        if swap:
            small, large, a, b = large, small, b, a
        own, few, many = self.rows[place], self.rows[small], self.rows[large]
        states = np.searchsorted(own.starts, rows, "right") - 1
        counts = np.diff(join.starts)[states]
        owner = np.repeat(np.arange(len(rows)), counts)
        pair = runs(join.starts[states], counts)
        lengths = few.lengths[a[pair]]
        row = runs(few.starts[a[pair]], lengths)
        owner, pair = np.repeat(owner, lengths), np.repeat(pair, lengths)
        keys = own.keys[rows][owner] - few.keys[row]
        other = self.find(large, b[pair], keys)
        hit = other < many.starts[b[pair] + 1]
        hit[hit] = many.keys[other[hit]] == keys[hit]
        owner, row, other = owner[hit], row[hit], other[hit]
        weights = self.numbers.times(few.weights[row], many.weights[other])
        left, right = (other, row) if swap else (row, other)
        return BackPointers(owner, left, right, weights)

    def burden(self, place: int) -> Array:
        """For each state of a join, about how many candidates its rows have."""
        join = self.tree.vertices[place]
        assert isinstance(join, Join)
        a, b = join.pairs
        one, other = self.rows[join.left], self.rows[join.right]
        lengths = one.lengths[a] if len(one.keys) <= len(other.keys) else other.lengths[b]
        sums = np.append(0, np.cumsum(lengths))
        burden: Array = sums[join.starts[1:]] - sums[join.starts[:-1]]
        return burden


_NONE = Histograms(np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros(0))
