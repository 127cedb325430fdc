"""A run that trains its candidates one by one, by any strategy, in one or many processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import optuna

from ..errors import UsageError, suggest
from ..mutable import Sample
from ..strategy import get_strategy
from ..training import evaluate
from ..training.randomness import preserved_randomness, seed_globally
from .evaluators import from_scratch, main_objective
from .finished import write_network
from .intermediate import check_pruner
from .objectives import Objective, minimize
from .progress import SearchProgress, ShowProgress
from .result import SearchResult
from .run import OnProgress, Run
from .search import search
from .storage import open_storage
from .stored import STUDY
from .worker import make_network

__all__ = ["PRUNERS", "Plan", "TrialsFindings", "TrialsRun"]

PRUNERS: dict[str, type[optuna.pruners.BasePruner]] = {
    "halving": optuna.pruners.SuccessiveHalvingPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
    "median": optuna.pruners.MedianPruner,
    "none": optuna.pruners.NopPruner,
}
"""Name to Optuna's class of what ends poor trials early."""


@dataclass(frozen=True)
class Plan:
    """How a run over trials goes.

    Attributes
    ----------
    strategy
        A name of :data:`nas_space.strategy.STRATEGIES`.
    options
        Arguments of its constructor.
    trials
        Architectures to try.
    epochs
        Passes over the training data for each.
    final_epochs
        Passes for the one that is found.
    learning_rate
        Of all training.
    minimize
        What else to look for: 'macs', 'params', or a metric of the task.
    pruner
        A name of :data:`PRUNERS`.
    storage, name
        Where trials are kept, by default in the run's folder, and the study's name there.
    """

    strategy: str = "evolution"
    options: Mapping[str, Any] = field(default_factory=dict)
    trials: int = 30
    epochs: int = 5
    final_epochs: int = 15
    learning_rate: float = 0.1
    minimize: tuple[str, ...] = ()
    pruner: str = "none"
    storage: str | None = None
    name: str = "search"


@dataclass(frozen=True)
class TrialsFindings:
    """What a run over trials has found.

    Attributes
    ----------
    arch, arch_id
        The best architecture by the first objective.
    macs, params
        Multiply-adds for one image, and learnable parameters.
    in_trial
        Its objectives and metrics as its trial measured them.
    validation, test
        The main metric after the final training.
    result
        All trials.
    files
        What was written.
    """

    arch: Sample
    arch_id: str
    macs: int
    params: int
    in_trial: dict[str, float]
    validation: float
    test: float
    result: SearchResult
    files: list[Path]


