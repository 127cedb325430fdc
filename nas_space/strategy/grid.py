"""Every architecture once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, cast

from ..errors import DecompositionError
from ..mutable import Mutable, MutableSymbol, Sample, Values
from ..mutable.layout import Layout
from ..mutable.random_words import words
from ..tables import grid
from .base import Searchable, SearchState, Strategy, check_dedup
from .draws import shuffled
from .neighbours import symbols_of

__all__ = ["GridSearch"]

_BUFFER = 100
_FINEST = 20
"""So often is the grid of numerical labels made finer."""


class GridSearch(Strategy):
    """Goes through all architectures.

    Numerical labels without a step are tried at their medians first, then at ever finer
    quantiles.

    Parameters
    ----------
    shuffle
        Whether to shuffle, by the seed of the search, a hundred at a time; otherwise the last
        labels vary first.
    seed
        Of the proposals; that of the search by default.
    dedup
        Always: an architecture is tried once.
    """

    def __init__(
        self, *, shuffle: bool = True, seed: int | None = None, dedup: bool = True
    ) -> None:
        check_dedup(dedup)
        self.seed = seed
        self.shuffle = shuffle
        self._place: _Place | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_place": None}

    def propose(self, state: SearchState) -> Sample:
        place = self._place
        if place is None or not place.is_for(state):
            place = self._place = _Place(state, self._all(state.space, state.seed))
        for arch in place.rest:
            if state.space.contains(arch):
                key = state.space.arch_id(arch)
                place.passed.add(key)
                if key not in state.taken:
                    return arch
        return state.sample()  # which the search repairs, or finds that none is left

    def _all(self, space: Searchable, seed: int) -> Iterator[Sample]:
        source = words(seed)
        for archs in _grids(space):
            if not self.shuffle:
                yield from archs
                continue
            while buffer := list(islice(archs, _BUFFER)):
                yield from shuffled(source, buffer)


def _grids(space: Searchable) -> Iterator[Iterator[Sample]]:
    """Grids to go through one after the other."""
    if any(symbol.size is None for symbol in symbols_of(space).values()):
        yield from (samples(space, granularity) for granularity in range(1, _FINEST))
        return
    archs = grid(cast("Mutable", space))
    try:
        first = list(islice(archs, 1))
    except DecompositionError:  # what is required of architectures is not simple enough
        yield samples(space, 1)
    else:
        yield chain(first, archs)


class _Place:
    """How far in a grid a search is: kept for speed, as it follows from what is taken."""

    def __init__(self, state: SearchState, rest: Iterator[Sample]) -> None:
        self.space = state.space
        self.seed = state.seed
        self.rest = rest
        self.passed: set[str] = set()

    def is_for(self, state: SearchState) -> bool:
        """Whether all that was passed on the way is taken."""
        return self.space is state.space and self.seed == state.seed and self.passed <= state.taken


def samples(space: Searchable, granularity: int) -> Iterator[Sample]:
    """The architectures of a grid, depth first; constraints are not looked at.

    Parameters
    ----------
    space
        The space.
    granularity
        Numerical labels are at ``2 ** granularity - 1`` quantiles.

    Examples
    --------
    >>> from nas_space.hub import ProxylessNAS
    >>> first = next(samples(ProxylessNAS(), 1))
    >>> first["s2_depth"], len(first)
    (1, 11)
    """
    layout = Layout.of(space.structure())
    chosen: Sample = {}
    turning: list[tuple[str, Iterator[Any]]] = []
    while True:
        values = Values()
        for leaf in layout.needed(values.known):
            if isinstance(leaf, MutableSymbol) and leaf.is_missing(chosen):
                options = iter(leaf.grid_choices(granularity))
                chosen[leaf.name] = next(options)
                turning.append((leaf.name, options))
            values.known[leaf] = leaf.visit(chosen, values)
        yield dict(values.active)
        while turning:
            name, options = turning[-1]
            try:
                chosen[name] = next(options)
                break
            except StopIteration:
                turning.pop()
                del chosen[name]
        else:
            return
