"""Allocations: which memory tensors lie in, for all architectures at once, and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from ..mutable.factors import Factor
from ..mutable.piecewise import Piecewise
from .contexts import Context
from .tensors import VaryingTensor
from .trace import FunctionCall

__all__ = ["Allocation", "Claim", "MemoryWatch", "Moment", "Share"]


@dataclass(slots=True, eq=False)
class Allocation:
    """Memory of one tensor.

    Attributes
    ----------
    context
        The architectures that have it.
    size
        Its bytes, a factor.
    """

    context: Context
    size: Factor

    def within(self, conditions: tuple[Factor, ...] = ()) -> Factor:
        """Return its bytes, 0 for architectures that lack it or do not meet conditions."""
        return self.context.within(*conditions).only(self.size)


class Claim(NamedTuple):
    """That a tensor lies in some memory.

    Attributes
    ----------
    allocation
        The memory.
    conditions
        For which architectures it does: after a choice, the tensor lies elsewhere for others.
    """

    allocation: Allocation
    conditions: tuple[Factor, ...]


class Share:
    """A claim that holds as long as this object lives.

    Parameters
    ----------
    live
        Where it is listed meanwhile.
    claim
        What is claimed.
    """

    __slots__ = ("claim", "live")

    def __init__(self, live: dict[int, Claim], claim: Claim) -> None:
        self.live = live
        self.claim = claim
        live[id(self)] = claim

    def where(self, *conditions: Factor) -> Share:
        """Return a claim of the same, for the architectures alone that meet further conditions."""
        allocation, mine = self.claim
        return Share(self.live, Claim(allocation, (*conditions, *mine)))

    def __del__(self) -> None:
        self.live.pop(id(self), None)


class Moment(NamedTuple):
    """Where tensors lie when a function is called.

    Attributes
    ----------
    live
        The memory that is held when it begins.
    arguments, results
        For its arguments and its results: the place among the leaves, and where that lies.
    """

    live: list[Claim]
    arguments: list[tuple[int, Claim]]
    results: list[tuple[int, Claim]]


class MemoryWatch:
    """Notes which memory is held at which moment, while a space is followed.

    Attributes
    ----------
    live
        The claims, by the identity of the share that each holds as long as.
    inputs
        The claims of the inputs, which are held all the time.
    """

    def __init__(self) -> None:
        self.live: dict[int, Claim] = {}
        self.inputs: list[Claim] = []

    def claims(self) -> list[Claim]:
        """Return what is held now."""
        return list(self.live.values())

    def given(self, tensor: VaryingTensor, size: int) -> None:
        """Note an input of so many bytes."""
        tensor.shares = (self._hold(tensor.context, Factor.constant(size)),)
        self.inputs = self.claims()

    def placed(
        self,
        tensor: VaryingTensor,
        context: Context,
        executions: Piecewise,
        metas: Sequence[torch.Tensor | None],
        origins: Sequence[int | None],
        leaves: Sequence[Any],
    ) -> None:
        """Note that calls have put a tensor into memory of its own, or into that of arguments.

        Parameters
        ----------
        tensor
            A result, or an argument that was moved.
        context
            The architectures for which they ran; for others, it lies where it lay.
        executions
            The calls.
        metas, origins
            For each execution, what it gave, and the place of the argument of which it is a view.
        leaves
            The arguments.
        """
        here = context.exact
        outside = [share.where(~here) for share in tensor.shares if here.scope]
        found: list[Share] = []
        different = dict.fromkeys(origins)
        for origin in different:
            its = [each == origin for each in origins]
            if origin is None:
                own = [_bytes_of(t) if mine else 0 for t, mine in zip(metas, its, strict=True)]
                found.append(self._hold(context, Piecewise(executions.places, own).quantity(int)))
                continue
            conditions = [Piecewise(executions.places, its).truth()] if len(different) > 1 else []
            found += [share.where(*conditions) for share in _shares_of(leaves[origin])]
        tensor.shares = (*found, *outside)

    def joined(self, tensor: VaryingTensor, parts: Sequence[tuple[Factor, Any]]) -> None:
        """Note a tensor that is another one under each of some conditions."""
        tensor.shares = tuple(
            share.where(condition) for condition, leaf in parts for share in _shares_of(leaf)
        )

    def called(
        self, call: FunctionCall, live: list[Claim], leaves: list[Any], results: list[Any]
    ) -> None:
        """Note a call of a function, given what was held when it began."""
        arguments, its = (
            [(place, s.claim) for place, leaf in enumerate(found) for s in _shares_of(leaf)]
            for found in (leaves, results)
        )
        call.memory = Moment(live, arguments, its)

    def _hold(self, context: Context, size: Factor) -> Share:
        """Return a claim on new memory of a size, for the architectures of a context."""
        return Share(self.live, Claim(Allocation(context, size), ()))


def _shares_of(leaf: Any) -> tuple[Share, ...]:
    return leaf.shares if type(leaf) is VaryingTensor else ()


def _bytes_of(tensor: torch.Tensor | None) -> int:
    return 0 if tensor is None else tensor.untyped_storage().nbytes()
