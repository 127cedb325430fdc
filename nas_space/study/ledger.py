"""What a search writes on Optuna's trials, and how drivers share them.

A trial of Optuna is one *attempt* at a *number*, a place in the search from 0 to one less than the
trials that are wanted.  If what evaluates an attempt dies, the attempt is abandoned, its number is
free again, and the next attempt takes the smallest free number, with the architecture that was
lost.  Proposals depend on the number, so a search that was interrupted and resumed proposes what
it would have proposed.

Several drivers, on one machine or on several, may add to one study.  An attempt is written whole,
with its number and architecture, in one transaction, and Optuna numbers attempts in the order in
which they were written.  So who has written one sees all earlier ones, and gives way if one of
them has the same number or architecture: no two try the same, on any storage, without a lock.
"""

from __future__ import annotations

import json
import time
from bisect import insort
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from ..errors import StorageError, UsageError
from ..mutable import MISSING, Sample
from ..mutable.node import key_of
from ..strategy import Evaluated
from . import signs
from .intermediate import Curve, expected_end
from .networks import KeptNetworks
from .objectives import Objective, ranking

__all__ = [
    "ABANDONED",
    "ARCHITECTURE",
    "COST",
    "ERROR",
    "FAILURE",
    "METRICS",
    "NUMBER",
    "REPAIRED",
    "Attempt",
    "Ledger",
]

ALIVE = "alive"
"""Counts the signs of life of the driver that has the trial."""

ARCHITECTURE = "architecture"
"""The attribute of a trial that holds its architecture."""

COST = "cost"
"""Holds what decides between equal scores: see :func:`nas_space.study.driver.deciding_cost`."""

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
"""Why an attempt came to nothing, if it did not die."""

ELSEWHERE = "elsewhere"
"""Whether another process than the driver's evaluates the trial, so that it may outlive it."""

WEIGHTS = "weights"
"""The attribute of a study that holds which weights its networks have before they are scored."""

WORKER = "worker"
"""Which driver it is that has the trial."""

_DEATHS = 5
"""So many processes may die of an architecture before it counts as failed."""

_GAVE_WAY = "another had the same number or architecture"


@dataclass(frozen=True)
class Attempt:
    """A trial of Optuna's that has a number of the search.

    Attributes
    ----------
    trial
        Its number at Optuna.
    trial_id
        What storages call it.
    number, arch
        Its place in the search, and its architecture.
    repaired
        In how many labels that differs from what the strategy proposed.
    """

    trial: int
    trial_id: int
    number: int
    arch: Sample
    repaired: int = 0


