"""One driver, any executor: what crosses, what dies, what is made anew."""

from __future__ import annotations

import pickle
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import optuna
import pytest
import torch

import nas_space as ns
from nas_space.errors import TrialError, UsageError
from nas_space.executors import Processes, WorkerDiedError, executor_at
from nas_space.strategy import GridSearch
from nas_space.study import remote
from tests.problems import Tiny, Various, deadly, failing, reporting, weight_sum, worth


class Inline(Executor):
    """Runs what is submitted at once, as another process would: by pickles of everything."""

    def __init__(self, *, persistent=True):
        self.persistent = persistent
        self.sizes: list[int] = []
        self.deaths: list[bool] = []

    def submit(self, fn, /, *args, **kwargs):
        sent = pickle.dumps((fn, args))
        self.sizes.append(len(sent))
        future: Future[Any] = Future()
        fn, args = pickle.loads(sent)
        if self.deaths and self.deaths.pop(0):
            future.set_exception(WorkerDiedError("gone"))
        else:
            future.set_result(pickle.loads(pickle.dumps(fn(*args))))
        return future


@pytest.fixture(autouse=True)
def forgotten():
    """No process has been sent anything."""
    remote._KEPT.clear()


def architectures(result):
    return [outcome.arch for outcome in result.outcomes]


def test_with_one_at_a_time_any_executor_gives_what_this_process_would():
    space = Various()
    for weights in ("inherit", "fresh", "none"):
        arguments: dict[str, Any] = {"trials": 12, "weights": weights, "seed": 3}
        target = worth if weights == "none" else weight_sum
        here = ns.search(space, target, **arguments)
        there = ns.search(space, target, executor=Inline(), workers=1, **arguments)
        found = [[(o.number, o.arch, o.values, o.cost) for o in r.outcomes] for r in (here, there)]
        assert found[0] == found[1]
        if weights == "none":
            continue
        one, other = here.network().state_dict(), there.network().state_dict()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_recipe_crosses_once_and_an_architecture_for_each_trial():
    executor = Inline()
    ns.search(Various(), worth, trials=10, executor=executor, workers=1)
    # The first that is told that the recipe is missing brings it along.
    assert len(executor.sizes) == 11
    small, whole = executor.sizes[0], executor.sizes[1]
    assert whole > small
    assert max(executor.sizes[2:]) < small + 200


def test_processes_that_do_one_task_each_are_sent_the_recipe_at_once():
    executor = Inline(persistent=False)
    ns.search(Various(), worth, trials=4, executor=executor, workers=1)
    assert len(executor.sizes) == 4


def test_weights_are_sent_only_where_they_are_inherited():
    sizes = {}
    for weights in ("inherit", "fresh", "none"):
        executor = Inline()
        ns.search(Wide(), worth, trials=2, executor=executor, workers=1, weights=weights)
        sizes[weights] = max(executor.sizes)
    assert sizes["inherit"] > 1_000_000
    assert max(sizes["fresh"], sizes["none"]) < 50_000


class Wide(Tiny):
    """One with many weights."""

    def __init__(self) -> None:
        super().__init__()
        self.more = torch.nn.Linear(600, 600)


def test_a_death_is_tried_again_under_the_same_number():
    executor = Inline()
    executor.deaths = [False, False, True, True, False]
    result = ns.search(Various(), worth, trials=6, executor=executor, workers=1)
    assert [outcome.number for outcome in result.outcomes] == list(range(6))
    assert architectures(result) == architectures(ns.search(Various(), worth, trials=6))
    assert len(result.study.trials) == 8


def test_five_deaths_of_one_architecture_fail_it():
    executor = Inline()
    executor.deaths = [False, False, *[True] * 5]
    result = ns.search(Various(), worth, trials=3, executor=executor, workers=1)
    assert [outcome.state for outcome in result.outcomes] == ["complete", "failed", "complete"]
    assert "died, repeatedly" in str(result.outcomes[1].failure)


