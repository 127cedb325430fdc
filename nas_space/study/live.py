"""Progress of a search where a script or a notebook runs it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from .progress import ShowProgress, clock, seconds_left

__all__ = ["shape_of", "shown"]

_PAUSE = 30.0
"""Seconds between two lines in a plain log."""

_LIVE = 0.5
"""Seconds between two times that a line is written anew."""


def shown(
    progress: bool | None, trials: int | None = None, since: tuple[float, int] | None = None
) -> Callable[..., object]:
    """Return a callback that shows how far a search is.

    Parameters
    ----------
    progress
        True or ``None``, as of :func:`~nas_space.search`.
    trials
        How many there shall be; ``None`` for a one-shot search.
    since
        As of :class:`.progress.ShowProgress`.
    """
    line = _Line(eager=bool(progress))
    if trials is None:
        return _Steps(line, since)
    return ShowProgress(
        trials, lambda now: line.write(now, end=now.done >= now.trials), every=0.0, since=since
    )


class _Line:
    """One line, written anew where that can be, and a line now and then where it cannot."""

    def __init__(self, *, eager: bool) -> None:
        self.live = sys.stderr.isatty() or _in_notebook()
        self.pause = _LIVE if self.live else _PAUSE
        self.last = -self.pause if eager or self.live else time.monotonic()
        self.written = eager
        self.width = 0

    def write(self, told: object, *, end: bool) -> None:
        """Show something, unless the last was shown just now."""
        now = time.monotonic()
        if now - self.last < self.pause and not (end and (self.live or self.written)):
            return
        self.last, self.written, text = now, True, str(told)
        if self.live:
            sys.stderr.write("\r" + text.ljust(self.width) + ("\n" if end else ""))
            self.width = len(text)
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()


class _Steps:
    """What a one-shot search tells, in a line with the time left."""

    def __init__(self, line: _Line, since: tuple[float, int] | None) -> None:
        self.line, self.since = line, since
        self.began: tuple[float, int] | None = None

    def __call__(self, progress: Any) -> None:
        now = time.monotonic()
        began, missed = self.since or (now, -1)
        self.began = self.began or (began, progress.step - 1 - missed)
        words = [f"step {progress.step} of {progress.total}", str(progress)]
        left = seconds_left(self.began, now, progress.step, progress.total)
        if left is not None:
            words.append(f"{clock(left)} left")
        self.line.write(", ".join(words), end=progress.step >= progress.total)


def _in_notebook() -> bool:
    """Whether this is a kernel of Jupyter's, whose cells show what stderr is written."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


def shape_of(target: Any) -> tuple[int, ...] | None:
    """Return the shape of one sample of a task's data, if that is a tensor."""
    data = getattr(target, "train", None)
    try:
        sample = data[0] if data is not None else None
    except (TypeError, LookupError):
        return None
    first: Any = sample[0] if isinstance(sample, (tuple, list)) and sample else None
    return tuple(first.shape) if hasattr(first, "shape") else None
