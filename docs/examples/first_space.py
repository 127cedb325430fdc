"""A space of one's own: describe it, count it, bound it, search it, take the network away."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import nas_space as ns
from nas_space import nn as mnn
from nas_space.training import Task, load_data


class Net(ns.ModelSpace):
    """A small convolutional network: how wide, how deep, and what each block does."""

    example_shape = (3, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        width = ns.Categorical([8, 16, 24], label="width")

        def block(i: int) -> nn.Module:
            return mnn.LayerChoice(
                {
                    "conv3": lambda: mnn.MutableConv2d(width, width, 3, padding=1),
                    "conv5": lambda: mnn.MutableConv2d(width, width, 5, padding=2),
                    "skip": nn.Identity,
                },
                label=f"op{i}",
            )

        self.stem = mnn.MutableConv2d(3, width, 3, padding=1, stride=4)
        self.body = mnn.Repeat(block, (1, 3), label="depth")
        self.head = mnn.MutableLinear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.body(torch.relu(self.stem(x))))
        out: torch.Tensor = self.head(x.mean((2, 3)))
        return out


def main(trials: int = 12, epochs: int = 5) -> Any:
    """Search the space for digits, within a budget."""
    space = Net()
    print(f"{space.count()} architectures, of the labels {list(space.symbols())}")
    macs = ns.profiler.macs(space, space.example_shape)
    small = space.where(macs <= 400_000)
    print(f"{small.count()} of them need no more than 400,000 multiply-adds")
    task = Task.classification(load_data("digits"))
    evaluate = ns.study.from_scratch(task, epochs=epochs)
    result = ns.search(small, evaluate, trials=trials, strategy="evolution")
    print(result)
    print(space.explain(result.best()))
    return result


if __name__ == "__main__":
    main()
