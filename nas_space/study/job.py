"""The main job: from a space and data to the best trained network within a budget.

Train the shared weights along random paths; search by evolution for the best validation
accuracy with inherited weights; fine-tune the best that were found, and keep the one that is
then the best; and, for an honest comparison, fine-tune random architectures of the same budget
just alike.  The winner and these are scored once on the test split.
Every stage can be interrupted at any point and taken up again, to the same final result.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..mutable import Sample
from ..strategy import RegularizedEvolution
from ..training import (
    Splits,
    evaluate,
    recalibrate,
    save_weights,
)
from ..training.randomness import generator_of
from .evaluators import inherited
from .finished import write_json, write_network
from .progress import SearchProgress, ShowProgress
from .result import Outcome, SearchResult
from .run import OnProgress, Run
from .search import search
from .shared import calm_residuals, hand_down

__all__ = ["Finalist", "Findings", "Job", "Recipe"]

_TRIAL = 4.0
"""How many steps of training a trial takes the time of, about."""


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
    finalists
        Architectures found by evolution that are fine-tuned; the winner is the one that is then
        the best on the validation split.  Inherited weights only tell roughly who that will be.
    fine_tuning
        Steps of training each finalist.
    rivals
        Random architectures of the same budget that are fine-tuned like the finalists.
    learning_rate
        Of the first path; random paths and finalists are trained at half of it.
    calibration
        Batches with which batch norms are recalibrated for each trial.
    """

    first_steps: int = 150
    steps: int = 1200
    trials: int = 100
    population: int = 30
    finalists: int = 5
    fine_tuning: int = 120
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


