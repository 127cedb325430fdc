"""`Run`: a search that was begun from the shell, in a folder that holds all it needs to go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from torch import nn

from ..errors import InfeasibleError, UsageError
from ..hub.registry import find_space
from ..profiler import latency, macs, params
from ..training import Progress, Splits, Task, fit, load_data, make_fabric
from ..training.randomness import preserved_randomness, seed_globally
from . import signs
from .fingerprint import describe, differences, fingerprint
from .finished import write_json
from .record import Record

__all__ = ["SEARCH", "WORK", "WORKER_FILE", "OnProgress", "Run", "settings_of"]

WORK = "work"
"""The folder in that of a run for what it needs to go on."""

SEARCH = "search.safetensors"
"""The file there with the state of a one-shot search."""

WORKER_FILE = "worker"
"""The file in the folder of a run's work that names the process which is at it, or was last."""

OnProgress = Callable[[str, int, int, str], object]
"""Called with the stage, what is done of it, out of how much, and a word on how it goes."""


class Run:
    """A search in a folder: the space, the data and the budget, and a record of what was done.

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
    max_latency
        Another budget: the time of one image in microseconds, by the table.
    latency_table
        The file with the times of blocks; see :func:`nas_space.profiler.latency`.
    device
        As for :func:`~nas_space.training.make_fabric`.
    seed
        Of everything random.
    resume
        Whether to go on with a run in the folder; if there is none, one begins.
    plan
        What else there is to know, the name of the strategy among it.  A run goes on with the
        same plan only, but for the keys that are :attr:`flexible`.

    Raises
    ------
    UsageError
        If the folder holds a run and ``resume`` is not given, or another one, or something else.
    InfeasibleError
        If no architecture is within the budget.
    DataError
        If the data cannot be used.
    """

    flexible: ClassVar[frozenset[str]] = frozenset({"device"})
    """The settings that may change when a run goes on."""

    def __init__(
        self,
        out: Path | str,
        *,
        plan: Mapping[str, Any],
        space: str = "proxylessnas",
        arguments: Mapping[str, Any] | None = None,
        data: str = "digits",
        max_macs: float | Literal["median"] | None = "median",
        max_latency: float | None = None,
        latency_table: str | None = None,
        device: str = "auto",
        seed: int = 0,
        resume: bool = False,
    ) -> None:
        self.out = Path(out)
        self.work = self.out / WORK
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
        # Convolutions of images take half the time so, whatever the order of the images.
        if all(weight.dim() != 5 for weight in self.space.parameters()):  # those of volumes
            cast(Any, self.space).to(memory_format=torch.channels_last)
        self.fabric.to_device(self.space)
        self.macs = macs(self.space, self.splits.input_shape)
        self.params = params(self.space)
        self.max_macs = self._median() if max_macs == "median" else max_macs
        self.within: Any = self.space
        if self.max_macs is not None:
            self._check_budget(self.max_macs)
            self.within = self.space.where(self.macs <= self.max_macs)
        if (max_latency is None) != (latency_table is None):
            raise UsageError("a budget of latency is a time and a table: give both or neither")
        self.latency: Any = None
        self.max_latency = max_latency
        if max_latency is not None and latency_table is not None:
            self.latency = latency(self.space, latency_table, self.splits.input_shape)
            self.within = self.within.where(self.latency <= max_latency)
        self.settings: dict[str, Any] = {
            "space": space,
            "arguments": self.arguments,
            "fingerprint": fingerprint(self.space),
            "data": str(data),
            "input_shape": list(self.splits.input_shape),
            "max_macs": self.max_macs,
            "max_latency": max_latency,
            "latency_table": latency_table,
            "device": device,
            "seed": seed,
            **plan,
        }
        self.check()
        self._claim(there)
        self.record = Record(self.out / "metrics.jsonl")

    def check(self) -> None:
        """Refuses what cannot be done, before anything is written."""

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
        described = json.loads(json.dumps(describe(self.space)))
        if there is not None:
            self._compare(there, {**here, "described": described})
        self.work.mkdir(parents=True, exist_ok=True)
        write_json(self.out / "run.json", {**here, "described": described})
        (self.work / WORKER_FILE).write_text(signs.new_name(), encoding="utf-8")

    def _compare(self, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
        if there.get("fingerprint") != here["fingerprint"]:
            what = differences(there.get("described", {}), here["described"])
            raise UsageError(
                f"the run in {self.out} is of another space: {'; '.join(what)}; go on with the "
                "space as it was, or begin anew in another --out"
            )
        differing = [
            key
            for key in here
            if key not in self.flexible and key in there and there[key] != here[key]
        ]
        if differing:
            raise UsageError(
                f"the run in {self.out} has other settings: "
                + ", ".join(f"{k} is {there[k]!r} there, {here[k]!r} here" for k in differing)
            )

    # -- training -------------------------------------------------------------------------------

    def task(self, learning_rate: float) -> Task:
        """The task that networks are trained for, and shared weights too."""
        optimizer = partial(
            torch.optim.SGD, lr=learning_rate, momentum=0.9, nesterov=True, weight_decay=4e-5
        )
        return Task.classification(self.splits, optimizer=optimizer)

    def fit(
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
