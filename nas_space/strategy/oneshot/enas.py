"""``ENAS``: shared weights, and a recurrent controller that is rewarded for its decisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...errors import UsageError
from ...mutable import Sample
from .algorithm import OneShot
from .controller import Controller
from .penalty import Penalty
from .ranking import INTERACTIONS, Ranking
from .rewards import advantage
from .run import Run

__all__ = ["ENAS"]

_SHOWN = 8
"""From how many architectures probabilities are estimated."""


class ENAS(OneShot):
    """Trains along architectures that a controller draws, and the controller by their rewards.

    Labels that are not active under what was drawn are neither drawn nor rewarded.

    Parameters
    ----------
    batches_per_update
        Architectures rewarded before each update of the controller.
    reward_metric_name
        The metric that is the reward; the task's main one by default.
    arc_learning_rate
        Of the controller's optimizer, Adam.
    entropy_weight
        How much variety counts beside the reward.
    baseline_decay
        How long the baseline of the rewards remembers: it is their moving average.
    hidden_size, tanh_constant
        As of :class:`Controller`.
    candidates, calibration_batches, interactions
        How the best is found in the end: as of :class:`Ranking`, to which the controller proposes.
    penalty
        What architectures cost, taken off the reward: a :class:`Penalty`, or a dictionary of
        its arguments.
    arguments
        As of :class:`OneShot`.

    Raises
    ------
    UsageError
        If an argument makes no sense.

    References
    ----------
    Pham et al., *Efficient neural architecture search via parameter sharing*, arXiv 1802.03268.
    """

    def __init__(
        self,
        *,
        batches_per_update: int = 20,
        reward_metric_name: str | None = None,
        arc_learning_rate: float = 3.5e-4,
        entropy_weight: float = 1e-4,
        baseline_decay: float = 0.95,
        hidden_size: int = 64,
        tanh_constant: float | None = 2.5,
        candidates: int = 64,
        calibration_batches: int = 4,
        interactions: float = INTERACTIONS,
        penalty: Penalty | Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        if batches_per_update < 1:
            raise UsageError(f"batches_per_update must be at least 1, but got {batches_per_update}")
        if not 0 <= baseline_decay < 1:
            raise UsageError(f"0 <= baseline_decay < 1 must hold, but got {baseline_decay}")
        self.batches_per_update = batches_per_update
        self.reward_metric_name = reward_metric_name
        self.arc_learning_rate = arc_learning_rate
        self.entropy_weight = entropy_weight
        self.baseline_decay = baseline_decay
        self.hidden_size = hidden_size
        self.tanh_constant = tanh_constant
        self.ranking = Ranking(candidates, calibration_batches, interactions)
        self.penalty = Penalty.of(penalty)

    def policy(self, run: Run) -> tuple[nn.Module, Optimizer]:
        controller = Controller(
            run.symbols,
            self.hidden_size,
            self.tanh_constant,
            run.generator("controller"),
            run.fabric.device,
            allowed=run.allowed,
        )
        optimizer = torch.optim.Adam(controller.parameters(), lr=self.arc_learning_rate)
        return controller, optimizer

    def path(self, run: Run) -> AbstractContextManager[Any]:
        with torch.no_grad():
            return run.along(run.policy.draw(run.space, run.generator("path")).arch)

    def learn(self, run: Run) -> Mapping[str, Any]:
        drawn = run.policy.draw(run.space, run.generator("policy"))
        reward = run.reward(drawn.arch, run.policy_batch(), self.reward_metric_name)
        numbers = {}
        if self.penalty is not None:
            numbers["cost"] = self.penalty.cost(drawn.arch)
            reward = self.penalty.rewarded(reward, numbers["cost"])
        # REINFORCE (section 2.2 of the paper).  ``log_probability`` is a sum over the labels that
        # became active, each given those before, so it is that of the architecture.  Gradients of
        # several architectures add up in ``grad``, which is part of the state of a run.
        gain = advantage(run.memory, reward, self.baseline_decay)
        loss = -gain * drawn.log_probability - self.entropy_weight * drawn.entropy
        (loss / self.batches_per_update).backward()
        seen = run.memory["rewarded"] = run.memory.get("rewarded", 0) + 1
        if seen % self.batches_per_update == 0:
            run.improve({p: p.grad for p in run.policy.parameters()})
        return {"reward": reward, "entropy": drawn.entropy.detach(), **numbers}

    def probabilities(self, run: Run) -> dict[str, Any]:
        """Estimate from a few architectures: later decisions depend on earlier ones."""
        generator = run.generator("shown")
        found: dict[str, list[Tensor]] = {}
        with torch.no_grad():
            for _ in range(_SHOWN):
                for label, p in run.policy.draw(run.space, generator).probabilities.items():
                    found.setdefault(label, []).append(p)
        return {label: torch.stack(each).mean(0) for label, each in found.items()}

    def rank(self, run: Run, k: int) -> list[Sample]:
        generator = run.generator("candidates")

        def drawn(wanted: int) -> Iterator[Sample]:
            return (run.policy.draw(run.space, generator).arch for _ in range(10 * wanted))

        with torch.no_grad():
            return self.ranking.rank(run, k, drawn, penalty=self.penalty)
