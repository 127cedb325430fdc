"""Executors to evaluate trials with: processes of this machine, Ray, and SLURM.

``search(executor=...)`` takes any ``concurrent.futures.Executor``: these, that of a Dask client
(``client.get_executor()``), loky's, MPI's.

>>> from nas_space.executors import Processes
>>> with Processes(1) as executor:
...     executor.submit(max, 3, 4).result()
4
"""

from .address import check_executor, executor_at
from .base import WorkerDiedError, capacity_of
from .processes import Processes
from .ray_tasks import Ray
from .slurm_jobs import Slurm

__all__ = [
    "Processes",
    "Ray",
    "Slurm",
    "WorkerDiedError",
    "capacity_of",
    "check_executor",
    "executor_at",
]
