"""``Processes``: a pool of processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor

__all__ = ["Processes"]


class Processes(ProcessPoolExecutor):
    """A pool of the standard library whose processes share the cores, and end with this one.

    Parameters
    ----------
    workers
        How many processes.  Each is begun afresh, so it imports what it needs, and has its part of
        the cores as threads of torch.
    """

    def __init__(self, workers: int) -> None:
        threads = max(1, (os.cpu_count() or 1) // workers)
        super().__init__(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_prepare,
            initargs=(threads,),
        )


def _prepare(threads: int) -> None:
    """Take a part of the cores; leave interrupts to the parent, and end when it is no more."""
    import torch

    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent has ended; a pool's own processes would wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
