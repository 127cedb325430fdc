"""What each choice loses by itself, and the architectures that lose least within a budget.

A space of widths and depths has far more architectures than can be tried, but what a network loses
by several changes is about the sum of what it loses by each. So each value of each label is tried
alone, the layers that read what it cuts fitted to the teacher, and the sum is minimised exactly
within any number of budgets, without further trials.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..mutable import Sample
from ..mutable.factors import Factor
from ..tables import Table, best
from ..tables.model import Model, root_of

__all__ = ["changes", "loses_least", "summed"]


def changes(space: Any) -> Iterator[tuple[str, Sample]]:
    """Yield each architecture that differs from the original in one label, with a name for it."""
    original = space.original
    for label, symbol in space.symbols().items():
        if label in original:
            for value in symbol.values:
                if value != original[label]:
                    yield _named(label, value), space.canonical(original | {label: value})


def summed(space: Any, losses: Mapping[str, float]) -> Table:
    """Return the sum of what the choices of an architecture lose, as tables over the labels.

    Parameters
    ----------
    space
        A space made by :func:`nas_space.elastic`, or a restriction of one.
    losses
        By the name of a change, as :func:`changes` has it, what it loses. What is below nothing is
        noise, and counts as nothing; so does a change that is not named.
    """
    model = Model.of(root_of(space))
    terms = []
    for symbol in model.labels:
        if symbol.size is not None and symbol.size > 1:
            lost = [
                max(0.0, losses.get(_named(symbol.name, symbol.value(code)), 0.0))
                for code in range(symbol.size)
            ]
            term = Factor((symbol,), np.array(lost))
            terms.append(term.where(model.activity.reach[symbol]))
    return Table(None, terms)


def loses_least(within: Any, losses: Mapping[str, float], number: int) -> list[Sample]:
    """Return the architectures within a budget whose choices lose least together, best first."""
    found = best(within, summed(within, losses), number)
    return [dict(one.arch) for one in found]


def _named(label: str, value: Any) -> str:
    return f"{label}={value}"
