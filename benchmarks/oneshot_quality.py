"""Do shared weights tell what networks are worth?  Against tables of networks trained alone.

::

    python -m benchmarks.oneshot_quality                       # reports what has been run
    python -m benchmarks.oneshot_quality run --seeds 10        # runs what has not

Of each strategy on each problem of :mod:`benchmarks.oneshot_problems`: how its order of all
networks agrees with the true one (Kendall's tau, over all networks and over the better half), and
the true rank of what it finds by itself.  Beside:

* how two trainings of the same networks agree, which is the most one can ask for, and how often
  one more training of all networks would find one of the best 2 %;
* counting multiply-adds, which costs nothing;
* random search of equal *time*: as many networks as can be trained and scored in the processor time
  that the strategy took to find its best, measured in the same process.  It picks by the
  validation images.  What it finds is known exactly from the table, so the finds of a strategy are
  compared with ten thousand random searches (one-sided Mann-Whitney test; p by Holm over all
  strategies of a problem).

Each run is a file in the cache, so a benchmark that was interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import numpy as np
import torch
from scipy.stats import mannwhitneyu

from benchmarks._measure import use_one_thread
from benchmarks.oneshot_problems import PROBLEMS, Array, Problem, alone, tau
from nas_space.strategy.oneshot import (
    DARTS,
    ENAS,
    GumbelDARTS,
    OneShot,
    Proxyless,
    RandomOneShot,
    Run,
)
from nas_space.strategy.oneshot.ranking import MainEffects, Ranking

SHARED, SEEDS = 1280, 10
"""Steps of a strategy, those of eight networks; and seeds."""
SEARCHES = 10_000

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
NEEDS_ALL = ("random path, fair",)
"""What takes all values in turn, and refuses a restricted space."""
BASELINE = "multiply-adds"


def one_run(problem: Problem, name: str, seed: int) -> dict[str, Any]:
    """Return how a strategy scores all networks, what it finds, and in what time."""
    begin = process_time()
    alone(problem, problem.archs[seed], seed)
    of_one = process_time() - begin
    torch.manual_seed(seed)
    strategy, space = STRATEGIES[name](), problem.space()
    steps = SHARED // PATHS.get(name, 1)
    begin = process_time()
    run = Run(strategy, space, problem.task(), steps=steps, seed=seed)
    while not run.done:
        run.advance()
    trained = process_time() - begin
    known: dict[str, float] = {}

    def fitness(arch: dict[str, str], batches: int) -> float:
        """What is evaluated once need not be again for the order of all."""
        if str(arch) not in known:
            known[str(arch)] = Run.fitness(run, arch, batches)
        return known[str(arch)]

    run.fitness = fitness  # type: ignore[method-assign, assignment]
    best = run.best()
    seconds = {"alone": of_one, "training": trained, "until found": process_time() - begin}
    found = {"found": problem.archs.index(dict(best)), "seconds": seconds}
    if isinstance(ranking := getattr(strategy, "ranking", None), Ranking):
        values = [fitness(arch, ranking.calibration_batches) for arch in problem.archs]
        effects = MainEffects(space, problem.archs, values)
        return {**found, "scores": effects.discounted(ranking.interactions), "evaluated": values}
    order = [problem.archs.index(dict(arch)) for arch in run.top(len(problem.archs))]
    return {**found, "scores": [-order.index(place) for place in range(len(order))]}


def cached(cache: Path, problem: Problem, name: str, seed: int) -> Path:
    """Return the file of a run."""
    return cache / f"{problem.name}, {name}, {seed}.json"


def run_all(cache: Path, problems: list[str], names: list[str], seeds: list[int]) -> None:
    """Run what is not in the cache, seed by seed."""
    cache.mkdir(parents=True, exist_ok=True)
    alone(PROBLEMS[problems[0]], PROBLEMS[problems[0]].archs[0], 0)  # loading is not to be timed
    for seed, which, name in product(seeds, problems, names):
        problem = PROBLEMS[which]
        file = cached(cache, problem, name, seed)
        if file.exists() or (problem.within is not None and name in NEEDS_ALL):
            continue
        found = one_run(problem, name, seed)
        file.write_text(json.dumps(found))
        row = Row(problem, name, [found])
        print(f"{which}, {name}, {seed}: {row}; {found['seconds']}", flush=True)


class Row:
    """What some runs of a strategy on a problem came to.

    Parameters
    ----------
    problem, name
        Which.
    runs
        As of :func:`one_run`.
    """

    def __init__(self, problem: Problem, name: str, runs: Sequence[dict[str, Any]]) -> None:
        self.problem, self.name = problem, name
        scores = [np.array(run["scores"]) for run in runs]
        self.tau, self.upper = agreement(problem, scores)
        evaluated = [np.array(run["evaluated"]) for run in runs if "evaluated" in run]
        self.evaluated = agreement(problem, evaluated) if evaluated else None
        self.found = problem.truth[[run["found"] for run in runs]]
        self.ranks = sorted(int(problem.place[run["found"]]) for run in runs)
        self.hits = sum(rank <= problem.good for rank in self.ranks)
        seconds = [run["seconds"] for run in runs]
        self.step = median(one["training"] for one in seconds) / median(
            one["alone"] for one in seconds
        )
        self.networks = math.ceil(
            median(one["until found"] for one in seconds) / median(one["alone"] for one in seconds)
        )
        by_chance = random_searches(problem, min(self.networks, len(problem.archs)))
        self.by_chance = float((problem.place[by_chance] <= problem.good).mean())
        self.p = float(
            mannwhitneyu(self.found, problem.truth[by_chance], alternative="greater").pvalue
        )

    def __str__(self) -> str:
        taus = f"tau {self.tau:.2f}, in the better half {self.upper:.2f}"
        return f"{taus}, ranks {self.ranks}, time of {self.networks} networks"


def agreement(problem: Problem, scores: list[Array]) -> tuple[float, float]:
    """Return the median tau with the truth, over all networks and over the better half."""
    upper = problem.upper
    return (
        median(tau(one, problem.truth) for one in scores),
        median(tau(one[upper], problem.truth[upper]) for one in scores),
    )


def random_searches(problem: Problem, networks: int) -> Array:
    """Return what many random searches find, each by one training of some networks."""
    generator = np.random.default_rng(0)
    number, trainings = problem.validation.shape
    found = []
    for _ in range(SEARCHES):
        tried = generator.choice(number, networks, replace=False)
        scores = problem.validation[tried, generator.integers(trainings, size=networks)]
        found.append(tried[int(scores.argmax())])
    return np.array(found)


def holm(values: Sequence[float]) -> list[float]:
    """Return p values adjusted for their number (Holm, 1979)."""
    found, least = [0.0] * len(values), 0.0
    for done, place in enumerate(np.argsort(values)):
        least = max(least, min(1.0, (len(values) - done) * values[place]))
        found[int(place)] = least
    return found


def report(cache: Path, problem: Problem, names: list[str]) -> None:
    """Print the table of a problem."""
    ceilings = problem.ceiling(), problem.ceiling(problem.upper)
    second = problem.second_training()
    best = problem.costs[problem.place <= problem.good]
    print(
        f"\n## {problem.name}\n\n{len(problem.archs)} networks of {problem.test.shape[1]} "
        f"trainings, accuracies {problem.truth.min():.3f} to {problem.truth.max():.3f}; tau of "
        f"two trainings {ceilings[0]:.2f}, in the better half {ceilings[1]:.2f}; a second training "
        f"finds one of the best {problem.good} in {second:.0%}. Multiply-adds: "
        f"{problem.costs.min()} to {problem.costs.max()}, of the best {sorted(best.tolist())}.\n"
    )
    rows = []
    for name in names:
        files = [cached(cache, problem, name, seed) for seed in range(SEEDS)]
        if runs := [json.loads(file.read_text()) for file in files if file.exists()]:
            rows.append(Row(problem, name, runs))
    print(
        "| strategy | tau | better half | as evaluated | true ranks of its finds | best 2 % "
        "| time, in networks | random search finds best 2 % | p | p, Holm | aims |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for row, p in zip(rows, holm([row.p for row in rows]), strict=True):
        number = len(row.ranks)
        shares = row.tau / ceilings[0], row.upper / ceilings[1]
        aims = [
            shares[0] >= 0.8 and shares[1] >= 0.7,
            row.hits / number >= second - 0.1,
            p < 0.05,
        ]
        raw = "" if row.evaluated is None else "{:.2f}, {:.2f}".format(*row.evaluated)
        met = " ".join(name for name, met in zip(("order", "find", "p"), aims, strict=True) if met)
        print(
            f"| {row.name} | {row.tau:.2f} ({shares[0]:.2f}) | {row.upper:.2f} ({shares[1]:.2f}) "
            f"| {raw} | {' '.join(map(str, row.ranks))} | {row.hits} of {number} "
            f"| {row.step:.1f}, {row.networks} | {row.by_chance:.0%} | {row.p:.2g} | {p:.2g} "
            f"| {'all' if all(aims) else met or 'none'} |"
        )
    cost = problem.costs.astype(float)
    largest = problem.place[cost == cost.max()]
    agrees, above = agreement(problem, [cost])
    print(
        f"| {BASELINE} | {agrees:.2f} ({agrees / ceilings[0]:.2f}) | {above:.2f} | | "
        f"{largest.min()} to {largest.max()}, mean {largest.mean():.1f} | | 0 | | | | |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["run", "report"], default="report")
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=["two", "signs"])
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(SEEDS)))
    parser.add_argument("--cache", type=Path, default=Path("build/oneshot"))
    arguments = parser.parse_args()
    use_one_thread()
    if arguments.what == "run":
        run_all(arguments.cache, arguments.problems, arguments.strategies, arguments.seeds)
    else:
        for name in arguments.problems:
            if PROBLEMS[name].file.exists():
                report(arguments.cache, PROBLEMS[name], arguments.strategies)
            else:
                print(f"{name}: no table; python -m benchmarks.oneshot_problems {name} makes it")


if __name__ == "__main__":
    main()
