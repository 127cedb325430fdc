"""From a budget in milliseconds to a file that runs within it."""

from __future__ import annotations

import tempfile
from typing import Any

import nas_space as ns
from nas_space.hub import ProxylessNAS
from nas_space.profiler import (
    TimingTarget,
    calibrate_latency,
    latency,
    measure_latency,
)
from nas_space.training import Task, load_data


def main(
    networks: int = 30,
    trials: int = 10,
    epochs: int = 5,
    repeats: int = 30,
    runtime: str = "onnxruntime",
) -> Any:
    """Search for what is fast on a runtime; write it, and see how long it takes."""
    splits = load_data("digits")
    space = ProxylessNAS(num_labels=10, width_mult=0.25)
    shape = splits.input_shape
    given: dict[str, Any] = {"input_shape": shape, "repeats": repeats, "progress": False}
    table = measure_latency(space, runtime=runtime, threads=1, **given)
    table = calibrate_latency(space, table, networks, **given)
    print(table.correction)
    time = latency(space, table)  # of an architecture, in microseconds
    budget = 1.25 * space.bounds(time).minimum
    fast = space.where(time <= budget)
    print(f"{fast.count():,} of {space.count():,} are within {budget / 1000:.3f} ms")
    evaluate = ns.study.from_scratch(Task.classification(splits), epochs=epochs)
    result = ns.search(fast, evaluate, trials=trials, strategy="random")
    network: Any = result.network()
    network = network.to("cpu").eval()
    image = splits.test[0][0][None]
    with tempfile.TemporaryDirectory() as folder:
        print(ns.export(network, runtime, image, folder, dynamic_batch=False))
    [(measured, _)] = TimingTarget(runtime, 1).time([("found", network, ((image,), {}))])
    promised = time.evaluate(result.best()) / 1000
    print(f"promised {promised:.3f} ms, measured {measured:.3f} ms")
    return result


if __name__ == "__main__":
    main()
