"""What a search over trials costs, and how soon it finds what is good.

::

    python -m benchmarks.trials [--parts overhead growth executors ...] [--seeds 20]

The *overhead* is what a trial takes beyond ``evaluate``, which does nothing here: in processor
time, as another program on the machine would count otherwise. *Resume* is a
thousand trials read from SQLite, until the next one begins. *Proposals* are what strategies with a
model take for one, on ProxylessNAS, given so many trials before it; the first proposal, which
decides about the model, is told beside it. *Regret* is how far the best so far
is from the known optimum of a problem. One is synthetic, over the labels of ProxylessNAS: every
value of a label is worth a normal number, and an architecture the sum over its active labels. A
depth that opens further labels is worth trying only if these are well chosen. The other is a
table of 243 networks that were trained on digits (see ``benchmarks.oneshot_problems``), where a
trial tells the validation accuracy of one training, and the truth is the mean test accuracy.
What is said of many trials and of executors is in :mod:`benchmarks.trials_at_scale`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import optuna
from rich.console import Console
from rich.table import Table

import nas_space as ns
from benchmarks._measure import (
    Aim,
    Row,
    print_table,
    show_seconds,
    use_one_thread,
    write_json,
)
from benchmarks._nni import ROOT, NniMissingError, nni_python
from benchmarks.oneshot_problems import PROBLEMS as ONE_SHOT
from benchmarks.trials_at_scale import executors, growth, speed_up
from nas_space.hub import ProxylessNAS
from nas_space.mutable import Sample
from nas_space.profiler import macs
from nas_space.strategy import (
    GP,
    NSGAII,
    NSGAIII,
    TPE,
    Evaluated,
    GridSearch,
    LinearThompson,
    LocalSearch,
    ModelAveraging,
    OptunaGP,
    PolicyBasedRL,
    Predictor,
    Random,
    RegularizedEvolution,
    SearchState,
    Strategy,
)
from nas_space.study import Outcome
from nas_space.study.studies import quiet

PARTS = ("overhead", "growth", "executors", "speed-up", "proposals", "resume", "nni", "regret")
TRIALS = 100

STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "Random": Random,
    "GridSearch": GridSearch,
    "RegularizedEvolution": RegularizedEvolution,
    "RegularizedEvolution (20, 10)": lambda: RegularizedEvolution(
        population_size=20, sample_size=10
    ),
    "PolicyBasedRL": PolicyBasedRL,
    "TPE": TPE,
    "NSGA-II (20)": lambda: NSGAII(population_size=20),
    "NSGA-III (20)": lambda: NSGAIII(population_size=20),
    "GP": GP,
    "OptunaGP": OptunaGP,
    "LocalSearch": LocalSearch,
    "Predictor": Predictor,
    "LinearThompson": LinearThompson,
    "ModelAveraging": ModelAveraging,
}


def nothing(_network: object, _arch: Sample) -> float:
    """An evaluation that takes no time."""
    return 1.0


def per_trial(
    space: Any,
    storage: Path | None,
    weights: Any = "none",
    trials: int = 200,
    strategy: Callable[[], Strategy] = Random,
) -> tuple[float, float]:
    """Seconds of a trial, of the processor and on the wall.

    The median of the times from the end of one to the end of the next.
    """
    ends: list[tuple[float, float]] = []
    ns.search(
        space,
        nothing,
        strategy=strategy(),
        trials=trials,
        storage=storage,
        weights=weights,
        callbacks=[lambda *_: ends.append((time.process_time(), time.perf_counter()))],
    )
    processor, wall = np.median(np.diff(ends, axis=0), axis=0).tolist()
    return processor, wall


def optuna_alone(storage: Path | None, trials: int = 200) -> float:
    """Seconds of the processor that Optuna takes for a trial without parameters."""
    address = None
    if storage is not None:
        address = f"sqlite:///{storage.with_name('alone.db')}"
    ends: list[float] = []
    with quiet():
        optuna.create_study(storage=address).optimize(
            lambda _: 1.0,
            n_trials=trials,
            callbacks=[lambda *_: ends.append(time.process_time())],
        )
    return float(np.median(np.diff(ends)))


def overhead() -> list[Row]:
    """Of our own, for each storage."""
    space = ProxylessNAS(num_labels=10, width_mult=0.25)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for what, storage, limit in (
            ("in memory", None, 0.005),
            ("SQLite", Path(folder, "search.db"), 0.020),
            ("journal file", Path(folder, "search.journal"), None),
        ):
            alone = None if what == "journal file" else optuna_alone(storage)
            taken, wall = per_trial(space, storage)
            aim = None if limit is None else Aim("≤", limit)
            rows.append(
                Row(
                    f"overhead of a trial, {what}",
                    ours=show_seconds(taken),
                    other="" if alone is None else f"{show_seconds(alone)} Optuna alone",
                    value=taken * 1e3,
                    aim="" if limit is None else f"≤ {limit * 1e3:g} ms",
                    met=None if aim is None else aim.met(taken),
                    note=f"{show_seconds(wall)} on the wall",
                )
            )
    return rows


def proposals() -> list[Row]:
    """How long strategies with a model take for a proposal, whose history is there."""
    space = cast("Any", ProxylessNAS(num_labels=10, width_mult=0.25))
    cost = macs(space, (3, 32, 32))
    archs = list(space.sample(2000, seed=0))
    budget = float(np.median([cost.freeze(arch) for arch in archs]))
    within = space.where(cost <= budget)
    problem = Additive(0)
    rows = []
    cases: list[tuple[str, Any, Callable[[], Strategy], int, float | None]] = [
        ("ModelAveraging, within a budget", within, ModelAveraging, 1000, 0.030),
        ("ModelAveraging, within a budget", within, ModelAveraging, 200, None),
        ("LinearThompson, within a budget", within, LinearThompson, 1000, 0.030),
        ("LinearThompson, within a budget", within, LinearThompson, 200, None),
        ("LinearThompson", space, LinearThompson, 1000, None),
        ("GP", space, GP, 200, 0.020),
        ("GP, within a budget", within, GP, 200, None),
    ]
    for name, where, make, number, limit in cases:
        tried = {space.arch_id(arch): arch for arch in where.sample(number + 100, seed=1)}
        history = [
            Evaluated(place, arch, (problem.truth(arch),))
            for place, arch in enumerate(list(tried.values())[:number])
        ]
        strategy, taken = make(), frozenset(tried)
        times = []
        for place in range(21):
            state = SearchState(where, history, taken, number + place, seed=0)
            start = time.process_time()
            strategy.propose(state)
            times.append(time.process_time() - start)
        middle = float(np.median(times[1:]))
        aim = None if limit is None else Aim("≤", limit)
        rows.append(
            Row(
                f"a proposal of {name}, after {number} trials",
                ours=show_seconds(middle),
                value=middle * 1e3,
                aim="" if limit is None else f"≤ {limit * 1e3:g} ms",
                met=None if aim is None else aim.met(middle),
                note=f"the first, which fits: {show_seconds(times[0])}",
            )
        )
    return rows


def resume() -> list[Row]:
    """How long it takes to go on with a thousand trials."""
    space = ProxylessNAS(num_labels=10, width_mult=0.25)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "search.db")
        ns.search(space, nothing, trials=1000, storage=store, weights="none")
        wall, start = time.perf_counter(), time.process_time()
        result = ns.search(space, nothing, trials=1001, storage=store, weights="none", resume=True)
        taken, wall = time.process_time() - start, time.perf_counter() - wall
    assert len(result.outcomes) == 1001
    return [
        Row(
            "a thousand trials resumed from SQLite, and one more",
            ours=show_seconds(taken),
            value=taken,
            aim="≤ 2 s",
            met=taken <= 2,
            note=f"{show_seconds(wall)} on the wall",
        )
    ]


def beside_nni() -> list[Row]:
    """A whole trial on ProxylessNAS, its network included, ours and NNI's, on the wall."""
    what = "a trial that evaluates nothing, network included"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "nni.json")
        command = [str(nni_python()), "-m", "benchmarks.nni_trials", "--out", str(out)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"NNI could not be measured:\n{done.stderr}")
        theirs: dict[str, float] = json.loads(out.read_text())["seconds"]
    space = ProxylessNAS()
    kinds: dict[str, Callable[[], Strategy]] = {
        "Random": Random,
        "RegularizedEvolution": lambda: RegularizedEvolution(population_size=10, sample_size=5),
        "TPE": TPE,
    }
    rows = []
    for name, seconds in theirs.items():
        _, ours = per_trial(space, None, "inherit", 50, kinds[name])
        rows.append(
            Row(f"{what}: {name}", show_seconds(ours), show_seconds(seconds), value=seconds / ours)
        )
    return rows


