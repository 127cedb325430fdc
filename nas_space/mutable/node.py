"""Interned, immutable nodes: what expressions and symbols are made of.

Two nodes that say the same thing *are* the same object, so a node hashes by identity,
structural equality costs nothing, and a sub-expression that occurs a thousand times is
stored, evaluated and printed once.
"""

from __future__ import annotations

import copy
import threading
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Protocol, Self, TypeVar, cast

from .labels import label
from .operators import Operator

__all__ = ["ActiveValues", "Interned", "Leaf", "Node", "fresh", "key_of", "leaves", "postorder"]

T = TypeVar("T")

_TABLE: weakref.WeakValueDictionary[Hashable, Node] = weakref.WeakValueDictionary()
_LOCK = threading.RLock()  # reentrant: the garbage collector may run a finalizer that makes nodes


def key_of(value: Any, *, loose: bool = False) -> Hashable:
    """Return a hashable key under which two plain values are the same constant.

    Types are told apart (``1``, ``1.0`` and ``True`` are three constants), as are ``0.0``
    and ``-0.0``.  With ``loose``, what JSON does not tell apart is the same: ``1`` and
    ``1.0``, lists and tuples, dictionaries in another order.

    >>> key_of(1) == key_of(True)
    False
    >>> key_of([1, 2], loose=True) == key_of((1, 2), loose=True)
    True
    """
    kind = type(value)
    if kind is float:
        return (int, int(value)) if loose and value.is_integer() else (float, value.hex())
    if kind is int or kind is str:
        return (kind, value)
    if isinstance(value, Node):
        return id(value)  # not the node: comparing keys must not build expressions
    if kind is list or kind is tuple:
        return ("items" if loose else kind, *[key_of(item, loose=loose) for item in value])
    if kind is dict:
        pairs = [(key_of(k, loose=loose), key_of(v, loose=loose)) for k, v in value.items()]
        return (dict, frozenset(pairs) if loose else tuple(pairs))
    if kind is set or kind is frozenset:
        return (kind, frozenset([key_of(item, loose=loose) for item in value]))
    try:
        hash(value)
    except TypeError:
        return ("id", id(value))
    return (kind, value)


def fresh(value: T) -> T:
    """Return a value that can be changed without changing the original: of a container, a copy."""
    return copy.deepcopy(value) if isinstance(value, (list, dict, set)) else value


class Interned(type):
    """Metaclass: calling the class gives the existing node of that key, if there is one."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        node = super().__call__(*args, **kwargs)
        key = node.key()
        node.__dict__["_interned"] = True
        with _LOCK:
            return _TABLE.setdefault(key, node)


class Node(metaclass=Interned):
    """A node of an expression: an operator over arguments, or a leaf without operator.

    Attributes
    ----------
    operator
        The entry of the operator table; ``None`` for a leaf.
    arguments
        Nodes and plain constants.
    children
        Those of the arguments that are nodes, in order.
    """

    operator: Operator | None = None
    arguments: tuple[Any, ...] = ()
    children: tuple[Node, ...] = ()

    def key(self) -> Hashable:
        """Return what makes this node the same as another."""
        raise NotImplementedError

    def text(self, texts: Mapping[Node, tuple[str, int]]) -> tuple[str, int]:
        """Return how the node prints, with its precedence, given how its children do."""
        raise NotImplementedError

    def titled(self, title: str) -> Self:
        """Return the node, which prints as a title where its own text is too long.

        Nodes are interned, so a title is no part of one: it changes how it prints, and no more.
        Two costs that agree on every architecture are one node; it prints as the one asked for
        last, which is the one that its user has in hand.
        """
        self.__dict__["_title"] = title
        return self

    def remember(self, name: str, make: Callable[[Node], T]) -> T:
        """Return what is worked out about this node once for all, since it never changes."""
        found = self.__dict__.get(name)
        if found is None:
            found = self.__dict__[name] = make(self)
        return cast(T, found)

    def __setattr__(self, name: str, value: Any) -> None:
        if "_interned" in self.__dict__:
            raise AttributeError(
                f"{type(self).__name__} is immutable: {name!r} cannot be set; "
                "build a new one instead"
            )
        super().__setattr__(name, value)

    __hash__ = object.__hash__

    def __copy__(self) -> Node:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        # A node is never copied; but who copies may put something else in its place, as
        # freezing does, which copies objects and puts values where expressions were.
        replace = getattr(memo, "evaluate", None)
        return self if replace is None else replace(self)


class ActiveValues(Protocol):
    """What the reading of an architecture notes; see :class:`.mutable.Values`.

    Attributes
    ----------
    active
        Label to value, of the labels that were needed.
    pending
        The constraints that are to be checked.
    """

    active: dict[str, Any]
    pending: list[Any]


class Leaf(Node):
    """A node without operator: where values come in.

    Attributes
    ----------
    label
        What it is called, scopes included.
    name
        The label as a plain string: the key in architectures.
    words
        How many random words a draw takes; 0 for what is not drawn.
    """

    label: label
    name: str
    words: int = 0

    def is_missing(self, sample: Mapping[str, Any]) -> bool:
        """Return whether a sample lacks what this leaf needs."""
        raise NotImplementedError

    def visit(self, sample: Mapping[str, Any], values: ActiveValues) -> Any:
        """Return the value in a sample, checked; note in ``values`` that the leaf is active."""
        raise NotImplementedError

    def grid_choices(self, granularity: int) -> Iterable[Any]:
        """Return the values that a grid goes through."""
        raise NotImplementedError

    def expand(self, is_leaf: Callable[[Any], bool]) -> Iterator[Any]:
        """Yield the labelled mutables that the leaf stands for, what ``is_leaf`` accepts whole."""
        raise NotImplementedError


def postorder(*roots: Node) -> Iterator[Node]:
    """Yield every node below the roots once, children before parents, without recursion."""
    seen: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(root, False) for root in reversed(roots)]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            yield node
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend([(child, False) for child in reversed(node.children)])


def leaves(*roots: Any) -> list[Leaf]:
    """Return the leaves below some nodes, each once, in the order in which they occur.

    Plain values among the roots have none.
    """
    return [
        node
        for node in postorder(*[root for root in roots if isinstance(root, Node)])
        if isinstance(node, Leaf)
    ]
