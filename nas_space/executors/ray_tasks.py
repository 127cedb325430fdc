"""``Ray``: tasks on a cluster of Ray."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from ..lazy import installed
from .base import TaskExecutor, WorkerDiedError

__all__ = ["Ray"]


class Ray(TaskExecutor):
    """Evaluates as tasks of Ray, on whichever of its nodes has room.

    Parameters
    ----------
    address
        Of the cluster, as ``ray.init`` takes it: ``'auto'``, ``'ray://head:10001'``; by default the
        one that this process is connected to, or else a new one on this machine.
    num_cpus, num_gpus
        What a task takes; a fraction of a GPU lets several share one.
    workers
        How many tasks run at once; by default as many as the cluster has room for now.
    options
        More for ``ray.remote``, such as ``resources`` or ``scheduling_strategy``.  Ray's own
        retries are off unless asked for by ``max_retries``: the search tries again itself, and
        counts.

    Raises
    ------
    UsageError
        Ray is not installed.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        num_cpus: float = 1,
        num_gpus: float = 0,
        workers: int | None = None,
        **options: Any,
    ) -> None:
        self._ray = installed("ray", "ray")
        if not self._ray.is_initialized():
            self._ray.init(address=address, log_to_driver=False, configure_logging=False)
        options = {"num_cpus": num_cpus, "num_gpus": num_gpus, "max_retries": 0, **options}
        self._remote = self._ray.remote(**options)(_call)  # of Python functions only
        there = self._ray.cluster_resources()
        room = [
            there.get(name, 0) / share
            for name, share in (("CPU", num_cpus), ("GPU", num_gpus))
            if share
        ]
        self._max_workers = workers or max(1, int(min(room, default=1)))
        super().__init__()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        reference = self._remote.remote(fn, *args, **kwargs)
        future = self._future_of(reference, lambda: self._ray.cancel(reference, force=True))
        reference.future().add_done_callback(lambda done: self._ended(future, done))
        return future

    def _ended(self, future: Future[Any], done: Future[Any]) -> None:
        error = done.exception()
        if error is not None and not isinstance(error, self._ray.exceptions.RayTaskError):
            # Of Ray itself: a process, a node, or what they held, is no more.
            error = WorkerDiedError(f"{type(error).__name__}: {error}")
        self._settle(future, None if error else done.result(), error)


def _call(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return fn(*args, **kwargs)
