from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    TensorDataset,
)

from nas_space.errors import DataError, UsageError
from nas_space.randomness import preserved_randomness, seed_globally, seed_of
from nas_space.training import Batches, training_batches
from nas_space.training.batches import check_source, length_of, one_pass


def numbers(length: int) -> TensorDataset:
    return TensorDataset(torch.arange(length))


class Drawing(Dataset[Any]):
    """Examples that draw from all three global generators."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Tensor:
        drawn = [random.random(), np.random.rand(), float(torch.rand(()))]  # noqa: NPY002
        return torch.tensor([float(index), *drawn])


# ------------------------------------------------------------------------------ randomness


def test_seeds_are_those_of_every_release() -> None:
    # A changed value would silently change the results of every seed.
    assert seed_of(0, "train/order", 0) == 18342741899817374810
    assert seed_of(1, "data/split", 7) == 14603467071422024616


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_no_two_streams_meet(a: int, b: int, c: int, d: int) -> None:
    # "1 11" and "11 1", or a stream that ends in a digit, must not be confused.
    assert (seed_of(a, f"s{b}", c) == seed_of(c, f"s{d}", a)) == ((a, b) == (c, d))


def test_global_generators_are_put_back_after_an_error_too() -> None:
    def states() -> tuple[Any, ...]:
        return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002

    @preserved_randomness()
    def draw() -> None:
        seed_globally(0, "x", 0)
        assert states() != before
        raise KeyError

    before = states()
    with pytest.raises(KeyError):
        draw()
    assert states() == before


# ----------------------------------------------------------------------- data sets, indexed


@given(
    length=st.integers(1, 30),
    batch_size=st.integers(1, 40),
    passes=st.integers(1, 4),
    seed=st.integers(0, 5),
)
def test_passes_end_to_end_see_every_example_equally_often(
    length: int, batch_size: int, passes: int, seed: int
) -> None:
    batches = Batches(numbers(length), batch_size, seed=seed)
    size = batches.batch_size
    seen = [i for step in range(passes * length) for i in batches[step][0].tolist()]
    assert len(seen) == passes * length * size
    assert set(Counter(seen).values()) == {passes * size}
    for start in range(0, len(seen), length):
        assert sorted(seen[start : start + length]) == list(range(length))


def test_order_is_shuffled_and_differs_between_passes_seeds_and_streams() -> None:
    def order(seed: int, stream: str, step: int) -> list[int]:
        taken = Batches(numbers(50), 50, seed=seed, stream=stream)[step][0]
        return [int(i) for i in taken]

    orders = [order(0, "a", 0), order(0, "a", 1), order(1, "a", 0), order(0, "b", 0)]
    assert len({tuple(o) for o in [*orders, list(range(50))]}) == 5


@given(st.permutations(range(12)))
def test_a_batch_does_not_depend_on_those_asked_for_before(steps: list[int]) -> None:
    once = Batches(numbers(10), 4, seed=3)
    assert all(
        torch.equal(once[step][0], Batches(numbers(10), 4, seed=3)[step][0]) for step in steps
    )


@given(processes=st.sampled_from([1, 2, 3]), step=st.integers(0, 20))
def test_processes_share_the_joint_batch(processes: int, step: int) -> None:
    joint = Batches(numbers(20), 6, seed=0)[step][0]
    shares = [
        Batches(numbers(20), 6, seed=0, rank=rank, processes=processes)[step][0]
        for rank in range(processes)
    ]
    assert all(len(share) == 6 // processes for share in shares)
    assert torch.equal(torch.stack(shares, dim=1).flatten(), joint)


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    with pytest.raises(UsageError, match=r"batch of 5 .* 2 processes; take a multiple of 2"):
        Batches(numbers(20), 5, seed=0, processes=2)


def test_no_examples_are_refused() -> None:
    with pytest.raises(DataError, match="empty"):
        Batches(numbers(0), 5, seed=0)


class Listed(Dataset[Any]):
    """Fetches several at once."""

    def __len__(self) -> int:
        return 6

    def __getitems__(self, indices: list[int]) -> list[int]:
        return [10 * i for i in indices]

    def __getitem__(self, index: int) -> int:
        raise AssertionError(f"{index} was fetched alone")


def test_examples_are_fetched_together_where_the_data_set_can() -> None:
    batch = Batches(Listed(), 6, seed=0)[0]
    assert sorted(batch.tolist()) == [0, 10, 20, 30, 40, 50]


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_data_set_draws_depends_on_the_step_alone(workers: int) -> None:
    with preserved_randomness():
        whole = list(training_batches(Drawing(), 4, seed=1, stop=6))
        rest = list(training_batches(Drawing(), 4, seed=1, start=3, stop=6, workers=workers))
    assert all(torch.equal(a, b) for a, b in zip(whole[3:], rest, strict=True))
    assert not torch.equal(whole[0][:, 1:], whole[1][:, 1:])


# -------------------------------------------------------------------- loaders of one's own


class Eager:
    """Shuffles when asked for an iterator, as a loader with workers draws their seeds."""

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[Tensor]:
        order = torch.randperm(4).tolist()
        return iter([torch.tensor([[float(i)]]) for i in order])


def loaders() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    own = RandomSampler(Drawing(), generator=torch.Generator().manual_seed(6))
    return {
        "shuffled": DataLoader(Drawing(), batch_size=3, shuffle=True),
        "its own generator": DataLoader(Drawing(), batch_size=3, shuffle=True, generator=generator),
        "a sampler with a generator": DataLoader(Drawing(), batch_size=3, sampler=own),
        "by the epoch": DataLoader(
            Drawing(), batch_size=3, sampler=DistributedSampler(Drawing(), 1, 0)
        ),
        "shuffled at the start": Eager(),
        "in order": DataLoader(Drawing(), batch_size=3, drop_last=True),
    }


@pytest.mark.parametrize("kind", loaders())
@pytest.mark.parametrize("start", [0, 1, 4, 5, 9])
def test_a_loader_is_resumed_at_any_step(kind: str, start: int) -> None:
    with preserved_randomness():
        whole = list(islice(training_batches(loaders()[kind], 0, seed=1), 11))
        rest = list(training_batches(loaders()[kind], 0, seed=1, start=start, stop=11))
    assert all(torch.equal(a, b) for a, b in zip(whole[start:], rest, strict=True))


def test_what_a_loader_draws_does_not_depend_on_what_happens_between_its_batches() -> None:
    loader = DataLoader(Drawing(), batch_size=3)
    with preserved_randomness():
        whole = list(training_batches(loader, 0, seed=1, stop=6))
        disturbed = []
        for batch in training_batches(loader, 0, seed=1, stop=6):
            disturbed.append(batch)
            torch.manual_seed(0)
            random.seed(0)
    assert all(torch.equal(a, b) for a, b in zip(whole, disturbed, strict=True))


def test_a_shuffled_loader_differs_between_passes_and_seeds() -> None:
    def first_of(seed: int, start: int) -> list[float]:
        loader = loaders()["shuffled"]
        batch: Tensor = next(iter(training_batches(loader, 0, seed=seed, start=start)))
        return [float(x) for x in batch[:, 0]]

    with preserved_randomness():
        assert first_of(0, 0) != first_of(0, 4)
        assert first_of(0, 0) != first_of(1, 0)


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Tensor]:
        return (torch.tensor(i) for i in range(5))


def test_a_loader_without_a_length_is_resumed_too() -> None:
    loader = DataLoader(Endless(), batch_size=2)
    assert length_of(loader, 1) is None
    with preserved_randomness():
        batches = list(training_batches(loader, 0, seed=0, start=2, stop=5))
    assert [batch.tolist() for batch in batches] == [[4], [0, 1], [2, 3]]


def test_batches_that_come_once_are_refused_when_they_run_out() -> None:
    stream = training_batches((torch.zeros(1) for _ in range(2)), 0, seed=0)
    with preserved_randomness(), pytest.raises(DataError, match="iterated over again"):
        list(stream)


def test_a_loader_that_gives_all_processes_the_same_is_refused() -> None:
    loader = DataLoader(numbers(8), batch_size=2, shuffle=True)
    with pytest.raises(UsageError, match="DistributedSampler"):
        training_batches(loader, 2, seed=0, processes=2)
    shared = DataLoader(numbers(8), sampler=DistributedSampler(numbers(8), 2, 0))
    with preserved_randomness():
        assert len(next(training_batches(shared, 2, seed=0, processes=2))) == 1


# ------------------------------------------------------------------------------- one pass


@given(length=st.integers(1, 20), size=st.integers(1, 8), processes=st.integers(1, 4))
def test_one_pass_in_shares_covers_everything_in_order(
    length: int, size: int, processes: int
) -> None:
    shares = [
        torch.cat([b[0] for b in one_pass(numbers(length), size, rank=r, processes=processes)])
        for r in range(processes)
    ]
    assert torch.stack(shares, dim=1).flatten()[:length].tolist() == list(range(length))


def test_one_pass_of_a_shared_loader_is_refused() -> None:
    shared = DataLoader(numbers(8), sampler=DistributedSampler(numbers(8), 2, 0))
    with pytest.raises(UsageError, match="without a distributed sampler"):
        list(one_pass(shared, 2, processes=2))


@pytest.mark.parametrize(
    ("source", "said"), [(3, "a int"), (None, "NoneType"), (Endless(), "DataLoader")]
)
def test_what_is_no_data_is_refused(source: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        check_source(source, "train")


def test_length_counts_passes_of_a_data_set_in_parts() -> None:
    assert length_of(numbers(10), 4) == 2.5
    assert length_of(numbers(3), 4) == 1
    assert length_of(DataLoader(numbers(10), batch_size=4), 99) == 3
