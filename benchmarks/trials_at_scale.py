"""Rows of ``python -m benchmarks.trials`` about many trials, and about executors.

*Growth* is the time of a trial after 100 trials and after very many, by processor time. The many
are trials of ``Random``, on which each strategy goes on; the default also within a budget of
multiply-adds, and with these as a second objective. *Report* is the page of a study of as
many. *Executors* is what a trial takes through each of them, on the wall, beside the round trip of
the engine alone. *Speed-up* is the pace of two workers by that of one, for evaluations of 50 ms
that sleep and that compute; the start of the processes, some seconds, is left out.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna

import nas_space as ns
from benchmarks._measure import Row, show_seconds
from nas_space.executors import Processes, Slurm
from nas_space.hub import ProxylessNAS
from nas_space.mutable import Sample
from nas_space.profiler import macs
from nas_space.report.page import write_report
from nas_space.runs import open_run
from nas_space.strategy import (
    LinearThompson,
    ModelAveraging,
    Random,
    RegularizedEvolution,
    Strategy,
)
from nas_space.study import maximize, minimize

_BUSY = 0.05
"""Seconds of an evaluation, for the speed-up."""

_BUDGET = 35e6
"""Multiply-adds, of 14 to 102 million."""

_WINDOW = 100
"""Trials whose median counts."""

GROWING: dict[str, tuple[str, list[type[Strategy]]]] = {
    "": ("", [Random, RegularizedEvolution, LinearThompson, ModelAveraging]),
    "budget": (" within a budget", [ModelAveraging]),
    "two": (" with two objectives", [ModelAveraging]),
}
"""The strategies that are measured, and how, by the ``kind`` of :func:`paces`."""


def worth(_network: object, arch: Sample) -> float:
    """Some number that takes no time, the same in each process."""
    return float(sum(map(len, json.dumps(arch).split("1"))) % 97)


def same(value: int) -> int:
    """What crosses and comes back, for the engine's own round trip."""
    return value


def sleeping(_network: object, arch: Sample) -> float:
    time.sleep(_BUSY)
    return worth(None, arch)


def computing(_network: object, arch: Sample) -> float:
    end = time.process_time() + _BUSY
    while time.process_time() < end:
        pass
    return worth(None, arch)


def paces(
    strategy: Strategy,
    trials: int,
    evaluate: Callable[[Any, Sample], float] = worth,
    *,
    clock: Callable[[], float] = time.process_time,
    kind: str = "",
    **given: Any,
) -> list[float]:
    """Seconds from the end of each trial to the end of the next.

    ``kind`` is empty, or says that there is a *budget* of multiply-adds or *two* objectives.
    """
    space: Any = ProxylessNAS(num_labels=10, width_mult=0.25)
    if kind:
        cost = macs(space, (3, 224, 224))
        if kind == "budget":
            space = space.where(cost <= _BUDGET)
        else:
            given["objectives"] = [maximize("value"), minimize("macs", cost)]
    ends: list[float] = []
    ns.search(
        space, evaluate, strategy=strategy, trials=trials, weights="none", keep_networks=0,
        progress=False, callbacks=[lambda *_: ends.append(clock())], **given,
    )  # fmt: skip
    return np.diff(ends).tolist()


def growth(most: int, most_in_file: int) -> list[Row]:
    """The time of a trial after 100 trials and after very many, and of a report of the latter."""
    rows = []
    for kind, (how, strategies) in GROWING.items():
        memory: Any = optuna.storages.InMemoryStorage()
        paces(Random(), most, storage=memory, kind=kind)
        for make in strategies:
            early = paces(make(), 100 + _WINDOW, kind=kind)[-_WINDOW:]
            there = len(memory.get_all_trials(0, deepcopy=False))
            late = paces(make(), there + _WINDOW, storage=memory, resume=True, kind=kind)
            what = f"a trial of {make.__name__}{how}, in memory"
            rows.append(_grown(what, early, late[-_WINDOW:], there))
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "search.db")
        every = paces(Random(), most_in_file, storage=store)
        rows.append(
            _grown("a trial of Random, SQLite", every[100:200], every[-_WINDOW:], most_in_file)
        )
        start, wall = time.process_time(), time.perf_counter()
        write_report(open_run(store), Path(folder, "report.html"))
        taken, wall = time.process_time() - start, time.perf_counter() - wall
    rows.append(
        Row(
            f"the report of {most_in_file:,} trials in SQLite",
            ours=show_seconds(taken),
            value=taken,
            aim="≤ 10 s",
            met=taken <= 10,
            note=f"{show_seconds(wall)} on the wall",
        )
    )
    return rows


