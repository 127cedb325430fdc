"""Post-training quantisation: a network that is ready, with weights and products of 8 bits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from ..errors import NasSpaceError, UsageError
from .exportable import Exportable
from .exporting import Export, export, folder_beside, settled
from .failures import explained
from .program_module import ProgramModule
from .registry import find_runtime
from .timing import time_programs

__all__ = ["Quantized", "eight_bit_products", "quantize"]


@dataclass(frozen=True)
class Quantized:
    """A network for a runtime, before and after quantisation.

    Attributes
    ----------
    method
        ``'static'`` or ``'dynamic'``.
    before, after
        The two files. ``after.difference`` is what eight bits cost on the inputs.
    scores
        What ``score`` says of both; ``None`` without it.
    products
        Whether the processor multiplies 8 bits by instructions of its own, without which nothing
        gets faster; ``None`` if that is not known.
    """

    method: str
    before: Export
    after: Export
    scores: tuple[float, float] | None = None
    products: bool | None = None

    def __str__(self) -> str:
        parts = [f"{self.before.size / 1e6:.2f} MB before, {self.after.size / 1e6:.2f} after"]
        if self.before.latency is not None and self.after.latency is not None:
            parts.append(
                f"{self.before.latency.median:.3g} ms before, {self.after.latency.median:.3g} after"
            )
        if self.scores is not None:
            parts.append("score {:.4g} before, {:.4g} after".format(*self.scores))
        if self.products is False:
            parts.append("this processor has no instructions for 8 bits")
        return f"{self.after.file} ({self.method}): {'; '.join(parts)}"


def quantize(
    network: nn.Module,
    runtime: str,
    inputs: Any,
    folder: str | os.PathLike[str] = ".",
    *,
    calibration: Iterable[Any] | None = None,
    method: Literal["static", "dynamic"] | None = None,
    score: Callable[[nn.Module], float] | None = None,
    name: str = "network",
    dynamic_batch: bool | None = None,
    threads: int = 1,
    seconds: float = 0.5,
) -> Quantized:
    """Export a network as it is and with 8 bits, and say what that changes.

    Nothing is trained: weights are rounded, with a range for each channel of outputs. On a
    processor without instructions for products of 8 bits (``avx512_vnni``, ``avx_vnni``, Arm's
    dot products) the file is smaller and no faster.

    Parameters
    ----------
    network, runtime, inputs, folder, name, dynamic_batch, threads, seconds
        As of :func:`export`. The file with 8 bits is called ``name.int8`` and what it ends in.
    calibration
        Batches of real inputs, each in the form of ``inputs``: their activations say which range 8
        bits are to cover. A few hundred samples are enough.
    method
        ``'static'`` for ranges that are fixed by ``calibration``, of all layers; ``'dynamic'`` for
        ranges found in each run, of linear layers only. By default static for a network with
        convolutions, and dynamic for one without, such as a transformer, whose activations have few
        large values that a fixed range would have to cover.
    score
        Called on a module that computes what the runtime does, before and after.

    Returns
    -------
    Quantized
        Both files, and both scores.

    Raises
    ------
    UsageError
        If static ranges are wanted without calibration, or the runtime is another than ONNX
        Runtime; and as of :func:`export`.
    SpaceError
        If the network cannot be written.

    Examples
    --------
    >>> import tempfile, torch
    >>> network = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512)).eval()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = quantize(network, "onnxruntime", torch.randn(1, 64), folder, seconds=0.01)
    ...     made.method, made.after.file.name, made.after.size < made.before.size / 3
    ('dynamic', 'network.int8.onnx', True)
    """
    adapter = find_runtime(runtime)
    adapter.require()
    if not adapter.quantizes:
        raise UsageError(f"networks are quantised for onnxruntime, not for {runtime}")
    convolutional = any("Conv" in type(module).__name__ for module in network.modules())
    chosen = method or ("static" if convolutional else "dynamic")
    if chosen not in ("static", "dynamic"):
        raise UsageError(f"method is 'static' or 'dynamic', but got {method!r}")
    source = Exportable(network, inputs)
    batches = [source.tensors_of(batch) for batch in calibration or ()]
    if chosen == "static" and not batches:
        raise UsageError(
            "static quantisation needs calibration=..., some batches of real inputs; "
            "method='dynamic' does without, for linear layers"
        )
    before = export(
        network, runtime, inputs, folder,
        name=name, dynamic_batch=dynamic_batch, threads=threads, seconds=0,
    )  # fmt: skip
    if not before.dynamic_batch:
        _check_sizes(batches, source)
    with folder_beside(folder, name) as aside:
        path = aside / f"{name}.int8{adapter.suffix}"
        try:
            adapter.quantize(before.file, path, method=chosen, batches=batches)
        except (NasSpaceError, OSError):
            raise
        except Exception as error:
            raise explained(error, f"{runtime} with 8 bits", source) from error
        program = adapter.load(path, threads=threads)
        after = settled(
            adapter, source, program, path, folder, before.dynamic_batch, (),
            threads=threads, seconds=0,
        )  # fmt: skip
    # Both are timed in turns, and not each when it was written: what the machine did in between
    # would look like a gain or a loss by 8 bits.
    programs = [adapter.load(each.file, threads=threads) for each in (before, after)]
    latencies = time_programs(
        [(program, source.tensors) for program in programs], threads=threads, seconds=seconds
    )
    before, after = (
        replace(each, latency=latency)
        for each, latency in zip((before, after), latencies, strict=True)
    )
    scores = None
    if score is not None:
        first, second = (score(ProgramModule(program, source).eval()) for program in programs)
        scores = first, second
    return Quantized(chosen, before, after, scores, eight_bit_products())


def eight_bit_products() -> bool | None:
    """Return whether this processor multiplies 8 bits by itself; ``None`` if it is not known.

    Linux says what a processor can do; other systems are not asked.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return None
    return not {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}.isdisjoint(flags)


def _check_sizes(batches: list[list[Any]], source: Exportable) -> None:
    shapes = [tuple(tensor.shape) for tensor in source.tensors]
    for batch in batches:
        found = [tuple(tensor.shape) for tensor in batch]
        if found != shapes:
            raise UsageError(
                f"the network takes inputs of the shapes {shapes} only; a batch for calibration "
                f"has {found}"
            )
