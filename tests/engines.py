"""Engines of others, started for tests."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def dask_client() -> Iterator[Any]:
    """Start a scheduler and two workers, each a process of this machine; skip without Dask."""
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    import dask

    # A worker that was killed is given up where it is not back in 15 seconds, which may be the
    # machine's fault; without one, a search waits for somebody to start another.
    patience = {"distributed.deploy.lost-worker-timeout": "10 minutes"}
    with (
        dask.config.set(patience),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@contextmanager
def dask_processes() -> Iterator[str]:
    """Start a scheduler and two workers by Dask's commands; give the address."""
    pytest.importorskip("distributed", reason="distributed is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address, running = f"tcp://127.0.0.1:{port}", []
    environment, null = {**os.environ, "PYTHONPATH": str(Path.cwd())}, subprocess.DEVNULL
    for command in (
        ["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
        ["worker", address, "--nthreads", "1", "--nworkers", "2", "--no-dashboard"],
    ):
        begun = [sys.executable, "-m", "dask", *command]
        running.append(subprocess.Popen(begun, env=environment, stdout=null, stderr=null))
    try:
        yield address
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(60)


@contextmanager
def ray_nodes() -> Iterator[str]:
    """Start a cluster of Ray that outlives its drivers; give the address."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    try:
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()


SLURM = """
ClusterName=one
SlurmctldHost={host}
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
NodeName={host} CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES State=UP
"""
"""Accounting is left out, as on many small clusters."""


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[None]:
    """Start SLURM with one node, this machine, whose files are in a folder; skip without it."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    munged, *daemons = (shutil.which(name, path=path) for name in ("munged", "slurmctld", "slurmd"))
    if munged is None or None in daemons or os.geteuid() != 0:
        pytest.skip("SLURM and munge are not installed, or this is not root")
    with socket.create_server(("", 0)) as one, socket.create_server(("", 0)) as other:
        ports = {"controller": one.getsockname()[1], "node": other.getsockname()[1]}
    for name in ("state", "spool"):
        (folder / name).mkdir()
    folder.chmod(0o755)
    key, configuration = folder / "munge.key", folder / "slurm.conf"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    host = socket.gethostname().partition(".")[0]
    given = {"host": host, "folder": folder, "cpus": os.cpu_count(), **ports}
    configuration.write_text(SLURM.format(**given))
    munge = [f"--{what}-file={folder}/munge.{what}" for what in ("key", "log", "pid", "seed")]
    commands = [[munged, "--foreground", "--force", f"--socket={folder}/munge", *munge]]
    commands += [[str(daemon), "-D", "-f", str(configuration)] for daemon in daemons]
    running, null = [], subprocess.DEVNULL
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(configuration))
        try:
            for command in commands:
                running.append(subprocess.Popen(command, stdout=null, stderr=null))
                time.sleep(0.5)
            until("sinfo", lambda said: "idle" in said)
            yield
            until("squeue", lambda said: not said)
        finally:
            for process in reversed(running):
                process.terminate()
                process.wait(30)


def until(command: str, holds: Callable[[str], bool]) -> None:
    """Wait for what a command of SLURM says."""
    end = time.monotonic() + 30
    while not holds(subprocess.check_output([command, "--noheader"], text=True)):
        assert time.monotonic() < end, f"{command} does not say what it should"
        time.sleep(0.2)
