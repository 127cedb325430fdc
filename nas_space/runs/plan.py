"""How long each stage of a run takes: of a search, with its strategy, and of a compression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CompressionPlan", "Limits", "Plan"]


@dataclass(frozen=True)
class Plan:
    """What a run does. A kind of run heeds some of these settings, each with its own default.

    Attributes
    ----------
    strategy
        ``'spos'``, or a name of :data:`nas_space.strategy.STRATEGIES` or
        :data:`~nas_space.strategy.ONE_SHOT`. It decides the kind of the run, see
        :func:`nas_space.runs.plan_of`.
    options
        Arguments of the strategy's constructor.
    minimize
        What to make small beside the main metric: costs, or metrics of the task.
    first_steps
        Steps of training one path, whose weights all candidates are then given.
    steps
        Steps of training the shared weights.
    trials
        Architectures to try.
    population
        Size of the population of the evolution.
    finalists
        Architectures found that are trained further; the winner is the one that is then the best
        on the validation split.
    fine_tuning
        Steps of training each finalist, from the weights that it has.
    rivals
        Random architectures of the same budget that are treated like the finalists.
    learning_rate
        The largest learning rate.
    batch_size
        Examples in a batch.
    calibration
        Batches with which batch norms are recalibrated for each trial.
    epochs, final_epochs
        Passes over the training data for each trial, and for the best. Where weights are shared,
        ``epochs`` says instead of ``steps`` how long these are trained.
    pruner
        A name of :data:`nas_space.runs.PRUNERS`.
    storage, name
        Where trials are kept, by default in the run's folder, and the study's name there.
    """

    strategy: str = "spos"
    options: Mapping[str, Any] = field(default_factory=dict)
    minimize: tuple[str, ...] = ()
    first_steps: int = 150
    steps: int = 1200
    trials: int = 100
    population: int = 30
    finalists: int = 5
    fine_tuning: int = 120
    rivals: int = 5
    learning_rate: float = 0.1
    batch_size: int = 64
    calibration: int = 8
    epochs: int | None = None
    final_epochs: int = 15
    pruner: str = "none"
    storage: str | None = None
    name: str = "search"


@dataclass(frozen=True)
class Limits:
    """What holds for one command that works at a run, and not for the run.

    Attributes
    ----------
    workers
        How many trials are evaluated at once; by default one, or as the executor says.
    executor
        The address of what evaluates instead of processes of this machine, see
        :func:`~nas_space.executors.executor_at`.
    timeout
        Seconds after which no further trial is begun.
    failures
        With how many failed trials the search gives up.
    """

    workers: int | None = None
    executor: str | None = None
    timeout: float | None = None
    failures: int | None = None


@dataclass(frozen=True)
class CompressionPlan:
    """How long each stage of a compression takes.

    Attributes
    ----------
    steps
        Of training the shared weights; 0 leaves them as they are.
    trials
        Architectures to try for each budget.
    fine_tuning
        Steps of training that each network has on average.  Those of larger ones count more, for
        smaller ones go on from them.
    learning_rate
        The largest, of AdamW, times the square of what is cut away from a network.
    batch_size
        Examples in a batch.
    calibration
        Batches on which channels are ranked, and layers fitted.
    elastic
        Arguments of :func:`nas_space.elastic`.
    """

    steps: int = 0
    trials: int = 1
    fine_tuning: int = 100
    learning_rate: float = 1e-3
    batch_size: int = 32
    calibration: int = 16
    elastic: Mapping[str, Any] = field(default_factory=dict)
