"""Pickles of expressions, which may be deeper than Python's recursion limit.

They hold a flat program instead of nested nodes, and are interned again when loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .node import Node, postorder
from .operators import Operator

__all__ = ["Place", "Step", "flatten", "rebuild"]

Step = tuple[Operator | None, Any]
"""An operator with its arguments, or ``None`` with a leaf."""


class Place(int):
    """In a program, a reference to an earlier step."""

    __slots__ = ()


def flatten(root: Node) -> list[Step]:
    """Return the steps that make a node, those that others refer to first."""
    places: dict[Node, int] = {}
    program: list[Step] = []
    for node in postorder(root):
        if node.operator is None:
            program.append((None, node))
        else:
            arguments = [Place(places[a]) if isinstance(a, Node) else a for a in node.arguments]
            program.append((node.operator, arguments))
        places[node] = len(program) - 1
    return program


def rebuild(make: Callable[[Operator, list[Any]], Node], program: list[Step]) -> Any:
    """Return the node that a program makes by ``make``: the inverse of :func:`flatten`."""
    nodes: list[Any] = []
    for operator, content in program:
        if operator is None:
            nodes.append(content)
        else:
            arguments = [nodes[a] if isinstance(a, Place) else a for a in content]
            nodes.append(make(operator, arguments))
    return nodes[-1]