class Job(Run):
    """One run of the main job, in a folder.

    Parameters
    ----------
    out, arguments
        As of :class:`~nas_space.study.run.Run`.
    recipe
        How long each stage takes.
    workers
        How many processes evaluate trials.

    Raises
    ------
    UsageError, InfeasibleError, DataError
        As of :class:`~nas_space.study.run.Run`.
    """

    def __init__(
        self, out: Path | str, *, recipe: Recipe | None = None, workers: int = 1, **arguments: Any
    ) -> None:
        self.recipe = recipe or Recipe()
        self.workers = workers
        plan = {"strategy": "spos", "recipe": asdict(self.recipe)}
        super().__init__(out, plan=plan, **arguments)
        calm_residuals(self.space)

    @property
    def stages(self) -> dict[str, tuple[int, float]]:
        """Of each stage how long it is, and the work of one step of it, in steps of training."""
        recipe = self.recipe
        return {
            "one path": (recipe.first_steps, 1.0),
            "shared weights": (recipe.steps, 1.0),
            "search": (recipe.trials, _TRIAL),
            "fine-tuning": (recipe.fine_tuning * (recipe.finalists + recipe.rivals), 1.0),
        }

    # -- the stages -----------------------------------------------------------------------------

    def run(self, on_progress: OnProgress = lambda *_: None) -> Findings:
        """Does what is left to do."""
        self.train(on_progress)
        result = self.search(on_progress)
        found = _best(result, self.recipe.finalists)
        archs = {f"found {number}": arch for number, arch in enumerate(found, start=1)}
        for number, arch in enumerate(self._rivals(found), start=1):
            archs[f"random {number}"] = arch
        networks, accuracies = self._tune_all(archs, on_progress)
        best = max(list(archs)[: len(found)], key=lambda role: accuracies[role][1])
        scored = [best, *list(archs)[len(found) :]]
        finalists = self.score({role: archs[role] for role in scored}, networks, accuracies)
        neighbour = nearest_neighbour(self.splits, self.seed)
        self.record.add("final", "nearest neighbour", test=neighbour)
        facts = {
            **self.settings,
            "input_shape": self.splits.input_shape,
            **asdict(finalists[0]),
        }
        files = write_network(self.out, networks[best], self.splits.input_shape, facts)
        files += [self.out / "shared_weights.safetensors", self.record.path]
        return Findings(finalists[0], finalists[1:], neighbour, result.outcomes, files)

    def train(self, on_progress: OnProgress = lambda *_: None) -> None:
        """Trains the shared weights: one path first, then a random one each step."""
        first = self.within.sample(seed=self.seed)
        paths = self.within.sample(self.recipe.steps, seed=self.seed)
        rate = self.recipe.learning_rate
        self.fit(
            "one path",
            self.space,
            self.recipe.first_steps,
            rate,
            on_progress,
            path=lambda _: self.space.activate(first),
        )
        hand_down(self.space, first)
        self.fit(
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

        def show(now: SearchProgress) -> None:
            on_progress("search", now.done, total, now.findings)

        result = search(
            self.within,
            inherited(self.task(0.0), batches=self.recipe.calibration),
            strategy=RegularizedEvolution(
                population_size=population, sample_size=max(1, population // 3), mutation_prob=0.1
            ),
            trials=total,
            storage=self.out / "study.db",
            seed=self.seed,
            workers=self.workers,
            callbacks=[ShowProgress(total, show, every=0.0)],
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

    def _rivals(self, found: Sequence[Sample]) -> list[Sample]:
        """Random architectures of the budget, each another one, and none that was found."""
        others = {self.space.arch_id(arch): arch for arch in found}
        for arch in self.within.sample(4 * self.recipe.rivals + 8, seed=self.seed + 1):
            if len(others) < len(found) + self.recipe.rivals:
                others.setdefault(self.space.arch_id(arch), arch)
        return list(others.values())[len(found) :]

    def _tune_all(
        self, archs: Mapping[str, Sample], on_progress: OnProgress
    ) -> tuple[dict[str, nn.Module], dict[str, tuple[float, float]]]:
        """The networks by their roles, and what :meth:`tune` says of their accuracies."""
        networks: dict[str, nn.Module] = {}
        accuracies: dict[str, tuple[float, float]] = {}
        for number, (role, arch) in enumerate(archs.items()):

            def show(
                _: str, done: int, total: int, word: str, number: int = number, role: str = role
            ) -> None:
                on_progress(
                    "fine-tuning", number * total + done, len(archs) * total, f"{role}, {word}"
                )

            networks[role], accuracies[role] = self.tune(role, arch, show)
        return networks, accuracies

    def tune(
        self, role: str, arch: Sample, on_progress: OnProgress = lambda *_: None
    ) -> tuple[nn.Module, tuple[float, float]]:
        """Freezes an architecture with its weights, and fine-tunes the network.

        Returns it with its validation accuracies before and after.
        """
        network: nn.Module = self.space.freeze(arch)
        task = self.task(self.recipe.learning_rate / 2)
        recalibrate(network, task, fabric=self.fabric)
        before = evaluate(network, task, fabric=self.fabric)
        self.fit(
            f"fine-tuning {role}",
            network,
            self.recipe.fine_tuning,
            self.recipe.learning_rate / 2,
            on_progress,
        )
        recalibrate(network, task, fabric=self.fabric)
        after = evaluate(network, task, fabric=self.fabric)
        accuracies = before["accuracy"], after["accuracy"]
        self.record.add("validation", role, before=accuracies[0], after=accuracies[1])
        return network.eval(), accuracies

    def score(
        self,
        archs: Mapping[str, Sample],
        networks: Mapping[str, nn.Module],
        accuracies: Mapping[str, tuple[float, float]],
    ) -> list[Finalist]:
        """Scores the winner, which comes first, and its rivals on the test split.

        Nothing has looked at that before.
        """
        file = self.work / "finalists.json"
        if not file.exists():
            task = self.task(0.0)
            finalists = [
                Finalist(
                    role=role if number else "winner",
                    arch=dict(arch),
                    arch_id=self.space.arch_id(arch),
                    macs=int(self.macs.evaluate(arch)),
                    params=int(self.params.evaluate(arch)),
                    inherited=accuracies[role][0],
                    validation=accuracies[role][1],
                    test=evaluate(networks[role], task, "test", fabric=self.fabric)["accuracy"],
                )
                for number, (role, arch) in enumerate(archs.items())
            ]
            write_json(file, [asdict(one) for one in finalists])
        finalists = [Finalist(**facts) for facts in json.loads(file.read_text(encoding="utf-8"))]
        for one in finalists:
            self.record.add("final", one.role, **asdict(one))
        return finalists


def _best(result: SearchResult, k: int) -> list[Sample]:
    """The best architectures; of several with the same accuracy, those of the lowest loss."""
    if not result.complete:
        result.best()  # says why there is none
    ranked = sorted(result.complete, key=lambda o: (-o.values["accuracy"], o.metrics["loss"]))
    return [dict(outcome.arch) for outcome in ranked[:k]]


def nearest_neighbour(splits: Splits, seed: int = 0) -> float | None:
    """Test accuracy of copying the label of the nearest training image.

    It knows the training images as they are, and augmented in four ways.  ``None`` for data
    sets that do not hold their images as tensors.
    """
    from sklearn.neighbors import KNeighborsClassifier

    train, test = (getattr(split, "tensors", None) for split in (splits.train, splits.test))
    if train is None or test is None:
        return None
    images = [train[0]]
    if splits.augment is not None:
        draws = (generator_of(seed, "job/neighbour", copy) for copy in range(4))
        images += [splits.augment(train[0], draw) for draw in draws]
    known, labels = torch.cat(images).flatten(1), train[1].repeat(len(images))
    model = KNeighborsClassifier(1).fit(known.numpy(), labels.numpy())
    return float(model.score(test[0].flatten(1).numpy(), test[1].numpy()))