def _grown(what: str, early: list[float], late: list[float], trials: int) -> Row:
    before, after = float(np.median(early)), float(np.median(late))
    means = [show_seconds(float(np.mean(some))) for some in (early, late)]
    return Row(
        f"{what}: after 100 trials, and after {trials:,}",
        ours=show_seconds(after),
        other=f"{show_seconds(before)} after 100",
        value=after / before,
        aim="≤ 1.5 times",
        met=after <= 1.5 * before,
        note=f"on average {means[0]} and {means[1]}",
    )


def executors(trials: int = 200) -> list[Row]:
    """What a trial that evaluates nothing takes through each executor, on the wall."""
    rows = []
    for name, (make, few) in _engines().items():
        number = few or trials
        try:
            with make() as executor:
                executor.submit(same, 1).result()  # its process is begun
                alone = []
                for _ in range(number):
                    start = time.perf_counter()
                    executor.submit(same, 1).result()
                    alone.append(time.perf_counter() - start)
                given: dict[str, Any] = {"executor": executor, "clock": time.perf_counter}
                taken = paces(Random(), number + 2, workers=1, **given)[1:]
        except (ImportError, ns.errors.NasSpaceError) as error:
            rows.append(Row(f"a trial through {name}", note=str(error)))
            continue
        ours, theirs = float(np.median(taken)), float(np.median(alone))
        rows.append(
            Row(
                f"a trial through {name}, one at a time",
                ours=show_seconds(ours),
                other=f"{show_seconds(theirs)} a bare round trip",
                value=(ours - theirs) * 1e3,
                note=f"{show_seconds(max(0.0, ours - theirs))} of our own",
            )
        )
    return rows


def _engines() -> dict[str, tuple[Callable[[], AbstractContextManager[Executor]], int]]:
    """Name to what makes an executor of one worker, and of how few trials it is tried, if few."""

    def loky() -> AbstractContextManager[Executor]:
        from loky import ProcessPoolExecutor

        pool: AbstractContextManager[Executor] = ProcessPoolExecutor(1)
        return pool

    def dask() -> AbstractContextManager[Executor]:
        import distributed

        client: Any = distributed.Client(  # type: ignore[no-untyped-call]
            n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=50
        )
        executor: Executor = client.get_executor(pure=False)
        return _Opened(executor, client.shutdown)

    def ray() -> AbstractContextManager[Executor]:
        import ray

        os.environ.setdefault("PYTHONPATH", str(Path.cwd()))
        return _Opened(ns.executors.Ray(workers=1), ray.shutdown)

    def submitit() -> AbstractContextManager[Executor]:
        folder = tempfile.mkdtemp()
        return Slurm(folder, 1, cluster="local", timeout_min=5)

    return {
        "processes": (partial(Processes, 1), 0),
        "loky": (loky, 0),
        "Dask": (dask, 0),
        "Ray": (ray, 50),
        "submitit, local": (submitit, 4),
    }


class _Opened(AbstractContextManager[Executor]):
    """An executor with what has to be closed after it."""

    def __init__(self, executor: Executor, close: Callable[[], object]) -> None:
        self.executor, self.close = executor, close

    def __enter__(self) -> Executor:
        return self.executor

    def __exit__(self, *_: object) -> None:
        self.close()


def speed_up(trials: int = 200) -> list[Row]:
    """The pace of two workers by that of one."""
    rows = []
    for name, evaluate in (("sleep", sleeping), ("compute", computing)):
        rates = []
        for workers in (1, 2):
            given: dict[str, Any] = {"evaluate": evaluate, "clock": time.perf_counter}
            given["executor"] = partial(Processes, workers)
            taken = paces(Random(), trials, **given)[10:]
            rates.append(len(taken) / sum(taken))
        ratio = rates[1] / rates[0]
        rows.append(
            Row(
                f"two workers by one, evaluations that {name} 50 ms",
                ours=f"{ratio:.2f}",
                value=ratio,
                aim="≥ 1.8",
                met=ratio >= 1.8,
                note=f"{rates[0]:.1f} and {rates[1]:.1f} trials a second",
            )
        )
    return rows
