"""``Table``: an expression as a sum of small tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import LabelError, UsageError, suggest
from ..extensions import call as call_registered
from ..mutable import Sample, SampleBatch
from ..mutable.factor_sum import FactorSum, is_covered
from ..mutable.factors import Array, Auxiliary, Factor, labels_of, multilinear
from ..mutable.node import Node

if TYPE_CHECKING:
    from ..mutable import MutableSymbol

__all__ = ["Bounds", "Table"]


class Bounds(NamedTuple):
    """Lowest and highest value, and an architecture for each."""

    minimum: Any
    maximum: Any
    at_minimum: Sample
    at_maximum: Sample


class Table:
    """An expression as a constant plus a sum of small tables.

    Made by :func:`tabulate`.

    Parameters
    ----------
    expression
        What it stands for.
    terms
        Tables over the codes of a few labels each: int64, or float64 where the values are not
        whole numbers.
    constant
        What is added to their sum.
    unit
        What one stands for, if the entries were rounded to multiples of it.

    Examples
    --------
    >>> from nas_space.mutable import Categorical, MutableExpression, SampleBatch
    >>> from nas_space.tables import tabulate
    >>> op = Categorical(["conv", "pool"], label="op")
    >>> width = Categorical([8, 16], label="width")
    >>> cost = tabulate(MutableExpression.switch_case(op, {"conv": width * 9, "pool": 5}) + 1)
    >>> cost
    Table(2 labels, 1 terms of 4 entries, 6 to 145)
    >>> cost.bounds().at_minimum
    {'op': 'pool'}
    >>> float(cost.expected({"op": [0.5, 0.5], "width": [0.25, 0.75]}))
    66.5
    """

    def __init__(
        self, expression: Any, terms: Sequence[Factor], constant: Any = 0, unit: float | None = None
    ) -> None:
        self.expression = expression
        self.terms = tuple(terms)
        self.constant = constant
        self.unit = unit
        self._tensors: dict[Any, list[Any]] = {}

    @property
    def symbols(self) -> dict[str, MutableSymbol[Any]]:
        """The labels that the value depends on, and their symbols."""
        return {s.name: s for term in self.terms for s in labels_of(term.scope)}

    @property
    def whole(self) -> bool:
        """Whether all values are whole numbers, so that sums are exact."""
        return self._sum.whole

    @cached_property
    def _sum(self) -> FactorSum:
        return FactorSum(self.terms, self.constant)

    def evaluate(self, architectures: SampleBatch | Mapping[str, Any]) -> Any:
        """Return the value for each of many architectures, or for one.

        Parameters
        ----------
        architectures
            A batch, or one dictionary.

        Returns
        -------
        numpy.ndarray or number
            One value for each architecture, of shape ``(n,)``; in :attr:`unit`, if there is one.

        Raises
        ------
        LabelError
            If the batch is of a space without the labels that are needed.
        SampleMissingError
            If a label is needed where it is not active.
        """
        if not isinstance(architectures, SampleBatch):
            if not isinstance(self.expression, Node):
                return self.constant
            batch = SampleBatch.from_samples(self.expression, [architectures])  # type: ignore[arg-type]
            return self.evaluate(batch)[0].item()
        if architectures.root is not None:
            self.check_covered(architectures.root)
        codes = architectures.codes
        return self._sum.column(lambda symbol: _codes_of(symbol, codes), len(architectures))

    def check_covered(self, root: Node) -> None:
        """Refuse a space that does not decide every label that is needed, wherever it is.

        Parameters
        ----------
        root
            The structure of the space.

        Raises
        ------
        LabelError, SampleMissingError
            As said for :meth:`evaluate`.
        """
        if isinstance(self.expression, Node) and not is_covered(root, self.expression):
            from .coverage import check_covered

            check_covered(root, self.expression)

    def expected(self, probabilities: Mapping[str, Any]) -> Any:
        """Return the exact expectation, if each label is chosen on its own.

        Parameters
        ----------
        probabilities
            Label to the probability of each of its values, of shape ``(size,)``, for every
            label that the value depends on; other labels are ignored.  Arrays, lists, or
            tensors of torch.

        Returns
        -------
        float or torch.Tensor
            A scalar tensor if there is a tensor among the probabilities, of its type and on its
            device; gradients flow through.

        Raises
        ------
        UsageError
            If a label has no probabilities, or not one for each of its values, or if they do
            not sum to 1 (tensors are not looked at: that would wait for the device).
        """
        given = {name: self._vector(name, s, probabilities) for name, s in self.symbols.items()}
        every = (*given.values(), *probabilities.values())
        tensor = next((vector for vector in every if hasattr(vector, "new_tensor")), None)
        if tensor is None:
            tables: list[Any] = [factor.values for factor in chain(*self._products)]
            total: Any = float(self.constant)
        else:
            tables = self._as_tensors(tensor)
            total = tensor.new_tensor(float(self.constant))
            given = {
                k: v if hasattr(v, "new_tensor") else tensor.new_tensor(v) for k, v in given.items()
            }
        table = iter(tables)
        for factors in self._products:
            expectation: Any = 1
            for factor in factors:
                mean = next(table)
                for symbol in reversed(factor.scope):
                    mean = (mean * given[symbol.name]).sum(-1)
                expectation = expectation * mean
            total = total + expectation
        return total

    @cached_property
    def _products(self) -> list[list[Factor]]:
        """The terms as products of factors over different labels, each independent of the others.

        A term that is over an auxiliary variable is the product of its condition and a factor, of
        which those that share labels are multiplied out.
        """
        found = []
        for term in self.terms:
            for conditions, factor in multilinear(term):
                product = [factor]
                for condition in conditions:
                    here = condition.condition.resolved()
                    truth = Factor(here.scope, here.values.astype(np.int64))
                    labels = {*truth.scope}
                    for other in [f for f in product if not labels.isdisjoint(f.scope)]:
                        product.remove(other)
                        truth = truth * other
                    product.append(truth)
                found.append(product)
        return found

    def _vector(self, name: str, symbol: Any, probabilities: Mapping[str, Any]) -> Any:
        if name not in probabilities:
            raise UsageError(
                f"the label {name!r} has no probabilities; give {symbol.size}, one for each of "
                f"{symbol.allowed()}{suggest(name, map(str, probabilities))}"
            )
        vector = probabilities[name]
        if not hasattr(vector, "new_tensor"):
            vector = np.asarray(vector, dtype=np.float64)
        if tuple(vector.shape) != (symbol.size,):
            raise UsageError(
                f"the label {name!r} takes {symbol.allowed()}, so it needs {symbol.size} "
                f"probabilities, but got an array of shape {tuple(vector.shape)}"
            )
        if isinstance(vector, np.ndarray) and not (
            (vector >= 0).all() and math.isclose(vector.sum(), 1, abs_tol=1e-6)
        ):
            raise UsageError(
                f"the probabilities of {name!r} must not be negative and sum to 1, "
                f"but got {vector.tolist()}"
            )
        return vector

    def _as_tensors(self, like: Any) -> list[Any]:
        """The terms as tensors; kept, since a search asks for expectations at every step."""
        key = (like.dtype, like.device)
        if key not in self._tensors:
            self._tensors[key] = [
                like.new_tensor(factor.values.tolist(), requires_grad=False)
                for factor in chain(*self._products)
            ]
        return self._tensors[key]

    def bounds(self) -> Bounds:
        """Return the lowest and the highest value, exact, with architectures that attain them.

        The architectures are over the labels of the expression.  Within a space that does not
        allow everything, ask the space.
        """
        if not isinstance(self.expression, Node):
            return Bounds(self.constant, self.constant, {}, {})
        found: Bounds = call_registered("bounds", self.expression, self)
        return found

    def interval(self) -> tuple[Any, Any]:
        """Return an interval that contains every value; exact if no label is in two terms."""
        return self._sum.interval()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tensors": {}}

    def __repr__(self) -> str:
        entries = sum(term.values.size for term in self.terms)
        low, high = self.interval()
        unit = "" if self.unit is None else f" in units of {self.unit}"
        return (
            f"Table({len(self.symbols)} labels, {len(self.terms)} terms of {entries} entries, "
            f"{low} to {high}{unit})"
        )


def _codes_of(symbol: Any, codes: Mapping[Any, Array]) -> Array:
    if isinstance(symbol, Auxiliary):
        return symbol.column(lambda variable: _codes_of(variable, codes))
    found = codes.get(symbol)
    if found is None:
        names = [str(other.name) for other in codes]
        if symbol.name in names:
            raise LabelError(
                f"the cost is about another choice labelled {symbol.name!r} than the batch: "
                f"{symbol!r}; it may be the cost of another space"
            )
        raise LabelError(
            f"the batch has no label {symbol.name!r}{suggest(symbol.name, names)}; it has {names}"
        )
    return found
