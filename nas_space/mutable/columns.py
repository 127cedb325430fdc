"""Evaluation of many architectures at once, column by column.

Exactly equal to evaluating them one by one: where NumPy would round differently, wrap an
integer or keep another type, the operator falls back to Python row by row.  Lazy operators
evaluate each branch on the rows that take it, and no others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .evaluation import switch_index
from .node import Node
from .operators import CONDITION, SWITCH

Column = npt.NDArray[Any]
Leaf = Callable[[Any, Column | None], Column]
"""Gives a leaf's values on some rows, by index; on all for ``None``."""


def as_column(values: list[Any]) -> Column:
    """An array of a plain NumPy type where that loses nothing, else of Python objects."""
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return np.array(values, dtype=np.bool_)
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in values):
        return np.array(values, dtype=np.int64)
    if kinds == {float}:
        return np.array(values, dtype=np.float64)
    column = np.empty(len(values), dtype=object)
    column[:] = values if not kinds & {list, tuple} else [None] * len(values)
    if kinds & {list, tuple}:
        for index, value in enumerate(values):
            column[index] = value
    return column


def python_values(column: Column) -> list[Any]:
    """The rows as Python values."""
    return column.tolist()  # type: ignore[no-any-return]


class Columns:
    """Values of nodes on a set of rows, with a link to the larger set it was cut from.

    Parameters
    ----------
    leaf
        Gives the values of leaves.
    size
        The number of rows.
    parent
        The set of rows that this one was cut from.
    rows
        Which of the parent's rows these are.
    """

    def __init__(
        self, leaf: Leaf, size: int, parent: Columns | None = None, rows: Column | None = None
    ) -> None:
        self.leaf = leaf
        self.size = size
        self.parent = parent
        self.rows = rows
        self.known: dict[Node, Column] = {}
        self.origin: Column | None = rows
        if parent is not None and parent.origin is not None:
            self.origin = parent.origin[rows]

    def cut(self, rows: Column) -> Columns:
        """The same architectures, restricted to some rows."""
        return Columns(self.leaf, len(rows), self, rows)

    def find(self, node: Node) -> Column | None:
        """A value known here or in a larger set, cut to these rows."""
        found = self.known.get(node)
        if found is None and self.parent is not None:
            wider = self.parent.find(node)
            if wider is not None:
                found = self.known[node] = wider[self.rows]
        return found

    def get(self, root: Any) -> Column:
        """The column of a node or of a plain value."""
        if not isinstance(root, Node):
            return self.constant(root)
        stack = [root]
        while stack:
            node = stack[-1]
            if self.find(node) is not None:
                stack.pop()
                continue
            if node.operator is None:
                self.known[node] = self.leaf(node, self.origin)
            elif node.operator.lazy:
                self.known[node] = self.branch(node)
            else:
                missing = [child for child in node.children if self.find(child) is None]
                if missing:
                    stack.extend(reversed(missing))
                    continue
                self.known[node] = self.apply(node)
            stack.pop()
        return self.known[root]

    def constant(self, value: Any) -> Column:
        one = as_column([value])
        return np.repeat(one, self.size)

    def apply(self, node: Node) -> Column:
        assert node.operator is not None
        operands = [self.find(a) if isinstance(a, Node) else a for a in node.arguments]
        if node.operator.columns is not None:
            try:
                singles = [a if isinstance(a, np.ndarray) else as_column([a]) for a in operands]
                result = node.operator.columns(*singles)
            except (ArithmeticError, ValueError) as error:
                error.add_note(f"while evaluating {node}")
                raise
            if result is not NotImplemented:
                return result if len(result) == self.size else np.repeat(result, self.size)
        lists = [
            python_values(a) if isinstance(a, np.ndarray) else [a] * self.size for a in operands
        ]
        try:
            return as_column([node.operator.scalar(*row) for row in zip(*lists, strict=True)])
        except Exception as error:
            error.add_note(f"while evaluating {node}")
            raise

    def branch(self, node: Node) -> Column:
        pieces = [
            (rows, self.get(argument) if len(rows) == self.size else self.cut(rows).get(argument))
            for rows, argument in self.split(node)
        ]
        if len(pieces) == 1:
            return pieces[0][1]
        types = {piece.dtype for _, piece in pieces}
        result: Column = np.empty(self.size, dtype=types.pop() if len(types) == 1 else object)
        for rows, piece in pieces:
            result[rows] = piece if piece.dtype == result.dtype else _objects(piece)
        return result

    def split(self, node: Node) -> Iterator[tuple[Column, Any]]:
        """Which rows of a lazy node take which argument; every row occurs once."""
        everything = np.arange(self.size)
        arguments = node.arguments
        if node.operator is CONDITION:
            truth = _truth(self.get(arguments[0]))
            cases = [(everything[truth], arguments[1]), (everything[~truth], arguments[2])]
        elif node.operator is SWITCH:
            selector, keys = self.get(arguments[0]), arguments[1]
            if selector.dtype == object or not all(type(key) in (int, float, bool) for key in keys):
                chosen = np.array([switch_index(keys, value) for value in python_values(selector)])
                cases = [(everything[chosen == i], arguments[2 + i]) for i in range(len(keys))]
            else:
                cases = [(everything[selector == key], arguments[2 + i]) for i, key in enumerate(keys)]
                if sum(len(rows) for rows, _ in cases) != self.size:
                    for value in set(python_values(selector)):
                        switch_index(keys, value)
        else:
            cases = []
            left, here = everything, self
            for predicate, value in zip(arguments[::2], arguments[1::2], strict=True):
                truth = _truth(here.get(predicate))
                cases.append((left[truth], value))
                left = left[~truth]
                here = self.cut(left)
            if len(left):
                raise ValueError(
                    f"no case holds in {node} for some architectures; "
                    "make the last predicate True to cover the rest"
                )
        return ((rows, argument) for rows, argument in cases if len(rows))


