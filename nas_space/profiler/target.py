"""``TimingTarget``: where networks are timed: a runtime, on so many threads of a device."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from ..errors import SpaceError, UsageError
from ..runtimes import Exportable, Turns, find_runtime, time_in_turns
from ..runtimes.failures import explained
from .profile import Call

__all__ = ["TORCH", "TimingTarget"]

TORCH = "torch"
"""The name of torch's eager execution beside those of the runtimes."""

_TOGETHER = 1 << 30
"""Bytes of weights up to which networks are held at once, to be timed in turns."""

_DRIFT = 0.1
"""A relative change of the machine's speed between two lots that is too much."""

Loaded = Callable[[], Any]
"""Runs a network that is loaded, on inputs that it was given."""


class TimingTarget:
    """Where networks are timed.

    Parameters
    ----------
    runtime
        ``'torch'``, for torch's eager execution, or one of :data:`nas_space.runtimes.RUNTIMES`.
    threads
        How many it runs on; by default as many as torch has for ``'torch'``, and one for others.
    device
        Of torch; the others run on the CPU.
    dtype
        The type of weights and floating-point inputs; by default their own.

    Attributes
    ----------
    about
        The runtime, its version, the device, and so on: the head of a table.

    Raises
    ------
    UsageError
        If there is no such runtime or device, or the numbers make no sense.
    """

    def __init__(
        self,
        runtime: str = TORCH,
        threads: int | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        if threads is not None and (type(threads) is not int or threads < 1):
            raise UsageError(f"threads must be a whole number, 1 or more, but got {threads!r}")
        self.device, self.dtype, self.runtime = _device(device), dtype, runtime
        on_cpu = self.device.type == "cpu"
        self.about: dict[str, Any] = {"runtime": runtime, "device": _name(self.device)}
        if runtime == TORCH:
            self.threads = threads or torch.get_num_threads()
            self.about["version"] = str(torch.__version__)
        else:
            adapter = find_runtime(runtime)
            if not adapter.runs_here:
                raise UsageError(f"{runtime} does not run here, so nothing can be timed on it")
            if not on_cpu:
                raise UsageError(f"{runtime} runs on the CPU here, and not on {self.device}")
            self.threads = threads or 1
            self.about["version"] = adapter.version()
        if on_cpu:
            self.about["threads"] = self.threads
        if dtype is not None:
            self.about["dtype"] = str(dtype).removeprefix("torch.")

    def load(self, name: str, network: nn.Module, inputs: Call) -> Loaded:
        """Return a function that runs a network on inputs, with nothing to be converted in it.

        Parameters
        ----------
        name
            What errors call it.
        network
            A plain network, in evaluation mode. It is moved to the device, and to the type.
        inputs
            A tuple of arguments, and a dictionary of those by name.

        Raises
        ------
        SpaceError
            If the runtime cannot run it.
        """
        network = network.to(self.device, self.dtype)
        inputs = args, kwargs = tree_map_only(Tensor, self._moved, inputs)
        if self.runtime == TORCH:
            return lambda: network(*args, **kwargs)
        try:
            program = find_runtime(self.runtime).compile(network, inputs, threads=self.threads)
            return program.prepare(*Exportable(network, inputs).tensors)
        except UsageError:
            raise
        except Exception as error:
            told = explained(error, self.runtime, Exportable(network, inputs))
            raise SpaceError(f"{name} does not run on {self.runtime}: {told}") from error

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, self.dtype if tensor.is_floating_point() else None)

    def time(
        self, networks: Iterable[tuple[str, nn.Module, Call]], **options: Any
    ) -> list[tuple[float, bool]]:
        """Time networks in turns.

        Parameters
        ----------
        networks
            The name of each, itself, and its inputs; made one by one, so that no more are held
            than are timed at once.
        options
            As of :func:`~nas_space.runtimes.time_in_turns`.

        Returns
        -------
        list of (float, bool)
            The milliseconds of each, and whether they are steady.
        """
        lots = _Lots(self, options)
        held: list[Loaded] = []
        size = 0
        for name, network, inputs in networks:
            held.append(self.load(name, network, inputs))
            size += sum(tensor.nbytes for tensor in network.state_dict().values())
            if size > _TOGETHER:
                lots.add(held)
                held, size = [], 0
        if held:
            lots.add(held)
        return lots.found

    def in_turns(self, runs: list[Loaded], options: dict[str, Any]) -> Turns:
        """Return the times of networks that are loaded."""
        read = _on_gpu if self.device.type == "cuda" else None
        with torch.no_grad(), self._threads():
            return time_in_turns(runs, read=read, pinned=self.threads == 1, **options)

    @contextmanager
    def _threads(self) -> Iterator[None]:
        """Let torch run on as many threads as are asked for."""
        before = torch.get_num_threads()
        try:
            if self.runtime == TORCH and self.threads != before:
                torch.set_num_threads(self.threads)
            yield
        finally:
            if torch.get_num_threads() != before:
                torch.set_num_threads(before)


class _Lots:
    """Times of networks of which not all can be held at once.

    Lots are timed one after the other, while the machine becomes slower or faster.  So the first
    network is in every lot, and by how much its own time has changed since the first is taken
    off the times of the others.

    Parameters
    ----------
    target, options
        Where and how they are timed.

    Attributes
    ----------
    found
        The milliseconds of each, and whether they are steady: they are not where the machine
        changed by so much that it may have done so within a lot, too.
    """

    def __init__(self, target: TimingTarget, options: dict[str, Any]) -> None:
        self.target, self.options = target, options
        self.found: list[tuple[float, bool]] = []
        self.reference: Loaded | None = None
        self.expected = 0.0

    def add(self, runs: list[Loaded]) -> None:
        """Time a lot."""
        again = [] if self.reference is None else [self.reference]
        turns = self.target.in_turns([*again, *runs], self.options)
        first, steady = float(turns.milliseconds[0]), turns.agrees
        if self.reference is None:
            self.reference, self.expected = runs[0], first
        drift = first / self.expected if first and self.expected else 1.0
        if abs(drift - 1) > _DRIFT:
            steady = False
            warnings.warn(
                f"the machine is too noisy: what took {self.expected:.3g} ms takes {first:.3g} ms "
                "some minutes later; end other programs",
                stacklevel=3,
            )
        self.found += [(float(time) / drift, steady) for time in turns.milliseconds[len(again) :]]


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


def _on_gpu(run: Callable[[], Any], times: int) -> float:
    """Return the seconds of one of some runs, which the GPU may overlap, by its own events."""
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
    return float(start.elapsed_time(stop)) / 1000 / times
