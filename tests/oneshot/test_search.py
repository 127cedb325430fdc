"""One-shot strategies through the one entry point of every search."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

import nas_space as ns
from nas_space.errors import StorageError, UsageError
from nas_space.strategy import DARTS, ONE_SHOT, RandomOneShot
from tests.oneshot.planted import Planted, task
from tests.oneshot.test_run import ALL, Rich


def space_of(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return Rich()


@pytest.mark.parametrize("name", ONE_SHOT)
def test_a_strategy_by_name_searches_and_leaves_trained_weights(name):
    space = space_of()
    result: Any = ns.search(space, task(), strategy=name, steps=2)
    arch = result.best()
    assert result.top(2)[0] == arch
    assert set(result.probabilities()) == set(space.symbols())
    x = torch.randn(3, 4)
    network = result.network().eval()
    with space.eval().activate(arch):
        assert torch.equal(network(x), space(x))


class StopError(Exception):
    pass


@pytest.mark.parametrize("name", ALL)
def test_a_search_that_is_cut_off_resumes_to_the_same_result(name, tmp_path):
    whole = ns.search(space_of(), task(), strategy=ALL[name](), steps=6, seed=3)

    def stop(progress: Any) -> None:
        if progress.step == 5:
            raise StopError

    file = tmp_path / "search.safetensors"
    given: dict[str, Any] = {"steps": 6, "seed": 3, "storage": file, "every": 2}
    with pytest.raises(StopError):
        ns.search(space_of(), task(), strategy=ALL[name](), callbacks=[stop], **given)
    with pytest.raises(UsageError, match="resume=True"):
        ns.search(space_of(1), task(), strategy=ALL[name](), **given)
    steps: list[int] = []
    resumed = ns.search(
        space_of(1),
        task(),
        strategy=ALL[name](),
        resume=True,
        callbacks=[lambda progress: steps.append(progress.step)],
        **given,
    )
    assert steps == [5, 6]
    assert resumed.top(3) == whole.top(3)
    assert resumed.probabilities() == whole.probabilities()
    tensors = zip(
        resumed.space.state_dict().values(), whole.space.state_dict().values(), strict=True
    )
    assert all(torch.equal(a, b) for a, b in tensors)


def test_the_file_of_another_space_is_refused(tmp_path):
    given: dict[str, Any] = {"steps": 1, "storage": tmp_path / "s.safetensors"}
    ns.search(space_of(), task(), strategy=DARTS(), **given)
    with pytest.raises(StorageError, match="another space"):
        ns.search(Planted(), task(), strategy=DARTS(), resume=True, **given)


@pytest.mark.parametrize("length", [{"steps": 0}, {"steps": -1}, {"epochs": 0.0}])
def test_a_search_that_would_train_nothing_is_refused(length):
    with pytest.raises(UsageError, match=r"must be positive|must not be negative"):
        ns.search(Planted(), task(), strategy=RandomOneShot(), **length)


def test_what_has_no_meaning_is_refused():
    with pytest.raises(UsageError, match="workers"):
        ns.search(  # type: ignore[call-overload]
            Planted(), task(), strategy=RandomOneShot(), steps=1, workers=2
        )
    with pytest.raises(UsageError, match="Task"):
        ns.search(Planted(), cast("Any", max), strategy=DARTS(), steps=1)
    with pytest.raises(UsageError, match="steps"):
        ns.search(Planted(), task(), steps=1)  # type: ignore[call-overload]


@pytest.mark.parametrize("strategy", ["sandwich", "random-path", "darts", "enas"])
def test_one_training_gives_the_best_within_any_budget(strategy):
    space: Any = Planted()
    result = ns.search(space, task(), strategy=strategy, steps=4)
    small = space.where(space.symbols()["width"] <= 2)
    arch: Any = None
    for _ in range(2):  # what is asked twice is answered alike
        arch = result.best(within=small)
        assert small.contains(arch)
        assert result.top(3, within=small)[0] == arch
    network = result.network(within=small)
    assert network.architecture == arch
    with pytest.raises(UsageError, match="of another"):
        result.best(within=Planted())
    with pytest.raises(UsageError, match="not both"):
        result.network(arch, within=small)
