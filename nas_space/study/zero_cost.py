"""Zero-cost proxies in a search: as an objective, a filter, and to begin with."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import optuna
from torch import nn

from ..mutable import Sample
from ..randomness import device_of, preserved_randomness, seed_globally
from ..strategy.base import unrestricted
from ..training import Task
from ..training.proxies import proxy
from .evaluation import Evaluator, make_network
from .objectives import Objective, maximize, measured, objectives_of

__all__ = ["Filtered", "ZeroCost", "filtered", "proxy_scores", "zero_cost"]


@dataclass(frozen=True)
class ZeroCost(Evaluator):
    """Scores untrained networks by a zero-cost proxy.

    As an objective of its own, for a filter (:class:`filtered`), or to begin a search with
    (:func:`proxy_scores`).

    Parameters
    ----------
    name
        ``'naswot'``, ``'grad_norm'``, ``'synflow'`` or ``'zico'``: see
        :mod:`nas_space.training.proxies`.
    task
        Whose training data are looked at.
    batches
        How many of them; by default 1, of ``zico`` 2.
    seed
        Which.

    Raises
    ------
    UsageError
        If there is no such proxy.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> from nas_space.hub import NasBenchMacro
    >>> from nas_space.study import search
    >>> data = TensorDataset(torch.randn(32, 3, 8, 8), torch.arange(32) % 4)
    >>> task = Task.classification(data, batch_size=16)
    >>> result = search(NasBenchMacro(4, 4), zero_cost("naswot", task), trials=4)
    >>> len(result.complete)
    4
    """

    name: str
    task: Task
    _: KW_ONLY
    batches: int | None = None
    seed: int = 0

    weights = "fresh"

    def __post_init__(self) -> None:
        proxy(self.name)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The proxy."""
        return (maximize(self.name),)

    def __call__(self, network: nn.Module, arch: Sample) -> dict[str, float]:
        batches = self.batches
        if batches is None:
            batches = 2 if self.name == "zico" else 1
        score = proxy(self.name)(network, self.task, batches=batches, seed=self.seed)
        return {self.name: score}


@dataclass(frozen=True)
class Filtered(Evaluator):
    """Ends the trial of a network at once whose proxy is too low.

    Such a trial is pruned, as one that a pruner ends; strategies do not learn from it.

    Parameters
    ----------
    evaluate
        What scores the others: an evaluator, or a function ``evaluate(network, arch)``.
    by
        The proxy, by :class:`zero_cost`; it is measured on the weights that ``evaluate`` wants.
    least
        The lowest score that is let through, such as the median of :func:`proxy_scores`.
    """

    evaluate: Any
    by: ZeroCost
    least: float

    def __getattr__(self, name: str) -> Any:
        # What it wants and measures is what the evaluator does.
        if name in {"weights", "objectives", "measured"}:
            return getattr(self.evaluate, name)
        raise AttributeError(name)

    def check(self, space: Any) -> None:
        if isinstance(self.evaluate, Evaluator):
            self.evaluate.check(space)

    def __call__(self, network: nn.Module, arch: Sample) -> Any:
        [score] = self.by(network, arch).values()
        if score < self.least:
            raise optuna.TrialPruned(f"{self.by.name} is {score:.6g}, below {self.least:.6g}")
        return self.evaluate(network, arch)


zero_cost = ZeroCost
"""The evaluator that scores untrained networks."""

filtered = Filtered
"""The evaluator that ends trials whose networks are not promising."""


def proxy_scores(
    space: Any, evaluate: Any, n: int = 200, *, seed: int = 0
) -> list[tuple[Sample, float]]:
    """Score random architectures, for the ``warm_start`` of a strategy.

    Parameters
    ----------
    space
        A space, or a restriction of one.
    evaluate
        An evaluator with one objective, such as :func:`zero_cost` makes.
    n
        How many architectures are drawn; each is scored once.
    seed
        Of the draws and of fresh weights.

    Returns
    -------
    list
        Pairs of an architecture and its score, more being better.
    """
    [objective] = objectives_of(getattr(evaluate, "objectives", "value"))
    base = unrestricted(space)
    device = device_of(base)
    archs = {space.arch_id(arch): arch for arch in space.sample(n, seed=seed)}
    found = []
    for number, arch in enumerate(archs.values()):
        with preserved_randomness(device):
            seed_globally(seed, "search/proxy", number, device)
            network = make_network(base, arch, str(getattr(evaluate, "weights", "inherit")))
            [value] = measured((objective,), evaluate(network, dict(arch))).values()
        found.append((arch, objective.sign * value))
    return found
