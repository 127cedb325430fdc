"""``FactorSum``: a constant and factors that add up, with the conditions of activity.

It is what a cost is: the argument of the operator ``lookup``, by which an expression looks labels
up in arrays instead of computing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from .factors import TRUE, Array, Factor
from .intervals import Interval
from .node import Node

__all__ = ["FactorSum", "covered_by", "is_covered", "parts_of"]

_CHUNK = 2**14
"""Architectures looked up at a time: few enough to stay in the processor's cache."""

_PRINTED = 64
"""The largest number of entries that are printed one by one."""

_ABSENT = object()


class FactorSum:
    """A constant plus a sum of factors over symbols.

    Parameters
    ----------
    terms
        Factors of int64 or float64.
    constant
        What is added to their sum.
    activity
        Symbol to the condition under which it is active, a factor over other symbols; a symbol
        that is not in it is always active.  Where a symbol is not active, every term is the same
        whatever its code, and so is every one of these conditions.

    Attributes
    ----------
    symbols
        The symbols that the terms are over, and those that decide whether these are active; in
        the order of ``activity`` and then of the terms.
    """

    def __init__(
        self,
        terms: Sequence[Factor],
        constant: Any = 0,
        activity: Mapping[Any, Factor] | None = None,
    ) -> None:
        self.terms = tuple(terms)
        self.constant = constant
        given = activity or {}
        wanted = dict.fromkeys(symbol for term in self.terms for symbol in term.scope)
        open_ = list(wanted)
        while open_:  # the symbols that decide whether others are active, and so on
            deciding = given.get(open_.pop(), TRUE).scope
            open_ += [symbol for symbol in deciding if symbol not in wanted]
            wanted.update(dict.fromkeys(deciding))
        self.symbols: list[Any] = [symbol for symbol in given if symbol in wanted]
        self.symbols += [symbol for symbol in wanted if symbol not in given]
        self.activity = {s: given[s] for s in self.symbols if not given.get(s, TRUE).always}
        self._compiled: _Compiled | None = None

    # -- evaluation ---------------------------------------------------------------------------

    @property
    def whole(self) -> bool:
        """Whether all values are whole numbers, so that sums are exact."""
        return isinstance(self.constant, int) and all(
            term.values.dtype == np.int64 for term in self.terms
        )

    def column(self, codes: Callable[[Any], Array], size: int) -> Array:
        """Return the value for each of many architectures.

        Parameters
        ----------
        codes
            Gives the column of codes of a symbol; any, where it is not active.
        size
            The number of architectures.
        """
        columns = {symbol: codes(symbol) for term in self.terms for symbol in term.scope}
        result: Array = np.empty(size, np.int64 if self.whole else np.float64)
        for start in range(0, size, _CHUNK):
            rows = slice(start, start + _CHUNK)
            part = {symbol: column[rows].astype(np.intp) for symbol, column in columns.items()}
            total: Any = self.constant
            for term in self.terms:
                total = total + term.at(part.__getitem__)
            result[rows] = total
        return result

    def at(self, sample: Mapping[str, Any]) -> Any:
        """Return the value for one architecture.

        Raises
        ------
        SampleMissingError
            If it gives no value for a label that is active.
        SampleValidationError
            If a value is not one of its label's.
        """
        compiled = self._compiled
        if compiled is None:
            compiled = self._compiled = _Compiled(self)
        return compiled.at(sample)

    def of(self, *values: Any) -> Any:
        """Return the value for one value of each symbol, in their order."""
        return self.at({s.name: v for s, v in zip(self.symbols, values, strict=True)})

    def at_codes(self, codes: Mapping[Any, int]) -> Any:
        """Return the value for the codes of all symbols that are active."""
        total = self.constant
        for term in self.terms:
            total += term.values[tuple([codes.get(symbol, 0) for symbol in term.scope])].item()
        return total

    def next_needed(self, known: Mapping[Any, int]) -> Any:
        """Return a symbol that is active whatever those are that are not known yet.

        Parameters
        ----------
        known
            Symbol to code, of those that were asked for.

        Returns
        -------
        MutableSymbol or None
            ``None`` if no other is active.
        """
        undecided = None
        for symbol in self.symbols:
            if symbol in known:
                continue
            condition = self.activity.get(symbol, TRUE).given(known)
            if condition.always:
                return symbol
            if undecided is None and not condition.never:
                undecided = symbol
        return undecided

    def mapped(self, function: Callable[[Any], int]) -> FactorSum:
        """Return the sum of what a function makes of each entry, and of the constant."""
        terms = []
        for term in self.terms:
            entries = np.array([function(entry) for entry in term.values.reshape(-1).tolist()])
            terms.append(Factor(term.scope, entries.reshape(term.values.shape)))
        order = {symbol: self.activity.get(symbol, TRUE) for symbol in self.symbols}
        return FactorSum(terms, function(self.constant), order)

    # -- the rest -----------------------------------------------------------------------------

    def interval(self) -> Interval:
        """Return an interval that contains every value; exact if no symbol is in two terms."""
        low = sum(term.values.min().item() for term in self.terms)
        high = sum(term.values.max().item() for term in self.terms)
        return self.constant + low, self.constant + high

    def text(self) -> str:
        """Return the Python that would look the values up; empty where that would be long."""
        if sum(term.values.size for term in self.terms) > _PRINTED:
            return ""
        texts = [_dictionary(term) for term in self.terms]
        if self.constant or not texts:
            texts.append(repr(self.constant))
        return texts[0] if len(texts) == 1 else f"sum([{', '.join(texts)}])"

    def _identity(self) -> Hashable:
        """Return what tells it from others: where values are many, a digest of them."""
        found = self.__dict__.get("_key")
        if found is None:
            conditions = self.activity.values()
            digests = [factor.digest() for factor in (*self.terms, *conditions)]
            constant = (type(self.constant), repr(self.constant))
            symbols = (*map(id, self.symbols),), (*map(id, self.activity),)
            found = self._key = (constant, *symbols, *digests)
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FactorSum) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __reduce__(self) -> tuple[Any, ...]:
        order = {symbol: self.activity.get(symbol, TRUE) for symbol in self.symbols}
        return FactorSum, (self.terms, self.constant, order)

    def __repr__(self) -> str:
        names = [str(symbol.name) for symbol in self.symbols[:8]]
        more = ", ..." if len(self.symbols) > 8 else ""
        return f"FactorSum({len(self.terms)} terms over {', '.join(names) or 'nothing'}{more})"


