"""Allocations: which memory tensors lie in, for all architectures at once, and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from ..mutable.factors import Factor
from ..mutable.piecewise import Piecewise
from .contexts import Context

__all__ = ["Allocation", "Claim", "Memory", "MemoryUse", "Share"]


class Allocation:
    """Memory of one tensor.

    Attributes
    ----------
    context
        The architectures that have it.
    size
        Its bytes, a factor.
    """

    __slots__ = ("context", "size")

    def __init__(self, context: Context, size: Factor) -> None:
        self.context = context
        self.size = size

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


class Memory:
    """All memory that is held at a moment.

    Attributes
    ----------
    live
        The claims, by the identity of the share that each holds as long as.
    """

    def __init__(self) -> None:
        self.live: dict[int, Claim] = {}

    def claims(self) -> list[Claim]:
        """Return what is held now."""
        return list(self.live.values())

    def hold(self, context: Context, size: Factor) -> Share:
        """Return a claim on new memory of a size, for the architectures of a context."""
        return Share(self.live, Claim(Allocation(context, size), ()))

    def shares(
        self,
        context: Context,
        executions: Piecewise,
        tensors: Sequence[torch.Tensor | None],
        origins: Sequence[int | None],
        leaves: Sequence[Any],
    ) -> tuple[Share, ...]:
        """Return where a result lies: in memory of its own, or in that of an argument.

        Parameters
        ----------
        context
            The architectures that have it.
        executions
            The call that gave it.
        tensors, origins
            For each execution, what it gave, and the place of the argument of which it is a view.
        leaves
            The arguments; those that differ between architectures have ``shares``.
        """
        found: list[Share] = []
        different = dict.fromkeys(origins)
        for origin in different:
            here = [each == origin for each in origins]
            if origin is None:
                pairs = zip(tensors, here, strict=True)
                own = [_bytes_of(tensor) if its else 0 for tensor, its in pairs]
                found.append(self.hold(context, Piecewise(executions.places, own).quantity(int)))
                continue
            condition = Piecewise(executions.places, here).truth()
            conditions = (condition,) if len(different) > 1 else ()
            its = getattr(leaves[origin], "shares", ())
            found.extend(share.where(*conditions) for share in its)
        return tuple(found)


def _bytes_of(tensor: torch.Tensor | None) -> int:
    return 0 if tensor is None else tensor.untyped_storage().nbytes()


class MemoryUse(NamedTuple):
    """What memory an argument or a result of a call lies in.

    Attributes
    ----------
    place
        Which of the leaves it is.
    claim
        Where it lies.
    """

    place: int
    claim: Claim
