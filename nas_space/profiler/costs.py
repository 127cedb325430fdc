"""Costs of the architectures of a space, as expressions over its labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from ..errors import SpaceError
from .cases import Array, Context, Labels, ordered, spread
from .evaluation import Outcome
from .formulas import covered
from .profile import InputShape, Profile, Space, profile
from .terms import Tables, largest, titled, total
from .trace import Claim, Held

_TABLE = 2**16
"""Up to how many combinations of labels the memory of one moment is one table."""


def macs(
    space: Space,
    input_shape: InputShape | None = None,
    *,
    inputs: Any = None,
    dtype: torch.dtype | None = None,
) -> Any:
    """Multiply-adds of one sample: of convolutions, linear layers, matrix products, attention.

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
    of = profile(space, input_shape, inputs=inputs, dtype=dtype)
    return titled(counted(of, _macs), "macs")


def flops(
    space: Space,
    input_shape: InputShape | None = None,
    *,
    inputs: Any = None,
    dtype: torch.dtype | None = None,
) -> Any:
    """Floating-point operations of one sample, as ``torch.utils.flop_counter`` counts them.

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
    of = profile(space, input_shape, inputs=inputs, dtype=dtype)
    return titled(counted(of, _flops, each=2), "flops")


def _flops(outcome: Outcome) -> int:
    return outcome.flops


def _macs(outcome: Outcome) -> int:
    return outcome.flops // 2


def counted(
    of: Profile, quantity: Callable[[Outcome], int], *, each: int = 1, config: Any = None
) -> Any:
    """A quantity of all calls of functions, and what formulas say of modules that have one.

    Parameters
    ----------
    of
        The space, followed.
    quantity
        What one call costs.
    each
        What one multiply-add of a formula counts.
    config
        What formulas are given as ``config``.
    """
    tables = Tables(of.space)
    modules, rest = covered(of, config)
    for context, labels, table in modules:
        tables.add(context, labels, table * each)
    for call, step in rest:
        unknown = [name for outcome in step.outcomes for name in outcome.unknown]
        if unknown:
            raise SpaceError(
                f"nobody knows what {unknown[0]} costs, which {call.path or 'the space'} calls; say"
                " so with torch.utils.flop_counter.register_flop_formula, or for the module that "
                "calls it with nas_space.profiler.register_flops_formula"
            )
        tables.add(step.context, step.labels, step.table(quantity))
    return tables.sum()


def memory(
    space: Space,
    input_shape: InputShape | None = None,
    *,
    training: bool = False,
    batch_size: int = 1,
    inputs: Any = None,
    dtype: torch.dtype | None = None,
) -> Any:
    """Bytes of activations, without those of parameters and buffers.

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
    tables = Tables(of.space)
    tables.raise_to(Context(), *total(*_held(of.live, {})))
    wide: list[Any] = []
    known: dict[Any, tuple[Labels, Array]] = {}
    for _, step in of.steps():
        if not any(outcome.peak for outcome in step.outcomes):
            continue
        parts = [step.exact(step.table(_own_peak)), *_held(step.live, known)]
        labels = ordered(*(labels for labels, _ in parts))
        if math.prod(label.size for label in labels) <= _TABLE:
            tables.raise_to(step.context, *total(*parts))
        else:
            moment = Tables(of.space)
            for part in parts:
                moment.add(step.context, *part)
            wide.append(moment.sum())
    return tables.maximum(*wide)


def _held(
    claims: list[Claim], known: dict[Any, tuple[Labels, Array]]
) -> Iterator[tuple[Labels, Array]]:
    """The bytes that are held by some claims, of which several may be on the same memory."""
    groups: dict[int, list[Claim]] = {}
    for claim in claims:
        groups.setdefault(id(claim.held), []).append(claim)
    for group in groups.values():
        held = group[0].held
        key = (id(held), *sorted(id(claim.guards) for claim in group if claim.guards))
        if any(not claim.guards for claim in group):
            key = (id(held),)
        part = known.get(key)
        if part is None:
            parts = [
                held.exact(()) if len(key) == 1 else held.exact(claim.guards) for claim in group
            ]
            part = known[key] = parts[0] if len(key) == 1 else largest(*parts)
        yield part


def _own_peak(outcome: Outcome) -> int:
    return outcome.peak


def _kept(of: Profile) -> Any:
    tables = Tables(of.space)
    keeping: dict[int, tuple[Held, list[tuple[Labels, Array]]]] = {}
    for _, step in of.steps():
        tables.add(step.context, step.labels, step.table(lambda outcome: outcome.extra))
        for uses, kept_of in ((step.arguments, _kept_arguments), (step.results, _kept_leaves)):
            for place, (held, guards) in uses:
                kept = step.table(lambda outcome, p=place, of=kept_of: p in of(outcome))  # type: ignore[misc]
                if kept.any():
                    parts = keeping.setdefault(id(held), (held, []))[1]
                    parts.append(step.exact(kept, guards))
    for held, parts in keeping.values():
        mine, table = held.exact()
        whole = next((part for part in parts if _covers(part, mine, table)), None)
        labels, count = total(*(parts if whole is None else [whole]), (mine, table * 0))
        tables.add(held.context, labels, np.where(count > 0, spread(table, mine, labels), 0))
    return tables.sum()


def _kept_arguments(outcome: Outcome) -> frozenset[int]:
    return outcome.kept_arguments


def _kept_leaves(outcome: Outcome) -> frozenset[int]:
    return outcome.kept_leaves


def _covers(part: tuple[Labels, Array], labels: Labels, table: Array) -> bool:
    """Whether one call keeps a piece of memory wherever that exists."""
    both = ordered(labels, part[0])
    return bool(((spread(table, labels, both) == 0) | (spread(part[1], part[0], both) > 0)).all())