class _Compiled:
    """A sum of factors as lists and dictionaries, by which one architecture is fast."""

    def __init__(self, of: FactorSum) -> None:
        self.symbols = of.symbols
        self.constant = of.constant
        place = {symbol: place for place, symbol in enumerate(of.symbols)}
        self.readers = [(symbol.name, _codes_by_value(symbol)) for symbol in of.symbols]
        self.terms = [_flat(term, place) for term in of.terms]
        self.conditions = [_flat(of.activity.get(s, TRUE), place) for s in of.symbols]

    def at(self, sample: Mapping[str, Any]) -> Any:
        """Return the value for an architecture."""
        get = sample.get
        try:
            codes = [by_value[get(name, _ABSENT)] for name, by_value in self.readers]
        except (KeyError, TypeError):  # not a value as it stands, such as a list from JSON
            codes = [
                symbol.code(sample[symbol.name]) if symbol.name in sample else -1
                for symbol in self.symbols
            ]
        if codes and min(codes) < 0:
            absent = [place for place, code in enumerate(codes) if code < 0]
            for place in absent:
                codes[place] = 0  # what is not active decides nothing
            for place in absent:
                needed, strides = self.conditions[place]
                index = 0
                for deciding, stride in strides:
                    index += codes[deciding] * stride
                if needed[index]:
                    self._refuse(self.symbols[place], sample)
        total = self.constant
        for entries, strides in self.terms:
            index = 0
            for place, stride in strides:
                index += codes[place] * stride
            total += entries[index]
        return total

    @staticmethod
    def _refuse(symbol: Any, sample: Mapping[str, Any]) -> NoReturn:
        symbol.take(sample)  # says that it is missing
        raise AssertionError("it is missing")


_Flat = tuple[list[Any], list[tuple[int, int]]]
"""The entries of a factor, and the place among the symbols and the stride of each variable."""


def _flat(factor: Factor, place: Mapping[Any, int]) -> _Flat:
    strides = [math.prod(factor.values.shape[axis + 1 :]) for axis in range(len(factor.scope))]
    places = [place[symbol] for symbol in factor.scope]
    return factor.values.reshape(-1).tolist(), list(zip(places, strides, strict=True))


def _codes_by_value(symbol: Any) -> dict[Any, int]:
    """Return a map from value to code, as far as values hash; what stands for none is -1."""
    found: dict[Any, int] = {_ABSENT: -1}
    for code, value in enumerate(symbol.decode(np.arange(symbol.size))):
        try:
            found[value] = code
        except TypeError:  # a list, of which the symbol itself knows the code
            continue
    return found


def _dictionary(term: Factor) -> str:
    """Return how a factor prints: ``{(3, 'a'): 9, ...}[kernel, op]``."""
    values = [symbol.decode(np.arange(symbol.size)) for symbol in term.scope]
    keys = values[0] if len(values) == 1 else itertools.product(*values)
    entries = zip(keys, term.values.reshape(-1).tolist(), strict=True)
    names = ", ".join(symbol.text({})[0] for symbol in term.scope)
    return f"{{{', '.join([f'{key!r}: {entry!r}' for key, entry in entries])}}}[{names}]"


def covered_by(root: Node) -> set[Node]:
    """Return expressions that need no label where an architecture of a structure lacks it.

    Whoever knows or finds out that one is, adds it.
    """
    return root.remember("_covered", lambda node: {node})


def is_covered(root: Node, node: Node) -> bool:
    """Return whether it is known that a node needs no label that an architecture lacks.

    What is computed from several things needs what they need, and an architecture of several
    parts is one of each of them.
    """
    wholes = [covered_by(part) for part in (root, *parts_of(root))]
    return any(node in whole or _within(parts_of(node), whole) for whole in wholes)


def _within(parts: Sequence[Node], whole: set[Node]) -> bool:
    return bool(parts) and whole.issuperset(parts)


def parts_of(node: Node) -> Sequence[Node]:
    """Return what a node always evaluates: all of its children, if it is not lazy."""
    return () if node.operator is None or node.operator.lazy else node.children
