"""A network written for a runtime, compared there with itself, and timed."""

from __future__ import annotations

import math
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NasSpaceError, SpaceError, StorageError, UsageError
from ..files import beside, writing
from .base import Program, Runtime
from .exportable import Exportable
from .failures import explained, first_line
from .registry import find_runtime
from .timing import Latency, time_programs

__all__ = ["Export", "difference", "export", "folder_beside", "settled"]


@dataclass(frozen=True)
class Export:
    """A network in a file that a runtime reads.

    Attributes
    ----------
    runtime, version
        Which one, and its version here.
    files
        What it reads, the file to be named first.
    size
        Bytes of all of them.
    difference
        The largest absolute difference of an output from what torch computes on the same inputs;
        ``None`` where the runtime does not run here.
    largest
        The largest absolute output of torch, to hold the difference against.
    latency
        Of the inputs that were given; ``None`` where the runtime does not run here.
    dynamic_batch
        Whether it takes batches of any size.
    notes
        What else there is to know.
    """

    runtime: str
    version: str
    files: tuple[Path, ...]
    size: int
    difference: float | None
    largest: float
    latency: Latency | None
    dynamic_batch: bool
    notes: tuple[str, ...] = field(default=())

    @property
    def file(self) -> Path:
        """The file that the runtime is given."""
        return self.files[0]

    def __str__(self) -> str:
        differs = "not run here" if self.difference is None else f"differs by {self.difference:.1e}"
        batch = "batches of any size" if self.dynamic_batch else "batches of one size"
        parts = [
            f"{self.size / 1e6:.2f} MB",
            differs,
            batch,
            *([str(self.latency)] * bool(self.latency)),
        ]
        return f"{self.file} ({self.runtime} {self.version}): {', '.join([*parts, *self.notes])}"


def export(
    network: nn.Module,
    runtime: str,
    inputs: Any,
    folder: str | os.PathLike[str] = ".",
    *,
    name: str = "network",
    dynamic_batch: bool | None = None,
    threads: int = 1,
    tolerance: float = 1e-3,
    seconds: float = 0.5,
) -> Export:
    """Write a network for a runtime, run it there on the inputs, and compare it with torch.

    Parameters
    ----------
    network
        A plain network in evaluation mode, on the CPU.
    runtime
        ``'onnxruntime'``, ``'openvino'``, ``'executorch'``, ``'litert'``, ``'coreml'``,
        ``'torch-export'``, or another of :data:`~nas_space.runtimes.RUNTIMES`.
    inputs
        Real inputs: a tensor; a tuple of arguments; a mapping of arguments by name, as a tokenizer
        gives it; or a pair of a tuple and a mapping. Whatever is no tensor becomes a constant.
    folder
        Where the file goes; made if it does not exist. A file of the same name is replaced once the
        new one has been compared; a failure leaves all as it was.
    name
        Of the file, without its suffix.
    dynamic_batch
        Whether the first axis of the inputs is free: ``None`` for where the network and the runtime
        allow it, ``True`` if it must be, ``False`` if it is that of the inputs. A file of one size
        can be faster.  ExecuTorch plans memory for the largest batch, so there it is free, up to
        32, only if it must be.
    threads
        On how many it is timed.
    tolerance
        From which difference on there is a warning, as a share of the largest output, or of one if
        all are less.
    seconds
        About how long it is timed.

    Returns
    -------
    Export
        The file, its size, the difference and the times.

    Raises
    ------
    UsageError
        If there is no such runtime, or it is not installed; if the network is in training mode or
        not on the CPU, or does not run on the inputs; or if the batch must be free and cannot be.
    SpaceError
        If the network has something that the runtime lacks; the error names the operator and the
        module, as far as they are known.
    StorageError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU()).eval()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = export(network, "torch-export", torch.randn(2, 4), folder)
    ...     made.file.name, made.dynamic_batch, made.difference < 1e-6
    ('network.pt2', True, True)
    """
    adapter = find_runtime(runtime)
    adapter.require()
    if threads < 1:
        raise UsageError(f"a program runs on 1 thread or more, but got {threads}")
    if not name or Path(name).name != name:
        raise UsageError(f"the name of a file, without folder and suffix, is needed, got {name!r}")
    if dynamic_batch and not (adapter.dynamic or adapter.largest_batch):
        raise UsageError(f"{runtime} has no batches of any size: leave out dynamic_batch=True")
    source = Exportable(network, inputs)
    with folder_beside(folder, name) as beside_it:
        path = beside_it / f"{name}{adapter.suffix}"
        program, dynamic, notes = _written(adapter, source, path, dynamic_batch, threads)
        made = settled(
            adapter, source, program, path, folder, dynamic, notes, threads=threads, seconds=seconds
        )
    if made.difference is not None and not made.difference <= tolerance * max(1.0, made.largest):
        warnings.warn(
            f"{made.file} gives other outputs than torch: they differ by {made.difference:.3g}, "
            f"where the largest is {made.largest:.3g}",
            stacklevel=2,
        )
    return made


