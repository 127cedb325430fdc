"""``KeptNetworks``: the weights with which the best trials were scored."""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping
from typing import Any

__all__ = ["KeptNetworks"]


class KeptNetworks:
    """State dicts of networks by the numbers of their trials, in memory.

    A network is kept before its trial is told to be complete, and dropped when ``count`` others
    that are complete are better.

    Parameters
    ----------
    count
        How many to keep.
    """

    packed = False
    """Whether they are kept as bytes."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._states: dict[int, Any] = {}
        self._best: list[tuple[float, ...]] = []

    @property
    def worst(self) -> tuple[float, ...] | None:
        """The rank that a trial must be better than to be kept; ``None`` if there is room."""
        return self._best[-1] if self.count and len(self._best) == self.count else None

    def keep(self, number: int, state: Mapping[str, Any] | bytes) -> None:
        """Keep a state dict, or one as :func:`~nas_space.training.dump_state` gives it."""
        self._states[number] = state

    def complete(self, rank: tuple[float, ...]) -> None:
        """Note that a trial is complete, and drop what is not among the best any more.

        Parameters
        ----------
        rank
            As :func:`~nas_space.study.objectives.ranking` gives it; its number comes last.
        """
        insort(self._best, rank)
        for dropped in self._best[self.count :]:
            self.drop(int(dropped[-1]))
        del self._best[self.count :]

    def drop(self, number: int) -> None:
        """Drop the network of a trial, if it was kept."""
        self._states.pop(number, None)

    def state(self, number: int) -> Mapping[str, Any] | None:
        """Return the state dict of a network; ``None`` if it was not kept, or is kept elsewhere."""
        state = self._states.get(number)
        if not isinstance(state, bytes):
            return state
        from ..training import load_state

        return dict(load_state(state))
