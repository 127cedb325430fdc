"""Compare strategies by how soon they find the best of tables of networks that others trained.

::

    python -m benchmarks.tables [--problems macro interacting ...] [--seeds 20] [--trials 200]
                                [--nas-bench-201 FILE] [--out runs/bench]
    python -m benchmarks.tables --fronts --trials 100     # accuracy and multiply-adds

A trial tells the accuracy of one of several trainings. Two distances are reported, in points: of
the best found so far by what was told from the best there is by that training (*told*), and the
same by the mean of the other trainings (*true*), of which no strategy knows anything, so that it
is not 0 even for the best that was told.

======================  =====================================================================
macro                   NAS-Bench-Macro, 6,561 networks trained three times
201-cifar10, -cifar100  NAS-Bench-201, 15,625 networks: a CSV file with a column
and -imagenet           ``ArchitectureString`` and one ``<data set>TestAccuracy200Epochs`` each
interacting             synthetic: NAS-Bench-Macro's labels, worth something by themselves and in
                        pairs of neighbours, and noise of a fifth of the deviation
additive                synthetic: ProxylessNAS' labels, 54 thousand million million networks
pairs                   synthetic: NAS-Bench-Macro's labels, of which random pairs are worth as
                        much as all labels by themselves; other numbers for each seed
conditional             synthetic: 10,836 networks of two stages, whose depths decide which
                        operations there are, and these which kernels or kinds of pooling;
                        other numbers for each seed
======================  =====================================================================

Nothing was tuned on *interacting*, *pairs*, *conditional* or the first and last data set of
NAS-Bench-201.

The tables of others are not part of this project: where a file is absent, that is said.

Contestants are the strategies of the library, Optuna's TPE used directly, and two predictors
written plainly below. The one-sided Wilcoxon test, paired by seeds, asks of each whether it beats
the default: p below 0.05 would say that the default is not the best to have.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import nas_space as ns
from benchmarks._measure import use_one_thread, write_json
from benchmarks.trials import Additive
from nas_space.hub import NasBench201, NasBenchMacro
from nas_space.mutable import Sample, SampleBatch
from nas_space.mutable.random_words import unit, words
from nas_space.nn import LayerChoice, Repeat
from nas_space.profiler import macs
from nas_space.strategy import (
    GP,
    NSGAII,
    TPE,
    GridSearch,
    LinearThompson,
    LocalSearch,
    ModelAveraging,
    OptunaGP,
    Predictor,
    Random,
    RegularizedEvolution,
    SearchState,
    Strategy,
)
from nas_space.strategy.neighbours import complete
from nas_space.study import TableEvaluator, maximize, minimize
from nas_space.study.studies import quiet
from nas_space.tables import grid

Array = npt.NDArray[np.float64]

MACRO = Path(__file__).parents[2] / "shared/data/nas_bench_macro_cifar10.json.gz"
PLACES = (50, 100, 200)
DATASETS = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "imagenet": "ImageNet"}


class MissingTableError(Exception):
    """The file of a table is not on this machine."""


class Problem:
    """A space, and scores of its architectures by several trainings.

    Parameters
    ----------
    space
        The space.
    archs
        All architectures, in the order of `scores`.
    scores
        Of shape (architectures, trainings).
    """

    def __init__(self, space: Any, archs: Sequence[Sample], scores: Array) -> None:
        self.space = space
        self.scores = scores
        self.archs = archs
        self.place = {space.arch_id(arch): place for place, arch in enumerate(archs)}

    def told(self, seed: int) -> Array:
        """What is told: one training for each seed in turn."""
        return self.scores[:, seed % self.scores.shape[1]]

    def true(self, seed: int) -> Array:
        """The mean of the other trainings; the same where there is only one."""
        others = np.delete(self.scores, seed % self.scores.shape[1], axis=1)
        return others.mean(1) if others.size else self.scores[:, 0]

    def curves(self, archs: Sequence[Sample], seed: int) -> Array:
        """After each trial, both distances: of shape (2, trials)."""
        told, true = self.told(seed), self.true(seed)
        places = np.array([self.place[self.space.arch_id(arch)] for arch in archs])
        best = np.array(
            [places[: n + 1][told[places[: n + 1]].argmax()] for n in range(len(places))]
        )
        return np.stack([told.max() - told[best], true.max() - true[best]])

    def evaluate(self, seed: int) -> Callable[[Any, Sample], float]:
        """What a search evaluates."""
        told = self.told(seed)
        return lambda _, arch: float(told[self.place[self.space.arch_id(arch)]])


class AdditiveProblem(Problem):
    """The synthetic problem of ``benchmarks.trials``, whose best is known."""

    def __init__(self) -> None:
        self.made = {0: Additive(0)}
        self.space = self.made[0].space

    def problem(self, seed: int) -> Additive:
        return self.made.setdefault(seed, Additive(seed))

    def curves(self, archs: Sequence[Sample], seed: int) -> Array:
        problem = self.problem(seed)
        found = np.maximum.accumulate([problem.truth(arch) for arch in archs])
        return np.stack([problem.optimum - found] * 2)

    def evaluate(self, seed: int) -> Callable[[Any, Sample], float]:
        return self.problem(seed)


def macro(_: argparse.Namespace) -> Problem:
    if not MACRO.exists():
        raise MissingTableError(f"the table of NAS-Bench-Macro is not at {MACRO}")
    space = NasBenchMacro(init_channels=8)
    table = TableEvaluator.read(MACRO, space, key=lambda arch: int(space.name_of(arch), 3))
    archs = [space.architecture_of("".join(name)) for name in product("012", repeat=8)]
    rows = [table(None, arch) for arch in archs]
    scores = np.array([[row[f"acc_e2[{k}]"] for k in range(3)] for row in rows]) / 100
    return Problem(space, archs, scores)


def bench_201(name: str, options: argparse.Namespace) -> Problem:
    file = options.nas_bench_201
    if file is None or not file.exists():
        raise MissingTableError("the table of NAS-Bench-201 is not given: --nas-bench-201 FILE")
    space = NasBench201(num_modules_per_stack=1)
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    archs = [space.architecture_of(row["ArchitectureString"]) for row in rows]
    scores = [[float(row[f"{DATASETS[name]}TestAccuracy200Epochs"])] for row in rows]
    return Problem(space, archs, np.array(scores))


def interacting(_: argparse.Namespace) -> Problem:
    space = NasBenchMacro(init_channels=8)
    names = list(product(range(3), repeat=8))
    generator = np.random.default_rng(0)
    alone, pairs = generator.normal(size=(8, 3)), generator.normal(size=(7, 3, 3))
    codes = np.array(names)
    truth = sum(alone[place, codes[:, place]] for place in range(8)) + sum(
        pairs[place, codes[:, place], codes[:, place + 1]] for place in range(7)
    )
    noise = 0.2 * truth.std() * generator.normal(size=(len(names), 3))
    archs = [space.architecture_of("".join(map(str, name))) for name in names]
    return Problem(space, archs, truth[:, None] + noise)


class SyntheticProblem(Problem):
    """Scores made up anew for each seed, with noise of a fifth of their deviation."""

    def __init__(
        self, space: Any, archs: Sequence[Sample], truth: Callable[[np.random.Generator], Array]
    ) -> None:
        super().__init__(space, archs, np.zeros((len(archs), 0)))
        self.truth = truth
        self.made: dict[int, tuple[Array, Array]] = {}

    def both(self, seed: int) -> tuple[Array, Array]:
        if seed not in self.made:
            generator = np.random.default_rng(1000 + seed)
            true = self.truth(generator)
            noise = 0.2 * true.std() * generator.normal(size=len(true))
            self.made[seed] = (true + noise, true)
        return self.made[seed]

    def told(self, seed: int) -> Array:
        return self.both(seed)[0]

    def true(self, seed: int) -> Array:
        return self.both(seed)[1]


def random_pairs(_: argparse.Namespace) -> Problem:
    space = NasBenchMacro(init_channels=8)
    codes = np.array(list(product(range(3), repeat=8)))

    def truth(generator: np.random.Generator) -> Array:
        alone = generator.normal(size=(8, 3))
        total: Array = sum(alone[place, codes[:, place]] for place in range(8))
        chosen = generator.choice(28, 8, replace=False)
        both = np.transpose(np.triu_indices(8, 1))[chosen]
        for one, other in both:
            total = total + generator.normal(size=(3, 3))[codes[:, one], codes[:, other]]
        return total

    archs = [space.architecture_of("".join(map(str, name))) for name in codes]
    return SyntheticProblem(space, archs, truth)


class Conditional(ns.ModelSpace):
    """Two stages of one to two and one to three blocks, each with a choice within a choice."""

    def __init__(self) -> None:
        super().__init__()

        def block(name: str) -> Callable[[int], nn.Module]:
            def kernels(place: int) -> nn.Module:
                sizes = {str(k): partial(nn.Conv2d, 8, 8, k, padding=k // 2) for k in (3, 5, 7)}
                return LayerChoice(sizes, label=f"{name}_kernel{place}")

            def pools(place: int) -> nn.Module:
                kinds = {"max": nn.MaxPool2d(3, 1, 1), "average": nn.AvgPool2d(3, 1, 1)}
                return LayerChoice(kinds, label=f"{name}_pool{place}")

            def made(place: int) -> nn.Module:
                ways = {"conv": kernels(place), "pool": pools(place), "skip": nn.Identity()}
                return LayerChoice(ways, label=f"{name}_op{place}")

            return made

        self.first = Repeat(block("first"), (1, 2), label="first_depth")
        self.second = Repeat(block("second"), (1, 3), label="second_depth")

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x))
        return out


def conditional(_: argparse.Namespace) -> Problem:
    space = Conditional()
    archs = [space.canonical(arch) for arch in grid(space)]
    symbols: dict[str, Any] = space.simplify()

    def truth(generator: np.random.Generator) -> Array:
        worth = {name: dict(zip(s.values, generator.normal(size=s.size), strict=True))
                 for name, s in symbols.items()}  # fmt: skip
        # What stands first in a stage is worth more or less with what follows it.
        follow = generator.normal(size=(2, 3, 3))
        names = ("conv", "pool", "skip")

        def of(arch: Sample) -> float:
            total = sum(worth[label][value] for label, value in arch.items())
            for stage, name in enumerate(("first", "second")):
                ops = [names.index(arch[f"{name}_op{k}"]) for k in range(3)
                       if f"{name}_op{k}" in arch]  # fmt: skip
                total += sum(follow[stage, a, b] for a, b in pairwise(ops))
            return float(total)

        return np.array([of(arch) for arch in archs])

    return SyntheticProblem(space, archs, truth)


PROBLEMS: dict[str, Callable[[argparse.Namespace], Problem]] = {
    "macro": macro,
    **{f"201-{name}": partial(bench_201, name) for name in DATASETS},
    "interacting": interacting,
    "additive": lambda _: AdditiveProblem(),
    "pairs": random_pairs,
    "conditional": conditional,
}


# -- contestants ------------------------------------------------------------------------------


class PlainGP(Strategy):
    """A Gaussian process with one lengthscale for all labels, as anybody would write it."""

    def propose(self, state: SearchState) -> Sample:
        history = state.history
        if len(history) < 10:
            return state.sample()
        labels = list(state.space.symbols())
        rows = [[one.arch.get(label) for label in labels] for one in history]
        scores = np.array([one.fitness[0] for one in history])
        scores = (scores.argsort().argsort() - len(scores) / 2) / len(scores)
        options = near_the_best(state)
        asked = [[arch.get(label) for label in labels] for arch in options]

        known, new = codes_apart(rows, rows), codes_apart(asked, rows)
        fits = []
        for length, noise in product((1.0, 2.0, 4.0, 8.0), (0.01, 0.1, 0.5)):
            root = np.linalg.cholesky(np.exp(-known / length) + noise * np.eye(len(rows)))
            white = np.linalg.solve(root, scores)
            likelihood = -len(rows) / 2 * np.log(white @ white) - np.log(np.diag(root)).sum()
            fits.append((likelihood, length, root, white))
        _, length, root, white = max(fits, key=lambda fit: fit[0])
        cross = np.linalg.solve(root, np.exp(-new / length).T)
        mean = cross.T @ white
        deviation = np.sqrt(np.maximum(1 - (cross**2).sum(0), 1e-9) * (white @ white) / len(rows))
        return options[int((mean + deviation).argmax())]


class PlainBananas(Strategy):
    """Five small networks, as anybody would train them with scikit-learn."""

    def propose(self, state: SearchState) -> Sample:
        from sklearn.neural_network import MLPRegressor

        history = state.history
        if len(history) < 10:
            return state.sample()
        symbols = state.space.symbols()

        def row(arch: Sample) -> list[float]:
            return [float(arch.get(name) == v) for name, s in symbols.items() for v in s.values]

        rows = np.array([row(one.arch) for one in history])
        scores = np.array([one.fitness[0] for one in history])
        scores = (scores - scores.mean()) / (scores.std() or 1.0)
        options = near_the_best(state)
        asked = np.array([row(arch) for arch in options])
        predicted = np.array(
            [
                MLPRegressor(
                    hidden_layer_sizes=(20, 20), solver="lbfgs", max_iter=100, random_state=member
                )
                .fit(rows, scores)
                .predict(asked)
                for member in range(5)
            ]
        )
        drawn = predicted.mean(0) + predicted.std(0) * np.random.default_rng(
            [state.seed, state.number]
        ).normal(size=len(options))
        return options[int(drawn.argmax())]


def codes_apart(one: list[list[Any]], other: list[list[Any]]) -> Array:
    """In how many labels architectures differ."""
    first, second = np.array(one, dtype=object), np.array(other, dtype=object)
    apart: Array = (first[:, None, :] != second[None, :, :]).sum(2).astype(np.float64)
    return apart


def near_the_best(state: SearchState) -> list[Sample]:
    """What differs from one of the five best in one label or two, and some at random."""
    best = sorted(state.history, key=lambda one: -one.fitness[0])[:5]
    symbols = state.space.symbols()
    found: dict[str, Sample] = {}
    for one in best:
        for name in one.arch:
            for value in symbols[name].values:
                arch = dict(one.arch) | {name: value}
                for _ in range(2):
                    whole = {n: arch.get(n, s.values[0]) for n, s in symbols.items()}
                    kept = state.space.canonical(complete(state.space, whole, words(0)))
                    found.setdefault(state.space.arch_id(kept), kept)
                    other = list(one.arch)[int(unit(state.words(1))[0] * len(one.arch))]
                    values = symbols[other].values
                    arch = arch | {other: values[int(unit(state.words(1))[0] * len(values))]}
    for arch in state.space.sample(50, seed=int(state.words(1)[0])):
        found.setdefault(state.space.arch_id(arch), arch)
    return [arch for key, arch in found.items() if key not in state.taken] or [state.sample()]


def optuna_directly(problem: Problem, trials: int, seed: int) -> list[Sample]:
    """What Optuna's TPE tries, given all labels as categorical parameters."""
    symbols = problem.space.simplify()
    evaluate, tried = problem.evaluate(seed), []

    def objective(trial: optuna.Trial) -> float:
        values = {n: trial.suggest_categorical(n, list(s.values)) for n, s in symbols.items()}
        arch = problem.space.canonical(complete(problem.space, values, words(0)))
        tried.append(arch)
        return evaluate(None, arch)

    with quiet():
        study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed)
        )
        study.optimize(objective, n_trials=trials)
    return tried


