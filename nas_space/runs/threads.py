"""How many threads a run computes with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["threads_for"]

_PER_THREAD = 200e6
"""Multiply-adds of a batch, forward, that are worth a thread."""


@contextmanager
def threads_for(multiply_adds: float) -> Iterator[int]:
    """Enter a context where torch has no more threads than a step of training has work for.

    At each operation threads wait for each other. Where operations are short, that takes more than
    they save: the small networks of the demo took 2.4 times the processor time with two threads
    that they take with one, on a machine of two cores that did other work as well.

    Parameters
    ----------
    multiply_adds
        Of a batch, forward.

    Examples
    --------
    >>> with threads_for(128 * 0.8e6) as threads:
    ...     print(threads, torch.get_num_threads())
    1 1
    """
    before = torch.get_num_threads()
    threads = max(1, min(before, round(multiply_adds / _PER_THREAD)))
    torch.set_num_threads(threads)
    try:
        yield threads
    finally:
        torch.set_num_threads(before)
