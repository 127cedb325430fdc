"""``Driver``: hold a study, propose architectures in order, and have an executor evaluate them."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import optuna
from optuna.trial import FrozenTrial, TrialState

from ..errors import TrialError, UsageError
from ..mutable import Mutable, MutableExpression, Sample, Values
from ..mutable.random_words import words
from ..randomness import device_of, seed_of
from ..strategy import SearchState, Strategy
from ..strategy.base import unrestricted
from ..strategy.neighbours import Nearest, nearest
from .evaluation import NO_RECIPE, Job, Recipe, Reports, maker_of
from .ledger import FAILURE, Attempt, Ledger, Measurement, pauses
from .objectives import Objective
from .studies import quiet

if TYPE_CHECKING:
    from .remote import MakeExecutor

__all__ = ["Callback", "Driver", "Evaluate"]

_PATIENCE = 2.0
"""Seconds after which a pool is made to look whether its processes live."""

Evaluate = Callable[[Any, Sample], Any]
"""Takes a network and its architecture, and says how good they are."""

Callback = Callable[[optuna.Study, FrozenTrial], object]
"""Called after each trial, as Optuna calls them."""

_DIED = "the process that evaluated this architecture died, repeatedly"


@dataclass(eq=False)
class Driver:
    """Holds a study, alone or beside drivers elsewhere.

    Parameters
    ----------
    executor
        Evaluates; ``None`` for this process.
    make
        Makes the executor anew when it breaks; ``None`` if it is the caller's.
    slots
        How many trials are evaluated at once.
    ledger
        Of the study.
    space
        A space, or a restriction of one.
    evaluate
        ``evaluate(network, arch)``.
    strategy
        Proposes architectures.
    objectives
        What to look for.
    trials
        How many architectures to try.
    seed
        What everything random depends on.
    weights
        Of the networks: 'inherit', 'fresh', or 'none' for no network at all.
    failures
        How many trials may fail.
    patient
        Whether to go on although the first trials all failed for the same reason.
    callbacks
        Called after each trial of this driver.
    deadline
        When no further trial is begun any more, as ``time.monotonic()`` tells it.
    """

    executor: Executor | None
    make: MakeExecutor | None
    slots: int
    ledger: Ledger
    space: Any
    evaluate: Evaluate
    strategy: Strategy
    objectives: tuple[Objective, ...]
    trials: int
    seed: int
    weights: str
    failures: int
    patient: bool
    callbacks: Sequence[Callback]
    deadline: float | None

    def __post_init__(self) -> None:
        self.study = self.ledger.study
        self.base = unrestricted(self.space)
        self.cost = deciding_cost(self.space)
        self.costs = tuple(
            None if o.expression is None else o.expression * o.sign for o in self.objectives
        )
        self.allowed = self.ledger.failures + self.failures
        self.before = frozenset(t.number for t in self.ledger.trials() if t.state.is_finished())
        self.warned: set[str] = set()
        self.exhausted = False
        self.suspects: set[int] = set()
        self.unwatched = 0
        self.running: dict[Future[Any], Job] = {}
        self.recipe = Recipe(
            maker_of(self.base, self.weights),
            device_of(self.base),
            self.evaluate,
            tuple(Objective(o.name, o.direction) for o in self.objectives),
            self.seed,
            packed=self.executor is not None or self.ledger.networks.packed,
        )
        self.calls: Callable[[Job, bool], tuple[Any, ...]] | None = None
        self.has_taken = False
        self._writing = threading.Lock()

    def run(self) -> None:
        """Work until there is nothing left to do.

        Raises
        ------
        TrialError
            If too many trials have failed, or the executor is broken and cannot be made anew.
        UsageError
            If ``evaluate`` returns something that it must not, or cannot be sent to the executor.
        """
        with quiet(), self.ledger.open(), self._line() as line, self._stopping() as stopped:
            if self.executor is not None:
                from .remote import calls_of

                self.calls = calls_of(self.recipe, self.executor, line)
            try:
                self._work(stopped)
            except BaseException as error:
                try:
                    self._leave(f"interrupted by {type(error).__name__}")
                finally:
                    self._close(wait=False)
                raise
            self._close(wait=True)

    def _work(self, stopped: threading.Event) -> None:
        pause = pauses()
        while True:
            if error := self._verdict():
                raise error
            is_late = self.deadline is not None and time.monotonic() >= self.deadline
            ending = stopped.is_set() or is_late
            slots = 1 if self.suspects else self.slots
            if not ending and len(self.running) < slots and self._is_left():
                self._begin()
            elif self.running:
                done = self._wait()
                for future in sorted(done, key=lambda each: self.running[each].attempt.number):
                    self._ended(future)
                    if stopped.is_set():
                        break
            elif ending or not self.ledger.working:
                return
            else:
                # Others are at the last ones; should one of them die, somebody must take over.
                time.sleep(next(pause))
                self.ledger.look()

    def _wait(self) -> set[Future[Any]]:
        """Return the jobs that have ended, after waiting for one.

        The standard library's pool does not watch a process that it began for the last job given
        to it, until it is given another: one that dies early would never be missed.  So it is
        given something to do that takes no time, as often as it may begin a process by that.
        """
        while True:
            patience = _PATIENCE if self.unwatched else None
            done, _ = wait(self.running, timeout=patience, return_when=FIRST_COMPLETED)
            if done:
                return done
            self.unwatched -= 1
            with suppress(BrokenExecutor, RuntimeError):  # which the jobs under way tell as well
                cast(Executor, self.executor).submit(int)

    def _leave(self, reason: str) -> None:
        """Leave what is under way to whoever resumes the search."""
        for attempt in list(self.ledger.mine.values()):
            with suppress(Exception):  # the storage may be what has failed; then it is found dead
                self.ledger.abandon(attempt, reason)

    def _is_left(self) -> bool:
        """Whether a number is free, and an architecture for it."""
        if self.exhausted:
            return bool(self.ledger.to_repeat())
        return len(self.ledger.held) < self.trials

    @contextmanager
    def _stopping(self) -> Iterator[threading.Event]:
        """A context in which ``study.stop()`` ends this search, as it ends one of Optuna's."""
        stopped = threading.Event()
        vars(self.study)["stop"] = stopped.set
        try:
            yield stopped
        finally:
            del vars(self.study)["stop"]

    def _verdict(self) -> TrialError | None:
        """Return the error that ends the search, if too much has failed."""
        failures = self.ledger.failures
        too_many = failures >= self.allowed
        hopeless = not self.patient and failures and not self.ledger.history
        if not too_many and not hopeless:
            return None
        from .failures import verdict

        most = self.failures if too_many else None
        return verdict(self.ledger.trials(), self.before, most)

    # -- begin a trial --------------------------------------------------------------------------

    def _begin(self) -> None:
        """Take the next number, and have it evaluated."""
        ledger, number = self.ledger, self.ledger.free
        lost = ledger.lost.get(number)
        if lost is not None and lost.arch_id not in ledger.taken:
            values = self.base.read(lost.arch)
            found: Nearest | None = Nearest(lost.arch, lost.repaired, lost.arch_id, values)
        else:
            found = self._proposal(number)
        if found is None:
            self.exhausted = True
            return
        attempt = ledger.begin(number, found)
        if attempt is None:
            return
        if ledger.is_deadly(number):
            self.suspects.discard(number)
            self._tell(attempt, Measurement(TrialState.FAIL, attributes={FAILURE: _DIED}))
            return
        kept = self.ledger.networks
        known, cost = self._known(found.values)
        job = Job(attempt, known, cost, kept.count > 0, kept.worst)
        if self.calls is not None:
            self._submit(job, whole=not getattr(self.executor, "persistent", True))
            return
        reports = Reports(partial(self._decide, attempt.trial) if self._prunes else None)
        self._tell(attempt, self.recipe.run(job, reports))

    def _known(self, values: Values) -> tuple[dict[str, float], float | None]:
        """Return the objectives that follow from an architecture, and what decides between them."""
        known = {
            o.name: float(values(o.expression)) for o in self.objectives if o.expression is not None
        }
        return known, None if self.cost is None else float(values(self.cost))

    def _proposal(self, number: int) -> Nearest | None:
        """Return what the strategy proposes, or what is near it; ``None`` if nothing is left."""
        ledger = self.ledger
        seed = self.seed if self.strategy.seed is None else self.strategy.seed
        state = SearchState(
            space=self.space,
            history=ledger.history,
            taken=ledger.taken.keys(),
            number=number,
            seed=seed_of(seed, "search/propose", 0),
            objectives=len(self.objectives),
            costs=self.costs,
        )
        source = words(seed_of(self.seed, "search/mend", number))
        proposed = self.strategy.propose(state)
        if not isinstance(proposed, Mapping):
            raise UsageError(
                f"{type(self.strategy).__name__} is to propose a dict from label to value, but "
                f"proposed {proposed!r}"
            )
        return nearest(self.space, proposed, source, taken=state.taken)

    def _submit(self, job: Job, *, whole: bool) -> None:
        """Give a job to the executor; the recipe comes along where it may not be there."""
        assert self.calls is not None
        while True:
            assert self.executor is not None
            try:
                future = self.executor.submit(*self.calls(job, whole))
                if not isinstance(future, Future):
                    raise TypeError(f"submit() returned {future!r}, no future")
            except Exception as error:  # noqa: BLE001 - whatever its engine raises
                # What is under way was lost with it; if nothing is, that is no trial's fault.
                if self.running:
                    self._broken(error)
                else:
                    self._renew(error)
            else:
                self.has_taken = True
                self.running[future] = job
                if self._is_local:
                    self.unwatched = self.slots + 1
                return

    @property
    def _is_local(self) -> bool:
        """Whether jobs run in processes of this machine, which end with this one."""
        from ..executors import Processes

        return isinstance(self.executor, Processes)

    # -- end a trial ----------------------------------------------------------------------------

    def _ended(self, future: Future[Any]) -> None:
        """Take what came of a job, or find out what it died of."""
        job = self.running.get(future)
        if job is None:
            return  # its executor broke, and it was dealt with then
        found: Any
        error: BaseException | None
        try:
            found, error = future.result(), None
        except BaseException as raised:  # noqa: BLE001 - of the executor: a job itself raises nothing
            found, error = None, raised
        if isinstance(error, KeyboardInterrupt):
            raise error
        if isinstance(error, BrokenExecutor):
            self._broken(error)
            return
        del self.running[future]
        if error is not None:
            self.ledger.die(job.attempt)
        elif found == NO_RECIPE:
            self._submit(job, whole=True)
        elif not isinstance(found, Measurement):
            raise TrialError(
                f"{type(self.executor).__name__} gave {found!r} for a trial, which is not what the "
                "submitted function returned; what has been found is kept, for resume=True"
            )
        else:
            self.suspects.discard(job.attempt.number)
            self._tell(job.attempt, found)

    def _broken(self, error: BaseException) -> None:
        """Make the executor anew, and find out which trial broke it.

        Of a pool all trials are lost when one process dies.  So those that were under way are
        tried again one at a time; the one that breaks the pool alone is the culprit, and the
        others are cleared.
        """
        ended = [future for future in self.running if future.done()]
        # One that only asked for the recipe is under way like the others.
        for future in [f for f in ended if f.exception() is None and f.result() != NO_RECIPE]:
            self._ended(future)
        jobs, self.running = list(self.running.values()), {}
        self.suspects = {job.attempt.number for job in jobs}
        for job in jobs:
            if len(jobs) == 1:
                self.ledger.die(job.attempt)
            else:
                self.ledger.abandon(job.attempt, "the executor broke while several were under way")
        self._renew(error)

    def _tell(self, attempt: Attempt, found: Measurement) -> None:
        """Write down what came of a trial, and call back."""
        if found.weights is not None:
            self.ledger.networks.keep(attempt.number, found.weights)
        if len(self.objectives) > 1:
            found = replace(found, reports={})  # Optuna keeps them of a single objective
        # Where there is a pruner, each report was written down as it came.
        if self.ledger.end(attempt, found, reported=self._prunes):
            trial = self.ledger.trial(attempt)
            if FAILURE in found.attributes:
                from .failures import warn_of

                warn_of(self.study, trial, self.warned)
            for callback in self.callbacks:
                callback(self.study, trial)
        if found.fatal is not None:
            raise UsageError(found.fatal)

    # -- pruning --------------------------------------------------------------------------------

    @property
    def _prunes(self) -> bool:
        is_pruner = not isinstance(self.study.pruner, optuna.pruners.NopPruner)
        return is_pruner and len(self.objectives) == 1

    @contextmanager
    def _line(self) -> Iterator[Any]:
        """A context in which processes that evaluate can ask whether to go on with a trial."""
        if not self._prunes or self.executor is None:
            yield None
            return
        from .channel import PruningServer

        server = PruningServer(self._decide, local=self._is_local)
        try:
            yield server.client
        finally:
            server.close()

    def _decide(self, place: int, value: float, step: int) -> bool:
        """Write down what a trial reports, and ask the pruner."""
        attempt = self.ledger.mine.get(place)
        if attempt is None:
            return True  # nobody waits for it any more
        with self._writing:
            if not self.ledger.report(attempt, step, value):
                return True  # it was given up meanwhile
            return self.study.pruner.prune(self.study, self.ledger.trial(attempt))

    # -- the executor ---------------------------------------------------------------------------

    def _renew(self, error: BaseException) -> None:
        """Make a broken executor anew, unless it has never worked."""
        advice = "give a function that makes one, for the search to make it anew"
        if self.make is not None and not self.has_taken:
            advice = "it took no trial since it was made; make one that does"
        if self.make is None or not self.has_taken:
            raise TrialError(
                f"the executor is broken: {type(error).__name__}: {error}; {advice}; what has been "
                "found is kept, for resume=True"
            ) from error
        self._close(wait=False)
        self.executor = self.make()
        self.has_taken = False

    def _close(self, *, wait: bool) -> None:
        """End an executor that was made here; of the caller's, only what still runs."""
        for future in self.running:
            future.cancel()
        self.running = {}
        if self.executor is None or self.make is None:
            return
        known = getattr(self.executor, "_processes", None)  # as the standard library's and loky's
        processes = list(known.values()) if isinstance(known, dict) else []
        try:
            self.executor.shutdown(wait=wait)
        except Exception as error:  # noqa: BLE001 - of its engine; the trials have ended
            warnings.warn(f"the executor could not be shut down: {error!r}", stacklevel=2)
        for process in [] if wait else processes:
            # By its number: not every pool's processes have a way to be killed.
            with suppress(OSError):
                os.kill(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            process.join()


def deciding_cost(space: Any) -> MutableExpression[Any] | None:
    """Return the cost that decides between equal scores: that of the space's first budget.

    ``None`` if the space is not restricted by one; then the number of parameters decides.
    """
    for condition in getattr(space, "conditions", ()):
        limit: Any = getattr(condition, "expression", None)
        name = getattr(getattr(limit, "operator", None), "name", "")
        if name in ("le", "lt", "ge", "gt"):
            smaller, larger = limit.arguments if name in ("le", "lt") else limit.arguments[::-1]
            if isinstance(smaller, MutableExpression) and not isinstance(larger, Mutable):
                return smaller
    return None
