"""Message passing: histograms of costs up a join tree, and combinations on the way down again.

Upward, each vertex hands on, for each of its states, the histogram of what the variables below can
cost, with weights in some semiring: how many combinations there are, how probable they are, or the
least objective among them.  Downward, a row of a histogram is taken apart into the rows of the two
children that it came from, at the root first: one drawn in proportion to its weight (forward
filtering, backward sampling), the best few, or all.

The ``k`` best are found without keeping ``k`` rows for each state on the way up.  With the least
objective as weight, the best way to complete a partly expanded combination is known exactly; the
``k`` best combinations descend from the ``k`` partly expanded ones with the best completions, as
each of these has one at least as good of its own; so all others can be dropped at every vertex
(Huang and Chiang, "Better k-best parsing", 2005, with exact outside costs).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..mutable.factors import Array
from .arithmetic import Arithmetic, MinPlus, Modular
from .histograms import Histograms, RowPairs, chunks, joined, pick_between, ranges
from .join_tree import CliqueVertex, Join, runs
from .quantisation import Quantisation

__all__ = ["BackPointers", "Messages", "RootPairs"]

_AT_ONCE = 2**12
"""How many partly expanded combinations are expanded together."""


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
        The weight of each range together with its row.
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
    """For each vertex and state: which keys the variables below can give, and their weights.

    Parameters
    ----------
    quantisation
        Keys, and the windows that they must end up in; what cannot is left out.
    numbers
        What to count with.
    weights
        The weight of each state of each clique.
    keep
        Whether to keep what is needed on the way down.
    most
        About how many pairs of rows a join looks at; of more, it takes some at random (the same
        ones in every run).  What is found then exists, but not all that exists is found.

    Attributes
    ----------
    histograms
        One for each vertex but the root, whose rows are never listed: see :meth:`root_pairs`.
    words
        How many random numbers a draw takes.
    """

    def __init__(
        self,
        quantisation: Quantisation,
        numbers: Arithmetic,
        weights: Sequence[Array],
        *,
        keep: bool = True,
        most: int | None = None,
    ) -> None:
        self.quantisation, self.numbers, self.tree = quantisation, numbers, quantisation.tree
        self._weights, self._most = weights, most
        self._places: dict[int, tuple[Array, Array, int]] = {}
        self.histograms = self.tree.upward(self._of_clique, self._of_join, keep=keep)
        joins = [p for p, v in enumerate(self.tree.vertices[:-1]) if isinstance(v, Join)]
        self._column = {place: 2 + number for number, place in enumerate(joins)}
        self.words = 2 + len(joins)

    def _of_clique(self, place: int, vertex: CliqueVertex) -> Histograms:
        states = np.arange(len(vertex.states))
        keys = self.quantisation.single(self.quantisation.keys[place])
        weights = self.numbers.of(self._weights[place])
        alive = self.quantisation.alive(place, states, keys)
        return Histograms.of(len(states), states[alive], keys[alive], weights[alive])

    def _of_join(self, place: int, join: Join, left: Histograms, right: Histograms) -> Histograms:
        nothing = np.zeros(0, np.int64)
        parts = [(nothing, nothing, np.zeros(0, self.numbers.dtype))]
        if join is self.tree.root:  # its rows are too many, and only those in a window matter
            return Histograms(np.zeros(1, np.int64), *parts[0][1:])
        if self._most is not None:
            left, right = self._drawn(place, join, left, right, self._most)
        for part in joined(join, left, right, self.numbers, self.quantisation.step(place)):
            alive = self.quantisation.alive(place, part[0], part[1])
            parts.append(part if alive.all() else (part[0][alive], part[1][alive], part[2][alive]))
        states, keys, weights = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Histograms.of(len(join.states), states, keys, weights)

    def _drawn(
        self, place: int, join: Join, left: Histograms, right: Histograms, most: int
    ) -> tuple[Histograms, Histograms]:
        """Rows of which about so many pairs meet: of short lists all, as they are all there is."""
        (a, b), source = join.pairs, np.random.default_rng(place)
        share = most / max(1, int(left.lengths[a] @ right.lengths[b]))
        if share >= 1:
            return left, right
        shorter = min(len(left.keys), len(right.keys))
        one = min(1.0, max(share**0.5, most**0.5 / shorter))
        shares = (one, share / one) if len(left.keys) == shorter else (share / one, one)
        return left.drawn(shares[0], source), right.drawn(shares[1], source)

    # -- the root -----------------------------------------------------------------------------

    def root_pairs(self, low: list[int] | None = None, high: list[int] | None = None) -> RootPairs:
        """Return what meets at the root with keys between bounds, both included.

        Parameters
        ----------
        low, high
            One bound for each kind of key; by default the windows of the quantisation.
        """
        low = self.quantisation.low if low is None else low
        high = self.quantisation.high if high is None else high
        root = self.tree.root
        one, other = root.left, root.right
        a, b = root.pairs
        if len(self.histograms[one].keys) > len(self.histograms[other].keys):
            one, other, a, b = other, one, b, a
        left, right = self.histograms[one], self.histograms[other]
        pairs = RowPairs(left, right, a, b)
        row, begin, end = pairs.row, pairs.begin, pairs.begin + pairs.width
        if len(low) == 1:
            states = b[pairs.pair]
            begin = self._find(other, states, low[0] - left.keys[row])
            end = np.maximum(begin, self._find(other, states, high[0] - left.keys[row] + 1))
        elif low:
            row, begin = self._within(pairs, low, high)
            end = begin + 1
        weights = self.numbers.times(left.weights[row], self._of_ranges(right, begin, end))
        return RootPairs(one, other, row, begin, end, weights)

    def _within(self, pairs: RowPairs, low: list[int], high: list[int]) -> tuple[Array, Array]:
        """As for a single cost, but one by one: there is no order in which several ascend."""
        rows = [np.zeros((2, 0), np.int64)]
        for _, row, other in pairs.chunks():
            good = np.ones(len(row), np.bool_)
            parts = self.quantisation.parts(pairs.left.keys[row] + pairs.right.keys[other])
            for key, least, most in zip(parts, low, high, strict=True):
                good &= (least <= key) & (key <= most)
            rows.append(np.stack([row[good], other[good]]))
        found = np.concatenate(rows, axis=1)
        return found[0], found[1]

    def _of_ranges(self, rows: Histograms, begin: Array, end: Array) -> Array:
        """The weight of ranges of rows."""
        if isinstance(self.numbers, MinPlus):
            return _range_minima(rows.weights, begin, end, self.numbers.zero)
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

    # -- downward -----------------------------------------------------------------------------

    def draw(self, uniform: Array, pairs: RootPairs | None = None) -> dict[int, Array]:
        """Return combinations drawn in proportion to their weights: the class of each variable.

        Parameters
        ----------
        uniform
            Numbers between 0 and 1, of shape ``(n, words)``.
        pairs
            What to draw from; by default everything within the windows.
        """
        ends = self.root_pairs() if pairs is None else pairs
        chosen = _pick(ends.weights, uniform[:, 0])
        others = self._inside(ends, chosen, uniform[:, 1])

        def split(place: int, join: Join, rows: Array) -> tuple[Array, Array]:
            if join is not self.tree.root:
                return self._origins(place, rows, uniform[:, self._column[place]])
            ordered = (ends.row[chosen], others)
            return ordered if join.left == ends.one else ordered[::-1]

        return self._classes(dict(self.tree.downward(np.zeros(len(uniform), np.int64), split)))

    def _inside(self, ends: RootPairs, chosen: Array, uniform: Array) -> Array:
        """A row of each chosen range, by weight."""
        begin, end = ends.begin[chosen], ends.end[chosen]
        sums = np.append(0.0, np.cumsum(self.histograms[ends.other].weights))
        return pick_between(sums, begin, end, uniform)

    def _origins(self, place: int, rows: Array, uniform: Array) -> tuple[Array, Array]:
        """The rows of its children that each row of a join comes from, by weight."""
        own = self.histograms[place]
        wanted, which = np.unique(rows, return_inverse=True)
        order = np.argsort(which, kind="stable")
        left, right = np.empty_like(rows), np.empty_like(rows)
        for some in self._portions(place, wanted):
            found = self._back_pointers(place, wanted[some])
            # In shares of each row, so that the sums stay about as large as what is added.
            shares = found.weights / own.weights[wanted[some]][found.owner]
            sums = np.append(0.0, np.cumsum(shares))
            begin = np.searchsorted(found.owner, np.arange(len(wanted[some])), "left")
            end = np.searchsorted(found.owner, np.arange(len(wanted[some])), "right")
            span = slice(*np.searchsorted(which[order], [some.start, some.stop]))
            asked = order[span]
            row = which[asked] - some.start
            chosen = pick_between(sums, begin[row], end[row], uniform[asked])
            left[asked], right[asked] = found.left[chosen], found.right[chosen]
        return left, right

    def least(self, k: int) -> dict[int, Array]:
        """Return the ``k`` combinations of least weight within the windows, in order of it.

        Each of the ``k`` best is in one of the ``k`` ranges at the root that have the least
        minima, since every range has its minimum as a combination of its own.
        """
        ends = self.root_pairs()
        some = np.argsort(ends.weights, kind="stable")[:k]
        some = some[self.numbers.occurs(ends.weights[some])]
        ends = RootPairs(ends.one, ends.other, *(part[some] for part in ends[2:]))
        left, right = self.histograms[ends.one].weights, self.histograms[ends.other].weights
        rows = others = np.zeros(0, np.int64)
        totals = np.zeros(0, self.numbers.dtype)
        for which, other in ranges(ends.begin, ends.end):
            rows, others = np.append(rows, ends.row[which]), np.append(others, other)
            totals = np.append(totals, left[ends.row[which]] + right[other])
            best = np.argsort(totals, kind="stable")[:k]
            rows, others, totals = rows[best], others[best], totals[best]
        (found,) = self._expanded({ends.other: others, ends.one: rows}, totals, k)
        return found

    def everything(
        self, low: list[int] | None = None, high: list[int] | None = None
    ) -> Iterator[dict[int, Array]]:
        """Yield all combinations that end with keys between bounds, in batches."""
        ends = self.root_pairs(low, high)
        for which, other in ranges(ends.begin, ends.end):
            yield from self._expanded({ends.other: other, ends.one: ends.row[which]})

    def _expanded(
        self, partial: dict[int, Array], totals: Array | None = None, k: int = 0
    ) -> Iterator[dict[int, Array]]:
        """Yield combinations of classes below partly expanded ones: all, or the ``k`` least.

        Parameters
        ----------
        partial
            For some vertices, a row of each combination.
        totals
            The weight of the best that each leads to, if the least are wanted.
        """
        order = [place for start in partial for place in self.tree.preorder(start)]
        waiting = [(0, partial, totals)]
        while waiting:
            step, partial, totals = waiting.pop()
            size = len(next(iter(partial.values())))
            if totals is None and size > _AT_ONCE:
                for start in reversed(range(0, size, _AT_ONCE)):
                    some = slice(start, start + _AT_ONCE)
                    waiting.append((step, {p: rows[some] for p, rows in partial.items()}, None))
                continue
            if step == len(order):
                yield self._classes(partial)
                continue
            place = order[step]
            join = self.tree.vertices[place]
            if isinstance(join, Join):
                found, totals = self._candidates(place, partial.pop(place), totals, k)
                partial = {p: rows[found.owner] for p, rows in partial.items()}
                partial |= {join.left: found.left, join.right: found.right}
            waiting.append((step + 1, partial, totals))

    def _candidates(
        self, place: int, rows: Array, totals: Array | None, k: int
    ) -> tuple[BackPointers, Array | None]:
        """Where each row can have come from; or the ``k`` of least total, these in order."""
        own, nothing = self.histograms[place].weights, np.zeros(0, np.int64)
        kept = [BackPointers(nothing, nothing, nothing, np.zeros(0, own.dtype))]
        for some in self._portions(place, rows):
            found = self._back_pointers(place, rows[some])
            owner = found.owner + some.start
            if totals is None:
                kept.append(found._replace(owner=owner))
                continue
            sums = found.weights - own[rows[owner]] + totals[owner]
            kept.append(found._replace(owner=owner, weights=sums))
            everything = _concatenated(kept)
            best = np.argsort(everything.weights, kind="stable")[:k]
            kept = [BackPointers(*(part[best] for part in everything))]
        found = _concatenated(kept)
        return found, None if totals is None else found.weights

    def _classes(self, rows: dict[int, Array]) -> dict[int, Array]:
        """The class of each variable in combinations, from the rows of the cliques."""
        classes: dict[int, Array] = {}
        for place, own in rows.items():
            if isinstance(self.tree.vertices[place], CliqueVertex):
                starts = self.histograms[place].starts
                classes.update(self.tree.classes(place, np.searchsorted(starts, own, "right") - 1))
        return classes

    def _portions(self, place: int, rows: Array) -> Iterator[slice]:
        """Ranges of rows whose candidates are few enough to look at together."""
        states = np.searchsorted(self.histograms[place].starts, rows, "right") - 1
        return chunks(self._burden(place)[states])

    def _find(self, vertex: int, states: Array, keys: Array) -> Array:
        """The first row of each given state with at least a given key; the end if there is none."""
        rows = self.histograms[vertex]
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

    def _back_pointers(self, place: int, rows: Array) -> BackPointers:
        """Which rows of its children each given row of a join can have come from."""
        join = self.tree.vertices[place]
        assert isinstance(join, Join)
        small, large = join.left, join.right
        a, b = join.pairs
        swap = len(self.histograms[small].keys) > len(self.histograms[large].keys)
        if swap:
            small, large, a, b = large, small, b, a
        own, few, many = (self.histograms[vertex] for vertex in (place, small, large))
        states = np.searchsorted(own.starts, rows, "right") - 1
        counts = np.diff(join.starts)[states]
        owner = np.repeat(np.arange(len(rows)), counts)
        pair = runs(join.starts[states], counts)
        lengths = few.lengths[a[pair]]
        row = runs(few.starts[a[pair]], lengths)
        owner, pair = np.repeat(owner, lengths), np.repeat(pair, lengths)
        keys = own.keys[rows][owner] - few.keys[row]
        other = self._find(large, b[pair], keys)
        hit = other < many.starts[b[pair] + 1]
        hit[hit] = many.keys[other[hit]] == keys[hit]
        owner, row, other = owner[hit], row[hit], other[hit]
        weights = self.numbers.times(few.weights[row], many.weights[other])
        left, right = (other, row) if swap else (row, other)
        return BackPointers(owner, left, right, weights)

    def _burden(self, place: int) -> Array:
        """For each state of a join, about how many candidates its rows have."""
        join = self.tree.vertices[place]
        assert isinstance(join, Join)
        a, b = join.pairs
        one, other = self.histograms[join.left], self.histograms[join.right]
        lengths = one.lengths[a] if len(one.keys) <= len(other.keys) else other.lengths[b]
        sums = np.append(0, np.cumsum(lengths))
        burden: Array = sums[join.starts[1:]] - sums[join.starts[:-1]]
        return burden


def _concatenated(parts: list[BackPointers]) -> BackPointers:
    return BackPointers(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _range_minima(values: Array, begin: Array, end: Array, empty: float) -> Array:
    """The least value of each range, and a given one where it is empty.

    A range is the union of two that are as long as a power of two allows, so the minima of all
    stretches of these lengths answer for it (a sparse table, of which one level is kept).
    """
    least = np.full(len(begin), empty, values.dtype)
    level = np.frexp(np.maximum(end - begin, 1))[1] - 1
    for power in range(int(level.max(initial=-1)) + 1):
        some = np.flatnonzero((level == power) & (end > begin))
        least[some] = np.minimum(values[begin[some]], values[end[some] - 2**power])
        values = np.minimum(values[: -(2**power)], values[2**power :])
    return least


def _pick(weights: Array, uniform: Array) -> Array:
    """Indices in proportion to weights."""
    sums = np.cumsum(weights)
    found = np.searchsorted(sums, uniform * sums[-1], "right")
    last = int(np.flatnonzero(weights)[-1])
    picked: Array = np.minimum(found, last)
    return picked
