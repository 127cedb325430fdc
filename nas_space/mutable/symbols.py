"""Symbols: the labelled dimensions of a space.

Every symbol but a continuous one numbers its values from 0: a *code*.  Batches hold codes,
draws are made on codes, and the rest of the library counts with them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import DomainError, SampleMissingError, SampleValidationError
from ..extensions import call
from .columns import Column, as_column
from .expression import MutableExpression
from .intervals import EVERYTHING, Interval
from .labels import auto_label, listed
from .mutable import LabeledMutable, Mutable
from .node import ActiveValues, Leaf, Node, key_of

__all__ = ["MISSING", "Drawer", "MutableSymbol"]

T_co = TypeVar("T_co", covariant=True)

Drawer = Callable[[list[int], "npt.NDArray[np.uint64]"], Any]
"""Draws from a row of words, given twice: what is common is faster with Python's integers."""


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"

    def __reduce__(self) -> str:
        return "MISSING"


MISSING = _Missing()
"""Stands for a default that was not given."""


class MutableSymbol(Leaf, LabeledMutable, MutableExpression[T_co], Generic[T_co]):
    """A leaf of expressions: one labelled choice.

    Subclasses say which values there are (:meth:`code`, :meth:`value`, :attr:`size`) and how
    one is drawn (:meth:`draw_column`).

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
    is_symbol = True
    size: int | None
    words: int = 1
    default_value: Any = MISSING

    def _named(self, name: str | None) -> None:
        self.label = auto_label(name)
        self.name = str(self.label)

    def domain(self) -> tuple[Any, ...]:
        """Return everything beside the label that tells this symbol from another."""
        raise NotImplementedError

    def key(self) -> Hashable:
        return (type(self), self.name, *[key_of(item) for item in self.domain()])

    def value(self, code: int) -> T_co:
        """Return the value of a code."""
        raise NotImplementedError

    def code(self, value: Any) -> int:
        """Return the code of a value.

        Raises
        ------
        SampleValidationError
            If the value is not in the domain.
        """
        raise NotImplementedError

    def coerce(self, value: Any) -> T_co:
        """Return the value of the domain that is meant, such as a tuple where JSON gave a list."""
        return self.value(self.code(value))

    def allowed(self) -> str:
        """Return the domain in words, for error messages."""
        raise NotImplementedError

    def default_choice(self) -> T_co:
        """Return the value that :meth:`default` takes."""
        raise NotImplementedError

    def draw(self, raw: npt.NDArray[np.uint64]) -> T_co:
        """Return a value from :attr:`words` random words."""
        return self.decode(self.draw_column(raw.reshape(1, -1)))[0]

    def draw_column(self, raw: npt.NDArray[np.uint64]) -> Column:
        """Return codes (values, if continuous) from rows of random words."""
        raise NotImplementedError

    def drawer(self, offset: int) -> Drawer:
        """Return :meth:`draw` from the words at an offset, given as integers and as an array."""
        end = offset + self.words
        return lambda numbers, raw: self.draw(raw[offset:end])  # noqa: ARG005 - either will do

    def decode(self, codes: Column) -> list[T_co]:
        """Return the values of many codes."""
        return [self.value(code) for code in codes.tolist()]

    def column(self, codes: Column) -> Column:
        """Return the values of many codes as an array."""
        return as_column(self.decode(codes))

    def probabilities(self) -> npt.NDArray[np.float64]:
        """Return the probability of each code under the symbol's own distribution."""
        raise NotImplementedError

    def interval(self) -> Interval:
        """Return an interval that contains every value."""
        return EVERYTHING

    def grid_choices(self, granularity: int) -> Iterable[T_co]:
        """Return the values that :meth:`grid` goes through."""
        raise NotImplementedError

    # -- reading samples ------------------------------------------------------------------

    def is_missing(self, sample: Mapping[str, Any]) -> bool:
        """Return whether a sample has no value for this label."""
        return self.name not in sample

    def take(self, sample: Mapping[str, Any]) -> Any:
        """Return the value in a sample, unchecked."""
        if self.name not in sample:
            raise SampleMissingError(
                f"the label {self.name!r} has no value; it takes {self.allowed()}; "
                f"labels given: {listed(sample)}",
                label=self.name,
            )
        return sample[self.name]

    def visit(self, sample: Mapping[str, Any], values: ActiveValues) -> T_co:
        """Return the value in a sample, checked, and noted as active."""
        value = self.coerce(self.take(sample))
        values.active[self.name] = value
        return value

    def refusal(self, value: Any, hint: str = "") -> SampleValidationError:
        """Return the error for a value that is not in the domain."""
        return SampleValidationError(
            f"{value!r} is not allowed for the label {self.name!r}, "
            f"which takes {self.allowed()}{hint}",
            label=self.name,
        )

    def expand(self, is_leaf: Callable[[Mutable], bool]) -> Iterator[LabeledMutable]:
        """Yield the symbol itself, or simpler ones that it can be written with if it is no leaf."""
        if not is_leaf(self):
            raise DomainError(f"{self!r} cannot be expanded any further, but is_leaf() refused it")
        yield self

    # -- printing and pickling ------------------------------------------------------------

    def text(self, texts: Mapping[Node, tuple[str, int]]) -> tuple[str, int]:
        del texts  # it has no children
        plain = self.name.replace("/", "_").isidentifier()
        return self.name if plain else f"<{self.name}>", 18 if "/" not in self.name else 12

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def _repr_html_(self) -> str:
        return str(call("html", self))

    def __reduce__(self) -> tuple[Any, ...]:
        return _make, (type(self), *self.arguments_of_call())

    def arguments_of_call(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional and keyword arguments that make this symbol again."""
        raise NotImplementedError

    def _finish(self, default: Any) -> None:
        """Check the default last, when the domain stands."""
        if default is not MISSING:
            try:
                default = self.coerce(default)
            except SampleValidationError as error:
                raise DomainError(
                    f"the default of {self.name!r} is not in its domain: {error}"
                ) from None
        self.default_value = default


def _make(cls: type, positional: tuple[Any, ...], keyword: dict[str, Any]) -> Any:
    return cls(*positional, **keyword)
