"""Costs of the architectures of a space, as expressions over its labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from ..mutable.factors import Factor
from .accumulation import Accumulator, added, largest, titled
from .allocations import Allocation, Claim
from .cost import Cost, LayerCall, UnknownOperatorError
from .execution import Execution
from .formulas import formula_for, multiply_adds
from .operator_calls import OperatorCall
from .profile import InputShape, Profile, Space, profile

__all__ = ["Flops", "Macs", "flops", "macs", "memory"]

_TABLE = 2**16
"""The largest number of combinations of labels for which the memory of a moment is one factor."""


class Macs(Cost):
    """Multiply-adds; see :func:`macs`.

    Parameters
    ----------
    config
        What formulas of layers are given as ``config``.
    """

    name, unit = "macs", "MACs"

    def __init__(self, config: Any = None) -> None:
        self.config = config

    def of_operator(self, call: OperatorCall) -> float:
        return _flops(call) // 2

    def rule_for(self, module: nn.Module) -> Callable[[LayerCall], float] | None:
        formula = formula_for(module)
        return None if formula is None else partial(multiply_adds, formula, self.config)


class Flops(Cost):
    """Floating-point operations; see :func:`flops`."""

    name, unit = "flops", "FLOPs"

    def of_operator(self, call: OperatorCall) -> float:
        return _flops(call)

    def rule_for(self, module: nn.Module) -> Callable[[LayerCall], float] | None:
        formula = formula_for(module)
        return None if formula is None else lambda call: 2 * multiply_adds(formula, None, call)


def _flops(call: OperatorCall) -> int:
    flops = call.flops
    if flops is None:
        raise UnknownOperatorError
    return flops


def macs(
    space: Space,
    input_shape: InputShape | None = None,
    *,
    inputs: Any = None,
    dtype: torch.dtype | None = None,
) -> Any:
    """Count multiply-adds of one sample: convolutions, linear layers, matrix products, attention.

    Half of :func:`flops`.  Normalisation, biases, activations and pooling do not count.

    Parameters
    ----------
    space
        A space; any other module counts as one of a single architecture.
    input_shape
        The shape of one sample, without the batch.
    inputs
        Instead: tensors as the forward takes them, a batch of one; only shapes and types count.
        A tensor, a tuple of arguments, or one that ends with a dictionary of named arguments.
    dtype
        The type of a sample given by its shape; torch's default by default.

    Returns
    -------
    MutableExpression[int]
        In multiply-adds; a plain ``int`` where all architectures cost the same.

    Raises
    ------
    UsageError
        If the shape is none.
    SpaceError
        If the space, or some architecture of it, does not run on such inputs, or if it calls
        something of which nobody knows what it costs.
    DecompositionError
        If too many labels determine something together.

    Examples
    --------
    >>> from nas_space.hub import ProxylessNAS
    >>> space = ProxylessNAS()
    >>> cost = macs(space, (3, 224, 224))
    >>> net = ProxylessNAS.load_searched_model("proxyless-mobile")
    >>> cost.evaluate(net.architecture)
    320427584
    """
    return Macs()(space, input_shape, inputs=inputs, dtype=dtype)


def flops(
    space: Space,
    input_shape: InputShape | None = None,
    *,
    inputs: Any = None,
    dtype: torch.dtype | None = None,
) -> Any:
    """Count floating-point operations of one sample, as ``torch.utils.flop_counter`` does.

    Two for each multiply-add; else as :func:`macs`.

    Returns
    -------
    MutableExpression[int]
        In operations.

    Examples
    --------
    >>> from nas_space.nn import MutableLinear
    >>> flops(MutableLinear(8, 4), (8,))
    64
    """
    return Flops()(space, input_shape, inputs=inputs, dtype=dtype)


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
        space, input_shape, inputs=inputs, dtype=dtype, batch_size=batch_size, training=training
    )
    return titled(_kept(of), "kept_bytes") if training else titled(_peak(of), "peak_bytes")


def _peak(of: Profile) -> Any:
    found = Accumulator(of.space)
    found.raise_to(added(*_held(of.live, {})))
    wide: list[Any] = []
    known: dict[Any, Factor] = {}
    for _, call in of.function_calls():
        if not any(execution.peak for execution in call.executions.values):
            continue
        parts = [call.within(lambda execution: execution.peak), *_held(call.live, known)]
        if _combinations(parts) <= _TABLE:
            found.raise_to(added(*parts), call.context)
        else:
            moment = Accumulator(of.space)
            for part in parts:
                moment.add(part, call.context)
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
        key = (id(allocation), *sorted(tuple(sorted(ids)) for ids in needed))
        part = known.get(key)
        if part is None:
            parts = [allocation.within(tuple(needed[ids].values())) for ids in needed]
            part = known[key] = largest(*parts)
        yield part


def _needed(allocation: Allocation, claims: list[Claim]) -> dict[frozenset[int], dict[int, Factor]]:
    """The conditions of claims on some memory, but for claims that others imply.

    Each condition is about few labels, and all of them together may be about too many.
    """
    there = set(map(id, allocation.context.conditions))
    found = {}
    for claim in claims:
        conditions = {id(each): each for each in claim.conditions if id(each) not in there}
        found[frozenset(conditions)] = conditions
    return {ids: each for ids, each in found.items() if not any(other < ids for other in found)}


def _kept(of: Profile) -> Any:
    found = Accumulator(of.space)
    keeping: dict[int, tuple[Allocation, list[Factor]]] = {}
    for _, call in of.function_calls():
        found.add(call.executions.quantity(lambda execution: execution.extra), call.context)
        for uses, kept_of in ((call.arguments, _kept_arguments), (call.results, _kept_leaves)):
            for place, (allocation, conditions) in uses:
                kept = partial(_is_kept, kept_of, place)
                if any(map(kept, call.executions.values)):
                    parts = keeping.setdefault(id(allocation), (allocation, []))[1]
                    parts.append(call.within(kept, *conditions))
    for allocation, parts in keeping.values():
        size = allocation.within()
        whole = next((part for part in parts if _covers(part, size)), None)
        kept_here = largest(*(parts if whole is None else [whole]))
        found.add(size.where(kept_here))
    return found.sum()


def _kept_arguments(execution: Execution) -> frozenset[int]:
    return execution.kept_arguments


def _kept_leaves(execution: Execution) -> frozenset[int]:
    return execution.kept_leaves


def _is_kept(
    kept_of: Callable[[Execution], frozenset[int]], place: int, execution: Execution
) -> int:
    return int(place in kept_of(execution))


def _covers(part: Factor, size: Factor) -> bool:
    """Whether one call keeps a piece of memory wherever that exists."""
    return size.combine(part, lambda held, kept: (held == 0) | (kept > 0)).always
