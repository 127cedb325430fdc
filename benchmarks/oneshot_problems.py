"""Problems for one-shot strategies: small spaces of which every network was trained by itself.

::

    python -m benchmarks.oneshot_problems digits        # trains all networks of a problem alone
    python -m benchmarks.oneshot_problems signs
    python -m benchmarks.oneshot_problems mixers

``digits``
    Five places with three operations each, on digits of 8×8 pixels under much noise, so that no
    operation is useless and no network perfect.  The more convolutions, the better.
``two``
    The same with exactly two convolutions: 80 networks of one size.
``signs``
    Digits of which half are negatives, so that the network must be told by a nonlinearity that
    light and dark are the same.  Two convolutions that see as much, with channels that are all
    mixed, or by twos, or not at all; two activations, two poolings.
``mixers``
    Three residual blocks over the rows of a digit, each of one of six kinds: what is best costs
    neither most nor least, and blocks add to what was there.

The noise is drawn anew each time an image is trained on, or two trainings of one network would
differ as much as two networks do.  The truth is the accuracy on images that nothing is trained or
searched on, the mean of all trainings from scratch.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import combinations, product
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import kendalltau
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.utils.data import TensorDataset

import nas_space as ns
from benchmarks._measure import use_one_thread
from nas_space.mutable import MutableExpression
from nas_space.nn import LayerChoice
from nas_space.profiler import macs
from nas_space.randomness import generator_of
from nas_space.training import Jitter, Task, evaluate, fit, training_batches

Array = npt.NDArray[Any]
DATA = Path(__file__).parent / "data"
WIDTH, TOKEN = 8, 16
TRAINED, CHOSEN_BY = 597, 500
"""Images to train on and to choose by; the rest are for the truth."""
ALONE = 160
"""Steps for which a network is trained by itself."""


class Digits(ns.ModelSpace):
    """A chain of five places, each a convolution or a pooling."""

    labels: Mapping[str, tuple[str, ...]] = {
        f"op{place}": ("conv", "average", "maximum") for place in range(5)
    }

    def __init__(self) -> None:
        super().__init__()
        self.stem = normalised(nn.Conv2d(1, WIDTH, 3, padding=1, bias=False), nn.ReLU())
        made: dict[str, Callable[[], nn.Module]] = {
            "conv": lambda: nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
            "average": lambda: nn.AvgPool2d(3, stride=1, padding=1),
            "maximum": lambda: nn.MaxPool2d(3, stride=1, padding=1),
        }

        def one_of(name: str) -> nn.Module:
            return normalised(made[name](), nn.ReLU())

        self.body = nn.Sequential(
            *(
                LayerChoice({name: partial(one_of, name) for name in names}, label=label)
                for label, names in self.labels.items()
            )
        )
        self.shrink = nn.MaxPool2d(2)
        self.head = nn.Linear(WIDTH * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.shrink(self.body(self.stem(x))).flatten(1))
        return y


class Signs(ns.ModelSpace):
    """Two convolutions of three kinds, two activations, two poolings."""

    labels: Mapping[str, tuple[str, ...]] = {
        "stem": ("relu", "none"),
        "shrink": ("average", "maximum"),
        "first": ("dilated", "grouped", "depthwise"),
        "between": ("relu", "tanh", "none"),
        "second": ("dilated", "grouped", "depthwise"),
        "gather": ("average", "maximum"),
    }

    def __init__(self) -> None:
        super().__init__()
        conv = partial(nn.Conv2d, WIDTH, WIDTH, bias=False)
        made: dict[str, Callable[[], nn.Module]] = {
            "dilated": lambda: normalised(conv(3, padding=2, dilation=2)),
            "grouped": lambda: normalised(conv(5, padding=2, groups=4)),
            "depthwise": lambda: normalised(conv(5, padding=2, groups=WIDTH)),
            "relu": nn.ReLU,
            "tanh": nn.Tanh,
            "none": nn.Identity,
            "average": lambda: nn.AvgPool2d(2),
            "maximum": lambda: nn.MaxPool2d(2),
        }
        choices = {
            label: LayerChoice({name: made[name] for name in names}, label=label)
            for label, names in self.labels.items()
        }
        begin = normalised(nn.Conv2d(1, WIDTH, 3, padding=1, bias=False))
        self.body = nn.Sequential(begin, *choices.values())
        self.head = nn.Linear(WIDTH * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.body(x).flatten(1))
        return y


class Mixers(ns.ModelSpace):
    """Three residual blocks over the rows of an image, each of one of six kinds."""

    labels: Mapping[str, tuple[str, ...]] = {
        f"block{place}": (
            "nothing",
            "feedforward",
            "convolution",
            "depthwise",
            "attention",
            "pooling",
        )
        for place in range(3)
    }

    def __init__(self) -> None:
        super().__init__()
        made: dict[str, Callable[[], nn.Module]] = {
            "nothing": Nothing,
            "feedforward": lambda: nn.Sequential(
                nn.Conv1d(TOKEN, 2 * TOKEN, 1), nn.ReLU(), nn.Conv1d(2 * TOKEN, TOKEN, 1)
            ),
            "convolution": lambda: nn.Sequential(nn.Conv1d(TOKEN, TOKEN, 3, padding=1), nn.ReLU()),
            "depthwise": lambda: nn.Sequential(
                nn.Conv1d(TOKEN, TOKEN, 5, padding=2, groups=TOKEN), nn.ReLU()
            ),
            "attention": Attention,
            "pooling": lambda: nn.AvgPool1d(3, stride=1, padding=1),
        }
        self.embed = nn.Conv1d(8, TOKEN, 1)
        self.norms = nn.ModuleList(nn.BatchNorm1d(TOKEN) for _ in range(4))
        self.blocks = nn.ModuleList(
            LayerChoice({name: made[name] for name in names}, label=label)
            for label, names in self.labels.items()
        )
        self.head = nn.Linear(TOKEN, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.squeeze(1).transpose(1, 2))
        for norm, block in zip(self.norms, self.blocks, strict=False):
            x = x + block(norm(x))
        y: Tensor = self.head(self.norms[3](x).amax(2))
        return y


class Nothing(nn.Module):
    """A residual block that adds nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Attention(nn.Module):
    """Attention of one head, of what stands in rows (N, channels, tokens)."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = nn.Conv1d(TOKEN, 3 * TOKEN, 1)
        self.writes = nn.Conv1d(TOKEN, TOKEN, 1)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.reads(x).chunk(3, dim=1)
        weights = (query.transpose(1, 2) @ key / TOKEN**0.5).softmax(2)
        y: Tensor = self.writes((weights @ value.transpose(1, 2)).transpose(1, 2))
        return y


def normalised(layer: nn.Module, *after: nn.Module) -> nn.Sequential:
    """Return a layer and a batch norm, and what comes after them."""
    return nn.Sequential(layer, nn.BatchNorm2d(WIDTH), *after)


@cache
def digits_task(noise: float, copies: int, *, negatives: bool) -> Task:
    """Return digits to train on, to choose by, and for the truth.

    Of the latter two there are some copies, each always under the same noise.
    """
    x, y = load_digits(return_X_y=True)
    images, labels = torch.from_numpy(x).float().reshape(-1, 1, 8, 8) / 8 - 1, torch.from_numpy(y)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(images), generator=generator)
    parts = torch.tensor_split(order, [TRAINED, TRAINED + CHOSEN_BY])
    jitter = Jitter(noise=noise)
    if negatives:
        images = images - images.mean()

    def augment(batch: Tensor, generator: torch.Generator) -> Tensor:
        if negatives:
            signs = torch.randint(2, (len(batch), 1, 1, 1), generator=generator) * 2 - 1
            batch = batch * signs
        return jitter(batch, generator)

    def seen(part: Tensor) -> TensorDataset:
        part = part.repeat(copies)
        return TensorDataset(augment(images[part], generator), labels[part])

    return Task.classification(
        TensorDataset(images[parts[0]], labels[parts[0]]),
        seen(parts[1]),
        seen(parts[2]),
        augment=augment,
        batch_size=64,
        optimizer=partial(torch.optim.SGD, lr=0.03, momentum=0.9, weight_decay=1e-3),
    )


@dataclass(frozen=True)
class Problem:
    """A space with a table of what each of its networks reaches when it is trained by itself.

    Attributes
    ----------
    name
        Of the problem.
    whole
        The class of the space that the table is about.
    task
        Makes what networks are trained for.
    table
        The name of the file; by architecture as :attr:`archs` lists them, by training.
    within
        The condition on architectures, given the space.
    """

    name: str
    whole: Any
    task: Callable[[], Task]
    table: str
    within: Callable[[Any], Any] | None = None

    def space(self) -> Any:
        """Return the space, with weights that are drawn now."""
        made = self.whole()
        return made if self.within is None else made.where(self.within(made))

    @cached_property
    def archs(self) -> list[dict[str, str]]:
        """All architectures of the problem."""
        space = self.space()
        return [arch for arch in archs_of(self.whole) if space.contains(arch)]

    @property
    def file(self) -> Path:
        """Where the table is."""
        return DATA / self.table

    @cached_property
    def _rows(self) -> dict[str, Array]:
        table = json.loads(self.file.read_text())
        everything = archs_of(self.whole)
        rows = [everything.index(arch) for arch in self.archs]
        return {split: np.array(table[split])[rows] for split in ("validation", "test")}

    @property
    def validation(self) -> Array:
        """Accuracies on the images to choose by: a row a network, a column a training."""
        return self._rows["validation"]

    @property
    def test(self) -> Array:
        """As :attr:`validation`, on those for the truth."""
        return self._rows["test"]

    @cached_property
    def truth(self) -> Array:
        """What each network is worth."""
        found: Array = self.test.mean(1)
        return found

    @cached_property
    def place(self) -> Array:
        """The true rank of each network, from 1."""
        return ranks(self.truth)

    @cached_property
    def upper(self) -> Array:
        """Which networks are in the better half."""
        half: Array = self.place <= len(self.archs) // 2
        return half

    @property
    def good(self) -> int:
        """How many networks are the best 2 %."""
        return max(1, round(0.02 * len(self.archs)))

    @cached_property
    def costs(self) -> Array:
        """Multiply-adds of each network."""
        cost = macs(self.whole(), (1, 8, 8))
        return np.array([cost.evaluate(arch) for arch in self.archs])

    def ceiling(self, where: Array | None = None) -> float:
        """Return Kendall's tau between two trainings, the mean over their pairs."""
        test = self.test if where is None else self.test[where]
        return mean(tau(test[:, i], test[:, j]) for i, j in combinations(range(test.shape[1]), 2))

    def second_training(self, draws: int = 2000) -> float:
        """Return how often one more training of all networks would find one of the best 2 %.

        It picks by the images to choose by; what is truly the best is told by the trainings that
        it did not take part in.  Which training that is, is drawn network by network.
        """
        generator = np.random.default_rng(0)
        rows = np.arange(len(self.archs))
        hits = 0
        for _ in range(draws):
            column = generator.integers(self.test.shape[1], size=len(rows))
            others = (self.test.sum(1) - self.test[rows, column]) / (self.test.shape[1] - 1)
            found = int(self.validation[rows, column].argmax())
            hits += int(ranks(others)[found] <= self.good)
        return hits / draws


