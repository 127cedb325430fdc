"""Several processes on this machine, each a worker at the same study."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import optuna
import torch

from ..errors import NasSpaceError, TrialError, UsageError
from .ledger import counts, pauses
from .storage import open_storage, open_study, quiet
from .worker import Callback, Settings, Worker

__all__ = ["Team"]

_CRASHES = 5
"""Processes that may die in a row, for each worker, with nothing finished in between."""

_PATIENCE = 5.0
"""Seconds that processes have to end when they are asked to."""


@dataclass(frozen=True)
class _Order:
    """What a process is sent out with."""

    settings: Settings
    address: str
    name: str
    pruner: optuna.pruners.BasePruner
    allowed: int
    before: frozenset[int]
    threads: int


class Team:
    """Processes that evaluate side by side, and this one, which looks after them.

    A process that is killed is replaced, and its trial is run again by another one.

    Parameters
    ----------
    study
        Of Optuna, at an address that the processes can open, too.
    settings
        What to do.
    address
        Of the storage.
    workers
        How many processes.
    callbacks
        Called here, after each trial of any of them.
    timeout
        Seconds after which no further trial is begun.
    """

    def __init__(
        self,
        study: optuna.Study,
        settings: Settings,
        address: str,
        workers: int,
        callbacks: Sequence[Callback] = (),
        timeout: float | None = None,
    ) -> None:
        self.study = study
        self.workers = workers
        self.callbacks = callbacks
        self.deadline = None if timeout is None else time.monotonic() + timeout
        # What this one would do alone: it knows when the search is done.
        self.model = Worker(study, settings)
        self.order = _Order(
            settings,
            address,
            study.study_name,
            study.pruner,
            self.model.allowed,
            self.model.before,
            max(1, (os.cpu_count() or 1) // workers),
        )
        self.seen = {t.number for t in self.model.ledger.trials() if t.state.is_finished()}
        self.team: dict[SpawnProcess, Connection] = {}
        self.crashes = 0

    def run(self) -> None:
        """Work until there is nothing left to do.

        Raises
        ------
        TrialError
            If too many trials have failed, or processes keep dying.
        UsageError
            If what they need cannot be sent to them, or ``evaluate`` returns no number.
        """
        with tempfile.TemporaryDirectory() as folder, quiet():
            file = Path(folder, "order")
            _write(self.order, file)
            try:
                for _ in range(self.workers):
                    self._start(file)
                for pause in pauses():
                    self._call_back()
                    for process in [p for p in self.team if p.exitcode is not None]:
                        self._ended(process, file)
                    if not self.team:
                        break
                    time.sleep(min(pause, 0.1))
                self._call_back()
            finally:
                self._dismiss()

    def _start(self, file: Path) -> None:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe(duplex=False)
        left = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
        process = context.Process(target=_work, args=(str(file), there, left), daemon=False)
        process.start()
        there.close()
        self.team[process] = here

    def _ended(self, process: SpawnProcess, file: Path) -> None:
        """Look why a process has ended, and send another one if it was killed."""
        line = self.team.pop(process)
        error: Any = None
        with suppress(EOFError):
            error = line.recv()
        line.close()
        if isinstance(error, BaseException):
            raise error
        if process.exitcode == 0:
            return
        self.crashes += 1
        if self.crashes > _CRASHES * self.workers:
            raise TrialError(
                f"processes keep dying, the last with the exit code {process.exitcode} "
                "(-9 means that it was killed, perhaps because memory ran out); use fewer "
                "workers, or workers=1 to see where it happens"
            )
        self._start(file)

    def _call_back(self) -> None:
        finished = [
            trial
            for trial in self.model.ledger.trials()
            if trial.state.is_finished() and trial.number not in self.seen
        ]
        for trial in finished:
            self.seen.add(trial.number)
            if counts(trial):
                self.crashes = 0
                for callback in self.callbacks:
                    callback(self.study, trial)

    def _dismiss(self) -> None:
        """End what still runs; what it was at is abandoned, and free for others."""
        for process in self.team:
            process.terminate()
        until = time.monotonic() + _PATIENCE
        for process, line in self.team.items():
            process.join(max(0.0, until - time.monotonic()))
            if process.exitcode is None:
                process.kill()
                process.join()
            line.close()
        self.team.clear()
        self.model.ledger.look()  # frees what they had


def _write(order: _Order, file: Path) -> None:
    try:
        # By a file, not through shared memory, of which containers have little.
        torch.save(order, file)
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        raise UsageError(
            f"what several workers need cannot be sent to them: {error}; define evaluate, and the "
            "classes of the space, at the top level of a module, or use workers=1"
        ) from error


def _work(file: str, line: Connection, timeout: float | None) -> None:
    """What a process does."""
    try:
        order: _Order = torch.load(file, weights_only=False)  # our own, just written
        torch.set_num_threads(order.threads)
        study = open_study(
            open_storage(order.address), order.name, order.settings.objectives, order.pruner
        )
        Worker(study, order.settings, (), timeout, allowed=order.allowed, before=order.before).run()
    except KeyboardInterrupt:
        pass  # the other processes have it too
    except NasSpaceError as error:
        line.send(error)
    except Exception as error:  # noqa: BLE001 - told by the process that waits for this one
        line.send(
            UsageError(
                f"a worker ended with {type(error).__name__}: {error}\n{traceback.format_exc()}"
            )
        )
    finally:
        line.close()
