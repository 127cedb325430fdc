"""Timing with care: contestants take turns, on the same cases, in one process.

A shared machine slows down and speeds up while one measures. So a comparison never
times one contestant after the other: each case is run by all of them in a row, forwards
and backwards alternately, and what counts is the median of the ratios within a case.
This file needs no more than the standard library and torch, so that it also runs in
the environment of whatever one compares with.
"""

from __future__ import annotations

import gc
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

Case = TypeVar("Case")
Thunk = Callable[[], object]
Contestant = Callable[[Case], Thunk]
"""Prepares a case, off the clock, and returns what is to be timed."""


@dataclass(frozen=True)
class Spread:
    """The median of some measurements, their quartiles, and the extremes."""

    median: float
    low: float
    high: float
    minimum: float
    maximum: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        low, median, high = (
            statistics.quantiles(values, n=4, method="inclusive")
            if len(values) > 1
            else (values[0],) * 3
        )
        return cls(median, low, high, min(values), max(values), len(values))


def use_one_thread() -> None:
    """Hold torch to one thread, as every figure here is reported."""
    torch.set_num_threads(1)


def seconds(thunk: Thunk, number: int = 1) -> float:
    """Seconds of processor time that one of `number` calls takes, without garbage collection.

    On one thread and an idle machine that is the time on the wall; on a busy one it leaves
    out the turns of others. What the last call returns is let go of after the clock has stopped.
    """
    gc.collect()
    gc.disable()
    try:
        start = time.process_time()
        for _ in range(number):
            result = thunk()
        elapsed = time.process_time() - start
    finally:
        gc.enable()
    del result
    return elapsed / number


def repetitions(thunk: Thunk, at_least: float) -> int:
    """How many calls together take `at_least` so many seconds."""
    number = 1
    while True:
        elapsed = seconds(thunk, number) * number
        if elapsed >= at_least or number >= 1_000_000:
            return number
        number = max(number + 1, math.ceil(number * min(10.0, 1.1 * at_least / elapsed)))


def take_turns(
    contestants: Mapping[str, Contestant[Case]],
    cases: Sequence[Case],
    rounds: int = 3,
    at_least: float = 0.005,
) -> dict[str, list[float]]:
    """Time every contestant on every case, `rounds` times over.

    Returns seconds per call, in the same order of cases for each contestant. Calls that
    take less than `at_least` seconds are repeated within one measurement.
    """
    numbers = {}
    for name, prepare in contestants.items():
        thunk = prepare(cases[0])
        thunk()
        numbers[name] = repetitions(thunk, at_least)
    gc.collect()
    gc.freeze()  # What is alive by now need not be walked through before every measurement.
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    try:
        for _ in range(rounds):
            for case in cases:
                for name in order:
                    taken[name].append(seconds(contestants[name](case), numbers[name]))
                order.reverse()
    finally:
        gc.unfreeze()
    return taken


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Spread of the ratios, measurement by measurement."""
    return Spread.of([a / b for a, b in zip(numerators, denominators, strict=True)])


@dataclass(frozen=True)
class Aim:
    """What a figure should be: at most, or at least, a limit."""

    relation: Literal["≤", "≥"]
    limit: float

    def met(self, value: float) -> bool:
        return value <= self.limit if self.relation == "≤" else value >= self.limit

    def __str__(self) -> str:
        return f"{self.relation} {self.limit:,g}"


@dataclass(frozen=True)
class Row:
    """One line of a table: two measurements, the figure made of them, and its aim.

    `met` is ``None`` where nothing can be said, and `note` then tells why.
    """

    what: str
    ours: str = ""
    other: str = ""
    value: float | None = None
    spread: tuple[float, float] | None = None
    aim: str = ""
    met: bool | None = None
    note: str = ""


def row(
    what: str, ours: Spread, other: Spread, ratio: Spread, aim: Aim | None = None, note: str = ""
) -> Row:
    """A line for a ratio of two times."""
    return Row(
        what,
        show_seconds(ours.median),
        show_seconds(other.median),
        ratio.median,
        (ratio.low, ratio.high),
        str(aim or ""),
        aim.met(ratio.median) if aim else None,
        note,
    )


def ratio_row(
    what: str,
    times: Mapping[str, list[float]],
    other: str,
    aim: Aim | None = None,
    ours: str = "ours",
) -> Row:
    """A line for two contestants that took turns: see :func:`take_turns`."""
    one, two = times[ours], times[other]
    return row(what, Spread.of(one), Spread.of(two), ratios(one, two), aim)


def show_seconds(value: float) -> str:
    """Seconds for people: ``'3.21 ms'``."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def show_number(value: float) -> str:
    """Three digits of a number, and no exponent: ``'0.291'``, ``'1,230,000'``."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def environment() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
    }


def print_table(title: str, rows: Sequence[Row]) -> None:
    """Print the rows, and below them the notes of those that have one."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for header, justify in (
        ("what", "left"),
        ("ours", "right"),
        ("other", "right"),
        ("figure", "right"),
        ("quartiles", "right"),
        ("aim", "right"),
        ("met", "left"),
    ):
        table.add_column(header, justify=justify, overflow="fold")  # type: ignore[arg-type]
    verdict = {True: "[green]yes[/]", False: "[red]no[/]", None: "–"}
    for row in rows:
        table.add_row(
            row.what,
            row.ours,
            row.other,
            "" if row.value is None else show_number(row.value),
            "" if row.spread is None else " … ".join(map(show_number, row.spread)),
            row.aim,
            verdict[row.met],
        )
    console = Console(width=None if os.isatty(1) else 140)
    console.print(table)
    for row in rows:
        if row.note:
            console.print(f"{row.what}: {row.note}", highlight=False)


def write_json(path: Path, rows: Sequence[Row], **others: object) -> None:
    """Write the rows and where they were measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"environment": environment(), "rows": [asdict(row) for row in rows], **others}
    path.write_text(json.dumps(content, indent=1) + "\n")
