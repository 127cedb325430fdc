"""How true tables of latencies are on the runtimes that networks are deployed on.

::

    python -m benchmarks.latency [--runtimes onnxruntime openvino] [--cache build/latency]

ProxylessNAS of half the width on 64×64 images, one thread. Twenty random architectures, and forty
within 5 % of one number of multiply-adds, none of which any table has seen, are loaded twice each
and timed in turns: two loads of one network differ (memory lies elsewhere), so what one load says
of the other is the most that anything can be held to. Predicted are they by multiply-adds, by the
sum of blocks timed in torch, as it was the only way before, by the sum of the runtime's own blocks,
and by the table that whole networks corrected. The first two say no milliseconds: for their errors
they are scaled by the factor that suits them best.

What was measured is kept in the cache, so a run that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks._measure import Aim, Row, print_table, use_one_thread, write_json
from nas_space.hub import ProxylessNAS
from nas_space.profiler import (
    LatencyTable,
    TimingTarget,
    blocks,
    calibrate_latency,
    latency,
    macs,
    measure_latency,
)
from nas_space.runtimes.alternating import rank_correlation

Array = npt.NDArray[np.float64]

IMAGE = (3, 64, 64)
RANDOM, ALIKE, LOADS = 20, 40, 2


def kept(path: Path, make: Callable[[], LatencyTable]) -> LatencyTable:
    """A table in the cache, made if it is not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        start = time.process_time()
        table = make()
        table.about["seconds"] = round(time.process_time() - start, 1)
        table.write(path)
    return LatencyTable.read(path)


def drawn(space: Any) -> list[Any]:
    """Random architectures, and such within 5 % of what half of random ones need."""
    cost = macs(space, IMAGE)
    middle = float(np.median(cost.evaluate(space.sample(1001, seed=10))))
    alike = space.where(cost >= 0.95 * middle, cost <= 1.05 * middle)
    return [*space.sample(RANDOM, seed=11), *alike.sample(ALIKE, seed=12)]


def measured(space: Any, archs: list[Any], runtime: str, file: Path) -> tuple[Array, bool]:
    """Milliseconds of networks by each load, and whether they are steady."""
    if not file.exists():
        image = torch.randn(1, *IMAGE, generator=torch.Generator().manual_seed(0))
        found = TimingTarget(runtime, 1).time(
            (str(place), space.freeze(arch).eval(), ((image,), {}))
            for _ in range(LOADS)
            for place, arch in enumerate(archs)
        )
        file.write_text(json.dumps(found))
    found = json.loads(file.read_text())
    times = np.array([one[0] for one in found]).reshape(LOADS, len(archs))
    return times, all(one[1] for one in found)


def of_runtime(space: Any, runtime: str, cache: Path) -> Iterator[Row]:
    """Everything about one runtime."""
    eager = kept(
        cache / "torch.yaml",
        lambda: measure_latency(space, "cpu", IMAGE, runtime="torch", threads=1, progress=False),
    )
    plain = kept(
        cache / f"{runtime}.yaml",
        lambda: measure_latency(space, "cpu", IMAGE, runtime=runtime, threads=1, progress=False),
    )
    corrected = kept(
        cache / f"{runtime}-corrected.yaml",
        lambda: calibrate_latency(space, plain, 30, held_out=20, progress=False),
    )
    yield Row(
        f"{len(plain)} blocks exported, loaded and timed, and 50 whole networks",
        f"{plain.about['seconds']:.0f} s, {corrected.about['seconds']:.0f} s",
    )
    archs = drawn(space)
    times, steady = measured(space, archs, runtime, cache / f"{runtime}-networks.json")
    truth = times.mean(axis=0)
    here = slice(RANDOM), slice(RANDOM, None)
    halves = [rank_correlation(*times[:, part]) for part in here]
    yield Row(
        "one load of the other (the ceiling)",
        f"{halves[0]:.3f}",
        f"{halves[1]:.3f}",
        note="" if steady else "noisy",
    )
    costs = {
        "multiply-adds": (macs(space, IMAGE), True),
        "sum of blocks in torch": (latency(space, eager), True),
        f"sum of blocks in {runtime}": (latency(space, plain), False),
        "corrected by whole networks": (latency(space, corrected), False),
    }
    ranks = {}
    for what, (cost, scaled) in costs.items():
        predicted = np.array([cost.evaluate(arch) for arch in archs]) / 1000
        ranks[what] = [rank_correlation(predicted[part], truth[part]) for part in here]
        ratios = predicted[:RANDOM] / truth[:RANDOM]
        error = float(np.median(np.abs(ratios / (np.median(ratios) if scaled else 1) - 1)))
        known = corrected.correction if what.startswith("corrected") else None
        note = "" if known is None else f"held out: {known.about['spearman']:.3f}"
        yield Row(what, f"{ranks[what][0]:.3f}", f"{ranks[what][1]:.3f}", error, note=note)
    mine, theirs = ranks["corrected by whole networks"], ranks["multiply-adds"]
    yield aimed("Spearman of 20 unseen", mine[0], Aim("≥", max(0.97, theirs[0])))
    yield aimed("median error of 20 unseen", error, Aim("≤", 0.05))
    yield aimed("of the ceiling, within 5 % of multiply-adds", mine[1] / halves[1], Aim("≥", 0.9))


def aimed(what: str, value: float, aim: Aim) -> Row:
    return Row(what, value=value, aim=str(aim), met=aim.met(value))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runtimes", nargs="+", default=["onnxruntime", "openvino"])
    parser.add_argument("--cache", type=Path, default=Path("build/latency"))
    parser.add_argument("--out", type=Path, help="also write the figures there, as JSON")
    arguments = parser.parse_args()
    use_one_thread()
    space = ProxylessNAS(width_mult=0.5)
    assert blocks(space, IMAGE)
    found = []
    for runtime in arguments.runtimes:
        rows = list(of_runtime(space, runtime, arguments.cache))
        print_table(f"{runtime}: Spearman of 20 random, of 40 alike; median error of 20", rows)
        found += rows
    if arguments.out:
        write_json(arguments.out, found)


if __name__ == "__main__":
    main()
