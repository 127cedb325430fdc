"""The memory of activations of the architectures of a space, as expressions over its labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from operator import attrgetter
from typing import Any

import torch

from ..mutable.factors import Factor
from .accumulation import Accumulator, added, largest, titled
from .allocations import Allocation, Claim
from .contexts import EVERYWHERE
from .execution import Execution
from .profile import InputShape, Profile, Space, profile

__all__ = ["memory"]

_TABLE = 2**16
"""The largest number of combinations of labels for which the memory of a moment is one factor."""


def memory(
    space: Space,
    input_shape: InputShape | None = None,
    *,
    training: bool = False,
    batch_size: int = 1,
    inputs: Any = None,
    dtype: torch.dtype | None = None,
) -> Any:
    """Count bytes of activations, without those of parameters and buffers.

    In training, the sum of what autograd keeps for the backward pass, each piece of memory
    once.  In inference, the most that is held at any moment: inputs, results that the
    forward still holds, and what functions need while they run.  That is a maximum over
    moments, not a sum.  Both are what torch's own eager execution holds on the meta device;
    an allocator rounds up, and kernels of a device may use space to work in.

    Parameters
    ----------
    space, input_shape, inputs, dtype
        As of :func:`macs`.
    training
        Whether to give what is kept in training; else the peak of inference.
    batch_size
        How many samples there are.  Batch norm needs more than one in training where nothing
        but channels is left.

    Returns
    -------
    MutableExpression[int]
        In bytes.

    Raises
    ------
    UsageError, SpaceError, DecompositionError
        As :func:`macs`.

    Examples
    --------
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 2))
    >>> memory(net, (8,))  # the input, and 64 numbers before and after the activation
    544
    >>> memory(net, (8,), training=True)  # the input, and the activation's result
    288
    """
    of = profile(
        space,
        input_shape,
        inputs=inputs,
        dtype=dtype,
        batch_size=batch_size,
        training=training,
        memory=True,
    )
    return titled(_kept(of), "kept_bytes") if training else titled(_peak(of), "peak_bytes")


def _peak(of: Profile) -> Any:
    found = Accumulator(of.space)
    found.raise_to(added(*_held(of.held or [], {})))
    wide: list[Any] = []
    known: dict[Any, Factor] = {}
    context, cut = EVERYWHERE, dict[int, tuple[Factor, Factor]]()
    for _, call in of.root.functions():
        if not any(execution.peak for execution in call.executions.values):
            continue
        parts = [call.within(lambda execution: execution.peak), *_held(call.memory.live, known)]
        if _combinations(parts) <= _TABLE:
            found.raise_to(added(*parts), call.context)
        else:
            moment = Accumulator(of.space)
            # Most of what is held now was held when the last function was called, and cut to the
            # same context; what was cut to others is as much as all moments together.
            if call.context is not context:
                context, cut = call.context, {}
            for part in parts:
                if id(part) not in cut:
                    cut[id(part)] = part, context.only(part)
                if not part.never:
                    moment.take(cut[id(part)][1])
            wide.append(moment.sum())
    return found.maximum(*wide)


def _combinations(parts: list[Factor]) -> int:
    scope = {variable for part in parts for variable in part.scope}
    return math.prod([variable.size for variable in scope])


def _held(claims: list[Claim], known: dict[Any, Factor]) -> Iterator[Factor]:
    """The bytes that are held by some claims, of which several may be on the same memory."""
    groups: dict[int, list[Claim]] = {}
    for claim in claims:
        groups.setdefault(id(claim.allocation), []).append(claim)
    for group in groups.values():
        allocation = group[0].allocation
        needed = _needed(allocation, group)
        key = id(allocation), frozenset(needed)
        part = known.get(key)
        if part is None:
            parts = [allocation.within(tuple(needed[ids].values())) for ids in needed]
            part = known[key] = largest(*parts)
        yield part


def _needed(allocation: Allocation, claims: list[Claim]) -> dict[frozenset[int], dict[int, Factor]]:
    """The conditions of claims on some memory, but for claims that others imply.

    Each condition is about few labels, and all of them together may be about too many.
    """
    if not all(claim.conditions for claim in claims):
        return {frozenset(): {}}
    there = set(map(id, allocation.context.conditions))
    found = {}
    for claim in claims:
        conditions = {id(each): each for each in claim.conditions if id(each) not in there}
        found[frozenset(conditions)] = conditions
    # From few conditions to many, so that each need be compared with those alone that are left,
    # which are few: a cell's tensors may have tens of thousands of claims.
    left: dict[frozenset[int], None] = {}
    for ids in sorted(found, key=len):
        if not any(other < ids for other in left):
            left[ids] = None
    return {ids: each for ids, each in found.items() if ids in left}


def _kept(of: Profile) -> Any:
    found = Accumulator(of.space)
    keeping: dict[int, tuple[Allocation, list[Factor]]] = {}
    for _, call in of.root.functions():
        found.add(call.executions.quantity(lambda execution: execution.extra), call.context)
        for uses, which in (
            (call.memory.arguments, attrgetter("kept_arguments")),
            (call.memory.results, attrgetter("kept_leaves")),
        ):
            for place, (allocation, conditions) in uses:
                kept = partial(_is_kept, which, place)
                if any(map(kept, call.executions.values)):
                    parts = keeping.setdefault(id(allocation), (allocation, []))[1]
                    parts.append(call.within(kept, *conditions))
    for allocation, parts in keeping.values():
        size = allocation.within()
        whole = next((part for part in parts if _covers(part, size)), None)
        kept_here = largest(*(parts if whole is None else [whole]))
        found.add(size.where(kept_here))
    return found.sum()


def _is_kept(which: Callable[[Execution], frozenset[int]], place: int, execution: Execution) -> int:
    return int(place in which(execution))


def _covers(part: Factor, size: Factor) -> bool:
    """Whether one call keeps a piece of memory wherever that exists."""
    return size.combine(part, lambda held, kept: (held == 0) | (kept > 0)).always
