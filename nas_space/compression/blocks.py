"""Which blocks of a network are there: so many of a run, the most important first, or each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError, suggest
from ..mutable import MutableExpression
from ..mutable.expression import apply
from ..mutable.node import Node
from .calling import call
from .parts import running
from .symbolic import leaves_of

__all__ = ["BlockRun", "below", "numbers", "sort_runs"]


@dataclass
class BlockRun:
    """Blocks of one kind in one container, of which some may be left out.

    Attributes
    ----------
    container
        The path of the container.
    choices
        What decides: how many there are, or of each whether it is.
    paths
        Of the blocks, in the order in which they are kept.
    is_counted
        Whether there is one choice of how many.
    counters
        Attributes that number blocks, with the path of their module within a block.
    """

    container: str
    choices: list[Any]
    paths: list[str]
    is_counted: bool
    counters: list[tuple[str, str]] = field(default_factory=list)

    def conditions(self, least: int = 0) -> dict[str, Any]:
        """Return, by path, the condition under which a block is there.

        Parameters
        ----------
        least
            How many must be: where each has a choice of its own, the first is there without all
            others.
        """
        if self.is_counted:
            return {path: self.choices[0] > rank for rank, path in enumerate(self.paths)}
        there: list[Any] = [choice > 0 for choice in self.choices]
        if least:
            there[0] = there[0] | (apply("sum", *self.choices[1:]) == 0)
        return dict(zip(self.paths, there, strict=True))


def below(path: str, name: str) -> str:
    """Return the path of a child."""
    return f"{path}.{name}" if path else name


def numbers(names: Sequence[str], run: BlockRun, there: Mapping[str, Any]) -> Iterator[Any]:
    """Yield what attributes that number blocks are: how many are there before each.

    Parameters
    ----------
    names
        Of the children of the container.
    run
        One of its runs.
    there
        By path, under which condition a block is there, where it is not always.

    Yields
    ------
    tuple
        The path of a module, the name of an attribute, and its expression.
    """
    before: list[Any] = []
    for name in names:
        path = below(run.container, name)
        varying = [keep for keep in before if isinstance(keep, Node)]
        if varying:
            fixed = len(before) - len(varying)
            number = apply("sum", fixed, *map(MutableExpression.to_int, varying))
            for inner, attribute in run.counters:
                yield (f"{path}.{inner}" if inner else path), attribute, number
        before.append(there.get(path, True))


def sort_runs(space: Any, runs: Sequence[BlockRun], batches: Sequence[Any], by: Any) -> None:
    """Put the most important blocks first; see :meth:`ElasticSpace.sort_blocks`."""
    if by is None:
        by = "output" if batches else "end"
    if not callable(by) and by not in _SCORES:
        raise UsageError(
            f"blocks are sorted by {', '.join(_SCORES)} or a function, not {by!r}"
            f"{suggest(str(by), _SCORES)}"
        )
    if by in ("influence", "output") and not batches:
        raise UsageError(f"to sort by {by!r}, data is needed: batches of inputs of the network")
    wanted = {path for run in runs for path in run.paths}
    modules = {path: module for path, module in space.named_modules() if path in wanted}
    if callable(by):
        scores = {path: float(by(path, module)) for path, module in modules.items()}
    else:
        with running("the network"):
            scores = _SCORES[by](space, modules, batches)
    for run in runs:
        run.paths.sort(key=lambda path: -scores[path])
        for path, keep in run.conditions().items():
            modules[path].__dict__["_keep"] = keep
    for container in dict.fromkeys(run.container for run in runs):
        here = [run for run in runs if run.container == container]
        there = {path: keep for run in here for path, keep in run.conditions().items()}
        names = list(space.get_submodule(container)._modules)
        for path, attribute, number in numbers(names, here[0], there):
            setattr(space.get_submodule(path), attribute, number)
    space.refresh()


def _end(space: Any, modules: Mapping[str, nn.Module], batches: Sequence[Any]) -> dict[str, float]:
    """The last ones are left out first."""
    del space, batches
    return {path: -float(place) for place, path in enumerate(modules)}


def _influence(
    space: Any, modules: Mapping[str, nn.Module], batches: Sequence[Any]
) -> dict[str, float]:
    """How far a block turns what goes through it: one less the cosine, over all places."""
    totals = dict.fromkeys(modules, 0.0)

    def watch(path: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
            before = next(a for a in (*args, *kwargs.values()) if isinstance(a, Tensor))
            after = result[0] if isinstance(result, (tuple, list)) else result
            x, y = before.detach().flatten(1).double(), after.detach().flatten(1).double()
            totals[path] += float((1 - torch.cosine_similarity(x, y, dim=1)).mean())

        return hook

    handles = [
        module.register_forward_hook(watch(path), with_kwargs=True)
        for path, module in modules.items()
    ]
    try:
        for batch in batches:
            with torch.no_grad(), space.activate(space.original):
                call(space, batch)
    finally:
        for handle in handles:
            handle.remove()
    return totals


def _output(
    space: Any, modules: Mapping[str, nn.Module], batches: Sequence[Any]
) -> dict[str, float]:
    """By how much the output changes without the block."""
    totals = dict.fromkeys(modules, 0.0)
    for batch in batches:
        with torch.no_grad(), space.activate(space.original):
            usual = _floats(call(space, batch))
            for path, module in modules.items():
                with _left_out(module):
                    other = _floats(call(space, batch))
                changes = zip(usual, other, strict=True)
                totals[path] += sum(float((a - b).square().mean()) for a, b in changes)
    return totals


@contextmanager
def _left_out(module: nn.Module) -> Iterator[None]:
    keep = vars(module)["_keep"]
    vars(module)["_keep"] = False
    try:
        yield
    finally:
        vars(module)["_keep"] = keep


def _floats(outputs: Any) -> list[Tensor]:
    return [leaf.double() for leaf in leaves_of(outputs) if leaf.is_floating_point()]


_SCORES: dict[str, Any] = {"end": _end, "influence": _influence, "output": _output}
