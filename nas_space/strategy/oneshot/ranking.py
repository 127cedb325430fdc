"""``Ranking``: architectures by evaluations with shared weights, main effects first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...errors import DecompositionError, UsageError
from ...mutable import Sample
from ...tables import best
from ..encoding import Encoding
from ..linear_model import WeightPosterior, evidence, with_constant, without_outliers
from .penalty import Penalty

if TYPE_CHECKING:
    from .run import Run

__all__ = ["INTERACTIONS", "MainEffects", "Ranking"]

Array = npt.NDArray[np.float64]

INTERACTIONS = 0.3
"""How much interactions count where nothing else is said."""

_FEWEST = 4
"""So many architectures must have been evaluated for main effects to be told."""


class Ranking:
    """Evaluates candidates with the shared weights, and ranks them.

    Each is frozen, gets its own batch-norm statistics, and is scored on the validation data.  A
    shared weight fits the paths that it was trained on most, so what an evaluation says of a
    *combination* of choices is in large part how well their weights happen to go together, while
    what it says of each choice is a mean over all combinations and holds for networks trained
    alone, too.  So main effects are fitted to the evaluations, and the rest, which is interactions
    and noise, counts only in part.

    Half of the candidates are proposed; the others are those that the main effects of these prefer
    in the whole space, which the tables find exactly.

    Parameters
    ----------
    candidates
        How many architectures are evaluated; more, if more are asked for.
    calibration_batches
        Training batches from which each of them gets its batch-norm statistics.
    interactions
        How much of what an evaluation says beyond the main effects counts: from 0, which is none,
        to 1, where architectures are ranked as they were evaluated.

    Raises
    ------
    UsageError
        If an argument is out of range.
    """

    def __init__(self, candidates: int, calibration_batches: int, interactions: float) -> None:
        if candidates < 1 or calibration_batches < 1:
            raise UsageError(
                "candidates >= 1 and calibration_batches >= 1 must hold, but got "
                f"({candidates=}, {calibration_batches=})"
            )
        if not 0 <= interactions <= 1:
            raise UsageError(f"0 <= interactions <= 1 must hold, but got {interactions}")
        self.candidates = candidates
        self.calibration_batches = calibration_batches
        self.interactions = interactions

    def rank(
        self,
        run: Run,
        k: int,
        propose: Callable[[int], Iterable[Sample]],
        *,
        penalty: Penalty | None = None,
        allowed: Callable[[Sample], bool] | None = None,
    ) -> list[Sample]:
        """Return different architectures, the best first: ``k`` or more, if there are so many.

        Parameters
        ----------
        run
            The run whose weights are shared.
        k
            How many are asked for.
        propose
            Given how many are wanted, yields architectures of the space; they may repeat.
        penalty
            What costs take off the metric.
        allowed
            Which architectures may be found, if not all.
        """
        # Half of the evaluations explore; a model of these says where the other half is best spent.
        # The model predicts the metric without the penalty, which may count for more than it, so
        # with a penalty the policy, which has learned both, proposes all.
        wanted = max(k, self.candidates)
        known: dict[str, Sample] = {}
        proposed = wanted if penalty is not None else wanted - wanted // 2
        _add(run, known, propose(proposed), proposed)
        archs = list(known.values())
        values = [run.fitness(arch, self.calibration_batches) for arch in archs]
        effects = MainEffects(run.space, archs, values)
        if len(archs) < wanted:
            _add(run, known, effects.best(wanted - len(archs), allowed), wanted)
            if len(known) < wanted:
                _add(run, known, propose(wanted), wanted)
            archs = list(known.values())
            values += [run.fitness(arch, self.calibration_batches) for arch in archs[len(values) :]]
            effects = MainEffects(run.space, archs, values)
        scores = effects.discounted(self.interactions)
        if penalty is not None:
            scores = [
                penalty.rewarded(score, penalty.cost(arch))
                for score, arch in zip(scores, archs, strict=True)
            ]
        order = sorted(range(len(archs)), key=lambda place: (-scores[place], place))
        return [archs[place] for place in order]


def _add(run: Run, known: dict[str, Sample], archs: Iterable[Sample], wanted: int) -> None:
    """Add different architectures until there are as many as wanted."""
    for arch in archs:
        if len(known) >= wanted:
            return
        canonical = run.network.canonical(arch)
        known.setdefault(run.network.arch_id(canonical), canonical)


class MainEffects:
    """What each choice is worth in some evaluations: a Bayesian linear model, without interactions.

    Parameters
    ----------
    space
        A space, restricted or not.
    archs
        Architectures of it.
    values
        The fitness of each, more is better; NaN for one that failed.
    """

    def __init__(self, space: Any, archs: Sequence[Sample], values: Sequence[float]) -> None:
        self.space, self.archs = space, list(archs)
        self.values = np.array([-math.inf if math.isnan(value) else value for value in values])
        self.encoding: Encoding | None = None
        valid = np.isfinite(self.values)
        if int(valid.sum()) < _FEWEST:
            return
        self.encoding = Encoding(space)
        rows = with_constant(np.array([self.encoding.row(arch) for arch in archs]))
        # One failure, such as a network that diverged, would otherwise decide the fit: least
        # squares counts it by the square of its distance.
        cut = without_outliers(self.values[valid])
        centre = float(cut.mean())
        noise = evidence(rows[valid] @ rows[valid].T, cut - centre).noise
        self.weights = WeightPosterior(rows[valid], cut - centre, noise).mean
        self.fitted: Array = centre + rows @ self.weights

    def discounted(self, share: float) -> list[float]:
        """Return the values, with only a share of what they have beyond the main effects."""
        if self.encoding is None:
            return [float(value) for value in self.values]
        valid = np.isfinite(self.values)
        mixed = self.values.copy()
        mixed[valid] = (1 - share) * self.fitted[valid] + share * self.values[valid]
        return [float(value) for value in mixed]

    def best(self, k: int, allowed: Callable[[Sample], bool] | None = None) -> list[Sample]:
        """Return up to ``k`` other architectures, those with the best main effects first.

        None, if there are no main effects, or constraints are no matter of tables.
        """
        if self.encoding is None:
            return []
        table = self.encoding.table(self.weights)
        try:
            found = best(self.space, table, k, maximize=True, exclude=self.archs)
        except DecompositionError:
            return []
        archs = [self.encoding.completed(scored.arch, self.weights) for scored in found]
        return [
            arch
            for arch in archs
            if self.space.contains(arch) and (allowed is None or allowed(arch))
        ]
