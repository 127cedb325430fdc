"""Blocks and networks as files, with a script that times them where torch does not run."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..errors import DataError, SpaceError, UsageError
from ..files import beside, writing
from ..mutable import Sample
from ..runtimes import Exportable, Runtime, find_runtime
from ..runtimes.failures import first_line
from . import measure_on_device
from .blocks import Block, filled
from .latency import blocks
from .latency_table import LatencyTable, decimal
from .profile import Space, module_of, profile

__all__ = ["device_kit", "export_blocks", "read_device_kit"]

_BLOCKS, _NETWORKS, _TABLE = "blocks.csv", "networks.csv", "latency.yaml"
_HEAD, _SCRIPT = "kit.json", "measure.py"

_MEASURED = ("onnxruntime", "openvino", "litert")
"""Runtimes whose packages for Python need no torch."""


def export_blocks(
    space: Space,
    input_shape: tuple[int, ...] | None,
    folder: str | os.PathLike[str],
    *,
    runtime: str = "onnxruntime",
    inputs: Any = None,
    dtype: torch.dtype | None = None,
    batch_size: int = 1,
) -> Path:
    """Write every different block of a space as a file for a runtime, and a list of them.

    Fill in the column ``milliseconds`` of the list with what each block takes on the device,
    and give it to :func:`~nas_space.profiler.latency`, with the input shape. Where Python runs on
    the device, :func:`device_kit` writes a script that does so.

    Parameters
    ----------
    space, input_shape, inputs, dtype, batch_size
        As of :func:`~nas_space.profiler.blocks`.
    folder
        Where the files go; it is made if it does not exist.
    runtime
        One of :data:`nas_space.runtimes.RUNTIMES`; ``'onnxruntime'`` for files in ONNX.

    Returns
    -------
    Path
        The list: ``blocks.csv``, with the columns ``key``, ``file``, ``path``, ``input_shapes``
        and ``milliseconds``, the last one empty.

    Raises
    ------
    UsageError
        If the runtime is not installed, or the folder holds a list already.
    SpaceError
        If a block cannot be written, besides what :func:`~nas_space.profiler.macs` raises.
    """
    adapter, where = _checked(runtime, folder)
    with _together(where) as aside:
        wanted = blocks(space, input_shape, inputs=inputs, dtype=dtype, batch_size=batch_size)
        _write_blocks(adapter, wanted, aside)
    return where / _BLOCKS


def device_kit(
    space: Space,
    input_shape: tuple[int, ...] | None,
    folder: str | os.PathLike[str],
    *,
    runtime: str = "onnxruntime",
    networks: int = 0,
    seed: int = 0,
    inputs: Any = None,
    dtype: torch.dtype | None = None,
    batch_size: int = 1,
) -> Path:
    """Write a folder that measures the blocks of a space on a device with Python and a runtime.

    Copied there, ``python measure.py`` times all files in turns, until two halves of the readings
    agree, and writes ``latency.yaml``, a table; the column ``milliseconds`` of ``blocks.csv``; and
    that of ``networks.csv``. It needs nothing but the runtime's own package, and NumPy, which that
    brings. Back here, :func:`read_device_kit` reads them.

    Parameters
    ----------
    space, input_shape, folder, inputs, dtype, batch_size
        As of :func:`export_blocks`.
    runtime
        ``'onnxruntime'``, ``'openvino'`` or ``'litert'``.
    networks
        How many random architectures to write as whole networks, to calibrate the table by.
    seed
        Of these.

    Returns
    -------
    Path
        The script.

    Raises
    ------
    UsageError
        If the runtime has no package that runs without torch, or as of :func:`export_blocks`.
    SpaceError
        As of :func:`export_blocks`.
    """
    adapter, where = _checked(runtime, folder)
    if runtime not in _MEASURED:
        raise UsageError(
            f"a kit is for {', '.join(_MEASURED)}: {runtime} has no package for Python that runs "
            "without torch; take the files of export_blocks to it"
        )
    if networks < 0:
        raise UsageError(f"networks is a number of architectures, but got {networks}")
    whole: Any = module_of(space)
    wanted = blocks(whole, input_shape, inputs=inputs, dtype=dtype, batch_size=batch_size)
    of = profile(whole, input_shape, inputs=inputs, dtype=dtype, batch_size=batch_size).inputs
    with _together(where) as aside:
        tensors = _write_blocks(adapter, wanted, aside)
        if networks:
            drawn = whole.sample(networks, seed=seed)
            tensors |= _write_networks(adapter, whole, drawn, filled(of.given, seed), aside, dtype)
        about: dict[str, Any] = {"runtime": runtime, "batch_size": batch_size}
        if input_shape is not None:
            about["input_shape"] = list(input_shape)
        if dtype is not None:
            about["dtype"] = str(dtype).removeprefix("torch.")
        head = {"about": about, "tensors": tensors}
        (aside / _HEAD).write_text(json.dumps(head, indent=1) + "\n", encoding="utf-8")
        shutil.copyfile(measure_on_device.__file__, aside / _SCRIPT)
    return where / _SCRIPT


def read_device_kit(
    folder: str | os.PathLike[str],
) -> tuple[LatencyTable, list[tuple[dict[str, Any], float]]]:
    """Read what the script of a device kit has measured.

    Returns
    -------
    LatencyTable
        The times of the blocks.
    list of (dict, float)
        Architectures with the milliseconds of their networks, for
        :func:`~nas_space.profiler.calibrate_latency`; empty if there were none.

    Raises
    ------
    DataError
        If the script has not been run, or what it wrote is damaged.
    """
    where = Path(folder)
    if not (where / _TABLE).exists():
        raise DataError(f"{where} has no {_TABLE} yet: run `python {_SCRIPT}` in it on the device")
    table, networks = LatencyTable.read(where / _TABLE), []
    if (where / _NETWORKS).exists():
        with (where / _NETWORKS).open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                try:
                    networks.append((json.loads(row["arch"]), decimal(row["milliseconds"])))
                except (KeyError, TypeError, ValueError) as error:
                    raise DataError(f"{where / _NETWORKS} is damaged: {error}") from error
    return table, networks


def _checked(runtime: str, folder: str | os.PathLike[str]) -> tuple[Runtime, Path]:
    adapter, where = find_runtime(runtime), Path(folder)
    adapter.require()
    if (where / _BLOCKS).exists():
        raise UsageError(f"{where / _BLOCKS} exists already; times in it would be lost")
    return adapter, where


@contextmanager
def _together(folder: Path) -> Iterator[Path]:
    """Give a place to write files in, which are moved to a folder once all are there."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        aside = beside(folder / "kit")
        aside.mkdir()
        try:
            yield aside
            # The list is the last: where it is, all are.
            for file in sorted(aside.iterdir(), key=lambda file: file.name == _BLOCKS):
                file.replace(folder / file.name)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


