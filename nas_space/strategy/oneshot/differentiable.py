"""``DARTS`` and ``GumbelDARTS``: a policy learned by gradients through a mixture."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...errors import UsageError
from ...mutable import Sample
from ...nn.decisions import Marginals, Weighted, check_blendable
from ...nn.elastic import ElasticModule
from .algorithm import OneShot
from .penalty import Penalty
from .policy import Policy, most_likely
from .run import Run

__all__ = ["DARTS", "Differentiable", "GumbelDARTS"]


_NEVER = -1e4
"""Stands for the logarithm of probability 0, as tables need finite numbers."""


class Differentiable(OneShot):
    """Base class of algorithms with independent probabilities for all labels.

    Parameters
    ----------
    arc_learning_rate
        Of the policy's optimizer, Adam.
    arc_weight_decay
        Of the same.
    penalty
        What architectures cost: a :class:`Penalty`, or a dictionary of its arguments.
    arguments
        As of :class:`OneShot`.
    """

    betas = (0.5, 0.999)

    def __init__(
        self,
        *,
        arc_learning_rate: float = 3e-4,
        arc_weight_decay: float = 0.0,
        penalty: Penalty | Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        if not arc_learning_rate > 0 or arc_weight_decay < 0:
            raise UsageError(
                "arc_learning_rate > 0 and arc_weight_decay >= 0 must hold, but got "
                f"({arc_learning_rate=}, {arc_weight_decay=})"
            )
        self.arc_learning_rate = arc_learning_rate
        self.arc_weight_decay = arc_weight_decay
        self.penalty = Penalty.of(penalty)

    def check(self, space: Any) -> None:
        whole = getattr(space, "space", space)
        for path, module in whole.named_modules():
            if isinstance(module, ElasticModule) and module.is_parametrized:
                check_blendable(module, path, Marginals({}))

    def policy(self, run: Run) -> tuple[nn.Module, Optimizer]:
        policy = Policy(
            run.symbols, run.generator("logits"), run.fabric.device, allowed=run.allowed
        )
        optimizer = torch.optim.Adam(
            policy.parameters(),
            lr=self.arc_learning_rate,
            betas=self.betas,
            weight_decay=self.arc_weight_decay,
        )
        return policy, optimizer

    def rehearse(self, run: Run) -> None:
        # The policy is first learned after the warm-up, perhaps hours later, so what a mixture
        # refuses is met now, by one forward.  Its vectors need gradients, as they will then: what
        # is refused depends on it (reentrant checkpoints), and so does which branches are run.
        with run.weights_as_they_are(), torch.no_grad():
            vectors = run.policy.probabilities().items()
            with Weighted({label: vector.requires_grad_() for label, vector in vectors}):
                run.policy_loss(run.policy_batch())

    def probabilities(self, run: Run) -> dict[str, Any]:
        found: dict[str, Tensor] = run.policy.probabilities()
        return found

    def rank(self, run: Run, k: int) -> list[Sample]:
        scores = {
            label: vector.log_softmax(0).clamp_min(_NEVER).tolist()
            for label, vector in run.policy.by_label().items()
        }
        return most_likely(run.space, scores, k)

    def penalised(self, run: Run, loss: Tensor) -> Tensor:
        """Return a loss with the penalty for the expected cost under the policy."""
        if self.penalty is None:
            return loss
        return self.penalty(loss, self.penalty.expected(run.policy.probabilities()))

    def numbers(self, run: Run, **more: Any) -> dict[str, Any]:
        """Return what to show of a step."""
        with torch.no_grad():
            found = {**more, "entropy": run.policy.entropy()}
            if self.penalty is not None:
                found["cost"] = self.penalty.expected(run.policy.probabilities())
        return found


class DARTS(Differentiable):
    """Trains all architectures as one mixture, and its probabilities by gradients.

    Parameters
    ----------
    unrolled
        Whether the gradient of the probabilities looks one step of training ahead (second
        order), by the finite difference of the paper.  It takes three more passes.
    arguments
        As of :class:`Differentiable`.

    References
    ----------
    Liu et al., *DARTS: differentiable architecture search*, arXiv 1806.09055.
    """

    def __init__(self, *, unrolled: bool = False, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.unrolled = unrolled

    def sampled(self, run: Run, stream: str) -> dict[str, Tensor]:
        """Return the weights of the mixture at a step."""
        del stream  # nothing is random
        found: dict[str, Tensor] = run.policy.probabilities()
        return found

    def path(self, run: Run) -> AbstractContextManager[Any]:
        # Weights and policy are trained in turn, each with the other fixed (algorithm 1 of the
        # paper): without gradients of the policy here, and of the weights in ``learn``.
        with torch.no_grad():
            weights = self.sampled(run, "path")
        return Weighted(weights)

    def learn(self, run: Run) -> Mapping[str, Any]:
        batch = run.policy_batch()
        if self.unrolled:
            loss, gradients = self._second_order(run, batch)
            run.improve(dict(zip(run.policy.parameters(), gradients, strict=True)))
        else:
            with run.weights_as_they_are():
                loss = self.penalised(run, self._loss(run, batch))
                run.improve_by(loss)
        return self.numbers(run, policy_loss=loss.detach())

    def _loss(self, run: Run, batch: Any) -> Tensor:
        with Weighted(self.sampled(run, "policy")):
            return run.policy_loss(batch)

    def _second_order(self, run: Run, batch: Any) -> tuple[Tensor, list[Tensor | None]]:
        """Return the loss and the gradient of the policy at the weights after one step of training.

        With weights ``w`` and the step ``w' = w - xi * dL_train(w, a)/dw``, it is equation 7 of the
        paper,

            dL_val(w', a)/da - xi * d2L_train(w, a)/(da dw) * v,    v = dL_val(w', a)/dw'

        whose second term is a product of a Hessian with a vector.  It is the derivative of
        ``dL_train/da`` along ``v``, and by central differences that takes two more gradients of the
        policy, at ``w + e * v`` and ``w - e * v`` with ``e = 0.01 / |v|`` (equation 8), where the
        Hessian itself has as many entries as weights times logits.
        """
        weights = [p for p in run.network.parameters() if p.requires_grad]
        logits = list(run.policy.parameters())
        training = run.training_batch()
        ahead = run.learning_rate
        before = [weight.detach().clone() for weight in weights]
        with run.statistics_as_they_are():
            try:
                steps = run.averaged(
                    torch.autograd.grad(self._loss(run, training), weights, allow_unused=True)
                )
                _moved(weights, before, steps, -ahead)
                loss = self.penalised(run, self._loss(run, batch))
                found = torch.autograd.grad(loss, [*logits, *weights], allow_unused=True)
                direct: list[Any] = list(found[: len(logits)])
                way = run.averaged(found[len(logits) :])
                norm = torch.stack([v.norm() for v in way if v is not None]).norm()
                small = 0.01 / norm.clamp_min(1e-12)
                # Both sides draw the same random numbers: a difference of two dropout masks divided
                # by the small step would be all there is to see.
                sides = []
                for sign in (1.0, -1.0):
                    run.seed_as("sides")
                    _moved(weights, before, way, sign * small)
                    value = self._loss(run, training)
                    sides.append(torch.autograd.grad(value, logits, allow_unused=True))
            finally:
                _moved(weights, before, [None] * len(weights), 0.0)
        gradients: list[Tensor | None] = []
        for first, plus, minus in zip(direct, *sides, strict=True):
            # A label on no path of the mixture has none of the three.
            second = None if first is None else ahead * (plus - minus) / (2 * small)
            gradients.append(None if second is None else first - second)
        return loss, gradients


def _moved(weights: Any, before: Any, ways: Any, far: Any) -> None:
    """Set weights to ``before + far * ways``, in place, so that optimizers keep theirs."""
    with torch.no_grad():
        for weight, start, way in zip(weights, before, ways, strict=True):
            weight.copy_(start if way is None else start + far * way)


class GumbelDARTS(DARTS):
    """DARTS with weights drawn by the Gumbel softmax, ever closer to single architectures.

    Parameters
    ----------
    temperature
        At the first and at the last step; linear between.  A number stays; a dictionary has
        ``init`` and ``min``.
    hard
        Whether the mixture is a single architecture, with the gradient of the soft weights.
        Then only this one is trained.
    arguments
        As of :class:`DARTS`.

    References
    ----------
    Wu et al., *FBNet*, arXiv 1812.03443; Xie et al., *SNAS*, arXiv 1812.09926; Jang et al.,
    *Categorical reparameterization with Gumbel-softmax*, arXiv 1611.01144.
    """

    def __init__(
        self,
        *,
        temperature: tuple[float, float] | Mapping[str, float] | float = (1.0, 0.33),
        hard: bool = False,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        if isinstance(temperature, Mapping):
            pair = [temperature["init"], temperature["min"]]
        elif isinstance(temperature, (int, float)):
            pair = [temperature, temperature]
        else:
            pair = list(temperature)
        if len(pair) != 2 or min(pair) <= 0:
            raise UsageError(f"temperature must be above 0, or two such numbers, but got {pair}")
        self.temperature = (float(pair[0]), float(pair[1]))
        self.hard = hard

    def temperature_at(self, run: Run) -> float:
        """Return the temperature at a step."""
        first, last = self.temperature
        return first + (last - first) * run.step / max(1, run.total - 1)

    def sampled(self, run: Run, stream: str) -> dict[str, Tensor]:
        generator = run.generator(f"gumbel/{stream}")
        return {
            label: gumbel_softmax(logits, self.temperature_at(run), generator, hard=self.hard)
            for label, logits in run.policy.by_label().items()
        }

    def path(self, run: Run) -> AbstractContextManager[Any]:
        if not self.hard:
            return super().path(run)
        generator = run.generator("path")
        return run.along(run.preferred(lambda: run.policy.arch(run.policy.draw(generator))))


def gumbel_softmax(
    logits: Tensor, temperature: float, generator: torch.Generator, *, hard: bool = False
) -> Tensor:
    """Return a sample of the Gumbel softmax: weights near a corner of the simplex.

    The largest of ``log p + gumbel noise`` is a sample of ``p`` (the Gumbel-max trick), and a
    softmax of it at a temperature is a differentiable one, close to it where the temperature is low
    (equation 1 of arXiv 1611.01144).

    Parameters
    ----------
    logits
        Of shape ``(n,)``.
    temperature
        The lower, the nearer.
    generator
        On the CPU.
    hard
        Whether to go all the way, with the gradient of the soft weights.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> gumbel_softmax(torch.zeros(3), 0.01, generator).max().item() > 0.99
    True
    """
    # Drawn in double precision on the CPU: a single uniform of 0 or 1 would be infinite noise, and
    # the same seed is to draw the same on every device.
    uniform = torch.rand(logits.shape, generator=generator, dtype=torch.float64)
    noise = -torch.log(-torch.log(uniform.clamp(1e-30, 1 - 1e-16)))
    soft = ((logits.log_softmax(0) + noise.to(logits)) / temperature).softmax(0)
    if not hard:
        return soft
    # Straight-through: the value is one-hot, the gradient that of the soft weights.
    one = torch.zeros_like(soft)
    one[int(soft.detach().argmax())] = 1.0
    return one + (soft - soft.detach())
