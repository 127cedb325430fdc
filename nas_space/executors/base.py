"""What a search asks of an executor beside ``submit``."""

from __future__ import annotations

from concurrent.futures import Executor

__all__ = ["WorkerDiedError", "capacity_of"]


class WorkerDiedError(Exception):
    """The process or the machine that had a task is no more; other tasks are not concerned."""


def capacity_of(executor: Executor) -> int | None:
    """Return how many tasks an executor runs at once, as far as it tells; ``None`` if not.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> capacity_of(ThreadPoolExecutor(3))
    3
    """
    workers = getattr(executor, "_max_workers", None)  # of the standard library, loky's, ours
    client = getattr(executor, "_client", None)  # Dask's
    if workers is None and client is not None:
        workers = sum(client.nthreads().values()) or None
    return workers
