"""Grid search: every architecture once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any, cast

from ..errors import DecompositionError
from ..mutable import Mutable, Sample
from ..mutable.random_words import shuffled, words
from ..tables import grid
from .base import Searchable, SearchState, Strategy, check_dedup
from .neighbours import complete

__all__ = ["GridSearch"]

_FINEST = 20
"""So often is the grid of numerical labels made finer."""

_MISSES = 2**12
"""After so many combinations in a row that are not allowed, only allowed ones are gone through."""

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


class GridSearch(Strategy):
    """Goes through all architectures, spread over the space from the first on.

    The combinations of all labels' values are numbered, and the search goes round them in steps
    of the golden section, which leaves no large gap at any time and meets each of them once.
    Numerical labels without a step are tried at their medians first, then at ever finer
    quantiles.

    Parameters
    ----------
    shuffle
        Whether to go in steps, which label counts most and where to begin by the seed of the
        search; otherwise the last labels vary first.
    seed
        Of the proposals; that of the search by default.
    dedup
        Always: an architecture is tried once.

    References
    ----------
    Steps of the golden section: Knuth, *The art of computer programming*, volume 3, section 6.4.
    """

    def __init__(
        self, *, shuffle: bool = True, seed: int | None = None, dedup: bool = True
    ) -> None:
        check_dedup(dedup)
        self.seed = seed
        self.shuffle = shuffle

    def propose(self, state: SearchState) -> Sample:
        place: _Place | None = self._memory
        if place is None or not place.is_for(state):
            place = self._memory = _Place(state, self._all(state.space, state.seed))
        for arch in place.rest:
            key = state.space.arch_id(arch)
            place.passed.add(key)
            if key not in state.taken:
                return arch
        return state.sample()  # which the search repairs, or finds that none is left

    def _all(self, space: Searchable, seed: int) -> Iterator[Sample]:
        """Yield what is allowed, some perhaps more than once."""
        endless = any(symbol.size is None for symbol in space.symbols().values())
        for granularity in range(1, _FINEST if endless else 2):
            if self.shuffle:
                yield from _spread(space, seed, granularity)
            yield from filter(space.contains, _in_order(space, granularity, endless=endless))


def _spread(space: Searchable, seed: int, granularity: int) -> Iterator[Sample]:
    """Yield the allowed architectures of a grid in steps of the golden section.

    A step that has no divisor in common with the number of combinations meets each once.  The
    labels are the digits of a combination's number.  It ends early where hardly any combination
    is allowed.
    """
    source = words(seed)
    options: list[tuple[str, int, Callable[[int], Any]]] = []
    for name, symbol in space.symbols().items():
        if symbol.size is None:
            listed = list(symbol.grid_choices(granularity))
            options.append((name, len(listed), listed.__getitem__))
        else:
            options.append((name, symbol.size, symbol.value))
    options = shuffled(source, options)
    total = math.prod(size for _, size, _ in options)
    step = max(1, int(total * _GOLDEN))
    while math.gcd(step, total) != 1:
        step += 1
    place = int(source(1)[0]) % total
    misses = 0
    for _ in range(total):
        place = (place + step) % total
        rest, wishes = place, {}
        for name, size, value in reversed(options):
            rest, digit = divmod(rest, size)
            wishes[name] = value(digit)
        arch = complete(space, wishes, source)
        misses = 0 if space.contains(arch) else misses + 1
        if not misses:
            yield arch
        elif misses >= _MISSES:
            return


def _in_order(space: Searchable, granularity: int, *, endless: bool) -> Iterator[Sample]:
    """Yield the architectures of a grid, the last labels first; perhaps some not allowed."""
    whole = cast("Mutable", space)
    if endless:
        yield from (dict(values.active) for values in whole.combinations({}, granularity))
        return
    archs = grid(whole)
    try:
        first = list(islice(archs, 1))
    except DecompositionError:  # what is required of architectures is not simple enough
        yield from (dict(values.active) for values in whole.combinations({}, 1))
    else:
        yield from chain(first, archs)


class _Place:
    """How far in a grid a search is: kept for speed, as it follows from what is taken."""

    def __init__(self, state: SearchState, rest: Iterator[Sample]) -> None:
        self.space = state.space
        self.seed = state.seed
        self.rest = rest
        self.passed: set[str] = set()

    def is_for(self, state: SearchState) -> bool:
        """Return whether all that was passed on the way is taken."""
        return self.space is state.space and self.seed == state.seed and self.passed <= state.taken