class Additive:
    """A problem whose optimum is known: a sum over active labels.

    Parameters
    ----------
    seed
        Which numbers.
    """

    def __init__(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self.space = cast("Any", ProxylessNAS(num_labels=10, width_mult=0.1))
        self.worth = {
            label: {value: float(generator.normal()) for value in symbol.values}
            for label, symbol in self.space.symbols().items()
        }
        self.optimum = max(self.worth["s7_i0"].values())
        for stage in range(2, 7):
            depths = self.worth[f"s{stage}_depth"]
            best = [max(self.worth[f"s{stage}_i{i}"].values()) for i in range(max(depths))]
            self.optimum += max(worth + sum(best[:depth]) for depth, worth in depths.items())

    def __call__(self, _network: object, arch: Sample) -> float:
        return self.truth(arch)

    def truth(self, arch: Sample) -> float:
        """What an architecture is worth."""
        return sum(self.worth[label][value] for label, value in arch.items())


class Tabular:
    """The digits: a trial tells the validation accuracy of one training of the three in the table.

    Parameters
    ----------
    seed
        Which trainings.
    """

    def __init__(self, seed: int) -> None:
        digits = ONE_SHOT["digits"]
        self.space: Any = digits.space()
        trained = np.random.default_rng(seed).integers(3, size=len(digits.archs))
        self.told = digits.validation[np.arange(len(digits.archs)), trained]
        self.archs, self.mean = digits.archs, digits.truth
        self.optimum = float(self.mean.max())

    def __call__(self, _network: object, arch: Sample) -> float:
        return float(self.told[self.archs.index(dict(arch))])

    def truth(self, arch: Sample) -> float:
        """The mean test accuracy of the three trainings."""
        return float(self.mean[self.archs.index(dict(arch))])


PROBLEMS: dict[str, Callable[[int], Additive | Tabular]] = {
    "additive": Additive,
    "digits": Tabular,
}


def curve(problem: Additive | Tabular, outcomes: Sequence[Outcome]) -> npt.NDArray[np.float64]:
    """After each trial, how far what one would choose by then is from the optimum."""
    regrets: list[float] = []
    chosen = outcomes[0]
    for outcome in outcomes:
        if outcome.values["value"] > chosen.values["value"]:
            chosen = outcome
        regrets.append(problem.optimum - problem.truth(chosen.arch))
    return np.array(regrets)


def regret(
    kind: str, names: Sequence[str], seeds: int, folder: Path
) -> dict[str, npt.NDArray[np.float64]]:
    """For each strategy the regret, of the shape (seeds, trials).

    What is found is kept in the folder, so that an interrupted run goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    console = Console()
    for name in names:
        curves = []
        for seed in range(seeds):
            file = folder / f"{kind}-{name}-{seed}.npy"
            if not file.exists():
                problem = PROBLEMS[kind](seed)
                result = ns.search(
                    problem.space,
                    problem,
                    strategy=STRATEGIES[name](),
                    trials=TRIALS,
                    seed=seed,
                    weights="none",
                )
                np.save(file, curve(problem, result.outcomes))
            curves.append(np.load(file))
        found[name] = np.array(curves)
        console.print(f"{kind}, {name}: {found[name][:, -1].mean():.4g}", highlight=False)
    return found


def p_value(regrets: npt.NDArray[np.float64], reference: npt.NDArray[np.float64]) -> float:
    """Of the paired Wilcoxon test that the regret is less at the end."""
    from scipy.stats import wilcoxon

    return float(wilcoxon(regrets[:, -1], reference[:, -1], alternative="less").pvalue)


def show_regret(kind: str, found: dict[str, npt.NDArray[np.float64]]) -> None:
    """The table."""
    places = (10, 30, TRIALS)
    table = Table(title=f"regret, {kind}: mean over {len(next(iter(found.values())))} seeds")
    table.add_column("strategy")
    for place in places:
        table.add_column(f"after {place}", justify="right")
    table.add_column("p, less than Random", justify="right")
    for name, regrets in found.items():
        p = "" if name == "Random" or "Random" not in found else (
            f"{p_value(regrets, found['Random']):.2g}"
        )  # fmt: skip
        means = [f"{regrets[:, place - 1].mean():.3g}" for place in places]
        table.add_row(name, *means, p)
    Console(width=100).print(table)


def picture(found: dict[str, npt.NDArray[np.float64]], file: Path) -> None:
    """The regret against the trials, with the quartiles of the seeds."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name, regrets in found.items():
        trials = np.arange(1, regrets.shape[1] + 1)
        low, middle, high = np.quantile(regrets, (0.25, 0.5, 0.75), axis=0)
        [line] = axes.plot(trials, middle, label=name)
        axes.fill_between(trials, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    axes.set_xlabel("trials")
    axes.set_ylabel("regret")
    axes.set_title("Distance of the best so far from the optimum: median and quartiles", size=10)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=100)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--most", type=int, default=20_000, help="trials in memory, for growth")
    parser.add_argument("--most-in-file", type=int, default=20_000, help="and in SQLite")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    options = parser.parse_args()
    use_one_thread()
    rows: list[Row] = []
    if "overhead" in options.parts:
        rows += overhead()
    if "growth" in options.parts:
        rows += growth(options.most, options.most_in_file)
    if "executors" in options.parts:
        rows += executors()
    if "speed-up" in options.parts:
        rows += speed_up()
    if "proposals" in options.parts:
        rows += proposals()
    if "resume" in options.parts:
        rows += resume()
    if "nni" in options.parts:
        try:
            rows += beside_nni()
        except NniMissingError as error:
            rows.append(Row("a trial of NNI", note=str(error)))
    others: dict[str, Any] = {}
    if "regret" in options.parts:
        others["regret"] = {}
        for kind in options.problems:
            found = regret(kind, options.strategies, options.seeds, options.out / "regret")
            show_regret(kind, found)
            picture(found, options.out / f"regret-{kind}.png")
            others["regret"][kind] = {name: regrets.tolist() for name, regrets in found.items()}
    if rows:
        print_table("Search over trials", rows)
    write_json(options.out / "trials.json", rows, **others)


if __name__ == "__main__":
    main()
