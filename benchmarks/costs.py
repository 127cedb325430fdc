"""What costs as expressions take, in processor time, and how true sums of latencies are.

::

    python -m benchmarks.costs [--rows look cells proxylessnas mobilenetv3 latency]
        [--out costs.json]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from scipy.stats import spearmanr

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
from benchmarks._nni import NniMissingError, measure_nni, spread
from nas_space.errors import DecompositionError
from nas_space.hub import (
    AutoformerSpace,
    DARTSSpace,
    ENASSpace,
    MobileNetV3Space,
    NasBench101,
    NASNetSpace,
    ProxylessNAS,
    ShuffleNetSpace,
)
from nas_space.profiler import latency, macs, measure_latency, params, profile
from nas_space.profiler.misread import read_otherwise
from nas_space.tables import grid, tabulate

MILLION = 1_000_000
STEADY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 27),
}
"""Has the C library keep the memory it was given. As it is, it gives activations back and has them
cleared anew while a network runs, which takes up to half of the time, of some networks and not of
others."""
IMAGE = (3, 224, 224)


def cold(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of processor time for something that is done, and remembered, once; its result."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def timed(what: str, work: Callable[[], Any], most: float | None = None) -> tuple[Row, Any]:
    seconds, found = cold(work)
    if most is None:
        return Row(what, show_seconds(seconds)), found
    return Row(what, show_seconds(seconds), aim=f"≤ {most:g} s", met=seconds <= most), found


def of_space(make: Any, most_seconds: float, share: float) -> Iterator[Row]:
    """The questions that are asked most, about a restricted space that is made anew."""
    space = make()
    name = make.__name__
    line, cost = timed(f"{name}: macs(space, (3, 224, 224))", lambda: macs(space, IMAGE))
    yield line
    line, size = timed(f"{name}: params(space)", lambda: params(space))
    yield line
    batch = space.sample(MILLION, seed=0)
    table = tabulate(cost)
    table.evaluate(batch[:10])
    yield timed(f"{name}: the cost of a million", lambda: table.evaluate(batch), most_seconds)[0]
    yield from through_the_expression(name, cost, table, batch)
    ends = space.bounds(cost)
    high = ends.minimum + share * (ends.maximum - ends.minimum)
    line, within = timed(
        f"{name}: space.where(0.94 * c <= macs, macs <= c)",
        lambda: space.where(cost >= 0.94 * high, cost <= high),
        most_seconds,
    )
    yield line
    yield timed(f"{name}: ... .sample(1000)", lambda: within.sample(1000, seed=0))[0]
    yield timed(
        f"{name}: ... .sample(1000, over='architectures')",
        lambda: within.sample(1000, over="architectures", seed=0),
    )[0]
    yield timed(f"{name}: the first of its grid", lambda: next(grid(within)))[0]
    for text, work in (
        ("count()", within.count),
        ("best(params, k=10, maximize=True)", lambda: within.best(size, 10, maximize=True)),
        ("pareto(macs, params)", lambda: within.pareto(cost, size, maximize=(False, True))),
    ):
        try:
            yield timed(f"{name}: ... .{text}", work)[0]
        except DecompositionError as error:  # a refusal is a result
            yield Row(f"{name}: ... .{text}", f"refused ({type(error).__name__})")


def through_the_expression(name: str, cost: Any, table: Any, batch: Any) -> Iterator[Row]:
    """What a user writes: beside the table's own look-up, and beside NNI's profiler."""
    contestants = {"ours": cost.evaluate, "table": table.evaluate}
    many = {who: partial(prepared, evaluate) for who, evaluate in contestants.items()}
    what = f"{name}: macs(space, shape).evaluate(a million), and its table's"
    yield ratio_row(what, take_turns(many, [batch], 7), "table", Aim("≤", 1.5))
    what = f"{name}: macs(space, shape).evaluate(one), and NNI's profiler"
    taken = take_turns({"ours": partial(prepared, cost.evaluate)}, list(batch[:8]))
    ours = Spread.of(taken["ours"])
    try:
        theirs = spread(measure_nni(["profiler"], [name])[name]["flops"])
    except NniMissingError as error:
        yield Row(what, show_seconds(ours.median), note=str(error))
        return
    share = [value / theirs.median for value in taken["ours"]]
    yield row(what, ours, theirs, Spread.of(share), Aim("≤", 0.5))


def prepared(work: Callable[[Any], Any], case: Any) -> Callable[[], Any]:
    """What works on a case."""
    return partial(work, case)


def cells() -> Iterator[Row]:
    """Spaces of cells, with all of their widths and numbers of cells."""
    for make, most in (
        (ENASSpace, 10.0),
        (DARTSSpace, 10.0),
        (NASNetSpace, 10.0),
        (NasBench101, 30.0),
    ):
        space: Any = make()
        work = partial(macs, space, make.example_shape)
        yield timed(f"{make.__name__}: macs(space, {make.example_shape})", work, most)[0]


def proxyless() -> Iterator[Row]:
    """ProxylessNAS, restricted to 300 to 320 million multiply-adds."""
    yield from of_space(ProxylessNAS, 1.0, 0.3611)


def mobilenetv3() -> Iterator[Row]:
    """MobileNetV3Space, restricted to a narrow range of multiply-adds."""
    yield from of_space(MobileNetV3Space, 10.0, 0.25)


def spearman() -> Iterator[Row]:
    """The table's sum beside the time of whole networks, on this machine."""
    space = ProxylessNAS()
    table = measure_latency(space, "cpu", IMAGE, progress=False)
    archs = list(space.sample(50, seed=0))
    sums = [latency(space, table).evaluate(arch) for arch in archs]
    networks = [space.freeze(arch).eval() for arch in archs]
    image = torch.zeros(1, *IMAGE)
    readings = np.zeros((9, len(networks)))
    with torch.no_grad():
        for network in networks:
            network(image)
        # In turns, so that what else the machine does hits all alike.
        for turn in readings:
            for place, network in enumerate(networks):
                start = time.perf_counter()
                network(image)
                turn[place] = time.perf_counter() - start
    found = float(spearmanr(sums, np.median(readings, axis=0)).statistic)
    aim = Aim("≥", 0.95)
    what = "Spearman of the sum and the measured latency, 50 architectures"
    yield Row(what, f"{found:.3f}", aim=str(aim), met=aim.met(found))


