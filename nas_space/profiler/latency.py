"""How long the architectures of a space take, from a table of how long their blocks take."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..errors import DataError, UsageError
from ..mutable.factors import Factor
from .accumulation import Accumulator, titled
from .blocks import Block, timed
from .latency_table import LatencyTable
from .profile import Profile, Space, module_of, profile

__all__ = ["blocks", "followed", "latency", "namer"]


def latency(
    space: Space,
    table: LatencyTable | str | os.PathLike[str],
    input_shape: tuple[int, ...] | None = None,
    *,
    inputs: Any = None,
    dtype: torch.dtype | None = None,
    runtime: str | None = None,
    threads: int | None = None,
) -> Any:
    """Return the time of each architecture: the sum over its blocks.

    Where the table knows what blocks take within a network (see
    :func:`~nas_space.profiler.calibrate_latency`), these are summed, and what every network takes
    besides; else what each block takes alone.

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
    runtime, threads
        What the table has to be measured with; whatever it says by default.

    Returns
    -------
    MutableExpression
        In whole microseconds; of a corrected table in fractions of them, if networks take few.

    Raises
    ------
    UsageError
        If the input shape is not known, the space has no names for the blocks of the table, or
        the table was measured with another runtime or number of threads, or corrected for inputs
        of another shape.
    DataError
        If blocks are missing in the table; the error lists them.
    SpaceError, DecompositionError
        As of :func:`~nas_space.profiler.macs`.
    """
    space = module_of(space)
    times = table if isinstance(table, LatencyTable) else LatencyTable.read(table)
    wanted = {"runtime": runtime, "threads": threads}
    times.require(**{name: value for name, value in wanted.items() if value is not None})
    of = followed(space, times, input_shape, inputs, dtype)
    correction = times.correction
    if correction is not None and input_shape is not None and "input_shape" in times.about:
        # A key has the block's own shapes; what a network takes besides goes by those of its input.
        times.require(input_shape=list(input_shape))
    shares = times.milliseconds if correction is None else correction.milliseconds
    unit = 1.0 if correction is None else correction.unit
    name = namer(space, times)
    total = Accumulator(space)
    missing: dict[str, Block] = {}

    def time(block: Block) -> int:
        key = name(block)
        if key is not None and key not in shares:
            missing.setdefault(key, block)
        return round(shares[key] * 1000 / unit) if key is not None and key in shares else 0

    for place in timed(of):
        total.add(place.blocks.quantity(time), place.context)
    lacking = [key for key, block in missing.items() if block.sample is not None]
    if lacking:
        kind = "latency table" if correction is None else "correction of the latency table"
        raise DataError(
            f"the {kind} lacks {len(lacking)} blocks of {type(space).__name__} on {of.inputs}: "
            f"{', '.join(lacking)}"
        )
    if correction is not None:
        total.add(Factor.constant(round(correction.constant * 1000 / unit)))
    found = total.sum()
    return titled(found if unit == 1 else found * unit, "latency_us")


def followed(
    space: Space,
    times: LatencyTable,
    input_shape: tuple[int, ...] | None,
    inputs: Any,
    dtype: torch.dtype | None = None,
) -> Profile:
    """Return a space as it was followed on inputs, by default on those that a table is of.

    Raises
    ------
    UsageError
        If the input shape is not known.
    """
    about = times.about
    if inputs is not None:
        return profile(space, inputs=inputs, dtype=dtype)
    if input_shape is None:
        if "input_shape" not in about:
            raise UsageError(
                "the table does not say for what inputs its times are; give input_shape"
            )
        input_shape = tuple(about["input_shape"])
    if dtype is None and "inputs_dtype" in about:
        dtype = getattr(torch, about["inputs_dtype"])
    return profile(space, input_shape, dtype=dtype, batch_size=about.get("batch_size", 1))


def namer(space: nn.Module, times: LatencyTable) -> Callable[[Block], str | None]:
    """Return what tells the key of a block in a table; ``None`` for what is part of another one.

    Raises
    ------
    UsageError
        If the table is a published one, for whose keys the space has no names.
    """
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
