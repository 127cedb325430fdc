"""Sensitivity to each choice alone, and the architectures of least summed loss within a budget.

A space of widths and depths has far more architectures than can be tried, but what a network loses
by several changes is about the sum of what it loses by each. So some values of each label are tried
alone, the layers that read what they cut fitted to the teacher, and the sum is minimised exactly
within any number of budgets, without further trials. What values between these lose follows from
their neighbours: a squared error grows about as the square of what is missing, so its root is
interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..compression.block_cache import BlockCache
from ..compression.calling import call
from ..mutable import Sample
from ..mutable.factors import Factor
from ..tables import Table, best
from ..tables.model import Model, root_of
from ..training import Task, recalibrate
from ..training.batches import is_dataset, one_pass
from ..training.distillation import divergence_of

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["FEW", "InheritedScore", "changes", "is_within", "loses_least", "running_once", "summed"]

FEW = 4
"""Batches that layers are fitted to, and blocks sorted by, to compare architectures."""

_HELD = 128
"""Examples on which they are compared with their teacher."""

_KEPT = 1 << 28
"""Bytes of the outputs of blocks that are cached."""

_TRIED = {"depth": (0.0, 0.5, 1.0)}
"""Which of the values below the original's are tried, as places from the smallest (0) to the
largest (1), by the kind of label.  The largest of the smaller widths loses little, which
interpolation gives well; one block less may lose much."""

_FAR = 1e6
"""The loss of a choice beyond the larger network: above any sum of divergences."""


@contextmanager
def running_once(batch: Any, *networks: nn.Module) -> Iterator[None]:
    """Enter a context in which the outputs of blocks are cached by their inputs and weights."""
    with ExitStack() as stack:
        for network in networks:
            stack.enter_context(BlockCache(network.eval(), batch, _KEPT).of(network))
        yield


class InheritedScore:
    """Scores architectures by their divergence from the teacher, with inherited weights refitted.

    A divergence tells small differences apart on few examples, where accuracy needs many.

    Parameters
    ----------
    space, original
        A space made by :func:`nas_space.elastic`, and the network that it was made of.
    task
        One with a teacher.
    batches
        What layers are fitted to; the first few are taken.
    fabric, seed
        Where, and with which examples batch norms are recalibrated.
    """

    def __init__(
        self,
        space: Any,
        original: nn.Module,
        task: Task,
        batches: list[Any],
        fabric: Fabric,
        seed: int,
    ) -> None:
        self.space, self.original, self.task = space, original, task
        self.fabric, self.seed = fabric, seed
        self.batches = batches[:FEW]
        source = task.split("validation")
        # One batch, where that can be as long as is wanted.
        held = islice(one_pass(source, _HELD), 1 if is_dataset(source) else FEW)
        self.held = [fabric.to_device(batch) for batch in held]
        # That of the space is the original up to rounding, once channels are sorted.
        largest = space.freeze(space.original).eval()
        self.caches = [BlockCache(net, self.batches[0], _KEPT) for net in (original, largest)]
        with self.caches[1].of(largest), torch.no_grad():
            for batch in self.batches:
                call(largest, batch)
            self._apart(largest)

    def __call__(self, arch: Sample) -> float:
        """Return the divergence of an architecture from the teacher, negated: more is better."""
        network = self.space.freeze(arch).eval()
        with self.caches[0].of(self.original), self.caches[1].of(network):
            self.space.refit(network, self.batches, teacher=self.original)
            recalibrate(network, self.task, batches=FEW, fabric=self.fabric, seed=self.seed)
            return -self._apart(network)

    def _apart(self, network: nn.Module) -> float:
        with torch.no_grad(), self.fabric.autocast():
            apart = [divergence_of(self.task, network, batch) for batch in self.held]
        return float(torch.stack(apart).mean())


def changes(space: Any) -> Iterator[tuple[str, Sample]]:
    """Yield architectures that differ from the original in one label, with a name for each.

    Of a label with many values, the smallest and that in the middle; of a depth the largest, too.
    """
    original, kinds = space.original, {group.label: group.kind for group in space.groups()}
    for label, symbol in space.symbols().items():
        if label in original:
            others = [value for value in symbol.values if value != original[label]]
            parts = _TRIED.get(kinds.get(label, ""), (0.0, 0.5))
            for place in dict.fromkeys(math.ceil(part * (len(others) - 1)) for part in parts):
                value = others[place]
                yield _named(label, value), space.canonical(original | {label: value})


def summed(space: Any, losses: Mapping[str, float], larger: Sample | None = None) -> Table:
    """Return the sum of the losses of an architecture's choices, as factors over the labels.

    Parameters
    ----------
    space
        A space made by :func:`nas_space.elastic`, or a restriction of one.
    losses
        By the name of a change, as :func:`changes` has it, what it loses. What is below nothing is
        noise, and counts as nothing.
    larger
        An architecture to stay within: more than its choices loses more than all others do.
    """
    most = larger or {}
    model = Model.of(root_of(space))
    terms = []
    for symbol in model.labels:
        if symbol.size is not None and symbol.size > 1:
            values = [symbol.value(code) for code in range(symbol.size)]
            lost = _lost(symbol.name, values, losses)
            beyond = [symbol.name in most and value > most[symbol.name] for value in values]
            term = Factor((symbol,), lost + np.where(beyond, _FAR, 0.0))
            terms.append(term.where(model.activity.reach[symbol]))
    return Table(None, terms)


def _lost(label: str, values: list[Any], losses: Mapping[str, float]) -> npt.NDArray[np.float64]:
    """Return the loss of each value of a label, interpolated where it was not tried."""
    known = {max(values): 0.0}  # which the original has
    for value in values:
        loss = losses.get(_named(label, value))
        if loss is not None:
            known[value] = max(0.0, loss)
    tried = sorted(known)
    roots: npt.NDArray[np.float64] = np.interp(values, tried, [known[v] ** 0.5 for v in tried])
    return roots * roots


def loses_least(
    within: Any, losses: Mapping[str, float], number: int, larger: Sample | None = None
) -> list[Sample]:
    """Return the architectures of least summed loss within a budget, the best first.

    Within ``larger``, if such are in the budget; see :func:`is_within`.
    """
    found = best(within, summed(within, losses, larger), number)
    return [dict(one.arch) for one in found]


def is_within(arch: Sample, larger: Sample) -> bool:
    """Return whether an architecture has no more of anything than another."""
    return all(value <= larger[label] for label, value in arch.items() if label in larger)


def _named(label: str, value: Any) -> str:
    return f"{label}={value}"
