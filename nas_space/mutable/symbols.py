"""Symbols: the labelled dimensions of a space.

Every symbol but a continuous one numbers its values from 0: a *code*.  Batches hold codes,
draws are made on codes, and the rest of the library counts with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, combinations
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import DomainError, SampleMissingError, SampleValidationError
from .base import LabeledMutable, Mutable, Values
from .columns import as_column
from .expression import MutableExpression
from .labels import auto_label, label_scope
from .node import Node, key_of
from .randomness import unit

T = TypeVar("T")
Choice = TypeVar("Choice")


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"

    def __reduce__(self) -> str:
        return "MISSING"


MISSING = _Missing()
"""Stands for a default that was not given."""


class MutableSymbol(LabeledMutable, MutableExpression[T], Generic[T]):
    """A leaf of expressions: one labelled choice.

    Subclasses say which values there are (:meth:`code`, :meth:`value`, :attr:`size`) and how
    one is drawn (:meth:`draw`, :meth:`draw_column`).

    Attributes
    ----------
    label
        Under which architectures give its value.
    size
        How many values it has; ``None`` if it is continuous.
    words
        How many random words a draw takes.
    """

    operator = None
    size: int | None
    words: int = 1
    default_value: Any = MISSING

    def domain(self) -> tuple[Any, ...]:
        """Everything beside the label that tells this symbol from another."""
        raise NotImplementedError

    def key(self) -> Hashable:
        return (type(self), str(self.label), *map(key_of, self.domain()))

    def value(self, code: int) -> Any:
        """The value of a code."""
        raise NotImplementedError

    def code(self, value: Any) -> int:
        """The code of a value.

        Raises
        ------
        SampleValidationError
            If the value is not in the domain.
        """
        raise NotImplementedError

    def coerce(self, value: Any) -> Any:
        """The value of the domain that is meant, such as a tuple where JSON gave a list."""
        return self.value(self.code(value))

    def allowed(self) -> str:
        """The domain in words, for error messages."""
        raise NotImplementedError

    def default_choice(self) -> Any:
        """The value that :meth:`default` takes."""
        raise NotImplementedError

    def draw(self, raw: npt.NDArray[np.uint64]) -> Any:
        """A value from :attr:`words` random words."""
        return self.decode(self.draw_column(raw.reshape(1, -1)))[0]

    def draw_column(self, raw: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
        """Codes (values, if continuous) from rows of random words."""
        raise NotImplementedError

    def draw_words(self, numbers: list[int], offset: int, raw: npt.NDArray[np.uint64]) -> Any:
        """As :meth:`draw`, from the words at an offset, given as integers and as an array."""
        return self.draw(raw[offset : offset + self.words])

    def decode(self, codes: npt.NDArray[Any]) -> list[Any]:
        """The values of many codes."""
        return [self.value(int(code)) for code in codes]

    def column(self, codes: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The values of many codes as an array."""
        return as_column(self.decode(codes))

    def probabilities(self) -> npt.NDArray[np.float64]:
        """The probability of each code under the symbol's own distribution."""
        raise NotImplementedError

    def grid_choices(self, granularity: int) -> Iterable[Any]:
        """The values that :meth:`grid` goes through."""
        raise NotImplementedError

    # -- reading samples ------------------------------------------------------------------

    def is_missing(self, sample: Mapping[str, Any]) -> bool:
        """Whether a sample has no value for this label."""
        return self.label not in sample

    def take(self, sample: Mapping[str, Any]) -> Any:
        """The value in a sample, unchecked."""
        if self.label not in sample:
            raise SampleMissingError(
                f"the label {self.label!r} has no value; it takes {self.allowed()}; "
                f"labels given: {list(sample)!r}"
            )
        return sample[self.label]

    def visit(self, sample: Mapping[str, Any], values: Values) -> Any:
        """The value in a sample, checked, and noted as active."""
        value = self.coerce(self.take(sample))
        values.active[self.label] = value
        return value

    def refusal(self, value: Any, hint: str = "") -> SampleValidationError:
        """The error for a value that is not in the domain."""
        return SampleValidationError(
            f"{value!r} is not allowed for the label {self.label!r}, which takes {self.allowed()}{hint}"
        )

    def expand(self, is_leaf: Callable[[Mutable], bool]) -> Iterator[LabeledMutable]:
        """This symbol, or simpler ones that it can be written with, if it is not to be a leaf."""
        if not is_leaf(self):
            raise ValueError(f"{self!r} cannot be expanded any further, but is_leaf() refused it")
        yield self

    # -- printing and pickling ------------------------------------------------------------

    def text(self, texts: dict[Node, tuple[str, int]]) -> tuple[str, int]:
        plain = self.label.replace("/", "_").isidentifier()
        return (str(self.label) if plain else f"<{self.label}>"), (18 if "/" not in self.label else 12)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _make, (type(self), *self.arguments_of_call())

    def arguments_of_call(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments that make this symbol again."""
        raise NotImplementedError

    def _finish(self, default: Any) -> None:
        """Checks the default last, when the domain stands."""
        if default is not MISSING:
            try:
                default = self.coerce(default)
            except SampleValidationError as error:
                raise DomainError(f"the default of {self.label!r} is not in its domain: {error}") from None
        self.default_value = default


class Categorical(MutableSymbol[Choice], Generic[Choice]):
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
    >>> x = Categorical([2, 3, 5], label='x')
    >>> x.simplify()
    {'x': Categorical([2, 3, 5], label='x')}
    >>> x.freeze({'x': 3})
    3
    >>> x.freeze({'x': 4})
    Traceback (most recent call last):
    ...
    nas_space.errors.SampleValidationError: 4 is not allowed for the label 'x', which takes one of [2, 3, 5]
    """

    def __init__(
        self,
        values: Iterable[Choice],
        *,
        weights: Sequence[float] | None = None,
        default: Any = MISSING,
        label: str | None = None,
    ) -> None:
        self.label = auto_label(label)
        self.values = _checked_values(values, self.label)
        self.size = len(self.values)
        self._codes = {key_of(value, loose=True): code for code, value in enumerate(self.values)}
        self._given_weights = None if weights is None else _floats(weights)
        self.weights = self._given_weights or (1 / self.size,) * self.size
        _check_distribution(self.weights, self.size, self.label)
        self._column = as_column(list(self.values))
        self._finish(default)

    def domain(self) -> tuple[Any, ...]:
        return (self.values, self._given_weights, self.default_value)

    def arguments_of_call(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (list(self.values),), {
            "weights": self._given_weights, "default": self.default_value, "label": self.label,
        }  # fmt: skip

    def __len__(self) -> int:
        return len(self.values)

    def value(self, code: int) -> Choice:
        return self.values[code]

    def code(self, value: Any) -> int:
        found = self._codes.get((type(value), value)) if type(value) in _ATOMS else None
        if found is None:
            found = self._codes.get(key_of(_plain(value), loose=True))
        if found is None:
            raise self.refusal(value, _closest(value, self.values))
        return found

    def allowed(self) -> str:
        return f"one of {_shortened(self.values)}"

    def extra_repr(self) -> str:
        return f"{_shortened(self.values)}, label={str(self.label)!r}"

    def default_choice(self) -> Choice:
        return self.values[0] if self.default_value is MISSING else self.default_value

    def draw_column(self, raw: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
        if self._given_weights is None:
            return draw_below(raw[:, 0], self.size or 1)
        return draw_weighted(raw[:, 0], self.weights)

    def draw_words(self, numbers: list[int], offset: int, raw: npt.NDArray[np.uint64]) -> Choice:
        if self._given_weights is not None:
            return super().draw_words(numbers, offset, raw)
        return self.values[(numbers[offset] >> 32) * len(self.values) >> 32]

    def column(self, codes: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return self._column[codes]

    def probabilities(self) -> npt.NDArray[np.float64]:
        return np.array(self.weights) / math.fsum(self.weights)

    def grid_choices(self, granularity: int) -> Iterable[Choice]:
        order = sorted(range(len(self.values)), key=lambda code: -self.weights[code])
        return [self.values[code] for code in order]

    def as_legacy_dict(self) -> dict[str, Any]:
        return {"_type": "choice", "_value": list(self.values)}


class CategoricalMultiple(MutableSymbol[list[Choice]], Generic[Choice]):
    """Several of several values, without repetition, in the order in which they are listed.

    Parameters
    ----------
    values
        What to choose from.
    n_chosen
        How many to choose; any number, none included, by default.
    weights
        With ``n_chosen``: relative weights of drawing each value, without replacement.
        Without: the probability that each is chosen; one half by default.
    default
        The first ``n_chosen`` by default; all, without ``n_chosen``.
    label
        The name of the choice.

    Examples
    --------
    >>> x = CategoricalMultiple([2, 3, 5], n_chosen=2, label='x')
    >>> list(x.grid())
    [[2, 3], [2, 5], [3, 5]]
    >>> list(x.simplify(lambda m: not isinstance(m, CategoricalMultiple)))
    ['x/0', 'x/1', 'x/2', 'x/n']
    >>> x.freeze({'x/0': True, 'x/1': False, 'x/2': True})
    [2, 5]
    """

    def __init__(
        self,
        values: Iterable[Choice],
        *,
        n_chosen: int | None = None,
        weights: Sequence[float] | None = None,
        default: Any = MISSING,
        label: str | None = None,
    ) -> None:
        self.label = auto_label(label)
        self.values = _checked_values(values, self.label)
        n = len(self.values)
        if n_chosen is not None and (
            isinstance(n_chosen, bool) or not isinstance(n_chosen, int) or not 1 <= n_chosen <= n
        ):
            raise DomainError(
                f"n_chosen of {self.label!r} must be None or between 1 and {n}, but got {n_chosen!r}"
            )
        self.n_chosen = n_chosen
        self.size = 2**n if n_chosen is None else math.comb(n, n_chosen)
        self._places = {key_of(value, loose=True): place for place, value in enumerate(self.values)}
        self._given_weights = None if weights is None else _floats(weights)
        self.weights = self._given_weights or ((0.5 if n_chosen is None else 1 / n),) * n
        if n_chosen is None:
            if len(self.weights) != n or not all(0 <= weight <= 1 for weight in self.weights):
                raise DomainError(f"weights of {self.label!r} must be {n} probabilities, but got {weights}")
        else:
            _check_distribution(self.weights, n, self.label)
            if sum(weight > 0 for weight in self.weights) < n_chosen:
                raise DomainError(
                    f"{self.label!r} chooses {n_chosen}, but fewer of its weights are positive: {weights}"
                )
        self.words = n if self._given_weights or n_chosen is None else n_chosen
        self._finish(default)

    def domain(self) -> tuple[Any, ...]:
        return (self.values, self.n_chosen, self._given_weights, self.default_value)

    def arguments_of_call(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (list(self.values),), {
            "n_chosen": self.n_chosen, "weights": self._given_weights,
            "default": self.default_value, "label": self.label,
        }  # fmt: skip

    # A code numbers the subsets: by combinatorial rank for a fixed number, else by bits.

    def places(self, code: int) -> tuple[int, ...]:
        """Which of the values a code chooses, as ascending indices."""
        n, k = len(self.values), self.n_chosen
        if k is None:
            return tuple(place for place in range(n) if code >> place & 1)
        chosen: list[int] = []
        place = 0
        while k:
            below = math.comb(n - place - 1, k - 1)
            if code < below:
                chosen.append(place)
                k -= 1
            else:
                code -= below
            place += 1
        return tuple(chosen)

    def rank(self, places: Sequence[int]) -> int:
        """The code of ascending indices: the inverse of :meth:`places`."""
        n, k = len(self.values), self.n_chosen
        if k is None:
            return sum(1 << place for place in places)
        code, start = 0, 0
        for taken, place in enumerate(places):
            code += sum(math.comb(n - skipped - 1, k - taken - 1) for skipped in range(start, place))
            start = place + 1
        return code

    def value(self, code: int) -> list[Choice]:
        return [self.values[place] for place in self.places(code)]

    def code(self, value: Any) -> int:
        if not isinstance(value, (list, tuple)):
            raise self.refusal(value, "; give a list")
        places = []
        for item in value:
            place = self._places.get(key_of(_plain(item), loose=True))
            if place is None:
                raise self.refusal(value, f": {item!r} is not among them")
            places.append(place)
        if len(set(places)) != len(places):
            raise self.refusal(value, ": a value occurs twice")
        if self.n_chosen is not None and len(places) != self.n_chosen:
            raise self.refusal(value, f": {len(places)} are given")
        return self.rank(sorted(places))

    def allowed(self) -> str:
        number = "any number" if self.n_chosen is None else str(self.n_chosen)
        return f"a list of {number} of {_shortened(self.values)}"

    def extra_repr(self) -> str:
        return f"{_shortened(self.values)}, n_chosen={self.n_chosen}, label={str(self.label)!r}"

    def default_choice(self) -> Any:
        if self.default_value is not MISSING:
            return self.default_value
        return list(self.values[: self.n_chosen])

    def draw_column(self, raw: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
        if self.n_chosen is None:
            chosen = unit(raw) < np.array(self.weights)
            codes = [sum(1 << place for place in np.flatnonzero(row).tolist()) for row in chosen]
        elif self._given_weights is not None:
            # Exponential clocks: the n_chosen that ring first are a weighted draw without
            # replacement (Efraimidis and Spirakis, 2006).
            with np.errstate(divide="ignore"):
                clocks = -np.log(unit(raw)) / np.array(self.weights)
            first = np.argsort(clocks, axis=1, kind="stable")[:, : self.n_chosen]
            codes = [self.rank(sorted(row)) for row in first.tolist()]
        else:
            codes = [self.rank(self._shuffle(row)) for row in raw.tolist()]
        return np.array(codes, dtype=np.int64 if (self.size or 0) < 2**62 else object)

    def _shuffle(self, row: list[int]) -> list[int]:
        """The first places of a random permutation (Fisher and Yates)."""
        places = list(range(len(self.values)))
        for index, word in enumerate(row):
            other = index + ((word >> 32) * (len(places) - index) >> 32)
            places[index], places[other] = places[other], places[index]
        return sorted(places[: self.n_chosen])

    def probabilities(self) -> npt.NDArray[np.float64]:
        size = self.size or 0
        if size > 2**20:
            raise DomainError(f"{self.label!r} has {size} values, too many to list their probabilities")
        subsets = [self.places(code) for code in range(size)]
        if self.n_chosen is not None:
            if self._given_weights is None:
                return np.full(size, 1 / size)
            return np.array([_without_replacement(self.weights, subset) for subset in subsets])
        result = np.ones(size)
        for code, subset in enumerate(subsets):
            for place, weight in enumerate(self.weights):
                result[code] *= weight if place in subset else 1 - weight
        return result

    def grid_choices(self, granularity: int) -> Iterator[Any]:
        counts = range(len(self.values) + 1) if self.n_chosen is None else (self.n_chosen,)
        return (list(c) for c in chain.from_iterable(combinations(self.values, k) for k in counts))

    # The categorical format: a yes or no for each value, as simpler strategies want it.

    def flags(self) -> list[Categorical[bool]]:
        """One yes-or-no choice for each value, labelled ``<label>/<place>``."""
        with label_scope(self.label):
            return [Categorical([True, False], label=str(place)) for place in range(len(self.values))]

    def expand(self, is_leaf: Callable[[Mutable], bool]) -> Iterator[LabeledMutable]:
        if is_leaf(self):
            yield self
            return
        from .constraints import ExpressionConstraint

        flags = self.flags()
        for flag in flags:
            yield from flag.expand(is_leaf)
        if self.n_chosen is not None:
            with label_scope(self.label):
                yield ExpressionConstraint(MutableExpression.sum(flags) == self.n_chosen, label="n")

    def is_missing(self, sample: Mapping[str, Any]) -> bool:
        return self.label not in sample and f"{self.label}/0" not in sample

    def take(self, sample: Mapping[str, Any]) -> Any:
        if self.label not in sample and f"{self.label}/0" in sample:
            chosen = (flag.coerce(flag.take(sample)) for flag in self.flags())
            return [value for value, taken in zip(self.values, chosen, strict=True) if taken]
        return super().take(sample)


def draw_below(raw: npt.NDArray[np.uint64], size: int) -> npt.NDArray[Any]:
    """Codes below ``size`` from the upper 32 bits of words, by multiplication and shift."""
    codes = ((raw >> np.uint64(32)) * np.uint64(size)) >> np.uint64(32)
    return codes.astype(np.uint8 if size <= 256 else np.int64)


def draw_weighted(raw: npt.NDArray[np.uint64], weights: Sequence[float]) -> npt.NDArray[Any]:
    """Codes with the given probabilities, by inversion of the cumulative distribution."""
    total = math.fsum(weights)
    steps, reached = [], 0.0
    for weight in weights:
        reached += weight
        steps.append(reached / total)
    last = max(code for code, weight in enumerate(weights) if weight > 0)
    codes = np.searchsorted(np.array(steps), unit(raw), side="right")
    return np.minimum(codes, last).astype(np.uint8 if len(weights) <= 256 else np.int64)


def _without_replacement(weights: Sequence[float], subset: tuple[int, ...]) -> float:
    """Probability that a weighted draw without replacement gives this subset, in any order."""
    reached = {0: 1.0}
    for _ in subset:
        following: dict[int, float] = {}
        for taken, probability in reached.items():
            left = 1 - sum(weights[p] for i, p in enumerate(subset) if taken >> i & 1)
            for index, place in enumerate(subset):
                if not taken >> index & 1:
                    key = taken | 1 << index
                    following[key] = following.get(key, 0.0) + probability * weights[place] / left
        reached = following
    return reached[(1 << len(subset)) - 1]


_ATOMS = frozenset({int, str, bool, type(None)})


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _floats(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _checked_values(values: Iterable[Any], label: str) -> tuple[Any, ...]:
    if isinstance(values, (Mutable, str)):
        raise DomainError(f"the values of {label!r} must be listed, but got {values!r}")
    plain = tuple(_plain(value) for value in values)
    if not plain:
        raise DomainError(f"{label!r} has no values to choose from; give at least one")
    seen: dict[Hashable, Any] = {}
    for value in plain:
        if isinstance(value, Mutable):
            raise DomainError(
                f"the values of {label!r} must be plain, but {value} is not; "
                "write a choice between expressions with MutableExpression.switch_case(...)"
            )
        key = key_of(value, loose=True)
        if isinstance(value, (int, float)):
            key = ("number", value)  # 1, 1.0 and True are one value to Python
        if key in seen:
            raise DomainError(f"{value!r} and {seen[key]!r} are equal among the values of {label!r}")
        seen[key] = value
    return plain


def _check_distribution(weights: Sequence[float], size: int, label: str) -> None:
    if len(weights) != size:
        raise DomainError(f"{label!r} has {size} values, but {len(weights)} weights")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
        raise DomainError(f"the weights of {label!r} must not be negative, but got {list(weights)}")
    if abs(math.fsum(weights) - 1) > 1e-6:
        raise DomainError(f"the weights of {label!r} must sum to 1, but sum to {math.fsum(weights)}")


def _shortened(values: Sequence[Any]) -> str:
    if len(values) <= 10:
        return repr(list(values))
    head, tail = ", ".join(map(repr, values[:4])), ", ".join(map(repr, values[-3:]))
    return f"[{head}, ..., {tail}]"


def _closest(value: Any, values: Sequence[Any]) -> str:
    """Points out a value that was meant but has another type, or another spelling."""
    from ..errors import suggest

    for candidate in values:
        if str(candidate) == str(value) or (
            isinstance(value, (int, float)) and isinstance(candidate, (int, float)) and candidate == value
        ):
            return f"; did you mean {candidate!r}, of type {type(candidate).__name__}?"
    return suggest(value, [c for c in values if isinstance(c, str)]) if isinstance(value, str) else ""


def _make(cls: type, positional: tuple[Any, ...], keyword: dict[str, Any]) -> Any:
    return cls(*positional, **keyword)
