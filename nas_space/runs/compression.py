"""``CompressionRun``: a network that exists made smaller, to one or more budgets, in stages.

The network becomes a space, and the channels of its groups are sorted by importance; where that is
asked for, its weights are trained along paths of all sizes, with the network itself as their
teacher. Then for each budget, from the largest to the smallest, the architecture whose choices
lose least by themselves is cut out, fitted to what a larger network computes, trained further with
the original as teacher, scored, written and exported. The larger network is that of the budget
before, or the original: so what that has learnt is not learnt anew.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..compression import elastic, load_network, save_network
from ..compression.adopted import origin_of
from ..errors import NasSpaceError, UsageError
from ..mutable import Sample
from ..nn.copying import copied
from ..profiler.target import TORCH
from ..runtimes import find_runtime
from ..schema import checked
from ..strategy.oneshot import Sandwich
from ..study import OneShotResult, describe, fingerprint, search
from ..training import Progress, Task, evaluate, fit, make_fabric, recalibrate
from ..training.batches import training_batches
from ..training.distillation import DistilledStep, distillation_of
from ..training.forward import inputs_of
from ..training.modes import without_dropout
from .contents import Compressed, EightBits, check_alike
from .costs import Costs, amount_of
from .deployment import Deployment, deployment_of
from .exporting import StoredNetwork, export_checked, export_network
from .files import read_json, write_json
from .folder import COMPRESSED, COMPRESSION, RunFolder
from .plan import CompressionPlan
from .record import Record
from .sensitivity import FEW, InheritedScore, changes, is_within, loses_least, running_once
from .sources import example_of, load_model, load_task
from .stage import OnProgress, Stage

__all__ = ["CompressionRun"]

_ANSWERS = 1 << 28
"""Bytes of the teacher's outputs that are cached."""

_SETTINGS = ("model", "data", "latency_table", "runtime", "threads", "int8", "device", "seed")


