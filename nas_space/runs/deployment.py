"""``Deployment``: the runtime that a run searches for, and what its networks take there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from ..errors import UsageError
from ..nn.copying import copied
from ..profiler import LatencyTable, TimingTarget, calibrate_latency, measure_latency, time_in_turns
from ..profiler.profile import Call
from ..profiler.target import TORCH
from ..runtimes import Exportable, export, find_runtime
from .contents import Promise
from .folder import RunFolder

__all__ = ["Deployment", "deployment_of"]

_TABLE = "latency.yaml"
"""The file of a run's folder with the table that was measured for it."""


def deployment_of(runtime: str | None, threads: int | None) -> Deployment | None:
    """Return the deployment on a runtime; ``None`` where none is named.

    Raises
    ------
    UsageError
        If there is no such runtime here, or threads are given without one.
    """
    if runtime is not None:
        return Deployment(runtime, threads)
    if threads is not None:
        raise UsageError("--threads are those of a --runtime, which is not given")
    return None


class Deployment:
    """The runtime that a run searches for.

    Parameters
    ----------
    runtime, threads
        As of :func:`~nas_space.profiler.measure_latency`.

    Attributes
    ----------
    target
        Where networks are timed.

    Raises
    ------
    UsageError
        If there is no such runtime here.
    """

    def __init__(self, runtime: str, threads: int | None = None) -> None:
        self.target = TimingTarget(runtime, threads)

    def table(
        self, folder: RunFolder, space: Any, *, progress: bool, **inputs: Any
    ) -> LatencyTable:
        """Return the corrected table of a space: that in the folder, or else one measured now.

        Parameters
        ----------
        folder
            Of the run; :meth:`keep` writes the table there.
        space, inputs
            As of :func:`~nas_space.profiler.measure_latency`.
        progress
            Whether to show it.
        """
        if (folder.path / _TABLE).exists():
            return LatencyTable.read(folder.path / _TABLE)
        given = {"progress": progress, **inputs}
        found = measure_latency(
            space, runtime=self.target.runtime, threads=self.target.threads, **given
        )
        return calibrate_latency(space, found, **given)

    @staticmethod
    def keep(table: LatencyTable | None, folder: RunFolder) -> None:
        """Write the table that was measured for a run into its folder, for when it goes on."""
        # After the settings, since a folder is a run only with these. A process that is killed
        # before has not searched yet, so the next one may measure other times.
        if table is not None and not (folder.path / _TABLE).exists():
            table.write(folder.path / _TABLE)

    def time(self, network: nn.Module, inputs: Call) -> float:
        """Return the microseconds of a network on the runtime, in evaluation mode."""
        [(milliseconds, _)] = self.target.time([(type(network).__name__, network.eval(), inputs)])
        return 1000 * milliseconds

    def deploy(
        self, network: nn.Module, inputs: Call, promised: float | None, folder: Path
    ) -> Promise:
        """Write a network for the runtime, and time what was written.

        Parameters
        ----------
        network
            On the CPU.
        inputs
            Real ones, of as many samples as the table was measured for.
        promised
            Microseconds by the table.
        folder
            Where the file goes.
        """
        target, network = self.target, network.eval()
        given = (target.runtime, target.about["version"], target.threads, promised)
        if target.runtime == TORCH:
            [(milliseconds, steady)] = target.time([("the network", copied(network), inputs)])
            return Promise(*given, 1000 * milliseconds, steady)
        # For one size of batch, as the table was measured: a free one may take other kernels.
        made = export(network, target.runtime, inputs, folder, name="deployed", dynamic_batch=False)
        program = find_runtime(target.runtime).load(made.file, threads=target.threads)
        run = program.prepare(*Exportable(network, inputs).tensors)
        turns = time_in_turns([run], pinned=target.threads == 1)
        measured = 1000 * float(turns.milliseconds[0])
        return Promise(*given, measured, turns.agrees, str(made.file), made.difference)
