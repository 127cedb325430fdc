"""``Piecewise``: a value of any type for each combination of codes of a few variables.

A quantity that differs between architectures is held as the list of its distinct values and a
factor of indices into this list.  Variables on which it turns out not to depend are dropped, so
arrays stay small however many labels a space has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from ..errors import DecompositionError, NasSpaceError, SampleValidationError
from .columns import Columns, all_combinations, python_values
from .factors import (
    EXACT,
    TRUE,
    Array,
    Auxiliary,
    Factor,
    Scope,
    TooLargeError,
    combinations_of,
    joint_scope,
    merged_scope,
    whole,
)
from .labels import listed
from .lazy import evaluate
from .node import Leaf, Node, key_of, postorder
from .printing import brief

__all__ = ["NOWHERE", "Piecewise", "codes_in", "enumerated", "joint", "merged"]

NOWHERE = -1
"""The index that stands for no value.

It is -1 so that a look-up table needs no mask: of ``[*entries, elsewhere]`` it picks the last.
"""


class Piecewise:
    """A function of a few variables with finitely many values, which may be of any type.

    Parameters
    ----------
    places
        The index of its value for each combination of codes; :data:`NOWHERE` where the function
        is not defined.
    values
        The values.
    failures
        Why it is not defined: index into the flattened array to error.

    Attributes
    ----------
    scope
        The variables it is a function of.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> kernel = Categorical([3, 5, 7], label="kernel")
    >>> padding = Piecewise.of(kernel // 4)
    >>> padding.values, padding.places.values.tolist()
    ([0, 1], [0, 1, 1])
    >>> padding.where(1).values.tolist()
    [False, True, True]
    """

    __slots__ = ("failures", "places", "scope", "values")

    def __init__(
        self,
        places: Factor,
        values: Sequence[Any],
        failures: Mapping[int, Exception] | None = None,
    ) -> None:
        self.places = places
        self.scope: Scope = places.scope
        self.values = values
        self.failures = failures or {}

    @classmethod
    def constant(cls, value: Any) -> Piecewise:
        """Return what is the same for every architecture."""
        return cls(_FIRST, (value,))

    @classmethod
    def of(cls, expression: Any) -> Piecewise:
        """Return all values of an expression, over the labels that it depends on.

        Values are told apart as :func:`~.node.key_of` does.  Where evaluation fails, by a
        division by zero for example, the function is not defined.

        Raises
        ------
        DecompositionError
            If a label is continuous, or if the combinations are too many.
        """
        if not isinstance(expression, Node):
            return cls.constant(expression)
        return expression.remember("_piecewise", enumerated)

    @property
    def defined(self) -> Factor:
        """Where it has a value."""
        there = self.places.values != NOWHERE
        return TRUE if there.all() else Factor(self.scope, there)

    def where(self, place: int) -> Factor:
        """Return the condition that it is one of its values."""
        return Factor(self.scope, self.places.values == place)

    def present(self, possible: Array | None = None) -> list[int]:
        """Return the indices of the values that it takes, among combinations that are possible."""
        if len(self.values) == 1:
            return [0]
        places = self.places.values if possible is None else self.places.values[possible]
        return [place for place in np.unique(places).tolist() if place != NOWHERE]

    def at(self, arch: Mapping[str, Any]) -> Any:
        """Return the value for an architecture.

        Raises
        ------
        SampleValidationError
            If it is not defined for it.
        """
        # Variables that the architecture does not decide are inactive.  Over their codes the
        # function has one value, or none, and the maximum passes over ``NOWHERE``.
        place = int(np.max(self.places.given(codes_in(self.scope, arch)).values))
        if place == NOWHERE:
            names = [variable.name for variable in self.scope]
            raise SampleValidationError(
                f"what depends on {listed(names)} has no value for this architecture"
            )
        return self.values[place]

    def map(self, function: Callable[[Any], Any]) -> Piecewise:
        """Return what a function makes of each value; results must hash, equal ones become one."""
        distinct: dict[Any, int] = {}
        places = [distinct.setdefault(function(value), len(distinct)) for value in self.values]
        return Piecewise(self._picked(places, NOWHERE), list(distinct)).reduced()

    def distinct(self) -> Piecewise:
        """Return the same, of which equal values, which must hash, are one."""
        return self.map(lambda value: value) if self.scope else self

    def quantity(self, function: Callable[[Any], float]) -> Factor:
        """Return a number for each value, and 0 where there is none."""
        return self._picked([function(value) for value in self.values], 0)

    def _picked(self, entries: list[Any], elsewhere: Any) -> Factor:
        kind = np.float64 if float in map(type, entries) else np.int64
        return Factor(self.scope, np.array([*entries, elsewhere], dtype=kind)[self.places.values])

    def truth(self) -> Factor:
        """Return where the value is true; where there is none, it is not."""
        entries = np.array([*map(bool, self.values), False])
        return Factor(self.scope, entries[self.places.values])

    def numbers(self, term: Any) -> Factor:
        """Return the values as int64, or as float64 where they are not whole.

        Parameters
        ----------
        term
            What they are values of, for error messages.

        Raises
        ------
        DecompositionError
            If some are no numbers, or too large.
        """
        for value in self.values:
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                raise DecompositionError(
                    f"{brief(term)} can be {value!r}, which is no number", term=term
                )
            if isinstance(value, int) and abs(value) >= EXACT:
                raise DecompositionError(
                    f"{brief(term)} can be {value}, which is too large for a table", term=term
                )
        entries = [value if isinstance(value, float) else int(value) for value in self.values]
        found = self._picked(entries, 0)
        return Factor(found.scope, whole(found.values))

    def reduced(self) -> Piecewise:
        """Return the same without variables that make no difference, and values not taken."""
        scope, places = list(self.scope), self.places.values
        if not scope and len(self.values) == 1:
            return self
        # Where the function is not defined it may be extended freely, and is extended by the value
        # that it has along the axis elsewhere: the maximum, as no defined index is below NOWHERE.
        # What an extension merges can prevent a later one, so this finds a small scope and not
        # always the smallest, which would be a search over orders of axes.
        for axis in reversed(range(len(scope))):
            highest = places.max(axis=axis, keepdims=True)
            if ((places == highest) | (places == NOWHERE)).all():
                places = highest.squeeze(axis)
                del scope[axis]
        taken = [place for place in np.unique(places).tolist() if place != NOWHERE]
        if len(taken) == len(self.values):
            return Piecewise(Factor(scope, places), self.values)
        renumbered = np.full(len(self.values) + 1, NOWHERE)
        renumbered[taken] = np.arange(len(taken))
        return Piecewise(Factor(scope, renumbered[places]), [self.values[p] for p in taken])


_FIRST = Factor((), np.zeros((), dtype=np.int64))


def codes_in(scope: Scope, arch: Mapping[str, Any]) -> dict[Any, int]:
    """Return the codes of those variables of a scope that an architecture has, or decides."""
    found = {}
    for variable in scope:
        if isinstance(variable, Auxiliary):
            condition = variable.condition
            holds = condition.given(codes_in(condition.scope, arch))
            # It may be decided though some of its labels are inactive: by all of their codes alike.
            if holds.always or holds.never:
                found[variable] = int(holds.always)
        elif variable.name in arch:
            found[variable] = variable.code(arch[variable.name])
    return found


def joint(
    parts: Sequence[Piecewise], possible: Callable[[Scope], Array] | None = None
) -> Piecewise:
    """Return several functions as one, whose value is the tuple of the indices of their values.

    The result has only combinations of values that occur together for some codes, so that what is
    done for each of them is not done for the product of all values.  Combinations are numbered part
    by part, and after each part only those that occur are kept: there are never more than codes.

    Parameters
    ----------
    parts
        The functions.  The result is not defined where one of them is not.
    possible
        Gives which combinations of codes of a scope matter; by default all.

    Raises
    ------
    TooLargeError
        If they depend on too many combinations of codes together.
    """
    varying = [place for place, part in enumerate(parts) if part.scope]
    if not varying:
        return Piecewise.constant((0,) * len(parts))
    scope = merged_scope(*(parts[place].scope for place in varying))
    codes: Array = np.zeros([variable.size for variable in scope], dtype=np.int64)
    valid: Array = np.ones(codes.shape, dtype=np.bool_)
    if possible is not None:
        valid &= possible(scope)
    rows: Array = np.zeros((1, len(parts)), dtype=np.int64)
    for place in varying:
        part = parts[place]
        own = part.places.over(scope)
        valid &= own != NOWHERE
        # ``codes`` numbers the combinations of the parts so far, whose tuples are ``rows``.  One
        # part more makes pairs, numbered in mixed radix, of which those that occur are renumbered
        # densely.  Without this the radix would grow with the product of all parts and overflow.
        # Renumbering keeps the order, so in the end tuples are in lexicographic order.
        seen, inverse = np.unique((codes * len(part.values) + own)[valid], return_inverse=True)
        codes[valid] = inverse.reshape(-1)
        rows = rows[seen // len(part.values)]
        rows[:, place] = seen % len(part.values)
    codes[~valid] = NOWHERE
    return Piecewise(Factor(scope, codes), [tuple(row) for row in rows.tolist()])


def merged(
    outcomes: Sequence[tuple[Factor, Piecewise]], key: Callable[[Any], Any] = id
) -> Piecewise:
    """Return the function that is each of several functions under a condition of its own.

    Parameters
    ----------
    outcomes
        Pairs of a condition and the function under it; no two conditions hold together.
    key
        Gives for a value what it is compared by.
    """
    scope = merged_scope(*(joint_scope(guard.scope, part.scope) for guard, part in outcomes))
    places: Array = np.full([variable.size for variable in scope], NOWHERE, dtype=np.int64)
    distinct: dict[Any, int] = {}
    values: list[Any] = []
    for guard, part in outcomes:
        own = []
        for value in part.values:
            place = distinct.setdefault(key(value), len(values))
            if place == len(values):
                values.append(value)
            own.append(place)
        mine = np.array([*own, NOWHERE])[part.places.over(scope)]
        places = np.where(guard.over(scope) & (mine != NOWHERE), mine, places)
    return Piecewise(Factor(scope, places), values).reduced()


# -- from expressions -------------------------------------------------------------------------


def enumerated(node: Node, named: Mapping[Node, Auxiliary] = MappingProxyType({})) -> Piecewise:
    """Return all values of an expression; see :meth:`Piecewise.of`.

    Parameters
    ----------
    node
        The expression.
    named
        Truth values in it that count as variables of their own, whatever they depend on.
    """
    symbols = _variables(node, named)
    if combinations_of(symbols) is None:
        names = [symbol.name for symbol in symbols if symbol.size is None]
        raise DecompositionError(
            f"{brief(node)} has infinitely many values: it depends on the continuous "
            f"{', '.join(map(repr, names))}; "
            "give it a step (quantize=...) and finite bounds",
            term=node,
        )
    try:
        shape = [symbol.size for symbol in joint_scope(symbols)]
    except TooLargeError as error:
        raise DecompositionError(f"{brief(node)} has no table: {error}", term=node) from None
    failures: dict[int, Exception] = {}
    if any(symbol is node for symbol in symbols):  # it is one itself: nothing to evaluate
        values, places = _distinct_of([symbols[0].value(code) for code in range(shape[0])])
        return Piecewise(Factor(symbols, places), values)
    # All combinations are evaluated at once, as columns.  A single row that has no value fails the
    # whole column, and does not say which row it was, so that then each row is evaluated alone and
    # keeps its own error: whoever knows which combinations architectures have may ignore it.
    try:
        columns, present = all_combinations(symbols), set(symbols)
        for part, variable in named.items():
            if variable in present:
                columns.known[part] = columns.source.codes(variable, None).astype(np.bool_)
        _fill_in(columns, node, present)
        values, places = _distinct(columns.get(node))
    except _FAILURES:
        # Some combination has no value, perhaps one that no architecture has: row by row.
        found = []
        for row, codes in enumerate(np.ndindex(*shape)):
            chosen = dict(zip(symbols, codes, strict=True))
            known = {part: bool(chosen[v]) for part, v in named.items() if v in chosen}
            try:
                found.append(evaluate(node, lambda s, at=chosen: s.value(at[s]), known))  # type: ignore[misc]
            except _FAILURES as error:
                failures[row] = error
        values, defined = _distinct_of(found)
        places = np.full(math.prod(shape), NOWHERE, dtype=np.int64)
        places[[row for row in range(len(places)) if row not in failures]] = defined
    return Piecewise(Factor(symbols, places.reshape(shape)), values, failures)


def _fill_in(columns: Columns, root: Node, present: set[Any]) -> None:
    """Evaluate what depends on a single label once for each of its codes, not for each row.

    ``sole`` gives the only label below a node, or ``None`` where there are several.  Of the nodes
    that have one, only the topmost are filled in, as nothing asks for those below.
    """
    sole: dict[Node, Node | None] = {}
    for node in postorder(root):
        if node in columns.known:
            sole[node] = None
            continue
        below = {sole[child] for child in node.children} or {node}
        sole[node] = below.pop() if len(below) == 1 else None
        for part in node.children if sole[node] is None else ():
            symbol: Any = sole[part]
            if symbol is part or symbol not in present or part in columns.known:
                continue
            try:
                each = all_combinations([symbol]).get(part)
            except _FAILURES:
                continue  # perhaps of codes at which it is never needed
            columns.known[part] = each[columns.source.codes(symbol, None)]


def _variables(node: Node, named: Mapping[Node, Auxiliary]) -> list[Any]:
    """Return the leaves of an expression, and variables instead of the parts that are named."""
    found: dict[Any, None] = {}
    seen: set[Node] = set()
    stack = [node]
    while stack:
        part = stack.pop()
        if part in seen:
            continue
        seen.add(part)
        if part in named:
            found[named[part]] = None
        elif isinstance(part, Leaf):
            found[part] = None
        else:
            stack.extend(reversed(part.children))
    return list(found)


_FAILURES = (ArithmeticError, LookupError, NasSpaceError, TypeError, ValueError)
"""What evaluation raises where an expression has no value."""


def _distinct(column: Array) -> tuple[list[Any], Array]:
    """Return the distinct values of a column by first occurrence, and the index of each row's."""
    if column.dtype == object:
        return _distinct_of(python_values(column))
    bits = column.view(np.int64) if column.dtype == np.float64 else column  # -0.0 is not 0.0
    # ``numpy.unique`` sorts by value; the order of first occurrence is what ``_distinct_of`` gives
    # for values that cannot be sorted, and what costs and draws that were written down rest on.
    _, first, inverse = np.unique(bits, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return python_values(column[first[order]]), rank[inverse.reshape(-1)]


def _distinct_of(values: list[Any]) -> tuple[list[Any], Array]:
    known: dict[Any, int] = {}
    distinct: list[Any] = []
    places = []
    for value in values:
        place = known.setdefault(key_of(value), len(distinct))
        if place == len(distinct):
            distinct.append(value)
        places.append(place)
    return distinct, np.array(places, dtype=np.int64)
