"""What a step of a one-shot strategy costs, against the same step of another checkout.

::

    git worktree add ../before COMMIT
    python -m benchmarks.steps --against ../before [--rounds 12] [--out steps.json]

Each strategy takes whole steps (of the weights, and of what it learns of the architecture) on
ProxylessNAS and MobileNetV3Space: batches of 8 images of 32×32, one thread.  Two processes, one of
each checkout, take them in turn, and what counts is the median of the ratios of two steps beside
each other, in processor time: what else the machine does then slows down both.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

STRATEGIES = ("RandomOneShot", "DARTS", "GumbelDARTS", "Proxyless", "ENAS")
SPACES = ("ProxylessNAS", "MobileNetV3Space")
BATCH, IMAGE, CLASSES = 8, 32, 1000


def serve(space: str, strategy: str) -> None:
    """Take a step for each line that comes in, and tell how many seconds it took.

    This runs in both checkouts, so it needs no more of the library than its public names.
    """
    import torch
    from torch.utils.data import TensorDataset

    import nas_space.hub
    from nas_space.strategy import oneshot
    from nas_space.training import Task

    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = torch.randn(2 * BATCH, 3, IMAGE, IMAGE)
    data = TensorDataset(images, torch.randint(CLASSES, (2 * BATCH,)))
    task = Task.classification(data, validation=data, batch_size=BATCH)
    built = getattr(nas_space.hub, space)(num_labels=CLASSES)
    run = oneshot.Run(getattr(oneshot, strategy)(), built, task, steps=10_000)
    for _ in range(2):
        run.advance()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.process_time()
        run.advance()
        print(time.process_time() - start, flush=True)


class Contestant:
    """A process that takes steps when asked.

    Parameters
    ----------
    checkout
        The folder that the library is imported from.
    space, strategy
        What runs.
    """

    def __init__(self, checkout: Path, space: str, strategy: str) -> None:
        self._what = f"{strategy} on {space} of {checkout}"
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", space, strategy],
            cwd=checkout,
            env=os.environ | {"PYTHONPATH": str(checkout)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Contestant:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()

    def answer(self) -> str:
        """Return what it says next."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._what} ended early")
        return line.strip()

    def step(self) -> float:
        """Return how many seconds of processor time a step took."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self.answer())


def compared(space: str, strategy: str, before: Path, rounds: int) -> Any:
    from benchmarks._measure import ratio_row
    from benchmarks._nni import ROOT

    times: dict[str, list[float]] = {"ours": [], "before": []}
    with Contestant(ROOT, space, strategy) as now, Contestant(before, space, strategy) as then:
        now.answer()
        then.answer()
        contestants = [("ours", now), ("before", then)]
        for _ in range(rounds):
            for name, contestant in contestants:
                times[name].append(contestant.step())
            contestants.reverse()
    return ratio_row(f"{strategy} on {space}, a whole step now / before", times, "before")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=STRATEGIES)
    parser.add_argument("--spaces", nargs="+", choices=SPACES, default=SPACES)
    parser.add_argument("--out", type=Path, help="also write the figures there, as JSON")
    parser.add_argument("--serve", nargs=2, metavar=("SPACE", "STRATEGY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(*arguments.serve)
        return
    if arguments.against is None:
        parser.error("--against says which other checkout to compare with")
    from benchmarks._measure import print_table, write_json

    rows = [
        compared(space, strategy, arguments.against.resolve(), arguments.rounds)
        for space in arguments.spaces
        for strategy in arguments.strategies
    ]
    print_table("Whole steps of one-shot strategies, one thread", rows)
    if arguments.out:
        write_json(arguments.out, rows)


if __name__ == "__main__":
    main()
