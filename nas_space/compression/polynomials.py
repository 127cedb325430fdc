"""Sizes as polynomials with whole coefficients: small, exact, and fast to substitute into."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["Monomial", "Polynomial", "quotient"]

Monomial = tuple[str, ...]
"""The names of the factors, in order; ``()`` is the constant."""


class Polynomial:
    """A sum of products of named whole numbers.

    Parameters
    ----------
    terms
        Coefficient by monomial.

    Examples
    --------
    >>> heads, size = Polynomial.name("heads"), Polynomial.name("size")
    >>> heads * size * 3 + 1
    heads*size*3 + 1
    >>> (heads * size).evaluate({"heads": 12, "size": 64})
    768
    """

    __slots__ = ("terms",)

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        self.terms = {monomial: c for monomial, c in terms.items() if c}

    @classmethod
    def name(cls, name: str) -> Polynomial:
        """Return a single name."""
        return cls({(name,): 1})

    @classmethod
    def constant(cls, value: int) -> Polynomial:
        """Return a plain number."""
        return cls({(): value})

    @property
    def names(self) -> frozenset[str]:
        """The names in it."""
        return frozenset(name for monomial in self.terms for name in monomial)

    @property
    def is_positive(self) -> bool:
        """Whether no term but the constant has a minus sign."""
        return all(c > 0 for monomial, c in self.terms.items() if monomial)

    def as_name(self) -> str | None:
        """Return the name that it is, if it is nothing but one."""
        if len(self.terms) == 1:
            ((monomial, c),) = self.terms.items()
            if len(monomial) == 1 and c == 1:
                return monomial[0]
        return None

    def as_constant(self) -> int | None:
        """Return the number that it is, if it is nothing but one."""
        return None if self.names else self.terms.get((), 0)

    def __add__(self, other: Polynomial | int) -> Polynomial:
        terms = dict(self.terms)
        for monomial, c in _polynomial(other).terms.items():
            terms[monomial] = terms.get(monomial, 0) + c
        return Polynomial(terms)

    def __sub__(self, other: Polynomial | int) -> Polynomial:
        return self + _polynomial(other) * -1

    def __mul__(self, other: Polynomial | int) -> Polynomial:
        terms: dict[Monomial, int] = {}
        for a, ca in self.terms.items():
            for b, cb in _polynomial(other).terms.items():
                product = tuple(sorted((*a, *b)))
                terms[product] = terms.get(product, 0) + ca * cb
        return Polynomial(terms)

    def substitute(self, known: Mapping[str, Polynomial]) -> Polynomial:
        """Return the polynomial with some names replaced."""
        if not any(name in known for name in self.names):
            return self
        total = Polynomial({})
        for monomial, c in self.terms.items():
            product = Polynomial({tuple(n for n in monomial if n not in known): c})
            for name in monomial:
                if name in known:
                    product = product * known[name]
            total = total + product
        return total

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """Return the value for values of the names, which may be expressions."""
        total: Any = 0
        for monomial, c in self.terms.items():
            product: Any = None
            for name in monomial:
                product = values[name] if product is None else product * values[name]
            term = c if product is None else product if c == 1 else product * c
            total = term if isinstance(total, int) and total == 0 else total + term
        return total

    def reduced(self) -> Polynomial:
        """Divide by the factors that all terms have in common, which are never zero."""
        if not self.terms:
            return self
        divisor = math.gcd(*self.terms.values())
        monomials = [list(monomial) for monomial in self.terms]
        for name in set(monomials[0]):
            while all(name in monomial for monomial in monomials):
                for monomial in monomials:
                    monomial.remove(name)
        pairs = zip(monomials, self.terms.values(), strict=True)
        return Polynomial({tuple(monomial): c // divisor for monomial, c in pairs})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Polynomial) and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(frozenset(self.terms.items()))

    def __repr__(self) -> str:
        parts = []
        for monomial, c in self.terms.items():
            shown = "*".join(monomial)
            parts.append(str(c) if not shown else shown if c == 1 else f"{shown}*{c}")
        return " + ".join(parts) or "0"

    @staticmethod
    def of(expression: Any, special: Callable[[Any], Polynomial]) -> Polynomial:
        """Return the polynomial that an expression of sympy is.

        Parameters
        ----------
        expression
            A number, or an expression of sympy.
        special
            What to make of functions, such as a division that rounds.
        """
        if isinstance(expression, int) or expression.is_Integer:
            return Polynomial.constant(int(expression))
        if expression.is_Symbol:
            return Polynomial.name(expression.name)
        parts: Iterable[Polynomial]
        if expression.is_Add or expression.is_Mul:
            parts = [Polynomial.of(part, special) for part in expression.args]
            total, *others = parts
            for part in others:
                total = total + part if expression.is_Add else total * part
            return total
        if expression.is_Pow and expression.exp.is_Integer and expression.exp > 0:
            base = Polynomial.of(expression.base, special)
            power = base
            for _ in range(int(expression.exp) - 1):
                power = power * base
            return power
        return special(expression)


def quotient(term: tuple[Monomial, int], divisor: tuple[Monomial, int]) -> Any:
    """Return a term divided by another, each a monomial and its coefficient; ``None`` if inexact.

    Examples
    --------
    >>> quotient((("heads", "size"), 6), (("size",), 2))
    (('heads',), 3)
    """
    left = list(term[0])
    for name in divisor[0]:
        if name not in left:
            return None
        left.remove(name)
    return None if term[1] % divisor[1] else (tuple(left), term[1] // divisor[1])


def _polynomial(value: Polynomial | int) -> Polynomial:
    return Polynomial.constant(value) if isinstance(value, int) else value