def check_culprit(result, deaths):
    """The second architecture has died so often, and no other."""
    assert [outcome.state for outcome in result.outcomes] == ["complete", "failed", "complete"]
    assert "died, repeatedly" in str(result.outcomes[1].failure)
    died = [
        trial.user_attrs["number"]
        for trial in result.study.trials
        if trial.state.name == "FAIL" and not {"void", "failure"} & trial.user_attrs.keys()
    ]
    assert died == [1] * deaths


class DeadlySecond(ns.strategy.Strategy):
    """Proposes what kills its process as the second."""

    archs = (
        {"width": 4, "depth": 1, "op0": "relu"},
        {"width": 8, "depth": 1, "op0": "relu"},
        {"width": 4, "depth": 1, "op0": "tanh"},
    )

    def propose(self, now):
        return dict(self.archs[now.number])


def deadly_slowly(network, arch):
    time.sleep(0.3)
    return deadly(network, arch)


def test_an_executor_that_is_given_and_breaks_ends_the_search_and_says_why(tmp_path):
    store = tmp_path / "search.db"
    with Processes(1) as executor, pytest.raises(TrialError, match="give a function"):
        ns.search(
            Tiny(), deadly, trials=3, executor=executor, strategy=DeadlySecond(), storage=store,
            weights="none",
        )  # fmt: skip
    kept = ns.search(
        Tiny(), worth, trials=3, storage=store, resume=True, strategy=DeadlySecond(), weights="none"
    )
    assert [o.arch for o in kept.outcomes] == list(DeadlySecond.archs)


def test_threads_of_this_process_are_an_executor_too():
    with ThreadPoolExecutor(2) as executor:
        result = ns.search(Various(), worth, trials=20, executor=executor)
    assert [outcome.number for outcome in result.outcomes] == list(range(20))


def test_failures_cross_with_their_tracebacks():
    result = ns.search(
        Tiny(), failing, strategy=GridSearch(), trials=12, executor=Inline(), workers=1
    )
    failed = [o for o in result.outcomes if o.state == "failed"]
    assert len(failed) == 8
    assert all("in failing" in str(o.failure) for o in failed)


def loky_pool(workers):
    loky = pytest.importorskip("loky", reason="loky is not installed")
    return loky.ProcessPoolExecutor(workers)


class LeavingError(BaseException):
    """What no handler of ``Exception`` takes."""


def exits_at_times(network, arch):
    if arch["depth"] == 2:
        if arch["width"] == 4:
            sys.exit(3)
        raise LeavingError("mine")
    return worth(network, arch)


def interrupts(_network, _arch):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "engine",
    [
        {"workers": 2},
        {"workers": 1, "executor": Inline()},
        {"workers": 2, "executor": lambda: ThreadPoolExecutor(2)},
        {"workers": 2, "executor": lambda: loky_pool(2)},
    ],
    ids=["processes", "inline", "threads", "loky"],
)
def test_whoever_exits_in_an_executor_is_a_trial_that_failed_by_that_name(engine):
    result = ns.search(
        Tiny(), exits_at_times, strategy=GridSearch(), trials=12, failures=20, **engine
    )
    states = [outcome.state for outcome in result.outcomes]
    assert states.count("complete") == 4
    told = {str(o.failure).strip().splitlines()[-1] for o in result.outcomes if o.failure}
    assert told == {"SystemExit: 3", "tests.study.test_executors.LeavingError: mine"}
    assert len(result.study.trials) == 12  # none was taken for dead and tried again


def test_threads_freeze_one_space_at_once():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that they meet where a space works something out
    try:
        for _ in range(12):
            result = ns.search(
                Tiny(), worth, strategy=GridSearch(), trials=8, workers=4,
                executor=lambda: ThreadPoolExecutor(4),
            )  # fmt: skip
            assert [o.failure for o in result.outcomes if o.state != "complete"] == []
    finally:
        sys.setswitchinterval(before)


@pytest.mark.parametrize("executor", [None, Inline()])
def test_an_interruption_of_the_keyboard_ends_the_search(executor):
    with pytest.raises(KeyboardInterrupt):
        ns.search(Tiny(), interrupts, executor=executor, workers=1)


