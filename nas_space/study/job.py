"""The main job: from a space and data to the best trained network within a budget.

Train the shared weights along random paths; search by evolution for the best validation
accuracy with inherited weights; fine-tune what was found, and, for an honest comparison,
random architectures of the same budget just alike; score each once on the test split.
Every stage can be interrupted at any point and taken up again, to the same final result.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from optuna.trial import TrialState
from torch import nn

from nas_space.errors import InfeasibleError, UsageError
from nas_space.hub.registry import find_space
from nas_space.mutable import Sample
from nas_space.profiler import macs, params
from nas_space.strategy import RegularizedEvolution
from nas_space.study.evaluators import inherited
from nas_space.study.fingerprint import fingerprint
from nas_space.study.finished import write_json, write_network
from nas_space.study.record import Record
from nas_space.study.result import Outcome, SearchResult
from nas_space.study.search import search
from nas_space.study.shared import calm_residuals, hand_down
from nas_space.training import (
    Progress,
    Splits,
    Task,
    evaluate,
    fit,
    load_data,
    make_fabric,
    recalibrate,
    save_weights,
)
from nas_space.training.randomness import preserved_randomness, seed_globally

__all__ = ["Finalist", "Findings", "Job", "Recipe", "settings_of"]

OnProgress = Callable[[str, int, int, str], object]
"""Called with the stage, what is done of it, out of how much, and a word on how it goes."""


@dataclass(frozen=True)
class Recipe:
    """How long each stage of the job takes.

    Attributes
    ----------
    first_steps
        Of training one path, whose weights all candidates are then given.
    steps
        Of training the shared weights along random paths.
    trials
        Architectures that evolution tries.
    population
        Of the evolution.
    fine_tuning
        Steps of training each finalist.
    rivals
        Random architectures of the same budget that are treated like the winner.
    learning_rate
        Of the first path; random paths and finalists are trained at half of it.
    calibration
        Batches with which batch norms are recalibrated for each trial.
    """

    first_steps: int = 150
    steps: int = 1500
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
    role
        'winner', or 'random' and a number.
    arch, arch_id
        The architecture.
    macs, params
        Multiply-adds for one image, and learnable parameters.
    inherited
        Validation accuracy with inherited weights.
    validation, test
        Accuracy after fine-tuning.
    """

    role: str
    arch: Sample
    arch_id: str
    macs: int
    params: int
    inherited: float
    validation: float
    test: float