def _truth(column: Column) -> npt.NDArray[np.bool_]:
    if column.dtype == object:
        return np.array([bool(value) for value in column], dtype=np.bool_)
    return column.astype(np.bool_)


def _objects(column: Column) -> Column:
    result = np.empty(len(column), dtype=object)
    for index, value in enumerate(python_values(column)):
        result[index] = value
    return result


def activity(root: Node, columns: Columns) -> dict[Any, npt.NDArray[np.bool_]]:
    """On which rows each leaf below the root is needed: leaf to boolean column.

    Leaves are in the order in which a walk first meets them.
    """
    masks: dict[Any, npt.NDArray[np.bool_]] = {}
    stack: list[tuple[Node, Columns, Any]] = [(root, columns, None)]
    visited: set[tuple[Node, int]] = set()
    keep: list[Columns] = []
    while stack:
        node, here, rows = stack.pop()
        if (node, id(here)) in visited:
            continue
        visited.add((node, id(here)))
        if node.operator is None:
            mask = masks.get(node)
            if mask is None:
                mask = masks[node] = np.zeros(columns.size, dtype=np.bool_)
            if rows is None:
                mask[:] = True
            else:
                mask[rows] = True
        elif not node.operator.lazy:
            stack.extend((child, here, rows) for child in reversed(node.children))
        else:
            below: list[tuple[Node, Columns, Any]] = []
            if node.operator is CONDITION or node.operator is SWITCH:
                if isinstance(node.arguments[0], Node):
                    below.append((node.arguments[0], here, rows))
            else:
                _case_predicates(node, here, rows, below, keep)
            for chosen, argument in here.split(node):
                if isinstance(argument, Node) and (argument.children or argument.operator is None):
                    part = here.cut(chosen)
                    keep.append(part)  # identities in `visited` must stay taken
                    below.append((argument, part, chosen if rows is None else rows[chosen]))
            stack.extend(reversed(below))
    return masks


def _case_predicates(
    node: Node, here: Columns, rows: Any, below: list[tuple[Node, Columns, Any]], keep: list[Columns]
) -> None:
    """The predicate of a later case is needed only where no earlier one holds."""
    left = np.arange(here.size)
    for predicate in node.arguments[::2]:
        if not len(left):
            return
        part = here.cut(left)
        keep.append(part)
        if isinstance(predicate, Node):
            below.append((predicate, part, left if rows is None else rows[left]))
        left = left[~_truth(part.get(predicate))]
