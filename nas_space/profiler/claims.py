"""Which memory tensors lie in, for all architectures at once, and for how long."""

from __future__ import annotations

from typing import NamedTuple

from ..mutable.factors import Factor
from .contexts import Context


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
