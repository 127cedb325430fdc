"""What NNI 3.0 costs, measured in its own environment.

Run from the root of the repository, by the Python where NNI is installed (see
``requirements-nni.txt``)::

    .venv-nni/bin/python -m benchmarks.nni_baseline --out nni.json

Nothing of this project's library is imported. The other benchmarks start this file
themselves, so that both sides are measured within the same minutes.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks._measure import Contestant, Spread, Thunk, environment, take_turns, use_one_thread
from benchmarks._memory import limit_memory_to_available, peak_mib

SPACES = ("ProxylessNAS", "MobileNetV3Space")
STRATEGIES = ("RandomOneShot", "DARTS", "GumbelDARTS", "Proxyless")
ROWS = ("import", "trunk", "profiler", "oneshot")

BATCH_SIZE, IMAGE_SIZE, NUM_CLASSES = 8, 32, 1000
MIN_STEPS, MAX_STEPS, MAX_SECONDS = 3, 30, 20.0
"""A strategy trains for so many steps; for fewer where these take longer than that."""


def measure(prepare: Contestant[Any], cases: Sequence[Any], rounds: int = 3) -> dict[str, Any]:
    """Seconds per call, over all cases and rounds."""
    return asdict(Spread.of(take_turns({"it": prepare}, cases, rounds)["it"]))


def same(thunk: Thunk, _: object) -> Thunk:
    """Prepare nothing: the thunk is the same for every case."""
    return thunk


def samplers(space: Any) -> dict[str, Callable[[], dict[str, Any]]]:
    """Every way NNI has to draw only the dict, without the network.

    A `RandomState` of one's own is what makes it cheap: without, each label makes another.
    """
    from nni.mutable import MutableDict
    from numpy.random import RandomState

    state = RandomState(0)
    symbols = space.simplify()
    together = MutableDict(symbols)
    in_turn = tuple(symbols.values())

    def with_memo() -> dict[str, Any]:
        memo: dict[str, Any] = {}
        for symbol in in_turn:
            symbol.random(memo, state)
        return memo

    return {
        "symbols sharing a memo": with_memo,
        "symbols on their own": lambda: {s.label: s.random(random_state=state) for s in in_turn},
        "MutableDict": lambda: together.random(random_state=state),
    }


def layer_constructors(network: nn.Module) -> list[Callable[[], nn.Module]]:
    """For each layer of a network, what builds its like."""

    def constructor(layer: nn.Module) -> Callable[[], nn.Module]:
        if isinstance(layer, nn.Conv2d):
            return partial(
                nn.Conv2d,
                layer.in_channels,
                layer.out_channels,
                layer.kernel_size,  # type: ignore[arg-type]
                layer.stride,  # type: ignore[arg-type]
                layer.padding,  # type: ignore[arg-type]
                layer.dilation,  # type: ignore[arg-type]
                layer.groups,
                layer.bias is not None,
            )
        if isinstance(layer, nn.BatchNorm2d):
            return partial(nn.BatchNorm2d, layer.num_features, layer.eps, layer.momentum)
        if isinstance(layer, nn.Linear):
            return partial(nn.Linear, layer.in_features, layer.out_features, layer.bias is not None)
        if isinstance(layer, nn.AdaptiveAvgPool2d):
            return partial(nn.AdaptiveAvgPool2d, layer.output_size)
        return type(layer)

    return [constructor(layer) for layer in network.modules() if not list(layer.children())]


def trunk(space_name: str) -> dict[str, Any]:
    """Building, sampling, freezing."""
    from nni.nas.hub import pytorch as hub

    cls = getattr(hub, space_name)
    space = cls()
    ways = samplers(space)
    contestants: dict[str, Contestant[Any]] = {
        name: partial(same, way) for name, way in ways.items()
    }
    times = take_turns(contestants, [None], 7)
    dict_only = {name: asdict(Spread.of(values)) for name, values in times.items()}
    cheapest = min(dict_only, key=lambda name: dict_only[name]["median"])

    def fresh(sample: dict[str, Any]) -> nn.Module:
        network: nn.Module = cls.frozen_factory(sample)()
        return network

    samples = [ways["symbols sharing a memo"]() for _ in range(8)]
    layers = [layer_constructors(fresh(sample)) for sample in samples[:4]]
    return {
        "dict": {**dict_only[cheapest], "way": cheapest},
        "simplify": measure(partial(same, space.simplify), [None], 5),
        "build": measure(partial(same, cls), range(5), 2),
        "random": measure(partial(same, space.random), range(8), 1),
        "freeze": measure(lambda sample: partial(space.freeze, sample), samples, 1),
        "frozen_factory": measure(lambda sample: partial(fresh, sample), samples, 2),
        "layers by hand": measure(lambda all_: lambda: [build() for build in all_], layers, 4),
    }


def profiler(space_name: str) -> dict[str, Any]:
    """The FLOPs profiler, and one answer of it."""
    from nni.nas.hub import pytorch as hub
    from nni.nas.profiler.pytorch.flops import FlopsProfiler

    space = getattr(hub, space_name)()
    image = torch.randn(1, 3, 224, 224)
    built = FlopsProfiler(space, image)
    draw = samplers(space)["symbols sharing a memo"]
    samples = [draw() for _ in range(8)]
    return {
        "profiler": measure(partial(same, partial(FlopsProfiler, space, image)), [None]),
        "flops": measure(lambda sample: partial(built.profile, sample), samples),
    }


def import_time() -> dict[str, Any]:
    """Importing the hub where torch is there already, in fresh processes."""
    program = (
        "import time, torch; start = time.process_time(); import nni.nas.hub.pytorch; "
        "print(time.process_time() - start)"
    )
    taken = [float(last_line(run([sys.executable, "-c", program]))) for _ in range(4)]
    return asdict(Spread.of(taken[1:]))  # The first one finds cold files.


def one_shot(space_name: str, strategy_name: str) -> dict[str, Any]:
    """Train a supernet for some steps under Lightning; time each, and watch the memory.

    Adam, cross-entropy and accuracy, as NNI's classification evaluator has them. To be run
    in a process of its own.
    """
    from nni.nas import strategy as strategies
    from nni.nas.evaluator.pytorch import Classification, DataLoader
    from nni.nas.hub import pytorch as hub
    from pytorch_lightning.callbacks import Callback
    from torch.utils.data import TensorDataset

    class Clock(Callback):  # type: ignore[misc, unused-ignore]
        """Times every step, and ends the training when there are enough."""

        def __init__(self) -> None:
            self.steps: list[float] = []
            self.start = 0.0

        def on_train_batch_start(self, *_: Any) -> None:
            self.start = time.process_time()

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            self.steps.append(time.process_time() - self.start)
            taken = self.steps[1:]  # The first step meets cold memory.
            trainer.should_stop = len(taken) >= MIN_STEPS and sum(taken) > MAX_SECONDS

    use_one_thread()
    imported = peak_mib()
    limit_memory_to_available()
    n = BATCH_SIZE * (MAX_STEPS + 1)
    images = torch.randn(n, 3, IMAGE_SIZE, IMAGE_SIZE)
    dataset = TensorDataset(images, torch.randint(NUM_CLASSES, (n,)))
    clock = Clock()
    evaluator = Classification(
        train_dataloaders=DataLoader(dataset, batch_size=BATCH_SIZE),
        val_dataloaders=DataLoader(dataset, batch_size=BATCH_SIZE),
        num_classes=NUM_CLASSES,
        max_epochs=1,
        min_epochs=0,
        callbacks=[clock],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )
    strategy = getattr(strategies, strategy_name)()
    supernet = strategy.mutate_model(getattr(hub, space_name)(num_labels=NUM_CLASSES))
    strategy.mutate_evaluator(evaluator).evaluate(supernet)
    return {
        "step": asdict(Spread.of(clock.steps[1:])),
        "imported_mib": imported,
        "peak_mib": peak_mib(),
    }


def run(command: list[str]) -> str:
    """The output of a command, its complaints to be seen only if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def in_a_process_of_its_own(space_name: str, strategy_name: str) -> dict[str, Any]:
    """:func:`one_shot`, or how it ended."""
    command = [sys.executable, "-m", "benchmarks.nni_baseline", "--one-shot"]
    answer: dict[str, Any] = json.loads(last_line(run([*command, space_name, strategy_name])))
    return answer


