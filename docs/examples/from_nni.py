"""A space written for NNI, moved here: what changes, what is reported, and the search."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.nn import functional as F

import nas_space as ns
from nas_space.interop.migrate import migrate_file

SOURCE = """\
import nni
import torch
from nni.nas.nn.pytorch import LayerChoice, ModelSpace, MutableLinear


class Net(ModelSpace):
    def __init__(self):
        super().__init__()
        width = nni.choice("width", [8, 16, 32])
        self.hidden = MutableLinear(4, width)
        self.act = LayerChoice({"relu": torch.nn.ReLU(), "tanh": torch.nn.Tanh()}, label="act")
        self.head = MutableLinear(width, 1)

    def forward(self, x):
        return self.head(self.act(self.hidden(x)))


def evaluate(network):
    nni.report_final_result(score(network))
"""
"""What somebody wrote for NNI 3.0."""


def score(network: torch.nn.Module) -> float:
    """Train for a moment; return how much of the variance is explained."""
    x = torch.randn(256, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, :2].prod(1) + x[:, 2].abs())[:, None]
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(100):
        optimizer.zero_grad()
        F.mse_loss(network(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        return 1 - float(F.mse_loss(network(x), y) / y.var())


def evaluate(network: torch.nn.Module, _arch: dict[str, Any]) -> float:
    """Return the metric, where NNI's function reported it."""
    return score(network)


def main(trials: int = 6) -> Any:
    """Migrate the file, print the change and what is left to do, and search the space."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "net.py")
        file.write_text(SOURCE, encoding="utf-8")
        moved = migrate_file(file)
        print(moved.diff("net.py"), end="")
        for finding in moved.findings:
            print(f"net.py:{finding}")
        file.write_text(moved.text, encoding="utf-8")
        spec = importlib.util.spec_from_file_location("net", file)
        assert spec is not None
        assert spec.loader is not None
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    space = module.Net()
    result = ns.search(space, evaluate, trials=trials, strategy="random", weights="fresh", seed=0)
    print(result.best())
    return result


if __name__ == "__main__":
    main()