def test_what_is_no_number_ends_the_search():
    with pytest.raises(UsageError, match="'high'"):
        ns.search(Tiny(), says_high, executor=Inline(), workers=1)


def says_high(_network, _arch):
    return "high"


def test_poor_trials_are_stopped_early_over_the_line():
    pruner = optuna.pruners.MedianPruner(n_startup_trials=3)
    here = ns.search(Various(), reporting, trials=12, pruner=pruner)
    there = ns.search(Various(), reporting, trials=12, pruner=pruner, executor=Inline(), workers=1)
    assert [o.state for o in there.outcomes] == [o.state for o in here.outcomes]
    assert {"pruned", "complete"} == {o.state for o in there.outcomes}
    values = [t.intermediate_values for t in here.study.trials]
    assert [t.intermediate_values for t in there.study.trials] == values
    assert not [t for t in threading.enumerate() if "_accept" in t.name]


def test_reports_come_along_where_nothing_is_pruned():
    result = ns.search(Various(), reporting, trials=3, executor=Inline(), workers=1)
    assert all(len(trial.intermediate_values) == 5 for trial in result.study.trials)


def test_who_does_not_know_the_key_is_not_answered():
    from multiprocessing import AuthenticationError

    from nas_space.study.channel import PruningClient, PruningServer

    asked: list[tuple[int, float, int]] = []

    def decide(*told):
        asked.append(told)
        return False

    server = PruningServer(decide, local=True)
    try:
        stranger = PruningClient(server.client.hosts, server.client.port, b"guessed")
        with pytest.raises((ns.NasSpaceError, AuthenticationError)):
            stranger.asking(0)(1.0, 1)
        assert asked == []
        assert server.client.asking(0)(1.0, 1) is False
        assert asked == [(0, 1.0, 1)]
    finally:
        server.close()


@pytest.mark.parametrize("executor", [3, Inline, lambda: 3])
def test_what_is_no_executor_is_refused(executor):
    with pytest.raises(UsageError, match="executor"):
        ns.search(Tiny(), worth, executor=executor)


def test_one_that_does_not_tell_its_size_is_asked_for_it():
    with pytest.raises(UsageError, match="workers="):
        ns.search(Tiny(), worth, executor=Inline())


@pytest.mark.parametrize("address", ["somewhere", "dask", "slurm://x", "dask://127.0.0.1:1"])
def test_an_address_that_means_nothing_is_refused(address, tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="distributed is not installed")
    monkeypatch.setattr("nas_space.executors.dask_tasks._PATIENCE", 0.5)
    with pytest.raises(UsageError, match=r"executor is|nobody answers"):
        executor_at(address, tmp_path)


class Odd(Executor):
    """Does what it is told to from some job on."""

    def __init__(self, does, after=0):
        self.does = does
        self.after = after

    def submit(self, fn, /, *args, **kwargs):
        self.after -= 1
        if self.after < 0:
            return self.does()
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def is_even(place, _value, _step):
    return place % 2 == 0


def ended(result=None):
    future: Future[Any] = Future()
    future.set_result(result)
    return future


def refused(error):
    def raises():
        raise error

    return raises


@pytest.mark.parametrize("is_made", [False, True], ids=["given", "made"])
@pytest.mark.parametrize("after", [0, 4])
@pytest.mark.parametrize(
    ("does", "words"),
    [
        (refused(ValueError("odd")), "ValueError: odd"),
        (refused(pickle.PicklingError("odd")), "PicklingError: odd"),
        (refused(RuntimeError("closed")), "RuntimeError: closed"),
        (lambda: 3, "returned 3, no future"),
        (lambda: ended(3), "Odd gave 3"),
        (ended, "Odd gave None"),
    ],
)
def test_an_executor_that_never_works_ends_the_search_and_is_named(does, words, after, is_made):
    executor: Any = partial(Odd, does, after) if is_made and not after else Odd(does, after)
    given = (lambda: executor) if is_made and after else executor  # the same one, again and again
    with pytest.raises(TrialError, match=f"{words}.* is kept"):
        ns.search(Tiny(), worth, trials=6, executor=given, workers=2, weights="none")


