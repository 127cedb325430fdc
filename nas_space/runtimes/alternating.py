"""Times of several callables, taken in turns, until two halves of the readings agree.

What else a machine does makes some stretches of time slow. Callables that are read one after the
other are slowed by different amounts, which looks like a difference between them; read in turns
(A B A B ...) all are slowed alike. Within a turn the fastest of several runs counts, since others
can only lengthen a run, and over the turns the lower quartile, since now and then a run is faster
than can be had again.

What runs on one thread is bound to one processor, and its clock is that of the processor: the time
that it would take if it were alone there. On the wall's clock, of two processors with fifteen busy
programs, most runs of a few milliseconds are interrupted, and then say nothing.
"""

from __future__ import annotations

import math
import os
import time
import timeit
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..errors import UsageError
from ..mutable.factors import Array

__all__ = ["Reader", "Turns", "on_cpu", "rank_correlation", "time_in_turns"]

Reader = Callable[[Callable[[], Any], int], float]
"""Runs something so many times, and gives the seconds that one run took."""

_LONG = 2e-3
"""Seconds that the runs of one turn take together at least."""

_FEWEST_RUNS = 3
"""Runs of one turn at least: the first one finds what others left in the caches."""

_FIRST = 3
"""Runs by which it is found how many there are in a turn."""

_FEW = 5
"""Callables below which ranks say little: then only their times can agree."""

_SAME = 0.01
"""The relative difference up to which two times are taken for the same."""


@dataclass(frozen=True)
class Turns:
    """Times of callables that were read in turns.

    Attributes
    ----------
    readings
        Seconds of a run, of shape ``(turns, callables)``.
    agrees
        Whether two halves of the readings agree as was asked.
    """

    readings: Array
    agrees: bool

    @property
    def milliseconds(self) -> Array:
        """What counts as the time of each callable: the lower quartile over its turns."""
        return _quartile(self.readings)

    @property
    def median(self) -> Array:
        """Milliseconds of each callable, the median over its turns."""
        found: Array = 1000 * np.median(self.readings, axis=0)
        return found

    @property
    def minimum(self) -> Array:
        """Milliseconds of each callable, the least of its turns."""
        found: Array = 1000 * self.readings.min(axis=0)
        return found

    @property
    def halves(self) -> tuple[Array, Array]:
        """Milliseconds of each callable, by every other turn and by those between."""
        return _quartile(self.readings[::2]), _quartile(self.readings[1::2])

    @property
    def agreement(self) -> float:
        """Spearman's correlation of the two halves; 1 where there is nothing to rank."""
        return rank_correlation(*self.halves) if len(self.readings) > 1 else math.nan


