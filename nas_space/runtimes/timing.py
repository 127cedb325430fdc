"""How long a loaded program takes."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from torch import Tensor

from .base import Program

__all__ = ["Latency", "time_program"]


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


def time_program(
    program: Program, inputs: list[Tensor], *, threads: int = 1, seconds: float = 0.5
) -> Latency:
    """Time single runs of a program, one after the other.

    Parameters
    ----------
    program
        As :meth:`Runtime.load` gives it.
    inputs
        Its tensors.
    threads
        What it was loaded with, to be told.
    seconds
        About how long it may take; it runs 5 times at least, and 1000 times at most.
    """
    run = program.prepare(*inputs)
    for _ in range(3):
        run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or (time.perf_counter() < end and len(times) < 1000):
        start = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - start))
    return Latency(min(times), statistics.median(times), len(times), threads)
