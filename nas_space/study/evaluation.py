"""What happens where a trial is evaluated: in this process, or in one that an executor runs.

A *recipe* says how networks are made and what evaluates them; of each trial there is a *job* (an
architecture, and its number), and a *measurement* comes back.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextvars import ContextVar
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import optuna
import torch
from optuna.trial import TrialState
from torch import Tensor

from ..errors import UsageError
from ..mutable import Sample
from ..randomness import device_of, preserved_randomness, seed_globally
from .ledger import COST, ERROR, FAILURE, METRICS, Attempt, Measurement
from .objectives import Objective, measured, ranking

__all__ = [
    "NO_RECIPE",
    "Evaluator",
    "Job",
    "Recipe",
    "Reports",
    "make_network",
    "maker_of",
]

LONGEST = 20_000
"""Characters of a traceback that are kept, from its end."""

NO_RECIPE = "no recipe"
"""What comes back of a job whose recipe is neither in the process that has it nor came along."""


@dataclass(frozen=True)
class Reports:
    """What a trial has reported.

    Attributes
    ----------
    ask
        Tells a value and its step, and gives whether the trial is to end; ``None`` where nothing
        ends trials early.
    values
        Step to value.
    """

    ask: Callable[[float, int], bool] | None = None
    values: dict[int, float] = field(default_factory=dict)


REPORTS: ContextVar[Reports | None] = ContextVar("reports", default=None)
"""Those of the trial that is evaluated here."""


class Evaluator:
    """What evaluates trials, and can tell beforehand whether it will be able to."""

    def check(self, space: Any) -> None:
        """Refuse a space whose networks cannot be evaluated, before a search begins."""


def maker_of(space: Any, weights: str) -> Callable[[Sample], Any]:
    """Return what makes networks of architectures; it holds all that a process needs for that.

    Parameters
    ----------
    space
        The space: itself for its weights; for fresh ones, its class and arguments are enough.
    weights
        Of the networks: 'inherit', 'fresh', or 'none' for no network at all.
    """
    if weights == "inherit":
        made: Callable[[Sample], Any] = space.freeze
        return made
    if weights == "fresh":
        return partial(_fresh, (type(space), *space._arguments), device_of(space))
    return _no_network


def _fresh(recipe: tuple[Any, Any, Any], device: torch.device, arch: Sample) -> Any:
    space, positional, keyword = recipe
    return space.frozen_factory(arch)(*positional, **keyword).to(device)


def _no_network(_: Sample) -> None:
    return None


def make_network(space: Any, arch: Sample, weights: str) -> Any:
    """Return the network of an architecture, with weights as they are asked for."""
    return maker_of(space, weights)(arch)


@dataclass(frozen=True)
class Job:
    """One trial.

    Attributes
    ----------
    attempt
        Its number and its architecture.
    known
        Objectives that follow from the architecture.
    cost
        What decides between equal scores; by default the number of parameters.
    keep
        Whether the weights of a network that ranks before ``worst`` are wanted.
    worst
        The rank that it must be better than, if any.
    """

    attempt: Attempt
    known: dict[str, float]
    cost: float | None
    keep: bool
    worst: tuple[float, ...] | None


@dataclass(frozen=True)
class Recipe:
    """How trials are evaluated: the same for all of a search.

    Attributes
    ----------
    network
        Makes the network of an architecture.
    device
        Where.
    evaluate
        ``evaluate(network, arch)``.
    objectives
        What it measures, and what is known, in their order.
    seed
        What everything random depends on.
    packed
        Whether weights are wanted as bytes, to be sent or written, not as they are.
    """

    network: Callable[[Sample], Any]
    device: torch.device
    evaluate: Any
    objectives: tuple[Objective, ...]
    seed: int
    packed: bool

    def run(self, job: Job, reports: Reports, *, sent: bool = False) -> Measurement:
        """Evaluate an architecture; whatever it runs into is told by what is returned.

        Parameters
        ----------
        job, reports
            What to evaluate, and what takes values meanwhile.
        sent
            Whether the job came from a driver elsewhere.  In the driver's own process whoever
            exits means the search: a handler of SIGTERM does so where a machine is about to be
            taken away, and the trial is to be done again.
        """
        fatal = None
        try:
            return self._measure(job, reports)
        except optuna.TrialPruned:
            return Measurement(TrialState.PRUNED, reports=reports.values)
        except UsageError as error:
            failure = traceback.format_exc()
            fatal = str(error) if getattr(error, "is_fatal", False) else None
        except BaseException as error:  # whatever a network may run into, or that it exits
            if isinstance(error, KeyboardInterrupt if sent else (KeyboardInterrupt, SystemExit)):
                raise
            failure = traceback.format_exc()
        # Outside of the handler: the frames of the failure, and what they hold, are gone.
        torch.cuda.empty_cache()  # does nothing where CUDA is not in use
        told = {FAILURE: failure[-LONGEST:]}
        return Measurement(TrialState.FAIL, None, told, reports.values, fatal=fatal)

    def _measure(self, job: Job, reports: Reports) -> Measurement:
        device, number, arch = self.device, job.attempt.number, job.attempt.arch
        with preserved_randomness(device):
            seed_globally(self.seed, "search/evaluate", number, device)
            network = self.network(arch)
            cost = job.cost
            if cost is None and network is not None:
                cost = float(sum(p.numel() for p in network.parameters()))
            before = REPORTS.set(reports)
            try:
                returned = self.evaluate(network, dict(arch))
            finally:
                REPORTS.reset(before)
        try:
            asked = [o for o in self.objectives if o.name not in job.known]
            numbers = {**measured(asked, returned), **job.known}
        except UsageError as error:
            error.is_fatal = True  # type: ignore[attr-defined]
            raise
        values = [numbers.pop(objective.name) for objective in self.objectives]
        rank = ranking(self.objectives, values, cost, number)
        wanted = job.keep and network is not None and (job.worst is None or rank < job.worst)
        weights = self._state(network) if wanted else None
        told = {ERROR: numbers.pop(ERROR, None), METRICS: numbers or None, COST: cost}
        attributes = {name: content for name, content in told.items() if content is not None}
        return Measurement(TrialState.COMPLETE, values, attributes, reports.values, weights)

    def _state(self, network: Any) -> Any:
        """Return the weights and buffers of a network as they are now, whatever becomes of it."""
        state = network.state_dict()
        if not self.packed:
            return {
                name: value.to("cpu", copy=True) if isinstance(value, Tensor) else deepcopy(value)
                for name, value in state.items()
            }
        from ..training import dump_state

        return dump_state(state)
