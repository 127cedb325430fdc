"""``OneShotProgress``: where a one-shot search stands after a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...training import Progress

__all__ = ["OneShotProgress"]


@dataclass(frozen=True)
class OneShotProgress:
    """Where a one-shot search stands after a step.

    Attributes
    ----------
    training
        Of the weights.
    """

    training: Progress
    _numbers: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        known = {"loss": self.loss, **self.metrics}
        return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in known.items())

    @property
    def step(self) -> int:
        """Steps done."""
        return self.training.step

    @property
    def total(self) -> int:
        """Steps there are."""
        return self.training.total

    @property
    def loss(self) -> float:
        """The training loss of the step."""
        return self.training.loss

    @property
    def metrics(self) -> dict[str, float]:
        """What the algorithm says of its policy: loss or reward, entropy, expected cost."""
        return {name: float(value) for name, value in self._numbers.items()}
