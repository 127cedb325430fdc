"""Draws from random words, for strategies: the same on every platform and in every release."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from ..mutable.random_words import Words, below, unit

__all__ = ["chance", "choose", "shuffled"]

T = TypeVar("T")


def chance(words: Words) -> float:
    """Return a number between 0 and 1."""
    return float(unit(words(1))[0])


def choose(words: Words, items: Sequence[T]) -> T:
    """Draw one of several, each as likely as any other."""
    return items[int(below(words(1), len(items))[0])]


def shuffled(words: Words, items: Sequence[T]) -> list[T]:
    """Return all of them in a random order.

    Examples
    --------
    >>> from nas_space.mutable.random_words import words
    >>> sorted(shuffled(words(0), "abc"))
    ['a', 'b', 'c']
    """
    order = np.argsort(words(len(items)), kind="stable")
    return [items[place] for place in order]
