"""Ready-made functions that say how good a network is on a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import optuna
from torch import nn

from ..errors import UsageError
from ..mutable import Sample
from ..training import Progress, Task, evaluate, fit, make_fabric, recalibrate
from ..training.fabric import device_of
from ..training.proxies import proxy
from ..training.randomness import preserved_randomness, seed_globally
from .fingerprint import unrestricted
from .intermediate import pruning, report
from .objectives import Objective, maximize, measured, minimize, objectives_of
from .worker import make_network

__all__ = [
    "Filtered",
    "FromScratch",
    "Inherited",
    "ZeroCost",
    "filtered",
    "from_scratch",
    "inherited",
    "proxy_scores",
    "zero_cost",
]


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


@dataclass(frozen=True)
class ZeroCost:
    """Scores an untrained network; see :func:`zero_cost`."""

    name: str
    task: Task
    batches: int
    seed: int = 0

    weights = "fresh"

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The proxy."""
        return (maximize(self.name),)

    def __call__(self, network: nn.Module, arch: Sample) -> dict[str, float]:
        score = proxy(self.name)(network, self.task, batches=self.batches, seed=self.seed)
        return {self.name: score}


@dataclass(frozen=True)
class Filtered:
    """Scores only what a proxy lets through; see :func:`filtered`."""

    evaluate: Any
    by: ZeroCost
    least: float

    @property
    def weights(self) -> str:
        """Those that the evaluator wants."""
        return str(getattr(self.evaluate, "weights", "inherit"))

    @property
    def objectives(self) -> Any:
        """Those of the evaluator."""
        return getattr(self.evaluate, "objectives", "value")

    def __call__(self, network: nn.Module, arch: Sample) -> Any:
        [score] = self.by(network, arch).values()
        if score < self.least:
            raise optuna.TrialPruned(f"{self.by.name} is {score:.6g}, below {self.least:.6g}")
        return self.evaluate(network, arch)


def zero_cost(name: str, task: Task, *, batches: int | None = None, seed: int = 0) -> ZeroCost:
    """An evaluator that scores untrained networks by a zero-cost proxy.

    As an objective of its own, for a filter (:func:`filtered`), or to begin a search with
    (:func:`proxy_scores`).

    Parameters
    ----------
    name
        ``'naswot'``, ``'grad_norm'``, ``'synflow'`` or ``'zico'``: see
        :mod:`nas_space.training.proxies`.
    task
        Whose training data are looked at.
    batches
        How many of them; by default 1, of ``zico`` 2.
    seed
        Which.

    Raises
    ------
    UsageError
        If there is no such proxy.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> from nas_space.hub import NasBenchMacro
    >>> from nas_space.study import search
    >>> data = TensorDataset(torch.randn(32, 3, 8, 8), torch.arange(32) % 4)
    >>> task = Task.classification(data, batch_size=16)
    >>> result = search(NasBenchMacro(4, 4), zero_cost("naswot", task), trials=4)
    >>> len(result.complete)
    4
    """
    proxy(name)
    return ZeroCost(name, task, (2 if name == "zico" else 1) if batches is None else batches, seed)


def filtered(evaluate: Any, by: ZeroCost, least: float) -> Filtered:
    """An evaluator that ends the trial of a network at once whose proxy is too low.

    Such a trial is pruned, as one that a pruner ends; strategies do not learn from it.

    Parameters
    ----------
    evaluate
        What scores the others: an evaluator, or a function ``evaluate(network, arch)``.
    by
        The proxy, by :func:`zero_cost`; it is measured on the weights that ``evaluate`` wants.
    least
        The lowest score that is let through, such as the median of :func:`proxy_scores`.
    """
    return Filtered(evaluate, by, least)


def proxy_scores(
    space: Any, evaluate: Any, n: int = 200, *, seed: int = 0
) -> list[tuple[Sample, float]]:
    """Scores of random architectures, for the ``warm_start`` of a strategy.

    Parameters
    ----------
    space
        A space, or a restriction of one.
    evaluate
        An evaluator with one objective, such as :func:`zero_cost` makes.
    n
        How many architectures are drawn; each is scored once.
    seed
        Of the draws and of fresh weights.

    Returns
    -------
    list
        Pairs of an architecture and its score, more being better.
    """
    [objective] = objectives_of(getattr(evaluate, "objectives", "value"))
    base = unrestricted(space)
    device = device_of(base)
    archs = {space.arch_id(arch): arch for arch in space.sample(n, seed=seed)}
    found = []
    for number, arch in enumerate(archs.values()):
        with preserved_randomness(device):
            seed_globally(seed, "search/proxy", number, device)
            network = make_network(base, arch, str(getattr(evaluate, "weights", "inherit")))
            [value] = measured((objective,), evaluate(network, dict(arch))).values()
        found.append((arch, objective.sign * value))
    return found


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
