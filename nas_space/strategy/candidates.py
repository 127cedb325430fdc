"""What strategies with a model have in common: one score of several objectives, and candidates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import rankdata

from ..mutable import Sample
from ..mutable.random_words import Words, unit
from .base import Evaluated, SearchState
from .neighbours import is_untried, neighbours

__all__ = [
    "beginning",
    "best_new",
    "candidates",
    "fitness_of",
    "highest",
    "normal_scores",
    "scalarised",
    "shares",
]

Array = npt.NDArray[np.float64]

_SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")

_GROWTH = 1.2
"""By which factor the history grows until lengthscales are looked for again."""

_PARENTS = 5
"""Around so many of the best are candidates looked for."""

_NEAR = 48
"""How many neighbours of each are looked at."""

_RANDOM = 64
"""How many random candidates there are beside them."""

_AUGMENTED = 0.05
"""Weight of the mean beside the least, so that weakly dominated architectures do not count."""


def normal_scores(values: npt.ArrayLike, places: npt.NDArray[np.intp] | None = None) -> Array:
    """Return values replaced by the normal quantiles of their ranks; equal ones stay equal.

    Whatever monotone scale a score has, and however far off its failures are, models see the same.

    Parameters
    ----------
    values
        Of all that are ranked.
    places
        Of those that are asked about; all by default.

    Examples
    --------
    >>> normal_scores([0.1, 99.0, 0.3]).round(2).tolist()
    [-0.97, 0.97, 0.0]
    >>> normal_scores([0.1, 99.0, 0.3], np.array([1])).round(2).tolist()
    [0.97]
    """
    numbers = np.asarray(values, dtype=np.float64)
    if places is None:
        ranks = rankdata(numbers)
    else:
        ordered, asked = np.sort(numbers), numbers[places]
        below, up_to = (np.searchsorted(ordered, asked, side) for side in _SIDES)
        ranks = (below + up_to + 1) / 2
    found: Array = ndtri((ranks - 0.5) / len(numbers))
    return found


def highest(values: Array, number: int) -> npt.NDArray[np.intp]:
    """Return the places of the highest values, the highest first; of equal ones, the first.

    Examples
    --------
    >>> highest(np.array([1.0, 3.0, 2.0, 3.0]), 3).tolist()
    [1, 3, 2]
    """
    if number < len(values):
        # Only what may be among them is sorted, as a history may be long.
        least = -np.partition(-values, number - 1)[number - 1]
        places = np.flatnonzero(values >= least)
    else:
        places = np.arange(len(values))
    return places[np.argsort(-values[places], kind="stable")[:number]]


def fitness_of(history: Sequence[Evaluated]) -> Array:
    """Return the objectives of some architectures, of shape ``(architectures, objectives)``."""
    return np.array([one.fitness for one in history], dtype=np.float64)


def shares(words: Words, number: int) -> Array:
    """Return weights of some objectives, uniform among those that sum to 1."""
    drawn = -np.log(unit(words(number)))
    found: Array = drawn / drawn.sum()
    return found


def scalarised(fitness: Array, words: Words) -> Array:
    """Return one score of each architecture: of several objectives, for weights drawn at random.

    The augmented Chebyshev function of the objectives' ranks, so that every trade-off is the
    best under some weights (ParEGO; Knowles, IEEE Transactions on Evolutionary Computation 2006).

    Parameters
    ----------
    fitness
        An array ``(architectures, objectives)``.
    words
        Random words to draw from.
    """
    if fitness.shape[1] == 1:
        return fitness[:, 0]
    weights = shares(words, fitness.shape[1])
    ranks = np.stack([rankdata(column) for column in fitness.T], axis=1) / len(fitness) - 1.0
    weighted = weights * ranks
    found: Array = weighted.min(1) + _AUGMENTED * weighted.sum(1)
    return found


def candidates(state: SearchState, scores: Array) -> Iterator[Sample]:
    """Yield architectures that are worth asking a model about; some may be taken, or not allowed.

    Neighbours of the best, which a model has learnt most about, then some at random.

    Parameters
    ----------
    state
        Of the search.
    scores
        One for each architecture of the history.
    """
    for place in highest(scores, _PARENTS).tolist():
        near = neighbours(state.space, state.history[place].arch, state.words)
        yield from islice(near, _NEAR)
    yield from state.space.sample(_RANDOM, seed=int(state.words(1)[0]))


def best_new(state: SearchState, options: Sequence[Sample], scores: npt.ArrayLike) -> Sample:
    """Return the architecture of the highest score that is allowed and not taken.

    One at random if there is none.
    """
    for place in np.argsort(-np.asarray(scores), kind="stable").tolist():
        arch: Sample = options[place]
        if is_untried(state.space, arch, state.taken):
            return arch
    return state.sample()


def beginning(number: int) -> int:
    """Return how much of a history settings are fitted to: seldom another, never a future one.

    So a proposal depends on the history alone, whichever proposals this process made before.

    Examples
    --------
    >>> [beginning(number) for number in (2, 5, 6, 7, 8, 9, 10, 100)]
    [2, 5, 5, 7, 7, 9, 9, 100]
    """
    size = min(number, 5)
    while (larger := int(size * _GROWTH) + 1) <= number and size >= 5:
        size = larger
    return size
