"""A network made smaller, by this library and by others, with as many passes of training for all.

A network is trained for each seed, then made smaller to shares of its multiply-adds, and trained
further with labels and the uncut network as its teacher: a residual network on digits, or, with
``--problem minilm``, the pretrained MiniLM on WordNet's glosses, of 45 lexical categories.
Contestants:
the steps of ``nas-space compress``; one width for all layers, its leading channels; the
architecture that ours found, from scratch; Torch-Pruning's magnitude pruning, and Model
Optimizer's FastNAS, where these are installed (``pip install torch-pruning nvidia-modelopt``).
What ours spends on sorting, trials and fits, measured in passes, its training is shorter by.  The
smaller of our networks goes on from the larger, so that steps of that serve both; together they
have as many as two networks of another.  The rate of each is the best on validation
data of other seeds, of the same few.  Run with ``python -m benchmarks.compress --tune 10,11``;
``--table`` makes the table of what was measured.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Subset, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

import nas_space as ns
from benchmarks import minilm
from nas_space.compression.block_cache import BlockCache
from nas_space.runs.sensitivity import changes, loses_least, running_once
from nas_space.training import Splits, Task, evaluate, fit, load_data, recalibrate

SHARES = (0.5, 0.25)
HELD, FITTED = 64, 1
KEPT = 1 << 28  # bytes of what blocks return


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


class Classifier(nn.Module):
    """MiniLM, the mean over its tokens, and a linear layer."""

    def __init__(self, encoder: nn.Module, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(cast("Any", encoder).config.hidden_size, classes)

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.head(self.encoder(input_ids=ids).last_hidden_state.mean(1))
        return out


class Remembered(nn.Module):
    """A teacher that answers from memory for rows that it has seen: it is the same for all."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.known: dict[bytes, Tensor] = {}

    def forward(self, ids: Tensor) -> Tensor:
        names = [row.numpy().tobytes() for row in ids]
        new = [place for place, name in enumerate(names) if name not in self.known]
        if new:
            self.known |= zip((names[n] for n in new), self.net(ids[new]).detach(), strict=True)
        return torch.stack([self.known[name] for name in names])


def optimizer(rate: float) -> Any:
    return partial(torch.optim.AdamW, lr=rate, weight_decay=0.01)


def batches_in(data: Any, number: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(data), generator=generator)[: 64 * number].tolist()
    return list(torch.split(torch.stack([data[place][0] for place in order]), 64))


