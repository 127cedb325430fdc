"""Small spaces, and functions to search them for, in a module that processes can import."""

from __future__ import annotations

import math
import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import nas_space as ns
from nas_space import nn as mnn
from nas_space.mutable import Sample
from nas_space.study import report


class Tiny(ns.ModelSpace):
    """Twelve architectures; the label `op1` is active where the depth is 2."""

    def __init__(self, factor: int = 1) -> None:
        super().__init__()
        self.width = ns.Categorical([4 * factor, 8 * factor], label="width")
        self.first = mnn.MutableLinear(2, self.width)
        self.body = mnn.Repeat(
            lambda i: mnn.LayerChoice({"relu": nn.ReLU, "tanh": nn.Tanh}, label=f"op{i}"),
            (1, 2),
            label="depth",
        )
        self.last = mnn.MutableLinear(self.width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(self.body(self.first(x)))
        return out


class Various(ns.ModelSpace):
    """Every kind of label: ordered and unordered categories, several of several, a number."""

    def __init__(self) -> None:
        super().__init__()
        self.width = ns.Categorical([8, 16, 24, 32], label="width")
        self.rate = ns.uniform("rate", 0.0, 0.5)
        self.first = mnn.MutableLinear(2, self.width)
        self.drop = mnn.MutableDropout(self.rate)
        self.pick = mnn.InputChoice(4, 2, label="pick")
        self.body = mnn.Repeat(
            lambda i: mnn.LayerChoice(
                {"relu": nn.ReLU, "tanh": nn.Tanh, "none": nn.Identity}, label=f"op{i}"
            ),
            (0, 3),
            label="depth",
        )
        self.last = mnn.MutableLinear(self.width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(self.drop(self.first(x)))
        out: torch.Tensor = self.last(self.pick([x, -x, 2 * x, x * x]))
        return out


_WORTH = {"relu": 0.3, "tanh": 0.1, "none": 0.2}


def worth(_network: Any, arch: Sample) -> float:
    """A number that depends on every label; the same for the same architecture."""
    total = 0.0
    for label, value in arch.items():
        if isinstance(value, list):
            total += 0.01 * sum(value)
        else:
            total += _WORTH.get(value, 0.0) if isinstance(value, str) else math.sin(3.0 * value)
        total += 0.001 * len(label)
    return total


def slow_worth(network: Any, arch: Sample) -> float:
    """The same, after a moment, and after writing down that it was asked for."""
    log = os.environ.get("EVALUATIONS")
    if log is not None:
        with Path(log).open("a") as file:
            file.write(f"{os.getpid()} {sorted(arch.items())}\n")
        last = os.environ.get("LAST_EVALUATION")
        while last is not None and len(Path(log).read_text().splitlines()) >= int(last):
            time.sleep(0.05)  # until somebody kills the process
    time.sleep(0.05)
    return worth(network, arch)


def reporting(network: Any, arch: Sample) -> float:
    """The same, told in five steps."""
    for step in range(1, 6):
        report(worth(network, arch) * step / 5, step)
    return slow_worth(network, arch)


def failing(network: Any, arch: Sample) -> float:
    """Fails for one of two depths."""
    if arch["depth"] == 2:
        raise RuntimeError("depth 2 does not train")
    return worth(network, arch)


def weight_sum(network: Any, _arch: Sample) -> float:
    """What the weights of a network add up to, and a random number."""
    total = sum(float(p.detach().double().abs().sum()) for p in network.parameters())
    return total + float(torch.rand(()))


def deadly(network: Any, arch: Sample) -> float:
    """Kills the process that runs it, for one of four widths."""
    if arch["width"] == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    return worth(network, arch)
