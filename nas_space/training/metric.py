"""Numbers by which the outputs of a network are judged, and ``Metric``, which says how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from ..errors import DataError

__all__ = ["STANDARD_ERROR", "Metric", "accuracy", "mean_of_column", "rmse", "squared_error"]

STANDARD_ERROR = "standard error"
"""The name under which a metric's standard error is kept beside it."""


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


def mean_of_column(column: int, output: Tensor, _: Tensor) -> Tensor:
    """Return the mean of one column of the outputs."""
    return output[:, column].mean()


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Return the share of rows whose largest output is that of the target class."""
    return (output.argmax(1) == target).float().mean()


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared error.

    Raises
    ------
    DataError
        If outputs and targets differ in shape.
    """
    # Broadcasting (n, 1) with (n,) gives a loss over all pairs, which trains and is meaningless.
    if output.shape != target.shape:
        raise DataError(
            f"outputs have the shape {tuple(output.shape)} and targets {tuple(target.shape)}; "
            "regression needs the same"
        )
    return F.mse_loss(output, target)


def rmse(output: Tensor, target: Tensor) -> Tensor:
    """Return the root of the mean squared error."""
    return squared_error(output, target).sqrt()
