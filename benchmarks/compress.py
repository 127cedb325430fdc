"""A network made smaller, by this library and by others, with as many passes of training for all.

A residual network is trained on digits for each seed, then made smaller to shares of its
multiply-adds, and trained further with labels and the uncut network as its teacher.  Contestants:
the steps of ``nas-space compress``; one width for all layers, its leading channels; the
architecture that ours found, from scratch; Torch-Pruning's magnitude pruning, and Model
Optimizer's FastNAS, where these are installed (``pip install torch-pruning nvidia-modelopt``).
What ours spends on sorting, trials and fits, measured in passes, the others spend on longer
training.  The smaller of our networks goes on from the larger, so that steps of that serve both;
together they have as many as two networks of another.  The rate of each is the best on validation
data of other seeds, of the same few.  Run with ``python -m benchmarks.compress --tune 10,11``;
``--table`` makes the table of what was measured.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import nas_space as ns
from nas_space.runs.sensitivity import changes, loses_least
from nas_space.training import Task, evaluate, fit, load_data, recalibrate

SHARES = (0.5, 0.25)
RATES = (4e-3, 8e-3, 16e-3)
TUNING = 100
HELD, FITTED = 64, 1
EXAMPLE = torch.zeros(1, 3, 32, 32)


class Residual(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, hidden, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(hidden)
        self.second = nn.Conv2d(hidden, width, 3, padding=1, bias=False)
        self.last = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        out = self.last(self.second(torch.relu(self.norm(self.first(x)))))
        return torch.relu(x + out)


def network() -> nn.Module:
    """Return a residual network of 0.75 million multiply-adds for an image."""
    layers: list[nn.Module] = []
    before = 3
    for width in (8, 16, 32):
        layers += [
            nn.Conv2d(before, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        ]  # fmt: skip
        if before > 3:
            layers.append(Residual(width, width))
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def macs(net: nn.Module) -> int:
    """Return the multiply-adds of a network for one image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        copy.deepcopy(net).eval()(EXAMPLE)
    return int(counter.get_total_flops() // 2)


def optimizer(rate: float) -> Any:
    return partial(torch.optim.AdamW, lr=rate, weight_decay=0.01)


def batches_in(data: Any, number: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(data), generator=generator)[: 64 * number].tolist()
    return list(torch.split(torch.stack([data[place][0] for place in order]), 64))


class Contest:
    """What all contestants start from, for one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.splits = load_data("digits", seed)
        torch.manual_seed(seed)
        self.net = network()
        own = Task.classification(self.splits, batch_size=64, optimizer=optimizer(3e-3))
        fit(self.net, own, steps=400, seed=seed)
        self.net.eval()
        self.task = self.at(RATES[0])
        self.calibration = batches_in(self.splits.train, 8)
        held: Any = self.splits.validation
        self.held = [held[place] for place in range(HELD)]
        with torch.no_grad():
            self.wanted = self.net(torch.stack([image for image, _ in self.held]))
        self.whole = macs(self.net)
        self.operations = 0  # of convolutions that ours makes beside the fine-tuning
        self.space: Any = None
        self.larger: nn.Module | None = None  # ours, trained, of the share before

    def at(self, rate: float) -> Task:
        """Return the task of all contestants, with a rate of learning."""
        task = Task.classification(self.splits, batch_size=64, optimizer=optimizer(rate))
        return task.distilled(self.net)

    def prepare(self) -> None:
        """Sort channels, and find what each choice loses, once for all budgets."""
        space: Any = ns.elastic(
            self.net, EXAMPLE, widths=np.linspace(0.25, 1, 7).tolist(), divisor=1
        )
        self.space = space.eval()
        with self.counted():
            space.sort_channels(self.calibration[:4])
            space.sort_blocks(self.calibration[:FITTED])
            whole = self.inherited(space.original)
            self.losses = {name: whole - self.inherited(arch) for name, arch in changes(space)}

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Add to the operations of ours, also those of passes that end midway."""
        with FlopCounterMode(display=False) as counter:
            yield
        self.operations += sum(
            count for name, count in counter.get_flop_counts()["Global"].items()
            if "convolution" in str(name)
        )  # fmt: skip

    def inherited(self, arch: Any) -> float:
        small = self.space.freeze(arch)
        self.space.refit(small, self.calibration[:FITTED], teacher=self.net)
        recalibrate(small, self.task, batches=FITTED)
        x = torch.stack([image for image, _ in self.held])
        with torch.no_grad():
            divergence = nn.functional.kl_div(
                small.eval()(x).log_softmax(1), self.wanted.log_softmax(1),
                log_target=True, reduction="batchmean",
            )  # fmt: skip
        return -float(divergence)

    def ours(self, share: float) -> nn.Module:
        cost = ns.profiler.macs(self.space, inputs=EXAMPLE)
        within = self.space.where(cost <= share * cost.evaluate(self.space.original))
        space, teacher, larger = self.space, self.net, None
        if self.larger is not None:
            teacher, larger = self.larger, vars(self.larger)["_architecture"]
            space = copy.deepcopy(space).absorb(teacher)
        self.arch = loses_least(within, self.losses, 1, larger)[0]
        small: nn.Module = space.freeze(self.arch)
        with self.counted():
            space.refit(small, self.calibration[:4], teacher=teacher)
        recalibrate(small, self.task, batches=8)  # as all do, to be scored before training
        return small

    def steps(self, name: str, share: float) -> int:
        """Return the steps of training: those of ours serve all networks that go on from them."""
        if name == "ours":
            weights = {s: (1 - s) * (len(SHARES) - place) for place, s in enumerate(SHARES)}
            return round(TUNING * len(SHARES) * weights[share] / sum(weights.values()))
        # A forward is taken for a third of a step.
        forwards = self.operations / 2 / self.whole / 64
        return TUNING + math.ceil(forwards / 3 / len(SHARES))

    def uniform(self, share: float) -> nn.Module:
        space: Any = ns.elastic(
            self.net, EXAMPLE, widths=np.linspace(0.1, 1, 37).tolist(), divisor=1, depth=False
        )
        cost = ns.profiler.macs(space, inputs=EXAMPLE)
        archs = [
            {name: max(v for v in s.values if v <= max(1, part * max(s.values)) or v == s.values[0])
             for name, s in space.symbols().items()}
            for part in np.linspace(0.1, 1, 91)
        ]  # fmt: skip
        most = share * cost.evaluate(space.original)
        arch = max((a for a in archs if cost.evaluate(a) <= most), key=cost.evaluate)
        small: nn.Module = space.freeze(arch)
        recalibrate(small, self.task, batches=8)
        return small

    def scratch(self, share: float) -> nn.Module:
        del share
        small: nn.Module = self.space.freeze(self.arch)
        torch.manual_seed(self.seed)
        for module in small.modules():
            if hasattr(module, "reset_parameters"):
                cast("Any", module).reset_parameters()
        return small

    def pruned(self, share: float) -> nn.Module:
        import torch_pruning as tp

        for ratio in np.linspace(0.05, 0.95, 91):
            small = copy.deepcopy(self.net)
            last = next(m for m in small.modules() if isinstance(m, nn.Linear))
            tp.pruner.MagnitudePruner(
                small, EXAMPLE, importance=tp.importance.MagnitudeImportance(p=2),
                pruning_ratio=float(ratio), ignored_layers=[last],
            ).step()  # fmt: skip
            if macs(small) <= share * self.whole:
                recalibrate(small, self.task, batches=8)
                return small
        raise RuntimeError("nothing is as small as that")

    def fastnas(self, share: float) -> nn.Module:
        import modelopt.torch.prune as mtp

        images = torch.stack([image for image, _ in self.held])
        labels = torch.tensor([int(label) for _, label in self.held])
        loader = [(x, torch.zeros(len(x))) for x in self.calibration]

        def score(net: nn.Module) -> float:
            with torch.no_grad():
                return float((net.eval()(images).argmax(1) == labels).float().mean())

        small, _ = mtp.prune(
            copy.deepcopy(self.net), mode=[("fastnas", _fastnas())], dummy_input=EXAMPLE,
            constraints={"flops": f"{share:.0%}"},
            config={"data_loader": loader, "score_func": score, "collect_func": lambda b: b[0],
                    "checkpoint": None, "verbose": False},
        )  # fmt: skip
        plain: nn.Module = small
        return plain

    def others(self) -> dict[str, Callable[[float], nn.Module]]:
        return {
            "uniform width": self.uniform, "from scratch": self.scratch,
            "Torch-Pruning": self.pruned, "FastNAS": self.fastnas,
        }  # fmt: skip


def _fastnas() -> dict[str, Any]:
    """FastNAS's rules for narrow networks: its widths are multiples of 32 by default."""
    ratios = tuple(np.linspace(0.25, 1, 7).tolist())
    channels = {"channels_ratio": ratios, "kernel_size": (), "channel_divisor": 1}
    features = {"features_ratio": ratios, "feature_divisor": 1}
    rules = {"nn.Conv2d": channels, "nn.BatchNorm2d": features, "nn.Linear": features}
    return {name: {"*": rule} for name, rule in rules.items()}


def run(seed: int, rates: dict[str, float] | None, out: Path) -> None:
    """Measure all contestants with one seed, and add a line for each to a file.

    With a rate for each, on test data; without, at all rates on validation data.
    """
    contest = Contest(seed)
    contest.prepare()
    split = "validation" if rates is None else "test"
    uncut = evaluate(contest.net, contest.task, split)["accuracy"]
    found: list[tuple[float, str, nn.Module | None, str]] = []
    for share in SHARES:
        # Ours first, whose passes the others have as well.
        made = contest.ours(share)
        _measured(contest, (share, "ours", made, ""), rates, split, uncut, out)
        for name, make in contest.others().items():
            try:
                found.append((share, name, make(share), ""))
            except Exception as error:  # noqa: BLE001 - another library may fail, and it is told
                found.append((share, name, None, f"{type(error).__name__}: {error}"[:200]))
    for one in found:
        _measured(contest, one, rates, split, uncut, out)


def _measured(
    contest: Contest,
    one: tuple[float, str, nn.Module | None, str],
    rates: dict[str, float] | None,
    split: str,
    uncut: float,
    out: Path,
) -> None:
    """Train what a contestant has made, at each rate, and note what came of it."""
    share, name, made, why = one
    best = -1.0
    for rate in RATES if rates is None else (rates.get(f"{name} {share}", RATES[0]),):
        line: dict[str, Any] = {"seed": contest.seed, "share": share, "name": name}
        line |= {"uncut": uncut, "why": why}
        if made is not None:
            small, steps = copy.deepcopy(made), contest.steps(name, share)
            line |= {"macs": macs(small) / contest.whole, "steps": steps, "rate": rate}
            line["before"] = evaluate(small, contest.task, split)["accuracy"]
            fit(small, contest.at(rate), steps=steps, seed=contest.seed)
            small.eval()
            line["accuracy"] = evaluate(small, contest.task, split)["accuracy"]
            if name == "ours" and line["accuracy"] > best:
                best, contest.larger = line["accuracy"], small
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(line, flush=True)


def best_rates(file: Path) -> dict[str, float]:
    """Return for each contestant and share the rate that was best on average."""
    scores: dict[str, dict[float, list[float]]] = {}
    for line in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
        if "accuracy" in line:
            known = scores.setdefault(f"{line['name']} {line['share']}", {})
            known.setdefault(line["rate"], []).append(line["accuracy"])
    return {
        name: max(known, key=lambda rate: float(np.mean(known[rate])))
        for name, known in scores.items()
    }


def table(file: Path) -> str:
    """Return the table of what was measured, with paired differences and their standard errors."""
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    rows = [
        "| multiply-adds | | before training | after | ours better by |",
        "|---|---|---|---|---|",
    ]
    for share in SHARES:
        scores: dict[str, dict[int, Any]] = {}
        for line in lines:
            if line["share"] == share and "accuracy" in line:
                scores.setdefault(line["name"], {})[line["seed"]] = line
        for name, found in scores.items():
            seeds = sorted(found.keys() & scores["ours"].keys())
            gaps = np.array([scores["ours"][s]["accuracy"] - found[s]["accuracy"] for s in seeds])
            error = gaps.std(ddof=1) / np.sqrt(len(gaps)) if len(gaps) > 1 else float("nan")
            shown = "" if name == "ours" else f"{100 * gaps.mean():+.2f} ± {100 * error:.2f}"
            before, after, size = (
                np.mean([found[s][key] for s in seeds]) for key in ("before", "accuracy", "macs")
            )
            rows.append(f"| {size:.1%} | {name} | {before:.1%} | {after:.2%} | {shown} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0,1,2,3,4", help="of what is reported")
    parser.add_argument("--tune", default="", help="seeds with which rates are chosen, first")
    parser.add_argument("--out", type=Path, default=Path("build/compress.jsonl"))
    parser.add_argument("--table", action="store_true", help="only of what was measured")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rates = options.out.with_suffix(".rates.jsonl")
    if not options.table:
        for seed in filter(None, options.tune.split(",")):
            run(int(seed), None, rates)
        chosen = best_rates(rates) if rates.exists() else {}
        for seed in filter(None, options.seeds.split(",")):
            run(int(seed), chosen, options.out)
    if rates.exists():
        print(best_rates(rates))
    if options.out.exists():
        print(table(options.out))


if __name__ == "__main__":
    main()
