"""``Categorical``: one of several values."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from numbers import Number
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import DomainError, suggest
from .columns import Column, as_column
from .intervals import EVERYTHING, Interval
from .mutable import Mutable
from .node import ActiveValues, fresh, key_of
from .random_words import below, weighted
from .symbols import MISSING, Drawer, MutableSymbol

__all__ = ["Categorical", "check_distribution", "checked_values", "closest", "plain", "shortened"]

T_co = TypeVar("T_co", covariant=True)

_ATOMS = frozenset({int, str, bool})


class Categorical(MutableSymbol[T_co]):
    """One of several values.

    Parameters
    ----------
    values
        What to choose from: at least one, all different; of any type that is not mutable
        in the sense of this library.  NumPy scalars are taken as Python numbers.
    weights
        Probability of each value; uniform by default.
    default
        The value taken where nothing is chosen; the first by default.
    label
        The name of the choice; numbered by the label scope if it is not given.

    Raises
    ------
    DomainError
        If there are no values, two equal ones, mutables among them, or weights that are not
        a distribution.

    Examples
    --------
    >>> x = Categorical([2, 3, 5], label="x")
    >>> x.simplify()
    {'x': Categorical([2, 3, 5], label='x')}
    >>> x.freeze({"x": 3})
    3
    >>> x.freeze({"x": 4})
    Traceback (most recent call last):
    ...
    nas_space.errors.SampleValidationError: 4 is not allowed for the label 'x', which takes \
one of [2, 3, 5]
    """

    values: tuple[T_co, ...]
    size: int
    weights: tuple[float, ...]

    def __init__(
        self,
        values: Iterable[T_co],
        *,
        weights: Sequence[float] | None = None,
        default: Any = MISSING,
        label: str | None = None,
    ) -> None:
        self._named(label)
        self.values = checked_values(values, self.name)
        self.size = len(self.values)
        self._given_weights = None if weights is None else tuple(map(float, weights))
        even = (1 / self.size,) * self.size
        self.weights = even if self._given_weights is None else self._given_weights
        check_distribution(self.weights, self.size, self.name)
        self._codes: dict[Hashable, int] = {
            key_of(value, loose=True): code for code, value in enumerate(self.values)
        }
        # What is common is fast: values of one type that nobody can change.
        kinds = {type(value) for value in self.values}
        self._kind = kinds.pop() if len(kinds) == 1 and kinds <= _ATOMS else None
        self._own = frozenset(self.values) if self._kind else frozenset()
        self._fragile = self._kind is None and any(fresh(v) is not v for v in self.values)
        self._finish(default)

    def domain(self) -> tuple[Any, ...]:
        return (self.values, self._given_weights, self.default_value)

    def arguments_of_call(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        keywords = {
            "weights": self._given_weights,
            "default": self.default_value,
            "label": self.label,
        }
        return (list(self.values),), keywords

    def __len__(self) -> int:
        return self.size

    def value(self, code: int) -> T_co:
        value = self.values[code]
        return fresh(value) if self._fragile else value

    def decode(self, codes: Column) -> list[T_co]:
        values = list(map(self.values.__getitem__, codes.tolist()))
        return list(map(fresh, values)) if self._fragile else values

    def code(self, value: Any) -> int:
        found = self._codes.get(key_of(plain(value), loose=True))
        if found is None:
            raise self.refusal(value, closest(value, self.values))
        return found

    def visit(self, sample: Mapping[str, Any], values: ActiveValues) -> T_co:
        name = self.name
        value = sample[name] if name in sample else self.take(sample)
        if type(value) is not self._kind or value not in self._own:
            value = self.coerce(value)
        values.active[name] = value
        return value

    def allowed(self) -> str:
        return f"one of {shortened(self.values)}"

    def extra_repr(self) -> str:
        return f"{shortened(self.values)}, label={self.name!r}"

    def default_choice(self) -> T_co:
        return self.value(0) if self.default_value is MISSING else self.coerce(self.default_value)

    def draw_column(self, raw: npt.NDArray[np.uint64]) -> Column:
        if self._given_weights is None:
            return below(raw[:, 0], self.size)
        return weighted(raw[:, 0], self.weights)

    def drawer(self, offset: int) -> Drawer:
        if self._kind is None or self._given_weights is not None:
            return super().drawer(offset)
        values, size = self.values, self.size
        return lambda numbers, raw: values[(numbers[offset] >> 32) * size >> 32]  # noqa: ARG005

    def column(self, codes: Column) -> Column:
        values: Column = self.remember("_column", _all_values)[codes]
        return values

    def probabilities(self) -> npt.NDArray[np.float64]:
        return np.array(self.weights) / math.fsum(self.weights)

    def interval(self) -> Interval:
        numbers = [value for value in self.values if isinstance(value, (int, float))]
        if len(numbers) < self.size or any(math.isnan(number) for number in numbers):
            return EVERYTHING
        return (min(numbers), max(numbers))

    def grid_choices(self, granularity: int) -> Iterable[T_co]:
        del granularity  # every value is gone through, the most probable first
        order = sorted(range(self.size), key=lambda code: -self.weights[code])
        return [self.value(code) for code in order]


def _all_values(symbol: Any) -> Column:
    return as_column(list(symbol.values))


# What other symbols that choose among listed values need as well.


def plain(value: Any) -> Any:
    """Return NumPy's scalars as Python's; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def checked_values(values: Iterable[Any], name: str) -> tuple[Any, ...]:
    """Return the values to choose from, of which there must be some, all different."""
    if isinstance(values, (Mutable, str)):
        raise DomainError(f"the values of {name!r} must be listed, but got {values!r}")
    if isinstance(values, (set, frozenset)):
        raise DomainError(
            f"the values of {name!r} must be in an order that is the same in every process, but "
            "a set has none; give a list"
        )
    owned = tuple(fresh(plain(value)) for value in values)
    if not owned:
        raise DomainError(f"{name!r} has no values to choose from; give at least one")
    seen: dict[Hashable, Any] = {}
    for value in owned:
        if isinstance(value, Mutable):
            raise DomainError(
                f"the values of {name!r} must be plain, but {value} is not; "
                "write a choice between expressions with MutableExpression.switch_case(...)"
            )
        key = _equality_key(value)
        if key in seen:
            both = f"the value {value!r} twice"
            if repr(value) != repr(seen[key]):
                both = f"{seen[key]!r} and {value!r}, which are equal"
            raise DomainError(
                f"{name!r} has {both}, among its values; give each once, and say by weights which "
                "is more likely"
            )
        seen[key] = value
    return owned


