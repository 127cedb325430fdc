"""``RandomOneShot``: weights trained along random paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import UsageError
from ...mutable import MutableExpression, Sample
from ...profiler import params
from ...training.distillation import distillation_of, relative_error
from ...training.forward import recorded_calls, tensors_of
from .algorithm import OneShot
from .ranking import INTERACTIONS, Ranking
from .run import Run

__all__ = ["RandomOneShot", "Sandwich"]

Rule = Literal["uniform", "fair", "sandwich"]

_MOST_PATHS = 64


class RandomOneShot(OneShot):
    """Trains along random paths; then ranks random architectures by their shared weights.

    Parameters
    ----------
    filter
        ``filter(arch)`` tells whether an architecture may be drawn; what is found meets it too.
        For conditions on costs, ``space.where(...)`` is better: it needs no trying.
    paths
        ``'uniform'``: one random path at each step (SPOS).  ``'fair'``: at each step as many
        paths as the largest choice has values, on which each value of each choice occurs
        equally often, up to one; their gradients are summed (FairNAS).  ``'sandwich'``: the
        largest architecture, the smallest, and ``between`` random ones, all but the largest
        trained to do what that one does; the mean of their gradients (BigNAS).
    between
        Random paths of the sandwich.
    candidates, calibration_batches, interactions
        How the best is found in the end: as of :class:`Ranking`, which evaluates as many random
        architectures as others that it then takes to be good.
    arguments
        As of :class:`OneShot`.

    Raises
    ------
    UsageError
        If an argument makes no sense.

    References
    ----------
    Guo et al., *Single path one-shot NAS*, arXiv 1904.00420; Chu et al., *FairNAS*,
    arXiv 1907.01845; Yu et al., *BigNAS*, arXiv 2003.11142.
    """

    def __init__(
        self,
        filter: Callable[[Sample], bool] | None = None,  # noqa: A002 - says what it does
        *,
        paths: Rule = "uniform",
        between: int = 2,
        candidates: int = 64,
        calibration_batches: int = 4,
        interactions: float = INTERACTIONS,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        if paths not in ("uniform", "fair", "sandwich"):
            raise UsageError(f"paths must be 'uniform', 'fair' or 'sandwich', but got {paths!r}")
        if between < 0:
            raise UsageError(f"between must be at least 0, but got {between}")
        self.filter = filter
        self.paths = paths
        self.between = between
        self.ranking = Ranking(candidates, calibration_batches, interactions)

    def check(self, space: Any) -> None:
        if self.paths != "fair":
            return
        whole = getattr(space, "space", space)
        if whole is not space or whole.constraints() or self.filter is not None:
            raise UsageError(
                "fair paths take every value of every choice in turn, which conditions do not "
                "allow; take paths='uniform' within a restricted space"
            )
        for label, symbol in whole.symbols().items():
            if symbol.size is None or symbol.size > _MOST_PATHS:
                raise UsageError(
                    f"fair paths take every value of every choice in turn, but the label {label!r} "
                    f"has {symbol.size or 'infinitely many'}, more than {_MOST_PATHS}"
                )

    def probabilities(self, run: Run) -> dict[str, Any]:
        return {
            label: symbol.probabilities()
            for label, symbol in run.symbols.items()
            if symbol.size is not None and symbol.size <= _MOST_PATHS
        }

    def _drawn(self, run: Run, stream: str) -> Sample:
        attempt = 0

        def draw() -> Sample:
            nonlocal attempt
            attempt += 1
            sample: Sample = run.space.sample(seed=run.seed_for(f"{stream}/{attempt}"))
            return sample

        if self.filter is None:
            return draw()
        allowed = self.filter
        while not allowed(arch := draw()):
            if attempt >= _TRIES:
                raise UsageError(f"the filter refused {attempt} architectures in a row")
        return arch

    def path(self, run: Run) -> AbstractContextManager[Any]:
        return run.along(self._drawn(run, "path"))

    def train(self, run: Run, batch: Any) -> Tensor:
        if self.paths == "fair":
            losses = [
                run.descend(run.along(arch), lambda: run.loss(batch)) for arch in fair_paths(run)
            ]
            return torch.stack(losses).mean()
        if self.paths == "sandwich":
            return self._sandwich(run, batch)
        return super().train(run, batch)

    def _sandwich(self, run: Run, batch: Any) -> Tensor:
        # Each path's graph is freed before the next one runs, so the memory is that of the largest.
        # The share makes the sum of the gradients their mean.
        if "largest" not in run.notes:
            run.notes["largest"], run.notes["smallest"] = extremes(run)
        others = [run.notes["smallest"]]
        others += [self._drawn(run, f"path/{place}") for place in range(self.between)]
        taught = taught_losses(run, batch)
        share = 1 / (1 + len(others))
        loss = run.descend(run.along(run.notes["largest"]), lambda: next(taught) * share)
        for arch in others:
            run.descend(run.along(arch), lambda: next(taught) * share)
        return loss / share

    def rank(self, run: Run, k: int) -> list[Sample]:
        def drawn(wanted: int) -> Iterator[Sample]:
            return (self._drawn(run, f"candidate/{place}") for place in range(10 * wanted))

        return self.ranking.rank(run, k, drawn, allowed=self.filter)


class Sandwich(RandomOneShot):
    """Trains the largest architecture, the smallest, and random ones between, at every step.

    Of a network made elastic, the largest is the network itself.  All others learn to do what the
    largest does; or all learn from the teacher, if the task has one.

    Parameters
    ----------
    filter, between, arguments
        As of :class:`RandomOneShot`.

    References
    ----------
    Yu and Huang, *Universally slimmable networks*, arXiv 1903.05134; Yu et al., *BigNAS*,
    arXiv 2003.11142.
    """

    def __init__(
        self,
        filter: Callable[[Sample], bool] | None = None,  # noqa: A002 - as in the base class
        *,
        between: int = 2,
        **arguments: Any,
    ) -> None:
        super().__init__(filter, paths="sandwich", between=between, **arguments)


_TRIES = 1000


def taught_losses(run: Run, batch: Any) -> Iterator[Tensor]:
    """Yield the loss of what is active, again and again: first its own, then one by the first.

    With targets the first is compared as the task compares with targets.  A task with a step of
    its own may call the network on anything, so there the outputs of its calls are compared.  One
    with a teacher outside of the space compares with that at all times.
    """
    network, task = run.trainer.wrapped, run.task
    if distillation_of(task) is not None:
        while True:
            yield run.loss(batch)
    if task.step is None:
        assert task.loss is not None
        output, target = task.outputs(network, batch)
        teacher = output.detach()
        yield task.loss(output, target)
        while True:
            output, target = task.outputs(network, batch)
            if target.is_floating_point():
                yield task.loss(output, teacher)
            else:
                yield F.cross_entropy(output, teacher.softmax(1))
    with recorded_calls(network) as calls:
        loss = run.loss(batch)
    answers = [[t.detach() for t in tensors_of(call.output).values()] for call in calls]
    if not any(answers):
        raise UsageError(
            "the step of the task does not call the network, or gets no tensors from it, so that "
            "no architecture can learn from the largest; take paths='uniform'"
        )
    yield loss
    while True:
        with recorded_calls(network) as calls:
            run.loss(batch)
        errors = [
            relative_error(mine, theirs)
            for call, answer in zip(calls, answers, strict=True)
            for mine, theirs in zip(tensors_of(call.output).values(), answer, strict=True)
            if mine.shape == theirs.shape
        ]
        if not errors:
            raise UsageError(
                "no output of the network has the same shape in all architectures, so that none "
                "can learn from the largest; fix the outputs, or take paths='uniform'"
            )
        yield torch.stack(errors).mean()


def fair_paths(run: Run) -> list[Sample]:
    """Return paths on which each value of each choice occurs equally often, up to one.

    FairNAS has as many values for each choice, of which one permutation each does it.  A choice of
    fewer values has several permutations, one after the other, cut off at the number of paths; they
    are shuffled once more, or the first paths of all steps would have whole permutations alone.
    """
    n = max((symbol.size for symbol in run.symbols.values()), default=1)
    generator = run.generator("fair")
    columns = {}
    for label, symbol in run.symbols.items():
        rounds = [
            torch.randperm(symbol.size, generator=generator) for _ in range(-(-n // symbol.size))
        ]
        column = torch.cat(rounds)[:n]
        columns[label] = column[torch.randperm(n, generator=generator)].tolist()
    return [
        {label: run.symbols[label].value(codes[place]) for label, codes in columns.items()}
        for place in range(n)
    ]


def extremes(run: Run) -> tuple[Sample, Sample]:
    """Return the architectures with the most and the fewest parameters, choice by choice.

    Labels with infinitely many values are left as they are drawn.  A space made of a network has
    that network as its largest.
    """
    original = getattr(run.network, "original", None)
    whole = original if isinstance(original, Mapping) and run.space.contains(original) else None
    return _extreme(run, 1) if whole is None else dict(whole), _extreme(run, -1)


def _extreme(run: Run, sign: int) -> Sample:
    # Label by label, each given those before: not always the extreme, but near it, and it needs no
    # more of the space than its architectures.  Of values with as many parameters, such as sizes of
    # images, the larger number is the larger architecture.
    arch: dict[str, Any] = {}
    start = run.space.sample(seed=run.seed)
    first = {
        label: symbol.default() if symbol.size is None else symbol.value(0)
        for label, symbol in run.symbols.items()
    }
    filled = first | start
    for label, symbol in run.symbols.items():
        best: tuple[float, float] | None = None
        for code in range(symbol.size or 0):
            value = symbol.value(code)
            trial: Mapping[str, Any] = filled | {label: value}
            if not run.space.contains(trial):
                continue
            number = float(value) if isinstance(value, (int, float)) else 0.0
            size = sign * _parameters(run, trial), sign * number
            if best is None or size > best:
                best, arch[label] = size, value
        filled |= {label: arch[label]} if label in arch else {}
    found: Sample = run.space.canonical(filled)
    return found


def _parameters(run: Run, arch: Mapping[str, Any]) -> int:
    if "parameters" not in run.notes:
        run.notes["parameters"] = params(run.network)
    count = run.notes["parameters"]
    return int(count.evaluate(arch) if isinstance(count, MutableExpression) else count)
