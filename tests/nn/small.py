"""Small spaces that several tests use."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import nas_space as ns
from nas_space import nn as mnn
from nas_space.mutable import Categorical


class Net(ns.ModelSpace):
    """Widths, kernels, a depth and choices: the example of the design."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        width = Categorical([4, 8], label="width")
        kernel = Categorical([1, 3], label="kernel")
        self.stem = mnn.MutableConv2d(3, width, kernel, padding=kernel // 2)
        self.norm = mnn.MutableBatchNorm2d(width)
        self.body = mnn.Repeat(
            lambda index: mnn.LayerChoice(
                {"conv": lambda: mnn.MutableConv2d(width, width, 1), "id": nn.Identity},
                label=f"op{index}",
            ),
            (1, 3),
            label="depth",
        )
        self.head = mnn.MutableLinear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.body(self.norm(self.stem(x))).mean((2, 3)))
        return y


ARCH = {"width": 4, "kernel": 3, "depth": 2, "op0": "conv", "op1": "id"}


def images(batch: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(batch, 3, 5, 5, generator=torch.Generator().manual_seed(seed))


class Holding(ns.ModelSpace):
    """A space that holds what it is given, under the names it is given it."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        self.width: Any = Categorical([4, 8], label="width")
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * self.width
        return y
