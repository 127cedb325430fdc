"""``Strategy``: propose the next architecture from the state of a search."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from ..errors import UsageError
from ..mutable import Sample
from ..mutable.node import Node
from ..mutable.random_words import RandomState, Words, words
from ..tables import Restricted

__all__ = [
    "Evaluated",
    "SearchState",
    "Searchable",
    "Strategy",
    "check_dedup",
    "dominates",
    "is_same",
    "unrestricted",
]


class Searchable(Protocol):
    """What strategies ask of a space: a ``ModelSpace``, or a restriction of one."""

    def sample(self, n: Any = None, *, seed: RandomState = None) -> Any:
        """Return an architecture at random, or a sequence of ``n``."""
        ...

    def contains(self, sample: Mapping[str, Any]) -> bool:
        """Return whether an architecture is in it."""
        ...

    def canonical(self, arch: Mapping[str, Any]) -> Sample:
        """Return the architecture with its active labels only."""
        ...

    def arch_id(self, arch: Mapping[str, Any]) -> str:
        """Return a digest of the canonical form."""
        ...

    def symbols(self) -> dict[str, Any]:
        """Return its labels, without its constraints."""
        ...

    def structure(self) -> Node | None:
        """Return the expression whose evaluation needs the active labels."""
        ...


def unrestricted(space: Any) -> Any:
    """Return the space that a restriction is of; a space is its own."""
    return space.space if isinstance(space, Restricted) else space


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Return whether one point is at least as good in everything, and better in something.

    Examples
    --------
    >>> dominates((1.0, 2.0), (1.0, 1.0)), dominates((1.0, 2.0), (1.0, 2.0))
    (True, False)
    """
    return one != other and all(mine >= its for mine, its in zip(one, other, strict=True))


@dataclass(frozen=True)
class Evaluated:
    """An architecture whose objectives are known.

    Attributes
    ----------
    number
        Its place in the search, from 0.
    arch
        The architecture, canonical.
    fitness
        The objectives, in their order, signs such that more is better.
    """

    number: int
    arch: Sample
    fitness: tuple[float, ...]

    def dominates(self, other: Evaluated) -> bool:
        """Return whether this is at least as good in every objective, and better in one.

        Examples
        --------
        >>> cheap, good = Evaluated(0, {}, (0.8, -1.0)), Evaluated(1, {}, (0.9, -2.0))
        >>> cheap.dominates(good), cheap.dominates(Evaluated(2, {}, (0.8, -3.0)))
        (False, True)
        """
        return dominates(self.fitness, other.fitness)


def is_same(one: Sequence[Evaluated], other: Sequence[Evaluated]) -> bool:
    """Return whether two histories are equal; quick where their trials are the same objects."""
    left, right = (part if isinstance(part, list) else list(part) for part in (one, other))
    return left == right


@dataclass(frozen=True)
class SearchState:
    """State of a search, from which a strategy proposes the next architecture.

    Attributes
    ----------
    space
        Where to search.
    history
        What has been evaluated, in the order of the numbers.
    taken
        The ids of architectures that are evaluated, or being evaluated by somebody.
    number
        The place in the search that the proposal is for, from 0.
    seed
        The seed of the search.
    objectives
        How many there are.
    costs
        For each objective that follows from the architecture its expression, of which more is
        better, and ``None`` for each that is measured; empty if all are.
    """

    space: Searchable
    history: Sequence[Evaluated]
    taken: Set[str] = frozenset()
    number: int = 0
    seed: int = 0
    objectives: int = 1
    costs: Sequence[Any] = ()

    @cached_property
    def words(self) -> Words:
        """Random words that depend on the seed and the number only.

        So a proposal depends on these and on the history alone.
        """
        return words(np.random.SeedSequence([self.seed, self.number]))

    def goes_on(self, space: Searchable, begun: Sequence[Evaluated]) -> bool:
        """Return whether this is of a space, and its history begins with some trials."""
        return self.space is space and is_same(self.history[: len(begun)], begun)

    def sample(self) -> Sample:
        """Return an architecture at random, from :attr:`words`."""
        drawn: Sample = self.space.sample(seed=int(self.words(1)[0]))
        return drawn


def check_dedup(dedup: bool) -> None:
    """Refuse to propose an architecture again while there are others.

    Raises
    ------
    UsageError
        If ``dedup`` is false.
    """
    if not dedup:
        raise UsageError(
            "dedup=False has no meaning here: a search tries no architecture twice while there "
            "are others; leave it out"
        )


class Strategy(ABC):
    """Proposes architectures, one for each trial.

    A strategy keeps no state of its own between proposals: everything follows from the
    history.  So a search can be resumed, and shared between processes, at any point.

    Examples
    --------
    A strategy of one's own:

    >>> class Doubtful(Strategy):
    ...     def propose(self, state):
    ...         return state.history[-1].arch if state.history else state.sample()
    """

    seed: int | None = None
    """What its proposals depend on; by default on the seed of the search."""

    _memory: Any = None
    """What makes the next proposal faster and follows from the history, so it is not pickled."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_memory"}

    def check(self, space: Searchable) -> None:  # noqa: B027 - most can deal with all
        """Refuse a space that the strategy cannot deal with, before a search of it begins.

        Raises
        ------
        UsageError
            If there is something that it cannot deal with.
        """

    @abstractmethod
    def propose(self, state: SearchState) -> Sample:
        """Return the architecture to evaluate next.

        Parameters
        ----------
        state
            The space, the history, and random words to draw from.
        """
