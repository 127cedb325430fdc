"""Interned, immutable nodes: what expressions and symbols are made of.

Two nodes that say the same thing *are* the same object, so a node hashes by identity,
structural equality costs nothing, and a sub-expression that occurs a thousand times is
stored, evaluated and printed once.
"""

from __future__ import annotations

import threading
import weakref
from abc import ABCMeta
from collections.abc import Hashable, Iterator
from typing import Any

from .operators import Operator

_TABLE: weakref.WeakValueDictionary[Hashable, Node] = weakref.WeakValueDictionary()
_LOCK = threading.RLock()


def key_of(value: Any, *, loose: bool = False) -> Hashable:
    """A hashable key under which two plain values are the same constant.

    Types are told apart (``1``, ``1.0`` and ``True`` are three constants), as are ``0.0``
    and ``-0.0``.  With ``loose``, lists and tuples are the same, as they are in JSON.

    >>> key_of(1) == key_of(True)
    False
    >>> key_of([1, 2], loose=True) == key_of((1, 2), loose=True)
    True
    """
    if isinstance(value, Node):
        return ("node", id(value))
    kind = type(value)
    if kind is float:
        return (float, value.hex())
    if kind is list or kind is tuple:
        return ("items" if loose else kind, *(key_of(item, loose=loose) for item in value))
    if kind is dict:
        return (dict, *((key_of(k, loose=loose), key_of(v, loose=loose)) for k, v in value.items()))
    try:
        hash(value)
    except TypeError:
        return ("id", id(value))
    return (kind, value)


class Interned(ABCMeta):
    """Metaclass: calling the class gives the existing node of that key, if there is one."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        node = super().__call__(*args, **kwargs)
        key = node.key()
        with _LOCK:
            existing = _TABLE.get(key)
            if existing is not None:
                return existing
            node.__dict__["_interned"] = True
            _TABLE[key] = node
        return node


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
        """What makes this node the same as another."""
        raise NotImplementedError

    def __setattr__(self, name: str, value: Any) -> None:
        if "_interned" in self.__dict__:
            raise AttributeError(
                f"{type(self).__name__} is immutable: {name!r} cannot be set; build a new one instead"
            )
        super().__setattr__(name, value)

    __hash__ = object.__hash__

    def __copy__(self) -> Node:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Node:
        return self


def postorder(*roots: Node) -> Iterator[Node]:
    """Every node below the roots once, children before parents, without recursion."""
    seen: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(root, False) for root in reversed(roots)]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            yield node
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((child, False) for child in reversed(node.children))