def test_one_that_has_only_map_is_refused():
    class Mapping(Executor):
        pass

    with pytest.raises(TrialError, match="NotImplementedError"):
        ns.search(Tiny(), worth, trials=3, executor=Mapping(), workers=1)
    with pytest.raises(TrialError, match="NotImplementedError"):
        ns.search(Tiny(), worth, trials=3, executor=partial(Mapping), workers=1)


@pytest.mark.parametrize("fails_at", [0, 1])
def test_a_function_that_cannot_make_an_executor_is_said_to_be_it(fails_at):
    made: list[Odd] = []

    def make():
        if len(made) == fails_at:
            raise OSError("out of processes")
        made.append(Odd(refused(BrokenExecutor("gone")), after=3))
        return made[-1]

    with pytest.raises(UsageError, match="raised OSError: out of processes"):
        ns.search(Tiny(), worth, trials=6, executor=make, workers=2, weights="none")


def test_an_executor_that_cannot_be_shut_down_costs_no_result():
    class Stuck(Inline):
        _processes = 4

        def shutdown(self, *_args, **_named):
            raise ValueError("stuck")

    with pytest.warns(UserWarning, match="stuck"):
        result = ns.search(Tiny(), worth, trials=3, executor=partial(Stuck), workers=1)
    assert len(result.complete) == 3


@pytest.mark.parametrize("workers", [0, -1, "4", 2.5])
def test_an_executor_that_tells_an_odd_size_is_asked_for_it(workers):
    executor: Any = Inline()
    executor._max_workers = workers
    with pytest.raises(UsageError, match="workers="):
        ns.search(Tiny(), worth, trials=3, executor=executor)


def test_searches_may_share_the_threads_of_one_process():
    with ThreadPoolExecutor(4) as pool:

        def search(seed):
            return ns.search(
                Tiny(), worth, trials=12, executor=pool, workers=2, seed=seed, weights="none"
            )

        with ThreadPoolExecutor(2) as drivers:
            found = list(drivers.map(search, range(4)))
    for seed, result in enumerate(found):
        assert not [trial for trial in result.study.trials if trial.state.name == "FAIL"], seed


def test_threads_of_one_process_are_each_answered_for_their_own_trial():
    from nas_space.study.channel import PruningServer

    server = PruningServer(is_even, local=True)
    try:

        def told(place):
            return [server.client.asking(place)(1.0, step) for step in range(40)]

        with ThreadPoolExecutor(8) as threads:
            for place, answers in enumerate(threads.map(told, range(16))):
                assert set(answers) == {place % 2 == 0}
    finally:
        server.close()


def test_a_line_that_is_cut_is_told_and_made_anew():
    from nas_space.study.channel import PruningServer

    server = PruningServer(lambda *told: told == (), local=True)
    try:
        ask = server.client.asking(0)
        assert ask(1.0, 0) is False
        for line in server._lines:
            line.close()
        time.sleep(0.05)
        with pytest.raises(ns.NasSpaceError, match="answers no more"):
            ask(1.0, 1)
        assert ask(1.0, 2) is False
    finally:
        server.close()
    with pytest.raises(ns.NasSpaceError, match=r"not reached|answers no more"):
        ask(1.0, 3)


class Unsendable:
    def __call__(self, _network, _arch):
        return 1.0

    def __reduce__(self):
        raise RuntimeError("a handle of the driver")


def test_what_refuses_to_be_pickled_is_refused():
    with pytest.raises(UsageError, match="a handle of the driver"):
        ns.search(Tiny(), Unsendable(), executor=Inline(), workers=1)


@pytest.mark.parametrize("told", [("high", 1), (1.0, 1.5), (1.0, -1), (1.0, 2**40), (1.0, "x")])
def test_what_is_no_report_is_refused(told):
    def evaluate(_network, _arch):
        ns.study.report(*told)
        return 1.0

    with pytest.raises(TrialError, match="report takes"):
        ns.search(Tiny(), evaluate, trials=3)
