"""What building, sampling, freezing and running a ProxylessNAS space costs.

::

    python -m benchmarks.trunk [--rows freeze forward ...] [--out trunk.json]

Each figure is a ratio, taken in this one process, on random architectures: against the
same network written by hand (the floor: ``tests/reference_networks.py``) and against
NNI 3.0, measured right after in an environment of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._measure import (
    Aim,
    Row,
    Spread,
    print_table,
    ratio_row,
    ratios,
    row,
    seconds,
    show_number,
    show_seconds,
    take_turns,
    use_one_thread,
    write_json,
)
from benchmarks._nni import NniMissingError, measure_nni, spread
from nas_space.hub import ProxylessNAS
from tests.reference_networks import (
    Architecture,
    ProxylessModules,
    ProxylessNetwork,
    random_architecture,
)

ARCHITECTURES = [random_architecture(Random(seed)) for seed in range(12)]
BATCH, IMAGE = 8, 32

PUBLISHED = {
    "acenas-m1": (4_093_864, 327_351_872),
    "proxyless-cpu": (4_361_648, 439_243_864),
    "proxyless-gpu": (7_119_848, 465_260_160),
    "proxyless-mobile": (4_080_512, 320_427_584),
}
"""Learnable parameters, and multiply-adds of convolutions and linear layers at 3×224×224."""


@cache
def the_space() -> Any:
    return ProxylessNAS()


@cache
def nni() -> dict[str, Any]:
    """NNI's figures, measured when they are first asked for."""
    return measure_nni(["trunk"], ["ProxylessNAS"])


def against_nni(what: str, ours: Spread, figure: str, aim: Aim) -> Row:
    """How many times faster than NNI; the quartiles are the worst of both sides."""
    try:
        measured = nni()["ProxylessNAS"][figure]
    except NniMissingError as missing:
        return Row(what, show_seconds(ours.median), aim=str(aim), note=str(missing))
    other = spread(measured)
    ratio = Spread(
        other.median / ours.median,
        other.low / ours.high,
        other.high / ours.low,
        other.minimum / ours.maximum,
        other.maximum / ours.minimum,
        min(ours.count, other.count),
    )
    return row(what, ours, other, ratio, aim)


def on_meta_and_copied(architecture: Architecture, state: dict[str, Tensor]) -> nn.Module:
    """The quickest way by hand to a network with copies of given weights."""
    with torch.device("meta"):
        network = ProxylessNetwork(architecture, initialised=False)
    network.load_state_dict({key: value.clone() for key, value in state.items()}, assign=True)
    return network


def freeze() -> Iterator[Row]:
    """Freezing with copied weights, against three ways to build the network by hand."""
    space = the_space()
    states = {id(a): space.freeze(a).state_dict() for a in ARCHITECTURES}
    times = take_turns(
        {
            "ours": lambda a: partial(space.freeze, a),
            "hand": lambda a: partial(ProxylessNetwork, a),
            "bare": lambda a: partial(ProxylessNetwork, a, initialised=False),
            "meta": lambda a: partial(on_meta_and_copied, a, states[id(a)]),
        },
        ARCHITECTURES,
        rounds=4,
    )
    for what, other, aim in (
        ("freeze(arch) / by hand, initialised", "hand", Aim("≤", 0.35)),
        ("freeze(arch) / by hand, torch's own initialisation only", "bare", Aim("≤", 0.35)),
        ("freeze(arch) / by hand on meta + copied weights", "meta", Aim("≤", 0.6)),
    ):
        yield ratio_row(what, times, other, aim)


def random() -> Iterator[Row]:
    """A network for a random architecture."""
    space = the_space()
    times = take_turns({"ours": lambda _: space.random}, range(50), rounds=1)["ours"]
    yield against_nni("NNI's random() / random()", Spread.of(times), "random", Aim("≥", 60))


def frozen_factory() -> Iterator[Row]:
    """A network with fresh weights, without the space."""

    def fresh(architecture: Architecture) -> nn.Module:
        network: nn.Module = ProxylessNAS.frozen_factory(architecture)()
        return network

    times = take_turns(
        {
            "ours": lambda a: partial(fresh, a),
            "hand": lambda a: partial(ProxylessNetwork, a),
        },
        ARCHITECTURES,
        rounds=4,
    )
    yield ratio_row("frozen_factory(arch)() / by hand", times, "hand", Aim("≤", 1.15))


def build() -> Iterator[Row]:
    """The space itself, against all of its modules without a choice among them."""
    times = take_turns(
        {"ours": lambda _: ProxylessNAS, "hand": lambda _: ProxylessModules}, range(10), rounds=1
    )
    yield ratio_row("ProxylessNAS() / the same modules by hand", times, "hand", Aim("≤", 1.15))


