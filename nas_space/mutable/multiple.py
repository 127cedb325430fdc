"""``CategoricalMultiple``: several of several values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DomainError
from .categorical import (
    Categorical,
    T_co,
    check_distribution,
    checked_values,
    plain,
    shortened,
)
from .columns import Column
from .expression import MutableExpression
from .labels import label_scope
from .mutable import LabeledMutable, Mutable
from .node import fresh, key_of
from .random_words import unit
from .symbols import MISSING, MutableSymbol

__all__ = ["CategoricalMultiple"]

_REMEMBERED = 2**12
"""How many subsets of one choice are remembered by their codes."""

_LISTED = 2**20
"""Up to how many subsets have their probabilities listed."""


class CategoricalMultiple(MutableSymbol[list[T_co]]):
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
    >>> x = CategoricalMultiple([2, 3, 5], n_chosen=2, label="x")
    >>> list(x.grid())
    [[2, 3], [2, 5], [3, 5]]
    >>> list(x.simplify(lambda m: not isinstance(m, CategoricalMultiple)))
    ['x/0', 'x/1', 'x/2', 'x/n']
    >>> x.freeze({"x/0": True, "x/1": False, "x/2": True})
    [2, 5]
    """

    values: tuple[T_co, ...]
    size: int
    weights: tuple[float, ...]

    def __init__(
        self,
        values: Iterable[T_co],
        *,
        n_chosen: int | None = None,
        weights: Sequence[float] | None = None,
        default: Any = MISSING,
        label: str | None = None,
    ) -> None:
        self._named(label)
        self.values = checked_values(values, self.name)
        n = len(self.values)
        self.n_chosen = _checked_number(n_chosen, n, self.name)
        self.size = 2**n if self.n_chosen is None else math.comb(n, self.n_chosen)
        self._places = {key_of(value, loose=True): place for place, value in enumerate(self.values)}
        self._given_weights = None if weights is None else tuple(map(float, weights))
        even = 0.5 if self.n_chosen is None else 1 / n
        self.weights = (even,) * n if self._given_weights is None else self._given_weights
        self._check_weights()
        one_each = self._given_weights is not None or self.n_chosen is None
        self.words = n if one_each else self.n_chosen or 0
        self._finish(default)

    def _check_weights(self) -> None:
        n, weights, chosen = len(self.values), self.weights, self.n_chosen
        if chosen is None:
            if len(weights) != n or not all(0 <= weight <= 1 for weight in weights):
                raise DomainError(
                    f"weights of {self.name!r} must be {n} probabilities, but got {list(weights)}"
                )
            return
        check_distribution(weights, n, self.name)
        if sum(weight > 0 for weight in weights) < chosen:
            raise DomainError(
                f"{self.name!r} chooses {chosen}, but fewer of its weights are positive: "
                f"{list(weights)}"
            )

    def domain(self) -> tuple[Any, ...]:
        return (self.values, self.n_chosen, self._given_weights, self.default_value)

    def arguments_of_call(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        keywords = {
            "n_chosen": self.n_chosen,
            "weights": self._given_weights,
            "default": self.default_value,
            "label": self.label,
        }
        return (list(self.values),), keywords

    # A code numbers the subsets.  Where any number may be chosen, its bits say which are.  Where
    # the number is fixed, it is the rank of the ascending indices in lexicographic order, the
    # combinatorial number system (Knuth, The Art of Computer Programming 4A, 7.2.1.3): of the
    # subsets of size k of n places that are left, C(n - 1, k - 1) contain the first and come first.
    # So codes are dense, which an array indexed by them wants, and no list of subsets is kept.

    def places(self, code: int) -> tuple[int, ...]:
        """Return which of the values a code chooses, as ascending indices."""
        known: dict[int, tuple[int, ...]] = self.__dict__.setdefault("_subsets", {})
        found = known.get(code)
        if found is None:
            found = self._places_of(code)
            if len(known) < _REMEMBERED:  # columns of codes ask for the same ones again and again
                known[code] = found
        return found

    def _places_of(self, code: int) -> tuple[int, ...]:
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
        """Return the code of ascending indices: the inverse of :meth:`places`."""
        n, k = len(self.values), self.n_chosen
        if k is None:
            return sum(1 << place for place in places)
        code, start = 0, 0
        for taken, place in enumerate(places):
            code += sum(math.comb(n - other - 1, k - taken - 1) for other in range(start, place))
            start = place + 1
        return code

    def value(self, code: int) -> list[T_co]:
        return [fresh(self.values[place]) for place in self.places(code)]

    def code(self, value: Any) -> int:
        if not isinstance(value, (list, tuple)):
            raise self.refusal(value, "; give a list")
        places = []
        for item in value:
            place = self._places.get(key_of(plain(item), loose=True))
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
        return f"a list of {number} of {shortened(self.values)}"

    def extra_repr(self) -> str:
        return f"{shortened(self.values)}, n_chosen={self.n_chosen}, label={self.name!r}"

    def default_choice(self) -> list[T_co]:
        chosen = self.default_value
        return list(self.values[: self.n_chosen] if chosen is MISSING else chosen)

    def draw_column(self, raw: npt.NDArray[np.uint64]) -> Column:
        if self.n_chosen is None:
            chosen = unit(raw) < np.array(self.weights)
            codes = [sum(1 << place for place in np.flatnonzero(row).tolist()) for row in chosen]
        elif self._given_weights is not None:
            # Exponential clocks.  Of independent times, exponential with the weights as rates, the
            # first is that of i with probability w_i / sum(w); as they have no memory, the next is
            # again such a draw among the rest.  So the n_chosen that ring first are a weighted draw
            # without replacement, without a loop over draws (Efraimidis and Spirakis, *Weighted
            # random sampling with a reservoir*, 2006).  A weight of 0 never rings.
            with np.errstate(divide="ignore"):
                clocks = -np.log(unit(raw)) / np.array(self.weights)
            first = np.argsort(clocks, axis=1, kind="stable")[:, : self.n_chosen]
            codes = [self.rank(sorted(row)) for row in first.tolist()]
        else:
            codes = [self.rank(self._shuffle(row)) for row in raw.tolist()]
        return np.array(codes, dtype=np.int64 if self.size < 2**62 else object)

    def _shuffle(self, row: list[int]) -> list[int]:
        """Return the first places of a random permutation (Fisher and Yates)."""
        places = list(range(len(self.values)))
        for index, word in enumerate(row):
            other = index + ((word >> 32) * (len(places) - index) >> 32)
            places[index], places[other] = places[other], places[index]
        return sorted(places[: self.n_chosen])

    def probabilities(self) -> npt.NDArray[np.float64]:
        if self.size > _LISTED:
            raise DomainError(
                f"{self.name!r} has {self.size} values, too many to list their probabilities"
            )
        subsets = [self.places(code) for code in range(self.size)]
        if self.n_chosen is None:
            every = range(len(self.values))
            shares = [
                math.prod(self.weights[p] if p in subset else 1 - self.weights[p] for p in every)
                for subset in subsets
            ]
        elif self._given_weights is None:
            shares = [1 / self.size] * self.size
        else:
            shares = [_without_replacement(self.weights, subset) for subset in subsets]
        return np.array(shares)

    def grid_choices(self, granularity: int) -> Iterator[list[T_co]]:
        del granularity  # every subset is gone through, small ones first
        counts = range(len(self.values) + 1) if self.n_chosen is None else (self.n_chosen,)
        return (list(c) for c in chain.from_iterable(combinations(self.values, k) for k in counts))

    # The categorical format: a yes or no for each value, as simpler strategies want it.

    def flags(self) -> list[Categorical[bool]]:
        """Return one yes-or-no choice for each value, labelled ``<label>/<place>``."""
        with label_scope(self.label):
            return [Categorical([True, False], label=str(p)) for p in range(len(self.values))]

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
                number = ExpressionConstraint(
                    MutableExpression.sum(flags) == self.n_chosen, label="n"
                )
            yield number

    def is_missing(self, sample: Mapping[str, Any]) -> bool:
        return self.name not in sample and f"{self.name}/0" not in sample

    def take(self, sample: Mapping[str, Any]) -> Any:
        if self.is_missing(sample) or self.name in sample:
            return super().take(sample)
        chosen = (flag.coerce(flag.take(sample)) for flag in self.flags())
        return [value for value, taken in zip(self.values, chosen, strict=True) if taken]


def _checked_number(n_chosen: Any, n: int, name: str) -> int | None:
    if n_chosen is None:
        return None
    number = plain(n_chosen)
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= n:
        raise DomainError(
            f"n_chosen of {name!r} must be None or between 1 and {n}, but got {n_chosen!r}"
        )
    return number


def _without_replacement(weights: Sequence[float], subset: tuple[int, ...]) -> float:
    """Return the probability that a weighted draw without replacement gives a subset.

    This is a sum over all orders in which its k elements may be drawn.  The probability of a next
    element depends on which were drawn and not on their order, so orders are merged by the set of
    these, a bit mask: 2^k sums and not k! products.
    """
    reached = {0: 1.0}
    for _ in subset:
        following: dict[int, float] = {}
        for taken, probability in reached.items():
            # The weights that are left, added up: one minus those taken would cancel, to 0 where
            # one weight is nearly all.
            gone = {place for index, place in enumerate(subset) if taken >> index & 1}
            left = math.fsum(weight for place, weight in enumerate(weights) if place not in gone)
            for index, place in enumerate(subset):
                if not taken >> index & 1:
                    key = taken | 1 << index
                    share = probability * weights[place] / left
                    following[key] = following.get(key, 0.0) + share
        reached = following
    return reached[(1 << len(subset)) - 1]
