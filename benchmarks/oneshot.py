"""What a step of a one-shot strategy costs, against plain passes and against NNI 3.0.

::

    python -m benchmarks.oneshot [--rows path darts ...] [--out oneshot.json]

Batches of 8 images of 32×32, one thread.  Contestants train networks of the same
architectures, in the same process, in turn; NNI runs in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from benchmarks._measure import (
    Aim,
    Row,
    Spread,
    print_table,
    ratio_row,
    row,
    show_seconds,
    take_turns,
    use_one_thread,
    write_json,
)
from benchmarks._memory import peak_mib
from benchmarks._nni import ROOT, NniMissingError, nni_python, spread
from nas_space.hub import MobileNetV3Space, ProxylessNAS
from nas_space.nn import LayerChoice, Repeat
from nas_space.nn.decisions import Weighted
from nas_space.strategy.oneshot import DARTS, GumbelDARTS, OneShot, Proxyless, RandomOneShot, Run
from nas_space.strategy.oneshot.proxyless import pairs_of
from nas_space.training import Task, Trainer

BATCH, IMAGE, CLASSES, STEPS = 8, 32, 1000, 1000


def the_task() -> Task:
    x = torch.randn(2 * BATCH, 3, IMAGE, IMAGE)
    data = TensorDataset(x, torch.randint(CLASSES, (2 * BATCH,)))
    return Task.classification(data, validation=data, batch_size=BATCH)


@cache
def space_of(kind: Callable[..., Any]) -> Any:
    torch.manual_seed(0)
    return kind(num_labels=CLASSES)


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(BATCH, 3, IMAGE, IMAGE), torch.randint(CLASSES, (BATCH,))


def passes(network: nn.Module, x: Tensor, y: Tensor) -> None:
    """Forward and backward."""
    torch.autograd.backward(cross_entropy(network(x), y))


class Along(RandomOneShot):
    """Draws a path as ever, and then takes the one it is told, which is known beforehand."""

    arch: Any = None

    def path(self, run: Run) -> AbstractContextManager[Any]:
        self._drawn(run, "path")
        return run.along(self.arch)


def path(kind: Any, limit: float) -> Iterator[Row]:
    """A whole step along a random path, against one of the network alone."""
    space, task, strategy = space_of(kind), the_task(), Along()
    run = Run(strategy, space, task, steps=STEPS)
    cases = [
        (arch, Trainer(space.freeze(arch), task, steps=STEPS)) for arch in space.sample(12, seed=0)
    ]

    def ours(case: Any) -> Callable[[], object]:
        strategy.arch = case[0]
        return run.advance

    def plain(case: Any) -> Callable[[], object]:
        advance: Callable[[], object] = case[1].advance
        return advance

    # Each of them once, for the optimizer to have its state, as it has later on.
    for case in cases:
        ours(case)()
        plain(case)()
    times = take_turns({"ours": ours, "plain": plain}, cases, rounds=4)
    yield ratio_row(
        f"random path on {kind.__name__}, a whole step / of the network alone",
        times,
        "plain",
        Aim("≤", limit),
    )


def compiled() -> Iterator[Row]:
    """A whole step along the shortest path, its regions compiled, against the same as it is."""
    runs = {}
    for name in ("ours", "eager"):
        space, strategy = space_of(ProxylessNAS), Along()
        strategy.arch = {**space.sample(seed=0), **{f"s{stage}_depth": 1 for stage in range(2, 7)}}
        if name == "ours":
            space.compile_regions()
        runs[name] = Run(strategy, space, the_task(), steps=STEPS)
        runs[name].advance()  # compiles
    contestants: Any = {name: lambda _, run=run: run.advance for name, run in runs.items()}
    times = take_turns(contestants, range(12), rounds=4)
    yield ratio_row(
        "random path of seven blocks on ProxylessNAS, a whole step, compiled / eager",
        times,
        "eager",
        Aim("≤", 1.0),
    )


def proxyless(kind: Any) -> Iterator[Row]:
    """A step of the policy along two paths, against passes of the active one."""
    space = space_of(kind)
    run = Run(Proxyless(), space, the_task(), steps=STEPS)
    x, y = batch()

    def ours(step: int) -> Callable[[], object]:
        run.trainer.step = step
        return partial(run.strategy.learn, run)

    def plain(step: int) -> Callable[[], object]:
        run.trainer.step = step
        pairs = pairs_of(run.policy.probabilities(), run.generator("pairs"))
        arch = run.policy.arch({label: pair[0] for label, pair in pairs.items()})
        return partial(passes, space.freeze(space.canonical(arch)), x, y)

    times = take_turns({"ours": ours, "plain": plain}, range(12), rounds=4)
    yield ratio_row(
        f"Proxyless on {kind.__name__}, a step of the policy / passes of its active path",
        times,
        "plain",
        Aim("≤", 2.3),
    )


def weighted_passes(space: Any, run: Run, x: Tensor, y: Tensor) -> None:
    with Weighted({label: p.detach() for label, p in run.policy.probabilities().items()}):
        passes(space, x, y)


def parts_of(space: Any, run: Run, x: Tensor) -> list[tuple[nn.Module, Tensor, Tensor]]:
    """What a mixture runs, each part with what went in, and as much as came out."""
    found: list[tuple[nn.Module, Tensor, Tensor]] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        found.append((module, inputs[0].detach(), torch.randn_like(output)))

    hooks: list[Any] = []

    def watch(module: nn.Module) -> None:
        for child in module.children():
            if isinstance(child, LayerChoice):
                hooks.extend(one.register_forward_hook(note) for one in child)
            elif isinstance(child, Repeat) or any(
                isinstance(inner, LayerChoice) for inner in child.modules()
            ):
                watch(child)
            else:
                hooks.append(child.register_forward_hook(note))

    watch(space)
    try:
        with torch.no_grad(), Weighted(run.policy.probabilities()):
            space(x)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def each(parts: list[tuple[nn.Module, Tensor, Tensor]]) -> None:
    for module, given, gradient in parts:
        torch.autograd.backward(module(given.requires_grad_()), gradient)


def darts_candidates() -> Iterator[Row]:
    """A pass of the mixture, against passes of every candidate by itself."""
    space = space_of(ProxylessNAS).train()
    run = Run(DARTS(), space, the_task(), steps=STEPS)
    x, y = batch()
    parts = parts_of(space, run, x)
    times = take_turns(
        {
            "ours": lambda _: partial(weighted_passes, space, run, x, y),
            "plain": lambda _: partial(each, parts),
        },
        range(6),
        rounds=2,
    )
    space.zero_grad()
    yield ratio_row(
        f"DARTS on ProxylessNAS, one pass / passes of its {len(parts)} parts, one by one",
        times,
        "plain",
        Aim("≤", 1.05),
    )


def largest(space: Any) -> Any:
    from nas_space.profiler import params

    return space.best(params(space), maximize=True)[0].arch


def darts_largest() -> Iterator[Row]:
    """A pass of the mixture, against passes of the largest network."""
    space = space_of(MobileNetV3Space).train()
    run = Run(DARTS(), space, the_task(), steps=STEPS)
    x, y = batch()
    network = space.freeze(largest(space)).train()
    times = take_turns(
        {
            "ours": lambda _: partial(weighted_passes, space, run, x, y),
            "plain": lambda _: partial(passes, network, x, y),
        },
        range(6),
        rounds=2,
    )
    space.zero_grad()
    yield ratio_row(
        "DARTS on MobileNetV3Space, one pass / passes of the largest network",
        times,
        "plain",
        Aim("≤", 1.5),
    )


def steps(kind: Callable[..., Any], strategy: str) -> Iterator[Row]:
    """A whole step of a strategy, against one of the largest network alone.

    Nothing is concatenated in these spaces, so what a mixture keeps of its tensors is to cost
    nothing: the same ratio as in the commit before is what counts, and there is no aim.
    """
    space = space_of(kind).train()
    run = Run(STRATEGIES[strategy](), space, the_task(), steps=STEPS)
    alone = Trainer(space.freeze(largest(space)), the_task(), steps=STEPS)
    run.advance()
    alone.advance()
    times = take_turns(
        {"ours": lambda _: run.advance, "plain": lambda _: alone.advance}, range(4), rounds=1
    )
    space.zero_grad()
    yield ratio_row(
        f"{strategy} on {kind.__name__}, a whole step / of the largest network alone",
        times,
        "plain",
    )


STRATEGIES: dict[str, Callable[[], OneShot]] = {
    "RandomOneShot": RandomOneShot,
    "DARTS": DARTS,
    "GumbelDARTS": GumbelDARTS,
    "Proxyless": Proxyless,
}
SPACES = {"ProxylessNAS": ProxylessNAS, "MobileNetV3Space": MobileNetV3Space}


def whole_steps(space: str, strategy: str) -> dict[str, Any]:
    """Steps of a strategy with Adam, and the memory they take; in a process of its own."""
    imported = peak_mib()
    task = the_task()
    task = Task.classification(
        task.train, task.validation, batch_size=BATCH, optimizer=torch.optim.Adam
    )
    run = Run(STRATEGIES[strategy](), SPACES[space](num_labels=CLASSES), task, steps=STEPS)
    run.advance()
    taken = take_turns({"it": lambda _: run.advance}, range(5), rounds=2)["it"]
    return {
        "step": vars(Spread.of(taken)),
        "imported_mib": imported,
        "peak_mib": peak_mib(),
    }


def in_a_process_of_its_own(python: Path, module: str, space: str, strategy: str) -> dict[str, Any]:
    command = [str(python), "-m", module, "--one-shot", space, strategy]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def against_nni(space: str, strategy: str, aim: float | None) -> Iterator[Row]:
    """A whole step, and the memory it takes above what is imported, against NNI's."""
    what = f"{strategy} on {space}"
    ours = in_a_process_of_its_own(Path(sys.executable), "benchmarks.oneshot", space, strategy)
    above = ours["peak_mib"] - ours["imported_mib"]
    mine = Spread(**ours["step"])
    try:
        nni = in_a_process_of_its_own(nni_python(), "benchmarks.nni_baseline", space, strategy)
    except NniMissingError as missing:
        yield Row(what, show_seconds(mine.median), note=str(missing))
        return
    if "error" in nni:
        yield Row(what, f"{show_seconds(mine.median)}, {above} MiB", note=f"NNI: {nni['error']}")
        return
    theirs = spread(nni["step"])
    theirs_above = nni["peak_mib"] - nni["imported_mib"]
    faster = Spread(
        theirs.median / mine.median,
        theirs.low / mine.high,
        theirs.high / mine.low,
        theirs.minimum / mine.maximum,
        theirs.maximum / mine.minimum,
        min(theirs.count, mine.count),
    )
    least = None if aim is None else Aim("≥", aim)
    yield row(f"{what}: NNI's step / ours", mine, theirs, faster, least)
    memory = theirs_above / above
    yield Row(
        f"{what}: NNI's memory above the base / ours",
        f"{above} MiB",
        f"{theirs_above} MiB",
        memory,
        None,
        str(least or ""),
        None if least is None else least.met(memory),
    )


