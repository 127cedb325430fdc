"""Kills at random moments: of what evaluates, through every executor, and of the driver itself.

What dies is killed with SIGKILL, by the number of its process, so nothing can tidy up.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from torch.utils.data import TensorDataset

import nas_space as ns
from nas_space.executors import Processes, Slurm
from nas_space.strategy import Proxyless
from nas_space.study import from_scratch
from nas_space.training import Task
from tests.cli.test_compress import run_of, weights
from tests.engines import dask_client, dask_processes, ray_nodes
from tests.problems import Tiny, Various, reporting, slow_worth

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="kills processes as POSIX does"),
]

MOMENTS = 10
"""How many kills of what evaluates."""


def noted(network: Any, arch: Any) -> float:
    """A number that depends on the weights of a network, after a moment."""
    slow_worth(network, arch)
    return sum(float(p.detach().double().abs().sum()) for p in network.parameters())


def small_task() -> Task:
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(x, x.sum(1, keepdim=True))
    optimizer = partial(torch.optim.SGD, lr=0.01)
    return Task.regression(data, validation=data, optimizer=optimizer, batch_size=16)


class Trained:
    """Trains a network, and notes which process does."""

    weights = "fresh"

    def __init__(self) -> None:
        self.evaluate = from_scratch(small_task(), 1)
        self.objectives = self.evaluate.objectives

    def __call__(self, network: Any, arch: Any) -> Any:
        slow_worth(network, arch)
        return self.evaluate(network, arch)


SEARCHES: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": lambda: {"target": slow_worth},
    "pruned": lambda: {
        "target": reporting, "pruner": optuna.pruners.MedianPruner(n_startup_trials=3),
    },
    "kept weights": lambda: {"target": noted, "weights": "fresh"},
    "trained": lambda: {"target": Trained()},
}  # fmt: skip

STRATEGIES = {
    name: lambda name=name: {"target": slow_worth, "strategy": name}
    for name in ("evolution", "random", "tpe", "thompson", "gp")
}
"""What proposes otherwise than the default does: the driver's, which matters where that dies."""


@contextmanager
def made_of_dask() -> Iterator[dict[str, Any]]:
    with dask_client() as client:
        yield {"executor": client.get_executor(pure=False)}


@contextmanager
def made_of_loky() -> Iterator[dict[str, Any]]:
    loky = pytest.importorskip("loky", reason="loky is not installed")
    yield {"executor": partial(loky.ProcessPoolExecutor, 2)}


@contextmanager
def made_of_processes() -> Iterator[dict[str, Any]]:
    yield {"executor": partial(Processes, 2)}


@contextmanager
def made_of_ray() -> Iterator[dict[str, Any]]:
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    environment = {"PYTHONPATH": str(Path.cwd()), "EVALUATIONS": os.environ["EVALUATIONS"]}
    ray.init(num_cpus=2, log_to_driver=False, runtime_env={"env_vars": environment})
    try:
        yield {"executor": ns.executors.Ray()}
    finally:
        ray.shutdown()


@contextmanager
def made_of_submitit() -> Iterator[dict[str, Any]]:
    pytest.importorskip("submitit", reason="submitit is not installed")
    folder = Path(os.environ["EVALUATIONS"]).parent / "jobs"
    yield {"executor": Slurm(folder, 2, cluster="local", timeout_min=5)}


ENGINES = {
    "processes": made_of_processes, "loky": made_of_loky, "Dask": made_of_dask,
    "submitit": made_of_submitit, "Ray": made_of_ray,
}  # fmt: skip