def sample() -> Iterator[Row]:
    """Architectures alone: one by one, and a million at once."""
    space = the_space()
    times = take_turns(
        {
            "sample()": lambda _: space.sample,
            "sample(seed=…)": lambda seed: partial(space.sample, seed=seed),
        },
        range(10),
    )
    for how, taken in times.items():
        yield against_nni(f"NNI's cheapest dict / {how}", Spread.of(taken), "dict", Aim("≥", 10))

    million = 1_000_000
    taken = [seconds(partial(space.sample, million, seed=seed)) for seed in range(4)][1:]
    rate = Spread.of([million / t for t in taken])
    aim = Aim("≥", million)
    yield Row(
        "sample(1_000_000), architectures a second",
        show_seconds(Spread.of(taken).median),
        "",
        rate.median,
        (rate.low, rate.high),
        str(aim),
        aim.met(rate.median),
    )


def imports() -> Iterator[Row]:
    """Importing the hub where torch is there already, in fresh processes."""
    program = (
        "import time, torch; start = time.process_time(); "
        "from nas_space.hub import ProxylessNAS; print(time.process_time() - start)"
    )
    command = [sys.executable, "-c", program]
    taken = [
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(6)
    ][1:]  # The first one finds cold files, and perhaps no bytecode.
    ours, aim = Spread.of(taken), Aim("≤", 0.15)
    yield Row(
        "import nas_space.hub on top of torch, seconds",
        show_seconds(ours.median),
        "",
        ours.median,
        (ours.low, ours.high),
        str(aim),
        aim.met(ours.median),
    )


def without_gradients(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        y: Tensor = network(x)
    return y


def forward() -> Iterator[Row]:
    """A frozen network runs as the one by hand; noise is how far that is from its twin."""
    x = torch.randn(BATCH, 3, IMAGE, IMAGE)
    cases = []
    for architecture in ARCHITECTURES[:6]:
        ours = the_space().freeze(architecture).eval()
        hand = ProxylessNetwork(architecture).eval()
        hand.load_state_dict(ours.state_dict())
        cases.append({"ours": ours, "hand": hand, "twin": deepcopy(hand)})
    times = take_turns(
        {
            name: partial(lambda name, case: partial(without_gradients, case[name], x), name)
            for name in ("ours", "hand", "twin")
        },
        cases,
        rounds=10,
    )
    ratio = ratios(times["ours"], times["hand"])
    twin = ratios(times["twin"], times["hand"])
    noise = max(abs(twin.low - 1), abs(twin.high - 1))
    yield Row(
        "forward of a frozen network / of the hand-written one",
        show_seconds(Spread.of(times["ours"]).median),
        show_seconds(Spread.of(times["hand"]).median),
        ratio.median,
        (ratio.low, ratio.high),
        f"1 ± {noise:.2g}",
        abs(ratio.median - 1) <= noise,
        f"hand-written twins differ by {twin.low:.3f} … {twin.high:.3f} (quartiles)",
    )


def active_path() -> Iterator[Row]:
    """Training through the space under an architecture, against training the frozen network."""
    space = the_space().train()
    x, labels = torch.randn(BATCH, 3, IMAGE, IMAGE), torch.randint(1000, (BATCH,))

    def step(network: nn.Module) -> None:
        torch.autograd.backward(cross_entropy(network(x), labels))

    def active_step(architecture: Architecture) -> None:
        with space.activate(architecture):
            step(space)

    def prepare_active(case: tuple[Architecture, nn.Module]) -> Callable[[], None]:
        space.zero_grad()
        return partial(active_step, case[0])

    def prepare_frozen(case: tuple[Architecture, nn.Module]) -> Callable[[], None]:
        case[1].zero_grad()
        return partial(step, case[1])

    cases = [(a, space.freeze(a).train()) for a in ARCHITECTURES[:6]]
    times = take_turns({"active": prepare_active, "frozen": prepare_frozen}, cases, rounds=6)
    space.zero_grad()
    yield ratio_row(
        "forward and backward of the active path / of the frozen network",
        times,
        "frozen",
        Aim("≤", 1.05),
        ours="active",
    )


def published() -> Iterator[Row]:
    """Parameters and multiply-adds of the published networks, which are to be met exactly."""
    image = torch.zeros(1, 3, 224, 224)
    for name, (parameters, macs) in PUBLISHED.items():
        network = ProxylessNAS.load_searched_model(name).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(image)
        found = (sum(p.numel() for p in network.parameters()), counter.get_total_flops() // 2)
        yield Row(
            f"{name}: parameters, MACs",
            " ".join(map(show_number, found)),
            " ".join(map(show_number, (parameters, macs))),
            aim="equal",
            met=found == (parameters, macs),
        )


FIGURES: dict[str, Callable[[], Iterator[Row]]] = {
    "freeze": freeze,
    "random": random,
    "frozen_factory": frozen_factory,
    "build": build,
    "sample": sample,
    "import": imports,
    "forward": forward,
    "active": active_path,
    "published": published,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=FIGURES, default=list(FIGURES))
    parser.add_argument("--out", type=Path, help="also write the figures there, as JSON")
    arguments = parser.parse_args()
    use_one_thread()
    torch.manual_seed(0)
    rows = [line for name in arguments.rows for line in FIGURES[name]()]
    print_table("ProxylessNAS, one thread", rows)
    if arguments.out:
        write_json(arguments.out, rows)


if __name__ == "__main__":
    main()
