"""What shared weights are worth where networks can be trained alone as well.

::

    python -m benchmarks.oneshot_then_trials [--problems two signs mixers]

On the tables of :mod:`benchmarks.oneshot_problems`, with the runs of ``RandomOneShot()`` that
``python -m benchmarks.oneshot_quality run`` has left in the cache.  A run takes the time in which
some networks can be trained; after it, so many more are trained alone:

* *list*: those that the shared weights rank first;
* *warm*: what the default strategy tries, given the ranks as its ``warm_start``;
* *default*, *random*: without shared weights, and so with the time of these for more trainings.

Each picks by the validation images of one training.  The figures are how often it picks one of the
best 2 %, over seeds of the run and draws of the trainings, and p of the paired one-sided Wilcoxon
test that its pick is better than that of random search, whose seeds are means over draws.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

import nas_space as ns
from benchmarks._measure import use_one_thread
from benchmarks.oneshot_problems import PROBLEMS, Array, Problem
from benchmarks.oneshot_quality import SEEDS, cached
from nas_space.strategy import ModelAveraging, Random, Strategy

DEFAULT = ["two", "signs", "mixers"]
AFTER, DRAWS = (0, 8, 16, 24), 8
"""So many networks are trained alone after the shared weights; and draws of the trainings."""


class Trainings:
    """One training of each network, from which trials are told.

    Parameters
    ----------
    problem
        Which.
    number
        Of the draw.
    """

    def __init__(self, problem: Problem, number: int) -> None:
        self.problem, self.space = problem, problem.space()
        rows, trainings = problem.validation.shape
        drawn = np.random.default_rng(number).integers(trainings, size=rows)
        self.told: Array = problem.validation[np.arange(rows), drawn]
        self.place = {self.space.arch_id(arch): k for k, arch in enumerate(problem.archs)}

    def picks(self, tried: Sequence[int], lengths: Sequence[int]) -> list[int]:
        """Return what is picked after so many of what was tried."""
        return [max(tried[:length], key=lambda place: self.told[place]) for length in lengths]

    def tried(self, strategy: Strategy, trials: int, seed: int) -> list[int]:
        """Return what a strategy tries."""

        def evaluate(_: Any, arch: Any) -> float:
            return float(self.told[self.place[self.space.arch_id(arch)]])

        result = ns.search(
            self.space, evaluate, strategy=strategy, trials=trials, seed=seed, weights="none",
            progress=False,
        )  # fmt: skip
        return [self.place[self.space.arch_id(outcome.arch)] for outcome in result.outcomes]


def picks(problem: Problem, run: dict[str, Any], seed: int, time: int) -> dict[str, Array]:
    """Return what each contestant picks after the trainings of ``AFTER``, (draws, lengths).

    The first of a list and of warm trials, after no training, is what the run found.
    """
    scores = np.array(run["scores"], dtype=float)
    first = np.argsort(-scores, kind="stable").tolist()
    found: dict[str, list[list[int]]] = {}
    for draw in range(DRAWS):
        trainings = Trainings(problem, seed * DRAWS + draw)
        warm = list(zip(problem.archs, scores.tolist(), strict=True))
        alone = [time + length for length in AFTER]

        def after(tried: Sequence[int], trainings: Trainings = trainings) -> list[int]:
            return [run["found"], *trainings.picks(tried, AFTER[1:])]

        rows = {
            "list": after(first),
            "warm": after(trainings.tried(ModelAveraging(warm_start=warm), AFTER[-1], seed)),
            "default": trainings.picks(trainings.tried(ModelAveraging(), alone[-1], seed), alone),
            "random": trainings.picks(trainings.tried(Random(), alone[-1], seed), alone),
        }
        for name, row in rows.items():
            found.setdefault(name, []).append(row)
    return {name: np.array(rows) for name, rows in found.items()}


def report(problem: Problem, cache: Path) -> None:
    """Print the table of a problem."""
    files = [cached(cache, problem, "random path", seed) for seed in range(SEEDS)]
    runs = {seed: json.loads(f.read_text()) for seed, f in enumerate(files) if f.exists()}
    if not runs:
        print(f"{problem.name}: no runs; python -m benchmarks.oneshot_quality run makes them")
        return
    seconds = [run["seconds"] for run in runs.values()]
    time = math.ceil(
        median(one["until found"] for one in seconds) / median(one["alone"] for one in seconds)
    )
    each = [picks(problem, run, seed, time) for seed, run in runs.items()]
    print(
        f"\n## {problem.name}\n\n{len(runs)} runs, each of the time of {time} networks; one more "
        f"training of all finds one of the best {problem.good} in {problem.second_training():.0%}\n"
    )
    print("| | " + " | ".join(f"and {length} alone" for length in AFTER) + " |")
    print("|---" * (len(AFTER) + 1) + "|")
    for name in each[0]:
        cells = []
        for length in range(len(AFTER)):
            hits = np.mean([problem.place[one[name][:, length]] <= problem.good for one in each])
            worth = [problem.truth[one[name][:, length]].mean() for one in each]
            chance = [problem.truth[one["random"][:, length]].mean() for one in each]
            p = "" if name == "random" else f", p {paired(worth, chance):.2g}"
            cells.append(f"{hits:.0%}{p}")
        print(f"| {name} | " + " | ".join(cells) + " |")


def paired(one: Sequence[float], other: Sequence[float]) -> float:
    """Return p of the one-sided test that the first are greater."""
    same = np.allclose(one, other)
    return 1.0 if same else float(wilcoxon(one, other, alternative="greater").pvalue)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--problems", nargs="+", choices=PROBLEMS, default=["two", "signs", "mixers"]
    )
    parser.add_argument("--cache", type=Path, default=Path("build/oneshot"))
    options = parser.parse_args()
    use_one_thread()
    for name in options.problems:
        report(PROBLEMS[name], options.cache)


if __name__ == "__main__":
    main()
