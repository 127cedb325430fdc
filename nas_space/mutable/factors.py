"""``Factor``: numbers indexed by the codes of a few variables, as in a factor graph.

Everything exact in this library is made of them: the terms of a cost, the conditions under which
a label is active, the combinations that a constraint allows (Kschischang, Frey and Loeliger,
*Factor graphs and the sum-product algorithm*, IEEE Transactions on Information Theory 47, 2001).
"""

from __future__ import annotations

import hashlib
import itertools
import math
import operator
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cmp_to_key
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import DecompositionError

__all__ = [
    "EXACT",
    "FALSE",
    "LIMIT",
    "TRUE",
    "Array",
    "Auxiliary",
    "Factor",
    "Scope",
    "TooLargeError",
    "absorbed",
    "combinations_of",
    "distinct_rows",
    "joint_scope",
    "labels_of",
    "merged_scope",
    "multilinear",
    "whole",
]

Array: TypeAlias = "npt.NDArray[Any]"

Scope: TypeAlias = "tuple[Any, ...]"
"""Variables, each once: symbols, or anything else with a ``name`` and a ``size``."""

LIMIT = 2**20
"""The largest number of entries of a single factor."""

_NARROW = 32
"""Rows with more columns than this are compared as bytes before they are sorted."""

EXACT = 2**62
"""Sums and products of integers below this fit into int64."""


class Auxiliary:
    """A truth value that other variables determine, and no architecture gives.

    It stands for a condition that would need too large a factor together with others.

    Parameters
    ----------
    name
        What it prints as.
    condition
        Where it is true: a factor over other variables.
    expression
        What it is the value of, if that is known.
    """

    size = 2

    def __init__(self, name: str, condition: Factor, expression: Any = None) -> None:
        self.name = name
        self.condition = condition
        self.expression = expression

    @classmethod
    def of(cls, condition: Factor, expression: Any = None) -> Auxiliary:
        """Return the variable of a condition: one for equal ones, so that they are told as one."""
        key = condition.digest()
        found = _AUXILIARIES.get(key)
        if found is None:
            names = ", ".join(str(variable.name) for variable in condition.scope)
            found = _AUXILIARIES[key] = cls(f"condition on {names}", condition)
        if expression is not None:
            found.expression = expression
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return Auxiliary.of, (self.condition, self.expression)

    def column(self, codes: Callable[[Any], Array]) -> Array:
        """Return its codes, given those of a variable of its condition."""
        return self.condition.at(codes).astype(np.int64)

    def __repr__(self) -> str:
        return f"<{self.name}>"


# With the conditions, which hold the variables whose identities are in the keys.
_AUXILIARIES: weakref.WeakValueDictionary[Hashable, Auxiliary] = weakref.WeakValueDictionary()


class TooLargeError(DecompositionError):
    """A factor would have more than :data:`LIMIT` entries.

    Attributes
    ----------
    scope
        The variables that it would be over.
    """

    def __init__(self, scope: Sequence[Any]) -> None:
        names = [str(variable.name) for variable in scope]
        total = math.prod([variable.size for variable in scope])
        super().__init__(
            f"something depends on {len(names)} labels at once, which have {total} combinations "
            f"({', '.join(names[:24])}{', ...' if len(names) > 24 else ''}); at most {LIMIT} can "
            "be gone through: make fewer choices that all matter for the same thing"
        )
        self.scope = tuple(scope)

    def __reduce__(self) -> tuple[Any, ...]:
        return TooLargeError, (self.scope,)


