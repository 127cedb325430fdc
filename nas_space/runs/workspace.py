"""``Workspace``: what the stages of a run work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import nn

from ..errors import UsageError, suggest
from ..hub.registry import find_space
from ..mutable import MutableExpression, Sample
from ..profiler import COSTS
from ..randomness import preserved_randomness, seed_globally
from ..study import Objective, OneShotResult, SearchResult, fingerprint, minimize
from ..study.evaluators import main_objective
from ..training import Progress, Splits, Task, fit, load_data, make_fabric
from .costs import Costs
from .deployment import deployment_of
from .folder import RunFolder
from .plan import Plan
from .record import Record
from .stage import OnProgress

__all__ = ["Candidate", "Workspace"]


@dataclass
class Candidate:
    """An architecture that was found, or drawn to compare with, on its way to the end of a run.

    Attributes
    ----------
    arch
        The architecture.
    trained
        The name of its own training, which its checkpoint has.
    network
        Its network, once it is trained.
    scores
        The main metric on the validation split: ``'inherited'`` before its training, if its
        weights are those of the space, and ``'validation'`` after it.
    facts
        What else to write down of it.
    """

    arch: Sample
    trained: str = ""
    network: nn.Module | None = None
    scores: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


class Workspace:
    """The folder, plan, space, data, costs and record of a run, and what its stages have found.

    Parameters
    ----------
    folder, plan
        Of the run.
    space
        A space of the hub by name, or ``module:Class``.
    arguments
        Of the space's class; by default what makes it small, and the number of classes.
    data
        As for :func:`~nas_space.training.load_data`.
    budgets
        The largest value of each cost, by its name, as :func:`~nas_space.profiler.find_cost`
        takes it. ``'median'`` allows what half of random architectures need of multiply-adds.
    costs
        The names of further costs, which are only reported.
    latency_table
        The file with the times of blocks; see :func:`nas_space.profiler.latency`.
    runtime, threads
        What the network is to run on, as of :func:`~nas_space.profiler.measure_latency`: without a
        table, one is measured and calibrated, and the network found is written and timed there.
    device
        As for :func:`~nas_space.training.make_fabric`.
    seed
        Of everything random.
    progress
        Whether to show how far measuring is.

    Attributes
    ----------
    space, within
        The space, and its restriction to the budgets.
    result
        What the search of the run has found.
    candidates
        Role to architecture: ``'found 1'``, ... in the order of the search, and ``'random 1'``, ...

    Raises
    ------
    UsageError
        There is no such space or cost, or the space takes no such arguments.
    InfeasibleError
        No architecture is within the budgets.
    DataError
        The data cannot be used.
    """

    def __init__(
        self,
        folder: RunFolder,
        plan: Plan,
        *,
        space: str = "proxylessnas",
        arguments: Mapping[str, Any] | None = None,
        data: str = "digits",
        budgets: Mapping[str, float] | Literal["median"] = "median",
        costs: tuple[str, ...] = (),
        latency_table: str | None = None,
        runtime: str | None = None,
        threads: int | None = None,
        device: str = "auto",
        seed: int = 0,
        progress: bool = False,
    ) -> None:
        self.folder, self.plan, self.seed = folder, plan, seed
        entry = find_space(space)
        self.fabric = make_fabric(device)
        self.splits: Splits = load_data(data, seed)
        arguments = {"num_labels": self.splits.num_classes, **entry.small, **(arguments or {})}
        with preserved_randomness():
            seed_globally(seed, "job/weights", 0)
            self.space: Any = entry.build(arguments)
        # Convolutions of images take half the time so, whatever the order of the images. Weights of
        # five axes are of convolutions of volumes, for which torch has no such order.
        if all(weight.dim() != 5 for weight in self.space.parameters()):
            cast(Any, self.space).to(memory_format=torch.channels_last)
        self.fabric.to_device(self.space)
        self.deployment = deployment_of(runtime, threads)
        shape, self.table = self.splits.input_shape, None
        if self.deployment is not None and latency_table is None:
            self.table = self.deployment.table(
                folder, self.space, progress=progress, input_shape=shape
            )
        self.costs = Costs(
            self.space, shape, latency_table or self.table, costs, runtime=runtime, threads=threads
        )
        if budgets == "median":
            budgets = {"macs": self._median("macs")}
        self.budgets = dict(budgets)
        self.within = self.costs.within(self.budgets)
        self.result: SearchResult | OneShotResult | None = None
        self.candidates: dict[str, Candidate] = {}
        self.settings: dict[str, Any] = {
            "space": space,
            "arguments": arguments,
            "fingerprint": fingerprint(self.space),
            "data": str(data),
            "input_shape": list(self.splits.input_shape),
            "budgets": self.budgets,
            "costs": list(costs),
            "latency_table": latency_table,
            "runtime": runtime,
            "threads": threads,
            "device": device,
            "seed": seed,
        }

    @property
    def record(self) -> Record:
        """The record of everything that was measured."""
        if self._record is None:
            self._record = Record(self.folder.path / "metrics.jsonl")
        return self._record

    _record: Record | None = None

    # -- costs ----------------------------------------------------------------------------------

    def _median(self, cost: str) -> float:
        """Return what half of random architectures cost at most, to two digits."""
        values = self.costs.values(cost, self.space.sample(1001, seed=0))
        return float(f"{float(np.median(values)):.1e}")

    @property
    def objectives(self) -> list[Objective]:
        """The main metric of the task, and what the plan minimizes.

        Raises
        ------
        UsageError
            There is no cost or metric of a name that the plan wants to be small.
        """
        task = self.task(self.plan.learning_rate)
        metrics = [name for name in task.metrics if name != task.main_metric]
        found = [main_objective(task)]
        for name in self.plan.minimize:
            if name in metrics:
                found.append(minimize(name))
            elif self.costs.are_named(name):
                cost = self.costs[name]
                if not isinstance(cost, MutableExpression):
                    raise UsageError(f"all architectures have the same {name}: {cost}")
                found.append(minimize(name, cost))
            else:
                known = [*COSTS, *metrics]
                raise UsageError(
                    f"there is nothing called {name!r} to be small{suggest(name, known)}; there "
                    f"are {', '.join(known)}, and costs of your own as module:name"
                )
        return found

    # -- training -------------------------------------------------------------------------------

    def task(self, learning_rate: float) -> Task:
        """Return the task that networks are trained for, and shared weights too."""
        optimizer = partial(
            torch.optim.SGD, lr=learning_rate, momentum=0.9, nesterov=True, weight_decay=4e-5
        )
        return Task.classification(
            self.splits, optimizer=optimizer, batch_size=self.plan.batch_size
        )

    def fit(
        self,
        training: str,
        network: nn.Module,
        steps: int,
        learning_rate: float,
        on_progress: OnProgress,
        path: Callable[[int], Any] | None = None,
    ) -> None:
        """Train for a number of steps, or for those that an interrupted run has left to do.

        Parameters
        ----------
        training
            The name, which its checkpoint and its rows in the record have.
        network, steps, path
            As for :func:`~nas_space.training.fit`.
        learning_rate
            The highest.
        on_progress
            Called with ``training`` as the stage.
        """

        def on_step(progress: Progress) -> None:
            step, total = progress.step, progress.total
            if step % 10 == 0 or step == total:
                self.record.add(training, step, loss=progress.loss, lr=progress.lr)
                on_progress(training, step, total, f"loss {progress.loss:.3f}")

        fit(
            network,
            self.task(learning_rate),
            steps=steps,
            fabric=self.fabric,
            seed=self.seed,
            path=path,
            checkpoint=self.folder.checkpoint(training),
            every=50,
            resume=True,
            on_step=on_step,
        )