class Ledger:
    """The trials of a study, as a search sees them; what was seen once is not read again.

    Parameters
    ----------
    study
        Of Optuna.
    space
        Gives architectures their ids.
    objectives
        Of the search.
    networks
        Are told which trials are complete.
    elsewhere
        Whether other processes than this one evaluate.

    Attributes
    ----------
    history
        What has been evaluated, in the order of the numbers.  A trial that was stopped early is
        there with what it would have come to, see :func:`expected_end`.
    taken
        The ids of the architectures that are done or being worked on, each with its attempt.
    held
        The numbers that are done or being worked on, each with its attempt.
    working
        The attempts that are under way, here or elsewhere, by Optuna's numbers.
    failures
        How many evaluations have failed.
    lost
        Number to the architecture of the last attempt at it that came to nothing, and how far
        that was repaired.
    deaths
        Number to how many processes died of it.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Any,
        objectives: tuple[Objective, ...],
        networks: KeptNetworks,
        *,
        elsewhere: bool,
    ) -> None:
        self.study = study
        self.storage: BaseStorage = study._storage
        self.space = space
        self.objectives = objectives
        self.networks = networks
        self.me = signs.new_name()
        self.mine: dict[int, Attempt] = {}
        self.history: list[Evaluated] = []
        self.taken: dict[str, int] = {}
        self.held: dict[int, int] = {}
        self.working: dict[int, Attempt] = {}
        self.failures = 0
        self.lost: dict[int, tuple[Sample, int]] = {}
        self.deaths: Counter[int] = Counter()
        self._elsewhere = elsewhere
        self._curves: list[Curve] = []
        self._seen = 0
        self._open: set[int] = set()
        self._free = 0
        self._signs: dict[tuple[int, int], float] = {}

    @contextmanager
    def open(self) -> Iterator[None]:
        """Enter a context in which this driver is at trials of the study, with signs of life."""
        with signs.living(self.me, self._give_sign):
            yield

    def _give_sign(self, number: int) -> None:
        for attempt in list(self.mine.values()):
            with suppress(Exception):  # it is over already, or the storage is out of reach
                self.storage.set_trial_user_attr(attempt.trial_id, ALIVE, number)

    # -- reading ------------------------------------------------------------------------------

    @property
    def finished(self) -> int:
        """How many numbers are done: evaluated, stopped early, or failed."""
        return len(self.held) - len(self.working)

    @property
    def free(self) -> int:
        """The smallest number that nobody has."""
        while self._free in self.held:
            self._free += 1
        return self._free

    def is_deadly(self, number: int) -> bool:
        """Tell whether so many processes have died of a number that it is better left alone."""
        return self.deaths[number] >= _DEATHS

    def to_repeat(self) -> list[int]:
        """Return the numbers whose attempts were lost and that nobody has taken up again."""
        return sorted(number for number in self.lost if number not in self.held)

    def trials(self) -> list[FrozenTrial]:
        """Return all attempts, as the storage has them now."""
        return self.study.get_trials(deepcopy=False)

    def look(self) -> None:
        """See what has changed; what dead drivers have left is freed on the way."""
        trials = self.trials()
        places = [*sorted(self._open), *range(self._seen, len(trials))]
        self._seen = len(trials)
        for place in places:
            trial = trials[place]
            if trial.state == TrialState.RUNNING and not self._lives(trial):
                trial = self._released(trial)
            self._note(trial)

    def _note(self, trial: FrozenTrial) -> None:
        """Take up what a trial is now."""
        stored = trial.user_attrs.get(ARCHITECTURE)
        if stored is None or trial.user_attrs.get(ABANDONED) == _GAVE_WAY:
            self._open.discard(trial.number)
            return  # not one of the search
        place = trial.number
        if place not in self._open:
            self._open.add(place)
            arch, repaired = self.space.canonical(stored), int(trial.user_attrs.get(REPAIRED, 0))
            self._begin(Attempt(place, trial._trial_id, number_of(trial), arch, repaired))
        if not trial.state.is_finished():
            return
        self._open.discard(place)
        reports = trial.intermediate_values
        self._end(place, trial.state, trial.values, trial.user_attrs, reports)

    def _begin(self, attempt: Attempt) -> None:
        number, key = attempt.number, self.space.arch_id(attempt.arch)
        if number in self.held or key in self.taken:
            return  # it gives way
        self.held[number] = self.taken[key] = attempt.trial
        self.working[attempt.trial] = attempt

    def _end(
        self,
        place: int,
        state: TrialState,
        values: Sequence[float] | None,
        attributes: Mapping[str, Any],
        reports: Mapping[int, float],
    ) -> None:
        """Take up what came of an attempt, unless that is known."""
        attempt = self.working.pop(place, None)
        if attempt is None:
            return
        number, arch = attempt.number, attempt.arch
        if state == TrialState.FAIL and FAILURE not in attributes:
            del self.held[number], self.taken[self.space.arch_id(arch)]
            self._free = min(self._free, number)
            self.lost[number] = arch, attempt.repaired
            self.deaths[number] += ABANDONED not in attributes
        elif state == TrialState.COMPLETE:
            values = valid_values(place, values, len(self.objectives))
            fitness = tuple(o.sign * v for o, v in zip(self.objectives, values, strict=True))
            insort(self.history, Evaluated(number, arch, fitness), key=attrgetter("number"))
            self.networks.complete(ranking(self.objectives, values, attributes.get(COST), number))
            self._curves.append((dict(reports), values[0]))
        else:
            self.failures += state == TrialState.FAIL
            self.networks.drop(number)
            value = expected_end(reports, self._curves)
            if state == TrialState.PRUNED and value is not None:
                fitness = (self.objectives[0].sign * value,)
                insort(self.history, Evaluated(number, arch, fitness), key=attrgetter("number"))

    # -- writing ------------------------------------------------------------------------------

    def begin(self, number: int, arch: Sample, repaired: int) -> Attempt | None:
        """Take a number and an architecture; ``None`` if another was faster."""
        attributes: dict[str, Any] = {WORKER: self.me, ARCHITECTURE: arch, NUMBER: number}
        if repaired:
            attributes[REPAIRED] = repaired
        if self._elsewhere:
            attributes[ELSEWHERE] = True
        template = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=attributes)
        trial_id = self.storage.create_new_trial(self.study._study_id, template)
        place = self.storage.get_trial_number_from_id(trial_id)
        attempt = self.mine[place] = Attempt(place, trial_id, number, arch, repaired)
        if place == self._seen and self._open <= self.mine.keys():
            # Nobody else is at the study, so nothing has changed but by us: to read all trials
            # again would take the longer, the more there are.
            self._seen += 1
            self._open.add(place)
            self._begin(attempt)
        else:
            self.look()
        if place in self.working:
            return attempt
        self.abandon(attempt, _GAVE_WAY)
        return None

    def end(
        self,
        attempt: Attempt,
        state: TrialState,
        values: Sequence[float] | None = None,
        attributes: Mapping[str, Any] | None = None,
        reports: Mapping[int, float] | None = None,
        *,
        reported: bool = False,
    ) -> bool:
        """Write what came of an attempt, and whether that still counted.

        What it has ``reported`` already is not written again.
        """
        try:
            for step, value in () if reported else (reports or {}).items():
                self.storage.set_trial_intermediate_value(attempt.trial_id, step, value)
            for name, content in (attributes or {}).items():
                self.storage.set_trial_user_attr(attempt.trial_id, name, content)
            self.storage.set_trial_state_values(attempt.trial_id, state, values)
        except UpdateFinishedTrialError:
            self.look()  # it was taken for dead
            return False
        finally:
            self.mine.pop(attempt.trial, None)
        self._open.discard(attempt.trial)
        self._end(attempt.trial, state, values, attributes or {}, reports or {})
        return True

    def abandon(self, attempt: Attempt, reason: str) -> None:
        """Leave the number of an attempt to whoever comes next."""
        self.end(attempt, TrialState.FAIL, attributes={ABANDONED: reason})

    def die(self, attempt: Attempt) -> None:
        """Write that a process died of an attempt."""
        self.end(attempt, TrialState.FAIL)

    def _released(self, trial: FrozenTrial) -> FrozenTrial:
        """Declare an attempt abandoned whose driver is no more."""
        attempt = Attempt(trial.number, trial._trial_id, number_of(trial), {})
        if ELSEWHERE in trial.user_attrs:
            self.abandon(attempt, "its driver has ended")
        else:
            self.die(attempt)
        return self.storage.get_trial(trial._trial_id)

    def _lives(self, trial: FrozenTrial) -> bool:
        """Whether somebody is still at a trial, as far as can be told from here."""
        worker = trial.user_attrs.get(WORKER)
        if worker is None or ARCHITECTURE not in trial.user_attrs:
            return True  # none of ours
        if worker == self.me:
            return trial.number in self.mine
        lives = signs.lives(worker)
        if lives is None:
            sign = (trial.number, trial.user_attrs.get(ALIVE, 0))
            since = self._signs.setdefault(sign, time.monotonic())
            lives = time.monotonic() - since < signs.SILENCE
        return lives


def valid_values(trial: int, values: Sequence[float] | None, objectives: int) -> Sequence[float]:
    """Return the values of a trial that is complete, or say that they are missing.

    Raises
    ------
    StorageError
        There is not one for each objective.
    """
    if values is None or len(values) != objectives:
        raise StorageError(
            f"trial {trial} is complete, but has {len(values or ())} values for {objectives} "
            "objectives: its storage is damaged; restore a copy, or begin in another one"
        )
    return values


def number_of(trial: FrozenTrial) -> int:
    """Return the place of a trial in the search."""
    return int(trial.user_attrs.get(NUMBER, trial.number))


def counts(trial: FrozenTrial) -> bool:
    """Tell whether a trial that has ended is one of the search, not an abandoned attempt."""
    return trial.state != TrialState.FAIL or FAILURE in trial.user_attrs


def pauses() -> Iterator[float]:
    """Yield how long to wait between looks, in seconds: longer and longer, without end."""
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
