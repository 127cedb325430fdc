"""Factors: small arrays over a few discrete variables.

Everything exact in this part of the library is made of them: the terms of a cost, the
conditions under which a label is active, the combinations that a constraint allows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import DecompositionError
from ..mutable.bounds import all_combinations, combinations_of
from ..mutable.columns import as_column
from ..mutable.lazy import evaluate
from ..mutable.node import Node, leaves

Array: TypeAlias = "npt.NDArray[Any]"

LIMIT = 2**20
"""Up to how many entries a single factor may have."""

_EXACT = 2**62
"""Whole numbers up to here are added and subtracted in int64 without a further thought."""


class Auxiliary:
    """A variable that no architecture gives: a truth value that others determine.

    It stands for a condition that would need too large a table.
    """

    size = 2

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}>"


class TooLarge(Exception):  # noqa: N818 - caught within this part of the library, not an error yet
    """A factor would have more entries than it may."""

    def __init__(self, scope: Sequence[Any]) -> None:
        super().__init__(scope)
        self.scope = tuple(scope)


class Factor:
    """An array with one axis for each of some variables, indexed by their codes.

    Parameters
    ----------
    scope
        Variables: symbols, or anything else with a ``size``.
    values
        One axis for each of them.
    """

    __slots__ = ("scope", "values")

    def __init__(self, scope: Sequence[Any], values: Array) -> None:
        self.scope = tuple(scope)
        self.values = values

    @classmethod
    def constant(cls, value: Any) -> Factor:
        """A factor over nothing."""
        return cls((), np.asarray(value))

    def axes(self) -> dict[Any, int]:
        """The axis of each variable: tuples find by ``==``, which builds expressions."""
        return {variable: axis for axis, variable in enumerate(self.scope)}

    def over(self, scope: Sequence[Any]) -> Array:
        """The values with axes in the order of a larger scope, of length 1 where it is new."""
        place = self.axes()
        axes = [place[variable] for variable in scope if variable in place]
        shape = [self.values.shape[place[v]] if v in place else 1 for v in scope]
        return self.values.transpose(axes).reshape(shape)

    def combine(self, other: Factor, operation: Callable[[Array, Array], Array]) -> Factor:
        """An operation entry by entry, over the variables of both.

        Raises
        ------
        TooLarge
            If the result would have too many entries.
        """
        scope = joint(self.scope, other.scope)
        return Factor(scope, operation(self.over(scope), other.over(scope)))

    def reduced(self) -> Factor:
        """The same without the variables on which it does not depend."""
        scope, values = list(self.scope), self.values
        for axis in reversed(range(len(scope))):
            first = values.take([0], axis)
            if (values == first).all():
                values = first.squeeze(axis)
                del scope[axis]
        return Factor(scope, values)

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


def joint(*scopes: Sequence[Any]) -> tuple[Any, ...]:
    """The variables of several scopes, each once.

    Raises
    ------
    TooLarge
        If a factor over them would have too many entries.
    """
    scope = tuple(dict.fromkeys(variable for scope in scopes for variable in scope))
    if math.prod(variable.size for variable in scope) > LIMIT:
        raise TooLarge(scope)
    return scope


def _largest(values: Array) -> float:
    return float(np.abs(values).max()) if values.size else 0.0


def _product(left: Array, right: Array) -> Array:
    if left.dtype == right.dtype == np.int64 and _largest(left) * _largest(right) >= _EXACT:
        raise OverflowError("the entries of a table would not fit into 64 bits")
    product: Array = left * right
    return product


def _sum(left: Array, right: Array) -> Array:
    if left.dtype == right.dtype == np.int64 and _largest(left) + _largest(right) >= _EXACT:
        raise OverflowError("the entries of a table would not fit into 64 bits")
    total: Array = left + right
    return total


def brief(node: Any) -> str:
    """How an expression prints, or how it begins and ends, if it is long."""
    text = str(node)
    return text if len(text) <= 200 else f"{text[:90]} ... {text[-90:]}"


# -- from expressions -------------------------------------------------------------------------


class Enumerated:
    """All values of an expression, over the labels that it is about.

    Parameters
    ----------
    node
        The expression.

    Attributes
    ----------
    scope
        Its symbols.
    column
        A value for each combination of their codes, that of the last changing fastest.
    defined
        Where it has a value: evaluation may fail, by a division by zero for example.
        ``None`` if it has one everywhere.

    Raises
    ------
    DecompositionError
        If there are too many combinations, or infinitely many.
    """

    def __init__(self, node: Node) -> None:
        self.scope: tuple[Any, ...] = tuple(leaves(node))
        total = combinations_of(self.scope)
        if total is None:
            names = [symbol.name for symbol in self.scope if symbol.size is None]
            raise DecompositionError(
                f"{brief(node)} depends on the continuous {', '.join(map(repr, names))}; "
                "give it a step (quantize=...) and finite bounds",
                term=node,
            )
        if total > LIMIT:
            names = [symbol.name for symbol in self.scope]
            raise DecompositionError(
                f"{brief(node)} is not a sum of small tables: it depends on {len(names)} labels at "
                f"once ({', '.join(names[:8])}{', ...' if len(names) > 8 else ''}), which have "
                f"{total} combinations; at most {LIMIT} are allowed",
                term=node,
            )
        self.shape = tuple(symbol.size for symbol in self.scope)
        self.defined: Factor | None = None
        try:
            self.column: Array = all_combinations(self.scope).get(node)
        except (ArithmeticError, LookupError, TypeError, ValueError):
            self._one_by_one(node, total)

    def _one_by_one(self, node: Node, total: int) -> None:
        """Some combination has no value: finds out which."""
        defined = np.ones(total, dtype=np.bool_)
        values: list[Any] = []
        for row, codes in enumerate(np.ndindex(self.shape)):
            sample = {s: s.value(code) for s, code in zip(self.scope, codes, strict=True)}
            try:
                values.append(evaluate(node, sample.__getitem__))
            except (ArithmeticError, LookupError, TypeError, ValueError):
                defined[row] = False
                values.append(None)
        # What is not there is filled with a value of the same kind, to keep the column plain.
        filler = next((value for value, there in zip(values, defined, strict=True) if there), 0)
        self.column = as_column(
            [value if there else filler for value, there in zip(values, defined, strict=True)]
        )
        self.defined = Factor(self.scope, defined.reshape(self.shape))

    def factor(self, values: Array) -> Factor:
        """A factor of a column worked out from this one."""
        return Factor(self.scope, values.reshape(self.shape))

    def truth(self) -> Factor:
        """Where the value is true; where it has none, it is not."""
        column = self.column
        if column.dtype == object:
            column = np.array([bool(value) for value in column.tolist()], dtype=np.bool_)
        found = self.factor(column.astype(np.bool_))
        return found if self.defined is None else found & self.defined

    def numbers(self, node: Node) -> Factor:
        """The values as int64, or as float64 where they are not whole.

        Raises
        ------
        DecompositionError
            If they are no numbers, or too large.
        """
        values = self.column.tolist()
        for value in values:
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                raise DecompositionError(
                    f"{brief(node)} can be {value!r}, which is no number", term=node
                )
            if isinstance(value, int) and abs(value) >= _EXACT:
                raise DecompositionError(
                    f"{brief(node)} can be {value}, which is too large for a table", term=node
                )
        fractional = any(isinstance(value, float) for value in values)
        return self.factor(whole(np.array(values, np.float64 if fractional else np.int64)))


def whole(values: Array) -> Array:
    """Floats as integers, where they all are whole numbers that floats can tell apart."""
    if values.dtype != np.float64 or not (np.abs(values) < 2.0**53).all():
        return values
    rounded = np.rint(values)
    return rounded.astype(np.int64) if (rounded == values).all() else values
