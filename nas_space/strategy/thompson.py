"""Thompson sampling with a linear model, whose draws are maximised exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ..errors import DecompositionError, UsageError
from ..mutable import Mutable, Sample
from ..mutable.factors import Factor
from ..tables import Table, best, tabulate
from .base import Evaluated, SearchState, Strategy
from .candidates import best_new, candidates, fitness_of, normal_scores, scalarised, shares
from .encoding import Direction, Encoding
from .linear_model import WeightPosterior, evidence
from .neighbours import is_untried
from .score_model import Fit, ModelMemory

__all__ = ["LinearThompson"]

Array = npt.NDArray[np.float64]

_ASKED = (1, 4, 16, 64, 256)
"""How many of the best of a draw are looked at for one that is not taken."""


_REMEMBERED = 1000
"""At least so many of the latest architectures make the model, so that a proposal takes no longer
the longer a search is."""

_FORGOTTEN = 200
"""So many are left out at a time, for what is decided about a model holds as long as its beginning
stays the same."""


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
    warm_start
        Architectures and a score of each that says something of the objective beforehand: a
        zero-cost proxy (:func:`nas_space.study.proxy_scores`), or the scores of another task.
        Only their order matters, more being better.  The first proposals go by them, and what a
        model of them predicts is one more feature, whose weight is learnt.
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
        warm_start: Sequence[tuple[Mapping[str, Any], float]] = (),
        seed: int | None = None,
    ) -> None:
        if initial < 2:
            raise UsageError(f"initial must be at least 2, but got {initial}")
        if not temperature >= 0:
            raise UsageError(f"temperature must not be negative, but got {temperature}")
        self.initial = initial
        self.temperature = temperature
        self.pairs = pairs
        self.warm_start = list(warm_start)
        if len(self.warm_start) == 1:
            raise UsageError("warm_start needs the scores of several architectures, but got one")
        self.seed = seed

    def _remembered(self, state: SearchState) -> _Remembered:
        memory: _Remembered | None = self._memory
        if memory is None or memory.space is not state.space:
            memory = self._memory = _Remembered(state.space, self.warm_start, pairs=self.pairs)
        return memory

    def _model(
        self, state: SearchState, history: Sequence[Evaluated], objective: int = 0
    ) -> tuple[Encoding, WeightPosterior, Fit]:
        models = self._remembered(state).models
        return models.model(history, objective, pairs=self.pairs)

    def likelihood(
        self, state: SearchState, begun: Sequence[Evaluated], evaluated: Sequence[Evaluated]
    ) -> float:
        """Return the logarithm of the marginal likelihood of some ranks, up to a constant.

        Of the first objective, with the pairs of labels that a beginning of the history speaks for.
        """
        _, _, fit = self._model(state, _latest(begun))
        rows = self._remembered(state).models.rows(fit.interactions, evaluated)
        scores = normal_scores([one.fitness[0] for one in evaluated])
        return evidence(rows @ rows.T, scores).likelihood

    def favourites(self, state: SearchState, number: int) -> list[Sample]:
        """Return the best architectures of a draw of the first objective's model, exactly.

        None where constraints are no matter of tables.
        """
        encoding, posterior, _ = self._model(state, _latest(state.history))
        draw = posterior.draw(state.words, self.temperature)
        try:
            return _ranked(state, encoding.table(draw).terms, [(encoding, draw)], number)
        except DecompositionError:
            return []

    def propose(self, state: SearchState) -> Sample:
        memory = self._remembered(state)
        if len(state.history) < self.initial:
            if memory.warm is None:
                return state.sample()
            encoding, posterior = memory.warm
            draw = posterior.draw(state.words, self.temperature)
            return self._exact(state, encoding.table(draw).terms, [(encoding, draw)])
        history = _latest(state.history)
        weights = shares(state.words, state.objectives) if state.objectives > 1 else np.ones(1)
        drawn: list[tuple[Encoding, Array]] = []
        terms: list[Factor] = []
        for objective, weight in enumerate(weights.tolist()):
            cost = memory.cost(state, objective)
            if cost is not None:
                spread = float(np.std([one.fitness[objective] for one in history]))
                scale = weight / spread if spread > 0 else 0.0
                terms += [Factor(term.scope, term.values * scale) for term in cost.terms]
                continue
            encoding, posterior, _ = self._model(state, history, objective)
            draw = weight * posterior.draw(state.words, self.temperature)
            drawn.append((encoding, draw))
            terms += encoding.table(draw).terms
        return self._exact(state, terms, drawn)

    def _exact(
        self, state: SearchState, terms: Sequence[Factor], drawn: Sequence[tuple[Encoding, Array]]
    ) -> Sample:
        """Return the best architecture of a draw that is not taken."""
        try:
            return _best(state, terms, drawn)
        except DecompositionError:
            return _likeliest(state, drawn)


def _latest(history: Sequence[Evaluated]) -> Sequence[Evaluated]:
    """Return the part of a history that models are made of."""
    more = max(0, len(history) - _REMEMBERED)
    return history[more // _FORGOTTEN * _FORGOTTEN :]


def _ranked(
    state: SearchState,
    terms: Sequence[Factor],
    drawn: Sequence[tuple[Encoding, Array]],
    number: int,
    seen: int = 0,
) -> list[Sample]:
    """Return so many of the best by the tables, but for those that were seen before."""
    found = best(cast("Mutable", state.space), Table(None, terms), number, maximize=True)
    return [_completed(state, scored.arch, drawn) for scored in found[seen:]]


def _best(
    state: SearchState, terms: Sequence[Factor], drawn: Sequence[tuple[Encoding, Array]]
) -> Sample:
    """Return the best by the tables; of several, the first that is not taken."""
    seen = 0
    for asked in _ASKED:
        archs = _ranked(state, terms, drawn, asked, seen)
        for arch in archs:
            if is_untried(state.space, arch, state.taken):
                return arch
        if seen + len(archs) < asked:
            break
        seen = asked
    return archs[0] if archs else state.sample()


def _completed(state: SearchState, arch: Sample, drawn: Sequence[tuple[Encoding, Array]]) -> Sample:
    """Return an architecture with the best values of labels that no table lists.

    Those of which nothing is learnt, for they have very many values in no order, are drawn.
    """
    for encoding, draw in drawn:
        arch = encoding.completed(arch, draw)
        for name, block in encoding.blocks.items():
            if name in arch and not block.listed and not block.width:
                arch[name] = block.symbol.draw(state.words(block.symbol.words))
    return arch


def _likeliest(state: SearchState, drawn: Sequence[tuple[Encoding, Array]]) -> Sample:
    """Return the best of some candidates, where constraints are no matter of tables."""
    options = list(candidates(state, scalarised(fitness_of(state.history), state.words)))
    scores = [sum(float(e.row(arch) @ draw[:-1]) for e, draw in drawn) for arch in options]
    return best_new(state, options, scores)


class _Remembered:
    """What need not be worked out again at each proposal; it all follows from the history."""

    def __init__(
        self, space: Any, warm_start: Sequence[tuple[Mapping[str, Any], float]], *, pairs: bool
    ) -> None:
        self.space = space
        self.costs: dict[int, tuple[Any, Table | None]] = {}
        self.warm: tuple[Encoding, WeightPosterior] | None = None
        prior = None
        if warm_start:
            history = [
                Evaluated(number, space.canonical(arch), (float(score),))
                for number, (arch, score) in enumerate(warm_start)
            ]
            encoding, posterior, _ = ModelMemory(space).model(history, 0, pairs=pairs)
            self.warm = (encoding, posterior)
            prior = Direction(encoding, posterior.mean[:-1])
        self.models = ModelMemory(space, prior)

    def cost(self, state: SearchState, objective: int) -> Table | None:
        """Return the table of an objective that is known exactly, more being better."""
        expression = state.costs[objective] if state.costs else None
        known = self.costs.get(objective)
        if known is None or known[0] is not expression:
            try:
                table = None if expression is None else tabulate(expression)
            except DecompositionError:
                table = None  # then it is learnt, as what is measured is
            known = self.costs[objective] = (expression, table)
        return known[1]
