"""What ``nas_space.elastic`` finds in the networks that it is tested on, as a table.

``python -m benchmarks.elastic`` writes ``docs/compression-coverage.md``.  Beside it stands what
Model Optimizer and Torch-Pruning do with the same networks, in an environment where these are
installed (``pip install nvidia-modelopt torch-pruning``).
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import signal
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

import nas_space as ns
from nas_space.compression.calling import arguments_of, call
from tests.compression.networks import NETWORKS

HEAD = """# Networks that are known to convert

Made by `python -m benchmarks.elastic`, on networks with random weights of small configurations, but
where real weights are named. *Widths* and *depths* are labels that vary; each was cut, at its
smallest and together with the others at random. *Fixed at outputs* are those that
`outputs="free"` would let vary as well. *Held* are labels that a trial, or what is known of the
order of channels, did not admit. Seconds are of one processor core, for the analysis and all
trials. Model Optimizer: how many hyperparameters it finds, with the same parts and multiples of 8
(by default, of 32). Torch-Pruning: how many groups it finds without hints, and whether the forward
runs after half of each is cut; or what it raises. Without caches of keys and values, which it
cannot follow, and for at most 20 seconds. {versions}.

| network | widths | depths | fixed at outputs | held | s | Model Optimizer | Torch-Pruning |
|---|---|---|---|---|---|---|---|
"""


PATIENCE = 20
"""Seconds of processor time after which no more is waited for another library."""


def _enough(*_: Any) -> None:
    raise TimeoutError


def row(name: str) -> str:
    net, inputs = NETWORKS[name]()
    start = time.process_time()
    space = ns.elastic(net, inputs)
    seconds = time.process_time() - start
    groups = space.groups()
    widths = sum(group.kind == "width" for group in groups)
    outer = sum("outputs='free'" in str(group.reason) for group in groups.fixed)
    held = sum(
        "does not run" in str(g.reason) or "not known" in str(g.reason) for g in groups.fixed
    )
    return (
        f"| {name} | {widths} | {len(groups) - widths} | {outer} | {held} "
        f"| {seconds:.1f} | {optimizer(net)} | {pruning(net, inputs)} |"
    )


def optimizer(net: nn.Module) -> str:
    """Return how many hyperparameters Model Optimizer finds, with our parts and our divisor."""
    try:
        import modelopt.torch.nas as mtn
        from modelopt.torch.opt.conversion import ApplyModeError
        from modelopt.torch.opt.utils import named_hparams
    except ImportError:
        return "not installed"
    parts = (0.5, 0.75, 1.0)  # its own divisor of 32 would leave nothing of networks this small
    channels = {"channels_ratio": parts, "kernel_size": (), "channel_divisor": 8}
    features = {"features_ratio": parts, "feature_divisor": 8}
    rules = {"nn.Conv2d": channels, "nn.BatchNorm2d": features, "nn.Linear": features}
    config = {name: {"*": rule} for name, rule in rules.items()}
    try:
        found = mtn.convert(copy.deepcopy(net), mode=[("autonas", config)])
    except ApplyModeError as error:
        return "0" if "configurable hyperparameters" in str(error) else f"error: {error}"[:60]
    except Exception as error:  # noqa: BLE001 - what it does is what is told
        return type(error).__name__
    named = named_hparams(found, configurable=True)
    return str(sum(len(parameter.choices) > 1 for _, parameter in named))


def pruning(net: nn.Module, inputs: Any) -> str:
    """Return how many groups Torch-Pruning finds, and whether what it cuts by half runs."""
    try:
        import torch_pruning
    except ImportError:
        return "not installed"
    cut = copy.deepcopy(net)
    config: Any = getattr(cut, "config", None)
    if config is not None:
        config.use_cache = False  # it follows what is returned, and a cache is no tensor
    args, kwargs = arguments_of(inputs)
    example = kwargs or (args if len(args) > 1 else args[0])
    try:
        signal.setitimer(signal.ITIMER_PROF, PATIENCE)
        importance = torch_pruning.importance.MagnitudeImportance()
        pruner = torch_pruning.pruner.MagnitudePruner(
            cut, example, importance=importance, pruning_ratio=0.5
        )
        groups = len(list(pruner.DG.get_all_groups()))
        pruner.step()
    except TimeoutError:
        return f"none in {PATIENCE} s"
    except Exception as error:  # noqa: BLE001
        return type(error).__name__
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    try:
        with torch.no_grad():
            call(cut, inputs)
    except Exception:  # noqa: BLE001
        return f"{groups}, does not run"
    return f"{groups}, runs"


def versions() -> str:
    """Return the versions of what the table depends on."""
    found = []
    for name in ("torch", "transformers", "nvidia-modelopt", "torch-pruning"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return ", ".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/compression-coverage.md"))
    parser.add_argument("names", nargs="*", help="only these networks, to the screen")
    options = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGPROF, _enough)
    rows = []
    for name in options.names or NETWORKS:
        try:
            rows.append(row(name))
        except ImportError as error:
            rows.append(f"| {name} | not installed: {error.name} | | | | | | |")
        except Exception as error:  # noqa: BLE001 - a network that does not convert is a finding
            rows.append(f"| {name} | {type(error).__name__}: {str(error)[:80]} | | | | | | |")
        print(rows[-1], flush=True)
    if not options.names:
        head = HEAD.replace("{versions}", versions())
        options.out.write_text(head + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