FIGURES: dict[str, Callable[[], Iterator[Row]]] = {
    "path": partial(path, ProxylessNAS, 1.05),
    "elastic-path": partial(path, MobileNetV3Space, 1.35),
    "compiled": compiled,
    "proxyless": partial(proxyless, ProxylessNAS),
    "elastic-proxyless": partial(proxyless, MobileNetV3Space),
    "darts": darts_candidates,
    "elastic-darts": darts_largest,
    **{
        f"steps-{space}-{strategy}": partial(steps, kind, strategy)
        for space, kind in SPACES.items()
        for strategy in STRATEGIES
    },
    "nni-darts": partial(against_nni, "MobileNetV3Space", "DARTS", 10),
    "nni-proxyless": partial(against_nni, "ProxylessNAS", "Proxyless", None),
    "nni-random": partial(against_nni, "ProxylessNAS", "RandomOneShot", None),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=FIGURES, default=list(FIGURES))
    parser.add_argument("--out", type=Path, help="also write the figures there, as JSON")
    parser.add_argument(
        "--one-shot", nargs=2, metavar=("SPACE", "STRATEGY"), help=argparse.SUPPRESS
    )
    arguments = parser.parse_args()
    use_one_thread()
    torch.manual_seed(0)
    if arguments.one_shot:
        print(json.dumps(whole_steps(*arguments.one_shot)))
        return
    rows = [line for name in arguments.rows for line in FIGURES[name]()]
    print_table("One-shot strategies, one thread", rows)
    if arguments.out:
        write_json(arguments.out, rows)


if __name__ == "__main__":
    main()