def measure_all(rows: Sequence[str], spaces: Sequence[str]) -> dict[str, Any]:
    """Everything asked for, as plain data."""
    import nni

    use_one_thread()
    result: dict[str, Any] = {"environment": {**environment(), "nni": nni.__version__}}
    if "import" in rows:
        result["import"] = import_time()
    for space in spaces:
        figures: dict[str, Any] = {}
        if "trunk" in rows:
            figures |= trunk(space)
        if "profiler" in rows:
            figures |= profiler(space)
        if "oneshot" in rows:
            figures["oneshot"] = {s: in_a_process_of_its_own(space, s) for s in STRATEGIES}
        result[space] = figures
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="where the figures go, as JSON (default: printed)")
    parser.add_argument("--rows", nargs="+", choices=(*ROWS, "all"), default=["all"])
    parser.add_argument("--spaces", nargs="+", choices=SPACES, default=SPACES)
    parser.add_argument(
        "--one-shot", nargs=2, metavar=("SPACE", "STRATEGY"), help=argparse.SUPPRESS
    )
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)

    if arguments.one_shot:
        try:
            answer = one_shot(*arguments.one_shot)
        except Exception as error:  # noqa: BLE001 - Which strategies fail, and how, is one of the findings.
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(answer))
        return

    rows = ROWS if "all" in arguments.rows else arguments.rows
    text = json.dumps(measure_all(rows, arguments.spaces), indent=1) + "\n"
    if arguments.out:
        arguments.out.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
