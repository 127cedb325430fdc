"""What happens where a trial is evaluated: in this process, or in one that an executor runs.

A process is sent a *recipe* once (how networks are made and what evaluates them), and a *job* for
each trial (an architecture, and its number); a *measurement* comes back.
"""

from __future__ import annotations

import hashlib
import pickle
import traceback
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import optuna
import torch

from ..errors import UsageError
from ..mutable import Sample
from ..training import dump_state
from ..training.fabric import device_of
from ..training.randomness import preserved_randomness, seed_globally
from .intermediate import Reports, reporting_to
from .objectives import Objective, measured, ranking

if TYPE_CHECKING:
    from .channel import PruningClient

__all__ = [
    "Evaluator",
    "Job",
    "Measurement",
    "NetworkSource",
    "Recipe",
    "SentRecipe",
    "make_network",
]

_LONGEST = 20_000
"""Characters of a traceback that are kept, from its end."""


class Evaluator:
    """What evaluates trials, and can tell beforehand whether it will be able to."""

    def check(self, space: Any) -> None:
        """Refuse a space whose networks cannot be evaluated, before a search begins."""
        raise NotImplementedError


@dataclass(frozen=True)
class NetworkSource:
    """All that a process needs of a space to make its networks.

    Attributes
    ----------
    weights
        Of the networks: 'inherit', 'fresh', or 'none' for no network at all.
    space
        The space, for its weights.
    recipe
        Its class and arguments, which are enough for fresh weights.
    device
        Where networks are made.
    """

    weights: str
    space: Any
    recipe: tuple[Any, tuple[Any, ...], dict[str, Any]] | None
    device: torch.device

    @classmethod
    def of(cls, space: Any, weights: str) -> NetworkSource:
        """Return that of a space."""
        recipe = (type(space), *space._arguments) if weights == "fresh" else None
        return cls(weights, space if weights == "inherit" else None, recipe, device_of(space))

    def network(self, arch: Sample) -> Any:
        """Return the network of an architecture."""
        if self.space is not None:
            return self.space.freeze(arch)
        if self.recipe is None:
            return None
        space, positional, keyword = self.recipe
        return space.frozen_factory(arch)(*positional, **keyword).to(self.device)


def make_network(space: Any, arch: Sample, weights: str) -> Any:
    """Return the network of an architecture, with weights as they are asked for."""
    return NetworkSource.of(space, weights).network(arch)


@dataclass(frozen=True)
class Job:
    """One trial.

    Attributes
    ----------
    attempt
        The number of Optuna's trial: no two jobs of a search are the same.
    number, arch
        Its place in the search, and its architecture.
    known
        Objectives that follow from the architecture.
    cost
        What decides between equal scores; by default the number of parameters.
    keep
        Whether the weights of a network that ranks before ``worst`` are wanted.
    worst
        The rank that it must be better than, if any.
    """

    attempt: int
    number: int
    arch: Sample
    known: dict[str, float]
    cost: float | None
    keep: bool
    worst: tuple[float, ...] | None


@dataclass(frozen=True)
class Measurement:
    """What came of a job.

    Attributes
    ----------
    values
        Of the objectives, in their order, if it is complete.
    numbers
        What else was measured.
    cost
        What decides between equal scores.
    reports
        Step to what was reported then.
    weights
        Of the network, as :func:`~nas_space.training.save_state` writes them, if they are wanted.
    pruned
        Whether it was stopped early.
    failure
        The traceback, if it failed.
    fatal
        Why the next job would fare no better.
    """

    values: list[float] | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    cost: float | None = None
    reports: dict[int, float] = field(default_factory=dict)
    weights: bytes | None = None
    pruned: bool = False
    failure: str | None = None
    fatal: str | None = None


