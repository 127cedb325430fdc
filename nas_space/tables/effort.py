"""``effort``: how much work an exact query may take before it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ..errors import UsageError

__all__ = ["Meter", "TooMuchWorkError", "allowed", "effort"]

_LIMIT: ContextVar[float] = ContextVar("effort", default=20.0)

ROW, CALL, PLACE, LOOKUP, WEIGH = 60.0, 3000.0, 1.0, 100.0, 1000.0
"""Nanoseconds: to join two rows; to add a list, and for each place in it; to find a row; to
compare a row with the others of its state."""


class TooMuchWorkError(Exception):
    """A query has used up its effort, or more rows are worth keeping than memory should hold."""


@contextmanager
def effort(limit: float) -> Iterator[None]:
    """Limit the work of each exact query within a ``with`` statement.

    Work is counted in operations, not measured by a clock, so a query is answered on every
    machine or on none.  A unit is about a second on one core of a current processor.  The
    default is 20.  It applies to ``count``, ``best``, ``bounds`` and ``pareto``, and to what
    ``grid`` does between two architectures.

    Parameters
    ----------
    limit
        The work that each query may take.

    Raises
    ------
    UsageError
        If it is not positive.

    Examples
    --------
    >>> from nas_space.mutable import Categorical, MutableExpression, MutableList
    >>> from nas_space.tables import effort, restrict
    >>> labels = [Categorical([0, 3**i], label=f"x{i}") for i in range(24)]
    >>> space = restrict(MutableList(labels), MutableExpression.sum(labels) <= 3**23)
    >>> with effort(0.001):
    ...     space.count()
    Traceback (most recent call last):
    ...
    nas_space.errors.DecompositionError: counting would have to tell up to ... sums apart ...
    >>> space.count()
    8388609
    """
    if not limit > 0:
        raise UsageError(f"an effort must be positive, but got {limit!r}")
    token = _LIMIT.set(float(limit))
    try:
        yield
    finally:
        _LIMIT.reset(token)


def allowed() -> float:
    """Return how many nanoseconds of work a query may take."""
    return _LIMIT.get() * 1e9


class Meter:
    """The work that a query has done.

    Parameters
    ----------
    limit
        How many nanoseconds it may take; by default what :func:`effort` says.
    """

    def __init__(self, limit: float | None = None) -> None:
        self.left = allowed() if limit is None else limit

    def spend(self, work: float) -> None:
        """Count some work that is about to be done.

        Raises
        ------
        TooMuchWorkError
            If it is more than is left.
        """
        self.left -= work
        if self.left < 0:
            raise TooMuchWorkError
