"""``tabulate``: an expression taken apart into a sum of small tables.

A coefficient is handed down from the root of the expression to its parts, as derivatives are
handed down in reverse-mode differentiation: a sum gives its own to each summand, a product by
something small multiplies it, a lazy operator multiplies it by where each branch is taken.  A
part that several ways lead to adds up what it gets.  What cannot be taken apart is enumerated.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import DecompositionError, ExpressionError, UsageError
from ..mutable.factor_sum import FactorSum
from ..mutable.factors import (
    LIMIT,
    Auxiliary,
    Factor,
    TooLargeError,
    absorbed,
    combinations_of,
    whole,
)
from ..mutable.node import Leaf, Node, leaves, postorder
from ..mutable.operators import BRANCHES, LOOKUP
from ..mutable.piecewise import Piecewise
from ..mutable.printing import brief
from .path_conditions import PathConditions
from .table import Table

__all__ = ["split", "table_of_terms", "tabulate"]

_SUMS = frozenset({"add", "sub", "sum", "neg", "pos", "float"})

_EASY, _SMALL = 2**12, 2**6
"""Products with more entries than the first name conditions with more than the second."""

_ROUNDING = frozenset({"int", "round", "floor", "ceil", "trunc"})
_WHOLE = frozenset(
    {"add", "sub", "mul", "sum", "neg", "pos", "abs", "max", "min", "mod", "floordiv"}
)
_TRUTH = frozenset({"lt", "le", "eq", "ne", "ge", "gt"})


def tabulate(expression: Any, *, unit: float | None = None) -> Table:
    """Take an expression apart into small tables, one for each group of labels that act together.

    Sums are split, also within ``condition``, ``case`` and ``switch_case``, and under products
    with something that depends on few labels.  Each remaining term is enumerated over the labels
    it depends on; it may have up to 2**20 combinations of them.

    Parameters
    ----------
    expression
        An expression over labels that take finitely many values, or a plain number.
    unit
        Rounds each entry to a multiple of this, and counts in it.  Without, entries that are
        not whole numbers stay floats: these evaluate, but cannot be counted with.

    Returns
    -------
    Table

    Raises
    ------
    DecompositionError
        If a term depends on too many labels at once, on a continuous one, or is not a number;
        :attr:`~nas_space.errors.DecompositionError.term` is the term.
    ExpressionError
        If it is neither an expression nor a number.
    UsageError
        If the unit is not positive.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> widths = [Categorical([8, 16, 24], label=f"w{i}") for i in range(30)]
    >>> cost = tabulate(sum(a * b * 9 for a, b in zip(widths, widths[1:])))
    >>> cost
    Table(30 labels, 29 terms of 261 entries, 16704 to 150336)
    """
    if unit is not None and not unit > 0:
        raise UsageError(f"a unit must be positive, but got {unit}")
    if isinstance(expression, Table):
        return expression
    if not isinstance(expression, (Node, int, float, np.number)):
        raise ExpressionError(
            f"a cost is an expression over the labels of a space, but got {expression!r}"
        )
    if not isinstance(expression, Node):
        return table_of_terms(expression, [Factor.constant(expression)], unit)
    if unit is None:
        return expression.remember("_table", _tabulate)
    return _tabulate(expression, unit)


def _tabulate(root: Node, unit: float | None = None) -> Table:
    splitting = _Splitting(root)
    table = table_of_terms(root, _terms_of(splitting, Factor.constant(1)), unit)
    if unit is None and splitting.adds_floats and _depends_on_order(table):
        raise DecompositionError(
            f"{brief(root)} is a sum of floats that may reach 2**53, from where on they do not "
            "tell whole numbers apart, so that it depends on the order of its terms; compute it "
            "with integers, or give unit=... to count in",
            term=root,
        )
    return table


def _depends_on_order(table: Table) -> bool:
    """Whether whole numbers are added as floats beyond where these tell whole numbers apart."""
    parts = [np.asarray(table.constant), *(term.values for term in table.terms)]
    added = [values for values in parts if values.any()]
    return (
        len(added) > 1
        and all((np.rint(values) == values).all() for values in added)
        and sum(float(np.abs(values).max()) for values in added) >= 2.0**53
    )


def split(root: Node, coefficient: Factor) -> list[Factor]:
    """Return the terms of an expression times a coefficient, over different groups of labels."""
    return _terms_of(_Splitting(root), coefficient)


def _terms_of(splitting: _Splitting, coefficient: Factor) -> list[Factor]:
    try:
        return splitting.run(coefficient)
    except OverflowError as error:
        root = splitting.root
        raise DecompositionError(f"{brief(root)} has no tables: {error}", term=root) from None


def table_of_terms(expression: Any, terms: list[Factor], unit: float | None = None) -> Table:
    """Return the table of an expression that has been taken apart."""
    constant: Any = 0
    kept: list[Factor] = []
    for term in absorbed([term.reduced() for term in terms]):
        values = term.values if unit is None else np.rint(term.values / unit).astype(np.int64)
        values = whole(np.asarray(values))
        if term.scope:
            kept.append(Factor(term.scope, values))
        else:
            constant = constant + values.item()
    table = Table(expression, kept, constant, unit)
    if table.whole and max(map(abs, table.interval())) >= 2**62:
        raise DecompositionError(f"{brief(expression)} does not fit into 64 bits", term=expression)
    return table


class _Splitting:
    """The taking apart of one expression."""

    def __init__(self, root: Node) -> None:
        self.root = root
        self.nodes = list(postorder(root))
        self.divisible: set[Node] = set()
        self.whole: set[Node] = set()
        self.floats: set[Node] = set()
        self.sole: dict[Node, Node | None] = {}
        for node in self.nodes:
            self._classify(node)
            if self._gives_floats(node):
                self.floats.add(node)
            below = {self.sole[child] for child in node.children} or {node}
            self.sole[node] = below.pop() if len(below) == 1 else None
        self.coefficients: dict[Node, dict[frozenset[Any], Factor]] = {}
        self.terms: dict[frozenset[Any], Factor] = {}

    def _classify(self, node: Node) -> None:
        """Note whether a node can be taken apart, and whether it is always a whole number."""
        operator = node.operator
        parts = node.arguments
        if isinstance(node, Leaf):
            if node.size is not None and node.size <= LIMIT:  # type: ignore[attr-defined]
                values = node.decode(np.arange(node.size))  # type: ignore[attr-defined]
                if all(isinstance(value, int) for value in values):
                    self.whole.add(node)
            return
        assert operator is not None
        name = operator.name
        if operator is LOOKUP:
            self.divisible.add(node)
            if parts[0].whole:
                self.whole.add(node)
            return
        if operator.lazy:
            parts = parts[BRANCHES[operator]]
        if name in _TRUTH or (
            (name in _WHOLE or name in _ROUNDING or operator.lazy)
            and (name in _ROUNDING or all(self._is_whole(part) for part in parts))
        ):
            self.whole.add(node)
        if (
            name in _SUMS
            or operator.lazy
            or (name == "mul" and any(part in self.divisible for part in node.children))
            or (name in _ROUNDING and parts[0] in self.divisible and parts[0] in self.whole)
            or (name == "truediv" and parts[0] in self.divisible and _is_divisor(parts[1]))
        ):
            self.divisible.add(node)

    @property
    def adds_floats(self) -> bool:
        """Whether something that is taken apart is computed with floats."""
        return not self.floats.isdisjoint(self.divisible)

    def _gives_floats(self, node: Node) -> bool:
        """Whether some value of a node is a float, whole or not."""
        operator = node.operator
        if isinstance(node, Leaf):
            values = getattr(node, "values", None)
            return values is None or any(isinstance(value, float) for value in values)
        assert operator is not None
        if operator is LOOKUP:
            return not node.arguments[0].whole
        if operator.name in _TRUTH or operator.name in _ROUNDING:
            return False
        if operator.name in {"float", "truediv"}:
            return True
        parts = node.arguments[BRANCHES[operator]] if operator.lazy else node.arguments
        return any(
            isinstance(part, float) or part in self.floats
            for part in parts
            if isinstance(part, (Node, float))
        )

    def _is_whole(self, part: Any) -> bool:
        return part in self.whole if isinstance(part, Node) else isinstance(part, int)

    def run(self, coefficient: Factor) -> list[Factor]:
        self.give(self.root, coefficient)
        for node in reversed(self.nodes):
            for factor in self.coefficients.pop(node, {}).values():
                reduced = factor.reduced()
                if not reduced.never:
                    self.visit(node, reduced)
        return list(self.terms.values())

    def give(self, part: Any, coefficient: Factor) -> None:
        """Add to the coefficient of a part; of a plain number, the term is known at once."""
        if isinstance(part, Node):
            _add(self.coefficients.setdefault(part, {}), coefficient)
        elif isinstance(part, (int, float)):
            _add(self.terms, coefficient * Factor.constant(part))
        else:
            raise DecompositionError(f"{part!r} stands where a number is needed", term=self.root)

    def visit(self, node: Node, coefficient: Factor) -> None:
        if node.operator is LOOKUP:
            self.look_up(node.arguments[0], coefficient)
            return
        # Of a single label, there is nothing to be gained by taking its function apart.
        alone = self.sole[node] is not None and not coefficient.scope
        if node not in self.divisible or alone:
            self.enumerate(node, coefficient)
            return
        operator, parts = node.operator, node.arguments
        assert operator is not None
        if operator.lazy:
            self.branch(node, coefficient)
        elif operator.name == "mul":
            self.multiply(node, coefficient)
        elif operator.name == "truediv":
            divided = Factor(coefficient.scope, coefficient.values / parts[1])
            self.give(parts[0], divided)
        else:
            minus = coefficient * Factor.constant(-1)
            for place, part in enumerate(parts):
                negative = operator.name == "neg" or (operator.name == "sub" and place == 1)
                self.give(part, minus if negative else coefficient)

    def look_up(self, factors: FactorSum, coefficient: Factor) -> None:
        for term in (*factors.terms, Factor.constant(factors.constant)):
            _add(self.terms, _product(coefficient, term))

    def branch(self, node: Node, coefficient: Factor) -> None:
        try:
            guards = PathConditions.of(node)
            given = [(_product(coefficient, guard), part) for guard, part in guards.taken]
            lost = coefficient * guards.lost
        except TooLargeError as error:
            raise _too_large(node, error) from None
        if not lost.never:
            raise DecompositionError(
                f"{brief(node)} has no value for some architectures", term=node
            )
        for factor, part in given:
            self.give(part, factor)

    def multiply(self, node: Node, coefficient: Factor) -> None:
        left, right = node.arguments
        for small, other in sorted(
            [(left, right), (right, left)],
            key=lambda pair: combinations_of(leaves(pair[0])) or LIMIT,
        ):
            try:
                known = isinstance(small, Node)
                factor = Piecewise.of(small).numbers(small) if known else Factor.constant(small)
                self.give(other, coefficient * factor)
            except (TooLargeError, DecompositionError):
                continue
            return
        self.enumerate(node, coefficient)

    def enumerate(self, node: Node, coefficient: Factor) -> None:
        found = Piecewise.of(node)
        try:
            if not (coefficient * ~found.defined).never:
                raise DecompositionError(
                    f"{brief(node)} has no value for some architectures", term=node
                )
            _add(self.terms, _product(coefficient, found.numbers(node)))
        except TooLargeError as error:
            raise _too_large(node, error) from None


def _product(one: Factor, other: Factor) -> Factor:
    """Return the product of two factors, in which a large condition is an auxiliary variable.

    A condition on many labels times something about others is larger than both.  With a variable
    in the place of the condition the product is small, and so is each clique that it is in; what
    the variable is stands in factors of its own (:func:`~.decision_diagrams.defining`).
    """
    return _named(one, other) * _named(other, one)


def _named(factor: Factor, other: Factor) -> Factor:
    """A multiple of a large condition as one of a variable, if the other is not about the same."""
    variables = {*factor.scope, *other.scope}
    entries = math.prod([variable.size for variable in variables])
    if entries <= _EASY or factor.values.size <= _SMALL or variables == {*other.scope}:
        return factor
    numbers = np.unique(factor.values)
    if len(numbers) != 2 or numbers.all():
        return factor
    truth = Auxiliary.of(Factor(factor.scope, factor.values != 0))
    return Factor((truth,), np.array([0, numbers.sum()], dtype=numbers.dtype))


def _add(terms: dict[frozenset[Any], Factor], term: Factor) -> None:
    key = frozenset(term.scope)
    known = terms.get(key)
    terms[key] = term if known is None else known + term


def _is_divisor(part: Any) -> bool:
    return isinstance(part, (int, float)) and math.isfinite(part) and part != 0


def _too_large(node: Node, error: TooLargeError) -> DecompositionError:
    names = [str(variable.name) for variable in error.scope]
    return DecompositionError(
        f"{brief(node)} is not a sum of small tables: with what it is multiplied by, and what "
        f"decides whether it counts, it depends on {len(names)} labels at once "
        f"({', '.join(names[:8])}{', ...' if len(names) > 8 else ''}); their combinations exceed "
        f"the {LIMIT} entries that a table may have",
        term=node,
    )