@dataclass(frozen=True)
class Recipe:
    """How trials are evaluated: the same for all of a search.

    Attributes
    ----------
    networks
        Makes networks.
    evaluate
        ``evaluate(network, arch)``.
    objectives
        What it measures, and what is known, in their order.
    seed
        What everything random depends on.
    """

    networks: NetworkSource
    evaluate: Any
    objectives: tuple[Objective, ...]
    seed: int

    def run(self, job: Job, reports: Reports) -> Measurement:
        """Evaluate an architecture; whatever it runs into is told by what is returned."""
        fatal = None
        try:
            return replace(self._measure(job, reports), reports=reports.values)
        except optuna.TrialPruned:
            return Measurement(reports=reports.values, pruned=True)
        except UsageError as error:
            failure = traceback.format_exc()
            fatal = str(error) if getattr(error, "is_fatal", False) else None
        except Exception:  # noqa: BLE001 - whatever a network may run into
            failure = traceback.format_exc()
        # Outside of the handler: the frames of the failure, and what they hold, are gone.
        torch.cuda.empty_cache()  # does nothing where CUDA is not in use
        return Measurement(reports=reports.values, failure=failure[-_LONGEST:], fatal=fatal)

    def _measure(self, job: Job, reports: Reports) -> Measurement:
        device = self.networks.device
        with preserved_randomness(device), reporting_to(reports):
            seed_globally(self.seed, "search/evaluate", job.number, device)
            network = self.networks.network(job.arch)
            cost = job.cost
            if cost is None and network is not None:
                cost = float(sum(p.numel() for p in network.parameters()))
            returned = self.evaluate(network, dict(job.arch))
        try:
            asked = [o for o in self.objectives if o.name not in job.known]
            numbers = {**measured(asked, returned), **job.known}
        except UsageError as error:
            error.is_fatal = True  # type: ignore[attr-defined]
            raise
        values = [numbers.pop(objective.name) for objective in self.objectives]
        rank = ranking(self.objectives, values, cost, job.number)
        wanted = job.keep and network is not None and (job.worst is None or rank < job.worst)
        weights = dump_state(network.state_dict()) if wanted else None
        return Measurement(values, numbers, cost, weights=weights)


@dataclass(frozen=True)
class SentRecipe:
    """A recipe as it is sent: once to each process, which keeps it.

    Attributes
    ----------
    content
        The recipe, pickled.
    key
        Its digest, by which jobs call it.
    line
        Where a process asks whether to go on with a trial; ``None`` where nothing is pruned.
    """

    content: bytes
    key: str
    line: PruningClient | None

    @classmethod
    def of(cls, recipe: Recipe, executor: Any, line: PruningClient | None) -> SentRecipe:
        """Pickle a recipe.

        Raises
        ------
        UsageError
            Something of it cannot be sent to other processes.
        """
        try:
            content = _pickler(executor).dumps(recipe)
        except (AttributeError, TypeError, pickle.PicklingError) as error:
            raise UsageError(
                f"what evaluates trials cannot be sent to other processes: {error}; define "
                "evaluate, and the classes of the space, at the top level of a module, or "
                "evaluate in this process, by workers=1"
            ) from error
        return cls(content, hashlib.sha256(content).hexdigest(), line)

    def job(self, job: Job, *, whole: bool) -> tuple[Any, ...]:
        """Return what to submit: a function and its arguments."""
        return run_job, self.key, self.content if whole else None, self.line, job


def _pickler(executor: Any) -> Any:
    """Return what pickles for the processes of an executor.

    Those of this machine run the same script again, so that ``__main__`` is the same there.
    Elsewhere it is another, and what stands in it has to be sent by value: that is what
    cloudpickle is for, which the engines that run processes elsewhere bring along.
    """
    from ..executors import Processes

    if not isinstance(executor, Processes):
        try:
            import cloudpickle

            return cloudpickle
        except ImportError:
            pass
    return pickle


_KEPT: dict[str, Recipe] = {}
"""The recipe that this process was sent last."""


def run_job(
    key: str, content: bytes | None, line: PruningClient | None, job: Job
) -> Measurement | None:
    """Evaluate a job in this process; ``None`` if its recipe is neither here nor came along."""
    if key not in _KEPT:
        if content is None:
            return None
        try:
            recipe = pickle.loads(content)  # noqa: S301 - of our own driver: what its user gave
        except Exception as error:  # noqa: BLE001 - whatever the modules run into that it imports
            return Measurement(
                failure=traceback.format_exc()[-_LONGEST:],
                fatal="what evaluates trials cannot be made in a process of the executor: "
                f"{type(error).__name__}: {error}; it must have the same packages and modules",
            )
        _KEPT.clear()
        _KEPT[key] = recipe
    return _KEPT[key].run(job, Reports(None if line is None else line.asking(job.attempt)))