def ranks(scores: Array) -> Array:
    """Return the rank of each, from 1 for the highest."""
    found: Array = (-scores).argsort(kind="stable").argsort() + 1
    return found


def tau(one: Any, other: Any) -> float:
    """Return Kendall's tau; 0 where one of the two does not tell any apart."""
    found = float(kendalltau(one, other).statistic)
    return 0.0 if np.isnan(found) else found


def archs_of(whole: Any) -> list[dict[str, str]]:
    """Return all architectures of a space of choices, the last label fastest."""
    return [
        dict(zip(whole.labels, names, strict=True)) for names in product(*whole.labels.values())
    ]


def _two_convolutions(space: Any) -> Any:
    return sum(_is_conv(symbol) for symbol in space.symbols().values()) == 2


def _is_conv(symbol: Any) -> Any:
    return MutableExpression.switch_case(symbol, {"conv": 1, "average": 0, "maximum": 0})


_DIGITS = partial(digits_task, 0.8, 4, negatives=False)
_SIGNS = partial(digits_task, 0.6, 2, negatives=True)
_MIXERS = partial(digits_task, 0.5, 2, negatives=False)
PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("digits", Digits, _DIGITS, "oneshot_digits.json"),
        Problem("two", Digits, _DIGITS, "oneshot_digits.json", _two_convolutions),
        Problem("signs", Signs, _SIGNS, "oneshot_signs.json"),
        Problem("mixers", Mixers, _MIXERS, "oneshot_mixers.json"),
    )
}


