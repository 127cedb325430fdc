"""``executor_at``: an executor by its address, as the shell takes it."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path

from ..errors import UsageError
from ..lazy import installed
from .ray_tasks import Ray
from .slurm_jobs import Slurm

__all__ = ["executor_at"]

_PATIENCE = 30.0
"""Seconds that a scheduler has to answer."""


def executor_at(address: str, folder: Path, workers: int | None = None) -> Executor:
    """Return the executor at an address.

    Parameters
    ----------
    address
        ``'dask://host:port'`` of a scheduler; ``'ray://host:port'`` of a cluster, or ``'ray'`` for
        the one that runs on this machine, or else a new one; ``'slurm'``.
    folder
        Where jobs of SLURM leave their files.
    workers
        How many trials run at once, if it is not left to the executor.

    Raises
    ------
    UsageError
        The address means nothing, its package is not installed, or nobody answers there.
    """
    kind, _, where = address.partition("://")
    try:
        if kind == "dask" and where:
            client = installed("distributed", "dask").Client(f"tcp://{where}", timeout=_PATIENCE)
            executor: Executor = client.get_executor(pure=False)
            return executor
        if kind == "ray":
            return Ray(address if where else None, workers=workers)
        if kind == "slurm" and not where:
            return Slurm(folder, workers or 8)
    except (OSError, ConnectionError) as error:
        raise UsageError(f"nobody answers at {address}: {error}") from error
    raise UsageError(
        f"an executor is dask://host:port, ray://host:port, ray or slurm, but got {address!r}"
    )
