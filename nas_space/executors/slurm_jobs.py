"""``Slurm``: jobs of SLURM, by submitit."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..lazy import installed
from .base import TaskExecutor, WorkerDiedError

__all__ = ["Slurm"]

_PAUSE = 1.0
"""Seconds between two looks at the jobs."""

_DELAY = 60.0
"""Seconds after which what a job wrote is seen on a file system of the network."""


class Slurm(TaskExecutor):
    """Evaluates each trial as a job of SLURM, or of what else submitit knows.

    A job is a new process that takes seconds to begin, so this is for evaluations of minutes; for
    short ones, start Dask or Ray within one allocation.

    Parameters
    ----------
    folder
        Where jobs leave their files, on a file system that all nodes see.
    workers
        How many jobs are queued or run at once.
    cluster
        ``'slurm'``, or ``'local'`` for processes of this machine; by default what is there.
    parameters
        Of the jobs, as ``submitit.AutoExecutor.update_parameters`` takes them: ``timeout_min``,
        ``slurm_partition``, ``gpus_per_node``, ``cpus_per_task``, ``mem_gb``, ...

    Raises
    ------
    UsageError
        submitit is not installed.
    """

    persistent = False
    """Whether a process runs several tasks, so that what it was sent once stays there."""

    def __init__(
        self, folder: str | Path, workers: int = 8, cluster: str | None = None, **parameters: Any
    ) -> None:
        submitit = installed("submitit", "slurm")
        self._submitit = submitit.AutoExecutor(folder, cluster=cluster)
        self._submitit.update_parameters(**parameters)
        self._max_workers = workers
        super().__init__()
        self._is_watched = False
        self._missed: dict[Future[Any], float] = {}
        self._lock = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        with _interruptible():
            job = self._submitit.submit(fn, *args, **kwargs)
        with self._lock:
            future = self._future_of(job, job.cancel)
            if not self._is_watched:
                self._is_watched = True
                threading.Thread(target=self._watch, daemon=True).start()
        return future

    def _watch(self) -> None:
        """Look at the jobs now and then, as long as there are any."""
        while True:
            lost = self._lost()
            for future, job in list(self._tasks.items()):
                try:
                    if job.done():
                        self._settle(future, job.result())
                    elif future in lost:
                        raise WorkerDiedError("it is no longer in the queue, and left no result")
                except Exception as error:  # noqa: BLE001 - whatever has become of the job
                    died = WorkerDiedError(f"the job {job.job_id}: {error}")
                    self._settle(future, error=died)
            with self._lock:
                if not self._tasks:
                    self._is_watched = False
                    return
            time.sleep(_PAUSE)

    def _lost(self) -> set[Future[Any]]:
        """Return the jobs that have been out of the queue for some time and left nothing.

        submitit asks the accounting of SLURM what has become of a job.  Many small clusters have
        none; there, a job that was killed would be waited for without end.
        """
        unknown = {f: job for f, job in list(self._tasks.items()) if job.state == "UNKNOWN"}
        if not unknown or self._submitit.cluster != "slurm":
            self._missed = {}
            return set()
        listing = ["squeue", "--me", "--noheader", "--format=%A"]
        try:
            queue = subprocess.run(
                listing, capture_output=True, text=True, check=True, timeout=_DELAY
            )
        except (OSError, subprocess.SubprocessError):  # the controller is away
            return set()
        queued, now = queue.stdout.split(), time.monotonic()
        out = [future for future, job in unknown.items() if job.job_id not in queued]
        self._missed = {future: self._missed.get(future, now) for future in out}
        return {future for future, since in self._missed.items() if now - since > _DELAY}


@contextmanager
def _interruptible() -> Iterator[None]:
    """Enter a context in which what is started can be interrupted.

    A shell has what it starts in the background ignore interrupts, and so does what that starts in
    turn; but it is by an interrupt that submitit cancels a job on this machine.
    """
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
