"""``Metric``: a number by which the outputs of a network are judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Metric"]


@dataclass(frozen=True)
class Metric:
    """A number that says how good the outputs for a whole split are.

    Parameters
    ----------
    function
        Takes the outputs and the targets of all examples, in one tensor each, and returns a number.
    maximize
        Whether more is better.

    Examples
    --------
    >>> import torch
    >>> error = Metric(lambda output, target: (output - target).abs().mean(), maximize=False)
    >>> float(error(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])))
    1.0
    """

    function: Callable[[Tensor, Tensor], Tensor | float]
    maximize: bool = True

    def __call__(self, output: Tensor, target: Tensor) -> float:
        return float(self.function(output, target))
