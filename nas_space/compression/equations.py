"""Solve the equations between sizes: what is left free are the choices of a space.

Every size is a polynomial in free variables afterwards.  Equations that have no solution of this
kind are met by *restrictions*: two variables are made one, or one is held.  A restriction leaves
out architectures, never admits a wrong one; each is kept for the report.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from .polynomials import Polynomial, quotient
from .symbolic import Equation, Trace, Where

__all__ = ["Solution", "solve"]


class Solution:
    """Sizes in terms of free variables.

    Attributes
    ----------
    sizes
        The value of each name in the network as it is.
    known
        What each name that is not free is equal to.
    reasons
        Why variables were held or made one, by name: the line of code that asked for it.
    restrictions
        What was left out, in words.
    multiples
        Names that are made a multiple of a new one, such as so many groups of channels: the new
        name, and how many times it is there.
    """

    def __init__(self, trace: Trace) -> None:
        self.sizes = {symbol.name: origin.size for symbol, origin in trace.origins.items()}
        self.origins = {symbol.name: origin for symbol, origin in trace.origins.items()}
        self.known: dict[str, Polynomial] = {}
        self.reasons: dict[str, str] = {}
        self.restrictions: list[str] = []
        self.multiples: list[tuple[str, int]] = []
        self._pending: list[tuple[Polynomial, Where]] = []
        self._quotients: dict[tuple[Polynomial, Polynomial], Polynomial] = {}
        for equation in trace.equations:
            self._add(equation)

    # -- reading ------------------------------------------------------------------------------

    def value(self, polynomial: Polynomial) -> int:
        """Return the value in the network as it is."""
        return int(polynomial.evaluate(self.sizes))

    def of(self, expression: Any, where: Where | None = None) -> Polynomial:
        """Return an expression of sympy, in terms of what is free."""
        place = where or Where()
        made = Polynomial.of(expression, lambda inner: self._special(inner, place))
        return self.resolve(made)

    def resolve(self, polynomial: Polynomial) -> Polynomial:
        """Return a polynomial in terms of what is free."""
        while any(name in self.known for name in polynomial.names):
            polynomial = polynomial.substitute(self.known)
        return polynomial

    def hold(self, name: str, reason: str) -> None:
        """Hold a variable at its present value; the reason is kept for all that it fixes."""
        if name not in self.known:
            self.known[name] = Polynomial.constant(self.sizes[name])
            self.reasons.setdefault(name, reason)

    # -- reading what the code asks for ---------------------------------------------------------

    def _add(self, equation: Equation) -> None:
        zero = equation.zero
        made = Polynomial.of(zero, lambda inner: self._special(inner, equation.where))
        self._pending.append((made, equation.where))

    def _special(self, expression: Any, where: Where) -> Polynomial:
        """Divisions: without a remainder, they are a new name; all others are held."""
        kind = type(expression).__name__
        if kind == "Max" and 1 in expression.args and len(expression.args) == 2:
            inner = next(part for part in expression.args if part != 1)
            return Polynomial.of(inner, lambda inner: self._special(inner, where))
        if kind in _QUOTIENTS or kind in _REMAINDERS:
            a, b = (
                self.resolve(Polynomial.of(part, lambda inner: self._special(inner, where)))
                for part in expression.args
            )
            remainder = self.value(a) % self.value(b)
            if remainder == 0:
                quotient = self._quotient(a, b, where)
                return quotient if kind in _QUOTIENTS else Polynomial({})
        for symbol in expression.free_symbols:
            for name in self.resolve(Polynomial.name(symbol.name)).names:
                self.hold(name, f"rounded or compared {where}")
        values = {symbol: self.sizes[symbol.name] for symbol in expression.free_symbols}
        return Polynomial.constant(int(expression.xreplace(values)))

    def _quotient(self, a: Polynomial, b: Polynomial, where: Where) -> Polynomial:
        if (a, b) not in self._quotients:
            value = self.value(a) // self.value(b)
            exact = _divided(a, b)
            if exact is not None:
                self._quotients[a, b] = exact
            elif not a.names and not b.names:
                self._quotients[a, b] = Polynomial.constant(value)
            elif value == 1:  # as of depthwise convolutions: both vary alike
                self._quotients[a, b] = Polynomial.constant(1)
                self._pending.append((a - b, where))
            else:
                name = f"q{len(self._quotients)}"
                self.sizes[name] = value
                made = Polynomial.name(name)
                self._quotients[a, b] = made
                self._pending.append((a - b * made, where))
        return self._quotients[a, b]

    # -- solving --------------------------------------------------------------------------------

    def run(self) -> None:
        """Solve what is pending, restricting where there is no other way."""
        while True:
            self._exactly()
            if not self._pending:
                return
            zero, where = min(self._pending, key=lambda item: len(item[0].terms))
            self._restrict(zero, where)

    def _exactly(self) -> None:
        changed = True
        while changed:
            changed = False
            left = []
            for pending, where in self._pending:
                zero = self.resolve(pending).reduced()
                if not zero.terms:
                    continue
                if self._solve_one(zero, where):
                    changed = True
                else:
                    left.append((zero, where))
            self._pending = left

    def _solve_one(self, zero: Polynomial, where: Where) -> bool:
        names = zero.names
        signs = {c > 0 for monomial, c in zero.terms.items() if monomial}
        constant = zero.terms.get((), 0)
        if len(names) == 1 or (len(zero.terms) == 2 and constant):
            # A product that is a number, or a name that is.
            for name in names:
                self.hold(name, f"must be {self.sizes[name]} {where}")
            return True
        if len(signs) == 1 and constant:
            # A sum that is a number.
            for name in names:
                self.hold(name, f"the sum is fixed {where}")
            return True
        options = sorted(self._solutions(zero), key=lambda option: option[0])
        if options:
            _, name, solution = options[0]
            self.known[name] = solution
            return True
        return self._in_proportion(zero)

    def _solutions(self, zero: Polynomial) -> Iterator[tuple[Any, str, Polynomial]]:
        for monomial, c in zero.terms.items():
            if len(monomial) != 1 or abs(c) != 1:
                continue
            name = monomial[0]
            rest = zero + Polynomial({monomial: -c})
            if name in rest.names:
                continue
            solution = rest * -c
            if solution.is_positive and self._is_at_least_one(solution):
                # Quotients go first, then attributes: names of dimensions are what people know.
                origin = self.origins.get(name)
                rank = 0 if origin is None else 1 if origin.dim is None else 2
                yield (rank, -self.sizes[name], name), name, solution

    @staticmethod
    def _is_at_least_one(solution: Polynomial) -> bool:
        return sum(solution.terms.values()) >= 1  # at its least, where every name is 1

    def _in_proportion(self, zero: Polynomial) -> bool:
        """``a x = b y``: both are multiples of a new name."""
        if len(zero.terms) != 2 or any(len(monomial) != 1 for monomial in zero.terms):
            return False
        ((x,), a), ((y,), b) = zero.terms.items()
        if a * b > 0:
            return False
        a, b = abs(a), abs(b)
        common = math.gcd(a, b)
        name = f"t{len(self.known)}"
        self.sizes[name] = self.sizes[x] // (b // common)
        self.known[x] = Polynomial.name(name) * (b // common)
        self.known[y] = Polynomial.name(name) * (a // common)
        return True

    def _restrict(self, zero: Polynomial, where: Where) -> None:
        left = [n for m, c in zero.terms.items() if c > 0 for n in m]
        right = [n for m, c in zero.terms.items() if c < 0 for n in m]
        for a in left:
            for b in right:
                if a != b and self.sizes[a] == self.sizes[b]:
                    self.known[max(a, b)] = Polynomial.name(min(a, b))
                    self.restrictions.append(
                        f"{self.describe(a)} and {self.describe(b)} vary together ({where})"
                    )
                    return
        if self._in_multiples(zero, where):
            return
        linear = all(len(monomial) == 1 for monomial in zero.terms)
        common = math.gcd(*(self.sizes[name] for name in zero.names))
        if linear and common > 1:
            name = f"t{len(self.known)}"
            self.sizes[name] = common
            for each in zero.names:
                self.known[each] = Polynomial.name(name) * (self.sizes[each] // common)
            shown = ", ".join(sorted(map(self.describe, zero.names)))
            self.restrictions.append(f"{shown} vary in proportion ({where})")
            return
        name = min(zero.names, key=lambda n: (self._is_dimension(n), self.sizes[n], n))
        self.hold(name, f"held so that the others of an equation may vary ({where})")
        self.restrictions.append(f"{self.describe(name)} is held ({where})")

    def _in_multiples(self, zero: Polynomial, where: Where) -> bool:
        """``c x = a y + b z + ...``: each of the others a multiple, so that they vary on their own.

        As the widths that are concatenated before a norm of groups.
        """
        if any(len(monomial) != 1 for monomial in zero.terms) or len(zero.terms) < 3:
            return False
        for (x,), c in zero.terms.items():
            others = {name: a for (name,), a in zero.terms.items() if name != x}
            if any(a * c > 0 for a in others.values()):
                continue
            steps = {name: abs(c) // math.gcd(c, a) for name, a in others.items()}
            if any(self.sizes[name] % step for name, step in steps.items()):
                continue
            total = Polynomial({})
            for name, step in steps.items():
                part = name
                if step > 1:
                    part = f"t{len(self.known)}"
                    self.sizes[part] = self.sizes[name] // step
                    self.known[name] = Polynomial.name(part) * step
                    self.multiples.append((part, step))
                total = total + Polynomial.name(part) * (step * abs(others[name]) // abs(c))
            self.known[x] = total
            shown = ", ".join(sorted(map(self.describe, steps)))
            self.restrictions.append(f"{shown} are multiples of {max(steps.values())} ({where})")
            return True
        return False

    def _is_dimension(self, name: str) -> bool:
        origin = self.origins.get(name)
        return origin is not None and origin.dim is not None

    def describe(self, name: str) -> str:
        """Return what a name stands for."""
        origin = self.origins.get(name)
        return str(origin) if origin is not None else f"a factor of size {self.sizes[name]}"


_QUOTIENTS = frozenset({"FloorDiv", "CleanDiv", "CeilDiv"})
_REMAINDERS = frozenset({"Mod", "PythonMod"})


def _divided(a: Polynomial, b: Polynomial) -> Polynomial | None:
    """``a / b`` where ``b`` is a single term that divides each of ``a``."""
    if len(b.terms) != 1:
        return None
    (divisor,) = b.terms.items()
    terms = [quotient(term, divisor) for term in a.terms.items()]
    return None if None in terms else Polynomial(dict(terms))


def solve(trace: Trace) -> Solution:
    """Express the sizes of a network in terms of what may vary."""
    solution = Solution(trace)
    solution.run()
    return solution
