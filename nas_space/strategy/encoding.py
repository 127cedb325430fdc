"""Architectures as vectors of features, label by label, and weights of features as tables.

A linear model of a score has a block of features for each label, all zero where the label is not
active.  So the score under given weights is a sum of small tables, of which :mod:`nas_space.tables`
finds the best architecture exactly, whatever the size of the space and its constraints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..mutable import CategoricalMultiple, MutableExpression, MutableSymbol, Numerical, Sample
from ..mutable.factors import Factor, absorbed
from ..tables import Table
from ..tables.lookup import lookup_expression
from ..tables.model import Model, root_of

__all__ = ["NONE", "Direction", "Encoding", "Interactions", "LabelFeatures", "Pair", "quantile_of"]

Array = npt.NDArray[np.float64]

_OWN = 256
"""Of a label with at most so many values, each has a weight of its own."""

_LISTED = 2**16
"""A label with at most so many values has a table with an entry for each."""

_COMBINED = 2**12
"""So has a choice of several with at most so many combinations."""

_KNOTS = 17
"""Between so many quantiles, the worth of a label with more values is interpolated."""

_LENGTHSCALE = 0.3
"""How far a smooth function of a numerical label keeps its value, as a share of its range."""

_UNITS = 1024
"""In a score as an expression, a standard deviation is so many units."""

_TRUST = 2.0
"""Prior deviation of the weight of a score that is known beforehand."""

_SMOOTH = 0.5
"""Share of the prior variance of an ordered label's worth that is smooth in its value."""


class LabelFeatures:
    """The features of one label: what its values have in common, a priori.

    The prior of all weights is standard normal, so the features say how the worths of two values
    are correlated: not at all for unordered ones, partly for numbers that are near each other, by
    the members they share for a choice of several.  Of many unordered values, neighbours in the
    order in which they are given share a weight.

    Parameters
    ----------
    symbol
        The label.

    Attributes
    ----------
    listed
        Whether the label has few enough values for a table with an entry for each.
    features
        An array ``(rows, width)``: a row for each value of a label that is listed; otherwise for
        each knot of numbers, or each member of a choice of several.
    knots
        The numbers between which worths are interpolated, of a label that is not listed.
    """

    def __init__(self, symbol: MutableSymbol[Any]) -> None:
        self.symbol = symbol
        several = isinstance(symbol, CategoricalMultiple)
        limit = _COMBINED if several else _LISTED
        self.listed = symbol.size is not None and symbol.size <= limit
        self.quantile = quantile_of(symbol)
        self.knots = np.zeros(0)
        if not self.listed and self.quantile is not None:
            self.knots = np.array([self._at_knot(place) for place in range(_KNOTS)], np.float64)
        self.features = self._features()
        self.width = self.features.shape[1]

    def _features(self) -> Array:
        symbol = self.symbol
        if isinstance(symbol, CategoricalMultiple):
            members = np.eye(len(symbol.values))
            if self.listed:
                codes = range(symbol.size or 0)
                members = np.array([self._members(symbol.value(code)) for code in codes])
            size = float(members.sum(1).mean())  # members chosen, on average
            scaled: Array = members / np.sqrt(max(1.0, size))
            return scaled
        if not self.listed:
            return _smooth(_KNOTS) if self.quantile else np.zeros((1, 0))
        size = symbol.size or 0
        if self.quantile is None:
            shared_by = np.arange(size) * min(size, _OWN) // size
            own: Array = np.eye(min(size, _OWN))[shared_by]
            return own
        if size > _OWN:
            places = [self.quantile(symbol.value(code)) for code in range(size)]
            return _between(_smooth(_KNOTS), np.array(places) * (_KNOTS - 1))
        if size < 3:
            return np.eye(size)
        alone, shared = np.sqrt(1 - _SMOOTH) * np.eye(size), np.sqrt(_SMOOTH) * _smooth(size)
        return np.concatenate([alone, shared], axis=1)

    def _members(self, value: Sequence[Any]) -> Array:
        symbol = self.symbol
        assert isinstance(symbol, CategoricalMultiple)
        there = np.zeros(len(symbol.values))
        there[list(symbol.places(symbol.code(value)))] = 1
        return there

    def _at_knot(self, place: int) -> Any:
        """Return the value at a knot, of numbers."""
        symbol, share = self.symbol, place / (_KNOTS - 1)
        if isinstance(symbol, Numerical):
            return symbol.quantile(min(max(share, 1e-6), 1 - 1e-6))
        values = sorted(getattr(symbol, "values", ()))
        return values[round(share * (len(values) - 1))]

    def row(self, value: Any) -> Array:
        """Return the features of a value, of shape ``(width,)``."""
        symbol = self.symbol
        if self.listed:
            found: Array = self.features[symbol.code(value)]
            return found
        if isinstance(symbol, CategoricalMultiple):
            summed: Array = self._members(value) @ self.features
            return summed
        if self.quantile is None:
            return np.zeros(0)
        place = np.interp([value], self.knots, np.arange(_KNOTS))
        between: Array = _between(self.features, place)[0]
        return between

    def best(self, weights: Array) -> tuple[float, Any]:
        """Return the highest worth under some weights, and a value that has it.

        For a label that is not listed; a piecewise linear function is highest at a knot.
        """
        symbol = self.symbol
        worths = self.features @ weights
        if isinstance(symbol, CategoricalMultiple):
            order = np.argsort(-worths, kind="stable")
            wanted = symbol.n_chosen
            number = int((worths > 0).sum()) if wanted is None else wanted
            chosen = sorted(order[:number].tolist())
            return float(worths[chosen].sum()), symbol.value(symbol.rank(chosen))
        place = int(worths.argmax())
        return float(worths[place]), self._at_knot(place)

    def expression(self, weights: Array) -> Any:
        """Return the worth of a label that is not listed, under some weights, as an expression.

        Raises
        ------
        UsageError
            If it is a choice of several, of which expressions cannot say what it has chosen.
        """
        worths = (self.features @ weights).tolist()
        if isinstance(self.symbol, CategoricalMultiple):
            raise UsageError(
                f"a model of this space is no expression: the label {self.symbol.name!r} chooses "
                f"several in more than {_COMBINED} ways, which is too many for a table; strategies "
                "take it as it is"
            )
        found: Any = worths[0]
        for place in range(len(self.knots) - 1):
            low, high = self.knots[place].item(), self.knots[place + 1].item()
            if high > low:
                beyond = MutableExpression.max(MutableExpression.min(self.symbol, high) - low, 0.0)
                found = found + beyond * ((worths[place + 1] - worths[place]) / (high - low))
        return found

    def shown(self) -> tuple[list[Any], Array]:
        """Return values to show the worth of, and their features: all, or some of many numbers."""
        symbol = self.symbol
        if self.listed and (symbol.size or 0) <= _OWN:
            return [symbol.value(code) for code in range(symbol.size or 0)], self.features
        if self.quantile is None:
            return [], self.features[:0]
        values = [self._at_knot(place) for place in range(_KNOTS)]
        return values, np.array([self.row(value) for value in values])


