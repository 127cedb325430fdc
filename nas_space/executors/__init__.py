"""Executors to evaluate trials with: processes of this machine, Dask, Ray, and SLURM.

``search(executor=...)`` takes any ``concurrent.futures.Executor``: these, that of a Dask client
(``client.get_executor()``, for which :class:`Dask` is taken), loky's, MPI's.

>>> from nas_space.executors import Processes
>>> with Processes(1) as executor:
...     executor.submit(max, 3, 4).result()
4
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazily

if TYPE_CHECKING:
    from .address import check_executor, executor_at
    from .base import WorkerDiedError, capacity_of
    from .dask_tasks import Dask, adapted
    from .processes import Processes
    from .ray_tasks import Ray
    from .slurm_jobs import Slurm

__all__ = [
    "Dask",
    "Processes",
    "Ray",
    "Slurm",
    "WorkerDiedError",
    "adapted",
    "capacity_of",
    "check_executor",
    "executor_at",
]

__getattr__, __dir__ = lazily(__name__)
