"""What defines auxiliary variables: large conditions as chains of small factors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..mutable.factors import Array, Auxiliary, Factor, distinct_rows

__all__ = ["defining"]

_EASY = 2**8
"""Conditions with this many entries or fewer are one factor."""


class _Level:
    """What decides about the rest of a condition, after the first few of its variables.

    Parameters
    ----------
    name
        What it prints as.
    size
        How many cases there are.
    """

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size

    def __repr__(self) -> str:
        return f"<{self.name}>"


def defining(variable: Auxiliary) -> Iterator[Factor]:
    """Yield factors that all hold exactly where a variable has the value of its condition.

    A large condition is read one variable after another.  After each, all that matters of those
    before is which function of the others is left: the nodes of one level of its reduced ordered
    decision diagram (Bryant, "Graph-based algorithms for Boolean function manipulation", IEEE
    Transactions on Computers, 1986).  Where these are few, as of a condition that is many small
    ones at once, a chain of factors from each level to the next says the same as the whole table,
    and elimination meets three variables at a time instead of all.
    """
    condition = variable.condition
    if condition.values.size > _EASY:
        chain = list(_chain(variable))
        if sum(factor.values.size for factor in chain) < condition.values.size:
            yield from chain
            return
    yield condition.combine(Factor((variable,), np.array([False, True])), np.equal)


def _chain(variable: Auxiliary) -> Iterator[Factor]:
    scope, left = variable.condition.scope, variable.condition.values[None]
    before: tuple[_Level, ...] = ()  # at first there is but one case
    for place, own in enumerate(scope[:-1]):
        states, codes, *rest = left.shape
        rows = left.reshape(states * codes, -1)
        kept, case = distinct_rows(rows)
        left = kept.reshape(len(kept), *rest)
        after = _Level(f"{variable.name}, after {place + 1}", len(kept))
        follows = case.reshape(states, codes, 1) == np.arange(len(kept))
        yield _factor(before, (own, after), follows)
        before = (after,)
    yield _factor(before, (scope[-1], variable), left[..., None] == np.array([False, True]))


def _factor(before: tuple[_Level, ...], others: tuple[object, ...], values: Array) -> Factor:
    return Factor((*before, *others), values if before else values[0])
