"""Do shared weights tell what networks are worth?  On the digits, against a table of the truth.

::

    python -m benchmarks.oneshot_quality table     # trains all 243 networks alone, three times
    python -m benchmarks.oneshot_quality           # strategies against the table

The space has five places with three operations each.  Digits are 8×8 pixels under much noise, so
that no operation is useless and no network perfect.  The noise is drawn anew each time an image is
trained on, or two trainings of one network would differ as much as two networks do.  The truth is
the accuracy on images that nothing is trained or searched on, the mean of three trainings from
scratch.

Of each strategy, over ten seeds: how its order of all networks agrees with the true one
(Kendall's tau, over all networks and over the better half), and the true rank of what it finds.
Beside: how two trainings of the same networks agree, which is the most one can ask for, and a
random search that may train for as many steps, picking by the validation images.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau, wilcoxon
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import nas_space as ns
from benchmarks._measure import use_one_thread
from nas_space.nn import LayerChoice
from nas_space.strategy.oneshot import (
    DARTS,
    ENAS,
    GumbelDARTS,
    OneShot,
    Proxyless,
    RandomOneShot,
    Run,
)
from nas_space.training import Jitter, Task, evaluate, fit

DATA = Path(__file__).parent / "data" / "oneshot_digits.json"
PLACES, WIDTH, NOISE, COPIES = 5, 8, 0.8, 4
OPERATIONS = ("conv", "average", "maximum")
ALONE, SHARED, SEEDS = 160, 1280, 10
ARCHS = [
    {f"op{place}": name for place, name in enumerate(names)}
    for names in product(OPERATIONS, repeat=PLACES)
]


def operation(name: str) -> nn.Module:
    made: dict[str, Callable[[], nn.Module]] = {
        "conv": lambda: nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
        "average": lambda: nn.AvgPool2d(3, stride=1, padding=1),
        "maximum": lambda: nn.MaxPool2d(3, stride=1, padding=1),
    }
    return nn.Sequential(made[name](), nn.BatchNorm2d(WIDTH), nn.ReLU())


class Digits(ns.ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU()
        )
        self.body = nn.Sequential(
            *(
                LayerChoice(
                    {name: partial(operation, name) for name in OPERATIONS}, label=f"op{place}"
                )
                for place in range(PLACES)
            )
        )
        self.shrink = nn.MaxPool2d(2)
        self.head = nn.Linear(WIDTH * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.shrink(self.body(self.stem(x))).flatten(1))
        return y


def the_task() -> Task:
    """597 images to train on, 500 to choose by, 700 for the truth.

    Of the latter there are four copies, each always under the same noise.
    """
    x, y = load_digits(return_X_y=True)
    images, labels = torch.from_numpy(x).float().reshape(-1, 1, 8, 8) / 8 - 1, torch.from_numpy(y)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(images), generator=generator)
    train, validation, test = order[:597], order[597:1097], order[1097:]
    noise = Jitter(noise=NOISE)

    def copies(part: Tensor) -> TensorDataset:
        part = part.repeat(COPIES)
        return TensorDataset(noise(images[part], generator), labels[part])

    return Task.classification(
        TensorDataset(images[train], labels[train]),
        copies(validation),
        copies(test),
        augment=noise,
        batch_size=64,
        optimizer=partial(torch.optim.SGD, lr=0.03, momentum=0.9, weight_decay=1e-3),
    )


def alone(arch: dict[str, str], seed: int) -> dict[str, float]:
    """The accuracy of a network that is trained by itself."""
    torch.manual_seed(seed)
    network, task = Digits.frozen_factory(arch)(), the_task()
    fit(network, task, steps=ALONE, seed=seed)
    return {
        split: round(evaluate(network, task, split)["accuracy"], 4)
        for split in ("validation", "test")
    }


def three_times(arch: dict[str, str]) -> list[dict[str, float]]:
    use_one_thread()
    return [alone(arch, seed) for seed in range(3)]


def make_table() -> None:
    rows: dict[str, list[list[float]]] = {"validation": [], "test": []}
    with get_context("spawn").Pool(2) as pool:
        for number, found in enumerate(pool.imap(three_times, ARCHS)):
            for split, all_of_them in rows.items():
                all_of_them.append([one[split] for one in found])
            if number % 16 == 15:
                print(f"{number + 1} of {len(ARCHS)}", flush=True)
    DATA.parent.mkdir(exist_ok=True)
    about = "python -m benchmarks.oneshot_quality table; by op0 to op4, the last fastest"
    lines = [f' "{split}": {json.dumps(table)}' for split, table in rows.items()]
    DATA.write_text(f'{{"about": "{about}",\n' + ",\n".join(lines) + "}\n")


FAST: dict[str, Any] = {"arc_learning_rate": 0.02, "warmup_epochs": 40}
STRATEGIES: dict[str, Callable[[], OneShot]] = {
    "random path": RandomOneShot,
    "random path, fair": partial(RandomOneShot, paths="fair"),
    "random path, sandwich": partial(RandomOneShot, paths="sandwich"),
    "ENAS": partial(ENAS, arc_learning_rate=0.003, warmup_epochs=40, batches_per_update=4),
    "DARTS": partial(DARTS, **FAST),
    "DARTS, second order": partial(DARTS, unrolled=True, **FAST),
    "GumbelDARTS": partial(GumbelDARTS, **FAST),
    "Proxyless": partial(Proxyless, **FAST),
    "Proxyless, REINFORCE": partial(Proxyless, form="reinforce", **FAST),
}
PATHS = {"random path, fair": 3, "random path, sandwich": 4}
"""Paths at each step, where there are several: they get fewer steps."""


def key(arch: Any) -> int:
    return ARCHS.index(dict(arch))


def searched(name: str, seed: int) -> tuple[list[int], int]:
    """All networks in the order of a strategy, the best first, and what it finds."""
    torch.manual_seed(seed)
    strategy = STRATEGIES[name]()
    run = Run(strategy, Digits(), the_task(), steps=SHARED // PATHS.get(name, 1), seed=seed)
    while not run.done:
        run.advance()
    if isinstance(strategy, (RandomOneShot, ENAS)):
        order = run.by_evaluation(list(ARCHS), strategy.calibration_batches)
    else:
        order = run.top(len(ARCHS))
    # What samples paths would try 64 networks; here are few enough to try all of them.
    return [key(arch) for arch in order], key(order[0])


def random_search(table: Any, seed: int) -> int:
    """As many networks as can be trained for as many steps; the best by its validation images."""
    generator = np.random.default_rng(seed)
    tried = generator.choice(len(ARCHS), SHARED // ALONE, replace=False)
    scores = [table["validation"][one][generator.integers(3)] for one in tried]
    return int(tried[int(np.argmax(scores))])


def tau(one: Any, other: Any) -> float:
    return float(kendalltau(one, other).statistic)


def report(names: list[str], seeds: int, out: Path | None) -> None:
    table = json.loads(DATA.read_text())
    test = np.array(table["test"])
    truth = test.mean(1)
    place = (-truth).argsort().argsort() + 1
    upper = place <= len(ARCHS) // 2

    def between(one: int, other: int, where: Any) -> float:
        return tau(test[where, one], test[where, other])

    pairs = [(0, 1), (0, 2), (1, 2)]
    every = np.ones(len(ARCHS), bool)
    ceiling = [mean(between(*pair, where) for pair in pairs) for where in (every, upper)]
    print(
        f"accuracies {truth.min():.3f} … {truth.max():.3f}; tau between two trainings "
        f"{ceiling[0]:.2f}, in the better half {ceiling[1]:.2f}"
    )
    by_chance = [random_search(table, seed) for seed in range(seeds)]
    print(
        f"random search of {SHARED // ALONE} networks: ranks "
        f"{sorted(int(place[one]) for one in by_chance)}"
    )
    print("| strategy | tau | of the ceiling | upper half | ranks of its find | p |")
    print("|---|---|---|---|---|---|")
    rows = []
    for name in names:
        found = [searched(name, seed) for seed in range(seeds)]
        taus, halves = [], []
        for order, _ in found:
            score = np.empty(len(ARCHS))
            score[order] = -np.arange(len(order))
            taus.append(tau(score, truth))
            halves.append(tau(score[upper], truth[upper]))
        ranks = [int(place[best]) for _, best in found]
        gains = [
            truth[best] - truth[other] for (_, best), other in zip(found, by_chance, strict=True)
        ]
        p = float(wilcoxon(gains, alternative="greater").pvalue) if any(gains) else 1.0
        rows.append({"strategy": name, "tau": taus, "upper": halves, "ranks": ranks, "p": p})
        print(
            f"| {name} | {median(taus):.2f} | {median(taus) / ceiling[0]:.2f} "
            f"| {median(halves):.2f} | {sorted(ranks)} | {p:.3f} |",
            flush=True,
        )
    if out is not None:
        out.write_text(json.dumps({"ceiling": ceiling, "rows": rows}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["table", "report"], default="report")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--out", type=Path, help="also write the figures there, as JSON")
    arguments = parser.parse_args()
    use_one_thread()
    if arguments.what == "table":
        make_table()
    else:
        report(arguments.strategies, arguments.seeds, arguments.out)


if __name__ == "__main__":
    main()
