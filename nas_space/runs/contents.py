"""What the files in the folder of a run hold: plain data, as it is written and read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from ..errors import StorageError
from ..mutable import Sample
from ..study.fingerprint import Described

__all__ = [
    "Compressed",
    "Conclusion",
    "DrawnDecision",
    "EightBits",
    "Promise",
    "SettingsFile",
    "check_alike",
]


class SettingsFile(TypedDict, total=False):
    """What ``run.json`` may say beside a plan. Each kind of run has some of it, older ones less."""

    arguments: dict[str, Any]
    budgets: dict[str, float]
    costs: list[str]
    data: str
    described: Described
    device: str
    fingerprint: str
    input_shape: list[int]
    int8: bool
    latency_table: str | None
    max_latency: float | None
    max_macs: float | None
    model: str
    plan: dict[str, Any]
    recipe: dict[str, Any]
    runtime: str | None
    seed: int
    space: str
    threads: int | None
    wanted: list[dict[str, float | str]]


@dataclass(frozen=True)
class Promise:
    """The latency of a network on the runtime that it was searched for: predicted, and measured.

    Attributes
    ----------
    runtime, version, threads
        Where it was timed.
    promised
        Microseconds by the table that the search went by; ``None`` if there is none.
    measured
        Microseconds of the network itself.
    steady
        Whether two halves of the readings agreed.
    file, difference
        What the runtime was given, and by how much its outputs differ from those in torch at most;
        ``None`` for torch itself.
    """

    runtime: str
    version: str
    threads: int
    promised: float | None
    measured: float
    steady: bool
    file: str | None = None
    difference: float | None = None

    def __str__(self) -> str:
        """In words, as reports say it."""
        on = "one thread" if self.threads == 1 else f"{self.threads} threads"
        promised = "" if self.promised is None else f"{self.promised / 1000:.3g} ms promised, "
        noisy = "" if self.steady else " (on a machine too noisy to be sure)"
        written = ""
        if self.file is not None:
            written = f"; in {Path(self.file).name}"
            if self.difference is not None:
                written += f", which differs by {self.difference:.1e} from torch at most"
        return (
            f"on {self.runtime} {self.version}, {on}: {promised}{self.measured / 1000:.3g} ms "
            f"measured{noisy}{written}"
        )


class _Scores(TypedDict):
    arch: dict[str, Any]
    validation: float
    test: float


class Conclusion(_Scores, total=False):
    """What ``architecture.json`` says of the winner, beside the settings of the run."""

    space: str
    arguments: dict[str, Any]
    input_shape: list[int]
    inherited: float
    costs: dict[str, float]
    macs: float
    params: float
    deployed: Promise


class _Label(TypedDict):
    label: str


class DrawnDecision(_Label, total=False):
    """A row of the winner's picture, as far as reports show it."""

    group: str
    share: float
    shape: str


@dataclass(frozen=True)
class EightBits:
    """What 8 bits change in a network.

    Attributes
    ----------
    method
        How ranges were found, in words.
    products
        Whether the processor has instructions for products of 8 bits, if that is known.
    size, milliseconds, score
        Bytes, the median time, and the main metric, before and after.
    """

    method: str
    products: bool | None
    size: tuple[int, int]
    milliseconds: tuple[float, float]
    score: tuple[float, float]


@dataclass(frozen=True)
class Compressed:
    """A network of a compression: the original, or what was found within a budget.

    Attributes
    ----------
    name
        ``'original'``, or the budget.
    arch
        The architecture.
    costs
        Name to value, ``'latency'`` in microseconds for one example as it was measured here: on
        the runtime of the run, or in torch.
    scores
        Metric to value on the test split, or on the validation split where there is no other.
    steps
        The main metric on the validation split after each stage: with the weights that it begins
        with, refitted, and tuned.
    folder
        Where it was written.
    exports
        File beside that to the largest difference of its outputs from the network's, or why there
        is none; see :func:`~nas_space.runs.exporting.export_checked`.
    deployed
        The network on the runtime of the run, if there is one.
    quantised
        What 8 bits change, or why there is no such file; ``None`` where they were not asked for.
    """

    name: str
    arch: Sample
    costs: Mapping[str, float]
    scores: Mapping[str, float]
    steps: Mapping[str, float] = field(default_factory=dict)
    folder: str | None = None
    exports: Mapping[str, float | str] = field(default_factory=dict)
    deployed: Promise | None = None
    quantised: EightBits | str | None = None


def check_alike(found: Sequence[Compressed], source: object) -> None:
    """Refuse results of a compression whose networks do not all have the same costs and scores.

    Raises
    ------
    StorageError
        One lacks what another has; the message names the file or folder.
    """
    for one in found:
        for there, whole in ((one.costs, found[0].costs), (one.scores, found[0].scores)):
            needed = {*whole, *(["latency"] if there is one.costs else [])}
            if missing := sorted(needed ^ there.keys()):
                raise StorageError(
                    f"{source} is damaged: {one.name} and {found[0].name} do not both have "
                    f"{missing[0]}; restore a copy"
                )
