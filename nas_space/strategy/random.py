"""Random search: what every other strategy has to beat."""

from __future__ import annotations

from nas_space.mutable import Sample
from nas_space.strategy.base import Round, Strategy

__all__ = ["Random"]


class Random(Strategy):
    """Architectures at random, each label by its own distribution.

    Examples
    --------
    >>> from nas_space.hub import ProxylessNAS
    >>> from nas_space.strategy.base import Round
    >>> Random().propose(Round(ProxylessNAS(), []))["s7_i0"]
    'k3e6'
    """

    def propose(self, now: Round) -> Sample:
        return now.sample()