def time_in_turns(
    runs: Sequence[Callable[[], Any]],
    *,
    turns: int = 30,
    most: int | None = None,
    agreement: float = 0.98,
    warmup: int = 3,
    read: Reader | None = None,
    pinned: bool = True,
    seconds: float | None = None,
) -> Turns:
    """Time callables in turns, until both halves of the readings say the same.

    They say the same if they rank the callables alike, or if all times differ by less than 1 %.

    Parameters
    ----------
    runs
        What is timed: functions without arguments.
    turns
        How many there are before the halves are compared, and again each time that they do not
        agree.
    most
        How many there are in all at most; by default ten times as many.
    agreement
        The least rank correlation (Spearman's) between the halves.
    warmup
        How often each runs before.
    read
        How a number of runs is timed; the fastest of them on the CPU by default.
    pinned
        Whether to bind this thread to one processor meanwhile, and to read the processor time of
        this process, where the system can do that; not for what runs on several threads.
    seconds
        For a quick figure: how long to go on after the first ``turns``, whether or not the halves
        agree.

    Returns
    -------
    Turns
        The readings. If the halves still disagree in the end, a warning says that the machine is
        too noisy, unless it was to be quick.

    Raises
    ------
    UsageError
        If there is nothing to time, or the numbers make no sense.

    Examples
    --------
    >>> found = time_in_turns([lambda: sum(range(10)), lambda: sum(range(1000))], turns=1, most=1)
    >>> found.readings.shape, bool((found.milliseconds > 0).all())
    ((1, 2), True)
    """
    most = 10 * turns if most is None else most
    if not runs or warmup < 0 or not 1 <= turns <= most or not 0 <= agreement <= 1:
        raise UsageError(
            "something to time is needed, 1 turn or more, no fewer at most, and a correlation from "
            f"0 to 1, but got {len(runs)} callables, turns={turns}, most={most}, warmup={warmup}, "
            f"agreement={agreement}"
        )
    # Halves are every other turn and those between, so that a machine which slows down over minutes
    # slows both alike. With ``seconds``, whether they agree is told, but not waited for.
    read = read or partial(on_cpu, clock=_clock(pinned))
    readings: list[list[float]] = []
    with _on_one_processor() if pinned else nullcontext():
        times = _times(runs, warmup, read)
        end = time.perf_counter() + (seconds or 0)
        while True:
            more = turns if seconds is None or not readings else 1
            readings += [
                [read(run, times) for run in runs] for _ in range(min(more, most - len(readings)))
            ]
            found = Turns(np.array(readings), True)
            agrees = most == 1 or (len(readings) > 1 and _agree(found, agreement))
            late = len(readings) >= most or (seconds is not None and time.perf_counter() >= end)
            if late or (agrees and seconds is None):
                break
    if agrees or seconds is not None:
        return Turns(found.readings, agrees)
    warnings.warn(
        f"the machine is too noisy: after {most} turns two halves of the readings of {len(runs)} "
        f"programs agree to {found.agreement:.3f} (Spearman), and {agreement:g} was asked; end "
        "other programs, or allow more turns",
        stacklevel=2,
    )
    return Turns(found.readings, False)


def on_cpu(run: Callable[[], Any], times: int, clock: Callable[[], float]) -> float:
    """Return the seconds that the fastest of some runs takes, by a clock."""
    return min(timeit.repeat(run, timer=clock, repeat=times, number=1))


def _clock(pinned: bool) -> Callable[[], float]:
    # Elsewhere than on Linux, that of the process goes in steps of milliseconds.
    return time.process_time if pinned and hasattr(os, "sched_setaffinity") else time.perf_counter


def rank_correlation(one: Any, other: Any) -> float:
    """Return Spearman's rank correlation; 1 where both are constant, 0 where one of them is.

    Examples
    --------
    >>> rank_correlation([1, 2, 3], [10, 20, 40]), rank_correlation([1, 1, 1], [1, 2, 3])
    (1.0, 0.0)
    """
    from scipy.stats import rankdata

    ranks = [rankdata(values) for values in (one, other)]
    ranks = [values - values.mean() for values in ranks]
    sizes = [float(values @ values) for values in ranks]
    if not all(sizes):
        return float(not any(sizes))
    return float(ranks[0] @ ranks[1] / math.sqrt(math.prod(sizes)))


def _quartile(readings: Array) -> Array:
    found: Array = 1000 * np.quantile(readings, 0.25, axis=0)
    return found


def _times(runs: Sequence[Callable[[], Any]], warmup: int, read: Reader) -> int:
    """Return the number of runs of each in one turn.

    That is the same for all: the fastest of more runs is faster, on a machine that does other
    things as well.
    """
    for run in runs:
        for _ in range(warmup):
            run()
    taken = float(np.median([read(run, _FIRST) for run in runs]))
    return math.ceil(min(1000, max(_FEWEST_RUNS, _LONG / max(taken, 1e-9))))


def _agree(found: Turns, agreement: float) -> bool:
    """Tell whether the two halves of the readings agree."""
    one, other = found.halves
    if np.all(np.abs(one - other) <= _SAME * np.maximum(one, other)):
        return True
    return len(one) >= _FEW and found.agreement >= agreement


@contextmanager
def _on_one_processor() -> Iterator[None]:
    """Keep this thread on one processor: each move to another costs it its caches."""
    try:
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(before)})
    except (AttributeError, OSError):  # not Linux, or not allowed
        yield
        return
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
