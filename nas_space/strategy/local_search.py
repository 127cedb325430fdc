"""Local search: neighbours of the best, one after the other."""

from __future__ import annotations

from ..errors import UsageError
from ..mutable import Sample
from .base import SearchState, Strategy
from .candidates import fitness_of, highest, scalarised
from .neighbours import is_untried, neighbours

__all__ = ["LocalSearch"]

_CENTRES = 20
"""So many of the best may have no neighbour left before one is drawn at random."""


class LocalSearch(Strategy):
    """Tries neighbours of the best architecture that has some left.

    A neighbour differs in the value of one active label.  As soon as one is better, its
    neighbours come first; of a local optimum, all are tried, then those of the next best.  So it
    neither forgets nor restarts.  With several objectives, the best is by weights drawn anew for
    each proposal.

    Parameters
    ----------
    initial
        How many random architectures come first.
    seed
        Of the proposals; that of the search by default.

    Raises
    ------
    UsageError
        If ``initial`` is not positive.

    References
    ----------
    White, Nolen and Savani, *Exploring the loss landscape in neural architecture search*, UAI 2021.
    """

    def __init__(self, *, initial: int = 10, seed: int | None = None) -> None:
        if initial < 1:
            raise UsageError(f"initial must be positive, but got {initial}")
        self.initial = initial
        self.seed = seed

    def propose(self, state: SearchState) -> Sample:
        if len(state.history) < self.initial:
            return state.sample()
        scores = scalarised(fitness_of(state.history), state.words)
        for place in highest(scores, _CENTRES).tolist():
            for arch in neighbours(state.space, state.history[place].arch, state.words):
                if is_untried(state.space, arch, state.taken):
                    return arch
        return state.sample()
