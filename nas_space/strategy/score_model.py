"""``ScoreModel``: what a history says that the values of labels are worth."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..files import replacing
from ..lazy import installed
from ..mutable import MutableExpression, Sample
from ..mutable.factor_sum import FactorSum
from ..mutable.node import Node
from ..mutable.operators import ATOM, LOOKUP, Operator
from .base import Evaluated, is_same
from .candidates import beginning, normal_scores
from .encoding import NONE, Direction, Encoding, Interactions
from .history_rows import FeatureRows
from .interactions import by_gain, kernels, tractable
from .linear_model import WeightPosterior, evidence, left_out, with_constant, without_outliers

__all__ = ["Effect", "ModelMemory", "ScoreModel", "fit_model"]

Array = npt.NDArray[np.float64]

_STRENGTHS = (0.3, 1.0, 3.0)
"""Strengths of interactions that are compared."""

_CONVINCING = 2.0
"""By how much interactions must raise the logarithm of the likelihood, beyond chance."""

_CHANCE = 0.5
"""What chance gains, relative to the logarithm of in how many ways pairs can be picked."""

_FITTED = 150
"""Interactions are looked for with at most so many of the latest architectures."""

_COMPARED = 300
"""The noise is fitted to at most so many of the latest."""


@dataclass(frozen=True)
class Fit:
    """What is decided about a model before its weights are fitted.

    Attributes
    ----------
    ranked
        Whether scores are replaced by the normal quantiles of their ranks.
    noise
        Variance of the noise, relative to that of a weight.
    interactions
        Pairs of labels.
    """

    ranked: bool
    noise: float
    interactions: Interactions = NONE

    def scores(self, values: Array) -> Array:
        """Return values as the model takes them."""
        return normal_scores(values) if self.ranked else standard_scores(values)


def standard_scores(values: Array) -> Array:
    """Return values with mean 0 and deviation 1, those far below the others cut off.

    Where there is no such thing, as infinities have no mean, and very large values no square, it is
    :func:`~.candidates.normal_scores`.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        cut = without_outliers(values)
        deviation = float(cut.std())
        found: Array = (cut - cut.mean()) / (deviation if deviation > 0 else 1.0)
    return found if np.isfinite(found).all() else normal_scores(values)


@dataclass(frozen=True)
class Effect:
    """What a value of a label is worth, against the average of the label's values.

    Attributes
    ----------
    label, value
        Which.
    mean, deviation
        Of the posterior, in standard deviations of the score.
    """

    label: str
    value: Any
    mean: float
    deviation: float


