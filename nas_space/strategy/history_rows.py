"""What follows from each architecture of a history alone, read once and kept between proposals.

A proposal must take no longer the longer a search is, and must not depend on which proposals this
process made before: what is kept is compared with the history each time, by identity where it is
the same, which is quick.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ..mutable import Sample
from .base import Evaluated, is_same
from .candidates import fitness_of

__all__ = ["FeatureRows", "FitnessRows"]

Array = npt.NDArray[np.float64]


class FitnessRows:
    """The objectives of a history, one row for each architecture."""

    def __init__(self) -> None:
        self._known: list[Evaluated] = []
        self._rows: Array = np.zeros((0, 0))

    def of(self, history: Sequence[Evaluated]) -> Array:
        """Return an array ``(architectures, objectives)``, which is not to be changed."""
        same = min(len(self._known), len(history))
        # What several workers evaluate may come in among the latest.
        while same and self._known[same - 1] is not history[same - 1]:
            same -= 1
        self._known[same:] = history[same:]
        if not is_same(self._known, history):
            same, self._known = 0, list(history)
        if same < len(history):
            self._rows = _with_rows(self._rows, same, fitness_of(history[same:]))
        return self._rows[: len(history)]


class FeatureRows:
    """Rows of features of architectures that are evaluated.

    Parameters
    ----------
    features
        Gives an array ``(architectures, width)``.
    """

    def __init__(self, features: Callable[[Sequence[Sample]], Array]) -> None:
        self._features = features
        self._archs: dict[int, Sample] = {}
        self._places: dict[int, int] = {}
        self._rows: Array = np.zeros((0, 0))
        self._count = 0

    def of(self, evaluated: Sequence[Evaluated]) -> Array:
        """Return an array ``(architectures, width)``, which is not to be changed."""
        numbers = [one.number for one in evaluated]
        known = list(map(self._archs.get, numbers))
        if known != [one.arch for one in evaluated]:
            self._add([o for o, arch in zip(evaluated, known, strict=True) if o.arch != arch])
        places = list(map(self._places.__getitem__, numbers))
        start, end = places[0], places[-1] + 1
        # Those that were asked about in order need not be copied.
        in_order = places == list(range(start, end))
        return self._rows[slice(start, end) if in_order else places]

    def _add(self, new: Sequence[Evaluated]) -> None:
        rows = self._features([one.arch for one in new])
        self._rows = _with_rows(self._rows, self._count, rows)
        for place, one in enumerate(new, self._count):
            self._archs[one.number], self._places[one.number] = one.arch, place
        self._count += len(new)


def _with_rows(kept: Array, start: int, rows: Array) -> Array:
    """Return an array that has some rows from a place on; twice as long as the last if needed."""
    end = start + len(rows)
    if end > len(kept) or rows.shape[1] != kept.shape[1]:
        longer = np.empty((max(end, 2 * len(kept)), rows.shape[1]))
        if start:  # or they may have been of another width
            longer[:start] = kept[:start]
        kept = longer
    kept[start:end] = rows
    return kept
