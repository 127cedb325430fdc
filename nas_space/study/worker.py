"""One process that evaluates architectures until a search is done."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import nsmallest
from typing import Any, NoReturn

import optuna
import torch
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState
from torch import nn

from ..errors import TrialError, UsageError
from ..mutable import Mutable, MutableExpression, Sample
from ..mutable.random_words import words
from ..strategy import SearchState, Strategy
from ..strategy.neighbours import nearest
from ..training.fabric import device_of
from ..training.randomness import preserved_randomness, seed_globally, seed_of
from ..training.scoring import STANDARD_ERROR
from .failures import all_alike, failure_error
from .fingerprint import unrestricted
from .intermediate import reporting_to
from .ledger import (
    ABANDONED,
    ARCHITECTURE,
    COST,
    ERROR,
    FAILURE,
    METRICS,
    Ledger,
    LedgerSnapshot,
    counts,
    number_of,
    pauses,
)
from .networks import KeptNetworks
from .objectives import Objective, Unusable, measured, ranking
from .storage import quiet

__all__ = ["Callback", "Settings", "Worker"]

Evaluate = Callable[[Any, Sample], Any]
"""Takes a network and its architecture, and says how good they are."""

Callback = Callable[[optuna.Study, FrozenTrial], object]
"""Called after each trial, as Optuna calls them."""

_LONGEST = 20_000
"""Characters of a traceback that are kept, from its end."""


@dataclass(frozen=True)
class Settings:
    """What to do: the same for all workers of a search.

    Attributes
    ----------
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
    failures
        How many may fail.
    weights
        Of the networks: 'inherit', 'fresh', or 'none' for no network at all.
    networks
        Where the networks of the best trials are kept.
    patient
        Whether to go on although the first trials all failed for the same reason.
    """

    space: Any
    evaluate: Evaluate
    strategy: Strategy
    objectives: tuple[Objective, ...]
    trials: int
    seed: int
    failures: int
    weights: str
    networks: KeptNetworks
    patient: bool = False

    @cached_property
    def costs(self) -> tuple[Any, ...]:
        """The expression of each objective that has one, of which more is better."""
        return tuple(
            None if o.expression is None else o.expression * o.sign for o in self.objectives
        )


class AttemptAbandoned(Exception):  # noqa: N818 - not an error
    """An attempt that comes to nothing, and is not counted."""


class Failed(Exception):  # noqa: N818 - not an error of the search
    """An evaluation that failed, whose traceback is recorded."""


class Worker:
    """Evaluates architectures of a study, alone or beside others.

    Parameters
    ----------
    study
        Of Optuna.
    settings
        What to do.
    callbacks
        Called after each trial of this worker.
    timeout
        Seconds after which no further trial is begun.
    allowed
        With how many failures in the whole study the search gives up; by default with so
        many more than there are now as the settings say.
    before
        The trials that had ended when the search was begun or resumed; by default when this is
        made.
    """

    def __init__(
        self,
        study: optuna.Study,
        settings: Settings,
        callbacks: Sequence[Callback] = (),
        timeout: float | None = None,
        *,
        allowed: int | None = None,
        before: frozenset[int] | None = None,
    ) -> None:
        self.study = study
        self.settings = settings
        self.callbacks = callbacks
        self.base = unrestricted(settings.space)
        self.ledger = Ledger(study, settings.space, settings.objectives)
        self.deadline = None if timeout is None else time.monotonic() + timeout
        failed = self.ledger.look().failures
        self.allowed = failed + settings.failures if allowed is None else allowed
        ended = frozenset(t.number for t in self.ledger.trials() if t.state.is_finished())
        self.before = ended if before is None else before
        self.cost = deciding_cost(settings.space)
        self._worst_kept: tuple[float, ...] | None = None
        self._kept: set[int] = set()
        self.exhausted = False
        self.error: Exception | None = None
        self.current: int | None = None
        self.ample = False

    def run(self) -> None:
        """Work until there is nothing left to do.

        Raises
        ------
        TrialError
            If too many trials have failed.
        UsageError
            If ``evaluate`` returns something that it must not.
        """
        with quiet(), self.ledger.open():
            while self._go_on():
                try:
                    self.study.optimize(
                        self._attempt,
                        catch=(Exception,),
                        callbacks=[self._call_back, self._stop_at_end],
                    )
                    break  # a callback said so, or there is nothing left to do
                except Exception as error:
                    # Optuna stumbles, in several ways, where a trial ends otherwise than by it.
                    if isinstance(error.__context__, KeyboardInterrupt):
                        raise KeyboardInterrupt from None
                    if not self._was_taken_away():
                        raise
        if self.error is not None:
            raise self.error

    # -- between attempts -----------------------------------------------------------------------

    def _go_on(self) -> bool:
        """Whether there is something to do; waits until that is known."""
        for pause in pauses():
            snapshot = self.ledger.look()
            if self.error is None:
                self.error = self._verdict(snapshot)
            if self.error is not None or snapshot.finished >= self.settings.trials:
                return False
            if self.deadline is not None and time.monotonic() >= self.deadline:
                return False
            left = self.settings.trials - len(snapshot.held)
            if self.exhausted:
                left = len(snapshot.to_repeat())
            if left > len(snapshot.choosing):
                return True
            if not snapshot.choosing and not snapshot.working:
                return False
            # Others are at the last ones; should one of them die, somebody must take over.
            time.sleep(pause)
        raise AssertionError("pauses never end")

    def _stop_at_end(self, study: optuna.Study, trial: FrozenTrial) -> None:
        late = self.deadline is not None and time.monotonic() >= self.deadline
        # Far from the end, the next attempt looks soon enough.
        if (late or not self.ample or trial.state == TrialState.FAIL) and not self._go_on():
            study.stop()

    def _call_back(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.current = None
        if trial.number in self._kept:
            self._kept.discard(trial.number)
            self._drop_networks()
        if counts(trial):
            for callback in self.callbacks:
                callback(study, trial)

    def _was_taken_away(self) -> bool:
        """Whether the present attempt was declared abandoned by another worker."""
        return self.current is not None and any(
            t.number == self.current and t.state == TrialState.FAIL for t in self.ledger.trials()
        )

    def _verdict(self, snapshot: LedgerSnapshot) -> TrialError | None:
        """Return the error that ends the search, if too much has failed."""
        hopeless = not self.settings.patient and snapshot.failures and not snapshot.history
        if snapshot.failures < self.allowed and not hopeless:
            return None
        ended = [t for t in self.ledger.trials() if t.state.is_finished() and counts(t)]
        failed = [trial for trial in ended if FAILURE in trial.user_attrs]
        if snapshot.failures >= self.allowed:
            return failure_error(
                f"{self.settings.failures} trials have failed, so the search ends",
                failed,
                f"Each trial's traceback is in its attribute {FAILURE!r}; what has been found is "
                "kept. Resume with a larger `failures` to go on all the same",
            )
        new = [trial for trial in ended if trial.number not in self.before]
        if len(failed) == len(ended) and all_alike(new):
            return failure_error(
                "the first trials have all failed for the same reason, so the search ends",
                [trial for trial in failed if trial.number not in self.before],
                "Mend it and resume; or say by `failures` how many may fail, to go on all the same",
            )
        return None

    # -- one attempt ------------------------------------------------------------------------------

    def _attempt(self, trial: Trial) -> list[float]:
        self.current = trial.number
        try:
            self.ledger.sign(trial)
            snapshot = self.ledger.turn(trial)
            number, arch = self._claim(trial, snapshot)
        except (AttemptAbandoned, UpdateFinishedTrialError):
            raise
        except Exception as error:
            # Not the architecture's fault, so it would happen again and again.
            self.error = error
            raise
        except BaseException:
            self._interrupted(trial)
            raise
        try:
            if snapshot.is_deadly(number):
                raise Unusable("the process that evaluated this architecture died, repeatedly")
            return self._evaluate(trial, number, arch)
        except (optuna.TrialPruned, UpdateFinishedTrialError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever a network may run into
            trial.set_user_attr(FAILURE, traceback.format_exc()[-_LONGEST:])
            reason = f"{type(error).__name__}: {error}"
        except BaseException:
            self._interrupted(trial)
            raise
        # Outside of the handler: the frames of the failure, and what they hold, are gone.
        torch.cuda.empty_cache()  # does nothing where CUDA is not in use
        raise Failed(reason)

    def _interrupted(self, trial: Trial) -> None:
        """Leave the attempt to whoever resumes the search."""
        trial.set_user_attr(ABANDONED, "interrupted")
        if not isinstance(sys.exception(), KeyboardInterrupt):  # of which Optuna takes care
            self.study.tell(trial, state=TrialState.FAIL)

    def _claim(self, trial: Trial, snapshot: LedgerSnapshot) -> tuple[int, Sample]:
        """A number and an architecture that nobody else has."""
        settings = self.settings
        number = snapshot.free
        if snapshot.failures >= self.allowed:
            self._give_up(trial, "too many others have failed")
        if number >= settings.trials:
            self._give_up(trial, "there were enough already")
        others = snapshot.working + len(snapshot.choosing)
        self.ample = settings.trials - len(snapshot.held) > 2 * others + 2
        arch, repaired = snapshot.lost.get(number, ({}, 0))
        if number not in snapshot.lost or settings.space.arch_id(arch) in snapshot.taken:
            own = settings.strategy.seed
            seed = settings.seed if own is None else own
            state = SearchState(
                space=settings.space,
                history=snapshot.history,
                taken=frozenset(snapshot.taken),
                number=number,
                seed=seed_of(seed, "search/propose", 0),
                objectives=len(settings.objectives),
                costs=settings.costs,
            )
            source = words(seed_of(settings.seed, "search/mend", number))
            found = nearest(
                settings.space, settings.strategy.propose(state), source, taken=state.taken
            )
            if found is None:
                self.exhausted = True
                self._give_up(trial, "no architecture is left")
            arch, repaired = settings.space.canonical(found[0]), found[1]
        self.ledger.publish(trial, number, arch, repaired)
        return number, arch

    def _give_up(self, trial: Trial, reason: str) -> NoReturn:
        trial.set_user_attr(ABANDONED, reason)
        raise AttemptAbandoned(reason)

    def _evaluate(self, trial: Trial, number: int, arch: Sample) -> list[float]:
        objectives = self.settings.objectives
        read = self.base.read(arch)
        known = {o.name: float(read(o.expression)) for o in objectives if o.expression is not None}
        device = device_of(self.base)
        with preserved_randomness(device), reporting_to(trial):
            seed_globally(self.settings.seed, "search/evaluate", number, device)
            network = make_network(self.base, arch, self.settings.weights)
            parameters = 0 if network is None else sum(p.numel() for p in network.parameters())
            returned = self.settings.evaluate(network, dict(arch))
        try:
            numbers = {**measured(objectives, returned), **known}
        except UsageError as error:
            self.error = error  # the next architecture would fare no better
            raise
        values = [numbers.pop(objective.name) for objective in objectives]
        if STANDARD_ERROR in numbers:
            trial.set_user_attr(ERROR, numbers.pop(STANDARD_ERROR))
        if numbers:
            trial.set_user_attr(METRICS, numbers)
        cost = None
        if self.cost is not None:
            cost = float(read(self.cost))
        elif network is not None:
            cost = float(parameters)
        if cost is not None:
            trial.set_user_attr(COST, cost)
        if network is not None:
            self._keep(trial, number, network, ranking(objectives, values, cost, number))
        return values

    # -- networks -------------------------------------------------------------------------------

    def _keep(self, trial: Trial, number: int, network: nn.Module, rank: tuple[float, ...]) -> None:
        """Keep a network that is among the best so far."""
        kept = self.settings.networks
        # The worst that is kept only gets better: what was not good enough once need not be
        # compared with all trials again.
        if kept.count and (self._worst_kept is None or rank < self._worst_kept):
            best = nsmallest(kept.count, self._ranks())
            if len(best) == kept.count:
                self._worst_kept = best[-1]
            if len(best) < kept.count or rank < best[-1]:
                kept.keep(number, network)
                self._kept.add(trial.number)

    def _drop_networks(self) -> None:
        """Drop the networks that are not among the best any more, or whose trial failed."""
        kept = self.settings.networks
        best = {int(rank[-1]) for rank in nsmallest(kept.count, self._ranks())}
        ended = {number_of(t) for t in self.ledger.trials() if t.state.is_finished() and counts(t)}
        kept.keep_only(best, ended)

    def _ranks(self) -> Iterator[tuple[float, ...]]:
        for trial in self.ledger.trials():
            if trial.state == TrialState.COMPLETE and ARCHITECTURE in trial.user_attrs:
                cost = trial.user_attrs.get(COST)
                yield ranking(self.settings.objectives, trial.values, cost, number_of(trial))


def deciding_cost(space: Any) -> MutableExpression[Any] | None:
    """Return the cost that decides between equal scores: that of the space's first budget.

    ``None`` if the space is not restricted by one; then the number of parameters decides.
    """
    for condition in getattr(space, "conditions", ()):
        expression = getattr(condition, "expression", None)
        operator = getattr(expression, "operator", None)
        if operator is None or expression is None or len(expression.arguments) != 2:
            continue
        smaller, larger = expression.arguments
        if operator.name in ("ge", "gt"):
            smaller, larger = larger, smaller
        limited = operator.name in ("le", "lt", "ge", "gt") and not isinstance(larger, Mutable)
        if limited and isinstance(smaller, MutableExpression):
            return smaller
    return None


def make_network(space: Any, arch: Sample, weights: str) -> Any:
    """The network of an architecture, with weights as they are asked for."""
    if weights == "none":
        return None
    if weights == "inherit":
        return space.freeze(arch)
    positional, keyword = space._arguments
    network = type(space).frozen_factory(arch)(*positional, **keyword)
    return network.to(device_of(space))
