"""Batches as a function of the step, so that a run can continue at any of them.

A data set is indexed: the order of each pass is a permutation drawn from (seed, pass), and step
``t`` takes the next ``batch_size`` examples of all passes put end to end. So every batch is full,
nothing is dropped, and batch ``t`` can be had without the ``t`` before it.

A :class:`~torch.utils.data.DataLoader` of the user's own cannot be indexed. It is seeded at the
start of each pass and before each batch, and on resuming the batches already seen are fetched and
thrown away. That repeats exactly what its sampler and its data set draw from the global generators,
from the loader's generator, or from the epoch; other state of their own it cannot know.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from itertools import count
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from ..errors import DataError, UsageError
from ..randomness import generator_of, seed_globally, seed_of

__all__ = [
    "Batches",
    "Source",
    "check_source",
    "is_dataset",
    "length_of",
    "one_pass",
    "training_batches",
]

Source: TypeAlias = "Dataset[Any] | Iterable[Any]"
"""A data set of examples (with ``len`` and indexing), or anything that can be iterated over again
and again and gives batches, such as a DataLoader."""


def is_dataset(source: object) -> bool:
    """Tell whether ``source`` can be indexed by example, rather than iterated by batch."""
    return hasattr(source, "__getitem__") and isinstance(source, Sized)


def check_source(source: object, name: str) -> None:
    """Refuse what is no source of data.

    Parameters
    ----------
    source
        What was given.
    name
        What to call it in the message.

    Raises
    ------
    DataError
        It can neither be indexed nor iterated, it iterates over examples instead of batches, or it
        is a tuple, an array or a table of whole inputs and targets.
    """
    array = hasattr(source, "shape") and not isinstance(source, Dataset)
    if array or isinstance(source, tuple | Mapping | str | bytes):
        raise DataError(
            f"the {name} data is a {type(source).__name__}, which is no data set of examples; put "
            "inputs and targets together: torch.utils.data.TensorDataset(inputs, targets)"
        )
    if isinstance(source, IterableDataset):
        raise DataError(
            f"the {name} data is an IterableDataset, which gives single examples; "
            "wrap it in a torch.utils.data.DataLoader"
        )
    if not is_dataset(source) and not isinstance(source, Iterable):
        raise DataError(
            f"the {name} data is a {type(source).__name__}; give a data set with len() and "
            "indexing, or an iterable of batches such as a DataLoader"
        )


def length_of(source: Source, batch_size: int) -> float | None:
    """Return the batches of one pass: a fraction for a data set, ``None`` if not known."""
    if not isinstance(source, Sized):
        return None
    try:
        length = len(source)
    except TypeError:  # a DataLoader over an iterable data set has a len that raises
        return None
    return length / min(batch_size, length) if length and is_dataset(source) else length


class Batches(Dataset[Any]):
    """The batches of a data set, for training: ``batches[step]``.

    Parameters
    ----------
    dataset
        With ``len`` and indexing. A :class:`~torch.utils.data.TensorDataset` is indexed once a
        batch; from others, examples are taken one by one (or by ``__getitems__``) and collated.
    batch_size
        Examples in the joint batch of all processes; the whole data set if that is smaller.
    seed, stream
        What the order depends on. Two streams of one seed are independent.
    rank, processes
        Which share of the joint batch this process takes: every ``processes``-th example.

    Raises
    ------
    DataError
        The data set is empty.
    UsageError
        The batch cannot be divided among the processes.

    Examples
    --------
    >>> batches = Batches(TensorDataset(torch.arange(10)), batch_size=5, seed=0)
    >>> first, second = batches[0][0], batches[1][0]
    >>> sorted(torch.cat([first, second]).tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    >>> torch.equal(batches[0][0], first)
    True
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batch_size: int,
        *,
        seed: int,
        stream: str = "train",
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.dataset = cast("Any", dataset)
        self.length: int = len(self.dataset)
        if not self.length:
            raise DataError("the training data set is empty; give it at least one example")
        self.batch_size = min(batch_size, self.length)
        if self.batch_size % processes:
            raise UsageError(
                f"a batch of {self.batch_size} examples cannot be divided among {processes} "
                f"processes; take a multiple of {processes}"
            )
        self.seed = seed
        self.stream = stream
        self.rank = rank
        self.processes = processes
        self._orders: dict[int, Tensor] = {}

    def indices(self, step: int) -> Tensor:
        """Return the examples of the joint batch of ``step``, as positions in the data set."""
        start = step * self.batch_size
        first, offset = divmod(start, self.length)
        last = (start + self.batch_size - 1) // self.length
        order = self._order(first)
        if last != first:
            # The batch is no longer than a pass, so it touches two at most.
            order = torch.cat([order, self._order(last)])
        return order[offset : offset + self.batch_size]

    def __getitem__(self, step: int) -> Any:
        """The batch of ``step``: this process's share of it.

        Seeds the global generators, for what the data set draws from them.
        """
        seed_globally(self.seed, f"{self.stream}/examples/{self.rank}", step)
        return fetch(self.dataset, self.indices(step)[self.rank :: self.processes])

    def _order(self, pass_: int) -> Tensor:
        if pass_ not in self._orders:
            generator = generator_of(self.seed, f"{self.stream}/order", pass_)
            # A batch needs two passes at most; older ones would only take memory.
            self._orders = {p: o for p, o in self._orders.items() if p == pass_ - 1}
            self._orders[pass_] = torch.randperm(self.length, generator=generator)
        return self._orders[pass_]


def fetch(dataset: Any, indices: Tensor) -> Any:
    """Take the examples at ``indices`` and put them together as a batch."""
    if isinstance(dataset, TensorDataset):
        return dataset[indices]
    if hasattr(dataset, "__getitems__"):
        return default_collate(dataset.__getitems__(indices.tolist()))
    return default_collate([dataset[i] for i in indices.tolist()])


def training_batches(
    source: Source,
    batch_size: int,
    *,
    seed: int,
    start: int = 0,
    stop: int | None = None,
    stream: str = "train",
    rank: int = 0,
    processes: int = 1,
    workers: int = 0,
) -> Iterator[Any]:
    """Iterate over the batches of the steps from ``start`` on.

    Parameters
    ----------
    source
        A data set, or an iterable of batches such as a DataLoader (then ``batch_size`` and
        ``workers`` are its own affair).
    batch_size, seed, stream, rank, processes
        As for :class:`Batches`.
    start, stop
        The first step, and the one to stop before (never, if None).
    workers
        Processes that fetch ahead. Whatever their number, the batches are the same.

    Yields
    ------
    Any
        A batch. The global generators are seeded while one is fetched.

    Raises
    ------
    DataError
        There are no examples, or the iterable can be iterated over only once.
    UsageError
        Several processes would all be given the same batches.
    """
    if not is_dataset(source):
        if processes > 1:
            _check_is_shared(source)
        return _loader_batches(source, seed, start, stop, f"{stream}/{rank}")
    batches = Batches(
        source,  # type: ignore[arg-type]
        batch_size,
        seed=seed,
        stream=stream,
        rank=rank,
        processes=processes,
    )
    steps = count(start) if stop is None else range(start, stop)
    if not workers:
        return (batches[step] for step in steps)
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
    )
    return iter(loader)


