"""``Queryable``: a space that answers exactly, by its labels alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..mutable import Mutable
from . import queries
from .queries import Scored, Tradeoff
from .table import Bounds

__all__ = ["Queryable"]


class Queryable(Mutable):
    """A space with the queries of this package as methods.

    Costs are expressions over the labels, such as those of :mod:`nas_space.profiler`.
    """

    def count(self) -> int:
        """Return how many different architectures there are; see :func:`nas_space.tables.count`.

        Examples
        --------
        >>> from nas_space.hub import ProxylessNAS
        >>> ProxylessNAS(width_mult=0.25).count()
        54375883032510144
        """
        return queries.count(self)

    def bounds(self, cost: Any) -> Bounds:
        """Return the lowest and the highest cost; see :func:`nas_space.tables.bounds`."""
        return queries.bounds(self, cost)

    def best(
        self,
        objective: Any,
        k: int = 1,
        *,
        maximize: bool = False,
        exclude: Iterable[Mapping[str, Any]] = (),
    ) -> list[Scored]:
        """Return the ``k`` best architectures; see :func:`nas_space.tables.best`."""
        return queries.best(self, objective, k, maximize=maximize, exclude=exclude)

    def pareto(
        self, first: Any, second: Any, *, maximize: tuple[bool, bool] = (False, False)
    ) -> list[Tradeoff]:
        """Return the trade-offs between two objectives; see :func:`nas_space.tables.pareto`."""
        return queries.pareto(self, first, second, maximize=maximize)
