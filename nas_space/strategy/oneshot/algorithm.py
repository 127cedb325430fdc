"""``OneShot``: what an algorithm that searches with shared weights says, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer

from ...errors import UsageError
from ...mutable import Sample

if TYPE_CHECKING:
    from .run import Run

__all__ = ["OneShot"]


class OneShot:
    """An algorithm that trains the weights of all architectures at once.

    It keeps its settings only; what it learns is in the :class:`Run`.  At each step the weights
    are trained on a batch of the training data, by default along one :meth:`path`; before that,
    once the warm-up is over, :meth:`learn` may change the policy.

    Parameters
    ----------
    warmup_epochs
        Passes over the training data before the policy is learned.
    log_prob_every_n_step
        How often the probabilities are noted, for :meth:`Run.probabilities`.
    gradient_clip_val
        The largest norm of the gradient of the weights; what the task says by default.

    Raises
    ------
    UsageError
        If an argument makes no sense.

    Examples
    --------
    An algorithm of one's own, which trains and prefers what it is told:

    >>> class Stubborn(OneShot):
    ...     def __init__(self, arch):
    ...         super().__init__()
    ...         self.arch = arch
    ...
    ...     def path(self, run):
    ...         return run.along(self.arch)
    ...
    ...     def rank(self, run, k):
    ...         return [self.arch]
    """

    needs_validation = True
    """Whether it learns from, or ranks by, the validation data."""

    def __init__(
        self,
        *,
        warmup_epochs: float = 0,
        log_prob_every_n_step: int = 10,
        gradient_clip_val: float | None = None,
    ) -> None:
        if warmup_epochs < 0 or log_prob_every_n_step < 1:
            raise UsageError(
                "warmup_epochs >= 0 and log_prob_every_n_step >= 1 must hold, but got "
                f"(warmup_epochs={warmup_epochs}, log_prob_every_n_step={log_prob_every_n_step})"
            )
        self.warmup_epochs = warmup_epochs
        self.log_prob_every_n_step = log_prob_every_n_step
        self.gradient_clip_val = gradient_clip_val

    def check(self, space: Any) -> None:
        """Refuse a space that the algorithm cannot deal with, before anything is trained.

        Raises
        ------
        SpaceError, UsageError
            By the name of the primitive or the label.
        """

    def policy(self, run: Run) -> tuple[nn.Module, Optimizer] | None:
        """Return what is learned beside the weights, and how; ``None`` if nothing is."""
        return None

    def rehearse(self, run: Run) -> None:
        """Try, before the first step, what might be refused when it runs."""

    def path(self, run: Run) -> AbstractContextManager[Any]:
        """Return what the space runs as while its weights are trained at a step."""
        raise NotImplementedError(f"{type(self).__name__} must implement path() or train()")

    def train(self, run: Run, batch: Any) -> Tensor:
        """Leave the gradients of the weights at a step; return the loss."""
        return run.descend(self.path(run), lambda: run.loss(batch))

    def learn(self, run: Run) -> Mapping[str, Any]:
        """Change the policy at a step; return numbers that show how it goes."""
        return {}

    def probabilities(self, run: Run) -> dict[str, Any]:
        """Label to the probability of each code, as far as the policy has one by label."""
        return {}

    def rank(self, run: Run, k: int) -> list[Sample]:
        """Return up to ``k`` different architectures of the space, the best first."""
        raise NotImplementedError(f"{type(self).__name__} must implement rank()")
