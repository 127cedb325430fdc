"""Ready-made functions that say how good a network is on a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from ..errors import UsageError
from ..mutable import Sample
from ..training import Progress, Task, evaluate, fit, make_fabric, recalibrate
from .intermediate import pruning, report
from .objectives import Objective, maximize, minimize

__all__ = ["FromScratch", "Inherited", "from_scratch", "inherited"]


@dataclass(frozen=True)
class Inherited:
    """Scores a network with the weights that it has from its space; see :func:`inherited`."""

    task: Task
    batches: int | None = None
    split: str = "validation"

    weights = "inherit"

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The main metric of the task."""
        return (main_objective(self.task),)

    def __call__(self, network: nn.Module, arch: Sample) -> dict[str, float]:
        recalibrate(network, self.task, batches=self.batches)
        return evaluate(network, self.task, self.split)


@dataclass(frozen=True)
class FromScratch:
    """Trains a network and scores it; see :func:`from_scratch`."""

    task: Task
    epochs: int
    split: str = "validation"
    device: str | None = None
    precision: Any = None
    seed: int = 0

    weights = "fresh"

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The main metric of the task."""
        return (main_objective(self.task),)

    def __call__(self, network: nn.Module, arch: Sample) -> dict[str, float]:
        fabric = None if self.device is None else make_fabric(self.device, self.precision)
        per_epoch = self.task.steps(1)

        def after_step(progress: Progress) -> None:
            epoch, rest = divmod(progress.step, per_epoch)
            if rest == 0 and epoch < self.epochs:
                scores = evaluate(network, self.task, self.split, fabric=fabric)
                report(scores[self.task.main_metric], epoch - 1)

        fit(
            network,
            self.task,
            epochs=self.epochs,
            fabric=fabric,
            seed=self.seed,
            on_step=after_step if pruning() else None,
        )
        return evaluate(network, self.task, self.split, fabric=fabric)


def inherited(task: Task, *, batches: int | None = None, split: str = "validation") -> Inherited:
    """An evaluator that scores networks with the weights of the space, without training them.

    For a space whose shared weights are trained: batch norms are recalibrated for each
    network, then it is scored.

    Parameters
    ----------
    task
        Whose training data calibrate, and whose metrics score.
    batches
        Of training data to recalibrate with; all by default.
    split
        What to score on.

    Returns
    -------
    callable
        To give to ``search``; its objective is the main metric of the task.
    """
    return Inherited(task, batches, split)


def from_scratch(
    task: Task,
    epochs: int = 10,
    *,
    split: str = "validation",
    device: str | None = None,
    precision: Any = None,
    seed: int = 0,
) -> FromScratch:
    """An evaluator that trains each network from fresh weights, and scores it.

    Where the search has a pruner, it scores after each epoch too and reports that.

    Parameters
    ----------
    task
        What to train for.
    epochs
        How long.
    split
        What to score on.
    device, precision
        Where, as for :func:`~nas_space.training.make_fabric`; by default where the network is.
    seed
        Of the training; the same for all, so that they see the same batches.

    Returns
    -------
    callable
        To give to ``search``; its objective is the main metric of the task.

    Raises
    ------
    UsageError
        If ``epochs`` is not positive.
    """
    if epochs < 1:
        raise UsageError(f"epochs must be at least 1, but got {epochs}")
    return FromScratch(task, epochs, split, device, precision, seed)


def main_objective(task: Task) -> Objective:
    """What searches on a task go by."""
    name = task.main_metric
    return maximize(name) if task.metrics[name].maximize else minimize(name)