def quantile_of(symbol: MutableSymbol[Any]) -> Callable[[Any], float] | None:
    """Return where in its range a label's value is, from 0 to 1; ``None`` if there is no order.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> [quantile_of(Categorical([3, 9, 5], label="kernel"))(value) for value in (3, 5, 9)]
    [0.0, 0.5, 1.0]
    >>> quantile_of(Categorical(["conv", "pool"], label="op")) is None
    True
    """
    if isinstance(symbol, Numerical) and symbol.size is None:
        return lambda value: float(min(max(symbol.cdf(value), 0.0), 1.0))
    last = max(1, (symbol.size or 1) - 1)
    if not isinstance(symbol, Numerical):
        values = list(getattr(symbol, "values", ()))
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
        if isinstance(symbol, CategoricalMultiple) or not numbers:
            return None
        if not (sorted(values) == values or sorted(values, reverse=True) == values):
            ranks = np.argsort(np.argsort(values)).tolist()
            return lambda value: ranks[symbol.code(value)] / last
    return lambda value: symbol.code(value) / last


def _between(features: Array, places: Array) -> Array:
    """Return features at places between rows, interpolated."""
    low = np.minimum(places.astype(np.intp), len(features) - 2)
    share = (places - low)[:, None]
    found: Array = (1 - share) * features[low] + share * features[low + 1]
    return found


def _smooth(size: int) -> Array:
    """Return features whose inner products are a squared exponential kernel."""
    places = np.linspace(0.0, 1.0, size)
    kernel = np.exp(-0.5 * ((places[:, None] - places) / _LENGTHSCALE) ** 2)
    values, vectors = np.linalg.eigh(kernel)
    kept = values > 1e-3
    found: Array = vectors[:, kept] * np.sqrt(values[kept])
    return found


Pair = tuple[str, str]
"""Two labels whose values are also worth something together."""


@dataclass(frozen=True)
class Interactions:
    """What pairs of labels are worth beyond the sum.

    Attributes
    ----------
    pairs
        Labels that interact; all listed.
    strength
        Prior variance of what all pairs are worth together, relative to that of the labels.
    """

    pairs: tuple[Pair, ...] = ()
    strength: float = 1.0


NONE = Interactions()
"""No pairs."""


@dataclass(frozen=True)
class Direction:
    """A score that is known beforehand, as weights of features.

    Attributes
    ----------
    encoding
        The features.
    weights
        One for each.
    """

    encoding: Encoding
    weights: Array


