"""A predictor of scores: an ensemble of regressors, asked about neighbours of the best."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.special import ndtri

from ..errors import UsageError
from ..lazy import installed
from ..mutable import Sample
from ..mutable.random_words import below, unit
from .base import Searchable, SearchState, Strategy
from .candidates import best_new, candidates, fitness_of, normal_scores, scalarised
from .encoding import Encoding

__all__ = ["Predictor"]


class Predictor(Strategy):
    """An ensemble of regressors as a model of the score, asked about neighbours of the best.

    Each member is trained on another bootstrap sample of the history; a candidate's score is
    drawn from a normal distribution with the mean and deviation of their predictions (independent
    Thompson sampling, as in BANANAS).  With several objectives, weights are drawn anew for each
    proposal.

    Parameters
    ----------
    estimator
        A regressor of scikit-learn; small neural networks by default.  It is given a row of
        features of active labels for each architecture, and scores with a normal distribution.
    members
        How many regressors there are.
    initial
        How many random architectures come first.
    seed
        Of the proposals; that of the search by default.

    Raises
    ------
    UsageError
        If ``estimator`` is no regressor, or a number is too small; in ``check``, if
        scikit-learn is not installed.

    References
    ----------
    White, Neiswanger and Savani, *BANANAS: Bayesian optimization with neural architectures for
    neural architecture search*, AAAI 2021.
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        members: int = 5,
        initial: int = 10,
        seed: int | None = None,
    ) -> None:
        if members < 2 or initial < 2:
            raise UsageError(
                f"members and initial must be at least 2, but got {members} and {initial}"
            )
        given = estimator is not None
        if given and not (hasattr(estimator, "fit") and hasattr(estimator, "predict")):
            raise UsageError(
                f"estimator must be a regressor of scikit-learn, with fit and predict, but got "
                f"{estimator!r}"
            )
        self.estimator = estimator
        self.members = members
        self.initial = initial
        self.seed = seed

    def check(self, space: Searchable) -> None:
        super().check(space)
        self._regressor()

    def _regressor(self) -> Any:
        """Return a new regressor, not trained."""
        if self.estimator is not None:
            return installed("sklearn.base", "sklearn").clone(self.estimator)
        return installed("sklearn.neural_network", "sklearn").MLPRegressor(
            hidden_layer_sizes=(32, 32), solver="lbfgs", alpha=0.01, max_iter=200
        )

    def propose(self, state: SearchState) -> Sample:
        if len(state.history) < self.initial:
            return state.sample()
        encoding = Encoding(state.space)
        scores = normal_scores(scalarised(fitness_of(state.history), state.words))
        rows = np.array([encoding.row(one.arch) for one in state.history]) / encoding.scale
        options = list(candidates(state, scores))
        asked = np.array([encoding.row(arch) for arch in options]) / encoding.scale
        predicted = np.array([m.predict(asked) for m in self._fitted(state, rows, scores)])
        normal = ndtri(unit(state.words(len(options))))
        return best_new(state, options, predicted.mean(0) + predicted.std(0) * normal)

    def _fitted(self, state: SearchState, rows: Any, scores: Any) -> list[Any]:
        """Return the members, each trained on another part of the history."""
        members = []
        for _ in range(self.members):
            member = self._regressor()
            if "random_state" in member.get_params():
                member.set_params(random_state=int(state.words(1)[0] >> np.uint64(32)))
            some = below(state.words(len(rows)), len(rows))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of steps that did not suffice: few are meant
                members.append(member.fit(rows[some], scores[some]))
        return members
