"""How long the architectures of a space take, from a table of how long their blocks take."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..errors import DataError, UsageError
from .accumulation import Accumulator, titled
from .blocks import Block, timed
from .latency_table import LatencyTable
from .profile import Space, module_of, profile

__all__ = ["blocks", "latency"]


def latency(
    space: Space,
    table: LatencyTable | str | os.PathLike[str],
    input_shape: tuple[int, ...] | None = None,
    *,
    inputs: Any = None,
    dtype: torch.dtype | None = None,
) -> Any:
    """Return the time of each architecture: the sum over its blocks, in whole microseconds.

    Parameters
    ----------
    space
        A space; any other module counts as one of a single architecture.
    table
        Times of blocks, or the file they are in.  A table in a published format needs a space
        that has a method ``latency_key``, which gives the key of a :class:`Block`, or ``None``
        for what is part of another one.
    input_shape
        The shape of one sample, without the batch; by default what the table was measured on.
    inputs, dtype
        As of :func:`~nas_space.profiler.macs`.

    Returns
    -------
    MutableExpression[int]
        In microseconds.

    Raises
    ------
    UsageError
        If the input shape is not known, or the space has no names for the blocks of the table.
    DataError
        If blocks are missing in the table; the error lists them.
    SpaceError, DecompositionError
        As of :func:`~nas_space.profiler.macs`.
    """
    space = module_of(space)
    times = table if isinstance(table, LatencyTable) else LatencyTable.read(table)
    if input_shape is None and inputs is None:
        if "input_shape" not in times.about:
            raise UsageError(
                "the table does not say for what inputs its times are; give input_shape"
            )
        input_shape = tuple(times.about["input_shape"])
    if dtype is None and inputs is None and "inputs_dtype" in times.about:
        dtype = getattr(torch, times.about["inputs_dtype"])
    batch_size = times.about.get("batch_size", 1) if inputs is None else 1
    of = profile(space, input_shape, inputs=inputs, dtype=dtype, batch_size=batch_size)
    name = _namer(space, times)
    total = Accumulator(space)
    missing: dict[str, Block] = {}

    def time(block: Block) -> int:
        key = name(block)
        if key is not None and key not in times:
            missing.setdefault(key, block)
        return times.microseconds(key) if key is not None and key in times else 0

    for place in timed(of):
        total.add(place.blocks.quantity(time), place.context)
    lacking = [key for key, block in missing.items() if block.sample is not None]
    if lacking:
        raise DataError(
            f"the latency table lacks {len(lacking)} blocks of {type(space).__name__} on inputs "
            f"{tuple(of.inputs.args[0].shape)}: {', '.join(lacking)}"
        )
    return titled(total.sum(), "latency_us")


def _namer(space: nn.Module, times: LatencyTable) -> Callable[[Block], str | None]:
    if not times.published:
        return lambda block: block.key
    found = getattr(space, "latency_key", None)
    if found is None:
        raise UsageError(
            f"{type(space).__name__} does not say what the blocks of this published table are "
            "called; it needs a method latency_key(block), or a table of its own (measure_latency)"
        )
    known: dict[tuple[str, str], str | None] = {}

    def name(block: Block) -> str | None:
        place = (block.path, block.key)
        if place not in known:
            known[place] = found(block)
        return known[place]

    return name


def blocks(
    space: Space,
    input_shape: tuple[int, ...] | None = None,
    *,
    inputs: Any = None,
    dtype: torch.dtype | None = None,
    batch_size: int = 1,
) -> list[Block]:
    """Return the different blocks of a space, in the order in which they run first.

    Parameters
    ----------
    space, input_shape, inputs, dtype
        As of :func:`~nas_space.profiler.macs`.
    batch_size
        How many samples there are.

    Examples
    --------
    >>> from nas_space.hub import ProxylessNAS
    >>> found = blocks(ProxylessNAS(), (3, 224, 224))
    >>> len(found), found[0].kind, found[0].outputs
    (72, 'ConvBNReLU', [(1, 32, 112, 112)])
    """
    of = profile(space, input_shape, inputs=inputs, dtype=dtype, batch_size=batch_size)
    found: dict[str, Block] = {}
    for place in timed(of):
        for block in place.blocks.values:
            if block.key not in found and block.sample is not None:
                found[block.key] = block
    return list(found.values())