class ScoreModel(MutableExpression[float]):
    """A linear model of a score, as an expression over the labels: more is better.

    Its values are the posterior means, in standard deviations of the scores it was fitted to, each
    table rounded to a thousandth; :meth:`predict` gives them unrounded, and how sure they are.  It
    goes where a cost goes: ``space.best(model, maximize=True)`` is the architecture that it takes
    to be the best, exactly, within any budget; ``space.where(model >= 1.0)`` holds those it takes
    to be good; ``space.pareto(model, macs, maximize=(True, False))`` are the trade-offs; and
    ``maximize("guess", model)`` is an objective.  Where a label is continuous, the exact queries
    refuse it, as they refuse every expression over such a label.

    Made by :meth:`nas_space.study.SearchResult.model`.  A pickle of it is the plain expression.

    Attributes
    ----------
    interactions
        Pairs of labels that are worth something together.
    ranked
        Whether scores were replaced by the normal quantiles of their ranks.
    noise
        Standard deviation of the noise, in those of the scores.
    """

    def __init__(self, encoding: Encoding, posterior: WeightPosterior, fit: Fit) -> None:
        constant = float(posterior.mean[-1])
        found = encoding.expression(posterior.mean, constant)
        if isinstance(found, MutableExpression):
            super().__init__(cast("Operator", found.operator), found.arguments)
        else:  # no label matters
            super().__init__(LOOKUP, (FactorSum((), found),))
        self._encoding, self._posterior = encoding, posterior
        self.interactions = fit.interactions.pairs
        self.ranked = fit.ranked
        self.noise = float(np.sqrt(posterior.noise * posterior.scale))

    def key(self) -> Hashable:
        return (ScoreModel, self._posterior)  # one by itself, although others may agree with it

    def text(self, texts: Mapping[Node, tuple[str, int]]) -> tuple[str, int]:
        del texts
        return "score model", ATOM

    def predict(self, archs: Sequence[Mapping[str, Any]]) -> tuple[Array, Array]:
        """Return the mean and the standard deviation of the score of each architecture.

        The deviation is that of the model; the noise of a measurement comes on top.
        """
        rows = with_constant(np.array([self._encoding.row(arch) for arch in archs]))
        return rows @ self._posterior.mean, self._posterior.deviations(rows)

    def effects(self) -> list[Effect]:
        """Return what each value of each label is worth, those of pairs left out.

        Labels with the largest differences come first.  Of numbers with very many values some are
        told, and none of other labels with more than 256.
        """
        found: list[list[Effect]] = []
        for name, block in self._encoding.blocks.items():
            values, features = block.shown()
            if not values:
                continue
            rows = np.zeros((len(values), self._encoding.width + 1))
            rows[:, self._encoding.slices[name]] = features * self._encoding.scale
            rows -= rows.mean(0)
            means = rows @ self._posterior.mean
            deviations = self._posterior.deviations(rows)
            found.append(
                [
                    Effect(name, value, float(mean), float(deviation))
                    for value, mean, deviation in zip(values, means, deviations, strict=True)
                ]
            )
        found.sort(key=lambda effects: -max(abs(effect.mean) for effect in effects))
        return [effect for effects in found for effect in effects]

    def picture(self, file: Path | str) -> Path:
        """Draw what each value is worth, with bars of one standard deviation.

        Parameters
        ----------
        file
            Where to; its ending says in which format.
        """
        installed("matplotlib", "plots")
        from matplotlib.figure import Figure

        effects = self.effects()
        height = 1.0 + 0.22 * len(effects)
        figure = Figure(figsize=(6.0, height), layout="constrained")
        axes = figure.add_subplot()
        places = np.arange(len(effects))[::-1]
        labels = list(dict.fromkeys(effect.label for effect in effects))
        colors = [f"C{labels.index(effect.label) % 10}" for effect in effects]
        axes.axvline(0.0, color="0.6", linewidth=0.8)
        for place, effect, color in zip(places, effects, colors, strict=True):
            axes.errorbar(effect.mean, place, xerr=effect.deviation, fmt="o", ms=4, color=color)
        axes.set_yticks(places, [f"{effect.label} = {effect.value}" for effect in effects], size=7)
        axes.set_xlabel("worth, in standard deviations of the score")
        target = Path(file)
        with replacing(target) as beside:
            figure.savefig(beside, dpi=100)
        return target

    def __repr__(self) -> str:
        lines = [
            f"{effect.label} = {effect.value!r}: {effect.mean:+.2f} ± {effect.deviation:.2f}"
            for effect in self.effects()
        ]
        pairs = ", ".join(f"{one} with {other}" for one, other in self.interactions) or "none"
        return "\n".join(["ScoreModel, worth in standard deviations", *lines, f"pairs: {pairs}"])

    __str__ = __repr__


