"""Measure what zero-cost proxies say of NAS-Bench-Macro's networks, and what a warm start is worth.

::

    python -m benchmarks.proxies [--networks 140] [--seeds 20] [--trials 50] [--out runs/bench]

First the rank correlation (Spearman) of each proxy with the mean accuracy of three trainings, over
random networks with fresh weights, on random images: the data play little part.  Multiply-adds
beside them.  Then the default strategy with and without ``warm_start=``, the scores of `naswot`:
how far the best found so far is from the best there is, and after how many trials the cold search
is as near as the warm one after ten.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from torch.utils.data import TensorDataset

import nas_space as ns
from benchmarks._measure import use_one_thread, write_json
from benchmarks.tables import MissingTableError, Problem, macro
from nas_space.hub import NasBenchMacro
from nas_space.mutable import Sample
from nas_space.profiler import macs
from nas_space.strategy import LinearThompson
from nas_space.study import proxy_scores, zero_cost
from nas_space.training import Task
from nas_space.training.proxies import PROXIES

Scores = list[tuple[Sample, float]]


def scores_of(name: str, networks: int, folder: Path) -> Scores:
    """The scores of a proxy; kept in the folder."""
    file = folder / f"proxy-{name}-{networks}.json"
    if not file.exists():
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(32, 3, 32, 32, generator=generator)
        task = Task.classification(TensorDataset(images, torch.arange(32) % 10), batch_size=16)
        found = proxy_scores(NasBenchMacro(), zero_cost(name, task), networks)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found))
    read: Scores = [(arch, score) for arch, score in json.loads(file.read_text())]
    return read


def correlations(problem: Problem, networks: int, folder: Path) -> dict[str, float]:
    """Spearman's correlation of each proxy, and of multiply-adds, with accuracy."""
    truth = {key: float(problem.scores[place].mean()) for key, place in problem.place.items()}
    found = {}
    for name in PROXIES:
        scores = scores_of(name, networks, folder)
        true = [truth[problem.space.arch_id(arch)] for arch, _ in scores]
        found[name] = float(spearmanr([score for _, score in scores], true).statistic)
    archs = [arch for arch, _ in scores]
    cost = macs(problem.space, (3, 32, 32))
    true = [truth[problem.space.arch_id(arch)] for arch in archs]
    found["multiply-adds"] = float(spearmanr([cost.freeze(arch) for arch in archs], true).statistic)
    return found


def distances(problem: Problem, strategy: LinearThompson, trials: int, seed: int) -> Any:
    """After each trial, the distance by what was told."""
    result = ns.search(
        problem.space,
        problem.evaluate(seed),
        strategy=strategy,
        trials=trials,
        seed=seed,
        weights="none",
    )
    return problem.curves([outcome.arch for outcome in result.outcomes], seed)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", type=int, default=140)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    options = parser.parse_args()
    use_one_thread()
    console = Console()
    try:
        problem = macro(options)
    except MissingTableError as error:
        console.print(f"left out, for {error}", highlight=False)
        return
    found = correlations(problem, options.networks, options.out / "proxies")
    table = Table("proxy", "Spearman with accuracy", title=f"{options.networks} random networks")
    for name, value in found.items():
        table.add_row(name, f"{value:.2f}")
    console.print(table)
    scores = scores_of("naswot", options.networks, options.out / "proxies")
    curves = {
        name: np.array(
            [
                distances(problem, LinearThompson(warm_start=start), options.trials, seed)
                for seed in range(options.seeds)
            ]
        )
        for name, start in (("cold", []), ("warm", scores))
    }
    means = {name: curve.mean(0) for name, curve in curves.items()}
    places = [place for place in (5, 10, 20, 30, 50) if place <= options.trials]
    table = Table("start", *(f"after {place}" for place in places), title="mean distance")
    for name, mean in means.items():
        table.add_row(name, *(f"{mean[place - 1]:.3f}" for place in places))
    console.print(table)
    as_near = np.flatnonzero(means["cold"] <= means["warm"][9])
    needed = int(as_near[0]) + 1 if as_near.size else None
    console.print(f"ten warm trials are worth {needed or f'more than {options.trials}'} cold ones")
    values = {name: curve.tolist() for name, curve in curves.items()}
    write_json(options.out / "proxies.json", [], spearman=found, distances=values, worth=needed)


if __name__ == "__main__":
    main()
