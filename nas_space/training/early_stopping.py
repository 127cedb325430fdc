"""``EarlyStopping``: end a training that has ceased to get better, and keep its best weights."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from ..errors import CheckpointError, UsageError, suggest
from .scoring import evaluate
from .task import Task

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["EarlyStopping", "Watch", "check_rules"]


@dataclass(frozen=True)
class EarlyStopping:
    """When to end a training before its time: scores on held-out data no longer improve.

    Parameters
    ----------
    patience
        How many times in a row the score may fail to improve; then training ends.
    every
        How many steps there are from one scoring to the next; by default those of an epoch.
    min_delta
        By how much a score must be better to count.
    metric
        Of the task; its main one by default.
    split
        What to score on.
    restore
        Whether the network gets the weights back with which its score was best.

    Raises
    ------
    UsageError
        If a number is out of range.

    References
    ----------
    Prechelt, *Early stopping - but when?*, Neural Networks: Tricks of the Trade, 1998.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> from nas_space.training import Task, fit
    >>> x = torch.rand(64, 3)
    >>> data = TensorDataset(x, x.sum(1, keepdim=True))
    >>> task = Task.regression(data, data, batch_size=16, schedule=None)
    >>> steps = []
    >>> stop = EarlyStopping(patience=2, min_delta=0.1)
    >>> net = fit(nn.Linear(3, 1), task, epochs=100, early_stopping=stop, on_step=steps.append)
    >>> len(steps) < 400
    True
    """

    patience: int = 5
    every: int | None = None
    min_delta: float = 0.0
    metric: str | None = None
    split: str = "validation"
    restore: bool = True

    def __post_init__(self) -> None:
        numbers = {"patience": self.patience} | (
            {} if self.every is None else {"every": self.every}
        )
        for name, number in numbers.items():
            whole = isinstance(cast("object", number), Integral) and not isinstance(number, bool)
            if not whole or number < 1:
                raise UsageError(f"{name} is a whole number, at least 1, but is {number!r}")
        if not 0 <= self.min_delta < math.inf:
            raise UsageError(f"min_delta must not be negative, but is {self.min_delta}")


def check_rules(rules: EarlyStopping, task: Task) -> None:
    """Refuse rules that say nothing about a task.

    Raises
    ------
    UsageError
        They are no :class:`EarlyStopping`, or the task has no such split or metric, or its epochs
        have no known length.
    """
    if not isinstance(cast("object", rules), EarlyStopping):
        raise UsageError(
            "early_stopping is an EarlyStopping, such as EarlyStopping(patience=5), but got "
            f"{rules!r}"
        )
    task.split(rules.split)
    if rules.every is None:
        task.steps(1)
    if rules.metric is not None and rules.metric not in task.metrics:
        known = list(task.metrics)
        raise UsageError(
            f"the task has no metric {rules.metric!r}{suggest(rules.metric, known)}; it has "
            f"{', '.join(known)}"
        )


class Watch:
    """Looks after one training, by the rules of an :class:`EarlyStopping`.

    Parameters
    ----------
    rules
        When to stop.
    network, task, fabric
        What is trained, for what, where.
    total
        The steps there are; the last is scored as well.

    Attributes
    ----------
    stopped
        Whether training is to end.
    best
        The best score, so far, where more is better; ``None`` before the first.
    """

    def __init__(
        self, rules: EarlyStopping, network: nn.Module, task: Task, total: int, fabric: Fabric
    ) -> None:
        check_rules(rules, task)
        self.rules, self.network, self.task, self.fabric = rules, network, task, fabric
        self.total = total
        self.every = task.steps(1) if rules.every is None else rules.every
        self.stopped = False
        self.best: float | None = None
        self._failures = 0
        self._kept: dict[str, Tensor] = {}

    def after(self, step: int) -> None:
        """Score the network after a step, if it is time to."""
        if step % self.every and step != self.total:
            return
        scores = evaluate(self.network, self.task, self.rules.split, fabric=self.fabric)
        score = self.task.fitness(scores, self.rules.metric)
        if self.best is None or score > self.best + self.rules.min_delta:  # NaN never is
            self.best, self._failures = score, 0
            if self.rules.restore:
                state = self.network.state_dict()
                self._kept = {key: value.detach().clone() for key, value in state.items()}
        else:
            self._failures += 1
            self.stopped = self._failures >= self.rules.patience

    def restore(self) -> None:
        """Give the network the weights of its best score."""
        if self._kept:
            self.network.load_state_dict(self._kept)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training goes on with, as a tree for a checkpoint."""
        return {
            "rules": asdict(self.rules),
            "stopped": self.stopped,
            "best": self.best,
            "failures": self._failures,
            "kept": self._kept,
        }

    def load_state_dict(self, state: Any) -> None:
        """Go on from a state.

        Raises
        ------
        CheckpointError
            It is that of a training with other rules, or without any.
        """
        if not isinstance(state, dict) or state.get("rules") != asdict(self.rules):
            there = state.get("rules") if isinstance(state, dict) else None
            raise CheckpointError(
                f"the state is of a training with early_stopping={there}, here it is "
                f"{asdict(self.rules)}; use the same settings to resume, or start a new run"
            )
        try:
            kept = dict(state["kept"])
            stopped, best, failures = state["stopped"], state["best"], state["failures"]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"this is not the state of such a run: {error!r}") from error
        self.stopped, self.best, self._failures, self._kept = stopped, best, failures, kept
