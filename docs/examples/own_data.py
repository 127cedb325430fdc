"""Your own data: two datasets make a task; a metric of one's own beside it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.data import TensorDataset

import nas_space as ns
from nas_space import nn as mnn
from nas_space.training import Task


class Table(ns.ModelSpace):
    """A network for rows of a table: two hidden layers, each with its width."""

    example_shape = (6,)

    def __init__(self) -> None:
        super().__init__()
        one = ns.Categorical([8, 16, 32], label="first")
        two = ns.Categorical([8, 16, 32], label="second")
        self.layers = nn.Sequential(
            mnn.MutableLinear(6, one), nn.ReLU(), mnn.MutableLinear(one, two), nn.ReLU()
        )
        self.head = mnn.MutableLinear(two, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.layers(x))
        return out


def data(rows: int, seed: int) -> TensorDataset:
    """Make rows whose class depends on a product: no straight line tells them apart."""
    x = torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, (x[:, 0] * x[:, 1] > 0).long())


def main(rows: int = 2000, trials: int = 9, epochs: int = 10) -> Any:
    """Search for accuracy and few parameters at once; print the front."""
    space = Table()
    task = Task.classification(data(rows, 0), validation=data(rows // 2, 1))
    size = ns.study.minimize("parameters", ns.profiler.params(space))
    objectives = [ns.study.maximize("accuracy"), size]
    evaluate = ns.study.from_scratch(task, epochs=epochs)
    result = ns.search(space, evaluate, trials=trials, strategy="random", objectives=objectives)
    for outcome in result.front():
        print(outcome.arch, outcome.values)
    return result


if __name__ == "__main__":
    main()