@dataclass(frozen=True)
class Findings:
    """What the job found.

    Attributes
    ----------
    winner
        What evolution found.
    rivals
        Random architectures of the same budget, treated alike.
    neighbour
        Test accuracy of a nearest-neighbour classifier; ``None`` where images are not in memory.
    trials
        What evolution tried.
    files
        What was written.
    """

    winner: Finalist
    rivals: list[Finalist]
    neighbour: float | None
    trials: list[Outcome]
    files: list[Path]


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
        The budget: multiply-adds for one image.  ``None`` allows any architecture, and 'median'
        the cheaper half, by random ones.
    device
        As for :func:`~nas_space.training.make_fabric`.
    seed
        Of everything random.
    recipe
        How long each stage takes.
    resume
        Whether to go on with a run in the folder; if there is none, one begins.

    Raises
    ------
    UsageError
        If the folder holds a run and ``resume`` is not given, or something else.
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
        max_macs: float | Literal["median"] | None = "median",
        device: str = "auto",
        seed: int = 0,
        recipe: Recipe | None = None,
        resume: bool = False,
    ) -> None:
        self.out = Path(out)
        self.work = self.out / "work"
        self.recipe = recipe or Recipe()
        self.seed = seed
        there = settings_of(self.out)
        _check_folder(self.out, there, resume=resume)
        entry = find_space(space)
        self.fabric = make_fabric(device)
        self.splits: Splits = load_data(data, seed)
        self.arguments = {"num_labels": self.splits.num_classes, **entry.small, **(arguments or {})}
        with preserved_randomness():
            seed_globally(seed, "job/weights", 0)
            try:
                self.space = entry.space(**self.arguments)
            except TypeError as error:
                raise UsageError(
                    f"{space} cannot be made with {self.arguments}: {error}"
                ) from error
        calm_residuals(self.space)
        self.fabric.to_device(self.space)
        self.macs = macs(self.space, self.splits.input_shape)
        self.params = params(self.space)
        self.max_macs = self._median() if max_macs == "median" else max_macs
        self.within: Any = self.space
        if self.max_macs is not None:
            self._check_budget(self.max_macs)
            self.within = self.space.where(self.macs <= self.max_macs)
        self.settings: dict[str, Any] = {
            "space": space,
            "arguments": self.arguments,
            "fingerprint": fingerprint(self.space),
            "data": str(data),
            "max_macs": self.max_macs,
            "device": device,
            "seed": seed,
            "recipe": asdict(self.recipe),
        }
        self._claim(there)
        self.record = Record(self.out / "metrics.jsonl")

    def _median(self) -> float:
        """What half of random architectures cost at most, to two digits."""
        costs = self.macs.evaluate(self.space.sample(1001, seed=0))
        return float(f"{float(np.median(costs)):.1e}")

    def _check_budget(self, budget: float) -> None:
        smallest = self.space.bounds(self.macs).minimum
        if budget < smallest:
            raise InfeasibleError(
                f"no architecture is within {budget:,.0f} MACs for one image; the smallest budget "
                f"possible is {smallest:,}",
                smallest=smallest,
            )

    def _claim(self, there: Mapping[str, Any] | None) -> None:
        """Makes the folder this run's, or finds out that its run is another one."""
        here = json.loads(json.dumps(self.settings))
        if there is None:
            self.work.mkdir(parents=True, exist_ok=True)
            write_json(self.out / "run.json", here)
            return
        differing = [key for key in here if there.get(key) != here[key]]
        if differing:
            raise UsageError(
                f"the run in {self.out} has other settings: "
                + ", ".join(f"{k} is {there.get(k)!r} there, {here[k]!r} here" for k in differing)
            )

    # -- the stages -----------------------------------------------------------------------------

    def run(self, on_progress: OnProgress = lambda *_: None) -> Findings:
        """Does what is left to do."""
        self.train(on_progress)
        result = self.search(on_progress)
        winner = _best(result)
        archs = {"winner": winner}
        for number, arch in enumerate(self._rivals(winner), start=1):
            archs[f"random {number}"] = arch
        networks = {role: self.tune(role, arch, on_progress) for role, arch in archs.items()}
        finalists = self.score(archs, networks)
        neighbour = nearest_neighbour(self.splits)
        self.record.add("final", "nearest neighbour", test=neighbour)
        facts = {
            **self.settings,
            "input_shape": self.splits.input_shape,
            **asdict(finalists[0]),
        }
        files = write_network(self.out, networks["winner"], self.splits.input_shape, facts)
        files += [self.out / "shared_weights.safetensors", self.record.path]
        return Findings(finalists[0], finalists[1:], neighbour, result.outcomes, files)

    def train(self, on_progress: OnProgress = lambda *_: None) -> None:
        """Trains the shared weights: one path first, then a random one each step."""
        first = self.within.sample(seed=self.seed)
        paths = self.within.sample(self.recipe.steps, seed=self.seed)
        rate = self.recipe.learning_rate
        self._fit(
            "one path",
            self.space,
            self.recipe.first_steps,
            rate,
            on_progress,
            path=lambda _: self.space.activate(first),
        )
        hand_down(self.space, first)
        self._fit(
            "shared weights",
            self.space,
            self.recipe.steps,
            rate / 2,
            on_progress,
            path=lambda step: self.space.activate(paths[step]),
        )
        self.space.eval()
        file = self.out / "shared_weights.safetensors"
        if not file.exists():
            save_weights(self.space, file)

    def search(self, on_progress: OnProgress = lambda *_: None) -> SearchResult:
        """Searches for the best validation accuracy with inherited weights."""
        total = self.recipe.trials
        population = min(self.recipe.population, max(1, total // 2))

        def after(study: Any, _: Any) -> None:
            trials = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
            best = max((trial.value for trial in trials), default=0.0)
            on_progress("search", len(trials), total, f"best accuracy {best:.3f}")

        result = search(
            self.within,
            inherited(self.task(0.0), batches=self.recipe.calibration),
            strategy=RegularizedEvolution(
                population_size=population, sample_size=max(1, population // 3), mutation_prob=0.1
            ),
            trials=total,
            storage=self.out / "study.db",
            seed=self.seed,
            callbacks=[after],
            resume=True,
        )
        for outcome in result.outcomes:
            self.record.add(
                "search",
                outcome.number,
                state=outcome.state,
                arch_id=self.space.arch_id(outcome.arch),
                macs=int(self.macs.evaluate(outcome.arch)),
                **outcome.values,
                **outcome.metrics,
            )
        return result

    def _rivals(self, winner: Sample) -> list[Sample]:
        """Random architectures of the budget, each another one, and none the winner."""
        found = {self.space.arch_id(winner): winner}
        for arch in self.within.sample(4 * self.recipe.rivals + 8, seed=self.seed + 1):
            if len(found) <= self.recipe.rivals:
                found.setdefault(self.space.arch_id(arch), arch)
        return list(found.values())[1:]

    def tune(self, role: str, arch: Sample, on_progress: OnProgress = lambda *_: None) -> nn.Module:
        """Freezes an architecture with its weights, and fine-tunes the network."""
        network: nn.Module = self.space.freeze(arch)
        task = self.task(self.recipe.learning_rate / 2)
        recalibrate(network, task, fabric=self.fabric)
        before = evaluate(network, task, fabric=self.fabric)
        self._fit(
            f"fine-tuning {role}",
            network,
            self.recipe.fine_tuning,
            self.recipe.learning_rate / 2,
            on_progress,
        )
        recalibrate(network, task, fabric=self.fabric)
        after = evaluate(network, task, fabric=self.fabric)
        self.record.add("validation", role, before=before["accuracy"], after=after["accuracy"])
        return network.eval()

    def score(
        self, archs: Mapping[str, Sample], networks: Mapping[str, nn.Module]
    ) -> list[Finalist]:
        """Scores what was fine-tuned on the test split, which nothing has looked at before."""
        file = self.work / "finalists.json"
        if not file.exists():
            validation = {row["at"]: row for row in self.record.rows("validation")}
            task = self.task(0.0)
            finalists = [
                Finalist(
                    role=role,
                    arch=dict(arch),
                    arch_id=self.space.arch_id(arch),
                    macs=int(self.macs.evaluate(arch)),
                    params=int(self.params.evaluate(arch)),
                    inherited=validation[role]["before"],
                    validation=validation[role]["after"],
                    test=evaluate(networks[role], task, "test", fabric=self.fabric)["accuracy"],
                )
                for role, arch in archs.items()
            ]
            write_json(file, [asdict(one) for one in finalists])
        finalists = [Finalist(**facts) for facts in json.loads(file.read_text(encoding="utf-8"))]
        for one in finalists:
            self.record.add("final", one.role, **asdict(one))
        return finalists

    # -- training -------------------------------------------------------------------------------

    def task(self, learning_rate: float) -> Task:
        """The task that networks are trained for, and shared weights too."""
        optimizer = partial(
            torch.optim.SGD, lr=learning_rate, momentum=0.9, nesterov=True, weight_decay=4e-5
        )
        return Task.classification(self.splits, optimizer=optimizer)

    def _fit(
        self,
        stage: str,
        network: nn.Module,
        steps: int,
        learning_rate: float,
        on_progress: OnProgress,
        path: Callable[[int], Any] | None = None,
    ) -> None:
        """Trains for a number of steps, or for those that an interrupted run has left to do."""

        def on_step(now: Progress) -> None:
            if now.step % 10 == 0 or now.step == now.total:
                self.record.add(stage, now.step, loss=now.loss, lr=now.lr)
                on_progress(stage, now.step, now.total, f"loss {now.loss:.3f}")

        fit(
            network,
            self.task(learning_rate),
            steps=steps,
            fabric=self.fabric,
            seed=self.seed,
            path=path,
            checkpoint=self.work / f"{stage.replace(' ', '-')}.safetensors",
            every=50,
            resume=True,
            on_step=on_step,
        )


def settings_of(out: Path) -> dict[str, Any] | None:
    """The settings of the run in a folder; ``None`` if there is no run.

    Raises
    ------
    UsageError
        If they cannot be read.
    """
    file = out / "run.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise UsageError(f"{out} is a file; choose another --out") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} is damaged: {error}; choose another --out") from error
    if not isinstance(found, dict):
        raise UsageError(f"{file} describes no run; choose another --out")
    return found


def _check_folder(out: Path, there: Mapping[str, Any] | None, *, resume: bool) -> None:
    if there is not None and not resume:
        raise UsageError(
            f"{out} holds a run already; go on with it by --resume, or choose another --out"
        )
    if there is None and out.is_dir() and any(out.iterdir()):
        raise UsageError(f"{out} holds other files; choose another --out")


def _best(result: SearchResult) -> Sample:
    """The best architecture; of several with the same accuracy, that of the lowest loss."""
    if not result.complete:
        result.best()  # says why there is none
    found = max(result.complete, key=lambda o: (o.values["accuracy"], -o.metrics["loss"]))
    return dict(found.arch)


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
