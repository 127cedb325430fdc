"""``Dask``: tasks of a client of Dask."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from ..lazy import installed
from .base import TaskExecutor, WorkerDiedError

__all__ = ["Dask", "adapted"]

_PATIENCE = 30.0
"""Seconds that a scheduler has to answer."""


class Dask(TaskExecutor):
    """Evaluates as tasks of Dask, on the workers that a client knows.

    ``client.get_executor()`` does so too, and is taken for this one: its own futures never end
    where a result is lost with its worker and cannot be computed again (distributed 2026.8), and
    a search would wait for them without end.

    Parameters
    ----------
    client
        A ``distributed.Client``, or the address of a scheduler, such as ``'tcp://host:8786'``; then
        one is made, and closed when the executor is shut down.
    options
        More for ``client.submit``, such as ``resources`` or ``workers``.  Tasks are not pure: two
        evaluations of one architecture are two.

    Raises
    ------
    OSError
        Nobody answers at the address.
    UsageError
        Dask's package ``distributed`` is not installed.
    """

    def __init__(self, client: Any, **options: Any) -> None:
        self._is_made_here = isinstance(client, str)
        if self._is_made_here:
            client = installed("distributed", "dask").Client(client, timeout=_PATIENCE)
        self._client = client
        self._options = {**options, "pure": False}
        super().__init__()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        with warnings.catch_warnings():
            # What is large is sent once to a worker, which keeps it.
            warnings.filterwarnings("ignore", "Sending large graph")
            task = self._client.submit(fn, *args, **kwargs, **self._options)
        future = self._future_of(task, task.cancel)
        threading.Thread(target=self._wait, args=(future, task), daemon=True).start()
        return future

    def _wait(self, future: Future[Any], task: Any) -> None:
        try:
            self._settle(future, task.result())
        except asyncio.CancelledError as lost:  # with the scheduler, or by whoever else uses it
            self._settle(future, error=WorkerDiedError(f"the task is no more: {lost}"))
        except BaseException as raised:  # noqa: BLE001 - of the task, or that workers died of it
            self._settle(future, error=raised)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait, cancel_futures=cancel_futures)
        if self._is_made_here:
            self._client.close()


def adapted(executor: Executor) -> Executor:
    """Return :class:`Dask` for the executor of a client of Dask, and any other as it is."""
    kind, client = type(executor), getattr(executor, "_client", None)
    if client is None or not kind.__module__.startswith("distributed."):
        return executor
    return Dask(client, **getattr(executor, "_kwargs", {}))
