"""Everything that NNI 3.0 was measured at, here and there, side by side.

::

    python -m benchmarks.nni [--rows import trunk profiler oneshot] [--spaces ProxylessNAS ...]
                             [--out nni.json]

Each line is a ratio out of one run: NNI is measured in an environment of its own right after
ours, by the same code where that is possible, in processor time on one thread.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks._measure import (
    Row,
    Spread,
    print_table,
    row,
    take_turns,
    use_one_thread,
    write_json,
)
from benchmarks._nni import measure_nni, nni_python, spread
from benchmarks.nni_baseline import ROWS, SPACES, STRATEGIES, layer_constructors, same
from benchmarks.oneshot import against_nni

IMPORT = (
    "import time, torch; start = time.process_time(); import nas_space.hub; "
    "print(time.process_time() - start)"
)


def times(prepare: Callable[[Any], Callable[[], object]], cases: Any, rounds: int = 3) -> Spread:
    return Spread.of(take_turns({"it": prepare}, cases, rounds)["it"])


def import_time() -> Spread:
    """Importing the hub where torch is there already, in fresh processes."""
    command = [sys.executable, "-c", IMPORT]
    printed = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(4)
    ]
    return Spread.of([float(text) for text in printed[1:]])  # The first one finds cold files.


def build_fresh(cls: Any, arch: dict[str, Any]) -> object:
    return cls.frozen_factory(arch)()


def trunk(name: str) -> dict[str, Spread]:
    """Building, sampling, freezing."""
    import nas_space.hub

    cls = getattr(nas_space.hub, name)
    space = cls()
    archs = list(space.sample(8, seed=0))
    layers = [layer_constructors(space.freeze(arch)) for arch in archs[:4]]
    return {
        "dict": times(partial(same, space.sample), [None], 7),
        "simplify": times(partial(same, space.simplify), [None], 5),
        "build": times(partial(same, cls), range(5), 2),
        "random": times(partial(same, space.random), range(8), 1),
        "freeze": times(lambda arch: partial(space.freeze, arch), archs, 1),
        "frozen_factory": times(lambda arch: partial(build_fresh, cls, arch), archs, 2),
        "layers by hand": times(lambda all_: lambda: [build() for build in all_], layers, 4),
    }


def profiler(name: str) -> dict[str, Spread]:
    """The FLOPs profiler, and one answer of it."""
    import nas_space.hub
    from nas_space.interop.nni_compat import FlopsProfiler

    cls = getattr(nas_space.hub, name)
    space = cls()
    image = torch.randn(1, 3, 224, 224)
    built = FlopsProfiler(space, image)
    return {
        # Of a new space each time: what was found out about one is remembered.
        "profiler": times(lambda _: partial(FlopsProfiler, cls(), image), range(3)),
        "flops": times(lambda arch: partial(built.profile, arch), list(space.sample(8, seed=0))),
    }


WHAT = {
    "build": "build the space",
    "random": "space.random(): a network each",
    "freeze": "space.freeze(arch)",
    "frozen_factory": "frozen_factory(arch)()",
    "layers by hand": "the same layers by hand, with torch.nn",
    "dict": "only the dict, cheapest way",
    "simplify": "simplify()",
    "flops": "FLOPs of one architecture",
    "profiler": "building the FLOPs profiler",
}


def line(what: str, ours: Spread, theirs: dict[str, Any]) -> Row:
    """How many times what ours takes NNI takes; the quartiles are the worst of both sides."""
    other = spread(theirs)
    ratio = Spread(
        other.median / ours.median,
        other.low / ours.high,
        other.high / ours.low,
        other.minimum / ours.maximum,
        other.maximum / ours.minimum,
        min(other.count, ours.count),
    )
    return row(what, ours, other, ratio)


def side_by_side(rows: Sequence[str], spaces: Sequence[str]) -> Iterator[Row]:
    """Every line, as it is measured."""
    if "import" in rows:
        ours = import_time()
        theirs = measure_nni(["import"], SPACES)["import"]
        yield line("import of the hub, on top of torch", ours, theirs)
    for name in spaces:
        for kind, measure in (("trunk", trunk), ("profiler", profiler)):
            if kind not in rows:
                continue
            mine = measure(name)
            figures = measure_nni([kind], [name])[name]
            for key, what in WHAT.items():
                if key in mine:
                    yield line(f"{name}: {what}", mine[key], figures[key])
        if "oneshot" in rows:
            for strategy in STRATEGIES:
                yield from against_nni(name, strategy, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--spaces", nargs="+", choices=SPACES, default=SPACES)
    parser.add_argument("--out", type=Path, help="also write the figures there, as JSON")
    arguments = parser.parse_args()
    nni_python()  # before minutes are spent
    use_one_thread()
    torch.manual_seed(0)
    rows = []
    for one in side_by_side(arguments.rows, arguments.spaces):
        print(one.what, one.ours, one.other, file=sys.stderr)
        rows.append(one)
    print_table("NNI 3.0 / ours, one thread", rows)
    if arguments.out:
        write_json(arguments.out, rows)


if __name__ == "__main__":
    main()