def _equality_key(value: Any) -> Hashable:
    """Return a key that two values share exactly if nobody can tell them apart.

    These are equal values, of whatever types (``1``, ``True`` and ``Decimal(1)``), also as items
    of containers and arrays; and NaN, which is equal to nothing, but of which a choice between
    two would be no choice.
    """
    if isinstance(value, (list, tuple)):
        return ("items", *map(_equality_key, value))
    if isinstance(value, dict):
        pairs = [(_equality_key(key), _equality_key(item)) for key, item in value.items()]
        return (dict, frozenset(pairs))
    if isinstance(value, (set, frozenset)):
        return (set, frozenset(map(_equality_key, value)))
    if not isinstance(value, type) and hasattr(value, "tolist") and hasattr(value, "shape"):
        return _equality_key_of_array(value)
    try:
        hash(value)
    except TypeError:
        return _Unhashable(value)
    if isinstance(value, Number):
        return ("number", value if value == value else "NaN")  # noqa: PLR0124 - NaN is not
    return ("value", value)


def _equality_key_of_array(array: Any) -> Hashable:
    try:
        items = array.tolist()
    except (NotImplementedError, RuntimeError):  # such as a meta tensor, which holds no items
        return ("id", id(array))
    shape = tuple(array.shape)
    # The items of empty arrays do not tell their shapes; an array without axes equals its item.
    return ("array", shape, _equality_key(items)) if shape else _equality_key(items)


class _Unhashable:
    """A value that knows what it is equal to, but has no hash, such as a dataclass."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return hash(_Unhashable)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Unhashable):
            return False
        try:
            return self.value is other.value or bool(self.value == other.value)
        except Exception:  # noqa: BLE001 - whatever a class of a user's says: not comparable
            return False


def check_distribution(weights: Sequence[float], size: int, name: str) -> None:
    """Check that weights are one for each value, not negative, and sum to 1."""
    if len(weights) != size:
        raise DomainError(f"{name!r} has {size} values, but {len(weights)} weights")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
        raise DomainError(f"the weights of {name!r} must not be negative, but got {list(weights)}")
    if abs(math.fsum(weights) - 1) > 1e-6:
        raise DomainError(f"the weights of {name!r} must sum to 1, but sum to {math.fsum(weights)}")


def shortened(values: Sequence[Any]) -> str:
    """Return the values for printing; of many, the first and the last."""
    if len(values) <= 10:
        return repr(list(values))
    head, tail = ", ".join(map(repr, values[:4])), ", ".join(map(repr, values[-3:]))
    return f"[{head}, ..., {tail}]"


def closest(value: Any, values: Sequence[Any]) -> str:
    """Point out a value that was meant but has another type, or another spelling."""
    for candidate in values:
        if str(candidate) == str(value) or (_is_number(candidate) and candidate == value):
            return f" (did you mean {candidate!r}, of type {type(candidate).__name__}?)"
    if not isinstance(value, str):
        return ""
    return suggest(value, [candidate for candidate in values if isinstance(candidate, str)])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))
