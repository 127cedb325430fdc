"""What a search asks of an executor beside ``submit``."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from concurrent.futures import wait as wait_for
from typing import Any

__all__ = ["TaskExecutor", "WorkerDiedError", "capacity_of"]


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


class TaskExecutor(Executor):
    """What runs tasks of an engine elsewhere, whose own futures are not those of Python.

    A future is pending until its task has ended, so that cancelling it cancels the task.
    """

    def __init__(self) -> None:
        self._tasks: dict[Future[Any], Any] = {}

    def _future_of(self, task: Any, cancel: Callable[[], object]) -> Future[Any]:
        """Return the future of a task that was begun."""
        future: Future[Any] = Future()
        future.add_done_callback(lambda done: cancel() if done.cancelled() else None)
        self._tasks[future] = task
        return future

    def _settle(
        self, future: Future[Any], result: Any = None, error: BaseException | None = None
    ) -> None:
        """Tell what came of a task, once, unless nobody waits for it any more."""
        if self._tasks.pop(future, None) is None or not future.set_running_or_notify_cancel():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for what still runs, or cancel it; the engine is left as it is."""
        if wait and not cancel_futures:
            wait_for(list(self._tasks))
        for future in list(self._tasks):
            future.cancel()
            self._settle(future)
