"""Thompson sampling with a linear model, whose draws are maximised exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ..errors import DecompositionError, UsageError
from ..mutable import Mutable, Sample
from ..mutable.factors import Factor
from ..tables import Table, best, tabulate
from .base import Evaluated, SearchState, Strategy
from .candidates import beginning, best_new, candidates, normal_scores, scalarised, shares
from .encoding import NONE, Encoding, Interactions
from .interactions import by_gain, kernels, tractable
from .linear_model import Posterior, evidence, left_out, with_constant

__all__ = ["LinearThompson"]

Array = npt.NDArray[np.float64]

_ASKED = (1, 4, 16, 64, 256)
"""How many of the best of a draw are looked at for one that is not taken."""

_STRENGTHS = (0.3, 1.0, 3.0)
"""Strengths of interactions that are compared."""

_CONVINCING = 2.0
"""By how much the logarithm of the likelihood must rise with interactions."""

_FITTED = 150
"""Interactions are looked for with at most so many of the latest architectures."""

_FARTHEST = 4.0
"""So many deviations below the median, scores are taken to be failures, and cut off."""


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


class LinearThompson(Strategy):
    """Thompson sampling with a Bayesian linear model, of whose draws the best is found exactly.

    The score is modelled as a sum over active labels of what their values are worth, and over
    those pairs of labels of which the scores say that they interact.  For each proposal, the
    worths are drawn from their posterior.  A draw is a sum of small tables, so the best
    architecture under it is found exactly (see :func:`nas_space.tables.best`) in spaces of any
    size, within a budget, and excluding what was tried.  Several workers make several draws.

    Scores are taken as they are or replaced by the normal quantiles of their ranks, whichever lets
    a model predict the order of those left out better.  The noise, and which pairs interact, are
    decided by the marginal likelihood, and again whenever the history has grown by a fifth.

    With several objectives, each has a model of its own, and their weighted sum is maximised, with
    weights drawn anew for each proposal.  An objective that is an expression is known exactly.

    Parameters
    ----------
    initial
        How many random architectures come first.
    temperature
        Factor on how far a draw is from the posterior mean: 1 is Thompson sampling proper, less
        explores less.
    pairs
        Whether pairs of labels may interact.
    seed
        Of the proposals; that of the search by default.

    Raises
    ------
    UsageError
        If ``initial`` is below 2, or ``temperature`` negative.

    References
    ----------
    Baptista and Poloczek, *Bayesian optimization of combinatorial structures*, ICML 2018 (BOCS),
    whose acquisition is maximised by annealing; Russo et al., *A tutorial on Thompson sampling*,
    2018.

    Examples
    --------
    >>> from nas_space.hub import ProxylessNAS
    >>> from nas_space.study import search
    >>> space = ProxylessNAS(num_labels=10, width_mult=0.25)
    >>> def wide(network, arch):
    ...     return sum(str(value).endswith("e6") for value in arch.values())
    >>> result = search(space, wide, strategy=LinearThompson(), trials=30, weights="none")
    >>> result.ranked()[0].values["value"] >= 15
    True
    """

    def __init__(
        self,
        *,
        initial: int = 5,
        temperature: float = 1.0,
        pairs: bool = True,
        seed: int | None = None,
    ) -> None:
        if initial < 2:
            raise UsageError(f"initial must be at least 2, but got {initial}")
        if not temperature >= 0:
            raise UsageError(f"temperature must not be negative, but got {temperature}")
        self.initial = initial
        self.temperature = temperature
        self.pairs = pairs
        self.seed = seed
        self._memory: _Memory | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_memory": None}

    def propose(self, state: SearchState) -> Sample:
        if len(state.history) < self.initial:
            return state.sample()
        memory = self._memory
        if memory is None or memory.space is not state.space:
            memory = self._memory = _Memory(state.space)
        weights = shares(state.words, state.objectives) if state.objectives > 1 else np.ones(1)
        drawn: list[tuple[Encoding, Array]] = []
        terms: list[Factor] = []
        for objective, weight in enumerate(weights.tolist()):
            cost = memory.cost(state, objective)
            if cost is not None:
                spread = float(np.std([one.fitness[objective] for one in state.history]))
                scale = weight / spread if spread > 0 else 0.0
                terms += [Factor(term.scope, term.values * scale) for term in cost.terms]
                continue
            encoding, posterior = memory.model(state.history, objective, pairs=self.pairs)
            draw = weight * posterior.draw(state.words, self.temperature)
            drawn.append((encoding, draw))
            terms += encoding.table(draw).terms
        try:
            return self._best(state, Table(None, terms), drawn)
        except DecompositionError:
            return _likeliest(state, drawn)

    def _best(
        self, state: SearchState, table: Table, drawn: Sequence[tuple[Encoding, Array]]
    ) -> Sample:
        """Return the best architecture of a draw that is not taken."""
        seen, space = 0, cast("Mutable", state.space)
        for asked in _ASKED:
            found = best(space, table, asked, maximize=True)
            archs = [_completed(scored.arch, drawn) for scored in found[seen:]]
            for arch in archs:
                if state.space.contains(arch) and state.space.arch_id(arch) not in state.taken:
                    return arch
            if len(found) < asked:
                break
            seen = asked
        return archs[0] if archs else state.sample()


def _completed(arch: Sample, drawn: Sequence[tuple[Encoding, Array]]) -> Sample:
    """Return an architecture with the best values of labels that no table lists."""
    for encoding, draw in drawn:
        arch = encoding.completed(arch, draw)
    return arch


def _likeliest(state: SearchState, drawn: Sequence[tuple[Encoding, Array]]) -> Sample:
    """Return the best of some candidates, where constraints are no matter of tables."""
    options = list(candidates(state, scalarised(state.history, state.words)))
    scores = [sum(float(e.row(arch) @ draw[:-1]) for e, draw in drawn) for arch in options]
    return best_new(state, options, scores)


def standard_scores(values: Array) -> Array:
    """Return values with mean 0 and deviation 1, those far below the others cut off."""
    middle = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - middle))
    cut = np.maximum(values, middle - _FARTHEST * spread) if spread > 0 else values
    deviation = float(cut.std())
    found: Array = (cut - cut.mean()) / (deviation if deviation > 0 else 1.0)
    return found


class _Memory:
    """What need not be worked out again at each proposal; it all follows from the history."""

    def __init__(self, space: Any) -> None:
        self.space = space
        self.fits: dict[int, tuple[tuple[int, ...], Fit]] = {}
        self.encodings: dict[Interactions, Encoding] = {}
        self.known: dict[tuple[Interactions, int], tuple[Sample, Array]] = {}
        self.costs: dict[int, Table | None] = {}

    def cost(self, state: SearchState, objective: int) -> Table | None:
        """Return the table of an objective that is known exactly, more being better."""
        if objective not in self.costs:
            expression = state.costs[objective] if state.costs else None
            try:
                self.costs[objective] = None if expression is None else tabulate(expression)
            except DecompositionError:
                self.costs[objective] = None  # then it is learnt, as what is measured is
        return self.costs[objective]

    def encoding(self, interactions: Interactions) -> Encoding:
        """Return the encoding with some interactions."""
        if interactions not in self.encodings:
            self.encodings[interactions] = Encoding(self.space, interactions)
        return self.encodings[interactions]

    def rows(self, interactions: Interactions, history: Sequence[Evaluated]) -> Array:
        """Return the features of some architectures, and the constant."""
        encoding, rows = self.encoding(interactions), []
        for one in history:
            key = (interactions, one.number)
            known = self.known.get(key)
            if known is None or known[0] is not one.arch:
                known = self.known[key] = (one.arch, encoding.row(one.arch))
            rows.append(known[1])
        return with_constant(np.array(rows))

    def model(
        self, history: Sequence[Evaluated], objective: int, *, pairs: bool
    ) -> tuple[Encoding, Posterior]:
        """Return the model of an objective."""
        size = beginning(len(history))
        key = tuple(one.number for one in history[:size])
        known = self.fits.get(objective)
        values = np.array([one.fitness[objective] for one in history])
        if known is None or known[0] != key:
            known = (key, self._fit(history[:size], values[:size], pairs=pairs))
            self.fits[objective] = known
        fit = known[1]
        rows = self.rows(fit.interactions, history)
        posterior = Posterior(rows, fit.scores(values), fit.noise)
        return self.encoding(fit.interactions), posterior

    def _fit(self, history: Sequence[Evaluated], values: Array, *, pairs: bool) -> Fit:
        """Return what the marginal likelihood says of the noise and of interactions."""
        rows = self.rows(NONE, history)
        kernel = rows @ rows.T
        options = []
        for ranked in (True, False) if np.isfinite(values).all() else (True,):
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
        while pairs and number < 2 * len(pairs):
            some = pairs[:number]
            for one, other in some[added:]:
                sums = sums + parts[one] * parts[other]
            added = len(some)
            for strength in _STRENGTHS:
                found = evidence(kernel + strength / added * sums, scores)
                if found.likelihood > known.likelihood + _CONVINCING:
                    known = found
                    fit = Fit(fit.ranked, found.noise, Interactions(tuple(some), strength))
            number *= 2
        self.encodings = {NONE: encoding}
        self.known = {key: row for key, row in self.known.items() if not key[0].pairs}
        return fit


def _agreement(predicted: Array, values: Array) -> float:
    """Return the correlation of ranks, rounded so that ties do not depend on the platform."""
    one, other = normal_scores(predicted), normal_scores(values)
    norm = float(np.linalg.norm(one) * np.linalg.norm(other))
    return round(float(one @ other) / norm, 6) if norm > 0 else 0.0
