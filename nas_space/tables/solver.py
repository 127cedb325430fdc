"""The best architectures, the trade-offs between two objectives, or all; exactly, or not at all.

There are two ways to the best within windows.  If the costs take few enough values, histograms
with the least objective for each cost lead to it (:mod:`.message_passing`); that is quick whatever
the objective is, even a bounded cost itself.  Otherwise, as with several windows or widely varied
costs, partial combinations are listed that may still lead to it (:mod:`.dominance`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import chain, pairwise
from typing import Any

import numpy as np

from ..errors import DecompositionError
from ..mutable import Mutable, Sample
from ..mutable.factors import Array
from .arithmetic import MinPlus, Real
from .conditions import Window
from .decoding import Decoder
from .dominance import DominanceSearch, TooManyRowsError, undominated
from .effort import ROW, Meter, TooMuchWorkError, allowed
from .message_passing import Messages
from .model import Model, root_of
from .quantisation import finest
from .tabulation import tabulate

__all__ = ["Solver"]

_ROWS, _WORK = 2**21, 2e9
"""How many rows, and nanoseconds of work, histograms may take if there is another way."""

_MOST_ROWS = 2**24
"""How many rows they may take otherwise."""

_FIRST = 2**14
"""At least which part of its range an objective may be above what prices say is possible."""

_FIRST_PAIRS, _SHARE = 2**16, 0.125
"""How many pairs of costs a join looks at first, to find what costs exactly so much, and which
share of the effort that may take in the end."""

_PARTS = 32
"""How many parts each half of a window has, from the middle outwards."""


_DECODED = 2e4
"""Nanoseconds to decode an architecture."""

_Found = tuple[list[Any], Sample]
_Find = Callable[[int], dict[int, Array]]


class Solver:
    """Objectives over the architectures of a space.

    Parameters
    ----------
    space
        A space, restricted or not.
    objectives
        Expressions over its labels, or tables.
    signs
        1 for each that is to be low, -1 for each that is to be high.

    Raises
    ------
    DecompositionError
        If an objective is not a sum of small tables.
    """

    def __init__(self, space: Mutable, objectives: Sequence[Any], signs: Sequence[int]) -> None:
        root = root_of(space)
        self.model = Model.of(root)
        self.tables = [tabulate(objective) for objective in objectives]
        self.signs = list(signs)
        for table in self.tables:
            table.check_covered(root)
        self.windows = self.model.windows
        self.compiled = self.model.compiled(self.tables)
        self.tree = self.compiled.tree
        self.decoder = Decoder(self.compiled)
        self.meter = Meter()

    @property
    def possible(self) -> bool:
        """Whether any architecture meets the conditions on few labels."""
        return self.tree.possible

    # -- the best -----------------------------------------------------------------------------

    def least(self, k: int, excluded: Callable[[Sample], bool] | None = None) -> list[_Found]:
        """Return the ``k`` architectures with the lowest objective, in order.

        Parameters
        ----------
        k
            How many; fewer are found if there are fewer.
        excluded
            Says of an architecture that it does not count.

        Raises
        ------
        DecompositionError
            If it would take more work than :func:`effort` allows.
        """
        if not self.possible:
            return []
        keys = self.compiled.keys
        estimate = keys.estimate() if keys.fits and self._is_small() else None
        ways = [self._by_dominance]
        if estimate and estimate.total <= _ROWS and estimate.work <= _WORK:
            ways = [self._by_messages]
        elif estimate and estimate.total <= _MOST_ROWS and estimate.work <= allowed():
            ways.append(self._by_messages)
        for way in ways:
            self.meter = Meter()
            try:
                return self._enough(k, way(), excluded)
            except TooMuchWorkError:
                continue
        raise self._refusal("finding the best")

    def _is_small(self) -> bool:
        """Whether sums of parts of the objective stay below 2**61, for :class:`MinPlus`."""
        largest = [float(np.abs(term.values).max(initial=0)) for term in self.tables[0].terms]
        return not self.tables[0].whole or sum(largest) < 2.0**61

    def _enough(
        self, k: int, find: _Find, excluded: Callable[[Sample], bool] | None
    ) -> list[_Found]:
        """Ask for ever more combinations, until enough architectures of them are allowed."""
        wanted, (table,), (sign,) = k, self.tables, self.signs
        while True:
            classes = find(wanted)
            found: list[_Found] = []
            for batch in self.decoder.architectures([classes]):
                self.meter.spend(_DECODED * len(batch))
                values = table.evaluate(batch).tolist()
                pairs = zip(values, batch, strict=True)
                found += [([v], a) for v, a in pairs if excluded is None or not excluded(a)]
                if len(found) >= k:  # what follows is no better
                    break
            found.sort(key=lambda pair: sign * pair[0][0])
            if len(found) >= k or _length(classes) < wanted:
                return found[:k]
            wanted *= 4

    def _by_messages(self) -> _Find:
        """Find combinations by histograms with the least objective of each sum of costs."""
        (values,) = self._values()
        numbers = MinPlus(np.int64 if self.tables[0].whole else np.float64)
        return Messages(self.compiled.keys, numbers, values).least

    def _values(self) -> list[list[Array]]:
        """What each state of each clique adds to each objective, signed."""
        return [
            [sign * own for own in self.compiled.values(table)]
            for sign, table in zip(self.signs, self.tables, strict=True)
        ]

    def _own(self, kept: Sequence[int]) -> list[Array]:
        """What the states of each clique add to the objectives, signed, and to some windows."""
        columns = zip(*self._values(), self.compiled.costs, strict=True)
        return [np.vstack([*values, costs[kept]]) for *values, costs in columns]

    def _by_dominance(self) -> _Find:
        """Find combinations among those whose objective is near what prices say is possible.

        How near is tried out: from close by outwards, as the work grows with the distance, and
        back again where there are too many.  The best alone comes first, as that is less work.
        Whatever is found is an upper bound: to go further off than the last one wanted is futile.
        """
        every = list(range(len(self.windows)))
        windows = list(map(self._window, every))
        own = self._own(every)
        search = DominanceSearch(self.tree, own, windows, self.meter)
        low, high = self.tables[0].interval()
        span = float(high - low) or 1.0
        near, gap, far, alone = 0.0, span / _FIRST, math.inf, True
        slope = _slope(own) if len(windows) == 1 else Fraction(0)

        def find(wanted: int) -> dict[int, Array]:
            nonlocal near, gap, far, alone
            if slope and (ends := self._at_the_end(slope, wanted)):
                # Of combinations that are equal, those that are found without it, where any are.
                within = search.bound + abs(float(slope)) * self.compiled.keys.units[0]
                try:
                    found = search.within(within, wanted)
                except (TooManyRowsError, TooMuchWorkError):
                    self.meter = Meter()  # what was in vain leaves enough to decode what is known
                    return ends
                order = np.argsort(found[-1].costs[0], kind="stable")
                return search.classes(found, order[:wanted])
            far, known, number = math.inf, math.inf, 1 if alone else wanted
            while True:
                try:
                    found = search.within(search.bound + gap, number)
                except TooManyRowsError:
                    far = gap
                else:
                    objective = found[-1].costs[0]
                    order = np.argsort(objective, kind="stable")
                    good = order[objective[order] <= search.bound + gap][:number]
                    enough = len(good) == number or gap > span
                    if enough and number == wanted:
                        return search.classes(found, good)
                    if len(order) >= wanted:
                        known = _distance(search.bound, float(objective[order[wanted - 1]]))
                    if enough:
                        alone, number, gap = False, wanted, min(gap, known)
                        continue
                    near = gap
                if far < max(1.05 * near, span * 2.0**-40):
                    raise TooMuchWorkError
                gap = min(2 * near or gap / 4, math.sqrt(near * far) if near else math.inf)
                gap = min(gap, known) if known > near else gap

        return find

    def _at_the_end(self, slope: Fraction, wanted: int) -> dict[int, Array] | None:
        """Find combinations at the end of the window on a cost that the objective is a multiple of.

        What is the best is a subset sum then: any price makes all combinations alike, so none is
        dropped, and the costs may be too many to list.  But of two lists of only some of them,
        there are so many pairs that some are likely to add up to the end itself (Horowitz and
        Sahni, "Computing partitions with applications to the knapsack problem", 1974, with lists
        that are drawn), and nothing is better than what is there.
        """
        exact = self.compiled.keys
        end = exact.high[0] if slope < 0 else exact.low[0]
        if not exact.fits or not exact.least[-1][0, 0] < end < exact.largest[-1][0, 0]:
            return None
        keys, most = exact.at(end), _FIRST_PAIRS
        zeros = [np.zeros(costs.shape[1], np.int64) for costs in self.compiled.costs]
        while ROW * most * len(self.tree.vertices) / 2 <= _SHARE * allowed():
            found = Messages(keys, MinPlus(np.int64), zeros, most=most).least(wanted)
            if _length(found) == wanted:
                return found
            most *= 4
        return None

    def _window(self, number: int) -> tuple[float, float]:
        """The ends of a window, without the constant of its cost."""
        window = self.windows[number]
        return window.low - window.table.constant, window.high - window.table.constant

    def _refusal(self, what: str) -> DecompositionError:
        conditions = [*(window.text for window in self.windows), *map(str, self.model.others)]
        estimate = self.compiled.keys.estimate()
        return DecompositionError(
            f"{what} within {' and '.join(conditions) or 'the space'} takes an effort of more than "
            f"{allowed() / 1e9:g}: up to {estimate.total:.1e} sums of costs would have to be told "
            f"apart, which is an effort of {estimate.work / 1e9:.1g}; allow more with "
            "nas_space.tables.effort(...), round the costs to a coarser unit with "
            "nas_space.tables.rounded, or draw samples and compare them"
        )

    # -- trade-offs ---------------------------------------------------------------------------

    def front(self) -> list[_Found]:
        """Return the trade-offs between two objectives: their values, and an architecture each."""
        for error in self.model.others.values():
            raise error
        if not self.possible:
            return []
        # A bound on what is minimised anyway does not change the front, it only cuts it off.
        kept = [n for n, window in enumerate(self.windows) if not self._cuts(window)]
        windows = [(-math.inf, math.inf), *map(self._window, kept)]

        try:
            search = DominanceSearch(self.tree, self._own(kept), windows, self.meter, front=True)
            found = search.within(math.inf)
        except (TooManyRowsError, TooMuchWorkError):
            raise self._refusal("the front") from None
        first, second = found[-1].costs[:2]
        rows = undominated([np.zeros(len(first))], first, second)
        rows = rows[np.argsort(first[rows], kind="stable")]
        # Of several architectures of a point, any is as good; what a window cuts off has none.
        points: list[_Found] = []
        for row in rows.tolist():
            for batch in self.decoder.architectures([search.classes(found, np.array([row]))]):
                if len(batch):
                    values = [table.evaluate(batch)[0].item() for table in self.tables]
                    points.append((values, batch[0]))
                    break
        return points

    def _cuts(self, window: Window) -> bool:
        """Whether a window bounds what is minimised from above, or what is maximised from below."""
        low, high = window.table.interval()
        return any(
            table is window.table and (window.low <= low if sign == 1 else window.high >= high)
            for table, sign in zip(self.tables, self.signs, strict=True)
        )

    # -- all ----------------------------------------------------------------------------------

    def everything(self) -> Iterator[Sample]:
        """Yield every architecture, once."""
        if not self.possible:
            return
        keys = finest(self.compiled.keys, most_rows=_ROWS, most_work=_WORK)
        ones = [np.ones(costs.shape[1]) for costs in self.compiled.costs]
        messages = Messages(keys, Real(), ones)
        ranges = [(keys.low, keys.high)]
        if len(keys.low) == 1 and not keys.exact:
            ranges = _from_the_middle(keys.low[0], keys.high[0])
        combinations = chain.from_iterable(messages.everything(*ends) for ends in ranges)
        for batch in self.decoder.architectures(combinations):
            try:
                self.meter.spend(_DECODED * 64)
            except TooMuchWorkError:
                raise self._refusal("the next architecture") from None
            if len(batch):
                self.meter = Meter()
                yield from batch


def _slope(own: Sequence[Array]) -> Fraction:
    """How much an objective grows with a cost, if it is a multiple of it but for a constant."""
    steps = np.concatenate([sums - sums[:, :1] for sums in own], axis=1)
    if steps.dtype != np.int64 or not steps[1].any():
        return Fraction(0)
    place = int(np.flatnonzero(steps[1])[0])
    slope = Fraction(int(steps[0, place]), int(steps[1, place]))
    largest = int(np.abs(steps).max()) * max(abs(slope.numerator), slope.denominator)
    same = largest < 2**62 and np.array_equal(
        steps[0] * slope.denominator, steps[1] * slope.numerator
    )
    return slope if same else Fraction(0)


def _distance(bound: float, value: float) -> float:
    """How far a value is from a bound; rounded up, so that the sum of both is not below it."""
    return value - bound + 4 * float(np.spacing(abs(bound) + abs(value)))


def _length(classes: dict[int, Array]) -> int:
    """How many combinations there are."""
    return len(next(iter(classes.values()))) if classes else 1


def _from_the_middle(low: int, high: int) -> list[tuple[list[int], list[int]]]:
    """A range of keys in parts: in coarse units, what is near its ends is hardly ever allowed."""
    ends = np.unique(np.linspace(low, high + 1, 2 * _PARTS).astype(np.int64)).tolist()
    parts = [([begin], [end - 1]) for begin, end in pairwise(ends)]
    return sorted(parts, key=lambda part: abs(part[0][0] + part[1][0] - low - high))
