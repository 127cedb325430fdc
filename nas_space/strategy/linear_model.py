"""Bayesian linear regression, with the strength of the noise by marginal likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.special import ndtri

from ..mutable.random_words import Words, unit

__all__ = [
    "Evidence",
    "WeightPosterior",
    "evidence",
    "left_out",
    "with_constant",
    "without_outliers",
]

Array = npt.NDArray[np.float64]

_NOISES = tuple(10.0 ** (step / 2) for step in range(-8, 2))
"""Variances of the noise that are compared, relative to that of a weight."""


_FARTHEST = 4.0
"""So many deviations below the median, a value is that of a failure, and cut off."""


def without_outliers(values: Array) -> Array:
    """Return values, those far below the others raised to where the outliers begin."""
    # 1.4826 times the median absolute deviation is the standard deviation of a normal distribution,
    # and no outlier moves it.
    middle = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - middle))
    return np.maximum(values, middle - _FARTHEST * spread) if spread > 0 else values


@dataclass(frozen=True, order=True)
class Evidence:
    """What speaks for a model.

    Attributes
    ----------
    likelihood
        Logarithm of the marginal likelihood of the scores, up to a constant.
    noise
        Variance of the noise, relative to that of a weight.
    """

    likelihood: float
    noise: float


def with_constant(rows: Array) -> Array:
    """Return features with one more, which all architectures share."""
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)


def evidence(kernel: Array, scores: Array) -> Evidence:
    """Return the noise under which scores are most likely, and how likely they are.

    Parameters
    ----------
    kernel
        Prior covariance of the scores: inner products of features.
    scores
        The scores.

    Notes
    -----
    For a given noise, the variance of the weights that maximises the likelihood is known, so one
    number is looked for, and one decomposition serves for all of its values.
    """
    values, vectors = np.linalg.eigh(kernel)
    values = np.maximum(values, 0.0)
    squares = (vectors.T @ scores) ** 2
    found = []
    for noise in _NOISES:
        spread = values + noise
        scale = max(float((squares / spread).mean()), 1e-300)
        likelihood = -0.5 * (len(scores) * np.log(scale) + np.log(spread).sum())
        found.append(Evidence(float(likelihood), noise))
    return max(found)


def left_out(kernel: Array, scores: Array, noise: float) -> Array:
    """Return what a model predicts of each score from all others (leave one out)."""
    inverse = np.linalg.inv(kernel + noise * np.eye(len(scores)))
    found: Array = scores - (inverse @ scores) / np.diag(inverse)
    return found


class WeightPosterior:
    """The posterior of the weights of a linear model, whose prior is normal.

    Parameters
    ----------
    rows
        Features, of shape ``(architectures, width)``.
    scores
        One for each.
    noise
        Variance of the noise, relative to that of a weight.

    Attributes
    ----------
    mean
        Of the weights.
    scale
        Variance of a weight, a priori.
    """

    def __init__(self, rows: Array, scores: Array, noise: float) -> None:
        self.rows, self.scores, self.noise = rows, scores, noise
        number, width = rows.shape
        self.wide = width > number
        # The smaller of two systems that say the same (the matrix inversion lemma).
        gram = rows @ rows.T if self.wide else rows.T @ rows
        self.root = cholesky(gram + noise * np.eye(len(gram)), lower=True)
        if self.wide:
            solved = cho_solve((self.root, True), scores)
            self.mean: Array = rows.T @ solved
        else:
            self.mean = cho_solve((self.root, True), rows.T @ scores)
            solved = (scores - rows @ self.mean) / noise
        self.scale = max(float(scores @ solved) / number, 1e-12)

    def draw(self, words: Words, temperature: float = 1.0) -> Array:
        """Return weights drawn from the posterior.

        Parameters
        ----------
        words
            Random words to draw from.
        temperature
            Factor on how far they are from the mean.
        """
        number, width = self.rows.shape
        normal = ndtri(unit(words(width)))
        if self.wide:
            # A draw from the prior, corrected by what it would have made of the data (Matheron).
            noise = np.sqrt(self.noise) * ndtri(unit(words(number)))
            off = cho_solve((self.root, True), self.rows @ normal + noise)
            deviation = normal - self.rows.T @ off
        else:
            deviation = np.sqrt(self.noise) * self._solved(normal, trans="T")
        drawn: Array = self.mean + temperature * np.sqrt(self.scale) * deviation
        return drawn

    def deviations(self, rows: Array) -> Array:
        """Return the standard deviation of some linear functions of the weights."""
        if self.wide:
            explained = self._solved(self.rows @ rows.T)
            variance = (rows**2).sum(1) - (explained**2).sum(0)
        else:
            variance = self.noise * (self._solved(rows.T) ** 2).sum(0)
        found: Array = np.sqrt(self.scale * np.maximum(variance, 0.0))
        return found

    def _solved(self, right: Array, trans: Literal["N", "T"] = "N") -> Array:
        found: Array = solve_triangular(self.root, right, lower=True, trans=trans)
        return found
