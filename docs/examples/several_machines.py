"""One search on several machines: the same script on each, and one storage between them.

Here the machines are processes that this script starts itself, and the storage is a file. Real
machines run ``python several_machines.py postgresql+psycopg://user:password@host/trials`` each.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import nas_space as ns
from nas_space import nn as mnn


class Net(ns.ModelSpace):
    """Two layers, each with a width of its own."""

    def __init__(self) -> None:
        super().__init__()
        one = ns.Categorical([4, 8, 16, 32], label="one")
        two = ns.Categorical([4, 8, 16, 32], label="two")
        self.first, self.second = mnn.MutableLinear(8, one), mnn.MutableLinear(one, two)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.second(self.first(x))
        return out


def evaluate(_network: torch.nn.Module, arch: dict[str, Any]) -> float:
    """Stand for a training that takes a while."""
    time.sleep(0.1)
    return float(-abs(arch["one"] - 16) - abs(arch["two"] - 8))


def join(storage: str, trials: int) -> Any:
    """Do a share of the search in a storage; whoever comes first begins it."""
    return ns.search(
        Net(), evaluate, trials=trials, strategy="random", storage=storage, resume=True, seed=0
    )


def main(machines: int = 2, trials: int = 12) -> Any:
    """Start some machines, wait for them, and read the result that they share."""
    with TemporaryDirectory() as folder:
        storage = str(Path(folder, "search.db"))
        command = [sys.executable, str(Path(__file__)), storage, str(trials)]
        started = [subprocess.Popen(command) for _ in range(machines)]
        assert [one.wait() for one in started] == [0] * machines
        result = join(storage, trials)  # nothing is left to do: this reads what was found
        drivers = Counter(trial.user_attrs["worker"] for trial in result.study.trials)
        print(f"{len(result.outcomes)} trials by {len(drivers)} machines: {[*drivers.values()]}")
        print("best:", result.best())
    return result


if __name__ == "__main__":
    if len(sys.argv) > 1:
        join(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 200)
    else:
        main()
