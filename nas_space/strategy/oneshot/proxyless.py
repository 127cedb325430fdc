"""``Proxyless``: a policy learned along two paths at a time, or along one by its reward."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor

from ...errors import UsageError
from ...mutable import Sample
from ...nn.decisions import Gated
from .differentiable import Differentiable
from .ranking import INTERACTIONS, Ranking
from .rewards import advantage
from .run import Run

__all__ = ["Proxyless"]


class Proxyless(Differentiable):
    """Trains one drawn architecture at a time; compares two at each step of the policy.

    Parameters
    ----------
    form
        ``'gradient'``: of two values of each label, drawn by their probabilities, the paths
        are compared by the gradient of binary gates.  ``'reinforce'``: one architecture is
        drawn, and its probability follows its reward, the main metric.
    baseline_decay
        How long the baseline of the rewards remembers: it is their moving average.
    candidates, calibration_batches, interactions
        How the best is found in the end: as of :class:`Ranking`, to which the policy proposes what
        is most likely.
    arguments
        As of :class:`Differentiable`.

    References
    ----------
    Cai et al., *ProxylessNAS*, arXiv 1812.00332, sections 3.2 and 3.3.
    """

    betas = (0.0, 0.999)
    """Without momentum, logits of values that were not drawn have no gradient and stay."""

    def __init__(
        self,
        *,
        form: Literal["gradient", "reinforce"] = "gradient",
        baseline_decay: float = 0.9,
        candidates: int = 64,
        calibration_batches: int = 4,
        interactions: float = INTERACTIONS,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        if form not in ("gradient", "reinforce"):
            raise UsageError(f"form must be 'gradient' or 'reinforce', but got {form!r}")
        if not 0 <= baseline_decay < 1:
            raise UsageError(f"0 <= baseline_decay < 1 must hold, but got {baseline_decay}")
        self.form = form
        self.baseline_decay = baseline_decay
        self.ranking = Ranking(candidates, calibration_batches, interactions)

    def check(self, space: Any) -> None:
        if self.form == "gradient":
            super().check(space)

    def rehearse(self, run: Run) -> None:
        if self.form == "gradient":
            super().rehearse(run)

    def path(self, run: Run) -> AbstractContextManager[Any]:
        generator = run.generator("path")
        return run.along(run.preferred(lambda: run.policy.arch(run.policy.draw(generator))))

    def rank(self, run: Run, k: int) -> list[Sample]:
        def likely(wanted: int) -> list[Sample]:
            return Differentiable.rank(self, run, wanted)

        return self.ranking.rank(run, k, likely, penalty=self.penalty)

    def learn(self, run: Run) -> Mapping[str, Any]:
        return self._by_gates(run) if self.form == "gradient" else self._by_reward(run)

    def _by_gates(self, run: Run) -> Mapping[str, Any]:
        pairs = pairs_of(run.policy.probabilities(), run.generator("pairs"))
        parameters = list(run.policy.parameters())
        before = [parameter.detach().clone() for parameter in parameters]
        with run.weights_as_they_are():
            with Gated(run.policy.by_label(), pairs):
                loss = run.policy_loss(run.policy_batch())
            loss = self.penalised(run, loss)
            run.improve_by(loss)
        # The gates have gradients of two logits of each label.  A step on these two changes the
        # probabilities of all others by the denominator of the softmax, which the paper takes back.
        # The expected cost has gradients of all logits, which are meant to move.
        if self.penalty is None:
            for old, logits, pair in zip(before, parameters, pairs.values(), strict=True):
                rescale(old, logits, pair)
        return self.numbers(run, policy_loss=loss.detach())

    def _by_reward(self, run: Run) -> Mapping[str, Any]:
        # REINFORCE.  Of an architecture only the active labels count: the others were drawn
        # independently of it, and their part of the gradient is zero on average.  Draws outside of
        # a restriction are thrown away, which makes the policy p(a | accepted); the gradient of its
        # expected reward is the mean of (R - E[R]) * dlog p(a), so with a baseline near the mean
        # reward nothing has to be known of the probability of acceptance.
        generator = run.generator("policy")
        codes: dict[str, int] = {}

        def draw() -> dict[str, Any]:
            codes.update(run.policy.draw(generator))
            arch: dict[str, Any] = run.policy.arch(codes)
            return arch

        arch = run.network.canonical(run.accepted(draw))
        reward = run.reward(arch, run.policy_batch())
        if self.penalty is not None:
            reward = self.penalty.rewarded(reward, self.penalty.cost(arch))
        gain = advantage(run.memory, reward, self.baseline_decay)
        run.improve_by(-gain * run.policy.log_probability({k: codes[k] for k in arch}))
        return self.numbers(run, reward=reward)


def pairs_of(
    probabilities: Mapping[str, Tensor], generator: torch.Generator
) -> dict[str, tuple[int, int]]:
    """Return two codes of each label, the active one first; the same where there is one."""
    pairs = {}
    for label, vector in probabilities.items():
        p = vector.detach().cpu().double()
        if int((p > 0).sum()) == 1:
            pairs[label] = (int(p.argmax()),) * 2
            continue
        # Two without replacement, in proportion to the probabilities; of these the active one again
        # by its share, as the gates rescale the pair to sum to 1.
        two = torch.multinomial(p, 2, generator=generator)
        first = int(torch.multinomial(p[two], 1, generator=generator))
        pairs[label] = (int(two[first]), int(two[1 - first]))
    return pairs


def rescale(before: Tensor, logits: Tensor, pair: tuple[int, int]) -> None:
    """Shift two logits so that the probabilities of all others are what they were before."""
    two = torch.tensor(pair, device=logits.device)
    if pair[0] == pair[1]:
        return
    with torch.no_grad():
        shift = before[two].logsumexp(0) - logits[two].logsumexp(0)
        logits[two] += shift