DEFAULT = "ModelAveraging"
CONTESTANTS: dict[str, Callable[[], Strategy] | None] = {
    DEFAULT: ModelAveraging,
    "LinearThompson": LinearThompson,
    "GP": GP,
    "Predictor": Predictor,
    "LocalSearch": LocalSearch,
    "RegularizedEvolution": RegularizedEvolution,
    "RegularizedEvolution (20)": partial(RegularizedEvolution, population_size=20),
    "TPE": TPE,
    "OptunaGP": OptunaGP,
    "NSGA-II": NSGAII,
    "NSGA-II (20)": partial(NSGAII, population_size=20),
    "GridSearch": GridSearch,
    "Random": Random,
    "Optuna's TPE alone": None,
    "plain GP": PlainGP,
    "plain BANANAS": PlainBananas,
}


# -- measuring --------------------------------------------------------------------------------


def run(problem: Problem, name: str, trials: int, seed: int) -> Array:
    """Both distances after each trial, and in a third row the seconds of the processor."""
    make, start = CONTESTANTS[name], time.process_time()
    if make is None:
        archs = optuna_directly(problem, trials, seed)
    else:
        result = ns.search(
            problem.space,
            problem.evaluate(seed),
            strategy=make(),
            trials=trials,
            seed=seed,
            weights="none",
        )
        archs = [outcome.arch for outcome in result.outcomes]
    seconds = (time.process_time() - start) / trials
    return np.vstack([problem.curves(archs, seed), np.full(len(archs), seconds)])


