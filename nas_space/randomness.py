"""Randomness as a function of (seed, stream, step), so that there is no state of it to save.

A run that draws everything from a generator must store that generator to be continued. Here every
step seeds afresh from its own number instead: step 1000 draws the same whether or not the process
was restarted at step 999, and a checkpoint holds weights and optimizer, nothing else.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import numpy as np
import torch
from torch import nn

__all__ = ["device_of", "generator_of", "preserved_randomness", "seed_globally", "seed_of"]

_CPU = torch.device("cpu")


def seed_of(seed: int, stream: str, step: int) -> int:
    """Return sixty-four bits that depend on the three arguments and on nothing else.

    Parameters
    ----------
    seed
        The seed of the run.
    stream
        What it is for: two streams of one run are independent.
    step
        The number of the step, from 0.

    Returns
    -------
    int
        From 0 to 2**64 - 1, the same on every platform and in every process.

    Examples
    --------
    >>> seed_of(0, "order", 7) == seed_of(0, "order", 7)
    True
    >>> len(
    ...     {
    ...         seed_of(0, "order", 7),
    ...         seed_of(0, "noise", 7),
    ...         seed_of(0, "order", 8),
    ...         seed_of(1, "order", 7),
    ...     }
    ... )
    4
    """
    # The numbers come first, so that no stream can imitate another by ending in a digit.
    key = f"{seed} {step} {stream}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")


def device_of(network: nn.Module) -> torch.device:
    """Return the device that a network draws on: that of its first parameter or buffer, or the CPU.

    Examples
    --------
    >>> device_of(nn.Linear(1, 1)), device_of(nn.ReLU())
    (device(type='cpu'), device(type='cpu'))
    """
    first = next(chain(network.parameters(), network.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def generator_of(seed: int, stream: str, step: int, device: torch.device = _CPU) -> torch.Generator:
    """Make a generator of torch for one stream at one step.

    Parameters
    ----------
    seed, stream, step
        As for :func:`seed_of`.
    device
        Where the numbers will be drawn.

    Examples
    --------
    >>> draw = lambda: torch.rand(2, generator=generator_of(0, "noise", 3))
    >>> torch.equal(draw(), draw())
    True
    """
    return torch.Generator(device).manual_seed(seed_of(seed, stream, step))


def seed_globally(seed: int, stream: str, step: int, device: torch.device = _CPU) -> None:
    """Seed the global generators of torch, numpy and Python for one stream at one step.

    Dropout draws from torch's, and transforms of a data set from any of the three. Use it within
    :func:`preserved_randomness`, or the caller's own randomness is lost.

    Parameters
    ----------
    seed, stream, step
        As for :func:`seed_of`.
    device
        Where the network runs.
    """
    bits = seed_of(seed, stream, step)
    if device.type == "cpu":
        # `torch.manual_seed` visits every backend there could be: a hundred times slower.
        torch.default_generator.manual_seed(bits)
    else:
        torch.manual_seed(bits)
    random.seed(bits)
    np.random.seed(bits & 0xFFFFFFFF)  # noqa: NPY002 - the global one is the point


@contextmanager
def preserved_randomness(device: torch.device = _CPU) -> Iterator[None]:
    """Put the global generators of torch, numpy and Python back as they were.

    Parameters
    ----------
    device
        The device whose generator is preserved next to the CPU's.

    Examples
    --------
    >>> before = torch.get_rng_state()
    >>> with preserved_randomness():
    ...     seed_globally(0, "dropout", 1)
    ...     _ = torch.rand(3)
    >>> torch.equal(before, torch.get_rng_state())
    True
    """
    numpy_state = np.random.get_state()  # noqa: NPY002
    python_state = random.getstate()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002
