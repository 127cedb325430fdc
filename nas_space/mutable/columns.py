"""Evaluation of many architectures at once, column by column.

Exactly equal to evaluating them one by one.  Lazy operators evaluate each branch on the rows
that take it, and no others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import DomainError, SampleMissingError
from .factor_sum import FactorSum, is_covered
from .factors import combinations_of
from .labels import listed
from .lazy import Branch, Condition, SwitchBranch, way
from .node import Leaf, Node
from .operators import LOOKUP, Operator

__all__ = [
    "Column",
    "Columns",
    "Mask",
    "Routes",
    "Source",
    "activity",
    "all_combinations",
    "as_column",
    "partition",
    "python_values",
]

Column: TypeAlias = "npt.NDArray[Any]"
Mask: TypeAlias = "npt.NDArray[np.bool_]"


def as_column(values: list[Any]) -> Column:
    """Return an array of a plain NumPy type where that loses nothing, else of Python objects."""
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return np.array(values, dtype=np.bool_)
    if kinds == {int} and min(values) >= -(2**63) and max(values) < 2**63:
        return np.array(values, dtype=np.int64)
    if kinds == {float}:
        return np.array(values, dtype=np.float64)
    return np.fromiter(values, dtype=object, count=len(values))


def python_values(column: Column) -> list[Any]:
    """Return the rows as Python values."""
    values: list[Any] = column.tolist()
    return values


class Source:
    """The codes of symbols on some rows, and where these are active.

    Parameters
    ----------
    codes
        Symbol to column of codes (of values, for a continuous symbol).
    active
        Symbol to the mask of the rows on which it is active; a symbol without one is active on all.
    root
        The structure that the rows are architectures of, if it is known.
    """

    def __init__(
        self,
        codes: Mapping[Any, Column],
        active: Mapping[Any, Mask] | None = None,
        root: Node | None = None,
    ) -> None:
        self._codes = codes
        self._active = active or {}
        self._root = root

    def codes(self, symbol: Any, rows: Column | None) -> Column:
        """Return the codes of a symbol on some rows, arbitrary where it is not active.

        ``None`` stands for all rows.
        """
        if symbol not in self._codes:
            raise SampleMissingError(
                f"the batch has no label {symbol.name!r}; it has "
                f"{listed(other.name for other in self._codes)}",
                label=symbol.name,
            )
        codes = self._codes[symbol]
        return codes if rows is None else codes[rows]

    def values(self, symbol: Any, rows: Column | None) -> Column:
        """Return the values of a symbol, which must be active there."""
        codes = self.codes(symbol, rows)
        self.require(symbol, rows)
        column: Column = symbol.column(codes)
        return column

    def require(self, symbol: Any, rows: Column | None, needed: Mask | None = None) -> None:
        """Raise where a symbol is needed (by default everywhere) but not active."""
        mask = self._active.get(symbol)
        if mask is None:
            return
        lacking = ~(mask if rows is None else mask[rows])
        if needed is not None:
            lacking = lacking & needed
        if lacking.any():
            raise SampleMissingError(
                f"the label {symbol.name!r} is needed where it is not active, in "
                f"{int(lacking.sum())} of {len(lacking)} architectures; guard its use with "
                "MutableExpression.condition(...)",
                label=symbol.name,
            )

    def covers(self, node: Node) -> bool:
        """Return whether it is known that all rows have what a node needs."""
        return self._root is not None and is_covered(self._root, node)


class Columns:
    """Values of nodes on a set of rows, with a link to the larger set it was cut from.

    Parameters
    ----------
    source
        Gives the codes of symbols.
    size
        The number of rows.
    parent
        The set of rows that this one was cut from.
    rows
        Which of the parent's rows these are.
    """

    def __init__(
        self, source: Source, size: int, parent: Columns | None = None, rows: Column | None = None
    ) -> None:
        self.source = source
        self.size = size
        self.parent = parent
        self.rows = rows
        self.known: dict[Node, Column] = {}
        self._routes: dict[Node, Routes] = {}
        # Indices into the outermost set, by which symbols are read; ``None`` for that set itself.
        self.origin: Column | None = rows
        if parent is not None and parent.origin is not None:
            self.origin = parent.origin[rows]

    def cut(self, rows: Column) -> Columns:
        """Return the same architectures, restricted to some rows in ascending order."""
        # Rows are distinct and ascending, so as many as there are can only be all of them: a
        # condition that never differs costs no copy, and what it guards is shared with the rest.
        return self if len(rows) == self.size else Columns(self.source, len(rows), self, rows)

    def find(self, node: Node) -> Column | None:
        """Return a value known here or in a larger set, cut to these rows."""
        # Only enclosing sets are asked.  A set cut by another branch may share rows with this
        # one, but has no value for the others.
        here, below = self, []
        while (found := here.known.get(node)) is None:
            below.append(here)
            if here.parent is None:
                return None
            here = here.parent
        for part in reversed(below):
            found = part.known[node] = found[part.rows]
        return found

    def get(self, root: Any) -> Column:
        """Return the column of a node or of a plain value."""
        if not isinstance(root, Node):
            return np.repeat(as_column([root]), self.size)
        # Depth first with a stack of our own, as the expression of a deep network exceeds the
        # limit of recursion.  A pair stays on the stack until it is known: each visit either
        # computes it, or pushes what it lacks first.  Which operands a lazy node lacks shows only
        # selector by selector, so it is visited once more after each.
        stack = [(self, root)]
        while stack:
            here, node = stack[-1]
            missing: list[tuple[Columns, Node]] = []
            if here.find(node) is None:
                operator = node.operator
                if operator is None:
                    here.known[node] = here.source.values(node, here.origin)
                elif operator is LOOKUP:
                    here.known[node] = here._look_up(node)
                elif operator.lazy:
                    missing = here.routes(node).missing()
                    if not missing:
                        here.known[node] = here._join(node)
                else:
                    missing = [(here, child) for child in node.children if here.find(child) is None]
                    if not missing:
                        here.known[node] = here._compute(node, operator)
            if missing:
                stack.extend(reversed(missing))
            else:
                stack.pop()
        return self.known[root]

    def _compute(self, node: Node, operator: Operator) -> Column:
        operands = [self.find(a) if isinstance(a, Node) else as_column([a]) for a in node.arguments]
        # Constants are columns of length 1, which NumPy broadcasts.  The column form of an
        # operator answers ``NotImplemented`` where it would not be what Python computes, as for
        # integers that exceed 64 bits; then the rows are computed one by one.
        try:
            result = NotImplemented
            if operator.columns is not None:
                result = operator.columns(*operands)
            if result is NotImplemented:
                lists = [
                    python_values(column) * (1 if isinstance(a, Node) else self.size)
                    for a, column in zip(node.arguments, operands, strict=True)
                    if column is not None
                ]
                return as_column([operator.scalar(*row) for row in zip(*lists, strict=True)])
        except Exception as error:
            if not self.size:  # nothing is computed, so that nothing can fail, with a constant 0
                return as_column([])
            error.add_note(f"while evaluating {node}")
            raise
        column: Column = result
        return column if len(column) == self.size else np.repeat(column, self.size)

    def _look_up(self, node: Node) -> Column:
        factors: FactorSum = node.arguments[0]
        codes = {s: self.source.codes(s, self.origin) for s in factors.symbols}
        if not self.source.covers(node):
            for symbol in factors.symbols:
                self.source.require(symbol, self.origin, _needed(factors, symbol, codes))
        return factors.column(codes.__getitem__, self.size)

    def _join(self, node: Node) -> Column:
        """Return the values of a lazy node, from the branches that its rows take."""
        pieces = [(rows, part.get(argument)) for rows, part, argument in self.routes(node).taken]
        if len(pieces) == 1:
            return pieces[0][1]
        # Branches of different types give Python objects, as promotion would turn True into 1
        # and a large integer into a rounded float.
        types = {piece.dtype for _, piece in pieces}
        result: Column = np.empty(self.size, dtype=types.pop() if len(types) == 1 else object)
        for rows, piece in pieces:
            same = piece.dtype == result.dtype
            result[rows] = piece if same else np.fromiter(python_values(piece), object, len(piece))
        return result

    def routes(self, node: Node) -> Routes:
        """Return the ways that these rows take at a lazy node."""
        found = self._routes.get(node)
        if found is None:
            found = self._routes[node] = Routes(self, node)
        return found


def all_combinations(symbols: Sequence[Any]) -> Columns:
    """Return every combination of values of some symbols, one a row, the last changing fastest.

    Raises
    ------
    DomainError
        If there are infinitely many.
    """
    total = combinations_of(symbols)
    if total is None:
        continuous = [symbol.name for symbol in symbols if symbol.size is None]
        raise DomainError(
            f"there are infinitely many combinations: {continuous} are continuous; "
            "give them a step (quantize=...) and finite bounds"
        )
    codes: dict[Any, Column] = {}
    stride = total
    for symbol in symbols:
        stride //= symbol.size
        codes[symbol] = np.arange(total) // stride % symbol.size
    return Columns(Source(codes), total)


class Routes:
    """Partition of rows by the branch that each takes at a lazy node, made selector by selector.

    Parameters
    ----------
    here
        The rows.
    node
        The lazy node.

    Attributes
    ----------
    asked, taken
        Triples of the indices of some rows, never empty, the set of these rows, and an argument of
        the node: the selectors that were evaluated, and the arguments that give the value.
    open
        The same for selectors that are not evaluated yet.  In ``taken`` and ``open`` together each
        row occurs exactly once.
    """

    def __init__(self, here: Columns, node: Node) -> None:
        self.here = here
        self.asked: list[tuple[Column, Columns, Node]] = []
        self.taken: list[tuple[Column, Columns, Any]] = []
        self.open: list[tuple[Column, Columns, Branch]] = []
        self._add(np.arange(here.size), way(node) if here.size else None)

    def _add(self, rows: Column, further: Any) -> None:
        # A branch that no row takes is not evaluated at all: its labels may be inactive, and its
        # arithmetic may fail.
        if not len(rows):
            return
        part = self.here.cut(rows)
        if isinstance(further, Branch):
            self.open.append((rows, part, further))
            self.asked.append((rows, part, further.selector))
        else:
            self.taken.append((rows, part, further))

    def missing(self) -> list[tuple[Columns, Node]]:
        """Go on as far as possible; return what must be evaluated before the node can be."""
        while self.open:
            rows, part, branch = self.open[-1]
            selected = part.find(branch.selector)
            if selected is None:
                return [(part, branch.selector)]
            self.open.pop()
            for chosen, further in partition(branch, selected):
                self._add(rows[chosen], further)
        return [
            (part, argument)
            for _, part, argument in self.taken
            if isinstance(argument, Node) and part.find(argument) is None
        ]

    def settle(self) -> None:
        """Evaluate what decides the ways, and nothing else."""
        while self.open:
            _, part, branch = self.open[-1]
            part.get(branch.selector)
            self.missing()


def partition(branch: Branch, selected: Column) -> list[tuple[Mask, Any]]:
    """Return which rows go which way at a branch, given the values of its selector."""
    if isinstance(branch, Condition):
        truth = _truth(selected)
        if not truth.all():
            return [(truth, branch.yes), (~truth, branch.choose(False))]
        return [(truth, branch.yes)]
    ways = branch.ways if isinstance(branch, SwitchBranch) else {}
    # Among plain integers ``==`` of NumPy is that of Python.  Every other type goes through a
    # dictionary, as it does for one architecture: there 1, 1.0 and True are one key, and a string
    # is none of NumPy's that are padded to one length.  If the keys do not cover all rows, the
    # same dictionary finds the value to be named in the error.
    if selected.dtype == np.int64 and all(type(key) is int for key in ways):
        parts = [(selected == key, further) for key, further in ways.items()]
        if sum(int(chosen.sum()) for chosen, _ in parts) == len(selected):
            return parts
    values = python_values(selected)
    try:
        places = {key: place for place, key in enumerate(ways)}
        chosen_ways = np.array([places[value] for value in values], dtype=np.int64)
    except (KeyError, TypeError):
        for value in values:
            branch.choose(value)  # raises for the one that leads nowhere
        raise
    return [(chosen_ways == place, further) for place, further in enumerate(ways.values())]


def _truth(column: Column) -> Mask:
    if column.dtype == object:
        return np.array([bool(value) for value in python_values(column)], dtype=np.bool_)
    return column.astype(np.bool_)


def _needed(factors: FactorSum, symbol: Any, codes: Mapping[Any, Column]) -> Mask | None:
    """Return on which rows a symbol of a sum of factors is active; ``None`` for all.

    The codes of symbols that are not active are arbitrary here, which does no harm: a condition of
    activity is the same whatever the code of a symbol is where that is not active.
    """
    condition = factors.activity.get(symbol)
    if condition is None:
        return None
    return condition.at(codes.__getitem__)


def activity(root: Node, columns: Columns) -> dict[Leaf, Mask]:
    """Return on which rows each leaf below the root is needed: leaf to boolean column.

    ``columns`` is an outermost set, of which the rows of every other one are indices.
    """
    masks: dict[Leaf, Mask] = {}
    stack: list[tuple[Node, Columns]] = [(root, columns)]
    visited: set[tuple[Node, Columns]] = set()
    while stack:
        node, here = pair = stack.pop()
        if pair in visited:
            continue
        visited.add(pair)
        rows = slice(None) if here.origin is None else here.origin
        if isinstance(node, Leaf):
            mask = masks.setdefault(node, np.zeros(columns.size, dtype=np.bool_))
            mask[rows] = True
        elif node.operator is LOOKUP:
            factors: FactorSum = node.arguments[0]
            codes = {s: here.source.codes(s, here.origin) for s in factors.symbols}
            for symbol in factors.symbols:
                needed = _needed(factors, symbol, codes)
                mask = masks.setdefault(symbol, np.zeros(columns.size, dtype=np.bool_))
                mask[rows] |= True if needed is None else needed
        elif node.operator is not None and node.operator.lazy:
            routes = here.routes(node)
            routes.settle()
            for _, part, argument in (*routes.asked, *routes.taken):
                if isinstance(argument, Node):
                    stack.append((argument, part))
        else:
            stack.extend((child, here) for child in node.children)
    return masks
