"""What a search writes on Optuna's trials.

A trial of Optuna is one *attempt* at a *number*, a place in the search from 0 to one less than the
trials that are wanted.  If what evaluates an attempt dies, the attempt is abandoned, its number is
free again, and the next attempt takes the smallest free number, with the architecture that was
lost.  Proposals depend on the number, so a search that was interrupted and resumed proposes what
it would have proposed.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypedDict

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from ..errors import StorageError
from ..mutable import Sample
from ..schema import checked
from ..strategy import Evaluated
from .networks import KeptNetworks
from .objectives import Objective, ranking

if TYPE_CHECKING:
    from ..strategy.neighbours import Nearest
    from .curves import Curve

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
    "Measurement",
]

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

WEIGHTS = "weights"
"""The attribute of a study that holds which weights its networks have before they are scored."""

_DEATHS = 5
"""So many processes may die of an architecture before it counts as failed."""


@dataclass(frozen=True)
class Attempt:
    """A trial of Optuna's that has a number of the search.

    Attributes
    ----------
    trial
        Its number at Optuna.
    trial_id
        What storages call it.
    number, arch, arch_id
        Its place in the search, its architecture, and the id of that.
    repaired
        In how many labels that differs from what the strategy proposed.
    """

    trial: int
    trial_id: int
    number: int
    arch: Sample
    arch_id: str = ""
    repaired: int = 0


@dataclass(frozen=True)
class Measurement:
    """What came of an attempt.

    Attributes
    ----------
    state
        Complete, pruned or failed.
    values
        Of the objectives, in their order, if it is complete.
    attributes
        What else is written of it, by the names above.
    reports
        Step to what was reported then.
    weights
        Of the network, if they are wanted: its state, or that as
        :func:`~nas_space.training.dump_state` gives it.
    fatal
        Why the next one would fare no better.
    """

    state: TrialState
    values: Sequence[float] | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    reports: Mapping[int, float] = field(default_factory=dict)
    weights: Any = None
    fatal: str | None = None


class Ledger:
    """The trials of a study in the memory of this process, as a search sees them.

    Those of a storage, which others may add to, are :class:`.shared_ledger.SharedLedger`'s.

    Parameters
    ----------
    study
        Of Optuna.
    objectives
        Of the search.
    networks
        Are told which trials are complete.

    Attributes
    ----------
    mine
        The attempts of this driver that are under way, by Optuna's numbers.
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
        Number to the last attempt at it that came to nothing.
    deaths
        Number to how many processes died of it.
    """

    def __init__(
        self, study: optuna.Study, objectives: tuple[Objective, ...], networks: KeptNetworks
    ) -> None:
        self.study = study
        self.storage: BaseStorage = study._storage
        self.objectives = objectives
        self.networks = networks
        self.mine: dict[int, Attempt] = {}
        self.history: list[Evaluated] = []
        self.taken: dict[str, int] = {}
        self.held: dict[int, int] = {}
        self.working: dict[int, Attempt] = {}
        self.failures = 0
        self.lost: dict[int, Attempt] = {}
        self.deaths: Counter[int] = Counter()
        self._curves: list[Curve] = []
        self._free = 0

    def open(self) -> AbstractContextManager[object]:
        """Return a context in which this driver is at trials of the study."""
        return nullcontext()

    def reaching(self) -> AbstractContextManager[object]:
        """Return a context that reads or writes trials, for errors to be of the storage."""
        return nullcontext()

    # -- reading ------------------------------------------------------------------------------

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
        with self.reaching():
            return self.study.get_trials(deepcopy=False)

    def trial(self, attempt: Attempt) -> FrozenTrial:
        """Return what the storage has of an attempt."""
        with self.reaching():
            return self.storage.get_trial(attempt.trial_id)

    def look(self) -> None:
        """See what others have done."""

    def _begin(self, attempt: Attempt) -> None:
        if attempt.number in self.held or attempt.arch_id in self.taken:
            return  # it gives way
        self.held[attempt.number] = self.taken[attempt.arch_id] = attempt.trial
        self.working[attempt.trial] = attempt

    def _end(self, place: int, found: Measurement) -> None:
        """Take up what came of an attempt, unless that is known."""
        attempt = self.working.pop(place, None)
        if attempt is None:
            return
        number, arch = attempt.number, attempt.arch
        state, attributes = found.state, found.attributes
        if state == TrialState.FAIL and FAILURE not in attributes:
            del self.held[number], self.taken[attempt.arch_id]
            self._free = min(self._free, number)
            self.lost[number] = attempt
            self.deaths[number] += ABANDONED not in attributes
        elif state == TrialState.COMPLETE:
            values = found.values
            assert values is not None
            fitness = tuple(o.sign * v for o, v in zip(self.objectives, values, strict=True))
            insort(self.history, Evaluated(number, arch, fitness), key=attrgetter("number"))
            self.networks.complete(ranking(self.objectives, values, attributes.get(COST), number))
            self._curves.append((dict(found.reports), values[0]))
        else:
            self.failures += state == TrialState.FAIL
            self.networks.drop(number)
            if state != TrialState.PRUNED:
                return
            from .curves import expected_end

            value = expected_end(found.reports, self._curves)
            if value is not None:
                fitness = (self.objectives[0].sign * value,)
                insort(self.history, Evaluated(number, arch, fitness), key=attrgetter("number"))

    # -- writing ------------------------------------------------------------------------------

    def begin(self, number: int, found: Nearest) -> Attempt | None:
        """Take a number and an architecture; ``None`` if another was faster."""
        attempt = self._write({}, number, found)
        self._begin(attempt)
        return attempt

    def _write(self, attributes: dict[str, Any], number: int, found: Nearest) -> Attempt:
        """Write an attempt, with its number and architecture, in one transaction."""
        attributes |= {ARCHITECTURE: found.arch, NUMBER: number}
        if found.steps:
            attributes[REPAIRED] = found.steps
        template = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=attributes)
        with self.reaching():
            trial_id = self.storage.create_new_trial(self.study._study_id, template)
            place = self.storage.get_trial_number_from_id(trial_id)
        taken = found.arch, found.arch_id, found.steps
        attempt = self.mine[place] = Attempt(place, trial_id, number, *taken)
        return attempt

    def end(self, attempt: Attempt, found: Measurement, *, reported: bool = False) -> bool:
        """Write what came of an attempt, and whether that still counted.

        What it has ``reported`` already is not written again.
        """
        still = False
        try:
            # That it is over already, having been taken for dead, is no failure of the storage.
            with self.reaching(), suppress(UpdateFinishedTrialError):
                for step, value in () if reported else found.reports.items():
                    self.storage.set_trial_intermediate_value(attempt.trial_id, step, value)
                for name, content in found.attributes.items():
                    self.storage.set_trial_user_attr(attempt.trial_id, name, content)
                self.storage.set_trial_state_values(attempt.trial_id, found.state, found.values)
                still = True
        finally:
            self.mine.pop(attempt.trial, None)
        if not still:
            self.look()
            return False
        self._end(attempt.trial, found)
        return True

    def report(self, attempt: Attempt, step: int, value: float) -> bool:
        """Write what an attempt reports, and whether that still counted."""
        with self.reaching(), suppress(UpdateFinishedTrialError):
            self.storage.set_trial_intermediate_value(attempt.trial_id, step, value)
            return True
        return False

    def abandon(self, attempt: Attempt, reason: str) -> None:
        """Leave the number of an attempt to whoever comes next."""
        self.end(attempt, Measurement(TrialState.FAIL, attributes={ABANDONED: reason}))

    def die(self, attempt: Attempt) -> None:
        """Write that a process died of an attempt."""
        self.end(attempt, Measurement(TrialState.FAIL))


class _Attributes(TypedDict, total=False):
    """What a trial holds of what is read again, by the names above."""

    architecture: dict[str, Any]
    cost: float | None
    mended: int
    metrics: dict[str, float]
    number: int
    standard_error: float


def sound(trial: FrozenTrial, objectives: int) -> FrozenTrial:
    """Return a trial from a storage, if it holds what a search writes.

    Raises
    ------
    StorageError
        Something in it is of another type, or there is not one value for each objective.
    """
    source = f"trial {trial.number}"
    names = _Attributes.__annotations__
    checked({k: told for k, told in trial.user_attrs.items() if k in names}, _Attributes, source)
    values = checked(trial.values or (), tuple[float, ...], source)
    checked(tuple(trial.intermediate_values.items()), tuple[tuple[int, float], ...], source)
    wanted = objectives if trial.state == TrialState.COMPLETE else len(values)
    if len(values) != wanted or number_of(trial) < 0:
        raise StorageError(
            f"{source} is number {number_of(trial)} and has {len(values)} values for {objectives} "
            "objectives: its storage is damaged; restore a copy, or begin in another one"
        )
    return trial


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
