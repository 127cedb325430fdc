"""Small spaces in which one architecture is best by far, and tasks that tell."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import nas_space as ns
from nas_space import nn as mnn
from nas_space.mutable import Categorical, MutableExpression
from nas_space.training import Metric, Task


class Noise(nn.Module):
    """The input, drowned in noise to some share."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        return (1 - self.share) * x + self.share * torch.randn_like(x)


class Absolute(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


class Planted(ns.ModelSpace):
    """Four inputs matter by their absolute values; what is noisy is worse, and wider is better.

    The width can be left out: in a mixture, narrow and wide do the same, as what follows makes
    up for the scale.
    """

    def __init__(self, *, elastic: bool = True) -> None:
        super().__init__()
        width: Any = Categorical([1, 6], label="width") if elastic else 6
        takes = {"clean": Noise(0.0), "noisy": Noise(0.5), "lost": Noise(1.0)}
        self.take = mnn.LayerChoice(takes, label="take")
        self.shape = mnn.LayerChoice([nn.Identity(), Absolute()], label="shape")
        self.first = mnn.MutableLinear(4, width)
        self.norm = mnn.MutableBatchNorm1d(width)
        self.last = mnn.MutableLinear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.norm(self.first(self.take(self.shape(x)))))
        return y


BEST = {"take": "clean", "shape": 1, "width": 6}
BEST_WITHIN = BEST | {"take": "noisy"}


def best_of(space: Any, arch: dict[str, Any]) -> dict[str, Any]:
    """Of the labels that a space has."""
    return {label: value for label, value in arch.items() if label in space.symbols()}


def cost(space: Any) -> Any:
    """What is clean costs more than can be afforded."""
    take = space.symbols()["take"]
    return MutableExpression.switch_case(take, {"clean": 100, "noisy": 10, "lost": 10})


def task(seed: int = 0, **options: Any) -> Task:
    generator = torch.Generator().manual_seed(1000 + seed)
    x = torch.randn(512, 4, generator=generator)
    a = x.abs()
    y = torch.stack(
        [a[:, 0] - a[:, 1], a[:, 2] + 1.5 * a[:, 3], a[:, 1] - a[:, 2] + 1.5 * a[:, 3]], 1
    )
    given: dict[str, Any] = {
        "train": TensorDataset(x[:256], y[:256]),
        "validation": TensorDataset(x[256:], y[256:]),
        "loss": F.mse_loss,
        "metrics": {"fit": Metric(lambda o, t: 1 - F.mse_loss(o, t) / t.var())},
        "optimizer": partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=1e-4),
        "batch_size": 32,
    }
    return Task(**given | options)
