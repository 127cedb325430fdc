"""Statistics of trials: values among the best, importance of labels, drift of proposals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["importances", "series_of", "usage"]

_Codes = Sequence[Sequence[int | None]]
"""For each trial the place of each label's value; ``None`` where it is not used."""

_WINDOWS, _WINDOW = 12, 5
"""The most windows that trials are cut into, and the fewest trials of each."""


def importances(rows: _Codes, scores: Sequence[float]) -> list[float]:
    """Return the share of the scores' variance that each label explains alone, from 0 to 1.

    It is the correlation ratio, corrected for chance: Kelley, "An unbiased correlation ratio
    measure", 1935. Not being used counts as one more value.

    Parameters
    ----------
    rows
        For each trial the place of each label's value.
    scores
        For each trial one number.

    Examples
    --------
    >>> importances([[0, 1], [0, 0], [1, 1], [1, 0]] * 5, [1.0, 1.0, 2.0, 2.0] * 5)
    [1.0, 0.0]
    """
    y = np.asarray(scores, dtype=float)
    table = np.array([[-1 if code is None else code for code in row] for row in rows])
    finite = np.isfinite(y)
    y, table = y[finite], table[finite]
    total = float(((y - y.mean()) ** 2).sum()) if len(y) else 0.0
    found = []
    for column in table.T:
        _, groups = np.unique(column, return_inverse=True)
        sizes = np.bincount(groups)
        if total == 0 or len(sizes) < 2 or len(y) <= len(sizes):
            found.append(0.0)
            continue
        # Epsilon squared: one minus the ratio of the two mean squares, within groups and in all,
        # each with its degrees of freedom. The plain ratio of sums of squares (eta squared) is
        # above zero for a label that means nothing, the more the more values the label has.
        means = np.bincount(groups, weights=y) / sizes
        within = float(((y - means[groups]) ** 2).sum())
        ratio = 1 - within / total * (len(y) - 1) / (len(y) - len(sizes))
        found.append(min(1.0, max(0.0, ratio)))
    return found


def usage(
    values: Sequence[str], place: int, best: _Codes, every: _Codes
) -> Iterator[tuple[str, float, float]]:
    """Yield each value of a label, its share among the best, and how much more that is than in all.

    Of those in which the label is used.
    """
    among_best, among_all = (
        np.bincount([code for row in some if (code := row[place]) is not None] or [0])
        for some in (best, every)
    )
    for code, value in enumerate(values):
        shares = [
            float(counts[code] / counts.sum()) if code < len(counts) and counts.sum() else 0.0
            for counts in (among_best, among_all)
        ]
        yield value, shares[0], shares[0] - shares[1]


def series_of(
    labels: Sequence[Mapping[str, Any]], numbers: Sequence[int], rows: _Codes
) -> list[list[Any]]:
    """Return the shares of each varying label's values in successive windows of the trials.

    Parameters
    ----------
    labels
        With their ``name`` and ``values``.
    numbers
        Of the trials.
    rows
        For each trial the place of each label's value.

    Returns
    -------
    list
        Of name, values, and pairs of a trial's number and a share for each value; parts in which
        the label is never used are left out.
    """
    windows = np.array_split(np.arange(len(rows)), min(_WINDOWS, max(1, len(rows) // _WINDOW)))
    found = []
    for place, label in enumerate(labels):
        codes = [row[place] for row in rows]
        if len({code for code in codes if code is not None}) < 2:
            continue
        series = []
        for window in windows:
            seen = [code for i in window if (code := codes[i]) is not None]
            if seen:
                counts = np.bincount(seen, minlength=len(label["values"]))
                middle = numbers[window[len(window) // 2]]
                series.append([middle, [round(float(c), 4) for c in counts / counts.sum()]])
        found.append([label["name"], label["values"], series])
    return found
