"""``SharedLedger``: the trials of a study in a storage, which several drivers may add to.

An attempt is written whole, with its number and architecture, in one transaction, and Optuna
numbers attempts in the order in which they were written.  So who has written one sees all earlier
ones, and gives way if one of them has the same number or architecture: no two try the same, on any
storage, without a lock.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from ..errors import StorageError
from . import signs
from .ledger import (
    ABANDONED,
    ARCHITECTURE,
    REPAIRED,
    Attempt,
    Ledger,
    Measurement,
    counts,
    number_of,
    sound,
)
from .networks import KeptNetworks
from .objectives import Objective
from .storage import Storage, file_of, reading, unreachable

if TYPE_CHECKING:
    from ..strategy.neighbours import Nearest

__all__ = ["WORKER", "SharedLedger"]

ALIVE = "alive"
"""Counts the signs of life of the driver that has the trial."""

ELSEWHERE = "elsewhere"
"""Whether another process than the driver's evaluates the trial, so that it may outlive it."""

WORKER = "worker"
"""Which driver it is that has the trial."""

_GAVE_WAY = "another had the same number or architecture"


class SharedLedger(Ledger):
    """What was seen once is not read again.

    Parameters
    ----------
    study, objectives, networks
        As of :class:`.ledger.Ledger`.
    space
        What is searched, by which stored architectures are read.
    storage
        Its address, for messages.
    elsewhere
        Whether other processes than this one evaluate.
    """

    def __init__(
        self,
        study: optuna.Study,
        objectives: tuple[Objective, ...],
        networks: KeptNetworks,
        space: Any,
        storage: Storage,
        *,
        elsewhere: bool,
    ) -> None:
        super().__init__(study, objectives, networks)
        self.me = signs.new_name()
        self._space = space
        self._address = storage
        file = file_of(storage)
        # An address may end in options of SQLite's, and is the name of no file then.
        self._file = file.absolute() if file is not None and file.exists() else None
        self._elsewhere = elsewhere
        self._seen = 0
        self._signs: dict[tuple[int, int], float] = {}
        self.look()

    @contextmanager
    def open(self) -> Iterator[None]:
        """Enter a context in which this driver gives signs of life.

        Raises
        ------
        StorageError
            In place of what Optuna raises if the storage fails.
        """
        try:
            with signs.living(self.me, self._give_sign):
                yield
        except StorageInternalError as error:
            raise unreachable(self._address, error) from error

    def reaching(self) -> AbstractContextManager[object]:
        # SQLite goes on with a file that has been removed, and all is lost when it is closed.
        if self._file is not None and not self._file.exists():
            raise StorageError(
                f"{self._file} has been removed while a search kept its trials there: restore a "
                "copy and resume, or begin anew in another place"
            )
        return reading(self._address)

    def _give_sign(self, number: int) -> None:
        for attempt in list(self.mine.values()):
            with suppress(Exception):  # it is over already, or the storage is out of reach
                self.storage.set_trial_user_attr(attempt.trial_id, ALIVE, number)

    def look(self) -> None:
        """See what has changed; what dead drivers have left is freed on the way."""
        with reading(self._address):
            trials = self.trials()
            new, self._seen = range(self._seen, len(trials)), len(trials)
            for place in [*sorted(self.working), *new]:
                self._note(trials[place], is_new=place in new)

    def _note(self, trial: FrozenTrial, *, is_new: bool) -> None:
        """Take up what a trial is now."""
        place, told = trial.number, trial.user_attrs
        if trial.state == TrialState.RUNNING and not self._lives(trial):
            trial = self._released(trial)
            told = trial.user_attrs
        if is_new and (ARCHITECTURE not in told or told.get(ABANDONED) == _GAVE_WAY):
            return  # not one of the search
        sound(trial, len(self.objectives))
        if is_new:
            arch = self._space.canonical(told[ARCHITECTURE])
            taken = arch, self._space.arch_id(arch), int(told.get(REPAIRED, 0))
            self._begin(Attempt(place, trial._trial_id, number_of(trial), *taken))
        if trial.state.is_finished():
            if place not in self.working and counts(trial):
                raise StorageError(
                    f"trial {place} has the number or the architecture of an earlier one: the "
                    "storage is damaged; restore a copy"
                )
            came = Measurement(trial.state, trial.values, told, trial.intermediate_values)
            self._end(place, came)

    def begin(self, number: int, found: Nearest) -> Attempt | None:
        attributes: dict[str, Any] = {WORKER: self.me}
        if self._elsewhere:
            attributes[ELSEWHERE] = True
        attempt = self._write(attributes, number, found)
        place = attempt.trial
        if place == self._seen and self.working.keys() <= self.mine.keys():
            # Nobody else is at the study, so nothing has changed but by us: to read all trials
            # again would take the longer, the more there are.
            self._seen += 1
            self._begin(attempt)
        else:
            self.look()
        if place in self.working:
            return attempt
        self.abandon(attempt, _GAVE_WAY)
        return None

    def _released(self, trial: FrozenTrial) -> FrozenTrial:
        """Declare an attempt abandoned whose driver is no more."""
        trial_id = trial._trial_id
        with suppress(UpdateFinishedTrialError):  # another driver has seen it, too
            if ELSEWHERE in trial.user_attrs:
                self.storage.set_trial_user_attr(trial_id, ABANDONED, "its driver has ended")
            self.storage.set_trial_state_values(trial_id, TrialState.FAIL)
        return self.storage.get_trial(trial_id)

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