# -- the tables ------------------------------------------------------------------------------


def alone(problem: Problem, arch: Mapping[str, str], seed: int) -> dict[str, float]:
    """Return the accuracies of a network that is trained by itself."""
    torch.manual_seed(seed)
    network, task = problem.whole.frozen_factory(arch)(), problem.task()
    fit(network, task, steps=ALONE, seed=seed)
    return _accuracies(network, task)


def _accuracies(network: nn.Module, task: Task) -> dict[str, float]:
    splits = ("validation", "test")
    return {split: round(evaluate(network, task, split)["accuracy"], 4) for split in splits}


def together(problem: Problem, arch: Mapping[str, str], seeds: Sequence[int]) -> dict[str, Any]:
    """Return the accuracies of several trainings by split, as :func:`alone` does one by one.

    Nothing in networks this small takes as long as calling it, so what is called once for all
    trainings is nearly as fast as one.  Each has its own initial weights, batches and noise.
    """
    task, networks = problem.task(), []
    for seed in seeds:
        torch.manual_seed(seed)
        networks.append(problem.whole.frozen_factory(arch)())
    weights, buffers = stack_module_state(networks)
    optimizer = task.optimizer([{"params": list(weights.values())}])
    assert task.schedule is not None
    schedule = task.schedule(optimizer, ALONE)
    assert schedule is not None
    streams = [training_batches(task.train, task.batch_size, seed=seed) for seed in seeds]

    def loss(weights: Any, buffers: Any, x: Tensor, y: Tensor) -> Tensor:
        output = functional_call(networks[0], (weights, buffers), (x,))
        return nn.functional.cross_entropy(output, y)

    for step in range(ALONE):
        batches = []
        for seed, stream in zip(seeds, streams, strict=True):
            noise = generator_of(seed, "train/augment/0", step, torch.device("cpu"))
            batches.append(task.augmented(next(stream), noise))
        x, y = (torch.stack(part) for part in zip(*batches, strict=True))
        optimizer.zero_grad()
        torch.autograd.backward(vmap(loss)(weights, buffers, x, y).sum())
        optimizer.step()
        schedule.step()
    found = []
    for place, network in enumerate(networks):
        network.load_state_dict({k: v[place] for k, v in {**weights, **buffers}.items()})
        found.append(_accuracies(network, task))
    return {split: [one[split] for one in found] for split in found[0]}


def make_table(name: str, trainings: int, folder: Path) -> None:
    """Train all networks of a problem, some times each, and write the table."""
    folder.mkdir(parents=True, exist_ok=True)
    problem, file = PROBLEMS[name], folder / f"{name}-table.json"
    archs, rows = archs_of(problem.whole), []
    if file.exists():
        rows = json.loads(file.read_text())
    for number in range(len(rows), len(archs)):
        rows.append(together(problem, archs[number], range(trainings)))
        if number % 12 == 11 or number + 1 == len(archs):
            file.write_text(json.dumps(rows))
            print(f"{number + 1} of {len(archs)}", flush=True)
    about = f"python -m benchmarks.oneshot_problems {name}; by label, the last fastest"
    columns = {split: [row[split] for row in rows] for split in ("validation", "test")}
    lines = [f' "{split}": {json.dumps(column)}' for split, column in columns.items()]
    problem.file.write_text(f'{{"about": "{about}",\n' + ",\n".join(lines) + "}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("problem", choices=["digits", "signs", "mixers"])
    parser.add_argument("--trainings", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path("build/oneshot"))
    arguments = parser.parse_args()
    use_one_thread()
    make_table(arguments.problem, arguments.trainings, arguments.cache)


if __name__ == "__main__":
    main()
