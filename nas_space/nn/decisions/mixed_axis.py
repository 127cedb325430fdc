"""``MixedAxis``: which elements of a dimension each architecture of a mixture has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from ...mutable.node import Node
from ..places import Indices
from ..segments import layout_of
from .marginals import Support, support_of
from .mixer import Atoms, Values, readers_of, union

__all__ = ["Axes", "MixedAxis", "are_alike", "axis_of"]


class MixedAxis:
    """The indices of the elements that a dimension has, for every value of some expressions.

    The dimension is as long as the union of these.  An architecture's own tensor is the mixture's,
    indexed by ``indices``, in that order; an index may occur several times, after ``repeat``.

    Parameters
    ----------
    atoms
        The expressions.
    size
        The length of the dimension in the tensor that has it.
    indices
        Gives the indices of the elements under some values, in the architecture's order.
    support
        The codes that labels may have.
    is_known
        Whether it is known which elements these are; otherwise they are taken to be the first ones.
    """

    __slots__ = ("_memo", "atoms", "indices", "is_known", "size", "support")

    def __init__(
        self,
        atoms: Atoms,
        size: int,
        indices: Callable[[Values], Indices],
        support: Support,
        *,
        is_known: bool = True,
    ) -> None:
        self.atoms = atoms
        self.is_known = is_known
        self.size = size
        self.indices = indices
        self.support = support_of(atoms, support)
        self._memo: dict[Any, Any] = {}

    def remember(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what follows from the axis, computed once.

        Where a key has the identity of an object, what is made has to hold that object: otherwise
        another one could have its identity later.
        """
        found = self._memo.get(key)
        if found is None:
            if len(self._memo) > _REMEMBERED:
                self._memo.clear()
            found = self._memo[key] = make()
        return found

    def is_like(self, other: MixedAxis) -> bool:
        """Return whether the elements have the same indices under all values."""
        if self is other:
            return True
        found: bool = self.remember(("like", id(other)), lambda: (other, self._compared(other)))[1]
        return found

    def is_as_long_as(self, other: MixedAxis) -> bool:
        """Return whether there are as many elements under all values."""
        return all(
            len(self.indices(values)) == len(other.indices(values))
            for values in readers_of(union(self.atoms, other.atoms), self.support + other.support)
        )

    def always_meets(self, other: MixedAxis) -> bool:
        """Return whether each element always has the same counterpart on another axis."""
        if self is other:
            return True
        # Not equality of indices: two layers may own different regions, with gaps of different
        # lengths, and still pair the same elements in every architecture.
        met: dict[int, int] = {}
        for values in readers_of(union(self.atoms, other.atoms), self.support + other.support):
            mine, its = self.indices(values).tolist(), other.indices(values).tolist()
            if any(met.setdefault(a, b) != b for a, b in zip(mine, its, strict=False)):
                return False
        return True

    def _compared(self, other: MixedAxis) -> bool:
        if self.size != other.size:
            return False
        return all(
            np.array_equal(self.indices(values), other.indices(values))
            for values in readers_of(union(self.atoms, other.atoms), self.support + other.support)
        )


_REMEMBERED = 512


def are_alike(one: MixedAxis | None, other: MixedAxis | None) -> bool:
    """Return whether two dimensions have the same elements under all values."""
    return one is other or (one is not None and other is not None and one.is_like(other))


Axes: TypeAlias = "Sequence[MixedAxis | None]"
"""The axis of each dimension; ``None`` for one that is the same in all architectures."""


_AXES: dict[Any, tuple[Any, MixedAxis | None]] = {}


def axis_of(size: Any, support: Support) -> MixedAxis | None:
    """Return the axis of a dimension of an elastic layer; ``None`` if it does not differ."""
    if not isinstance(size, Node):
        return None
    support = support_of((size,), support)
    key = (id(size), support)
    found = _AXES.get(key)
    if found is None:
        if len(_AXES) > 4 * _REMEMBERED:
            _AXES.clear()
        found = _AXES[key] = (size, _axis_of(size, support))
    return found[1]


def _axis_of(size: Any, support: Support) -> MixedAxis | None:
    # Of the elements that a layer owns, a mixture has those that some architecture of the support
    # takes, so indices are ranks among these.
    layout = layout_of(size)
    atoms = tuple(layout.atoms)
    each = [layout.indices(values) for values in readers_of(atoms, support)]
    region = np.unique(np.concatenate(each))
    # As many elements as there can be are still not the same ones if their order differs.
    if all(np.array_equal(one, region) for one in each):
        return None
    return MixedAxis(
        atoms, len(region), lambda values: np.searchsorted(region, layout.indices(values)), support
    )