class Factor:
    """An array with one axis for each variable of a scope, indexed by the variable's codes.

    Factors are values: no operation changes one.  Two variables are the same if they are one
    object; ``==`` on symbols builds expressions and is never used.

    Parameters
    ----------
    scope
        The variables.
    values
        Numbers or truth values, one axis for each variable.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> a, b = Categorical([1, 2], label="a"), Categorical([10, 20, 30], label="b")
    >>> total = Factor((a,), np.array([1, 2])) + Factor((b,), np.array([10, 20, 30]))
    >>> total.values
    array([[11, 21, 31],
           [12, 22, 32]])
    >>> (total * Factor.constant(0)).reduced()
    Factor(constant: 1 entries)
    """

    __slots__ = ("scope", "values")

    def __init__(self, scope: Sequence[Any], values: Array) -> None:
        self.scope: Scope = tuple(scope)
        self.values = values

    @classmethod
    def constant(cls, value: Any) -> Factor:
        """Return the factor of an empty scope."""
        return cls((), np.asarray(value))

    def digest(self) -> Hashable:
        """Return a key under which two factors are the same, as long as their variables live."""
        values = np.ascontiguousarray(self.values)
        digest = hashlib.blake2b(values.tobytes(), digest_size=16).digest()
        return (*map(id, self.scope), values.dtype.str, values.shape, digest)

    # -- axes ---------------------------------------------------------------------------------

    def axes(self) -> dict[Any, int]:
        """Return the axis of each variable; tuples find by ``==``, which builds expressions."""
        return {variable: axis for axis, variable in enumerate(self.scope)}

    def over(self, scope: Sequence[Any]) -> Array:
        """Return the values with the axes of a larger scope, of length 1 where they are new."""
        if len(scope) == len(self.scope) and all(map(operator.is_, scope, self.scope)):
            return self.values
        place = self.axes()
        axes = [place[variable] for variable in scope if variable in place]
        shape = [self.values.shape[place[v]] if v in place else 1 for v in scope]
        return self.values.transpose(axes).reshape(shape)

    def expanded(self, scope: Sequence[Any]) -> Factor:
        """Return the same function over a larger scope.

        Raises
        ------
        TooLargeError
            If the result would have too many entries.
        """
        shape = tuple(variable.size for variable in joint_scope(scope))
        return Factor(scope, np.broadcast_to(self.over(scope), shape))

    def combine(self, other: Factor, operation: Callable[[Array, Array], Array]) -> Factor:
        """Return an operation entry by entry, over the variables of both.

        Raises
        ------
        TooLargeError
            If the result would have too many entries.
        """
        scope = joint_scope(self.scope, other.scope)
        return Factor(scope, operation(self.over(scope), other.over(scope)))

    def reduced(self) -> Factor:
        """Return the same function without the variables on which it does not depend."""
        scope, values = list(self.scope), self.values
        for axis in reversed(range(len(scope))):
            first = values[(slice(None),) * axis + (slice(1),)]
            if (values == first).all():
                values = first.squeeze(axis).copy()  # the rest need not be kept
                del scope[axis]
        return self if len(scope) == len(self.scope) else Factor(scope, values)

    def eliminated(self, variables: Iterable[Any], by: np.ufunc) -> Factor:
        """Return the factor without some variables, along which a ufunc reduces the entries."""
        gone = set(variables)
        axes = tuple(axis for axis, variable in enumerate(self.scope) if variable in gone)
        scope = [variable for variable in self.scope if variable not in gone]
        return Factor(scope, np.asarray(by.reduce(self.values, axis=axes)))

    def given(self, known: Mapping[Any, Any]) -> Factor:
        """Return the factor over the variables that are not known, at the codes of those that are.

        Parameters
        ----------
        known
            Variable to code.
        """
        index = tuple(known.get(variable, slice(None)) for variable in self.scope)
        return Factor([v for v in self.scope if v not in known], np.asarray(self.values[index]))

    def at(self, codes: Callable[[Any], Array]) -> Array:
        """Return the entries at columns of codes, given those of a variable."""
        index: Any = 0
        for variable, size in zip(self.scope, self.values.shape, strict=True):
            index = index * size + codes(variable).astype(np.intp, copy=False)
        found: Array = self.values.reshape(-1)[index]
        return found

    def resolved(self) -> Factor:
        """Return the same function of the variables that determine the auxiliary ones in it.

        Raises
        ------
        TooLargeError
            If they stand for too much together.
        """
        found = self
        while named := [v for v in found.scope if isinstance(v, Auxiliary)]:
            condition = named[0].condition
            no, yes = (found.given({named[0]: truth}) for truth in (0, 1))
            scope = joint_scope(condition.scope, no.scope)
            values = np.where(condition.over(scope), yes.over(scope), no.over(scope))
            found = Factor(scope, values)
        return found

    # -- operations ---------------------------------------------------------------------------

    def __and__(self, other: Factor) -> Factor:
        return self.combine(other, np.logical_and).reduced()

    def __or__(self, other: Factor) -> Factor:
        return self.combine(other, np.logical_or).reduced()

    def __invert__(self) -> Factor:
        return Factor(self.scope, ~self.values)

    def __mul__(self, other: Factor) -> Factor:
        return self.combine(other, _product)

    def __add__(self, other: Factor) -> Factor:
        return self.combine(other, _sum)

    def maximum(self, other: Factor) -> Factor:
        """Return the larger of both, entry by entry."""
        return self.combine(other, np.maximum)

    def where(self, condition: Factor) -> Factor:
        """Return the factor where a condition holds, and 0 elsewhere."""
        scope = merged_scope(condition.scope, self.scope)
        return Factor(scope, np.where(condition.over(scope), self.over(scope), 0))

    @property
    def always(self) -> bool:
        """Whether every entry is true."""
        return bool(self.values.all())

    @property
    def never(self) -> bool:
        """Whether every entry is false, or zero."""
        return not self.values.any()

    def __repr__(self) -> str:
        names = ", ".join(str(variable.name) for variable in self.scope)
        return f"Factor({names or 'constant'}: {self.values.size} entries)"