def curves(
    kind: str, problem: Problem, names: Sequence[str], trials: int, seeds: int, folder: Path
) -> dict[str, Array]:
    """For each contestant an array (seeds, 3, trials); kept in the folder, so one may go on."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in names:
        parts = []
        for seed in range(seeds):
            file = folder / f"{kind}-{name}-{trials}-{seed}.npy"
            if not file.exists():
                np.save(file, run(problem, name, trials, seed))
            parts.append(np.load(file))
        found[name] = np.array(parts)
        ends = found[name][:, 0, -1].mean()
        Console().print(f"{kind}, {name}: {ends:.3g} after {trials}", highlight=False)
    return found


def beats(one: Array, other: Array) -> float:
    """The p-value of the paired one-sided Wilcoxon test that the first is nearer; 1 if the same."""
    from scipy.stats import wilcoxon

    if (one == other).all():
        return 1.0
    return float(wilcoxon(one, other, alternative="less").pvalue)


def show(kind: str, found: dict[str, Array], trials: int) -> list[dict[str, Any]]:
    """The table: mean distances, and whether anything beats the default."""
    places = [place for place in PLACES if place <= trials] or [trials]
    seeds = len(next(iter(found.values())))
    table = Table(title=f"{kind}: distance from the best, mean over {seeds} seeds")
    table.add_column("strategy")
    for what in ("told", "true"):
        for place in places:
            table.add_column(f"{what} {place}", justify="right")
    for what in ("p", "p, true"):
        for place in places:
            table.add_column(f"{what} {place}", justify="right")
    table.add_column("ms", justify="right")
    rows = []
    for name, values in found.items():
        means = values[:, :2, [place - 1 for place in places]].mean(0)
        row: dict[str, Any] = {
            "strategy": name,
            "told": means[0].tolist(),
            "true": means[1].tolist(),
            "seconds": float(values[:, 2, 0].mean()),
        }
        if name != DEFAULT and DEFAULT in found:
            # Of those seeds that both have; a slow contestant may have fewer.
            other = found[DEFAULT][: len(values)]
            row["p"] = [
                beats(values[:, kind_, n - 1], other[:, kind_, n - 1])
                for kind_ in (0, 1)
                for n in places
            ]
        rows.append(row)
        table.add_row(
            name,
            *(f"{mean:.3f}" for mean in [*row["told"], *row["true"]]),
            *([f"{p:.2g}" for p in row["p"]] if "p" in row else [""] * 2 * len(places)),
            f"{row['seconds'] * 1e3:.0f}",
        )
    Console(width=160).print(table)
    return rows


# -- two objectives ---------------------------------------------------------------------------


def dominated(points: Array, low: Array, high: Array) -> float:
    """The share of a box that some points dominate; more is better in both."""
    scaled = (points - low) / (high - low)
    order = scaled[np.argsort(-scaled[:, 0])]
    area, top = 0.0, 0.0
    for first, second in order:
        if second > top:
            area += first * (second - top)
            top = second
    return area


def fronts(
    problem: Problem, names: Sequence[str], trials: int, seeds: int, folder: Path
) -> list[dict[str, Any]]:
    """Accuracy and multiply-adds: the hypervolume found, as a share of that of the true front."""
    folder.mkdir(parents=True, exist_ok=True)
    cost = macs(problem.space, (3, 32, 32))
    batch = SampleBatch.from_samples(problem.space, problem.archs)
    costs = -cost.evaluate(batch).astype(np.float64)
    table = Table(title=f"accuracy and multiply-adds, {trials} trials: share of the hypervolume")
    for column in ("strategy", "mean", "quartiles"):
        table.add_column(column)
    rows = []
    for name in names:
        shares = []
        for seed in range(seeds):
            file = folder / f"front-{name}-{trials}-{seed}.npy"
            points = np.stack([problem.told(seed), costs], axis=1)
            if not file.exists():
                make = CONTESTANTS[name]
                assert make is not None
                result = ns.search(
                    problem.space,
                    problem.evaluate(seed),
                    strategy=make(),
                    objectives=[maximize("value"), minimize("macs", cost)],
                    trials=trials,
                    seed=seed,
                    weights="none",
                )
                tried = [problem.place[problem.space.arch_id(o.arch)] for o in result.outcomes]
                np.save(file, np.array(tried))
            box = points.min(0), points.max(0)
            shares.append(dominated(points[np.load(file)], *box) / dominated(points, *box))
        quartiles = np.quantile(shares, (0.25, 0.75))
        rows.append({"strategy": name, "shares": shares})
        table.add_row(name, f"{np.mean(shares):.3f}", f"{quartiles[0]:.3f} to {quartiles[1]:.3f}")
    Console().print(table)
    return rows


def picture(found: dict[str, Array], file: Path) -> None:
    """The distance told against the trials: medians and quartiles of the seeds."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name, values in found.items():
        low, middle, high = np.quantile(values[:, 0], (0.25, 0.5, 0.75), axis=0)
        trials = np.arange(1, len(middle) + 1)
        [line] = axes.plot(trials, middle, label=name)
        axes.fill_between(trials, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    axes.set_xlabel("trials")
    axes.set_ylabel("distance from the best")
    axes.set_yscale("symlog", linthresh=0.1)
    axes.set_title("Distance of the best so far, by what was told: median and quartiles", size=10)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=100)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--strategies", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=max(PLACES))
    parser.add_argument("--nas-bench-201", type=Path, metavar="FILE")
    parser.add_argument("--fronts", action="store_true", help="two objectives, on macro")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    options = parser.parse_args()
    use_one_thread()
    everything: dict[str, Any] = {}
    if options.fronts:
        names = [name for name in options.strategies if CONTESTANTS[name] is not None]
        try:
            problem = macro(options)
        except MissingTableError as error:
            Console().print(f"left out, for {error}", highlight=False)
            return
        rows = fronts(problem, names, options.trials, options.seeds, options.out / "tables")
        write_json(options.out / "fronts.json", [], fronts=rows)
        return
    for kind in options.problems:
        try:
            problem = PROBLEMS[kind](options)
        except MissingTableError as error:
            Console().print(f"{kind}: left out, for {error}", highlight=False)
            continue
        found = curves(
            kind, problem, options.strategies, options.trials, options.seeds, options.out / "tables"
        )
        everything[kind] = show(kind, found, options.trials)
        picture(found, options.out / f"tables-{kind}.png")
    write_json(options.out / "tables.json", [], problems=everything)


if __name__ == "__main__":
    main()
