"""Measuring how long blocks take where torch runs."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import nn

from ..errors import UsageError
from .latency import blocks
from .latency_table import LatencyTable
from .profile import Space

__all__ = ["Progress", "Reader", "measure_latency"]

Progress = Callable[[int, int, str], None]
"""Called with how many blocks are done, how many there are, and the key of the next one."""

T = TypeVar("T")

_SHORTEST = 5e-4
"""Seconds that one reading takes at least: shorter blocks run several times in it."""


def measure_latency(
    space: Space,
    device: torch.device | str = "cpu",
    input_shape: tuple[int, ...] | None = None,
    *,
    batch_size: int = 1,
    dtype: torch.dtype | None = None,
    inputs: Any = None,
    known: LatencyTable | None = None,
    warmup: int = 5,
    repeats: int = 30,
    progress: Progress | bool = True,
) -> LatencyTable:
    """Measure every different block of a space once.

    In inference, each block alone on random inputs: it is warmed up, then read several times,
    of which the median counts.  On a GPU, CUDA events take the time.

    On the CPU, the C library of Linux gives large activations back to the system while a network
    runs and has them cleared anew, which can take half of the time, of some networks and not of
    others.  Where the figures shall add up, start the program with ``MALLOC_MMAP_THRESHOLD_`` and
    ``MALLOC_TRIM_THRESHOLD_`` set to more bytes than it needs, or with another allocator.

    Parameters
    ----------
    space
        What the blocks are from.
    device
        Where they run.
    input_shape
        The shape of one sample, without the batch.
    batch_size
        How many samples there are.
    dtype
        The type of weights and floating-point inputs; by default their own.
    inputs
        As of :func:`~nas_space.profiler.macs`.
    known
        A table whose blocks are not measured again; they are in the result.
    warmup, repeats
        How often a block runs before it is read, and how often it is read.
    progress
        What to tell how far it is; ``True`` for a bar, ``False`` for nothing.

    Returns
    -------
    LatencyTable
        With the device, the input shape and so on in ``about``.

    Raises
    ------
    UsageError
        If the numbers make no sense, or the device is not there.
    SpaceError, DecompositionError
        As of :func:`~nas_space.profiler.macs`.

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
    where = _device(device)
    wanted = blocks(space, input_shape, inputs=inputs, batch_size=batch_size)
    done: dict[str, float] = {}
    todo = [block for block in wanted if known is None or block.key not in known]
    with torch.no_grad():
        for block in _shown(todo, progress, lambda block: block.key):
            module, example = block.of_tensors(where, dtype), block.example(where, dtype)
            read = _on_gpu if where.type == "cuda" else _on_cpu
            done[block.key] = 1000 * _measured(module, example, read, warmup, repeats)
            del module, example
    about: dict[str, Any] = {
        "device": _name(where),
        "batch_size": batch_size,
        "torch": str(torch.__version__),
    }
    if input_shape is not None:
        about["input_shape"] = list(input_shape)
    if dtype is not None:
        about["dtype"] = str(dtype).removeprefix("torch.")
    if where.type == "cpu":
        about["threads"] = torch.get_num_threads()
    made = LatencyTable(done, about)
    return made if known is None else known.merge(made)


def _device(device: torch.device | str) -> torch.device:
    try:
        where = torch.device(device)
        torch.empty(1, device=where)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"there is no device {device!r} to measure on: {error}") from error
    if where.type == "meta":
        raise UsageError("nothing runs on the meta device, so nothing can be measured there")
    return where


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"{device.type}: {platform.processor() or platform.machine()}"


Reader = Callable[[Callable[[], Any], int], float]
"""Runs something so many times, and gives the seconds that it took."""


def _measured(
    module: nn.Module, example: tuple[torch.Tensor, ...], read: Reader, warmup: int, repeats: int
) -> float:
    def run() -> Any:
        return module(*example)

    for _ in range(warmup):
        run()
    times = 1
    while (taken := read(run, times)) < _SHORTEST and times < 2**16:
        times *= 2 if taken <= 0 else max(2, min(10, round(_SHORTEST / taken)))
    return statistics.median(read(run, times) for _ in range(repeats)) / times


def _on_cpu(run: Callable[[], Any], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        run()
    return time.perf_counter() - start


def _on_gpu(run: Callable[[], Any], times: int) -> float:
    start, stop = (
        torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        for _ in range(2)
    )
    torch.cuda.synchronize()
    start.record()
    for _ in range(times):
        run()
    stop.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(stop)) / 1000


def _shown(items: list[T], progress: Progress | bool, name: Callable[[T], str]) -> Iterable[T]:
    if progress is False:
        return items
    if progress is True:
        from rich.progress import track

        return track(items, description="Measuring blocks", transient=True)
    return _told(items, progress, name)


def _told(items: list[T], progress: Progress, name: Callable[[T], str]) -> Iterator[T]:
    for done, item in enumerate(items):
        progress(done, len(items), name(item))
        yield item
    progress(len(items), len(items), "")
