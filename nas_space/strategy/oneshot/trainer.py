"""``SharedWeightsTrainer``: train the shared weights, and of them only those that took part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...nn.decisions import Slice, Traced
from ...training import Progress, Task, Trainer, used_slices

__all__ = ["SharedWeightsTrainer"]


class SharedWeightsTrainer(Trainer):
    """Train the weights of a space as the algorithm says, and only those that took part.

    Parameters
    ----------
    network, task, arguments
        As for :class:`~nas_space.training.Trainer`.
    step
        Leaves the gradients of the weights for a batch, and returns the loss.
    """

    def __init__(
        self, network: Any, task: Task, step: Callable[[Any], Tensor], **arguments: Any
    ) -> None:
        super().__init__(network, task, **arguments)
        self.space = network
        self._train_on = step
        self.used: list[Traced] = []
        self._coming: Any = None
        self._after = ExitStack()

    @property
    def wrapped(self) -> nn.Module:
        """The network as Fabric runs it."""
        wrapped: nn.Module = self._wrapped
        return wrapped

    def along(self, arch: Mapping[str, Any]) -> Traced:
        """Return a path that is noted, for the update to leave everything else alone."""
        path = Traced(self.space.read(arch))
        self.used.append(path)
        return path

    def coming(self) -> Any:
        """Return the batch of this step, as it will be trained on."""
        if self._coming is None:
            self._coming = (super()._next_batch(),)
        return self._prepared(self._coming[0])

    def _next_batch(self) -> Any:
        if self._coming is None:
            return super()._next_batch()
        (batch,), self._coming = self._coming, None
        return batch

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._coming = None

    def advance(self) -> Progress:
        with ExitStack() as self._after:
            return super().advance()

    def gradients(self, batch: Any) -> Tensor:
        # The slices stand in for their parameters until the optimizer has stepped, which the base
        # class does between this and the end of ``advance``: there ``_after`` is left.
        self.used.clear()
        loss = self._train_on(batch)
        slices = [part for path in self.used for part in path.used]
        self.used.clear()
        if self.fabric.world_size > 1:
            self._join(slices)
        optimizer: Any = self.optimizer
        self._after.enter_context(used_slices(optimizer.optimizer, slices))
        return loss

    def _join(self, slices: list[Slice]) -> None:
        """Average the gradients over the processes, all at once.

        Paths are drawn by the seed and the step alone, so each process has the same slices in the
        same order, and one message is enough.  The wrapper of distributed training cannot do it:
        it averages the gradients of parameters, and slices are leaves of their own.
        """
        gradients = [part.leaf.grad for part in slices if part.leaf.grad is not None]
        if not gradients:
            return
        joint = torch.cat([gradient.flatten() for gradient in gradients])
        mean = cast("Tensor", self.fabric.all_reduce(joint, reduce_op="mean"))
        for gradient in gradients:
            gradient.copy_(mean[: gradient.numel()].view_as(gradient))
            mean = mean[gradient.numel() :]
