"""``Queryable``: a space that answers exactly, by its labels alone."""

from __future__ import annotations

from typing import overload

from ..mutable import Mutable, Sample, SampleBatch
from ..mutable.random_words import RandomState
from . import queries
from .model import Over
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

    @overload
    def sample(
        self, n: None = None, *, over: Over = "labels", seed: RandomState = None
    ) -> Sample: ...
    @overload
    def sample(self, n: int, *, over: Over = "labels", seed: RandomState = None) -> SampleBatch: ...
    def sample(
        self, n: int | None = None, *, over: Over = "labels", seed: RandomState = None
    ) -> Sample | SampleBatch:
        """Draw architectures at random.

        Parameters
        ----------
        n
            How many; one dictionary if it is not given.
        over
            ``'labels'``: each label by its own distribution.  ``'architectures'``: every
            architecture with the same probability, however many labels it has active.
        seed
            A seed, one of NumPy's generators, or ``None`` for NumPy's global state.

        Returns
        -------
        dict or SampleBatch
            A batch holds its architectures as columns; the first ones do not depend on how
            many are drawn.

        Raises
        ------
        InfeasibleError
            If no draw meets the space's constraints.
        """
        return sample(self, n, over=over, seed=seed, attempts=self._draws_at_most())

    def _draws_at_most(self) -> int | None:
        """Return how many draws are tried for one that constraints in Python allow."""
        return None
