"""``Queryable``: a space that answers exactly, by its labels alone."""

from __future__ import annotations

from ..mutable import Mutable
from . import queries
from .sampler import sample

__all__ = ["Queryable"]


class Queryable(Mutable):
    """A space with the queries of this package as methods.

    Costs are expressions over the labels, such as those of :mod:`nas_space.profiler`.
    """

    count = queries.count
    bounds = queries.bounds
    best = queries.best
    pareto = queries.pareto
    sample = sample

    def _draws_at_most(self) -> int | None:
        """Return how many draws are tried for one that constraints in Python allow."""
        return None
