"""The main job: from a space and data to the best trained network within a budget.

Train the shared weights along random paths; search by evolution for the best validation
accuracy with inherited weights; fine-tune what was found, and, for an honest comparison,
random architectures of the same budget just alike; score each once on the test split.
Every stage can be interrupted at any point and taken up again, to the same final result.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nas_space.errors import UsageError
from nas_space.hub.registry import find_space
from nas_space.mutable import Sample
from nas_space.profiler import macs, params
from nas_space.strategy import RegularizedEvolution
from nas_space.study.evaluators import inherited
from nas_space.study.fingerprint import fingerprint
from nas_space.study.finished import write_json, write_network
from nas_space.study.result import SearchResult
from nas_space.study.search import search
from nas_space.study.shared import calm_residuals, widening_paths
from nas_space.training import Splits, Task, evaluate, fit, load_data, make_fabric, recalibrate

__all__ = ["Finalist", "Job", "Outcome", "Recipe"]

OnProgress = Callable[[str, int, int, str], object]
"""Called with the stage, what is done of it, out of how much, and a word on how it goes."""


@dataclass(frozen=True)
class Recipe:
    """How long each stage of the job takes.

    Attributes
    ----------
    steps
        Of training the shared weights.
    trials
        Architectures that evolution tries.
    population
        Of the evolution.
    fine_tuning
        Steps of training each finalist.
    rivals
        Random architectures of the same budget that are treated like the winner.
    learning_rate
        Of the shared weights; finalists are tuned at half of it.
    calibration
        Batches with which batch norms are recalibrated for each trial.
    """

    steps: int = 1200
    trials: int = 100
    population: int = 30
    fine_tuning: int = 150
    rivals: int = 5
    learning_rate: float = 0.1
    calibration: int = 8


@dataclass(frozen=True)
class Finalist:
    """An architecture that was fine-tuned and scored.

    Attributes
    ----------
    arch, arch_id
        The architecture.
    macs, params
        Multiply-adds for one image, and learnable parameters.
    inherited
        Validation accuracy with inherited weights.
    validation, test
        Accuracy after fine-tuning.
    """

    arch: Sample
    arch_id: str
    macs: int
    params: int
    inherited: float
    validation: float
    test: float


@dataclass(frozen=True)
class Outcome:
    """What the job found.

    Attributes
    ----------
    winner
        What evolution found.
    rivals
        Random architectures of the same budget, treated alike.
    neighbour
        Test accuracy of a nearest-neighbour classifier; ``None`` where images are not in memory.
    files
        What was written.
    """

    winner: Finalist
    rivals: list[Finalist]
    neighbour: float | None
    files: list[Path] = field(default_factory=list)


class Job:
    """One run of the main job, in a folder.

    Parameters
    ----------
    out
        The folder: everything that the run needs to go on is in it.
    space
        A space of the hub by name, or ``module:Class``.
    arguments
        Of the space's class; by default what makes it small, and the number of classes.
    data
        As for :func:`~nas_space.training.load_data`.
    max_macs
        The budget: multiply-adds for one image.  Without one, any architecture is allowed.
    device
        As for :func:`~nas_space.training.make_fabric`.
    seed
        Of everything random.
    recipe
        How long each stage takes.
    resume
        Whether to go on with a run in the folder.

    Raises
    ------
    UsageError
        If the folder holds a run and ``resume`` is not given, or a run of something else.
    InfeasibleError
        If no architecture is within the budget.
    DataError
        If the data cannot be used.
    """

    def __init__(
        self,
        out: Path | str,
        *,
        space: str = "proxylessnas",
        arguments: Mapping[str, Any] | None = None,
        data: str = "digits",
        max_macs: float | None = None,
        device: str = "auto",
        seed: int = 0,
        recipe: Recipe | None = None,
        resume: bool = False,
    ) -> None:
        self.out = Path(out)
        self.recipe = recipe or Recipe()
        self.seed = seed
        entry = find_space(space)
        self.splits: Splits = load_data(data, seed)
        self.fabric = make_fabric(device)
        self.arguments = {"num_labels": self.splits.num_classes, **entry.small, **(arguments or {})}
        torch.manual_seed(seed)
        try:
            self.space = entry.space(**self.arguments)
        except TypeError as error:
            raise UsageError(f"{space} cannot be made with {self.arguments}: {error}") from error
        calm_residuals(self.space)
        self.macs = macs(self.space, self.splits.input_shape)
        self.params = params(self.space)
        self.max_macs = max_macs
        self.within: Any = self.space if max_macs is None else self.space.where(self.macs <= max_macs)
        identity = {
            "space": space,
            "arguments": self.arguments,
            "fingerprint": fingerprint(self.space),
            "data": str(data),
            "max_macs": max_macs,
            "seed": seed,
            "recipe": asdict(self.recipe),
        }
        self._claim(json.loads(json.dumps(identity)), resume=resume)
        self.identity = identity

    def _claim(self, identity: dict[str, Any], *, resume: bool) -> None:
        """Makes the folder this run's, or finds out that it is another's."""
        file = self.out / "run.json"
        if not file.exists():
            (self.out / "work").mkdir(parents=True, exist_ok=True)
            write_json(file, identity)
            return
        if not resume:
            raise UsageError(
                f"{self.out} holds a run already; go on with it by --resume, or choose another --out"
            )
        there = json.loads(file.read_text(encoding="utf-8"))
        differing = [key for key in identity if there.get(key) != identity[key]]
        if differing:
            raise UsageError(
                f"the run in {self.out} has other settings: "
                + ", ".join(f"{k} is {there.get(k)!r} there, {identity[k]!r} here" for k in differing)
            )

    # -- the stages -----------------------------------------------------------------------------

    def run(self, on_progress: OnProgress = lambda *_: None) -> Outcome:
        """Does what is left to do."""
        self.train(on_progress)
        result = self.search(on_progress)
        found = result.best()
        rivals = self._rivals(found)
        finalists = []
        for number, arch in enumerate([found, *rivals]):
            name = "winner" if number == 0 else f"random {number} of {len(rivals)}"
            finalists.append(self.finish(arch, name, on_progress))
        neighbour = nearest_neighbour(self.splits)
        files = self._write(finalists[0])
        outcome = Outcome(finalists[0], finalists[1:], neighbour, files)
        self._write_metrics(result, outcome)
        return outcome

    def train(self, on_progress: OnProgress = lambda *_: None) -> None:
        """Trains the shared weights, one random path a step."""
        steps = self.recipe.steps
        fit(
            self.space,
            self.task(self.recipe.learning_rate),
            steps=steps,
            fabric=self.fabric,
            seed=self.seed,
            path=widening_paths(self.within, steps, self.seed),
            checkpoint=self.out / "work" / "shared.safetensors",
            every=100,
            resume=True,
            on_step=self._log("shared weights", on_progress),
        )
        self.space.eval()

    def search(self, on_progress: OnProgress = lambda *_: None) -> SearchResult:
        """Searches for the best validation accuracy with inherited weights."""
        total = self.recipe.trials

        def after(study: Any, trial: Any) -> None:
            done = [t.value for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
            if done:
                on_progress("search", min(len(done), total), total, f"best accuracy {max(done):.3f}")

        task = self.task(self.recipe.learning_rate)
        population = min(self.recipe.population, max(1, total // 2))
        return search(
            self.within,
            inherited(task, batches=self.recipe.calibration),
            strategy=RegularizedEvolution(
                population_size=population, sample_size=max(1, population // 3), mutation_prob=0.1
            ),
            trials=total,
            storage=self.out / "study.db",
            seed=self.seed,
            callbacks=[after],
            resume=True,
        )

    def _rivals(self, winner: Sample) -> list[Sample]:
        """Random architectures of the budget, other than the winner and different."""
        found: dict[str, Sample] = {}
        mine = self.space.arch_id(winner)
        for arch in self.within.sample(4 * self.recipe.rivals + 8, seed=self.seed + 1):
            if len(found) < self.recipe.rivals and self.space.arch_id(arch) != mine:
                found.setdefault(self.space.arch_id(arch), arch)
        return list(found.values())

    def finish(
        self, arch: Sample, name: str, on_progress: OnProgress = lambda *_: None
    ) -> Finalist:
        """Freezes an architecture with its weights, fine-tunes it, and scores it once."""
        arch_id = self.space.arch_id(arch)
        file = self.out / "work" / f"{arch_id}.json"
        if file.exists():
            return Finalist(**json.loads(file.read_text(encoding="utf-8")))
        network = self.space.freeze(arch)
        task = self.task(self.recipe.learning_rate / 2)
        recalibrate(network, task, fabric=self.fabric)
        before = evaluate(network, task, fabric=self.fabric)["accuracy"]
        network = self._tuned(arch, on_progress, name)
        finalist = Finalist(
            arch=dict(arch),
            arch_id=arch_id,
            macs=int(self.macs.evaluate(arch)),
            params=int(self.params.evaluate(arch)),
            inherited=before,
            validation=evaluate(network, task, fabric=self.fabric)["accuracy"],
            test=evaluate(network, task, "test", fabric=self.fabric)["accuracy"],
        )
        write_json(file, asdict(finalist))
        return finalist

    def _tuned(
        self, arch: Sample, on_progress: OnProgress = lambda *_: None, name: str = ""
    ) -> Any:
        """The fine-tuned network, from its checkpoint where it was tuned already."""
        network = self.space.freeze(arch)
        task = self.task(self.recipe.learning_rate / 2)
        recalibrate(network, task, fabric=self.fabric)
        fit(
            network,
            task,
            steps=self.recipe.fine_tuning,
            fabric=self.fabric,
            seed=self.seed,
            checkpoint=self.out / "work" / f"{self.space.arch_id(arch)}.safetensors",
            every=50,
            resume=True,
            on_step=self._log(f"fine-tuning {name}", on_progress),
        )
        recalibrate(network, task, fabric=self.fabric)
        return network.eval()

    def task(self, learning_rate: float) -> Task:
        """The task that networks are trained for, and shared weights too."""
        optimizer = partial(
            torch.optim.SGD, lr=learning_rate, momentum=0.9, nesterov=True, weight_decay=4e-5
        )
        return Task.classification(self.splits, optimizer=optimizer)

    # -- what is kept -----------------------------------------------------------------------------

    def _log(self, stage: str, on_progress: OnProgress) -> Callable[[Any], None]:
        def on_step(progress: Any) -> None:
            if progress.step % 10 == 0 or progress.step == progress.total:
                on_progress(stage, progress.step, progress.total, f"loss {progress.loss:.3f}")

        return on_step

    def _write(self, winner: Finalist) -> list[Path]:
        facts = {**self.identity, **asdict(winner)}
        network = self._tuned(winner.arch)
        return write_network(self.out, network, self.splits.input_shape, facts)

    def _write_metrics(self, result: SearchResult, outcome: Outcome) -> None:
        """One line for each trial, each finalist and the nearest neighbour."""
        rows: list[dict[str, Any]] = [
            {
                "stage": "search",
                "trial": o.number,
                "state": o.state,
                "arch_id": self.space.arch_id(o.arch),
                "macs": int(self.macs.evaluate(o.arch)),
                **o.metrics,
                **o.values,
            }
            for o in result.outcomes
        ]
        finalists = [("winner", outcome.winner), *(("random", rival) for rival in outcome.rivals)]
        rows += [{"stage": "final", "role": role, **asdict(one)} for role, one in finalists]
        rows.append({"stage": "final", "role": "nearest neighbour", "test": outcome.neighbour})
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (self.out / "metrics.jsonl").write_text(text, encoding="utf-8")
        outcome.files.append(self.out / "metrics.jsonl")


def nearest_neighbour(splits: Splits) -> float | None:
    """Test accuracy of copying the label of the nearest training image, without augmentation.

    ``None`` for data sets that do not hold their images as tensors.
    """
    from sklearn.neighbors import KNeighborsClassifier

    train, test = (getattr(split, "tensors", None) for split in (splits.train, splits.test))
    if train is None or test is None:
        return None
    model = KNeighborsClassifier(1).fit(train[0].flatten(1).numpy(), train[1].numpy())
    return float(model.score(test[0].flatten(1).numpy(), test[1].numpy()))
