"""Histograms of costs: for each state the costs that occur, with their weights; convolution.

The cost of two parts that do not depend on each other is the sum of their costs, so the histogram
of both is the convolution of theirs: the weight of a cost is the sum, over all ways to split it,
of products of weights (in the semiring at hand; with :class:`MinPlus`, the least sum).  No
transform is used, as numbers must stay exact and histograms are sparse.  There are two ways to
convolve, which give the same numbers: to list all pairs of entries, sort and merge them, which
takes time in proportion to the pairs however far costs are apart; and to add one histogram,
shifted and scaled, for each entry of the other into an array with a place for each possible cost,
which takes a few nanoseconds for each place but must go over empty ones.  The second is taken
where the array is short in comparison with the pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..mutable.factors import Array
from .arithmetic import Arithmetic
from .join_tree import Join, runs

__all__ = [
    "CHUNK",
    "LONG",
    "SHORT",
    "Histograms",
    "RowPairs",
    "chunks",
    "convolved",
    "joined",
    "merged",
    "pick_between",
    "ranges",
]

CHUNK = 2**20
"""Rows that are put together at a time, so that they stay in memory, and mostly in the cache."""

LONG = 2**15
"""A state with more rows than this to put together is dealt with alone."""

SHORT = 64
"""Lists that are shorter than this on average are sorted rather than added."""

_LONGEST = 2**25
"""The longest array with a place for each cost."""


class Histograms(NamedTuple):
    """For each state, the keys (costs) that occur, and their weights.

    Attributes
    ----------
    starts
        Where the rows of each state begin, and the end of the last.
    keys
        Ascending within a state, each once.
    weights
        One for each row.
    """

    starts: Array
    keys: Array
    weights: Array

    @classmethod
    def of(cls, count: int, states: Array, keys: Array, weights: Array) -> Histograms:
        """Return rows, given in order of their states, of which there are so many."""
        lengths = np.bincount(states, minlength=count)
        return cls(np.concatenate([[0], np.cumsum(lengths)]), keys, weights)

    @property
    def lengths(self) -> Array:
        """How many rows each state has."""
        return np.diff(self.starts)

    @property
    def states(self) -> Array:
        """Which state each row is of."""
        return np.repeat(np.arange(len(self.starts) - 1), self.lengths)

    def drawn(self, share: float, source: np.random.Generator) -> Histograms:
        """Return about a share of the rows, drawn at random; all where it is 1 or more."""
        if share >= 1:
            return self
        kept = source.random(len(self.keys)) < share
        count = len(self.starts) - 1
        return Histograms.of(count, self.states[kept], self.keys[kept], self.weights[kept])

    def block(self, state: int) -> tuple[Array, Array]:
        """Return the keys and weights of one state."""
        rows = slice(self.starts[state], self.starts[state + 1])
        return self.keys[rows], self.weights[rows]


class RowPairs:
    """The rows of two relations that meet: each row of a left state with each of a right one.

    Parameters
    ----------
    left, right
        The relations.
    a, b
        Which states meet, pair by pair.
    """

    def __init__(self, left: Histograms, right: Histograms, a: Array, b: Array) -> None:
        self.left, self.right = left, right
        lengths = left.lengths[a]
        self.pair = np.repeat(np.arange(len(a)), lengths)
        self.row = runs(left.starts[a], lengths)
        self.begin = right.starts[b][self.pair]
        self.width = right.lengths[b][self.pair]

    def chunks(self) -> Iterator[tuple[Array, Array, Array]]:
        """Yield pair, left row and right row of each combination, not too many at a time."""
        for row, other in ranges(self.begin, self.begin + self.width):
            yield self.pair[row], self.row[row], other


def chunks(sizes: Array) -> Iterator[slice]:
    """Yield ranges of things of some sizes that are not too large together."""
    ends = np.cumsum(sizes)
    start = done = 0
    while start < len(sizes):
        stop = max(start + 1, int(np.searchsorted(ends, done + CHUNK, "right")))
        yield slice(start, stop)
        start, done = stop, int(ends[stop - 1])


def ranges(begin: Array, end: Array) -> Iterator[tuple[Array, Array]]:
    """Yield the number of a range, and a place in it, for all places; not too many at a time."""
    for some in chunks(end - begin):
        counts = end[some] - begin[some]
        yield np.repeat(np.arange(some.start, some.stop), counts), runs(begin[some], counts)


def pick_between(sums: Array, begin: Array, end: Array, uniform: Array) -> Array:
    """Return a place in each of some ranges, in proportion to what sums grow by there."""
    wanted = sums[begin] + uniform * (sums[end] - sums[begin])
    found: Array = np.clip(np.searchsorted(sums, wanted, "right") - 1, begin, end - 1)
    return found


def merged(
    states: Array, keys: Array, weights: Array, numbers: Arithmetic
) -> tuple[Array, Array, Array]:
    """Return rows in order of state and key, with those that agree in both added up."""
    if not len(keys):
        return states, keys, weights
    low, first = int(keys.min()), int(states.min())
    span, count = int(keys.max()) - low + 1, int(states.max()) - first + 1
    if span * count > 2**62:
        order = np.lexsort((keys, states))
        states, keys = states[order], keys[order]
        begin = np.flatnonzero(np.append(True, (np.diff(states) != 0) | (np.diff(keys) != 0)))
        return states[begin], keys[begin], numbers.plus.reduceat(weights[order], begin)
    places = (states - first) * span + (keys - low)
    # Counting into an array is quicker than sorting; it is done in floats, which must be exact.
    largest = max(float(weights.max()), -float(weights.min()))
    exact = weights.dtype == np.float64 or largest * len(keys) < 2.0**53
    if span * count <= 4 * len(keys) and exact and numbers.plus is np.add:
        sums = np.bincount(places, weights, span * count)
        found = np.flatnonzero(sums)
        sums = sums[found].astype(weights.dtype)
    else:
        order = np.argsort(places, kind="stable")
        places = places[order]
        begin = np.flatnonzero(np.diff(places, prepend=-1))
        found = places[begin]
        sums = numbers.plus.reduceat(weights[order], begin)
    return found // span + first, found % span + low, sums


def convolved(
    left: Histograms,
    right: Histograms,
    a: Array,
    b: Array,
    numbers: Arithmetic,
    step: int,
    shapes: dict[tuple[bool, int], tuple[Array | None, Array]],
) -> tuple[Array, Array]:
    """Return the keys and weights of a single state that many rows contribute to.

    Where that is short enough, they are counted in an array with a place for each possible key:
    one list is shifted and added for each row of the other.  ``shapes`` keeps what lists look
    like in such an array.
    """
    la, lb = left.lengths[a], right.lengths[b]
    some = (la > 0) & (lb > 0)
    a, b, la, lb = a[some], b[some], la[some], lb[some]
    lows = left.keys[left.starts[a]] + right.keys[right.starts[b]]
    highs = left.keys[left.starts[a + 1] - 1] + right.keys[right.starts[b + 1] - 1]
    low, high = int(lows.min()), int(highs.max())
    size = (high - low) // step + 1
    total = int((la * lb).sum())
    shifts = int(np.minimum(la, lb).sum())
    if size > _LONGEST or size > 16 * total or SHORT * shifts > total:
        return _collected(RowPairs(left, right, a, b), numbers)
    sums: Array = np.full(size, numbers.zero, numbers.dtype)
    for one, other in zip(a.tolist(), b.tolist(), strict=True):
        long, short, key_ = left.block(one), right.block(other), (True, one)
        if len(long[0]) < len(short[0]):
            long, short, key_ = short, long, (False, other)
        if key_ not in shapes:
            shapes[key_] = _spread(*long, step, numbers)
        places, weights = shapes[key_]
        start = int(long[0][0]) - low
        for key, weight in zip(short[0].tolist(), short[1].tolist(), strict=True):
            begin = (start + key) // step
            added = weights if weight == numbers.one else numbers.times(weights, weight)
            into = slice(begin, begin + len(added)) if places is None else begin + places
            sums[into] = numbers.plus(sums[into], added)
    found = np.flatnonzero(numbers.occurs(sums))
    return found * step + low, numbers.reduced(sums[found])


def _collected(meeting: RowPairs, numbers: Arithmetic) -> tuple[Array, Array]:
    """As :func:`convolved`, by sorting."""
    left, right = meeting.left, meeting.right
    keys: list[Array] = []
    weights: list[Array] = []
    for _, row, other in meeting.chunks():
        keys.append(left.keys[row] + right.keys[other])
        weights.append(numbers.times(left.weights[row], right.weights[other]))
        if sum(map(len, keys)) > 4 * CHUNK:
            keys, weights = _shortened(keys, weights, numbers)
    (found,), (sums,) = _shortened(keys, weights, numbers)
    return found, sums


def _shortened(
    keys: list[Array], weights: list[Array], numbers: Arithmetic
) -> tuple[list[Array], list[Array]]:
    everything = np.concatenate(keys)
    same = np.zeros(len(everything), np.int64)
    _, found, sums = merged(same, everything, np.concatenate(weights), numbers)
    return [found], [numbers.reduced(sums)]


def _spread(
    keys: Array, weights: Array, step: int, numbers: Arithmetic
) -> tuple[Array | None, Array]:
    """Weights with a place for each multiple of a step, or the places where there are few."""
    size = int(keys[-1] - keys[0]) // step + 1
    if size == len(keys):
        return None, weights
    places = (keys - keys[0]) // step
    if size > 8 * len(places):
        return places, weights
    dense: Array = np.full(size, numbers.zero, weights.dtype)
    dense[places] = weights
    return None, dense


def joined(
    join: Join, left: Histograms, right: Histograms, numbers: Arithmetic, step: int
) -> Iterator[tuple[Array, Array, Array]]:
    """Yield state, key and weight of the rows that result, in order, some states at a time.

    Parameters
    ----------
    join
        Which states meet.
    left, right
        Their rows.
    numbers
        What to count with.
    step
        What divides all keys.
    """
    a, b = join.pairs
    counts = left.lengths[a] * right.lengths[b]
    ends = np.append(0, np.cumsum(counts))[join.starts]  # of all rows up to each state
    long = np.append(np.diff(ends) > LONG, True)
    shapes: dict[tuple[bool, int], tuple[Array | None, Array]] = {}
    start, last = 0, len(join.states)
    while start < last:
        stop = int(np.searchsorted(ends, ends[start] + CHUNK, "right")) - 1
        stop = start + max(1, min(stop - start, int(long[start:].argmax())))
        pairs = slice(join.starts[start], join.starts[stop])
        if long[start]:
            some = left, right, a[pairs], b[pairs]
            keys, weights = convolved(*some, numbers, step, shapes)
            yield np.full(len(keys), start), keys, weights
        elif ends[stop] > ends[start]:
            result = np.repeat(np.arange(start, stop), np.diff(join.starts[start : stop + 1]))
            parts = []
            for pair, row, other in RowPairs(left, right, a[pairs], b[pairs]).chunks():
                weights = numbers.times(left.weights[row], right.weights[other])
                parts.append((result[pair], left.keys[row] + right.keys[other], weights))
            states, keys, weights = (np.concatenate(part) for part in zip(*parts, strict=True))
            states, keys, weights = merged(states, keys, weights, numbers)
            yield states, keys, numbers.reduced(weights)
        start = stop