@contextmanager
def folder_beside(folder: str | os.PathLike[str], name: str) -> Iterator[Path]:
    """Give a folder within a folder, in which files are made before they are moved there."""
    whole = Path(folder)
    with writing(whole / name):
        whole.mkdir(parents=True, exist_ok=True)
        aside = beside(whole / name)
        aside.mkdir()
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def settled(
    adapter: Runtime,
    source: Exportable,
    program: Program | None,
    path: Path,
    folder: str | os.PathLike[str],
    dynamic: bool,
    notes: Sequence[str],
    *,
    threads: int,
    seconds: float,
) -> Export:
    """Compare and time what was written, and move it to where it belongs."""
    # All that may fail comes before the files are moved, so that a file of the same name is
    # replaced by one that has run.
    expected = list(source.outputs.values())
    latency = apart = None
    if program is not None:
        apart = difference(program(*source.tensors), expected)
        (latency,) = time_programs([(program, source.tensors)], threads=threads, seconds=seconds)
    with writing(Path(folder, path.name)):
        files = _moved(path, Path(folder))
    return Export(
        runtime=adapter.name,
        version=adapter.version(),
        files=files,
        size=sum(map(_size, files)),
        difference=apart,
        largest=_largest(expected),
        latency=latency,
        dynamic_batch=dynamic,
        notes=(*notes, *([] if program else [f"not compared: {adapter.name} does not run here"])),
    )


def _written(
    adapter: Runtime, source: Exportable, path: Path, dynamic: bool | None, threads: int
) -> tuple[Program | None, bool, list[str]]:
    """Write a network, for batches of any size if that is wanted and works; say why if not."""
    # Whether a batch can be free is not known before it has been tried: the network's code may fix
    # it (a reshape to a number that it read), and so may the converter, or only the runtime when it
    # loads the file. So it is tried first, unless nobody wants it, and what it left is removed.
    notes: list[str] = []
    if dynamic and not source.batch_size:
        raise UsageError("the first input has no axis, so there is no batch to be of any size")
    if (adapter.dynamic if dynamic is None else dynamic) and source.batch_size:
        try:
            program = _attempt(adapter, source, path, True, threads)
            bound = source.bound(adapter.largest_batch)
            return program, True, [f"for batches of 1 to {bound}"] if bound else []
        except StorageError:
            raise
        except Exception as error:
            if dynamic:
                raise UsageError(
                    f"{adapter.name} cannot have batches of any size: {error}"
                ) from error
            notes.append(f"not for other batches: {first_line(error)}")
        for left in path.parent.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    return _attempt(adapter, source, path, False, threads), False, notes


def _attempt(
    adapter: Runtime, source: Exportable, path: Path, dynamic: bool, threads: int
) -> Program | None:
    """Write a network and load it; where batches are free, see whether it runs on another one."""
    with writing(path.parent.parent / path.name):  # where it will be, for whoever is told
        try:
            adapter.export(source, path, dynamic=dynamic)
            if not adapter.runs_here:
                return None
            program = adapter.load(path, threads=threads)
            program(*source.tensors)  # some find only now that they lack an operator
        except (NasSpaceError, OSError):
            raise
        except Exception as error:
            raise explained(error, adapter.name, source) from error
    # A program may take batches of any size and compute something else for another one, where a
    # size was read as a number on the way. One more sample shows that, against the network itself.
    if dynamic:
        size = source.batch_size + 1
        other = source.of_batch(size)
        with torch.no_grad():
            expected = list(source.module(*other))
        found, scale = difference(program(*other), expected), _largest(expected)
        if not found <= 1e-3 * max(1.0, scale):
            raise SpaceError(f"with {size} samples its outputs differ by {found:.2g}")
    return program


def _largest(tensors: Sequence[Tensor]) -> float:
    """Return the largest absolute value among tensors, 0 if there is none."""
    return max((float(tensor.abs().max()) for tensor in tensors if tensor.numel()), default=0.0)


def difference(given: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Return the largest absolute difference of outputs; infinite where only one is finite.

    Raises
    ------
    SpaceError
        If they are not as many, or of other shapes.
    """
    shapes = [[tuple(tensor.shape) for tensor in tensors] for tensors in (given, expected)]
    if shapes[0] != shapes[1]:
        raise SpaceError(f"its outputs are of the shapes {shapes[0]}, the network's {shapes[1]}")
    # Equal infinities, and two values that are no numbers, do not differ, though subtracting them
    # says otherwise. Where one of two is no number, they are infinitely far apart: NaN would be
    # below every tolerance, since no comparison with it is true.
    most = 0.0
    for one, other in zip(given, expected, strict=True):
        here, there = one.to(torch.float64), other.to(torch.float64)
        apart = torch.where(
            (here == there) | (here.isnan() & there.isnan()), 0.0, (here - there).abs()
        )
        if apart.numel():
            most = max(most, float(apart.nan_to_num(nan=math.inf, posinf=math.inf).max()))
    return most


def _moved(path: Path, folder: Path) -> tuple[Path, ...]:
    """Put what was written in its place; return the paths, the main one first."""
    found = sorted(path.parent.iterdir(), key=lambda file: file.name != path.name)
    # The main file is the last: where it is, what it reads is there, and where another cannot be
    # moved, that of before is still the main file.
    for file in reversed(found):
        target = folder / file.name
        if target.is_dir():
            shutil.rmtree(target)
        file.replace(target)
    return tuple(folder / file.name for file in found)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
