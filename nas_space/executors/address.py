"""``executor_at``: an executor by its address, as the shell takes it."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path

from ..errors import UsageError
from ..lazy import installed
from .dask_tasks import Dask
from .ray_tasks import Ray
from .slurm_jobs import Slurm

__all__ = ["check_executor", "executor_at"]

_PACKAGES = {"dask": "distributed", "ray": "ray", "slurm": "submitit"}
"""The package behind each kind of address; the kind is the extra that brings it, too."""


def check_executor(address: str) -> None:
    """Refuse an address that means nothing, or whose package is not installed.

    Raises
    ------
    UsageError
        As said.

    Examples
    --------
    >>> check_executor("dusk://host:8786")
    Traceback (most recent call last):
    ...
    nas_space.errors.UsageError: an executor is dask://host:port, ... but got 'dusk://host:8786'
    """
    kind, _, where = address.partition("://")
    means = {"dask": bool(where), "ray": True, "slurm": not where}
    if not means.get(kind, False):
        raise UsageError(
            f"an executor is dask://host:port, ray://host:port, ray or slurm, but got {address!r}"
        )
    installed(_PACKAGES[kind], kind)


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
    check_executor(address)
    kind, _, where = address.partition("://")
    try:
        if kind == "dask":
            return Dask(f"tcp://{where}")
        if kind == "ray":
            return Ray(address if where else None, workers=workers)
        return Slurm(folder, workers or 8)
    except (OSError, ConnectionError) as error:
        token = "; does the cluster ask for a token? see RAY_AUTH_MODE" if kind == "ray" else ""
        raise UsageError(f"nobody answers at {address}: {error}{token}") from error
