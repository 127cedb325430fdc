"""How long a loaded program takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .base import Program

__all__ = ["Latency", "time_programs"]


@dataclass(frozen=True)
class Latency:
    """Times of single runs, in milliseconds.

    Attributes
    ----------
    minimum, median
        Over the runs. What else the machine does can only lengthen a run, so the minimum is the
        steadier of the two.
    runs
        How many there were.
    threads
        On how many.
    """

    minimum: float
    median: float
    runs: int
    threads: int = 1

    def __str__(self) -> str:
        on = "one thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.minimum:.3g} ms at least, {self.median:.3g} ms at the median, on {on}"


def time_programs(
    programs: Sequence[tuple[Program, Sequence[Tensor]]], *, threads: int = 1, seconds: float = 0.5
) -> list[Latency]:
    """Time single runs of programs, in turns: what disturbs one for a while disturbs all.

    Parameters
    ----------
    programs
        As :meth:`Runtime.load` gives them, each with its inputs.
    threads
        What they were loaded with, to be told.
    seconds
        About how long it may take for each; one runs 5 times at least, and 1000 times at most.
    """
    runs = [program.prepare(*inputs) for program, inputs in programs]
    for run in runs:
        for _ in range(3):
            run()
    times: list[list[float]] = [[] for _ in runs]
    end = time.perf_counter() + seconds * len(runs)
    for turn in range(1000):
        if turn >= 5 and time.perf_counter() > end:
            break
        for run, taken in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            taken.append(1000 * (time.perf_counter() - start))
    return [Latency(min(t), statistics.median(t), len(t), threads) for t in times]
