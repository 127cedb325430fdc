"""Cases: what something is for each combination of values of a few labels.

A quantity that differs between architectures is held as the list of the distinct things that
it can be, and an array over the values of some labels that says which it is where.  Labels on
which it turns out not to depend are dropped at once, so arrays stay small however many labels
a space has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import DecompositionError, NasSpaceError
from ..mutable.bounds import all_combinations, combinations_of
from ..mutable.columns import python_values
from ..mutable.node import Node, key_of, leaves


class Label:
    """A symbol that can be compared and looked up: on symbols, ``==`` builds expressions.

    Attributes
    ----------
    symbol
        The symbol.
    name
        Its label.
    size
        How many values it has.
    """

    __slots__ = ("name", "size", "symbol")

    def __init__(self, symbol: Any) -> None:
        self.symbol = symbol
        self.name: str = symbol.name
        self.size: int = symbol.size

    @classmethod
    def of(cls, symbol: Any) -> Label:
        """The one label of a symbol."""
        found: Label = symbol.remember("_label_of_cases", cls)
        return found

    def __repr__(self) -> str:
        return self.name


Labels: TypeAlias = tuple[Label, ...]
"""Labels, each once; one that decides whether another is active stands before it."""

Array: TypeAlias = "npt.NDArray[Any]"

NONE = -1
"""In an array of ids: no case, because no architecture gets there."""

LIMIT = 2**20
"""Up to how many combinations of values one array holds."""


T = TypeVar("T")


def ordered(*sequences: tuple[T, ...]) -> tuple[T, ...]:
    """The items of some sequences, each once, in an order that agrees with all of them.

    >>> ordered(("a", "c"), ("b", "c"))
    ('a', 'b', 'c')
    """
    longest: tuple[T, ...] = max(sequences, key=len, default=())
    if all(set(sequence) <= set(longest) for sequence in sequences):
        places = {label: place for place, label in enumerate(longest)}
        if all(_ascends([places[label] for label in sequence]) for sequence in sequences):
            return longest
    before: dict[T, set[T]] = {}
    for sequence in sequences:
        for place, label in enumerate(sequence):
            before.setdefault(label, set()).update(sequence[:place])
    result: list[T] = []
    while before:
        # Two sequences that contradict each other leave no label free: then none of them
        # decides about the others, and any order will do.
        label = next((each for each, needs in before.items() if not needs), next(iter(before)))
        del before[label]
        for needs in before.values():
            needs.discard(label)
        result.append(label)
    return tuple(result)


def chained(*sequences: tuple[T, ...]) -> tuple[T, ...]:
    """The items of some sequences, each once, those of earlier sequences first.

    >>> chained(("b", "a"), ("a", "c"))
    ('b', 'a', 'c')
    """
    return tuple(dict.fromkeys(item for sequence in sequences for item in sequence))


def _ascends(places: list[int]) -> bool:
    return all(one < other for one, other in pairwise(places))


def sizes(labels: Labels) -> tuple[int, ...]:
    """How many values each label has.

    Raises
    ------
    DecompositionError
        If the combinations are too many to go through one by one.
    """
    shape = tuple(label.size for label in labels)
    if math.prod(shape) > LIMIT:
        raise DecompositionError(
            f"something depends on {math.prod(shape)} combinations of the labels "
            f"{list(labels)} at once, more than the {LIMIT} that can be gone "
            "through; make fewer choices that all matter for the same shape"
        )
    return shape


def spread(array: Array, labels: Labels, onto: Labels) -> Array:
    """An array over some labels as one over more: axes in order, new ones of size 1."""
    if labels == onto:
        return array
    places = [onto.index(label) for label in labels]
    array = array.transpose(np.argsort(places))
    shape = [1] * len(onto)
    for place, size in zip(sorted(places), array.shape, strict=True):
        shape[place] = size
    return array.reshape(shape)


class Guard(NamedTuple):
    """A condition on architectures.

    Attributes
    ----------
    labels
        What it depends on.
    mask
        For each combination of their values, whether it holds.
    """

    labels: Labels
    mask: Array

    def met_by(self, arch: Mapping[str, Any]) -> bool:
        """Whether an architecture meets it, whatever the labels are that it does not have."""
        return bool(self.mask[_codes(self.labels, arch)].all())


def _codes(labels: Labels, arch: Mapping[str, Any]) -> tuple[Any, ...]:
    """Where in an array over labels an architecture is; everywhere along those it does not have."""
    return tuple(
        label.symbol.code(arch[label.name]) if label.name in arch else slice(None)
        for label in labels
    )


class Context:
    """The architectures for which something runs: those that meet all of some guards.

    Parameters
    ----------
    guards
        The conditions, outermost first.
    """

    def __init__(self, guards: tuple[Guard, ...] = ()) -> None:
        self.guards = guards
        self.labels = chained(*(guard.labels for guard in guards))
        self._masks: dict[Labels, Array] = {}
        self._exact: dict[Labels, tuple[Labels, Array]] = {}

    def within(self, guard: Guard) -> Context:
        """The architectures that meet one more condition."""
        return Context((*self.guards, guard))

    def reaches_into(self, inner: Context) -> bool:
        """Whether another context lies within this one."""
        mine = self.guards
        return len(mine) <= len(inner.guards) and all(map(_same, mine, inner.guards))

    def mask(self, labels: Labels) -> Array:
        """Which combinations of some labels occur; may include some that do not."""
        found = self._masks.get(labels)
        if found is None:
            found = np.ones(sizes(labels), dtype=np.bool_)
            for guard in self.guards:
                shared = tuple(label for label in guard.labels if label in labels)
                if shared:
                    others = tuple(i for i, g in enumerate(guard.labels) if g not in labels)
                    possible: Array = np.asarray(guard.mask.any(axis=others))
                    found = found & spread(possible, shared, labels)
            self._masks[labels] = found
        return found

    def exact(self, labels: Labels) -> tuple[Labels, Array]:
        """The labels with those of the guards before them, and exactly which combinations occur."""
        found = self._exact.get(labels)
        if found is None:
            joint = chained(self.labels, labels)
            mask = np.ones(sizes(joint), dtype=np.bool_)
            for guard in self.guards:
                mask = mask & spread(guard.mask, guard.labels, joint)
            found = self._exact[labels] = (joint, mask)
        return found

    def table(self, labels: Labels, table: Array) -> tuple[Labels, Array]:
        """A table, 0 for architectures that are not in this context."""
        joint, mask = self.exact(labels)
        return joint, np.where(mask, spread(table, labels, joint), 0)


def _same(one: Guard, other: Guard) -> bool:
    return one is other


class Cases:
    """What something is, for each combination of values of some labels.

    Parameters
    ----------
    labels
        What it depends on.
    ids
        For each combination of their values, the place among the values; :data:`NONE` where
        it does not occur.
    values
        The distinct things it can be.
    """

    __slots__ = ("ids", "labels", "values")

    def __init__(self, labels: Labels, ids: Array, values: Sequence[Any]) -> None:
        self.labels = labels
        self.ids = ids
        self.values = values

    @classmethod
    def constant(cls, value: Any) -> Cases:
        """The same for every architecture."""
        return cls((), _ZERO, (value,))

    def present(self, context: Context) -> list[int]:
        """The places of the values that occur for some architecture of a context."""
        if len(self.values) == 1:
            return [0]
        ids = self.ids if not context.guards else self.ids[context.mask(self.labels)]
        found: list[int] = np.unique(ids).tolist()
        return [place for place in found if place != NONE]

    def where(self, place: int) -> Guard:
        """The condition that it is one of its values."""
        return Guard(self.labels, self.ids == place)

    def reduced(self) -> Cases:
        """The same without labels that make no difference, and without values that do not occur."""
        labels, ids = self.labels, self.ids
        if not labels and len(self.values) == 1:
            return self
        for axis in reversed(range(len(labels))):
            highest = ids.max(axis=axis, keepdims=True)
            if ((ids == highest) | (ids == NONE)).all():
                labels, ids = labels[:axis] + labels[axis + 1 :], highest.squeeze(axis)
        used = [place for place in np.unique(ids).tolist() if place != NONE]
        if len(used) == len(self.values):
            return Cases(labels, ids, self.values)
        places = np.full(len(self.values) + 1, NONE)
        places[used] = np.arange(len(used))
        return Cases(labels, places[ids], [self.values[place] for place in used])

    def under(self, arch: Mapping[str, Any]) -> Any:
        """What it is for an architecture that it occurs for."""
        return self.values[int(np.max(self.ids[_codes(self.labels, arch)]))]

    def map(self, function: Callable[[Any], Any]) -> Cases:
        """What a function makes of each value; its results must hash, and equal ones become one."""
        distinct: dict[Any, int] = {}
        places = [distinct.setdefault(function(value), len(distinct)) for value in self.values]
        return Cases(self.labels, np.array([*places, NONE])[self.ids], list(distinct)).reduced()


_ZERO: Array = np.zeros((), dtype=np.int64)


class Joint(NamedTuple):
    """Several things together.

    Attributes
    ----------
    labels
        What they depend on together.
    ids
        The place among the combinations; :data:`NONE` where they do not occur together.
    combinations
        Each combination that occurs: one place among the values of each.
    """

    labels: Labels
    ids: Array
    combinations: list[tuple[int, ...]]


def joint(parts: Sequence[Cases], context: Context) -> Joint:
    """The combinations in which several things occur, for the architectures of a context."""
    varying = [place for place, part in enumerate(parts) if part.labels]
    if not varying:
        return Joint((), _ZERO, [(0,) * len(parts)])
    labels = ordered(*(parts[place].labels for place in varying))
    codes: Array = np.zeros(sizes(labels), dtype=np.int64)
    valid = np.broadcast_to(context.mask(labels), codes.shape).copy()
    rows: Array = np.zeros((1, len(parts)), dtype=np.int64)
    for place in varying:
        part = parts[place]
        ids = spread(part.ids, part.labels, labels)
        valid &= ids != NONE
        # One part at a time, compressing between: the product over all could overflow.
        seen, inverse = np.unique((codes * len(part.values) + ids)[valid], return_inverse=True)
        codes[valid] = inverse.reshape(-1)
        rows = rows[seen // len(part.values)]
        rows[:, place] = seen % len(part.values)
    codes[~valid] = NONE
    return Joint(labels, codes, [tuple(row) for row in rows.tolist()])


def selected(outcomes: Sequence[tuple[Guard, Cases]], key: Callable[[Any], Any] = id) -> Cases:
    """What something is, if it is each of several things under a condition of its own.

    Parameters
    ----------
    outcomes
        Conditions, no two of which hold together, and what it is under each.
    key
        Under which two values are the same.
    """
    labels = ordered(*(chained(guard.labels, part.labels) for guard, part in outcomes))
    ids: Array = np.full(sizes(labels), NONE, dtype=np.int64)
    distinct: dict[Any, int] = {}
    values: list[Any] = []
    for guard, part in outcomes:
        places = []
        for value in part.values:
            place = distinct.setdefault(key(value), len(values))
            if place == len(values):
                values.append(value)
            places.append(place)
        mine = np.array([*places, NONE])[spread(part.ids, part.labels, labels)]
        here = spread(guard.mask, guard.labels, labels)
        ids = np.where(here & (mine != NONE), mine, ids)
    return Cases(labels, ids, values).reduced()


def cases_of(expression: Any) -> tuple[Cases, dict[int, Exception]]:
    """What an expression is, for each combination of values of the labels in it.

    Returns
    -------
    cases
        Its values.
    failures
        Of combinations that give no value, why: place in the flattened array to error.

    Raises
    ------
    DecompositionError
        If the combinations are infinitely many, or too many.
    """
    if not isinstance(expression, Node):
        return Cases.constant(expression), {}
    found: tuple[Cases, dict[int, Exception]] = expression.remember("_cases", _find_cases)
    return found


def _find_cases(expression: Node) -> tuple[Cases, dict[int, Exception]]:
    symbols: list[Any] = list(leaves(expression))
    if combinations_of(symbols) is None:
        names = [symbol.name for symbol in symbols if symbol.size is None]
        raise DecompositionError(
            f"{expression} has infinitely many values, since {names} are continuous; give them a "
            "step (quantize=...) and finite bounds",
            term=expression,
        )
    labels = tuple(map(Label.of, symbols))
    shape = sizes(labels)
    columns = all_combinations(symbols)
    failures: dict[int, Exception] = {}
    try:
        values = python_values(columns.get(expression))
    except (ArithmeticError, LookupError, NasSpaceError, TypeError, ValueError):
        # Some combination has no value, perhaps one that no architecture has: row by row.
        values = []
        for row in range(columns.size):
            try:
                values += python_values(columns.cut(np.array([row])).get(expression))
            except (
                ArithmeticError,
                LookupError,
                NasSpaceError,
                TypeError,
                ValueError,
            ) as error:
                values.append(_FAILED)
                failures[row] = error
    distinct: dict[Any, int] = {}
    kept: list[Any] = []
    ids: list[int] = []
    for value in values:
        if value is _FAILED:
            ids.append(NONE)
            continue
        place = distinct.setdefault(key_of(value), len(kept))
        if place == len(kept):
            kept.append(value)
        ids.append(place)
    return Cases(labels, np.array(ids, dtype=np.int64).reshape(shape), kept), failures


_FAILED = object()
