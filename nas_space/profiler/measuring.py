"""Measuring how long blocks take, and whole networks, on a target."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import nn

from ..errors import UsageError
from .blocks import Block
from .latency import blocks
from .latency_table import LatencyTable
from .profile import Call, Space
from .target import TORCH, TimingTarget

__all__ = ["Progress", "measure_latency", "reported"]

Progress = Callable[[int, int, str], None]
"""Called with how many are loaded to be timed, how many there are, and the key of the next one."""

T = TypeVar("T")


def measure_latency(
    space: Space,
    device: torch.device | str = "cpu",
    input_shape: tuple[int, ...] | None = None,
    *,
    runtime: str = TORCH,
    threads: int | None = None,
    batch_size: int = 1,
    dtype: torch.dtype | None = None,
    inputs: Any = None,
    known: LatencyTable | None = None,
    warmup: int = 5,
    repeats: int = 30,
    progress: Progress | bool = True,
) -> LatencyTable:
    """Measure every different block of a space, on the runtime that networks are deployed on.

    In inference, each block alone on random inputs. All are timed in turns, and again until two
    halves of the readings agree; see :func:`~nas_space.runtimes.time_in_turns`. On one thread that
    is processor time, so that what else the machine does counts little. A sum of blocks
    misses what a runtime fuses and what entering a block costs;
    :func:`~nas_space.profiler.calibrate_latency` corrects it.

    On the CPU, the C library of Linux gives large activations back to the system while a network
    runs in torch and has them cleared anew, which can take half of the time, of some networks and
    not of others.  Where the figures shall add up, start the program with
    ``MALLOC_MMAP_THRESHOLD_`` and ``MALLOC_TRIM_THRESHOLD_`` set to more bytes than it needs, or
    with another allocator.

    Parameters
    ----------
    space
        What the blocks are from.
    device
        Where torch runs; the other runtimes run on the CPU.
    input_shape
        The shape of one sample, without the batch.
    runtime
        ``'torch'``, for torch's eager execution, or one of :data:`nas_space.runtimes.RUNTIMES`,
        such as ``'onnxruntime'`` and ``'openvino'``.
    threads
        How many it runs on; by default as many as torch has for ``'torch'``, and one for others.
    batch_size
        How many samples there are.
    dtype
        The type of weights and floating-point inputs; by default their own.
    inputs
        As of :func:`~nas_space.profiler.macs`.
    known
        A table whose blocks are not measured again; they are in the result.
    warmup, repeats
        How often a block runs before it is read, and how often it is read before the halves of
        the readings are compared, and after each time that they do not agree.
    progress
        What to tell how far it is; ``True`` for a bar, ``False`` for nothing.

    Returns
    -------
    LatencyTable
        With the runtime, its version, threads, the device, the input shape and so on in ``about``.

    Raises
    ------
    UsageError
        If the numbers make no sense, the runtime or the device is not there, or the known table
        was measured otherwise.
    SpaceError, DecompositionError
        As of :func:`~nas_space.profiler.macs`; and if the runtime cannot run a block.

    Examples
    --------
    >>> from nas_space.nn import MutableLinear
    >>> from nas_space.profiler import latency
    >>> layer = MutableLinear(8, 4)
    >>> table = measure_latency(layer, "cpu", (8,), repeats=3, progress=False)
    >>> latency(layer, table) == table.microseconds(*table.milliseconds)
    True
    """
    if warmup < 0 or repeats < 1:
        raise UsageError(
            f"warmup must be 0 or more and repeats 1 or more, but got {warmup} and {repeats}"
        )
    target = TimingTarget(runtime, threads, device, dtype)
    about = {**target.about, "batch_size": batch_size}
    if input_shape is not None:
        about["input_shape"] = list(input_shape)
    if known is not None:
        known.require(**about)  # before all the work for it is done
    wanted = blocks(space, input_shape, inputs=inputs, batch_size=batch_size)
    todo = [block for block in wanted if known is None or block.key not in known]
    runs = [block for block in todo if block.example()]  # others make constants: nothing to run
    found = target.time(
        (_alone(block) for block in reported(runs, progress, lambda block: block.key)),
        turns=repeats,
        warmup=warmup,
    )
    done = dict.fromkeys((block.key for block in todo), 0.0)
    done |= {block.key: time for block, (time, _) in zip(runs, found, strict=True)}
    about["steady"] = all(steady for _, steady in found)
    made = LatencyTable(done, about)
    return made if known is None else known.merge(made)


def _alone(block: Block) -> tuple[str, nn.Module, Call]:
    name = f"{block.path or 'the space'} ({block.key})"
    return name, block.of_tensors("cpu"), (block.example(), {})


def reported(
    items: list[T], progress: Progress | bool, name: Callable[[T], str], what: str = "blocks"
) -> Iterable[T]:
    """Return items one by one, and tell how many of them were taken.

    Parameters
    ----------
    items
        What there is.
    progress
        What to tell; ``True`` for a bar, ``False`` for nothing.
    name
        What an item is called.
    what
        What all are called.
    """
    if progress is False:
        return items
    if progress is True:
        from rich.progress import track

        return track(items, description=f"Measuring {what}", transient=True)
    return _told(items, progress, name)


def _told(items: list[T], progress: Progress, name: Callable[[T], str]) -> Iterator[T]:
    for done, item in enumerate(items):
        progress(done, len(items), name(item))
        yield item
    progress(len(items), len(items), "")
