"""What a search asks of an executor beside ``submit``."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

__all__ = ["WorkerDiedError", "capacity_of", "pending", "settle"]


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
        workers = sum(client.nthreads().values())
    return workers if isinstance(workers, int) and workers > 0 else None


def pending(cancel: Callable[[], object]) -> Future[Any]:
    """Return the future of a task elsewhere, which is cancelled with it."""
    future: Future[Any] = Future()
    future.add_done_callback(lambda done: cancel() if done.cancelled() else None)
    return future


def settle(future: Future[Any], result: Any, error: BaseException | None = None) -> None:
    """Tell what came of a task, unless nobody waits for it any more."""
    if not future.set_running_or_notify_cancel():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