TRUE = Factor.constant(True)
FALSE = Factor.constant(False)


def combinations_of(symbols: Sequence[Any]) -> int | None:
    """Return how many combinations of values there are; ``None`` if infinitely many."""
    sizes = [symbol.size for symbol in symbols]
    return None if None in sizes else math.prod(sizes)


def joint_scope(*scopes: Sequence[Any]) -> Scope:
    """Return the variables of several scopes, each once, those of earlier scopes first.

    Raises
    ------
    TooLargeError
        If a factor over them would have too many entries.
    """
    scope = tuple(dict.fromkeys(itertools.chain.from_iterable(scopes)))
    if math.prod([variable.size for variable in scope]) > LIMIT:
        raise TooLargeError(scope)
    return scope


def labels_of(scope: Iterable[Any]) -> list[Any]:
    """Return the variables of a scope, with what determines an auxiliary one in its place."""
    found: dict[Any, None] = {}
    for variable in scope:
        determining = isinstance(variable, Auxiliary) and labels_of(variable.condition.scope)
        found.update(dict.fromkeys(determining or [variable]))
    return list(found)


def merged_scope(*scopes: Scope) -> Scope:
    """Return the variables of several scopes, each once, in an order that agrees with all of them.

    A variable that stands before another in some scope does so in the result, unless two scopes
    contradict each other.

    Raises
    ------
    TooLargeError
        If a factor over them would have too many entries.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> a, b, c = (Categorical([1, 2], label=name) for name in "abc")
    >>> [variable.name for variable in merged_scope((a, c), (b, c))]
    ['a', 'b', 'c']
    """
    longest = max(scopes, key=len, default=())
    place = {variable: place for place, variable in enumerate(longest)}
    if all(_ascends([place.get(variable, -1) for variable in scope]) for scope in scopes):
        return joint_scope(longest)
    before: dict[Any, set[Any]] = {}
    for scope in scopes:
        for number, variable in enumerate(scope):
            before.setdefault(variable, set()).update(scope[:number])
    result: list[Any] = []
    while before:
        # Scopes that contradict each other leave no variable free: then any order will do.
        free = (variable for variable, needs in before.items() if not needs)
        variable = next(free, next(iter(before)))
        del before[variable]
        for needs in before.values():
            needs.discard(variable)
        result.append(variable)
    return joint_scope(result)


def _ascends(places: list[int]) -> bool:
    return all(low < high for low, high in itertools.pairwise([-1, *places]))


