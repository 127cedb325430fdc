"""Bayesian model averaging: which model proposes is drawn by what the scores say for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import expit

from ..mutable import Sample
from ..mutable.random_words import unit
from .base import SearchState, Strategy
from .gaussian_process import GP
from .thompson import LinearThompson

__all__ = ["ModelAveraging"]

_PRIOR = 1.0
"""Logarithm of the odds of the Gaussian process beforehand."""

_FAVOURITES = 16
"""So many of the best of a linear draw are candidates for the Gaussian process."""


class ModelAveraging(Strategy):
    """Thompson sampling in which the model itself is drawn first.

    Two models of the score are kept.  That of :class:`LinearThompson` says that it is a sum over
    labels and some pairs of them; its draws are maximised exactly, in spaces of any size and within
    any budget.  That of :class:`GP` is a Gaussian process whose kernel is a product over labels, in
    which any number of labels may interact; it is asked about neighbours of the best architectures,
    and about the best ones of a draw of the linear model.

    For each proposal one of them is drawn, with the odds of their marginal likelihoods.  So where
    the scores speak clearly for one model, that one proposes, and where they do not, both do, each
    learning from what the other tried.  With several objectives, with one that is an expression and
    so known exactly, and at the beginning, :class:`LinearThompson` proposes.

    Parameters
    ----------
    initial
        How many random architectures come first.
    temperature
        Of the draws of the linear model, as of :class:`LinearThompson`.  Less than 1, since a
        search ends: what an exploring trial teaches is worth little when few are left.
    pairs
        Whether pairs of labels may interact in the linear model.
    warm_start
        Architectures and a score of each that says something of the objective beforehand, as of
        :class:`LinearThompson`.
    seed
        Of the proposals; that of the search by default.

    Raises
    ------
    UsageError
        If ``initial`` is below 2, ``temperature`` negative, or ``warm_start`` has one architecture
        only.

    References
    ----------
    Hoeting et al., *Bayesian model averaging: a tutorial*, Statistical Science 1999; Russo et al.,
    *A tutorial on Thompson sampling*, 2018; Chapelle and Li, *An empirical evaluation of Thompson
    sampling*, NeurIPS 2011, whose reshaped posterior is the temperature.

    Examples
    --------
    >>> from nas_space.hub import NasBenchMacro
    >>> from nas_space.study import search
    >>> space = NasBenchMacro(init_channels=8)
    >>> def kernels(network, arch):
    ...     return sum(value == "mb6_k5" for value in arch.values())
    >>> result = search(space, kernels, strategy=ModelAveraging(), trials=40, weights="none")
    >>> result.ranked()[0].values["value"]
    8.0
    """

    def __init__(
        self,
        *,
        initial: int = 5,
        temperature: float = 0.7,
        pairs: bool = True,
        warm_start: Sequence[tuple[Mapping[str, Any], float]] = (),
        seed: int | None = None,
    ) -> None:
        self.linear = LinearThompson(
            initial=initial, temperature=temperature, pairs=pairs, warm_start=warm_start
        )
        self.process = GP()
        self.seed = seed

    def propose(self, state: SearchState) -> Sample:
        learnt = [cost for cost in state.costs or (None,) if cost is None]
        if state.objectives > 1 or not learnt or len(state.history) < self.linear.initial:
            return self.linear.propose(state)
        if float(unit(state.words(1))[0]) >= expit(self._log_odds(state)):
            return self.linear.propose(state)
        return self.process.improve(state, self.linear.favourites(state, _FAVOURITES))

    def _log_odds(self, state: SearchState) -> float:
        """Return the logarithm of the odds of the Gaussian process.

        Both likelihoods are of the ranks of the same architectures, with the variance of the
        scores at its best, so what they leave out is the same.
        """
        fit = self.process.fit(state)
        known, odds = self._memory or (None, 0.0)
        if known is not fit:
            chosen = [state.history[place] for place in fit.places]
            difference = fit.likelihood - self.linear.likelihood(state, fit.begun, chosen)
            odds = _PRIOR + float(np.clip(difference, -50, 50))
            self._memory = fit, odds
        return odds
