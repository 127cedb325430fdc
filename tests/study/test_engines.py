"""Engines of others, real ones: Dask, loky, submitit, Ray.  Each is skipped where it is absent."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import optuna
import pytest

import nas_space as ns
from tests.engines import dask_client, slurm_cluster
from tests.problems import Tiny, Various, reporting, slow_worth, weight_sum, worth
from tests.study.test_executors import DeadlySecond, architectures, check_culprit, deadly_slowly

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="kills processes as POSIX does"),
]


def check(result, trials):
    """Nothing lost, nothing twice, the total right."""
    assert [outcome.number for outcome in result.outcomes] == list(range(trials))
    assert {outcome.state for outcome in result.outcomes} == {"complete"}


@pytest.fixture(scope="module")
def dask():
    """A scheduler and two workers, each a process of this machine."""
    with dask_client() as client:
        yield client


def test_dask_prunes_and_keeps_weights(dask):
    pruner = optuna.pruners.MedianPruner(n_startup_trials=3)
    executor = dask.get_executor()
    result = ns.search(Various(), reporting, trials=20, executor=executor, pruner=pruner)
    assert {outcome.state for outcome in result.outcomes} == {"complete", "pruned"}
    found = ns.search(Various(), weight_sum, trials=6, executor=executor, weights="fresh")
    network = found.network()
    total = sum(float(p.detach().double().abs().sum()) for p in network.parameters())
    assert 0 <= found.winner().values["value"] - total < 1


def test_dask_loses_a_worker_and_no_trial(dask):
    pids = list(dask.run(os.getpid).values())

    def kill(_study, trial):
        if trial.number == 5:
            os.kill(pids[0], signal.SIGKILL)

    result = ns.search(
        Various(), slow_worth, trials=30, executor=dask.get_executor(), callbacks=[kill]
    )
    check(result, 30)


class DeadlyToSend:
    """Kills the process that is asked to send it."""

    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGKILL)


def lost_with_its_worker(folder):
    """Compute once something that nobody gets, and kill the process that computes it again."""
    times = len([*folder.iterdir()])
    (folder / str(times)).touch()
    if times:
        os.kill(os.getpid(), signal.SIGKILL)
    return DeadlyToSend()


def test_a_result_that_dask_loses_and_cannot_compute_again_is_said_to_be_lost(dask, tmp_path):
    distributed = pytest.importorskip("distributed")
    executor = ns.executors.adapted(dask.get_executor())
    with pytest.raises(distributed.KilledWorker):
        executor.submit(lost_with_its_worker, tmp_path).result(timeout=300)


def test_what_is_cancelled_is_cancelled_at_dask(dask):
    executor = ns.executors.Dask(dask)
    running = [executor.submit(time.sleep, 20) for _ in range(2)]
    assert executor.submit(max, 1, 2).cancel()
    executor.shutdown(wait=False)
    assert all(future.cancelled() for future in running)
    wait_for(lambda: not any(dask.processing().values()))


def test_a_pool_of_processes_is_made_anew_and_the_culprit_found(monkeypatch):
    monkeypatch.setattr("nas_space.study.ledger._DEATHS", 2)
    result = ns.search(
        Tiny(), deadly_slowly, trials=3, workers=2, strategy=DeadlySecond(), weights="none"
    )
    check_culprit(result, deaths=2)


def test_loky_is_made_anew_and_the_culprit_found():
    loky = pytest.importorskip("loky", reason="loky is not installed")
    result = ns.search(
        Tiny(), deadly_slowly, trials=3, executor=partial(loky.ProcessPoolExecutor, 2),
        strategy=DeadlySecond(), weights="none",
    )  # fmt: skip
    check_culprit(result, deaths=5)


def test_jobs_of_submitit_are_futures(tmp_path):
    pytest.importorskip("submitit", reason="submitit is not installed")
    executor = ns.executors.Slurm(tmp_path, 1, cluster="local", timeout_min=5)
    result = ns.search(Tiny(), worth, trials=2, executor=executor)
    assert architectures(result) == architectures(ns.search(Tiny(), worth, trials=2))
    assert any(tmp_path.iterdir())


@pytest.mark.parametrize("how", [signal.default_int_handler, signal.SIG_IGN])
def test_a_job_of_submitit_that_is_cancelled_is_ended(how, tmp_path):
    """Also where a shell has started this in the background, so that interrupts are ignored."""
    pytest.importorskip("submitit", reason="submitit is not installed")
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    executor = ns.executors.Slurm(tmp_path / "jobs", workers=1, cluster="local", timeout_min=5)
    before = signal.signal(signal.SIGINT, how)
    try:
        future = executor.submit(slow_file, begun, ended, 5.0)
        assert signal.getsignal(signal.SIGINT) is how
    finally:
        signal.signal(signal.SIGINT, before)
    wait_for(begun.exists)
    assert future.cancel()
    executor.shutdown()
    time.sleep(6.0)
    assert not ended.exists()


def slow_file(begun, ended, seconds):
    begun.touch()
    time.sleep(seconds)
    ended.touch()


def wait_for(holds):
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def deadly_once(network, arch):
    with suppress(FileExistsError):
        Path(os.environ["DIED"]).touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGKILL)
    return worth(network, arch)


def test_a_job_of_slurm_that_is_killed_is_missed_without_accounting(tmp_path, monkeypatch):
    pytest.importorskip("submitit", reason="submitit is not installed")
    monkeypatch.setattr("nas_space.executors.slurm_jobs._DELAY", 3.0)
    monkeypatch.setenv("DIED", str(tmp_path / "died"))
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    with slurm_cluster(tmp_path):
        executor = ns.executors.Slurm(tmp_path / "jobs", 1, cluster="slurm", timeout_min=5)
        result = ns.search(Tiny(), deadly_once, trials=2, executor=executor)
    check(result, 2)
    assert (tmp_path / "died").exists()


def test_ray_loses_a_node_and_no_trial():
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    environment = {"env_vars": {"PYTHONPATH": str(Path.cwd())}}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        ray.init(address=cluster.address, log_to_driver=False, runtime_env=environment)
        executor = ns.executors.Ray()

        def kill(_study, trial):
            if trial.number == 5:
                cluster.remove_node(nodes[0], allow_graceful=False)

        check(ns.search(Various(), slow_worth, trials=30, executor=executor, callbacks=[kill]), 30)
        future = executor.submit(time.sleep, 600)
        wait_for(lambda: not ray.available_resources().get("CPU"))
        assert future.cancel()
        wait_for(lambda: ray.available_resources().get("CPU") == 1)
    finally:
        ray.shutdown()
        cluster.shutdown()
