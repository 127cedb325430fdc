"""Does it pay to stop poor trainings early?  Optuna's pruners against full trainings.

::

    python -m benchmarks.fidelity table     # trains 243 networks, scored eight times on the way
    python -m benchmarks.fidelity [--seeds 20] [--out runs/bench]

The networks are the 243 of ``benchmarks.oneshot_problems``, each trained once for 160 steps and
scored on validation images eight times on the way.  A trial reports these scores one by one, and a
pruner may end it; what a search has spent is how many eighths of a training it has seen.  So the
comparison is at equal spending.  *Told* is the distance of the best found by its last score from
the best there is by that; *true* is the same by the mean accuracy of three other trainings, on
images that nothing else looks at.  Of a pruned trial nothing is chosen.

The one-sided Wilcoxon test, paired by seeds, asks of each pruner whether it is nearer than full
trainings by the same strategy.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
import torch
from rich.console import Console
from rich.table import Table

import nas_space as ns
from benchmarks._measure import use_one_thread, write_json
from benchmarks.oneshot_problems import ALONE, DATA
from benchmarks.oneshot_problems import PROBLEMS as ONE_SHOT
from benchmarks.tables import beats
from nas_space.strategy import LinearThompson, Random, RegularizedEvolution, Strategy
from nas_space.study import report
from nas_space.training import Progress, evaluate, fit

Array = npt.NDArray[np.float64]

DIGITS = ONE_SHOT["digits"]
ARCHS = DIGITS.archs
CURVES = DATA / "fidelity_digits.json"
PARTS = 8
PLACES = (40, 80, 160, 320)
"""Eighths of trainings after which searches are compared: five, ten, twenty and forty full ones."""


def curve_of(arch: dict[str, str]) -> list[float]:
    """Validation accuracy after each eighth of a training."""
    torch.manual_seed(3)
    network, task, found = DIGITS.whole.frozen_factory(arch)(), DIGITS.task(), []

    def after_step(progress: Progress) -> None:
        if progress.step % (ALONE // PARTS) == 0:
            found.append(round(evaluate(network, task, "validation")["accuracy"], 4))

    fit(network, task, steps=ALONE, seed=3, on_step=after_step)
    return found


def make_table() -> None:
    lines = [json.dumps(curve_of(arch)) for arch in ARCHS]
    about = "python -m benchmarks.fidelity table; by op0 to op4, the last fastest"
    rows = ",\n  ".join(lines)
    CURVES.write_text(f'{{"about": "{about}",\n "validation": [\n  {rows}\n ]}}\n')


STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "Random": Random,
    "LinearThompson": LinearThompson,
    "RegularizedEvolution (20)": lambda: RegularizedEvolution(population_size=20),
}
PRUNERS: dict[str, Callable[[], optuna.pruners.BasePruner | None]] = {
    "none": lambda: None,
    "successive halving": lambda: optuna.pruners.SuccessiveHalvingPruner(
        min_resource=1, reduction_factor=2
    ),
    "Hyperband": lambda: optuna.pruners.HyperbandPruner(
        min_resource=1, max_resource=PARTS, reduction_factor=2
    ),
    "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
}


def run(curves: Array, truth: Array, strategy: str, pruner: str, seed: int) -> Array:
    """Both distances after each eighth of a training that was spent: of shape (2, spent)."""
    places = {tuple(arch.values()): place for place, arch in enumerate(ARCHS)}
    spent: list[int] = []
    best: list[int] = []
    last = curves[:, -1]

    def place_of(arch: Any) -> int:
        return places[tuple(arch[f"op{k}"] for k in range(len(arch)))]

    def score(_: Any, arch: Any) -> float:
        place = place_of(arch)
        for step, value in enumerate(curves[place]):
            spent.append(place)
            best.append(best[-1] if best else -1)
            if step < PARTS - 1:
                report(float(value), step)
        if best[-1] < 0 or last[place] > last[best[-1]]:
            best[-1] = place
        return float(last[place])

    def stop(study: optuna.Study, _: Any) -> None:
        if len(spent) >= PLACES[-1]:
            study.stop()

    ns.search(
        DIGITS.space(),
        score,
        strategy=STRATEGIES[strategy](),
        pruner=PRUNERS[pruner](),
        trials=len(ARCHS),
        seed=seed,
        weights="none",
        callbacks=[stop],
    )
    chosen = np.array(best[: PLACES[-1]])
    found = np.stack([last.max() - last[chosen], truth.max() - truth[chosen]])
    found[:, chosen < 0] = np.nan  # nothing is complete yet
    return 100 * found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["table", "report"], default="report")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    options = parser.parse_args()
    use_one_thread()
    if options.what == "table":
        make_table()
        return
    curves = np.array(json.loads(CURVES.read_text())["validation"])
    truth = DIGITS.truth
    table = Table(
        "strategy", "pruner", title=f"distance in points, mean over {options.seeds} seeds"
    )
    for what in ("told", "true", "p (told)"):
        for place in PLACES:
            table.add_column(f"{what} {place // PARTS}", justify="right")
    rows = []
    for strategy in options.strategies:
        full = None
        for pruner in PRUNERS:
            runs = [run(curves, truth, strategy, pruner, seed) for seed in range(options.seeds)]
            found = np.array(runs)[:, :, [place - 1 for place in PLACES]]
            full = found if full is None else full
            p = [] if pruner == "none" else [
                beats(found[:, 0, k], full[:, 0, k]) for k in range(len(PLACES))
            ]  # fmt: skip
            means = found.mean(0)
            rows.append(
                {
                    "strategy": strategy, "pruner": pruner,
                    "told": means[0].tolist(), "true": means[1].tolist(), "p": p,
                }
            )  # fmt: skip
            table.add_row(
                strategy,
                pruner,
                *(f"{mean:.2f}" for mean in means.reshape(-1)),
                *(f"{value:.2g}" for value in p),
            )
    Console(width=120).print(table)
    write_json(options.out / "fidelity.json", [], fidelity=rows)


if __name__ == "__main__":
    main()