Tensors = dict[str, list[tuple[list[int], str]]]
"""By the name of a file, the shapes and types of its inputs, by which a device makes them."""


def _write_blocks(adapter: Runtime, wanted: Sequence[Block], folder: Path) -> Tensors:
    rows: list[tuple[str, ...]] = []
    tensors: Tensors = {}
    for number, block in enumerate(wanted):
        example = block.example()
        if not example:
            continue  # makes constants: nothing to run
        name = f"block{number:04d}{adapter.suffix}"
        what = f"{block.path or 'the space'} ({block.key})"
        tensors[name] = _write(adapter, block.of_tensors(), example, folder / name, what)
        shapes = " ".join("x".join(map(str, tensor.shape)) for tensor in example)
        rows.append((block.key, name, block.path, shapes, ""))
    head = ("key", "file", "path", "input_shapes", "milliseconds")
    _write_csv(folder / _BLOCKS, head, rows)
    return tensors


def _write_networks(
    adapter: Runtime,
    space: Any,
    drawn: Iterable[Sample],
    example: Any,
    folder: Path,
    dtype: torch.dtype | None,
) -> Tensors:
    rows: list[tuple[str, ...]] = []
    tensors: Tensors = {}
    for place, arch in enumerate(drawn):
        name = f"network{place:04d}{adapter.suffix}"
        network = space.freeze(arch, device="cpu").eval()
        if dtype is not None:
            network = network.to(dtype)
        tensors[name] = _write(adapter, network, example, folder / name, f"network {place}")
        rows.append((json.dumps(dict(arch)), name, ""))
    _write_csv(folder / _NETWORKS, ("arch", "file", "milliseconds"), rows)
    return tensors


def _write(
    adapter: Runtime, network: torch.nn.Module, inputs: Any, path: Path, what: str
) -> list[tuple[list[int], str]]:
    """Write a file in the fast way; return the shapes and types of its inputs."""
    try:
        source = Exportable(network, inputs)
        adapter.export(source, path, fast=True)
    except OSError:
        raise
    except Exception as error:
        told = first_line(error)
        raise SpaceError(f"{what} cannot be written for {adapter.name}: {told}") from error
    return [(list(t.shape), str(t.dtype).removeprefix("torch.")) for t in source.tensors]


def _write_csv(path: Path, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(head)
        writer.writerows(rows)
