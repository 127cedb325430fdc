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
from ..mutable import CategoricalMultiple, MutableSymbol, Sample
from .base import SearchState, Strategy
from .candidates import beginning, best_new, candidates, normal_scores, scalarised
from .encoding import quantile_of

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

_NONE = -2.0
"""Stands for a label that is not active; values are codes, or from 0 to 1 if they have an order."""

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
        codes = Codes(state.space)
        scores = normal_scores(scalarised(state.history, state.words))
        everything = len(scores) <= _MOST_KNOWN
        chosen = np.arange(len(scores)) if everything else _subset(scores, _MOST_KNOWN)
        known = codes.of([state.history[place].arch for place in chosen])
        model = GaussianProcess(codes, known, scores[chosen], self.fit(state).parameters)
        options = [*candidates(state, scores), *more]
        return best_new(state, options, model.log_improvement(codes.of(options)))

    def fit(self, state: SearchState) -> KernelFit:
        """Return what the kernel has been fitted to, on a beginning of the history.

        Several objectives have another score at each proposal, so the first one serves.
        """
        size = beginning(len(state.history))
        key = tuple(one.number for one in state.history[:size])
        memory: tuple[Any, KernelFit] | None = self._memory
        if memory is None or memory[0] is not state.space or memory[1].key != key:
            codes = Codes(state.space)
            fitness = np.array([one.fitness[0] for one in state.history[:size]])
            chosen = _subset(fitness, _MOST_FITTED)
            rows = codes.of([state.history[place].arch for place in chosen])
            parameters, likelihood = fitted(codes, rows, normal_scores(fitness[chosen]))
            fit = KernelFit(key, tuple(chosen.tolist()), parameters, likelihood)
            memory = self._memory = (state.space, fit)
        return memory[1]


@dataclass(frozen=True)
class KernelFit:
    """A kernel, and what speaks for it.

    Attributes
    ----------
    key
        The numbers of the architectures that it follows from.
    places
        Of those in the history that it was fitted to.
    parameters
        Logarithms of the inverse lengthscales, and last that of the noise.
    likelihood
        Logarithm of the posterior density of the parameters, up to a constant.
    """

    key: tuple[int, ...]
    places: tuple[int, ...]
    parameters: Array
    likelihood: float


def _subset(fitness: Array, number: int) -> npt.NDArray[np.intp]:
    """Return the places of the best and the latest, at most so many, in order."""
    half = number // 2
    best = np.argsort(-fitness, kind="stable")[:half]
    return np.union1d(best, np.arange(max(0, len(fitness) - half), len(fitness)))


class Codes:
    """Architectures as vectors in which labels are compared one by one.

    Parameters
    ----------
    space
        Its labels; a choice of several counts as a label for each member.
    """

    def __init__(self, space: Any) -> None:
        self.symbols: list[tuple[str, MutableSymbol[Any]]] = [
            (name, symbol) for name, symbol in space.symbols().items() if symbol.size != 1
        ]
        self.width = sum(
            len(symbol.values) if isinstance(symbol, CategoricalMultiple) else 1
            for _, symbol in self.symbols
        )

    def of(self, archs: Sequence[Sample]) -> Array:
        """Return an array ``(architectures, columns)``; inactive labels are far from all values."""
        found = np.full((len(archs), self.width), _NONE)
        place = 0
        for name, symbol in self.symbols:
            if isinstance(symbol, CategoricalMultiple):
                width = len(symbol.values)
                for row, arch in enumerate(archs):
                    if name in arch:
                        members = np.zeros(width)
                        members[list(symbol.places(symbol.code(arch[name])))] = 1
                        found[row, place : place + width] = members
                place += width
                continue
            number = quantile_of(symbol) or symbol.code
            found[:, place] = [number(arch[name]) if name in arch else _NONE for arch in archs]
            place += 1
        return found

    def distances(self, one: Array, other: Array) -> Array:
        """Return how far apart architectures are in each column, ``(columns, one, other)``."""
        # At least 1 between two values without an order, as between one that is there and none.
        apart = np.abs(one.T[:, :, None] - other.T[:, None, :])
        found: Array = np.minimum(apart, 1.0, out=apart)
        return found


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


class GaussianProcess:
    """A Gaussian process given some scores."""

    def __init__(self, codes: Codes, rows: Array, scores: Array, parameters: Array) -> None:
        self.codes, self.rows, self.inverse = codes, rows, np.exp(parameters[:-1])
        kernel = self._kernel(rows)
        noise = np.exp(parameters[-1]) + _JITTER
        self.root = cholesky(kernel + noise * np.eye(len(scores)), lower=True)
        self.solved = cho_solve((self.root, True), scores)
        self.variance = max(float(scores @ self.solved) / len(scores), 1e-12)
        self.best = float(kernel.dot(self.solved).max())

    def _kernel(self, rows: Array) -> Array:
        found: Array = np.exp(-np.tensordot(self.inverse, self.codes.distances(rows, self.rows), 1))
        return found

    def log_improvement(self, rows: Array) -> Array:
        """Return the logarithm of the expected improvement over the best mean so far.

        The logarithm, since far from the best the improvement itself is zero in floating point.
        """
        kernel = self._kernel(rows)
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