class TrialsRun(Run):
    """A search over trials in a folder: each candidate is trained from scratch, by itself.

    Afterwards the best one is trained for longer and written to files.  It is the only one that
    the test split is looked at for.

    Parameters
    ----------
    out, arguments
        As of :class:`~nas_space.study.run.Run`.
    plan
        What to do.
    workers
        How many processes evaluate on this machine.
    timeout
        Seconds after which no further trial is begun.
    failures
        With how many failed trials the search gives up.

    Raises
    ------
    UsageError
        If there is no such strategy, pruner or objective; and as of a run.
    """

    # More trials may be wanted, somewhere else; all else would make trials that do not compare.
    flexible: ClassVar[frozenset[str]] = frozenset({"device", "trials", "final_epochs"})

    def __init__(
        self,
        out: Path | str,
        *,
        plan: Plan | None = None,
        workers: int = 1,
        timeout: float | None = None,
        failures: int | None = None,
        **arguments: Any,
    ) -> None:
        self.plan = plan or Plan()
        self.workers = workers
        self.timeout = timeout
        self.failures = failures
        self.strategy = get_strategy(self.plan.strategy, **self.plan.options)
        if self.plan.pruner not in PRUNERS:
            near = suggest(self.plan.pruner, PRUNERS)
            raise UsageError(
                f"there is no pruner {self.plan.pruner!r}{near}; there are {', '.join(PRUNERS)}"
            )
        super().__init__(out, plan=asdict(self.plan), **arguments)

    def check(self) -> None:
        if self.timeout is not None and self.timeout <= 0:
            raise UsageError(f"timeout must be positive, but got {self.timeout}")
        check_pruner(PRUNERS[self.plan.pruner](), [each.name for each in self.objectives()])
        self.strategy.check(self.within)
        if self.plan.storage is not None:
            open_storage(self.plan.storage)

    @property
    def stages(self) -> dict[str, tuple[int, float]]:
        """Of each stage how long it is, and the work of one step of it, in steps of training."""
        per_epoch = self.task(self.plan.learning_rate).steps(1)
        return {
            "search": (self.plan.trials, float(self.plan.epochs * per_epoch)),
            "final training": (self.plan.final_epochs * per_epoch, 1.0),
        }

    def objectives(self) -> list[Objective]:
        """What to look for: the main metric of the task, and what is to be small."""
        task = self.task(self.plan.learning_rate)
        costs = {"macs": self.macs, "params": self.params}
        known = [*costs, *(name for name in task.metrics if name != task.main_metric)]
        for name in self.plan.minimize:
            if name not in known:
                raise UsageError(
                    f"there is nothing called {name!r} to be small{suggest(name, known)}; there "
                    f"are {', '.join(known)}"
                )
        return [main_objective(task), *(minimize(n, costs.get(n)) for n in self.plan.minimize)]

    def run(self, on_progress: OnProgress = lambda *_: None) -> TrialsFindings:
        """Does what is left to do."""
        result = self.search(on_progress)
        return self.finish(result, on_progress)

    def search(self, on_progress: OnProgress = lambda *_: None) -> SearchResult:
        """Trains and scores architectures, with others that work at the same study, if any."""
        plan = self.plan

        def show(now: SearchProgress) -> None:
            on_progress("search", now.done, plan.trials, now.findings)

        return search(
            self.within,
            from_scratch(self.task(plan.learning_rate), plan.epochs, seed=self.seed),
            strategy=self.strategy,
            objectives=self.objectives(),
            trials=plan.trials,
            storage=plan.storage or self.out / STUDY,
            name=plan.name,
            workers=self.workers,
            seed=self.seed,
            timeout=self.timeout,
            failures=self.failures,
            pruner=PRUNERS[plan.pruner](),
            callbacks=[ShowProgress(plan.trials, show, every=0.0)],
            resume=True,
        )

    def finish(
        self, result: SearchResult, on_progress: OnProgress = lambda *_: None
    ) -> TrialsFindings:
        """Trains the best one for longer, scores it, and writes it down."""
        best = result.ranked()[0] if result.complete else None
        arch = result.best() if best is None else dict(best.arch)  # the former says what is wrong
        assert best is not None
        task = self.task(self.plan.learning_rate)
        with preserved_randomness(self.fabric.device):
            seed_globally(self.seed, "trials/final", 0, self.fabric.device)
            network = make_network(self.space, arch, "fresh")
        self.fit(
            f"training {self.space.arch_id(arch)} {self.plan.final_epochs}",
            network,
            task.steps(self.plan.final_epochs),
            self.plan.learning_rate,
            lambda _, *rest: on_progress("final training", *rest),
        )
        network.eval()
        scores = {
            split: evaluate(network, task, split, fabric=self.fabric)[task.main_metric]
            for split in ("validation", "test")
        }
        facts: dict[str, Any] = {
            "arch": arch,
            "arch_id": self.space.arch_id(arch),
            "macs": int(self.macs.evaluate(arch)),
            "params": int(self.params.evaluate(arch)),
            "in_trial": {**best.values, **best.metrics},
            **scores,
        }
        files = write_network(
            self.out, network, self.splits.input_shape, {**self.settings, **facts}
        )
        return TrialsFindings(**facts, result=result, files=[*files, self.record.path])
