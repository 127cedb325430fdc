"""Labels as Optuna's parameters: a label may need several, or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from ..mutable import CategoricalMultiple, MutableSymbol, Numerical

__all__ = ["Dimension", "dimension_of"]

_EDGE = 1e-6
"""Quantiles go this close to 0 and 1, where distributions may be infinite."""


class Dimension:
    """The parameters of one label.

    Parameters
    ----------
    symbol
        The label.
    distributions
        Parameter to distribution; none for a label with one value.
    """

    def __init__(
        self, symbol: MutableSymbol[Any], distributions: Mapping[str, BaseDistribution]
    ) -> None:
        self.symbol = symbol
        self.distributions = dict(distributions)

    def params(self, value: Any) -> dict[str, Any]:
        """Return the parameters that stand for a value."""
        raise NotImplementedError

    def value(self, params: Mapping[str, Any]) -> Any:
        """Return the value that parameters stand for."""
        raise NotImplementedError

    def suggest(self, trial: optuna.trial.Trial) -> Any:
        """Return the value that a trial's sampler suggests."""
        return self.value(
            {name: _suggest(trial, name, d) for name, d in self.distributions.items()}
        )


class _Single(Dimension):
    """One value: nothing to suggest."""

    def params(self, value: Any) -> dict[str, Any]:
        return {}

    def value(self, params: Mapping[str, Any]) -> Any:
        return self.symbol.value(0)


class _Coded(Dimension):
    """A parameter that holds the code of the value."""

    def params(self, value: Any) -> dict[str, Any]:
        return {self.symbol.name: self.symbol.code(value)}

    def value(self, params: Mapping[str, Any]) -> Any:
        return self.symbol.value(params[self.symbol.name])


class _Continuous(Dimension):
    """A parameter that holds the share of the label's distribution below the value."""

    symbol: Numerical

    def params(self, value: Any) -> dict[str, Any]:
        return {self.symbol.name: min(max(self.symbol.cdf(value), _EDGE), 1 - _EDGE)}

    def value(self, params: Mapping[str, Any]) -> Any:
        return self.symbol.quantile(params[self.symbol.name])


class _Several(Dimension):
    """A parameter for each of the values, which says whether it is chosen."""

    symbol: CategoricalMultiple[Any]

    def params(self, value: Any) -> dict[str, Any]:
        chosen = set(self.symbol.places(self.symbol.code(value)))
        return {name: place in chosen for place, name in enumerate(self.distributions)}

    def value(self, params: Mapping[str, Any]) -> Any:
        chosen = [place for place, name in enumerate(self.distributions) if params[name]]
        wanted = self.symbol.n_chosen
        if wanted is not None:
            # Samplers do not know of a fixed number; the next ones make up for what lacks.
            others = [place for place in range(len(self.distributions)) if place not in chosen]
            chosen = sorted((chosen + others)[:wanted])
        return self.symbol.value(self.symbol.rank(chosen))


def dimension_of(symbol: MutableSymbol[Any]) -> Dimension:
    """Return the parameters of a label.

    Numbers in ascending or descending order are a range, so that a sampler knows which are
    near each other; all else is categories.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> dimension_of(Categorical([3, 5, 7], label="kernel")).distributions
    {'kernel': IntDistribution(high=2, log=False, low=0, step=1)}
    >>> dimension_of(Categorical(["conv", "pool"], label="op")).distributions
    {'op': CategoricalDistribution(choices=(0, 1))}
    """
    if symbol.size == 1:
        return _Single(symbol, {})
    if isinstance(symbol, CategoricalMultiple):
        flags = [f"{symbol.name}/{place}" for place in range(len(symbol.values))]
        return _Several(symbol, {flag: CategoricalDistribution((False, True)) for flag in flags})
    if symbol.size is None:
        return _Continuous(symbol, {symbol.name: FloatDistribution(_EDGE, 1 - _EDGE)})
    distribution: BaseDistribution = CategoricalDistribution(tuple(range(symbol.size)))
    if isinstance(symbol, Numerical) or _in_order(getattr(symbol, "values", ())):
        distribution = IntDistribution(0, symbol.size - 1)
    return _Coded(symbol, {symbol.name: distribution})


def _in_order(values: tuple[Any, ...]) -> bool:
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        return False
    return list(values) in (sorted(values), sorted(values, reverse=True))


def _suggest(trial: optuna.trial.Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high)
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(name, distribution.low, distribution.high)
