"""How a network's parameters are grouped for an optimizer, and the default schedule."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Protocol

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..errors import UsageError

__all__ = ["Schedule", "cosine", "parameter_groups"]


class Schedule(Protocol):
    """What a learning-rate schedule must be able to do; those of torch are."""

    def step(self) -> object:
        """Set the learning rate of the next step."""

    def state_dict(self) -> dict[str, Any]:
        """Return where the schedule stands."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> object:
        """Go on from where a schedule stood."""


def parameter_groups(network: nn.Module) -> list[dict[str, Any]]:
    """Group the parameters of a network into those with weight decay and those without.

    Parameters
    ----------
    network
        If it has a method ``no_weight_decay()``, the parameters named by it (by any of their names,
        where one is tied) form a group of their own with ``weight_decay=0``, as timm does it.

    Returns
    -------
    list of dict
        As the optimizers of torch take them; without parameters that need no gradient.

    Examples
    --------
    >>> class Net(nn.Linear):
    ...     def no_weight_decay(self):
    ...         return {"bias"}
    >>> [len(group["params"]) for group in parameter_groups(Net(2, 3))]
    [1, 1]
    """
    names: Any = getattr(network, "no_weight_decay", set)()
    exempt = {
        parameter
        for name, parameter in network.named_parameters(remove_duplicate=False)
        if name in names
    }
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not trained:
        raise UsageError("the network has no parameters to train: none of them requires a gradient")
    groups: tuple[dict[str, Any], ...] = (
        {"params": [parameter for parameter in trained if parameter not in exempt]},
        {
            "params": [parameter for parameter in trained if parameter in exempt],
            "weight_decay": 0.0,
        },
    )
    return [group for group in groups if group["params"]]


def cosine(optimizer: Optimizer, total_steps: int, *, warmup: float = 0.05) -> LambdaLR:
    """Follow half a cosine from the learning rate to zero, after a linear warm-up.

    Parameters
    ----------
    optimizer
        Its learning rate is the highest.
    total_steps
        The learning rate would be zero at the step after the last.
    warmup
        The share of the steps that warm up.

    References
    ----------
    Loshchilov and Hutter, *SGDR: stochastic gradient descent with warm restarts*, arXiv 1608.03983.

    Examples
    --------
    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    >>> schedule = cosine(optimizer, 4, warmup=0)
    >>> for _ in range(4):
    ...     print(round(schedule.get_last_lr()[0], 3))
    ...     optimizer.step()
    ...     schedule.step()
    1.0
    0.854
    0.5
    0.146
    """
    return LambdaLR(optimizer, partial(_cosine_factor, total_steps, round(total_steps * warmup)))


def _cosine_factor(total: int, warmup: int, step: int) -> float:
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(total - warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
