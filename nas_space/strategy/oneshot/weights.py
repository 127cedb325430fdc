"""`Weights`: training the shared weights, a step at a time, and only those that took part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from nas_space.nn.decisions import Traced
from nas_space.strategy.oneshot.slices import used_slices
from nas_space.training import Trainer
from nas_space.training.randomness import generator_of

if TYPE_CHECKING:
    from nas_space.strategy.oneshot.run import Run

__all__ = ["Weights"]


class Weights(Trainer):
    """Trains the weights of a space as the algorithm says, and only those that took part."""

    def __init__(self, run: Run, **arguments: Any) -> None:
        super().__init__(run.network, run.task, seed=run.seed, **arguments)
        self.run = run
        self.used: list[Traced] = []
        self._coming: Any = None

    @property
    def wrapped(self) -> nn.Module:
        """The network as Fabric runs it."""
        wrapped: nn.Module = self._wrapped
        return wrapped

    def along(self, arch: Mapping[str, Any]) -> Traced:
        """A path that is noted, for the update to leave everything else alone."""
        path = Traced(self.run.network.read(arch))
        self.used.append(path)
        return path

    def coming(self) -> Any:
        """The batch of this step, as it will be trained on."""
        if self._coming is None:
            self._coming = (super()._next_batch(),)
        batch = self.fabric.to_device(self._coming[0])
        device, rank = self.fabric.device, self.fabric.global_rank
        noise = generator_of(self.seed, f"train/augment/{rank}", self.step, device)
        return self.fabric.strategy.precision.convert_input(self.task.augmented(batch, noise))

    def _next_batch(self) -> Any:
        if self._coming is None:
            return super()._next_batch()
        (batch,), self._coming = self._coming, None
        return batch

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._coming = None

    def gradients(self, batch: Any) -> Tensor:
        self.used.clear()
        return self.run.strategy.train(self.run, batch)

    def update(self) -> None:
        optimizer: Any = self.optimizer
        used = [item for path in self.used for item in path.used]
        with used_slices(optimizer.optimizer, used):
            super().update()
        self.used.clear()
