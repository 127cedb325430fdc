"""What a search writes on Optuna's trials, and how workers share them.

A trial of Optuna is one *attempt* at a *number*, a place in the search from 0 to one less than the
trials that are wanted.  If the process of an attempt dies, the attempt is abandoned, its number is
free again, and the next attempt takes the smallest free number, with the architecture that was
lost.  Proposals depend on the number, so a search that was interrupted and resumed proposes what
it would have proposed.

Workers propose in turn: an attempt waits until all earlier ones have published their
architectures.  So no two take the same number or the same architecture, on any storage, without
a lock.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, cast

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from ..errors import UsageError
from ..mutable import MISSING, Sample
from ..mutable.node import key_of
from ..strategy import Evaluated
from . import signs
from .objectives import Objective

__all__ = [
    "ABANDONED",
    "ARCHITECTURE",
    "COST",
    "ERROR",
    "FAILURE",
    "METRICS",
    "NUMBER",
    "REPAIRED",
    "Ledger",
    "LedgerSnapshot",
]

ALIVE = "alive"
"""Counts the signs of life of the process that has the trial."""

ARCHITECTURE = "architecture"
"""The attribute of a trial that holds its architecture."""

COST = "cost"
"""Holds what decides between equal scores: see :func:`nas_space.study.worker.deciding_cost`."""

ERROR = "standard_error"
"""Holds the standard error of the first objective, where it is known."""

FAILURE = "failure"
"""Holds the traceback of an evaluation that failed."""

REPAIRED = "mended"
"""In how many labels the architecture differs from what the strategy proposed; absent for 0."""

METRICS = "metrics"
"""Holds what was measured beside the objectives."""

NUMBER = "number"
"""The place in the search, where it is not the number of the trial."""

ABANDONED = "void"
"""Why an attempt came to nothing."""

WEIGHTS = "weights"
"""The attribute of a study that holds which weights its networks have before they are scored."""

WORKER = "worker"
"""Which process it is that has the trial."""

_DEATHS = 5
"""So many processes may die of an architecture before it counts as failed."""

_UNSIGNED = 10.0
"""Seconds after which an attempt that nobody has signed was abandoned."""


@dataclass
class LedgerSnapshot:
    """How far a search is.

    Attributes
    ----------
    history
        What has been evaluated, in the order of the numbers.
    held
        The numbers that are done or being worked on.
    taken
        The ids of the architectures that are done or being worked on.
    working
        How many attempts have taken a number and are under way.
    choosing
        The trials of attempts that have not taken one yet.
    failures
        How many evaluations have failed.
    lost
        Number to the architecture of the last attempt at it that came to nothing, and how far
        that was repaired.
    deaths
        Number to how many processes died of it.
    """

    history: list[Evaluated] = field(default_factory=list)
    held: set[int] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)
    working: int = 0
    choosing: list[int] = field(default_factory=list)
    failures: int = 0
    lost: dict[int, tuple[Sample, int]] = field(default_factory=dict)
    deaths: Counter[int] = field(default_factory=Counter)

    @property
    def finished(self) -> int:
        """How many numbers are done: evaluated, stopped early, or failed."""
        return len(self.held) - self.working

    @property
    def free(self) -> int:
        """The smallest number that nobody has."""
        return next(number for number in count() if number not in self.held)

    def is_deadly(self, number: int) -> bool:
        """Whether so many processes have died of a number that it is better left alone."""
        return self.deaths[number] >= _DEATHS

    def to_repeat(self) -> list[int]:
        """The numbers whose attempts were lost and that nobody has taken up again."""
        return sorted(number for number in self.lost if number not in self.held)


class Ledger:
    """The trials of a study, as a search sees them.

    Parameters
    ----------
    study
        Of Optuna.
    space
        Gives architectures their ids.
    objectives
        Of the search.
    """

    def __init__(self, study: optuna.Study, space: Any, objectives: tuple[Objective, ...]) -> None:
        self.study = study
        self.space = space
        self.signs = [objective.sign for objective in objectives]
        self.me = signs.new_name()
        self._mine: Trial | None = None
        self._known: dict[int, Callable[[LedgerSnapshot], None]] = {}
        self._unsigned: dict[int, float] = {}
        self._signs: dict[tuple[int, int], float] = {}

    @contextmanager
    def open(self) -> Iterator[None]:
        """A context in which this process is at trials of the study, and gives signs of life."""
        with signs.living(self.me, self._give_sign):
            yield

    def _give_sign(self, number: int) -> None:
        trial = self._mine
        if trial is not None:
            with suppress(Exception):  # it is over already, or the storage is out of reach
                trial.set_user_attr(ALIVE, number)

    # -- reading ------------------------------------------------------------------------------

    def trials(self) -> list[FrozenTrial]:
        """All attempts, as the storage has them now."""
        return self.study.get_trials(deepcopy=False)

    def look(self) -> LedgerSnapshot:
        """How far the search is now; what dead workers have left is freed on the way."""
        snapshot = LedgerSnapshot()
        for trial in self.trials():
            note = self._known.get(trial.number)
            if note is None:
                if trial.state == TrialState.RUNNING and not self._lives(trial):
                    self._release(trial)
                    continue  # it will be seen as what it is at the next look
                note = self._note(trial)
                if trial.state.is_finished():
                    self._known[trial.number] = note
            note(snapshot)
        snapshot.history.sort(key=lambda one: one.number)
        return snapshot

    def _note(self, trial: FrozenTrial) -> Callable[[LedgerSnapshot], None]:
        """What a trial adds to a snapshot, worked out once for those that are finished."""
        stored = trial.user_attrs.get(ARCHITECTURE)
        number = number_of(trial)
        working = trial.state == TrialState.RUNNING
        failed = trial.state == TrialState.FAIL
        if stored is None:

            def choosing(snapshot: LedgerSnapshot) -> None:
                if working:
                    snapshot.choosing.append(trial.number)

            return choosing
        arch = self.space.canonical(stored)
        key = self.space.arch_id(arch)
        repaired = int(trial.user_attrs.get(REPAIRED, 0))
        if not counts(trial):
            died = ABANDONED not in trial.user_attrs

            def abandoned(snapshot: LedgerSnapshot) -> None:
                snapshot.lost[number] = (arch, repaired)
                snapshot.deaths[number] += died

            return abandoned
        evaluated = None
        if trial.state == TrialState.COMPLETE:
            values = cast("list[float]", trial.values)
            fitness = tuple(s * v for s, v in zip(self.signs, values, strict=True))
            evaluated = Evaluated(number, arch, fitness)

        def held(snapshot: LedgerSnapshot) -> None:
            snapshot.held.add(number)
            snapshot.taken.add(key)
            snapshot.working += working
            snapshot.failures += failed
            if evaluated is not None:
                snapshot.history.append(evaluated)

        return held

    # -- writing ------------------------------------------------------------------------------

    def sign(self, trial: Trial) -> None:
        """Say that this process has a trial."""
        self._mine = trial
        trial.set_user_attr(WORKER, self.me)

    def turn(self, trial: Trial) -> LedgerSnapshot:
        """Waits until all earlier attempts have published, and says how far the search is then."""
        for pause in pauses():
            snapshot = self.look()
            if not snapshot.choosing or min(snapshot.choosing) >= trial.number:
                return snapshot
            time.sleep(pause)
        raise AssertionError("pauses never end")

    def publish(self, trial: Trial, number: int, arch: Sample, repaired: int) -> None:
        """Take a number and an architecture."""
        if number != trial.number:
            trial.set_user_attr(NUMBER, number)
        if repaired:
            trial.set_user_attr(REPAIRED, repaired)
        trial.set_user_attr(ARCHITECTURE, arch)

    def _release(self, trial: FrozenTrial) -> None:
        """Declare an attempt abandoned whose process is no more."""
        with suppress(ValueError, UpdateFinishedTrialError):  # somebody else was faster
            self.study.tell(trial.number, state=TrialState.FAIL)

    def _lives(self, trial: FrozenTrial) -> bool:
        """Whether somebody is still at a trial, as far as can be told from here."""
        worker = trial.user_attrs.get(WORKER)
        if worker is None:
            since = self._unsigned.setdefault(trial.number, time.monotonic())
            return time.monotonic() - since < _UNSIGNED
        lives = signs.lives(worker)
        if lives is None:
            sign = (trial.number, trial.user_attrs.get(ALIVE, 0))
            since = self._signs.setdefault(sign, time.monotonic())
            lives = time.monotonic() - since < signs.SILENCE
        return lives


def number_of(trial: FrozenTrial) -> int:
    """The place of a trial in the search."""
    return int(trial.user_attrs.get(NUMBER, trial.number))


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial that has ended is one of the search: not an attempt that is abandoned."""
    return trial.state != TrialState.FAIL or FAILURE in trial.user_attrs


def pauses() -> Iterator[float]:
    """How long to wait between looks, in seconds: longer and longer, without end."""
    pause = 0.002
    while True:
        yield pause
        pause = min(pause * 1.5, 0.5)


def storable(space: Any) -> None:
    """Check that architectures can be written down.

    Raises
    ------
    UsageError
        If a label has values that JSON cannot hold.
    """
    for label, symbol in space.simplify().items():
        for value in getattr(symbol, "values", ()):
            try:
                read = json.loads(json.dumps(value))
            except (TypeError, ValueError):
                read = MISSING
            if key_of(read, loose=True) != key_of(value, loose=True):
                raise UsageError(
                    f"the label {label!r} has the value {value!r}, which cannot be stored; give "
                    "its values as numbers or names, and look up what they stand for"
                )
