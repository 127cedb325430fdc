"""A Gaussian process over architectures, whose kernel knows which labels are active."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.special import ndtr

from ..errors import UsageError
from ..mutable import Sample
from .base import Evaluated, SearchState, Strategy
from .candidates import beginning, best_new, candidates, highest, normal_scores, scalarised
from .codes import Codes
from .history_rows import FeatureRows, FitnessRows

__all__ = ["GP"]

Array = npt.NDArray[np.float64]

_MOST_FITTED = 200
"""Lengthscales are fitted to at most so many architectures: half the latest, half the best."""

_MOST_KNOWN = 400
"""The process is given at most so many, or a proposal would take longer the longer a search is."""

_STEPS = 30
"""How many steps fitting them takes at most."""

_NOISE = 0.05
"""The noise that is expected, relative to the variance of the scores."""

_JITTER = 1e-8
"""Keeps the kernel of architectures that are alike invertible."""


class GP(Strategy):
    """A Gaussian process as a model of the score, and its expected improvement.

    The kernel is a product over labels of ``exp(-d / l)``, with a lengthscale ``l`` for each
    label: ``d`` is 0 where two architectures have the same value, or neither has the label; 1
    where one of them has it, or values without an order differ; and for numbers how far apart
    they are.  Lengthscales and noise are those of the highest posterior density.  The score is
    replaced by the normal quantiles of its ranks.  Looked at are the neighbours of the best
    architectures, and some random ones.  With several objectives, weights are drawn anew for each
    proposal.

    Parameters
    ----------
    initial
        How many random architectures come first.
    seed
        Of the proposals; that of the search by default.

    Raises
    ------
    UsageError
        If ``initial`` is below 2.

    References
    ----------
    Ru et al., *Bayesian optimisation over multiple continuous and categorical inputs*, ICML 2020;
    White et al., *A study on encodings for neural architecture search*, NeurIPS 2020.
    """

    def __init__(self, *, initial: int = 10, seed: int | None = None) -> None:
        if initial < 2:
            raise UsageError(f"initial must be at least 2, but got {initial}")
        self.initial = initial
        self.seed = seed

    def propose(self, state: SearchState) -> Sample:
        if len(state.history) < self.initial:
            return state.sample()
        return self.improve(state)

    def improve(self, state: SearchState, more: Sequence[Sample] = ()) -> Sample:
        """Return the candidate of the highest expected improvement.

        Parameters
        ----------
        state
            Of the search; its history has two architectures at least.
        more
            Candidates beside the neighbours of the best and the random ones.
        """
        memory, history = self._remembered(state), state.history
        fitness = scalarised(memory.fitness.of(history), state.words)
        everything = len(fitness) <= _MOST_KNOWN
        chosen = np.arange(len(fitness)) if everything else _subset(fitness, _MOST_KNOWN)
        known = [history[place] for place in chosen.tolist()]
        scores = normal_scores(fitness, chosen)
        options = [*candidates(state, fitness), *more]
        fit, rows = self.fit(state), memory.rows.of(known)
        kernel = LabelKernel(memory.codes, rows, fit.parameters)
        model = GaussianProcess(kernel, scores, memory.covariances.of(fit, known, kernel))
        return best_new(state, options, model.log_improvement(memory.codes.of(options)))

    def fit(self, state: SearchState) -> KernelFit:
        """Return what the kernel has been fitted to, on a beginning of the history.

        Several objectives have another score at each proposal, so the first one serves.
        """
        memory = self._remembered(state)
        size = beginning(len(state.history))
        fit = memory.fit
        if fit is None or len(fit.begun) != size or not state.goes_on(memory.space, fit.begun):
            begun = state.history[:size]
            fitness = np.array([one.fitness[0] for one in begun])
            chosen = _subset(fitness, _MOST_FITTED)
            rows = memory.rows.of([begun[place] for place in chosen])
            parameters, likelihood = fitted(memory.codes, rows, normal_scores(fitness[chosen]))
            fit = KernelFit(begun, tuple(chosen.tolist()), parameters, likelihood)
            memory.fit = fit
        return fit

    def _remembered(self, state: SearchState) -> _ProcessMemory:
        memory: _ProcessMemory | None = self._memory
        if memory is None or memory.space is not state.space:
            memory = self._memory = _ProcessMemory(state.space)
        return memory


@dataclass(frozen=True, eq=False)
class KernelFit:
    """A kernel, and what speaks for it.

    Attributes
    ----------
    begun
        The beginning of the history that it follows from.
    places
        Of those in the history that it was fitted to.
    parameters
        Logarithms of the inverse lengthscales, and last that of the noise.
    likelihood
        Logarithm of the posterior density of the parameters, up to a constant.
    """

    begun: Sequence[Evaluated]
    places: tuple[int, ...]
    parameters: Array
    likelihood: float


class _ProcessMemory:
    """What need not be worked out again at each proposal; it all follows from the history."""

    def __init__(self, space: Any) -> None:
        self.space = space
        self.codes = Codes(space)
        self.rows = FeatureRows(self.codes.of)
        self.fitness = FitnessRows()
        self.fit: KernelFit | None = None
        self.covariances = Covariances()


def _subset(fitness: Array, number: int) -> npt.NDArray[np.intp]:
    """Return the places of the best and the latest, at most so many, in order."""
    half = number // 2
    latest = np.arange(max(0, len(fitness) - half), len(fitness))
    return np.union1d(highest(fitness, half), latest)


def fitted(codes: Codes, rows: Array, scores: Array) -> tuple[Array, float]:
    """Return the parameters of the highest posterior density, and its logarithm.

    The logarithms of the inverse lengthscales, and last that of the noise.
    """
    distances = codes.distances(rows, rows)
    start = _prior_means(len(distances))
    found = minimize(
        loss,
        start,
        args=(distances, scores),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _STEPS},
    )
    return found.x, -float(found.fun)


def loss(parameters: Array, distances: Array, scores: Array) -> tuple[float, Array]:
    """Return minus the logarithm of the posterior density of some parameters, and its slopes.

    The marginal likelihood, with the variance of the scores where it is highest, and normal
    priors: without these, a label that never varied would have any lengthscale.
    """
    number = len(scores)
    inverse, noise = np.exp(parameters[:-1]), np.exp(parameters[-1])
    kernel = np.exp(-np.tensordot(inverse, distances, 1))
    try:
        root = cholesky(kernel + (noise + _JITTER) * np.eye(number), lower=True)
    except LinAlgError:
        return 1e10, np.zeros_like(parameters)
    solved = cho_solve((root, True), scores)
    variance = max(float(scores @ solved) / number, 1e-12)
    value = 0.5 * number * np.log(variance) + np.log(np.diag(root)).sum()
    pull = cho_solve((root, True), np.eye(number)) - np.outer(solved, solved) / variance
    slopes = np.empty_like(parameters)
    slopes[:-1] = -0.5 * inverse * np.tensordot(distances, pull * kernel, 2)
    slopes[-1] = 0.5 * noise * np.trace(pull)
    off = parameters - _prior_means(len(distances))
    return float(value + 0.5 * off @ off), slopes + off


def _prior_means(labels: int) -> Array:
    """Return the means of the parameters, which have unit variance a priori.

    Two architectures that differ in half of the labels have a correlation of ``exp(-1)``.
    """
    means: Array = np.log(np.array([2.0 / max(1, labels)] * labels + [_NOISE]))
    return means


class LabelKernel:
    """A kernel between any architectures and those that are known.

    Parameters
    ----------
    codes
        What rows are of.
    rows
        Of what is known.
    parameters
        Logarithms of the inverse lengthscales, and last that of the noise.
    """

    def __init__(self, codes: Codes, rows: Array, parameters: Array) -> None:
        self.rows = rows
        self.noise = float(np.exp(parameters[-1])) + _JITTER
        self._distances = codes.weighted(np.exp(parameters[:-1]), rows)

    def of(self, rows: Array) -> Array:
        """Return the prior covariances of some architectures with those that are known."""
        distances = self._distances(rows)
        found: Array = np.exp(np.negative(distances, out=distances), out=distances)
        return found


class Covariances:
    """The prior covariances of what is known, of which few change from one proposal to the next.

    They are the same as if all were computed, to the last bit: an entry depends on its two
    architectures alone (:meth:`Codes.weighted`).
    """

    def __init__(self) -> None:
        self._fit: KernelFit | None = None
        self._known: dict[int, tuple[Evaluated, int]] = {}
        self._matrix: Array = np.zeros((0, 0))

    def of(self, fit: KernelFit, known: Sequence[Evaluated], kernel: LabelKernel) -> Array:
        """Return an array ``(architectures, architectures)``, which is not to be changed."""
        if fit is not self._fit:
            self._fit, self._known = fit, {}
        before = [self._known.get(one.number, (None, 0)) for one in known]
        is_new = np.array([kept is not one for one, (kept, _) in zip(known, before, strict=True)])
        if is_new.all():
            matrix = kernel.of(kernel.rows)
        else:
            places = np.array([place for _, place in before])
            matrix = self._matrix[places[:, None], places]
            rows = kernel.of(kernel.rows[is_new])
            matrix[is_new], matrix[:, is_new] = rows, rows.T
        self._known = {one.number: (one, place) for place, one in enumerate(known)}
        self._matrix = matrix
        return matrix


class GaussianProcess:
    """A Gaussian process given some scores.

    Parameters
    ----------
    kernel
        Between any architectures and those that are known.
    scores
        Of these.
    covariances
        Of these, a priori.
    """

    def __init__(self, kernel: LabelKernel, scores: Array, covariances: Array) -> None:
        self.kernel = kernel
        self.root = cholesky(covariances + kernel.noise * np.eye(len(scores)), lower=True)
        self.solved = cho_solve((self.root, True), scores)
        self.variance = max(float(scores @ self.solved) / len(scores), 1e-12)
        self.best = float(covariances.dot(self.solved).max())

    def log_improvement(self, rows: Array) -> Array:
        """Return the logarithm of the expected improvement over the best mean so far.

        The logarithm, since far from the best the improvement itself is zero in floating point.
        """
        kernel = self.kernel.of(rows)
        mean = kernel @ self.solved
        explained = (solve_triangular(self.root, kernel.T, lower=True) ** 2).sum(0)
        deviation = np.sqrt(self.variance * np.maximum(1.0 - explained, 1e-12))
        better: Array = np.log(deviation) + _log_expected_positive((mean - self.best) / deviation)
        return better


def _log_expected_positive(z: Array) -> Array:
    """Return the logarithm of ``E[max(0, z + x)]`` for a standard normal ``x``.

    Where ``z`` is far below zero, by the first terms of the asymptotic series.
    """
    density = -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    near = np.exp(density) + z * ndtr(z)
    far = density - 2.0 * np.log(np.abs(z) + 1e-300) + np.log1p(-3.0 / np.maximum(z**2, 4.0))
    found: Array = np.where(z > -5.0, np.log(np.maximum(near, 1e-300)), far)
    return found