class Contest:
    """What all contestants start from, for one seed."""

    rates: tuple[float, ...] = (4e-3, 8e-3, 16e-3)
    own = 3e-3, 400  # rate and steps of the uncut network
    steps = 120  # for each network, what is done beside the training included
    widths: Mapping[str, Any] = {"widths": np.linspace(0.25, 1, 7).tolist(), "divisor": 1}
    uniformly: Mapping[str, Any] = {"widths": np.linspace(0.1, 1, 37).tolist(), "divisor": 1}
    operators: tuple[str, ...] = ("convolution",)  # whose operations are those of forwards
    slack = 0.0  # of budgets

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.splits, self.net = self.start(seed)
        own = Task.classification(self.splits, batch_size=64, optimizer=optimizer(self.own[0]))
        fit(self.net, own, steps=self.own[1], seed=seed)
        self.net.eval()
        self.teacher = self.remembering()
        self.task = self.at(self.rates[0])
        self.calibration = batches_in(self.splits.train, 8)
        self.example = self.calibration[0][:1]
        held: Any = self.splits.validation
        self.held = [held[place] for place in range(HELD)]
        with torch.no_grad():
            self.wanted = self.net(torch.stack([image for image, _ in self.held]))
        self.whole = self.macs(self.net)
        self.operations = 0  # of layers that ours makes beside the fine-tuning
        self.trained: dict[float, int] = {}  # the steps of ours, by share
        self.space: Any = None
        self.larger: nn.Module | None = None  # ours, trained, of the share before

    def start(self, seed: int) -> tuple[Splits, nn.Module]:
        """Return the data, and the network before its training on them."""
        splits = load_data("digits", seed)
        torch.manual_seed(seed)
        return splits, network()

    def remembering(self) -> nn.Module:
        return self.net

    def macs(self, net: nn.Module) -> int:
        """Return the multiply-adds of a network for one example."""
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            copy.deepcopy(net).eval()(self.example)
        return int(counter.get_total_flops() // 2)

    def most(self, share: float) -> float:
        """Return how many multiply-adds there may be."""
        return share * self.whole * (1 + self.slack)

    def at(self, rate: float) -> Task:
        """Return the task of all contestants, with a rate of learning."""
        task = Task.classification(self.splits, batch_size=64, optimizer=optimizer(rate))
        return task.distilled(self.teacher)

    def prepare(self) -> None:
        """Sort channels, and find what each choice loses, once for all budgets."""
        space: Any = ns.elastic(self.net, self.example, **self.widths)
        self.space = space.eval()
        with self.counted():
            space.sort_channels(self.calibration[:4])
            space.sort_blocks(self.calibration[:FITTED])
            # Trials differ from the network in one place, so before that nothing runs again.
            sorted_net = space.freeze(space.original).eval()
            self.caches = [BlockCache(net, self.example, KEPT) for net in (self.net, sorted_net)]
            whole = self.inherited(sorted_net)
            self.losses = {
                name: whole - self.inherited(space.freeze(arch).eval())
                for name, arch in changes(space)
            }

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Add to the operations of ours, also those of passes that end midway."""
        with FlopCounterMode(display=False) as counter:
            yield
        self.operations += sum(
            count for name, count in counter.get_flop_counts()["Global"].items()
            if any(operator in str(name) for operator in self.operators)
        )  # fmt: skip

    def inherited(self, small: nn.Module) -> float:
        x = torch.stack([image for image, _ in self.held])
        with self.caches[0].of(self.net), self.caches[1].of(small):
            self.space.refit(small, self.calibration[:FITTED], teacher=self.net)
            recalibrate(small, self.task, batches=FITTED)
            with torch.no_grad():
                divergence = nn.functional.kl_div(
                    small.eval()(x).log_softmax(1), self.wanted.log_softmax(1),
                    log_target=True, reduction="batchmean",
                )  # fmt: skip
        return -float(divergence)

    def ours(self, share: float) -> nn.Module:
        cost = ns.profiler.macs(self.space, inputs=self.example)
        within = self.space.where(cost <= self.most(share))
        space, teacher, larger = self.space, self.net, None
        if self.larger is not None:
            teacher, larger = self.larger, vars(self.larger)["_architecture"]
            space = copy.deepcopy(space).absorb(teacher)
        self.arch = loses_least(within, self.losses, 1, larger)[0]
        small: nn.Module = space.freeze(self.arch)
        with self.counted(), running_once(self.example, small, teacher):
            space.refit(small, self.calibration[:4], teacher=teacher)
        recalibrate(small, self.task, batches=8)  # as all do, to be scored before training
        return small

    def steps_of(self, name: str, share: float) -> int:
        """Return the steps of training: those of ours serve all networks that go on from them."""
        if name != "ours":
            return self.steps
        if share not in self.trained:
            left = [s for s in SHARES if s not in self.trained]
            weights = {s: (1 - s) ** 2 * (len(SHARES) - SHARES.index(s)) for s in left}
            forwards = self.operations / 2 / self.whole / 64  # each taken for a third of a step
            spent = sum(self.trained.values()) + math.ceil(forwards / 3)
            part = weights[share] / sum(weights.values())
            self.trained[share] = round((self.steps * len(SHARES) - spent) * part)
        return self.trained[share]

    @cached_property
    def scaled(self) -> Any:
        return ns.elastic(self.net, self.example, **self.uniformly, depth=False)

    def uniform(self, share: float) -> nn.Module:
        space = self.scaled
        cost = ns.profiler.macs(space, inputs=self.example)
        archs = [
            {name: max(v for v in s.values if v <= max(1, part * max(s.values)) or v == s.values[0])
             for name, s in space.symbols().items()}
            for part in np.linspace(0.1, 1, 91)
        ]  # fmt: skip
        most = self.most(share)
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
        for ratio in np.linspace(0.05, 0.95, 91):
            if ratio < self.least(share):
                continue
            small = copy.deepcopy(self.net)
            self.prune(small, float(ratio))
            if self.macs(small) <= self.most(share):
                recalibrate(small, self.task, batches=8)
                return small
        raise RuntimeError("nothing is as small as that")

    def least(self, share: float) -> float:
        """Return a ratio of pruning that leaves too much."""
        del share
        return 0.0

    def prune(self, small: nn.Module, ratio: float) -> None:
        """Prune a network in place with Torch-Pruning, the same ratio of each layer."""
        import torch_pruning as tp

        last = next(m for m in small.modules() if isinstance(m, nn.Linear))
        tp.pruner.MagnitudePruner(
            small, self.example, importance=tp.importance.MagnitudeImportance(p=2),
            pruning_ratio=ratio, ignored_layers=[last],
        ).step()  # fmt: skip

    def fastnas(self, share: float) -> nn.Module:
        import modelopt.torch.prune as mtp

        images = torch.stack([image for image, _ in self.held])
        labels = torch.tensor([int(label) for _, label in self.held])
        loader = [(x, torch.zeros(len(x))) for x in self.calibration]

        def score(net: nn.Module) -> float:
            with torch.no_grad():
                return float((net.eval()(images).argmax(1) == labels).float().mean())

        small, _ = mtp.prune(
            copy.deepcopy(self.net), mode=[("fastnas", _fastnas())], dummy_input=self.example,
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


class Glosses(Contest):
    """MiniLM on glosses of WordNet that have the same number of tokens, so nothing is padded.

    Heads, feed-forward and, in ours, depth vary.  The width between the layers and the size of a
    head stay, for all contestants.  Torch-Pruning is told which layers have heads, and BERT's
    attention afterwards how many are left.
    """

    rates = (1e-4, 3e-4, 1e-3, 3e-3)
    own = 3e-4, 60
    steps = 56
    widths: Mapping[str, Any] = {
        **Contest.widths, "fixed": ("*attention_head_size", "*word_embeddings*"),
    }  # fmt: skip
    uniformly: Mapping[str, Any] = {**widths, "widths": np.linspace(1 / 12, 1, 45).tolist()}
    operators = ("addmm", "bmm", "mm")
    slack = 0.001  # a half of heads and feed-forward is a little more with the linear layer

    tokens, parts = 12, (2560, 512, 3072)

    def start(self, seed: int) -> tuple[Splits, nn.Module]:
        encoder, tokenizer = minilm.load()
        encoder.set_attn_implementation("eager")
        encoder.pooler = None
        texts, labels = minilm.glosses(200_000, seed)
        short = [(t, label) for t, label in zip(texts, labels, strict=True) if len(t) < 80]
        rows = tokenizer([text for text, _ in short]).input_ids
        found = [(row, short[n][1]) for n, row in enumerate(rows) if len(row) == self.tokens]
        found = found[: sum(self.parts)]
        # Rows of the table that no gloss reads cost time in the optimizer, and change nothing.
        rows_read = np.array([row for row, _ in found])
        ids, places = np.unique(rows_read, return_inverse=True)
        table = nn.Embedding(len(ids), encoder.config.hidden_size)
        table.weight.data = encoder.get_input_embeddings().weight.data[ids].clone()
        encoder.set_input_embeddings(table)
        inputs = torch.from_numpy(places.reshape(-1, self.tokens))
        data = TensorDataset(inputs, torch.tensor([label for _, label in found]))
        bounds = np.cumsum((0, *self.parts)).tolist()
        train, validation, test = (Subset(data, range(*ends)) for ends in pairwise(bounds))
        splits = Splits(
            name="glosses", train=train, validation=validation, test=test, num_classes=45,
            input_shape=(self.tokens,),
        )  # fmt: skip
        torch.manual_seed(seed)
        return splits, Classifier(encoder, 45)

    def remembering(self) -> nn.Module:
        return Remembered(self.net)

    def least(self, share: float) -> float:
        return 0.98 - share

    def prune(self, small: nn.Module, ratio: float) -> None:
        import torch_pruning as tp

        attentions: list[Any] = [m for m in small.modules() if hasattr(m, "num_attention_heads")]
        heads = {
            layer: attention.num_attention_heads
            for attention in attentions
            for layer in (attention.query, attention.key, attention.value)
        }
        own: Any = small
        pruner = tp.pruner.MagnitudePruner(
            small, self.example, importance=tp.importance.MagnitudeImportance(p=2),
            pruning_ratio=ratio, ignored_layers=[own.encoder.embeddings, own.head],
            num_heads=heads, out_channel_groups={}, prune_num_heads=True, prune_head_dims=False,
            head_pruning_ratio=ratio,
        )  # fmt: skip
        pruner.step()
        for attention in attentions:
            attention.num_attention_heads = pruner.num_heads[attention.query]
            attention.all_head_size = attention.query.out_features


PROBLEMS = {"digits": Contest, "minilm": Glosses}


def _fastnas() -> dict[str, Any]:
    """FastNAS's rules for narrow networks: its widths are multiples of 32 by default."""
    ratios = tuple(np.linspace(0.25, 1, 7).tolist())
    channels = {"channels_ratio": ratios, "kernel_size": (), "channel_divisor": 1}
    features = {"features_ratio": ratios, "feature_divisor": 1}
    rules = {"nn.Conv2d": channels, "nn.BatchNorm2d": features, "nn.Linear": features}
    return {name: {"*": rule} for name, rule in rules.items()}


def run(
    kind: type[Contest], seed: int, rates: dict[str, float] | None, out: Path, alone: bool
) -> None:
    """Measure all contestants with one seed, and add a line for each to a file.

    With a rate for each, on test data; without, at all rates on validation data.  Nobody's passes
    depend on another's, so ours may be measured ``alone``.
    """
    contest = kind(seed)
    contest.prepare()
    split = "validation" if rates is None else "test"
    uncut = evaluate(contest.net, contest.task, split)["accuracy"]
    found: list[tuple[float, str, nn.Module | None, str]] = []
    for share in SHARES:
        made = contest.ours(share)
        _measured(contest, (share, "ours", made, ""), rates, split, uncut, out)
        for name, make in ({} if alone else contest.others()).items():
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
    first = contest.rates[0]
    for rate in contest.rates if rates is None else (rates.get(f"{name} {share}", first),):
        line: dict[str, Any] = {"seed": contest.seed, "share": share, "name": name}
        line |= {"uncut": uncut, "why": why}
        if made is not None:
            small, steps = copy.deepcopy(made), contest.steps_of(name, share)
            line |= {"macs": contest.macs(small) / contest.whole, "steps": steps, "rate": rate}
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
    parser.add_argument("--problem", choices=PROBLEMS, default="digits")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="of what is reported")
    parser.add_argument("--tune", default="", help="seeds with which rates are chosen, first")
    parser.add_argument("--alone", action="store_true", help="only ours")
    parser.add_argument("--out", type=Path, help="by default build/compress-PROBLEM.jsonl")
    parser.add_argument("--table", action="store_true", help="only of what was measured")
    options = parser.parse_args()
    options.out = options.out or Path(f"build/compress-{options.problem}.jsonl")
    kind = PROBLEMS[options.problem]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rates = options.out.with_suffix(".rates.jsonl")
    if not options.table:
        for seed in filter(None, options.tune.split(",")):
            run(kind, int(seed), None, rates, options.alone)
        chosen = best_rates(rates) if rates.exists() else {}
        for seed in filter(None, options.seeds.split(",")):
            run(kind, int(seed), chosen, options.out, options.alone)
    if rates.exists():
        print(best_rates(rates))
    if options.out.exists():
        print(table(options.out))


if __name__ == "__main__":
    main()
