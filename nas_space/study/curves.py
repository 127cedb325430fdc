"""``expected_end``: what a trial that was stopped early would have come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

__all__ = ["Curve", "expected_end"]

Curve = tuple[Mapping[int, float], float]
"""What a complete trial reported, step to value, and its value in the end."""


def expected_end(reports: Mapping[int, float], curves: Sequence[Curve]) -> float | None:
    """Return what a trial that was stopped would have come to, as far as others tell.

    Its last report, and the median of what those that were complete before have gained from that
    step on.  So strategies learn from what was stopped, too: that it was poor is what a pruner
    has paid for.

    Parameters
    ----------
    reports
        Step to value of the trial.
    curves
        Of complete trials.

    Returns
    -------
    float or None
        ``None`` if it has reported nothing, or nothing at a step that others reported at.
    """
    if not reports:
        return None
    step = max(reports)
    gains = [end - curve[step] for curve, end in curves if step in curve]
    return reports[step] + median(gains) if gains else None
