"""A run from the shell that trains shared weights and searches in one go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..mutable import Sample
from ..strategy import get_strategy
from ..strategy.oneshot import OneShot, OneShotProgress, Penalty
from ..training import evaluate, recalibrate, save_weights
from .finished import write_network
from .oneshot import OneShotResult, search_oneshot
from .run import SEARCH, OnProgress, Run
from .shared import calm_residuals

__all__ = ["OneShotFindings", "OneShotPlan", "OneShotRun"]

_OPTIONS: dict[str, dict[str, Any]] = {
    "darts": {"arc_learning_rate": 0.02, "warmup_epochs": 5},
    "enas": {"arc_learning_rate": 0.003, "warmup_epochs": 5, "batches_per_update": 4},
    "gumbel": {"arc_learning_rate": 0.02, "warmup_epochs": 5},
    "proxyless": {"arc_learning_rate": 0.02, "warmup_epochs": 5},
    "random-path": {},
}
"""What suits a search of minutes; the strategies' own defaults are those of papers, for days."""


@dataclass(frozen=True)
class OneShotPlan:
    """How a one-shot run goes.

    Attributes
    ----------
    strategy
        A name of :data:`nas_space.strategy.ONE_SHOT`.
    options
        Arguments of its constructor.
    steps
        Of training the shared weights, while searching.
    fine_tuning
        Steps of training what is found, with the weights it has.
    learning_rate
        Of the shared weights; for what is found, half of it.
    """

    strategy: str = "proxyless"
    options: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 600
    fine_tuning: int = 150
    learning_rate: float = 0.1


@dataclass(frozen=True)
class OneShotFindings:
    """What a one-shot run has found.

    Attributes
    ----------
    arch, arch_id
        The architecture.
    macs, params
        Multiply-adds for one image, and learnable parameters.
    inherited
        Validation accuracy with the weights of the search.
    validation, test
        Accuracy after fine-tuning.
    result
        Of the search.
    files
        What was written.
    """

    arch: Sample
    arch_id: str
    macs: int
    params: int
    inherited: float
    validation: float
    test: float
    result: OneShotResult
    files: list[Path]


class OneShotRun(Run):
    """A one-shot search in a folder; then what is found is trained on, and written to files.

    What is found is within the budget.  Strategies that learn a policy are given the budget as a
    :class:`~nas_space.strategy.Penalty` as well, on what exceeds it.

    Parameters
    ----------
    out, arguments
        As of :class:`~nas_space.study.run.Run`.
    plan
        What to do.

    Raises
    ------
    UsageError
        If there is no such strategy, or it takes no such option; and as of a run.
    SpaceError
        If the strategy cannot deal with the space.
    """

    def __init__(
        self, out: Path | str, *, plan: OneShotPlan | None = None, **arguments: Any
    ) -> None:
        self.plan = plan or OneShotPlan()
        if self.plan.strategy not in _OPTIONS:
            raise UsageError(f"{self.plan.strategy!r} is none of {', '.join(_OPTIONS)}")
        super().__init__(out, plan=asdict(self.plan), **arguments)
        calm_residuals(self.space)

    def check(self) -> None:
        options = {**self._defaults(), **self.plan.options}
        self.strategy: OneShot = get_strategy(self.plan.strategy, **options)
        self.strategy.check(self.within)

    def _defaults(self) -> dict[str, Any]:
        options = dict(_OPTIONS[self.plan.strategy])
        if self.plan.strategy == "random-path":
            return options
        # However short the search: most of it is there to learn the policy.
        whole = self.plan.steps / self.task(self.plan.learning_rate).steps(1)
        options["warmup_epochs"] = min(options["warmup_epochs"], whole / 4)
        cost, limit = self.macs, self.max_macs
        if limit is None:
            cost, limit = self.latency, self.max_latency
        if limit is not None:
            options["penalty"] = Penalty(cost, limit, nonlinear="positive")
        return options

    @property
    def stages(self) -> dict[str, tuple[int, float]]:
        """Of each stage how long it is, and the work of one step of it, in steps of training."""
        each = 6.0 if self.plan.strategy in ("darts", "gumbel") else 2.0
        return {
            "search": (self.plan.steps, each),
            "fine-tuning": (self.plan.fine_tuning, 1.0),
        }

    def run(self, on_progress: OnProgress = lambda *_: None) -> OneShotFindings:
        """Does what is left to do."""
        return self.finish(self.search(on_progress), on_progress)

    def search(self, on_progress: OnProgress = lambda *_: None) -> OneShotResult:
        """Trains the shared weights and searches, or what is left of it."""

        def on_step(now: OneShotProgress) -> None:
            if now.step % 10 == 0 or now.step == now.total:
                self.record.add("search", now.step, loss=now.loss, **now.metrics)
                on_progress("search", now.step, now.total, str(now))

        return search_oneshot(
            self.within,
            self.task(self.plan.learning_rate),
            self.strategy,
            steps=self.plan.steps,
            seed=self.seed,
            storage=self.work / SEARCH,
            every=50,
            resume=True,
            callbacks=[on_step],
            fabric=self.fabric,
        )

    def finish(
        self, result: OneShotResult, on_progress: OnProgress = lambda *_: None
    ) -> OneShotFindings:
        """Trains what was found with the weights it has, scores it, and writes it down."""
        arch = result.best()
        network = result.network(arch)
        task = self.task(self.plan.learning_rate / 2)
        recalibrate(network, task, fabric=self.fabric)
        before = evaluate(network, task, fabric=self.fabric)
        self.fit(
            "fine-tuning",
            network,
            self.plan.fine_tuning,
            self.plan.learning_rate / 2,
            on_progress,
        )
        recalibrate(network, task, fabric=self.fabric)
        network.eval()
        after = {
            split: evaluate(network, task, split, fabric=self.fabric)[task.main_metric]
            for split in ("validation", "test")
        }
        facts: dict[str, Any] = {
            "arch": arch,
            "arch_id": self.space.arch_id(arch),
            "macs": int(self.macs.evaluate(arch)),
            "params": int(self.params.evaluate(arch)),
            "inherited": before[task.main_metric],
            **after,
        }
        files = write_network(
            self.out, network, self.splits.input_shape, {**self.settings, **facts}
        )
        shared = self.out / "shared_weights.safetensors"
        save_weights(self.space, shared)
        return OneShotFindings(**facts, result=result, files=[*files, shared, self.record.path])
