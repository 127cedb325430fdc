"""The end of a run: the winner among its candidates, scored on the test split, in files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import torch

from ..mutable import Sample
from ..randomness import generator_of
from ..study import OneShotResult, SearchResult
from ..training import Splits, evaluate
from .contents import Promise
from .files import read_json, write_json, write_network
from .sources import example_of
from .weight_stages import SHARED_WEIGHTS
from .workspace import Candidate, Workspace

__all__ = ["Finalist", "Findings", "conclude", "nearest_neighbour"]


@dataclass(frozen=True)
class Finalist:
    """An architecture that was trained and scored.

    Attributes
    ----------
    role
        ``'winner'``, or ``'random'`` and a number.
    arch, arch_id
        The architecture.
    costs
        Name to value.
    validation, test
        Accuracy after training.
    inherited
        Validation accuracy with the weights of the space, before fine-tuning; ``None`` for what was
        trained from fresh weights.
    facts
        What else is known of it.
    """

    role: str
    arch: Sample
    arch_id: str
    costs: Mapping[str, float]
    validation: float
    test: float
    inherited: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return everything in one dict, as it is written to files; costs by their names, too."""
        known = {key: value for key, value in asdict(self).items() if value is not None}
        return {**self.costs, **known.pop("facts"), **known}


@dataclass(frozen=True)
class Findings:
    """What a run has found.

    Attributes
    ----------
    winner
        Of the architectures that the search found, that which is best after training.
    rivals
        Random architectures of the same budget, treated alike.
    neighbour
        Test accuracy of a nearest-neighbour classifier; ``None`` without rivals to compare with,
        and where images are not in memory.
    result
        Of the search.
    files
        What was written.
    deployed
        The winner on the runtime that it was searched for, if there is one.
    """

    winner: Finalist
    rivals: list[Finalist]
    neighbour: float | None
    result: SearchResult | OneShotResult
    files: list[Path]
    deployed: Promise | None = None


class _KnownScores(TypedDict):
    """Finalists that were scored, each by the name of its training and its architecture."""

    trained: list[list[str]]
    finalists: list[Finalist]


def conclude(run: Workspace, settings: Mapping[str, Any], *, compared: bool) -> Findings:
    """Choose the winner, score it and its rivals on the test split, and write it down.

    Nothing has looked at the test split before.

    Parameters
    ----------
    run
        What its stages have found.
    settings
        Of the run, which are written beside the architecture.
    compared
        Whether to compare with a nearest neighbour.
    """
    found = [role for role in run.candidates if role.startswith("found")]
    best = max(found, key=lambda role: run.candidates[role].scores["validation"])
    scored = {"winner": run.candidates[best]}
    scored |= {role: one for role, one in run.candidates.items() if role not in found}
    finalists = _scored(run, scored)
    neighbour = nearest_neighbour(run.splits, run.seed) if compared else None
    if compared:
        for one in finalists:
            run.record.add("final", one.role, **one.to_dict())
        run.record.add("final", "nearest neighbour", test=neighbour)
    winner, *rivals = finalists
    network, shape = run.candidates[best].network, run.splits.input_shape
    assert network is not None
    assert run.result is not None
    facts, deployed = {**settings, **winner.to_dict()}, None
    if run.deployment is not None:
        deployed = run.deployment.deploy(
            network.to("cpu"),
            example_of(run.task(0.0)),
            winner.costs.get("latency"),
            run.folder.path,
        )
        facts["deployed"] = asdict(deployed)
    # The facts are written after the weights and the program, and the run is called finished after
    # that; killed in between, it scores the finalists as it did and writes the same files again.
    files = write_network(run.folder.path, network, shape, facts)
    if deployed is not None and deployed.file is not None:
        files.append(Path(deployed.file))
    shared = run.folder.path / SHARED_WEIGHTS
    files += [*([shared] if shared.exists() else []), run.record.path]
    return Findings(winner, rivals, neighbour, run.result, files, deployed)


def _scored(run: Workspace, candidates: Mapping[str, Candidate]) -> list[Finalist]:
    """Return the candidates with their scores, those on the test split as they were once known."""
    # The test split is asked once: what was told of it stays, also where the run goes on on another
    # device, whose scores differ in the last digits.
    file = run.folder.work / "finalists.json"
    trained = [[one.trained, run.space.arch_id(one.arch)] for one in candidates.values()]
    # One of an earlier version has a list here, and is scored again to the same numbers.
    there = read_json(file, _KnownScores | list[Any]) if file.exists() else []
    # A run that goes on with more trials has other finalists.
    if isinstance(there, dict) and there["trained"] == trained:
        known: list[Finalist] = there["finalists"]
        if all(one.costs.keys() >= set(run.costs.shown) for one in known):
            return known
    task = run.task(0.0)
    finalists = []
    for role, one in candidates.items():
        assert one.network is not None
        scores = evaluate(one.network, task, "test", fabric=run.fabric)
        finalists.append(
            Finalist(
                role=role,
                arch=dict(one.arch),
                arch_id=run.space.arch_id(one.arch),
                costs=run.costs.of(one.arch),
                test=scores[task.main_metric],
                facts=one.facts,
                **one.scores,
            )
        )
    write_json(file, {"trained": trained, "finalists": [asdict(one) for one in finalists]})
    return finalists


def nearest_neighbour(splits: Splits, seed: int = 0) -> float | None:
    """Return the test accuracy of copying the label of the nearest training image.

    It knows the training images as they are, and augmented in four ways. ``None`` for data sets
    that do not hold their images as tensors.
    """
    train, test = (getattr(split, "tensors", None) for split in (splits.train, splits.test))
    if train is None or test is None:
        return None
    images = [train[0]]
    if splits.augment is not None:
        draws = (generator_of(seed, "job/neighbour", copy) for copy in range(4))
        images += [splits.augment(train[0], draw) for draw in draws]
    # In float64: distances come from a product of matrices, whose rounding differs between machines
    # and numbers of threads, and decides which of two images of nearly the same distance is nearer.
    known, labels = torch.cat(images).flatten(1).double(), train[1].repeat(len(images))
    # Some at a time: the distances of all to all would take more memory than the images.
    parts = test[0].flatten(1).double().split(256)
    nearest = [torch.cdist(part, known).argmin(1) for part in parts]
    return float((labels[torch.cat(nearest)] == test[1]).double().mean())