class CompressionRun:
    """A compression from the shell, in a folder.

    It may be interrupted at any moment; resumed, it goes on with what is left to do.

    Parameters
    ----------
    out
        The folder: everything that the run needs to go on is in it.
    model, data
        As for :func:`~nas_space.runs.sources.load_model` and
        :func:`~nas_space.runs.sources.load_task`.
    budgets
        For each network that is wanted, its budget of each cost: an amount, or a share of the
        original's as ``'50%'``.
    plan
        How long each stage takes.
    latency_table
        Times of blocks, for budgets of latency.
    runtime, threads
        What the networks are to run on, as of :func:`~nas_space.profiler.measure_latency`: without
        a table, one is measured and calibrated, and what was found is written and timed there.
    int8
        Whether to write each network for ONNX Runtime with 8 bits, too.
    device
        As for :func:`~nas_space.training.make_fabric`.
    seed
        Of everything random.
    resume
        Whether to go on with a run in the folder; if there is none, one begins.
    progress
        Whether to show how far measuring is.

    Attributes
    ----------
    original, space
        The network, and the space made of it.
    budgets
        Name to the budgets of a network, in numbers.
    stages
        In their order.
    losses
        By the name of a change of one label, how much further from the teacher it is by itself;
        known after the stage that finds it.

    Raises
    ------
    UsageError, DataError
        The network or the data are not to be had, or do not go together.
    SpaceError
        Nothing in the network can vary.
    InfeasibleError
        A budget is below the smallest architecture.
    """

    def __init__(
        self,
        out: Path | str,
        *,
        model: str,
        data: str,
        budgets: Sequence[Mapping[str, float | str]],
        plan: CompressionPlan | None = None,
        latency_table: str | None = None,
        runtime: str | None = None,
        threads: int | None = None,
        int8: bool = False,
        device: str = "auto",
        seed: int = 0,
        resume: bool = False,
        progress: bool = False,
    ) -> None:
        self.plan, self.seed, self.int8 = plan or CompressionPlan(), seed, int8
        if int8:
            find_runtime("onnxruntime").require()
        self.folder = RunFolder(out, resume=resume)
        self.fabric = make_fabric(device)
        self.original = load_model(model)
        # One pass over the memory for each step: tables of words are most of a small network.
        optimizer = self._optimizer = partial(
            torch.optim.AdamW, lr=self.plan.learning_rate, weight_decay=0.01, fused=True
        )
        self.task = load_task(
            data, self.original, seed, batch_size=self.plan.batch_size, optimizer=optimizer
        )
        teacher = distillation_of(self.task)
        assert teacher is not None
        # All networks are trained on the same batches, and scored on the same.
        teacher.cache.most = _ANSWERS
        self.inputs = example_of(self.task)
        arguments, keywords = self.inputs
        followed: Any = keywords or arguments
        self.space: Any = elastic(self.original, followed, **self.plan.elastic)
        for network in (self.original, self.space):
            self.fabric.to_device(network)
        # Which blocks are there decides what an architecture costs, so this comes before costs.
        self.space.sort_blocks(self._batches("sort")[:FEW])
        self.deployment, table = deployment_of(runtime, threads), None
        if self.deployment is not None and latency_table is None:
            table = self.deployment.table(
                self.folder, self.space, progress=progress, inputs=followed
            )
        self.costs = Costs(
            self.space, None, latency_table or table, inputs=followed, runtime=runtime,
            threads=threads,
        )  # fmt: skip
        self.budgets = self._amounts(budgets)
        self._within = {name: self.costs.within(most) for name, most in self.budgets.items()}
        settings = {
            "strategy": COMPRESSION,
            "space": type(self.original).__name__,
            "model": model,
            "data": data,
            "wanted": [dict(budget) for budget in budgets],
            "plan": asdict(self.plan),
            "latency_table": latency_table,
            "runtime": runtime,
            "threads": threads,
            "int8": int8,
            "device": device,
            "seed": seed,
            "fingerprint": fingerprint(self.space),
        }
        # Nothing has been written so far, so what is refused above leaves no folder.
        self.folder.claim(settings, describe(self.space), {"device"})
        Deployment.keep(table, self.folder)
        self._found: dict[str, Sample] = {}
        self.record = Record(self.folder.path / "metrics.jsonl")
        training = [self._shared_weights()] if self.plan.steps else []
        self.stages = [self._sorting(), *training, self._sensitivity()]
        self._order = sorted(self.budgets, key=self._cut)
        for name in self._order:
            self.stages += [self._search(name), self._tuning(name)]

    @classmethod
    def stored(cls, out: Path | str, settings: Mapping[str, Any], **given: Any) -> CompressionRun:
        """Go on with the compression in a folder by its own settings, but for what is given."""
        # A run of an earlier version has not all of them.
        kept = {name: settings[name] for name in _SETTINGS if name in settings}
        plan = checked(settings["plan"], CompressionPlan, Path(out, "run.json"))
        return cls(out, budgets=settings["wanted"], plan=plan, resume=True, **{**kept, **given})

    def run(self, on_progress: OnProgress = lambda *_: None) -> list[Compressed]:
        """Do what is left to do; return the original and what was found, in the order asked."""
        for stage in self.stages:
            stage.do(on_progress)
        found = [self._score("original", self.original, self.space.original)]
        found += [read_json(self._place(name) / COMPRESSED, Compressed) for name in self.budgets]
        check_alike(found, self.folder.path)
        write_json(self.folder.path / COMPRESSED, [asdict(one) for one in found])
        return found

    def _amounts(self, budgets: Sequence[Mapping[str, float | str]]) -> dict[str, dict[str, float]]:
        """Return budgets in numbers, each under a name that serves as the name of a folder."""
        found: dict[str, dict[str, float]] = {}
        for budget in budgets:
            most = {
                cost: amount_of(wanted, self.costs.values(cost, self.space.original))
                for cost, wanted in budget.items()
            }
            name = "-".join(f"{cost}-{wanted}" for cost, wanted in budget.items())
            name = name.replace("%", "").replace(":", "-")
            if name in found:
                raise UsageError(f"two networks would be called {name!r}: give each budget once")
            found[name] = most
        if not found:
            raise UsageError("say how small: a budget of at least one cost")
        return found

    # -- stages -------------------------------------------------------------------------------

    def _sorting(self) -> Stage:
        """Rank the channels of each group, so that a smaller width keeps the important ones."""

        def do(on_progress: OnProgress) -> None:
            # Done anew when a run goes on: the space keeps the order for what is fitted later, and
            # the same batches give the same order.
            self.space.sort_channels(self._batches("sort"))
            # A short training of all sizes moves the weights of the largest further than it brings
            # the small ones, so that a network without a larger one begins from the better of them.
            self._spaces = [self.space, *([copied(self.space)] if self.plan.steps else [])]
            on_progress("sorting", 1, 1, "channels by importance")

        return Stage("sorting", 1, 2.0 * self.plan.calibration, do)

    def _shared_weights(self) -> Stage:
        """Train the weights of all architectures at once."""
        steps = self.plan.steps

        def do(on_progress: OnProgress) -> None:
            def show(progress: Any) -> None:
                if progress.step % 10 == 0 or progress.step == steps:
                    self.record.add("shared weights", progress.step, loss=progress.loss)
                on_progress("shared weights", progress.step, steps, f"loss {progress.loss:.3f}")

            self.trained = search(
                self.space,
                self.task,
                strategy=Sandwich(),
                steps=steps,
                seed=self.seed,
                storage=self.folder.work / "shared-weights.safetensors",
                every=max(10, steps // 20),  # it is twice the size of the network
                resume=True,
                callbacks=[show],
                fabric=self.fabric,
            )
            self.space.eval()

        return Stage("shared weights", steps, 3.0, do)

    trained: OneShotResult | None = None
    _spaces: list[Any]
    losses: Mapping[str, float]

    @cached_property
    def _inherited(self) -> InheritedScore:
        batches = self._batches("refit")
        return InheritedScore(self.space, self.original, self.task, batches, self.fabric, self.seed)

    def _sensitivity(self) -> Stage:
        """Measure the sensitivity to each choice alone, with the shared weights."""
        tried = list(changes(self.space))
        file = self.folder.work / "sensitivity.json"

        def do(on_progress: OnProgress) -> None:
            scores: dict[str, float] = read_json(file, dict[str, float])
            for number, (name, arch) in enumerate([("", self.space.original), *tried]):
                if name not in scores:
                    scores[name] = self._inherited(arch)
                    write_json(file, scores)
                on_progress("sensitivity", number, len(tried), name)
            self.losses = {name: scores[""] - score for name, score in scores.items() if name}
            self.__dict__.pop("_inherited", None)  # it keeps what blocks return

        return Stage("sensitivity", len(tried), 4.0, do)

    def _search(self, name: str) -> Stage:
        """Find the best architecture within a budget, with the shared weights."""
        trials = self.plan.trials
        file = self.folder.work / f"{name}.json"

        def do(on_progress: OnProgress) -> None:
            scores: dict[str, float] = read_json(file, dict[str, float])
            before = self._before(name)
            larger = None if before is None else self._found[before]
            tried = loses_least(self._within[name], self.losses, trials, larger)
            for number, arch in enumerate(tried):
                if len(tried) > 1 and str(number) not in scores:
                    scores[str(number)] = self._inherited(arch)
                    write_json(file, scores)
                on_progress(f"search {name}", number + 1, len(tried), _best_of(scores))
            # Where one is tried only, it is not scored.
            self._found[name] = max(enumerate(tried), key=lambda one: scores.get(str(one[0]), 0))[1]

        return Stage(f"search {name}", trials, 15.0, do)

    def _tuning(self, name: str) -> Stage:
        """Cut the network of a budget out, fit it to its teacher, and train it further."""
        steps = self._steps(name)

        def do(on_progress: OnProgress) -> None:
            if (self._place(name) / COMPRESSED).exists():
                on_progress(f"fine-tuning {name}", steps, steps, "done")
                return
            # That file is written after the network; before, all this is done again, but for the
            # training, which goes on from its checkpoint.
            network, before, refitted = max(self._starts(name), key=lambda start: start[2])
            kept = copy.deepcopy(network.state_dict())

            def show(progress: Progress) -> None:
                done, total = progress.step, progress.total
                if done % 10 == 0 or done == total:
                    self.record.add(f"fine-tuning {name}", done, loss=progress.loss)
                on_progress(f"fine-tuning {name}", done, total, f"loss {progress.loss:.3f}")

            with self._noiseless(network):
                fit(
                    network,
                    self._task(name),
                    steps=steps,
                    fabric=self.fabric,
                    seed=self.seed,
                    checkpoint=self.folder.checkpoint(f"fine-tuning {name}"),
                    every=max(10, steps // 5),  # it is three times the size of the network
                    resume=True,
                    on_step=show,
                )
            tuned = self._validation(network)
            if tuned < refitted:
                network.load_state_dict(kept)
                tuned = refitted
            after = {"cut": before, "refitted": refitted, "tuned": tuned}
            self._write(name, network, after)

        return Stage(f"fine-tuning {name}", steps, 1.0, do)

    def _noiseless(self, network: nn.Module) -> AbstractContextManager[None]:
        """Turn dropout off where the targets are outputs of the teacher, which have no noise."""
        has_labels = isinstance(self.task.step, DistilledStep)
        return nullcontext() if has_labels else without_dropout(network)

    def _task(self, name: str) -> Task:
        """Return the task with a learning rate for what is cut, unless it has its own optimizer.

        As the error that a fit leaves grows with the square of what is cut away, so does the rate:
        one that brings a small network far takes a large one further away than it was.
        """
        if self.task.optimizer is not self._optimizer:
            return self.task
        rate = self.plan.learning_rate * self._cut(name) ** 2
        return replace(self.task, optimizer=partial(self._optimizer, lr=rate))

    def _steps(self, name: str) -> int:
        """Return the number of training steps of the network of a budget.

        What there is to be learnt is an error of what is cut away, so it grows with the square of
        that: of a network at three quarters a fit leaves nearly nothing.  And the longer, the more
        smaller networks go on from what it has learnt.
        """
        number = len(self._order)
        shares = {
            other: self._cut(other) ** 2 * (number - place)
            for place, other in enumerate(self._order)
        }
        part = shares[name] / max(1e-9, sum(shares.values()))
        return max(1, round(self.plan.fine_tuning * number * float(part)))

    def _cut(self, name: str) -> float:
        """Return the largest share of a cost of the original that a budget cuts away."""
        original = self.space.original
        kept = [
            amount / self.costs.values(cost, original)
            for cost, amount in self.budgets[name].items()
        ]
        return max(0.0, 1 - float(min(kept)))

    def _before(self, name: str) -> str | None:
        """Return the next larger budget, from whose network this one goes on."""
        place = self._order.index(name)
        return self._order[place - 1] if place else None

    def _starts(self, name: str) -> Iterator[tuple[nn.Module, float, float]]:
        """Cut out the network of a budget, from all weights that it may begin with.

        Those of the network of the budget before, where it is within that: a fit in two steps is
        nearer to the teacher than one in one, even where nothing is learnt in between.
        """
        arch, before = self._found[name], self._before(name)
        if before is not None and is_within(arch, self._found[before]):
            larger = load_network(self._place(before) / "network", self.original)
            larger = self.fabric.to_device(larger)
            # A run that goes on elsewhere may have sorted channels of nearly equal importance the
            # other way round; then what was cut before does not go with this order.
            if origin_of(larger)[1] == origin_of(self.space.freeze(arch, device="meta"))[1]:
                yield self._start(copied(self.space).absorb(larger), arch, larger)
                return
        for space in self._spaces:
            yield self._start(space, arch, self.original)

    def _start(
        self, space: Any, arch: Sample, teacher: nn.Module
    ) -> tuple[nn.Module, float, float]:
        """Cut out a network and fit it to its teacher; return the main metric before and after."""
        network = space.freeze(arch)
        before = self._validation(network)
        batches = self._batches("refit")
        with running_once(batches[0], network, teacher):
            space.refit(network, batches, teacher=teacher)
        refitted = self._validation(network)
        if refitted >= before:
            return network, before, refitted
        # Fitted to too few examples: the weights as they were are better.
        return space.freeze(arch), before, before

    # -- what was found --------------------------------------------------------------------------

    def _place(self, name: str) -> Path:
        return self.folder.path / name

    def _write(self, name: str, network: nn.Module, steps: Mapping[str, float]) -> None:
        network.eval()
        place = self._place(name)
        place.mkdir(parents=True, exist_ok=True)
        save_network(network.to("cpu"), place / "network")
        one = self._score(name, network, self._found[name])
        exports = export_checked(network, self.inputs, place)
        one = replace(one, steps=dict(steps), folder=str(place / "network"), exports=exports)
        if self.deployment is not None:
            promised = self.costs.of(one.arch).get("latency")
            deployed = self.deployment.deploy(network, self.inputs, promised, place)
            one = replace(one, deployed=deployed)
        if self.int8:
            one = replace(one, quantised=self._quantised(StoredNetwork(name, network, self.task)))
        write_json(place / COMPRESSED, asdict(one))

    def _quantised(self, stored: StoredNetwork) -> EightBits | str:
        """Write a network with 8 bits; return what that changes, or why it cannot be."""
        try:
            made: Any = export_network(
                stored, "onnxruntime", self._place(stored.name), int8=True, fabric=self.fabric
            )
        except NasSpaceError as error:
            return str(error)
        before, after = made.before, made.after
        return EightBits(
            made.method,
            made.products,
            (before.size, after.size),
            (before.latency.median, after.latency.median),
            made.scores,
        )

    def _score(self, name: str, network: nn.Module, arch: Sample) -> Compressed:
        split = "validation" if self.task.test is None else "test"
        scores = evaluate(network, self.task, split, fabric=self.fabric)
        costs = {**self.costs.of(arch), "latency": self._latency(network)}
        return Compressed(name, dict(arch), costs, scores)

    def _validation(self, network: nn.Module) -> float:
        """Return the main metric on the validation split, such that more is better."""
        recalibrate(
            network, self.task, batches=self.plan.calibration, fabric=self.fabric, seed=self.seed
        )
        return self.task.fitness(evaluate(network, self.task, fabric=self.fabric))

    def _latency(self, network: nn.Module) -> float:
        """Return the microseconds of one example on the runtime of the run, or in torch."""
        return (self.deployment or Deployment(TORCH)).time(network.to("cpu"), self.inputs)

    def _batches(self, purpose: str) -> list[Any]:
        """Return some batches of inputs, in the form of those that the space was made with."""
        stream = training_batches(
            self.task.train, self.plan.batch_size, seed=self.seed, stop=self.plan.calibration,
            stream=purpose,
        )  # fmt: skip
        parts = [self.fabric.to_device(inputs_of(batch)) for batch in stream]
        return [keywords or arguments for arguments, keywords in parts]


def _best_of(scores: Mapping[str, float]) -> str:
    return f"best {max(scores.values()):.4g}" if scores else "what loses least"
