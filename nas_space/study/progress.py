"""How far a search is: trials done, the best so far, the size of the front, the time left."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial, TrialState

from ..strategy.base import dominates
from .callbacks import SearchCallback
from .ledger import counts
from .studies import objectives_in

if TYPE_CHECKING:
    from .objectives import Objective
    from .result import SearchResult

__all__ = ["SearchProgress", "ShowProgress", "clock", "seconds_left"]

_LOOK = 2.0
"""Seconds between two looks at what others have done."""


@dataclass(frozen=True)
class SearchProgress:
    """How far a search is.

    Attributes
    ----------
    done, trials
        How many trials have ended, and how many there shall be.
    failed
        How many of them have failed.
    best
        Objective to the best value so far, each by itself.
    front
        How many architectures no other dominates.
    seconds_left
        How long it will take at the pace since the watching began; ``None`` before that is known.

    Examples
    --------
    >>> print(SearchProgress(12, 100, 1, {"accuracy": 0.953}, 1, 131.0))
    12 of 100 trials, best accuracy 0.953, 1 failed, 2:11 left
    """

    done: int
    trials: int
    failed: int = 0
    best: dict[str, float] = field(default_factory=dict)
    front: int = 0
    seconds_left: float | None = None

    @property
    def findings(self) -> str:
        """What has been found so far, in a few words."""
        words = []
        if self.best:
            words.append(", ".join(f"best {name} {best:.4g}" for name, best in self.best.items()))
        if len(self.best) > 1:
            words.append(f"{self.front} on the front")
        if self.failed:
            words.append(f"{self.failed} failed")
        return ", ".join(words)

    def __str__(self) -> str:
        words = [f"{self.done} of {self.trials} trials", self.findings]
        if self.seconds_left is not None:
            words.append(f"{clock(self.seconds_left)} left")
        return ", ".join(word for word in words if word)


def clock(seconds: float) -> str:
    """Return a time as a clock shows it.

    Examples
    --------
    >>> clock(131.0), clock(3725)
    ('2:11', '1:02:05')
    """
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"


def seconds_left(began: tuple[float, int], now: float, done: int, total: int) -> float | None:
    """Return how long the rest takes at the pace since a time, when so much was done.

    ``None`` if nothing was done since.
    """
    since, before = began
    return (now - since) / (done - before) * max(0, total - done) if done > before else None


def _print(progress: SearchProgress) -> None:
    print(progress, file=sys.stderr, flush=True)  # noqa: T201 - this is what it is for


class ShowProgress(SearchCallback):
    """A callback of a search that shows how far it is.

    Trials of other processes and machines count too.

    Parameters
    ----------
    trials
        How many there shall be.
    show
        Called with a :class:`SearchProgress`; prints it to stderr by default.
    every
        Seconds between two calls, at least, but for the last.
    since
        When the search began, as ``time.monotonic()`` tells it, and how many of its trials this was
        not told of; by default it is told of all.

    Examples
    --------
    >>> import nas_space as ns
    >>> from nas_space.hub import ProxylessNAS
    >>> space = ProxylessNAS(num_labels=10, width_mult=0.25)
    >>> seen = []
    >>> progress = ShowProgress(3, seen.append, every=0)
    >>> result = ns.search(
    ...     space, lambda net, arch: len(arch), trials=3, weights="none", callbacks=[progress]
    ... )
    >>> [now.done for now in seen]
    [1, 2, 3]
    """

    def __init__(
        self,
        trials: int,
        show: Callable[[SearchProgress], object] = _print,
        *,
        every: float = 1.0,
        since: tuple[float, int] | None = None,
    ) -> None:
        self.trials = trials
        self.show = show
        self.every = every
        self.since = since
        self._first = 0
        self._counted: set[int] = set()
        self._looked = -math.inf
        self._done = 0
        self._failed = 0
        self._best: dict[str, float] = {}
        self._objectives: list[Objective] = []
        self._front: list[tuple[float, ...]] = []
        self._last = -math.inf
        self._shown = -1
        self._began: tuple[float, int] | None = None

    def on_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Count a trial, and those of others now and then; show how far the search is."""
        now = time.monotonic()
        if now - self._looked >= _LOOK:
            self._look(study)
        if trial.number not in self._counted:
            self._add(study, trial)
        if self._began is None:
            # Trials of an earlier run say nothing of the pace; this one began when it began.
            lasted = trial.duration.total_seconds() if trial.duration is not None else 0.0
            began, missed = self.since or (now - lasted, 0)
            self._began = began, self._done - 1 - missed
        if self._done >= self.trials or now - self._last >= self.every:
            self._show(now)

    def on_end(self, result: SearchResult) -> None:
        """Show the last that others have done, too."""
        self._look(result.study)
        if self._began is not None and self._done > self._shown:
            self._show(time.monotonic())

    def _show(self, now: float) -> None:
        self._last, self._shown = now, self._done
        self.show(self._progress(now))

    def _look(self, study: optuna.Study) -> None:
        """Read all trials, which takes the longer, the more there are."""
        trials = study.get_trials(deepcopy=False)
        self._looked = time.monotonic()
        for trial in trials[self._first :]:
            if trial.state.is_finished() and trial.number not in self._counted:
                self._add(study, trial)
        while self._first in self._counted:
            self._first += 1

    def _add(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._counted.add(trial.number)
        if not counts(trial):
            return
        self._done += 1
        self._failed += trial.state == TrialState.FAIL
        if trial.state != TrialState.COMPLETE:
            return
        # Read once: they do not change, and it is a transaction of the storage.
        self._objectives = self._objectives or objectives_in(study)
        reached = list(zip(self._objectives, trial.values, strict=True))
        for objective, value in reached:
            objective.improve(self._best, value)
        point = tuple(objective.sign * value for objective, value in reached)
        if not any(dominates(other, point) for other in self._front):
            self._front = [other for other in self._front if not dominates(point, other)]
            self._front.append(point)

    def _progress(self, now: float) -> SearchProgress:
        assert self._began is not None
        left = seconds_left(self._began, now, self._done, self.trials)
        best, front = dict(self._best), len(self._front)
        return SearchProgress(self._done, self.trials, self._failed, best, front, left)
