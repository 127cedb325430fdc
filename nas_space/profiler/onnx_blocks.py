"""Blocks as ONNX files, for devices where torch does not run."""

from __future__ import annotations

import csv
import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..errors import SpaceError, UsageError
from ..files import replacing
from .latency import blocks
from .profile import Space

__all__ = ["export_blocks"]


def export_blocks(
    space: Space,
    input_shape: tuple[int, ...] | None,
    folder: str | os.PathLike[str],
    *,
    inputs: Any = None,
    dtype: torch.dtype | None = None,
    batch_size: int = 1,
) -> Path:
    """Write every different block of a space as an ONNX file, and a list of them.

    Fill in the column ``milliseconds`` of the list with what each block takes on the device,
    and give it to :func:`~nas_space.profiler.latency`, with the input shape.

    Parameters
    ----------
    space, input_shape, inputs, dtype, batch_size
        As of :func:`~nas_space.profiler.blocks`.
    folder
        Where the files go; it is made if it does not exist.

    Returns
    -------
    Path
        The list: ``blocks.csv``, with the columns ``key``, ``file``, ``path``, ``input_shapes``
        and ``milliseconds``, the last one empty.

    Raises
    ------
    UsageError
        If the packages ``onnx`` and ``onnxscript`` are not installed, or the folder holds a
        list already.
    SpaceError
        If a block cannot be written as ONNX, besides what :func:`~nas_space.profiler.macs` raises.
    """
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise UsageError(
                f"exporting needs the package {package!r}: pip install 'nas-space[onnx]'"
            )
    where = Path(folder)
    where.mkdir(parents=True, exist_ok=True)
    listing = where / "blocks.csv"
    if listing.exists():
        raise UsageError(f"{listing} exists already; times in it would be lost")
    rows: list[tuple[str, ...]] = []
    for number, block in enumerate(
        blocks(space, input_shape, inputs=inputs, dtype=dtype, batch_size=batch_size)
    ):
        example = block.example()
        if not example:
            continue  # makes constants: nothing to run
        name = f"block{number:04d}.onnx"
        try:
            with _quiet():
                torch.onnx.export(
                    block.of_tensors(), example, where / name, dynamo=True, verbose=False
                )
        except Exception as error:
            raise SpaceError(
                f"{block.path or 'the space'} ({block.key}) cannot be written as ONNX: {error}"
            ) from error
        shapes = " ".join("x".join(map(str, tensor.shape)) for tensor in example)
        rows.append((block.key, name, block.path, shapes, ""))
    with replacing(listing) as part, part.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("key", "file", "path", "input_shapes", "milliseconds"))
        writer.writerows(rows)
    return listing


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says again for every file."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
