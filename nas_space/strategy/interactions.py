"""Which pairs of labels are worth something together, as far as scores tell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from .encoding import Encoding, Pair

__all__ = ["by_gain", "kernels", "tractable"]

Array = npt.NDArray[np.float64]

_ENTRIES = 2**14
"""Pairs are taken for as long as finding the best needs no table with more entries than this."""


def kernels(encoding: Encoding, rows: Array) -> dict[str, Array]:
    """Return the inner products of each listed label's features, by architectures."""
    found = {}
    for name, block in encoding.blocks.items():
        if block.listed:
            part = rows[:, encoding.slices[name]] / encoding.scale
            found[name] = part @ part.T
    return found


def by_gain(known: Mapping[str, Array], kernel: Array, scores: Array, noise: float) -> list[Pair]:
    """Return the pairs of labels that interact, what says so most clearly first.

    The score test: by how much the marginal likelihood rises as a little variance is given to a
    pair, in units of its standard deviation if there were no interaction.  It needs no model with
    the pair, so all pairs can be looked at.

    Parameters
    ----------
    known
        Of each label, see :func:`kernels`.
    kernel, scores, noise
        The model without pairs.
    """
    inverse = np.linalg.inv(kernel + noise * np.eye(len(scores)))
    solved = inverse @ scores
    scale = max(float(scores @ solved) / len(scores), 1e-12)
    found = []
    for one, other in combinations(known, 2):
        both = known[one] * known[other]
        spread = inverse @ both
        gain = float(solved @ both @ solved) / scale - float(np.trace(spread))
        deviation = math.sqrt(2.0 * float((spread * spread.T).sum())) + 1e-12
        if gain > 0:
            found.append((-gain / deviation, one, other))
    return [(one, other) for _, one, other in sorted(found)]


def tractable(encoding: Encoding, pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs, in order, that keep finding the best a matter of small tables."""
    kept: list[Pair] = []
    scopes = list(_conditions(encoding))
    for pair in pairs:
        names = [*pair, *_reach(encoding, pair[0]), *_reach(encoding, pair[1])]
        if _largest([*scopes, names], encoding) <= _ENTRIES:
            scopes.append(names)
            kept.append(pair)
    return kept


def _reach(encoding: Encoding, name: str) -> list[str]:
    """Return the labels that say whether a label is active."""
    symbol = encoding.blocks[name].symbol
    return [variable.name for variable in encoding.model.activity.reach[symbol].scope]


def _conditions(encoding: Encoding) -> Iterator[list[str]]:
    """Yield which labels are tied to each other whatever the pairs."""
    for name in encoding.blocks:
        yield [name, *_reach(encoding, name)]
    for factor in encoding.model.allowed:
        yield [variable.name for variable in factor.scope]


def _largest(scopes: Sequence[Sequence[str]], encoding: Encoding) -> int:
    """Return the entries of the largest table that eliminating labels one by one needs.

    The label whose table is the smallest goes first, which is near the best order.
    """
    sizes = {name: block.symbol.size or 1 for name, block in encoding.blocks.items()}
    near: dict[str, set[str]] = {}
    for scope in scopes:
        for name in scope:
            near.setdefault(name, set()).update(scope)
    largest = 1

    def entries(name: str) -> int:
        return math.prod(sizes.get(other, 2) for other in near[name])

    waiting = {name: entries(name) for name in near}
    while waiting:
        name = min(waiting, key=waiting.__getitem__)
        largest = max(largest, waiting.pop(name))
        group = near.pop(name) - {name}
        for other in group:
            near[other] = (near[other] | group) - {name}
            waiting[other] = entries(other)
    return largest
