"""Lists and dictionaries of mutables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, MutableSequence
from typing import Any, overload

from ..errors import ExpressionError, UsageError
from .expression import apply, refuse_hidden
from .mutable import Mutable, Values
from .node import Node

__all__ = ["MutableDict", "MutableList", "frozen", "joint_structure", "side_by_side"]


def side_by_side(parts: list[Node]) -> Node | None:
    """Return one expression that needs what each of several needs."""
    if len(parts) <= 1:
        return parts[0] if parts else None
    return apply("tuple", *parts)


def joint_structure(items: Iterable[Any]) -> Node | None:
    """Return the structure of several things side by side; plain values have none."""
    parts = [item.structure() for item in items if isinstance(item, Mutable)]
    return side_by_side([part for part in parts if part is not None])


_DEEPEST = 150
"""Containers in containers: what follows them calls itself so often."""


def _held(item: Any, where: str) -> Any:
    """Return what a container may hold: a mutable, or a plain value without mutables inside."""
    if not isinstance(item, Mutable):
        refuse_hidden(item, f"{where}; wrap it in MutableList or MutableDict")
    if depth_of(item) >= _DEEPEST:
        raise ExpressionError(f"{where} is nested {_DEEPEST} deep, which is as deep as it may be")
    return item


def depth_of(item: Any) -> int:
    """Return how deep a container is nested: 0 for what is none."""
    return int(getattr(item, "_depth", 0))


def frozen(item: Any, values: Values) -> Any:
    """Return the frozen form of a mutable; a plain value as it is."""
    return item.freeze_values(values) if isinstance(item, Mutable) else item


class _Container(Mutable):
    """What lists and dictionaries of mutables have in common."""

    mutables: Any

    def _items(self) -> Iterable[tuple[str, Any]]:
        """Return what it holds, with names."""
        raise NotImplementedError

    def structure(self) -> Node | None:
        return joint_structure(item for _, item in self._items())

    def _named_parts(self) -> Iterator[tuple[str, Mutable]]:
        return ((name, item) for name, item in self._items() if isinstance(item, Mutable))

    def extra_repr(self) -> str:
        return repr(self.mutables)

    def __delitem__(self, place: Any) -> None:
        del self.mutables[place]

    def __len__(self) -> int:
        return len(self.mutables)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Container) or type(self.mutables) is not type(other.mutables):
            return False
        mine, theirs = list(self._items()), list(other._items())
        return [name for name, _ in mine] == [name for name, _ in theirs] and all(
            a.equals(b) if isinstance(a, Mutable) else not isinstance(b, Mutable) and bool(a == b)
            for (_, a), (_, b) in zip(mine, theirs, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]  # it can be changed

    def equals(self, other: Any) -> bool:
        """Return whether two containers hold equal mutables, under the same names."""
        return bool(self == other)


class MutableList(_Container, MutableSequence[Any]):
    """A list of mutables, frozen to a list.

    Parameters
    ----------
    mutables
        Mutables; plain values are allowed among them and stay as they are.

    Raises
    ------
    ExpressionError
        If mutables stand in a plain list or dict among them, where they are not tracked.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> pair = MutableList([Categorical([1, 2], label="a"), Categorical([3, 4], label="b")])
    >>> pair.freeze({"a": 2, "b": 3})
    [2, 3]
    >>> len(list(pair.grid()))
    4
    """

    def __init__(self, mutables: Iterable[Any] | None = None) -> None:
        self.mutables: list[Any] = [_held(item, "a MutableList") for item in mutables or ()]
        self._depth = 1 + max(map(depth_of, self.mutables), default=0)

    def freeze_values(self, values: Values) -> list[Any]:
        return [frozen(item, values) for item in self.mutables]

    def _items(self) -> Iterable[tuple[str, Any]]:
        return [(f"[{index}]", item) for index, item in enumerate(self.mutables)]

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> MutableList: ...
    def __getitem__(self, index: int | slice) -> Any:
        found = self.mutables[index]
        return MutableList(found) if isinstance(index, slice) else found

    @overload
    def __setitem__(self, index: int, mutable: Any) -> None: ...
    @overload
    def __setitem__(self, index: slice, mutable: Iterable[Any]) -> None: ...
    def __setitem__(self, index: int | slice, mutable: Any) -> None:
        if isinstance(index, slice):
            self.mutables[index] = MutableList(mutable).mutables
        else:
            self.mutables[index] = _held(mutable, "a MutableList")

    def insert(self, index: int, value: Any) -> None:
        """Insert a mutable before an index."""
        self.mutables.insert(index, _held(value, "a MutableList"))
        self._depth = max(self._depth, 1 + depth_of(value))

    # Identity, not ==, which would build expressions.

    def __contains__(self, item: object) -> bool:
        return any(item is mutable for mutable in self.mutables)

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """Return where an item of the list stands."""
        for place in range(*slice(start, stop).indices(len(self))):
            if self.mutables[place] is value:
                return place
        raise ValueError(f"{value!r} is not in the list")


class MutableDict(_Container, MutableMapping[str, Any]):
    """A dictionary of mutables, frozen to a dictionary.

    Parameters
    ----------
    mutables
        Name to mutable; plain values are allowed and stay as they are.
    **mutable_kwargs
        More of them.

    Raises
    ------
    UsageError
        If a name is given in both ways.
    ExpressionError
        If mutables stand in a plain list or dict among them, where they are not tracked.

    Examples
    --------
    >>> from nas_space.mutable import Categorical, Numerical
    >>> MutableDict(op=Categorical(["a", "b"], label="op"), rate=0.1).freeze({"op": "b"})
    {'op': 'b', 'rate': 0.1}
    """

    def __init__(
        self,
        mutables: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
        **mutable_kwargs: Any,
    ) -> None:
        self.mutables: dict[str, Any] = {}
        self._depth = 1
        self.update(mutables or {})
        for key, mutable in mutable_kwargs.items():
            if key in self.mutables:
                raise UsageError(f"{key!r} is given twice: in the dictionary and as a keyword")
            self[key] = mutable

    def freeze_values(self, values: Values) -> dict[str, Any]:
        return {key: frozen(item, values) for key, item in self.mutables.items()}

    def _items(self) -> Iterable[tuple[str, Any]]:
        return self.mutables.items()

    def __getitem__(self, key: str) -> Any:
        return self.mutables[key]

    def __setitem__(self, key: str, mutable: Any) -> None:
        self.mutables[key] = _held(mutable, "a MutableDict")
        self._depth = max(self._depth, 1 + depth_of(mutable))

    def __iter__(self) -> Iterator[str]:
        return iter(self.mutables)