class Killer(threading.Thread):
    """Kills processes that have just begun an evaluation, so many, a moment after that.

    From one to the next, up to so many evaluations are let begin.
    No architecture more than four times: of a fifth death its trial fails, as it should.
    """

    def __init__(self, log: Path, count: int, apart: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.log, self.count, self.apart, self.draw = log, count, apart, random.Random(seed)
        self.killed: list[int] = []
        self.deaths: Counter[str] = Counter()
        self.over = threading.Event()

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def run(self) -> None:
        while len(self.killed) < self.count and not self.over.is_set():
            wanted = len(self.lines()) + self.draw.randint(1, self.apart)
            while len(self.lines()) < wanted and not self.over.wait(0.005):
                pass
            # Within the evaluation, which takes 50 ms or more, at its end, or between two.
            time.sleep(self.draw.uniform(0.0, 0.1))
            process, _, arch = self.lines()[-1].partition(" ")
            if self.deaths[arch] == 4:
                continue
            try:
                os.kill(int(process), signal.SIGKILL)
            except ProcessLookupError:
                continue
            self.killed.append(int(process))
            self.deaths[arch] += 1


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("search", SEARCHES)
def test_processes_that_are_killed_lose_no_trial(
    search: str, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("EVALUATIONS", str(log))
    trials = 16 if engine == "submitit" else 80  # each is a process there, of seconds
    killer = Killer(log, MOMENTS, trials // 16, seed=0)
    killer.start()
    with ENGINES[engine]() as given:
        options = {**SEARCHES[search](), **given}
        target = options.pop("target")
        result = ns.search(Various(), target, trials=trials, progress=False, **options)
    killer.over.set()
    killer.join()
    assert len(killer.killed) == MOMENTS
    assert [outcome.number for outcome in result.outcomes] == list(range(trials))
    assert {outcome.state for outcome in result.outcomes} <= {"complete", "pruned"}
    assert len({str(outcome.arch) for outcome in result.outcomes}) == trials
    if search == "kept weights":
        total = sum(float(p.detach().double().abs().sum()) for p in result.network().parameters())
        assert total == pytest.approx(result.winner().values["value"], rel=1e-12)


# -- the driver -----------------------------------------------------------------------------------


def lives(work: Callable[[], object], seconds: float) -> bool:
    """Let a process of its own do some work for some time; tell whether it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0
            return True
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def killed(
    begin: Callable[[Path], object], folder: Path, longest: float, moments: int = 10
) -> Path:
    """Do work in a folder, killed at random moments; return the folder, where it is to be resumed.

    Where it comes to its end, it is begun anew in another folder.
    """
    draw, number, count = random.Random(0), 0, 0
    while count < moments:
        place = folder / str(number)
        place.mkdir(parents=True, exist_ok=True)
        if lives(partial(begin, place), draw.uniform(0.0, longest)):
            number += 1
        else:
            count += 1
    place = folder / str(number)
    place.mkdir(parents=True, exist_ok=True)
    return place


@pytest.mark.parametrize("store", ["search.db", "search.journal"])
@pytest.mark.parametrize("search", [*SEARCHES, *STRATEGIES])
def test_a_driver_that_is_killed_goes_on_to_the_same_end(
    search: str, store: str, tmp_path: Path
) -> None:
    def begin(place: Path) -> Any:
        options = {**SEARCHES, **STRATEGIES}[search]()
        target = options.pop("target")
        return ns.search(
            Various(), target, trials=25, storage=place / store, resume=True, progress=False,
            **options,
        )  # fmt: skip

    def told(result: Any) -> list[Any]:
        return [(o.number, o.arch, o.state, o.values) for o in result.outcomes]

    place = killed(begin, tmp_path / "cut", 1.0)
    (tmp_path / "whole").mkdir()
    assert told(begin(place)) == told(begin(tmp_path / "whole"))


@contextmanager
def drivable(engine: str, folder: Path) -> Iterator[Callable[[], dict[str, Any]]]:
    """Start what outlives drivers; give what makes the executor of one."""
    if engine == "Dask":
        with dask_processes() as address:
            yield lambda: {"executor": partial(ns.executors.Dask, address)}
    elif engine == "Ray":
        with ray_nodes() as address:
            environment = {"env_vars": {"PYTHONPATH": str(Path.cwd())}}
            options: dict[str, Any] = {"runtime_env": environment, "workers": 2}
            yield lambda: {"executor": partial(ns.executors.Ray, address, **options)}
    elif engine == "submitit":
        pytest.importorskip("submitit", reason="submitit is not installed")
        yield lambda: {"executor": Slurm(folder / "jobs", 2, cluster="local", timeout_min=5)}
    elif engine == "loky":
        loky = pytest.importorskip("loky", reason="loky is not installed")
        yield lambda: {"executor": partial(loky.ProcessPoolExecutor, 2)}
    else:
        yield lambda: {"workers": 2}


DRIVERS = {
    "processes": ("evolution", 60), "loky": ("random", 60), "Dask": ("tpe", 60),
    "Ray": ("evolution", 40), "submitit": ("random", 12),
}  # fmt: skip
"""The strategy, and how many trials."""


@pytest.mark.parametrize("engine", DRIVERS)
def test_a_driver_of_others_that_is_killed_loses_no_trial(engine: str, tmp_path: Path) -> None:
    strategy, trials = DRIVERS[engine]
    with drivable(engine, tmp_path) as options:

        def begin(place: Path) -> Any:
            return ns.search(
                Various(), slow_worth, trials=trials, strategy=strategy, resume=True,
                storage=place / "search.db", progress=False, **options(),
            )  # fmt: skip

        place = killed(begin, tmp_path, 20.0, moments=5)
        result = begin(place)
    assert [outcome.number for outcome in result.outcomes] == list(range(trials))
    assert {outcome.state for outcome in result.outcomes} == {"complete"}
    assert len({str(outcome.arch) for outcome in result.outcomes}) == trials


def test_one_shot_training_that_is_killed_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    task = small_task()

    def begin(place: Path) -> Any:
        torch.manual_seed(0)
        return ns.search(
            Tiny(), task, strategy=Proxyless(), steps=60, every=3, resume=True, progress=False,
            storage=place / "state.safetensors",
        )  # fmt: skip

    place = killed(begin, tmp_path / "cut", 0.6)
    (tmp_path / "whole").mkdir()
    one, other = begin(place), begin(tmp_path / "whole")
    assert one.probabilities() == other.probabilities()
    assert [*(tmp_path / "cut").glob("*/.*")] == []


def test_a_compression_that_is_killed_goes_on_to_the_same_networks(tmp_path: Path) -> None:
    def begin(place: Path) -> Any:
        return run_of(place / "out", resume=True).run()

    place = killed(begin, tmp_path / "cut", 3.0)
    whole, found = begin(tmp_path / "whole"), begin(place)
    for one, other in zip(whole, found, strict=True):
        assert (one.arch, one.scores, one.steps) == (other.arch, other.scores, other.steps)
    for name in ("macs-60", "macs-30"):
        mine, theirs = (weights(p / "out" / name / "network") for p in (tmp_path / "whole", place))
        assert all(torch.equal(value, theirs[key]) for key, value in mine.items())