def one_pass(
    source: Source, batch_size: int, *, rank: int = 0, processes: int = 1
) -> Iterator[Any]:
    """Iterate over all batches of ``source`` once, in order, the last one possibly smaller.

    Parameters
    ----------
    source, batch_size
        As for :func:`training_batches`.
    rank, processes
        Every process takes every ``processes``-th example of a data set, from the start again where
        the end would leave some with one example fewer. An iterable is given whole to all.
    """
    if not is_dataset(source):
        sampler = getattr(source, "sampler", None)
        if processes > 1 and hasattr(sampler, "set_epoch"):
            raise UsageError(
                "every process evaluates all batches of a DataLoader; "
                "give one without a distributed sampler, or the data set itself"
            )
        yield from cast("Iterable[Any]", source)
        return
    length = len(source)  # type: ignore[arg-type]
    # All processes must run equally often, as they wait for each other; what the padding adds is
    # cut off once the outputs are gathered.
    padded = torch.arange(-(-length // processes) * processes) % max(length, 1)
    own = padded[rank::processes]
    for start in range(0, len(own), batch_size):
        yield fetch(source, own[start : start + batch_size])


def _loader_batches(
    source: Any, seed: int, start: int, stop: int | None, stream: str
) -> Iterator[Any]:
    # A loader can only be gone through, so to resume at a step its pass is begun with the same
    # seeds and the batches before are dropped.  Where the length of a pass is unknown, even all
    # passes before are gone through.
    per_pass = length_of(source, 1)
    first, step = divmod(start, int(per_pass)) if per_pass else (0, 0)
    step = start - step if per_pass else 0
    for pass_ in count(first):
        before = step
        seed_globally(seed, f"{stream}/order", pass_)
        _reseed(source, seed_of(seed, f"{stream}/order", pass_), pass_)
        batches = iter(source)
        while True:
            if step == stop:
                return
            seed_globally(seed, f"{stream}/examples", step)
            batch = next(batches, _END)
            if batch is _END:
                break
            if step >= start:
                yield batch
            step += 1
        if step == before:
            raise DataError(
                "the training batches have run out; give something that can be iterated over "
                "again, such as a DataLoader, not a generator"
            )


_END = object()


def _reseed(loader: Any, bits: int, pass_: int) -> None:
    """Make the order of a loader's next pass depend on the pass alone."""
    sampler: Any = getattr(loader, "sampler", None)
    for owner in (loader, sampler):
        generator = getattr(owner, "generator", None)
        if isinstance(generator, torch.Generator):
            generator.manual_seed(bits)
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(pass_)


def _check_is_shared(source: Any) -> None:
    # Only these two are known to give every process the same; others may know what they do.
    if isinstance(getattr(source, "sampler", None), RandomSampler | SequentialSampler):
        raise UsageError(
            "every process would train on the same batches; give the data set itself instead of a "
            "DataLoader, or a DataLoader with a torch.utils.data.DistributedSampler"
        )
