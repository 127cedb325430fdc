"""How one dimension of an elastic tensor is laid out: which of its elements a size takes.

A size is an expression, and its form says where the elements are.  A plain width takes what
comes first.  A sum is a concatenation: ``w + v`` takes the leading part of the segment of
``w``, and after the whole of that segment, the leading part of that of ``v``, so that the
columns which read the second tensor stay where they are when the first one becomes narrower.
A product is one width of its own, a prefix, which is what a flattened ``(w, height, width)``
gives; the other row-major layouts have a name, :func:`flattened`.  What is none of these, as
the channels of a network that shuffles them, is :func:`listed`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..mutable import bounds
from ..mutable.bounds import enclosure
from ..mutable.expression import apply
from ..mutable.node import Node, key_of
from ..mutable.operators import BRANCHES, CONDITION, SWITCH, selectors
from .construction import extent, slim
from .places import Indices, Places

__all__ = [
    "AxisLayout",
    "Concatenated",
    "Flattened",
    "Known",
    "addends",
    "flattened",
    "layout_of",
    "listed",
]


def flattened(*sizes: Any) -> Any:
    """Return the size of axes of some sizes made one, of which each keeps its leading part.

    Its value is the product; as the size of an elastic layer it says where the elements are:
    those of ``view(*largest)[:size, :size, ...]``, in this order.

    =============================================  ==========================================
    ``flattened(3, width)``                        queries, keys and values in one matrix
    ``flattened(2, width)``, or ``width + width``  two halves, as of ``cat([x, x])`` or ``glu``
    ``flattened(width, 2)``, or ``width * 2``      interleaved, as of ``repeat_interleave(2)``
    ``flattened(heads, size)``                     heads, each with its first so many channels
    ``flattened(height, width, channels)``         a flattened image, channels last
    =============================================  ==========================================

    Parameters
    ----------
    sizes
        Numbers and expressions.

    Returns
    -------
    MutableExpression[int]
        A plain ``int`` of plain numbers.

    Examples
    --------
    Of two halves, each keeps its first columns:

    >>> import torch
    >>> from nas_space.mutable import Categorical
    >>> from nas_space.nn import MutableLinear
    >>> width = Categorical([1, 3], label="width")
    >>> layer = MutableLinear(flattened(2, width), 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.arange(6.0))
    >>> layer.freeze({"width": 1}).weight
    Parameter containing:
    tensor([[0., 3.]], requires_grad=True)
    """
    if any(isinstance(size, Node) for size in sizes):
        return apply("flattened", *sizes)
    return math.prod(sizes)


def listed(size: Any, by: Any, places: Mapping[Any, Sequence[int]]) -> Any:
    """Return a size whose elements are at places of their own for each value of an expression.

    Parameters
    ----------
    size
        A number or an expression.
    by
        What says which elements are there; of a plain number, these are all.
    places
        By value of ``by``, as many places as the size then is.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> width = Categorical([1, 2], label="width")
    >>> size = listed(width * 2, width, {1: [0, 2], 2: range(4)})
    >>> layout_of(size).indices(width.read({"width": 1})).tolist()
    [0, 2]
    """
    if not isinstance(by, Node):
        return size
    return apply("listed", size, by, tuple(places), *map(tuple, places.values()))


Known: TypeAlias = "dict[int, AxisLayout]"
"""Layouts of sizes, by the identity of these."""


class AxisLayout:
    """Where the elements of one dimension are, for every value of the labels: a prefix.

    Parameters
    ----------
    size
        A number or an expression.

    Attributes
    ----------
    extent
        How long the dimension is that is owned.
    is_prefix
        Whether the elements are always the first ones.
    atoms
        The expressions whose values decide which elements are there.
    """

    is_prefix = True
    parts: tuple[AxisLayout, ...] = ()

    def __init__(self, size: Any) -> None:
        self.size = size
        self.extent = extent(size)

    def own_atoms(self) -> list[Node]:
        """Return those of the atoms that are not of a part."""
        return [self.size] if isinstance(self.size, Node) else []

    @property
    def atoms(self) -> list[Node]:
        found: dict[int, Node] = {}
        seen: set[int] = set()
        stack: list[AxisLayout] = [self]
        while stack:
            layout = stack.pop()
            if id(layout) not in seen:
                seen.add(id(layout))
                found.update((id(atom), atom) for atom in layout.own_atoms())
                stack.extend(reversed(layout.parts))
        return list(found.values())

    def indices(self, values: Callable[[Any], Any]) -> Indices:
        """Return the places of the elements under some values, in order."""
        return np.arange(values(self.size) if isinstance(self.size, Node) else self.size)

    def key(self, values: Callable[[Any], Any]) -> Any:
        """Return what tells apart values under which different elements are there."""
        return key_of(values(self.size)) if isinstance(self.size, Node) else None

    def places(self, values: Callable[[Any], Any]) -> int:
        """Return the size under some values, with the places of its elements."""
        return Places.of(self.indices(values))


class _Compound(AxisLayout):
    """A layout made of others."""

    is_prefix = False

    def __init__(self, parts: Sequence[AxisLayout], size: int) -> None:
        self.parts = tuple(parts)
        self.extent = size

    def own_atoms(self) -> list[Node]:
        return []

    def key(self, values: Callable[[Any], Any]) -> Any:
        return tuple([part.key(values) for part in self.parts])


class Concatenated(_Compound):
    """Segments one after the other."""

    def __init__(self, parts: Sequence[AxisLayout]) -> None:
        super().__init__(parts, sum(part.extent for part in parts))

    def indices(self, values: Callable[[Any], Any]) -> Indices:
        offset, found = 0, []
        for part in self.parts:
            found.append(part.indices(values) + offset)
            offset += part.extent
        return np.concatenate(found)


class Flattened(_Compound):
    """Axes made one, the last one fastest."""

    def __init__(self, parts: Sequence[AxisLayout]) -> None:
        super().__init__(parts, math.prod(part.extent for part in parts))

    def indices(self, values: Callable[[Any], Any]) -> Indices:
        found = np.zeros(1, dtype=np.int64)
        for part in self.parts:
            found = (found[:, None] * part.extent + part.indices(values)).reshape(-1)
        return found


class _Branching(_Compound):
    """One of several layouts, which share one region; a value of an expression says which."""

    def __init__(self, node: Any, parts: Sequence[AxisLayout]) -> None:
        self.node = node
        only = slim()  # built for one architecture, it is no longer than the branch of that
        taken = parts if only is None else [parts[self._branch(only)]]
        super().__init__(parts, max(part.extent for part in taken))

    def own_atoms(self) -> list[Node]:
        return [argument for argument in selectors(self.node) if isinstance(argument, Node)]

    def _branch(self, values: Callable[[Any], Any]) -> int:
        arguments = self.node.arguments
        if self.node.operator is SWITCH:
            return [key_of(k) for k in arguments[1]].index(key_of(values(arguments[0])))
        predicates = arguments[:1] if self.node.operator is CONDITION else arguments[::2]
        held = [values(p) if isinstance(p, Node) else p for p in predicates]
        return next((place for place, holds in enumerate(held) if holds), len(held))

    def indices(self, values: Callable[[Any], Any]) -> Indices:
        return self.parts[self._branch(values)].indices(values)

    def key(self, values: Callable[[Any], Any]) -> Any:
        branch = self._branch(values)
        return branch, self.parts[branch].key(values)


class _Placed(AxisLayout):
    """Elements at listed places."""

    is_prefix = False

    def __init__(self, node: Any) -> None:
        size, self.by, values, *places = node.arguments
        super().__init__(size)
        self.listed = {
            key_of(value): np.array(of, dtype=np.int64)
            for value, of in zip(values, places, strict=True)
        }
        only = slim()  # built for one architecture, it has no other elements
        if only is not None:
            self.listed = {key_of(only(self.by)): np.arange(self.extent)}

    def own_atoms(self) -> list[Node]:
        return [self.by]

    def indices(self, values: Callable[[Any], Any]) -> Indices:
        return self.listed[key_of(values(self.by))]

    def key(self, values: Callable[[Any], Any]) -> Any:
        return key_of(values(self.by))


class _Quotient(_Branching):
    """A layout divided by a number that may be 1; otherwise a prefix."""

    def __init__(self, node: Any, whole: AxisLayout) -> None:
        self.divisor = node.arguments[1]
        super().__init__(node, (AxisLayout(node), whole))
        self.extent = max(extent(node), self.extent)

    def own_atoms(self) -> list[Node]:
        return [self.divisor]

    def _branch(self, values: Callable[[Any], Any]) -> int:
        return int(values(self.divisor) == 1)


def layout_of(size: Any) -> AxisLayout:
    """Return how a dimension of some size is laid out.

    Parameters
    ----------
    size
        A number or an expression.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> w, v = (Categorical([1, 3], label=label) for label in "wv")
    >>> def places(size):
    ...     values = (w + v).read({"w": 1, "v": 3})
    ...     return layout_of(size).indices(values).tolist()
    >>> places(w + v), places(flattened(2, w)), places(w * 2)
    ([0, 3, 4, 5], [0, 3], [0, 1])
    """
    return _layout(size, {})


def _layout(size: Any, known: Known) -> AxisLayout:
    """Return how a dimension of some size is laid out; sizes that share parts share layouts."""
    rule = _RULES.get(size.operator.name) if isinstance(size, Node) and size.operator else None
    if rule is None:
        return AxisLayout(size)
    found = known.get(id(size))
    if found is None:
        found = known[id(size)] = rule(size, known)
    return found


def _sum(size: Any, known: Known) -> AxisLayout:
    terms = addends(size)
    if not all(map(_is_size, terms)):
        return AxisLayout(size)
    parts = [_layout(term, known) for term in terms]
    if all(isinstance(term, int) for term in terms[:-1]) and parts[-1].is_prefix:
        return AxisLayout(size)  # what is before the only elastic part is always there
    return parts[0] if len(parts) == 1 else Concatenated(parts)


def _flattened(size: Any, known: Known) -> AxisLayout:
    others = size.arguments[1:]
    if not all(map(_is_size, size.arguments)):
        return AxisLayout(size)
    parts = [_layout(argument, known) for argument in size.arguments]
    if parts[0].is_prefix and not any(isinstance(other, Node) for other in others):
        return AxisLayout(size)
    return Flattened(parts)


def _product(size: Any, known: Known) -> AxisLayout:
    parts = [_layout(argument, known) for argument in size.arguments]
    if all(part.is_prefix for part in parts) or not all(map(_is_size, size.arguments)):
        return AxisLayout(size)
    # What is concatenated is the outer axis, on whichever side it is written.
    return Flattened(sorted(parts, key=lambda part: part.is_prefix))


def _quotient(size: Any, known: Known) -> AxisLayout:
    whole, divisor = size.arguments
    layout = _layout(whole, known)
    if layout.is_prefix:
        return AxisLayout(size)
    if isinstance(divisor, Node):
        return _Quotient(size, layout)
    one = _share(whole, divisor)
    return AxisLayout(size) if one is None else _layout(one, known)


def _branches(size: Any, known: Known) -> AxisLayout:
    parts = [_layout(way, known) for way in size.arguments[BRANCHES[size.operator]]]
    return AxisLayout(size) if all(p.is_prefix for p in parts) else _Branching(size, parts)


_RULES: dict[str, Callable[[Any, Known], AxisLayout]] = {
    "add": _sum,
    "sum": _sum,
    "mul": _product,
    "flattened": _flattened,
    "floordiv": _quotient,
    "pos": lambda size, known: _layout(size.arguments[0], known),
    "listed": lambda size, _: _Placed(size),
    **dict.fromkeys(("condition", "case", "switch_case"), _branches),
}
"""How operators are laid out; what stands here not is one width of its own."""


def addends(size: Any) -> list[Any]:
    """Return the terms of a sum, from left to right; zeros are left out."""
    found, stack = [], [size]  # no recursion: a sum of many terms is as deep as it is long
    while stack:
        term = stack.pop()
        if isinstance(term, Node) and term.operator is not None and term.operator.name in _SUMS:
            stack.extend(reversed(term.arguments))
        elif isinstance(term, Node) or term != 0:
            found.append(term)
    return found


_SUMS = ("add", "sum")


def _is_size(term: Any) -> bool:
    # What is seen without trying values needs none tried.
    return any(
        isinstance(low, int) and isinstance(high, int) and low >= 0
        for low, high in (find(term) for find in (enclosure, bounds))
    )


def _share(size: Any, parts: Any) -> Any:
    """Return one of so many equal parts of what a size takes, if it is made of such."""
    if parts == 1:
        return size
    if size.operator.name == "flattened":
        first, *rest = size.arguments
        if isinstance(first, int) and first % parts == 0:
            return flattened(first // parts, *rest) if first > parts else flattened(*rest)
        return None
    terms = addends(size)
    if len(terms) < 2 or len(terms) % parts:
        return None
    length = len(terms) // parts
    # By identity, or by value of plain numbers: nodes themselves must not be compared.
    keys = [key_of(term) for term in terms]
    if keys != keys[:length] * parts:
        return None
    return apply("sum", *terms[:length]) if length > 1 else terms[0]