class Encoding:
    """The features of a space: a block for each label, and for each of some pairs of labels.

    They are scaled such that the prior variance of a score is about 1, and as much again as the
    strength of the interactions.

    Parameters
    ----------
    space
        A space, restricted or not.
    interactions
        The pairs.
    prior
        A score known beforehand, which is one more feature.

    Attributes
    ----------
    blocks
        Label to its block.
    slices
        Label, or pair of them, to the place of its features.
    width
        How many features there are.
    """

    def __init__(
        self, space: Any, interactions: Interactions = NONE, prior: Direction | None = None
    ) -> None:
        self.model = Model.of(root_of(space))
        labels = [symbol for symbol in self.model.labels if symbol.size != 1]
        self.blocks = {symbol.name: LabelFeatures(symbol) for symbol in labels}
        self.interactions = interactions
        self.slices: dict[str | Pair, slice] = {}
        self.width = 0
        for name, block in self.blocks.items():
            self._add(name, block.width)
        for one, other in interactions.pairs:
            self._add((one, other), self.blocks[one].width * self.blocks[other].width)
        self.prior = prior
        self.width += prior is not None
        self.scale = 1.0 / float(np.sqrt(max(1, len(self.blocks))))
        self.pair_scale = float(np.sqrt(interactions.strength / max(1, len(interactions.pairs))))

    def _add(self, name: str | Pair, width: int) -> None:
        self.slices[name] = slice(self.width, self.width + width)
        self.width += width

    def row(self, arch: Mapping[str, Any]) -> Array:
        """Return the features of an architecture, of shape ``(width,)``."""
        row = np.zeros(self.width)
        rows = {name: block.row(arch[name]) for name, block in self.blocks.items() if name in arch}
        for name, features in rows.items():
            row[self.slices[name]] = features * self.scale
        for one, other in self.interactions.pairs:
            if one in rows and other in rows:
                both = np.outer(rows[one], rows[other]).reshape(-1)
                row[self.slices[one, other]] = both * self.pair_scale
        if self.prior is not None:
            known = self.prior.encoding.row(arch) @ self.prior.weights
            row[self.width - 1] = _TRUST * float(known)
        return row

    def table(self, weights: Array) -> Table:
        """Return the score under some weights, but for its constant, as a sum of tables.

        Labels that are not listed count at their best value; see :meth:`completed`.
        """
        reach = self.model.activity.reach
        terms = self._terms(weights, lambda name: reach[self.blocks[name].symbol])
        for name, block in self.blocks.items():
            if not block.listed:
                best = block.best(weights[self.slices[name]] * self.scale)[0]
                terms.append(_where(reach[block.symbol], Factor.constant(best)))
        if self.prior is not None:
            share = _TRUST * float(weights[self.width - 1])
            known = self.prior.encoding.table(self.prior.weights)
            terms += [Factor(term.scope, share * term.values) for term in known.terms]
        constant = sum(float(term.values) for term in terms if not term.scope)
        return Table(None, [term for term in terms if term.scope], constant)

    def _terms(self, weights: Array, reach: Callable[[str], Factor]) -> list[Factor]:
        """Return what listed labels and pairs are worth, given when labels are active."""
        terms = []
        for name, block in self.blocks.items():
            if block.listed:
                worths = block.features @ (weights[self.slices[name]] * self.scale)
                terms.append(_where(reach(name), Factor((block.symbol,), worths)))
        for one, other in self.interactions.pairs:
            first, second = self.blocks[one], self.blocks[other]
            own = weights[self.slices[one, other]].reshape(first.width, second.width)
            values = first.features @ (own * self.pair_scale) @ second.features.T
            factor = Factor((first.symbol, second.symbol), values)
            terms.append(_where(reach(other), _where(reach(one), factor)))
        return terms

    def expression(self, weights: Array, constant: float) -> Any:
        """Return the score under some weights as an expression over the labels.

        What tables say is rounded to whole multiples of 1 / 1024, so that architectures above a
        score can be counted.  A score that is known beforehand is left out.

        Raises
        ------
        DecompositionError
            If when a label is active depends on too many others for a table.
        UsageError
            If a label is of a kind that expressions cannot say enough of.
        """
        activity = self.model.activity

        def reach(name: str) -> Factor:
            return activity.condition(self.blocks[name].symbol)

        def whole(values: Any) -> Any:
            return np.rint(np.asarray(values) * _UNITS).astype(np.int64)

        terms = absorbed([term.reduced() for term in self._terms(weights, reach)])
        constant += sum(float(term.values) for term in terms if not term.scope)
        kept = [Factor(term.scope, whole(term.values)) for term in terms if term.scope]
        root = self.model.root
        parts = [lookup_expression(root, kept, whole(constant).item()) / _UNITS]
        for name, block in self.blocks.items():
            if block.listed or not block.width:
                continue
            worth = block.expression(weights[self.slices[name]] * self.scale)
            there = reach(name)
            if not there.always:
                active = lookup_expression(root, [Factor(there.scope, there.values.astype(int))])
                worth = MutableExpression.condition(active == 1, worth, 0.0)
            parts.append(worth)
        return parts[0] if len(parts) == 1 else MutableExpression.sum(parts)

    def completed(self, arch: Mapping[str, Any], weights: Array) -> Sample:
        """Return the best under some weights, given its labels that are listed."""
        found = dict(arch)
        for name, block in self.blocks.items():
            if name in found and not block.listed and block.width:
                found[name] = block.best(weights[self.slices[name]] * self.scale)[1]
        return found


def _where(reach: Factor, factor: Factor) -> Factor:
    """Return a factor where a label is active, and zero elsewhere."""
    if reach.always:
        return factor
    return factor.combine(reach, lambda worth, active: np.where(active, worth, 0.0))