class ModelMemory:
    """What need not be worked out again at each proposal; it all follows from the history."""

    def __init__(self, space: Any, prior: Direction | None = None) -> None:
        self.space = space
        self.prior = prior
        self.fits: dict[int, tuple[Sequence[Evaluated], Fit]] = {}
        self.encodings: dict[Interactions, Encoding] = {}
        self.features: dict[Interactions, FeatureRows] = {}

    def encoding(self, interactions: Interactions) -> Encoding:
        """Return the encoding with some interactions."""
        if interactions not in self.encodings:
            self.encodings[interactions] = Encoding(self.space, interactions, self.prior)
        return self.encodings[interactions]

    def rows(self, interactions: Interactions, history: Sequence[Evaluated]) -> Array:
        """Return the features of some architectures, and the constant."""
        if interactions not in self.features:
            encoding = self.encoding(interactions)

            def features(archs: Sequence[Sample]) -> Array:
                return with_constant(np.array([encoding.row(arch) for arch in archs]))

            self.features[interactions] = FeatureRows(features)
        return self.features[interactions].of(history)

    def model(
        self, history: Sequence[Evaluated], objective: int, *, pairs: bool
    ) -> tuple[Encoding, WeightPosterior, Fit]:
        """Return the model of an objective: features, weights, and what was decided about it."""
        begun = history[: beginning(len(history))]
        known = self.fits.get(objective)
        values = np.array([one.fitness[objective] for one in history])
        if known is None or not is_same(known[0], begun):
            known = (begun, self._fit(begun, values[: len(begun)], pairs=pairs))
            self.fits[objective] = known
        fit = known[1]
        rows = self.rows(fit.interactions, history)
        posterior = WeightPosterior(rows, fit.scores(values), fit.noise)
        return self.encoding(fit.interactions), posterior, fit

    def _fit(self, history: Sequence[Evaluated], values: Array, *, pairs: bool) -> Fit:
        """Return what the marginal likelihood says of the noise and of interactions."""
        history, values = history[-_COMPARED:], values[-_COMPARED:]
        rows = self.rows(NONE, history)
        kernel = rows @ rows.T
        options = []
        for ranked in (True, False):
            scores = normal_scores(values) if ranked else standard_scores(values)
            found = evidence(kernel, scores)
            agrees = _agreement(left_out(kernel, scores, found.noise), values)
            options.append((agrees, ranked, found))
        _, ranked, found = max(options, key=lambda option: option[:2])
        fit = Fit(ranked, found.noise)
        return self._interacting(history, values, fit) if pairs else fit

    def _interacting(self, history: Sequence[Evaluated], values: Array, fit: Fit) -> Fit:
        """Return the fit with as many pairs of labels as the scores speak for."""
        history, values = history[-_FITTED:], values[-_FITTED:]
        scores = fit.scores(values)
        rows = self.rows(NONE, history)
        encoding, kernel = self.encoding(NONE), rows @ rows.T
        known = evidence(kernel, scores)
        parts = kernels(encoding, rows)
        pairs = tractable(encoding, by_gain(parts, kernel, scores, known.noise))
        number, sums, added = 1, np.zeros_like(kernel), 0
        possible, reached = math.comb(len(parts), 2), known.likelihood + _CONVINCING
        while pairs and number < 2 * len(pairs):
            some = pairs[:number]
            for one, other in some[added:]:
                sums = sums + parts[one] * parts[other]
            added = len(some)
            # Picked among so many sets of pairs, the best gain something by chance.
            chance = _CHANCE * math.log(math.comb(possible, added))
            for strength in _STRENGTHS:
                found = evidence(kernel + strength / added * sums, scores)
                if found.likelihood - chance > reached:
                    reached = found.likelihood - chance
                    fit = Fit(fit.ranked, found.noise, Interactions(tuple(some), strength))
            number *= 2
        self.encodings = {NONE: encoding}
        self.features = {key: rows for key, rows in self.features.items() if not key.pairs}
        return fit


def _agreement(predicted: Array, values: Array) -> float:
    """Return the correlation of ranks, rounded so that ties do not depend on the platform."""
    one, other = normal_scores(predicted), normal_scores(values)
    norm = float(np.linalg.norm(one) * np.linalg.norm(other))
    return round(float(one @ other) / norm, 6) if norm > 0 else 0.0


def fit_model(
    space: Any, history: Sequence[Evaluated], objective: int = 0, *, pairs: bool = True
) -> ScoreModel:
    """Return the model of an objective that a history speaks for.

    Raises
    ------
    UsageError
        If there are fewer than two architectures.
    """
    if len(history) < 2:
        raise UsageError(f"a model needs at least two scores, but there are {len(history)}")
    return ScoreModel(*ModelMemory(space).model(history, objective, pairs=pairs))