def absorbed(terms: Sequence[Factor]) -> list[Factor]:
    """Return the same sum with no term over variables that another one is over as well."""
    result: list[Factor] = []
    for term in sorted(terms, key=lambda term: -len(term.scope)):
        for place, other in enumerate(result):
            if set(term.scope) <= set(other.scope) and other.scope:
                result[place] = Factor(other.scope, (other + term).values)
                break
        else:
            result.append(term)
    return result


def multilinear(factor: Factor) -> Iterator[tuple[tuple[Auxiliary, ...], Factor]]:
    """Yield the terms of a factor as a polynomial in the auxiliary variables that it is over.

    Each is a product of such variables, which is 1 where the conditions of all of them hold, and a
    factor over the other variables.  One variable after another,
    ``f = f(0) + x * (f(1) - f(0))``, which is the Moebius transform over subsets of the variables.
    Of what is a sum with a term for each variable, all products of several vanish.

    Parameters
    ----------
    factor
        Numbers.
    """
    variable = next((v for v in factor.scope if isinstance(v, Auxiliary)), None)
    if variable is None:
        yield (), factor
        return
    no, yes = (factor.given({variable: truth}) for truth in (0, 1))
    yield from multilinear(no.reduced())
    more = Factor(no.scope, yes.values - no.values)
    if not more.never:
        for variables, part in multilinear(more.reduced()):
            yield (variable, *variables), part


def distinct_rows(rows: Array) -> tuple[Array, Array]:
    """Return the different rows of a matrix in lexicographic order, and which of them each row is.

    It is what ``numpy.unique`` does along an axis; that makes a record of each row, with a field
    for each column, which takes minutes where the rows are a large factor's.
    """
    if rows.shape[1] == 1:
        kept, case = np.unique(rows, return_inverse=True)
        return kept.reshape(-1, 1), case.reshape(-1)
    rows = rows + 0.0 if rows.dtype.kind == "f" else rows  # -0.0 is 0.0
    if rows.size and rows.shape[1] <= _NARROW and rows.dtype.char in "?ilqfd":
        return _distinct_narrow_rows(rows)
    first: dict[bytes, int] = {}
    case = np.array([first.setdefault(row.tobytes(), len(first)) for row in rows], np.int64)
    kept = rows[np.unique(case, return_index=True)[1]]

    def compared(one: int, other: int) -> int:
        place = np.argmax(kept[one] != kept[other])
        return -1 if kept[one, place] < kept[other, place] else 1

    order = np.array(sorted(range(len(kept)), key=cmp_to_key(compared)), np.int64)
    return kept[order], np.argsort(order)[case]


def _distinct_narrow_rows(rows: Array) -> tuple[Array, Array]:
    """As :func:`distinct_rows`, by sorting, which is the quickest where columns are few."""
    order = np.lexsort(rows.T[::-1])
    ordered = rows[order]
    bits = ordered.view(f"i{ordered.itemsize}")  # not a number is the same as itself
    begins = np.append(True, (bits[1:] != bits[:-1]).any(1))
    case = np.empty(len(rows), np.int64)
    case[order] = np.cumsum(begins) - 1
    return ordered[begins], case


def whole(values: Array) -> Array:
    """Return floats as integers, where all are whole numbers that floats can tell apart."""
    if values.dtype != np.float64 or not (np.abs(values) < 2.0**53).all():
        return values
    rounded = np.rint(values)
    return rounded.astype(np.int64) if (rounded == values).all() else values


def _largest(values: Array) -> float:
    return float(np.abs(values).max()) if values.size else 0.0


def _product(left: Array, right: Array) -> Array:
    if left.dtype == right.dtype == np.int64 and _largest(left) * _largest(right) >= EXACT:
        raise OverflowError("the entries of a table would not fit into 64 bits")
    product: Array = left * right
    return product


def _sum(left: Array, right: Array) -> Array:
    if left.dtype == right.dtype == np.int64 and _largest(left) + _largest(right) >= EXACT:
        raise OverflowError("the entries of a table would not fit into 64 bits")
    total: Array = left + right
    return total
