"""How long a loaded program takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .alternating import time_in_turns
from .base import Program

__all__ = ["Latency", "time_programs"]


@dataclass(frozen=True)
class Latency:
    """Times of a run, in milliseconds.

    Attributes
    ----------
    minimum, median
        Over the runs that count: the fastest of each turn.
    runs
        How many these are.
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
    """Time programs in turns, as long as a quick figure is worth; see :func:`time_in_turns`.

    Parameters
    ----------
    programs
        As :meth:`Runtime.load` gives them, each with its inputs.
    threads
        What they were loaded with.
    seconds
        About how long it may take for each; there are 5 turns at least, and 1000 at most.
    """
    runs = [program.prepare(*inputs) for program, inputs in programs]
    found = time_in_turns(
        runs, turns=5, most=1000, pinned=threads == 1, seconds=seconds * len(runs)
    )
    return [
        Latency(float(minimum), float(median), len(found.readings), threads)
        for minimum, median in zip(found.minimum, found.median, strict=True)
    ]