def look() -> Iterator[Row]:
    """What looking for misread concatenations takes, beside following the space for its costs.

    It is done once for a space and a shape, where something is put together; elsewhere it is not.
    """
    for name, space, shape in (
        ("ProxylessNAS", ProxylessNAS(), IMAGE),
        ("MobileNetV3Space", MobileNetV3Space(), IMAGE),
        ("ShuffleNetSpace, channels searched", ShuffleNetSpace(channel_search=True), IMAGE),
        ("DARTSSpace, widths and cells chosen", DARTSSpace(), (3, 32, 32)),
        ("AutoformerSpace", AutoformerSpace(), IMAGE),
    ):
        spent: list[float] = []

        def timed_look(*args: Any, spent: list[float] = spent) -> list[str]:
            started = time.process_time()
            found = read_otherwise(*args)
            spent.append(time.process_time() - started)
            return found

        with mock.patch("nas_space.profiler.misread.read_otherwise", timed_look):
            whole, followed = cold(partial(profile, space, shape))
        what = (
            f"{name}: the look for misread layers, of following it ({len(followed.misread)} told)"
        )
        looked = sum(spent)  # not at all, where nothing differs
        yield Row(what, show_seconds(looked), show_seconds(whole), looked / whole)


FIGURES: dict[str, Callable[[], Iterator[Row]]] = {
    "look": look,
    "cells": cells,
    "proxylessnas": proxyless,
    "mobilenetv3": mobilenetv3,
    "latency": spearman,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=FIGURES, default=list(FIGURES))
    parser.add_argument("--out", type=Path, help="also write the figures there, as JSON")
    arguments = parser.parse_args()
    if not STEADY.items() <= os.environ.items():
        command = [sys.executable, "-m", "benchmarks.costs", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | STEADY)  # noqa: S606 - this program again
    use_one_thread()
    rows = [line for name in arguments.rows for line in FIGURES[name]()]
    print_table("Costs, one thread", rows)
    if arguments.out:
        write_json(arguments.out, rows)


if __name__ == "__main__":
    main()
