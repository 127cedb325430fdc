"""Random search: what every other strategy has to beat."""

from __future__ import annotations

from ..mutable import Sample
from .base import SearchState, Strategy, check_dedup

__all__ = ["Random"]


class Random(Strategy):
    """Architectures at random, each label by its own distribution.

    Parameters
    ----------
    seed
        Of the proposals; that of the search by default.
    dedup
        Always: an architecture is tried once.

    Examples
    --------
    >>> from nas_space.hub import ProxylessNAS
    >>> from nas_space.strategy.base import SearchState
    >>> Random().propose(SearchState(ProxylessNAS(), []))["s7_i0"]
    'k3e6'
    """

    def __init__(self, *, dedup: bool = True, seed: int | None = None) -> None:
        check_dedup(dedup)
        self.seed = seed

    def propose(self, state: SearchState) -> Sample:
        return state.sample()
