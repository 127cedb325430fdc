"""Time the files beside this script, where nothing is installed but Python 3.10 and a runtime.

``device_kit`` copies it there as ``measure.py``. Files are read in turns (A B A B ...), so that
what disturbs the device for a while disturbs all of them; within a turn the fastest of a few runs
counts, over the turns the median. Turns go on until two halves of the readings rank the files
alike.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["main"]

_LONG = 2e-3
"""Seconds that the runs of one turn take together at least."""

Run = Callable[[], Any]


def _onnxruntime(path: Path, inputs: list[Any], threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for entry, array in zip(session.get_inputs(), inputs, strict=True):
        binding.bind_cpu_input(entry.name, array)
    for entry in session.get_outputs():
        binding.bind_output(entry.name)
    return lambda: session.run_with_iobinding(binding)


def _openvino(path: Path, inputs: list[Any], threads: int) -> Run:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 0 if threads == 1 else 1,  # the thread that calls computes
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = openvino.Core().compile_model(str(path), "CPU", settings).create_infer_request()
    for place, array in enumerate(inputs):
        request.set_input_tensor(place, openvino.Tensor(array, shared_memory=False))
    return request.infer  # type: ignore[no-any-return]


def _litert(path: Path, inputs: list[Any], threads: int) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    details = interpreter.get_signature_runner().get_input_details()
    names = sorted(details, key=lambda name: int(name.rpartition("_")[2]))
    for name, array in zip(names, inputs, strict=True):
        # Whole numbers are of 32 bits there.
        interpreter.set_tensor(details[name]["index"], array.astype(details[name]["dtype"]))
    return interpreter.invoke  # type: ignore[no-any-return]


_RUNTIMES: dict[str, Any] = {
    "onnxruntime": (_onnxruntime, "onnxruntime"),
    "openvino": (_openvino, "openvino"),
    "litert": (_litert, "ai-edge-litert"),
}


def _made(tensors: list[Any]) -> list[Any]:
    """Return inputs of some shapes and types: random ones, zeros where they are whole numbers."""
    draw = np.random.default_rng(0)
    found = []
    for shape, kind in tensors:
        dtype = np.dtype(kind)
        values = draw.standard_normal(shape) if dtype.kind == "f" else np.zeros(shape)
        found.append(np.ascontiguousarray(values.astype(dtype)))
    return found


def _fastest(run: Run, times: int) -> float:
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def _rank_correlation(one: Any, other: Any) -> float:
    first, second = (np.argsort(np.argsort(values)).astype(float) for values in (one, other))
    return float(np.corrcoef(first, second)[0, 1]) if len(one) > 1 else 1.0


def _measured(runs: list[Run], turns: int, most: int) -> Any:
    """Return the milliseconds of each, and how well two halves of the readings agree."""
    for run in runs:
        for _ in range(3):
            run()
    typical = float(np.median([_fastest(run, 1) for run in runs]))
    times = int(min(1000, max(1, np.ceil(_LONG / max(typical, 1e-9)))))
    readings: list[Any] = []
    while True:
        readings += [[_fastest(run, times) for run in runs] for _ in range(turns)]
        halves = [np.median(np.array(readings[k::2]), axis=0) for k in (0, 1)]
        agreement = _rank_correlation(*halves)
        if agreement >= 0.98 or len(readings) >= most:
            return 1000 * np.median(np.array(readings), axis=0), agreement


def _fill(path: Path, milliseconds: dict[str, float]) -> None:
    """Fill in a list of files; it is replaced when all is written."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({**row, "milliseconds": f"{milliseconds[row['file']]:.6g}"})
    part.replace(path)


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="on how many a file runs")
    parser.add_argument("--turns", type=int, default=30, help="before the halves are compared")
    parser.add_argument("--most", type=int, default=300, help="turns in all, at most")
    given = parser.parse_args()
    if given.threads < 1 or not 2 <= given.turns <= given.most:
        parser.error("threads is 1 or more, and turns 2 or more, no more than --most")
    here = Path(__file__).resolve().parent
    head = json.loads((here / "kit.json").read_text(encoding="utf-8"))
    load, package = _RUNTIMES[head["about"]["runtime"]]
    names = list(head["tensors"])
    runs = [load(here / name, _made(head["tensors"][name]), given.threads) for name in names]
    sys.stdout.write(f"{len(runs)} files, {given.turns} turns or more\n")
    found, agreement = _measured(runs, given.turns, given.most)
    milliseconds = {name: float(value) for name, value in zip(names, found, strict=True)}
    with (here / "blocks.csv").open(encoding="utf-8", newline="") as stream:
        keys = {row["key"]: row["file"] for row in csv.DictReader(stream)}
    table = {
        "format": "nas_space latency table, version 1",
        "unit": "ms",
        **head["about"],
        "version": metadata.version(package),
        "device": "cpu: " + (platform.processor() or platform.machine()),
        "threads": given.threads,
        "steady": agreement >= 0.98,
        "blocks": {key: milliseconds[file] for key, file in keys.items()},
    }
    _fill(here / "blocks.csv", milliseconds)
    if (here / "networks.csv").exists():
        _fill(here / "networks.csv", milliseconds)
    # The last, for it is what says that all was measured; what is JSON is YAML as well.
    (here / "latency.yaml").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"two halves of the readings agree to {agreement:.3f} (Spearman)\n")
    if agreement < 0.98:
        sys.stdout.write("the device is too noisy: end other programs, or allow --most more\n")


if __name__ == "__main__":
    main()
