"""Read what a search found: from the result, from the shell, and in one page for a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import TensorDataset

import nas_space as ns
from nas_space import nn as mnn
from nas_space.report.page import write_report
from nas_space.runs import open_run
from nas_space.training import EarlyStopping, Task


class Signals(ns.ModelSpace):
    """A network for short signals: the filters' length matters, the activation hardly does."""

    example_shape = (1, 32)

    def __init__(self) -> None:
        super().__init__()
        width = ns.Categorical([4, 8, 16], label="width")
        self.filters = mnn.LayerChoice(
            {f"length {k}": mnn.MutableConv1d(1, width, k, padding=k // 2) for k in (3, 7, 15)},
            label="filters",
        )
        self.act = mnn.LayerChoice({"relu": nn.ReLU(), "tanh": nn.Tanh()}, label="activation")
        self.head = mnn.MutableLinear(width, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.act(self.filters(x)).mean(2))
        return out


def signals(number: int, seed: int) -> TensorDataset:
    """Make noisy waves of two frequencies that only a long filter tells apart."""
    draw = torch.Generator().manual_seed(seed)
    kind = torch.arange(number) % 2
    phase = 6.28 * torch.rand(number, 1, generator=draw)
    wave = torch.sin(torch.arange(32) * (0.5 + 0.15 * kind[:, None]) + phase)
    return TensorDataset((wave + torch.randn(wave.shape, generator=draw))[:, None], kind)


def main(trials: int = 40, epochs: int = 20, number: int = 600, out: str = "signals") -> Any:
    """Search for accuracy and few multiply-adds, and write the report."""
    space = Signals()
    task = Task.classification(
        signals(number, 0), signals(number, 1), optimizer=lambda p: torch.optim.Adam(p, 0.01)
    )
    cost = ns.study.minimize("macs", ns.profiler.macs(space, space.example_shape))
    evaluate = ns.study.from_scratch(task, epochs, early_stopping=EarlyStopping(patience=4))
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    result = ns.search(
        space,
        evaluate,
        objectives=[ns.study.maximize("accuracy"), cost],
        trials=trials,
        storage=folder / "study.db",
        resume=True,
    )
    print(result)
    for outcome in result.front():
        print(outcome.arch, outcome.values)
    print(space.explain(result.best()))
    write_report(open_run(folder / "study.db"), folder / "report.html")
    print("now open", folder / "report.html")
    return result


if __name__ == "__main__":
    main()
