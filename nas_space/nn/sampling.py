"""Drawing architectures of a space, and keeping those that its constraints allow."""

from __future__ import annotations

from itertools import islice
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ..errors import ConstraintViolation, DecompositionError, InfeasibleError, UsageError
from ..mutable import Constraint, ExpressionConstraint, Mutable, Sample, SampleBatch
from ..mutable.batch import draw_one
from ..mutable.columns import activity
from ..mutable.node import Leaf
from ..mutable.random_words import Words
from ..tables.sampler import sampler_of

__all__ = ["allowed", "draw", "draw_many"]

_ATTEMPTS = 100_000
"""Draws after which rejection gives up."""

_ROWS = 1024
"""How many are drawn at a time where some will be rejected."""


def draw(space: Mutable, source: Words) -> Sample:
    """Return one architecture: the first that :func:`draw_many` would give.

    Raises
    ------
    InfeasibleError
        If no draw meets the constraints.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return draw_one(space, source)
        except ConstraintViolation as error:
            last = error
        if attempt == _ROWS:
            found = _exactly(space, 1, source)
            if found is not None:
                return found[0]
    raise _infeasible(_ATTEMPTS, str(last))


def draw_many(space: Mutable, n: int, source: Words) -> SampleBatch:
    """Return a number of architectures; the first ones do not depend on how many are drawn.

    Raises
    ------
    UsageError
        If the number is not a whole one, 0 or more.
    InfeasibleError
        If no draw meets the constraints.
    """
    if type(n) is bool or not isinstance(cast(Any, n), (int, np.integer)) or n < 0:
        raise UsageError(f"the number of architectures must be 0 or more, but got {n!r}")
    constraints = space.constraints()
    if not constraints:
        return SampleBatch.draw(space, int(n), source)
    kept = [SampleBatch.draw(space, 0, source)]
    found = tried = 0
    while found < n:
        batch = SampleBatch.draw(space, _ROWS, source)
        good = np.flatnonzero(allowed(batch, constraints))
        kept.append(batch[good])
        found, tried = found + len(good), tried + _ROWS
        if not found and tried == _ROWS:
            exact = _exactly(space, int(n), source)
            if exact is not None:
                return exact
        if not found and tried >= _ATTEMPTS:
            raise _infeasible(tried, ", ".join(map(str, islice(constraints, 3))))
    return SampleBatch.concatenate(kept)[: int(n)]


def _exactly(space: Mutable, n: int, source: Words) -> SampleBatch | None:
    """Return architectures drawn by tables, from the same distribution; ``None`` if there are none.

    It takes longer to begin with, so it is left for when hardly any draw is allowed.
    """
    root = space.structure()
    try:
        return None if root is None else sampler_of(root, "labels").draw(n, source)
    except DecompositionError:
        return None


def allowed(batch: SampleBatch, constraints: list[Constraint]) -> npt.NDArray[np.bool_]:
    """Return which architectures meet the constraints that they reach."""
    good = np.ones(len(batch), dtype=np.bool_)
    if batch.root is None:
        return good
    reached = activity(batch.root, batch.columns())
    nowhere = np.zeros(len(batch), np.bool_)
    for constraint in constraints:
        rows = np.flatnonzero(reached.get(cast(Leaf, constraint.marker), nowhere))
        if isinstance(constraint, ExpressionConstraint):
            meets = batch[rows].evaluate(constraint.expression).astype(np.bool_)
        else:
            meets = np.array(
                [constraint.check_contains(arch) is None for arch in batch[rows]], bool
            )
        good[rows] &= meets
    return good


def _infeasible(tried: int, reason: str) -> InfeasibleError:
    return InfeasibleError(
        f"none of {tried} random architectures meets the constraints of the space ({reason}); "
        "loosen them, or look for one that does with space.grid()"
    )
