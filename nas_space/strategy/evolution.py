"""Evolution with aging (Real et al., arXiv 1802.01548)."""

from __future__ import annotations

from ..errors import UsageError
from ..mutable import Sample
from ..mutable.random_words import choose, shuffled
from .base import Evaluated, SearchState, Strategy, check_dedup
from .neighbours import crossover, mutate

__all__ = ["RegularizedEvolution"]


class RegularizedEvolution(Strategy):
    """Mutates the best of a few from a population that always forgets its oldest.

    Parameters
    ----------
    population_size
        How many of the latest architectures the population holds; the first are random.
    sample_size
        How many of them compete to be the parent.  With several objectives, it is one of
        those that none of the others dominates.
    mutation_prob
        Probability that an active label of the parent changes; at least one does.
    crossover
        Whether labels come from a second parent before mutation (off by
        default, as in the paper).
    dedup
        Always: an architecture is tried once.
    seed
        Of the proposals; that of the search by default.

    Raises
    ------
    UsageError
        If a size is not positive, or the probability not between 0 and 1.

    References
    ----------
    Real et al., *Regularized evolution for image classifier architecture search*,
    arXiv 1802.01548.
    """

    def __init__(
        self,
        *,
        population_size: int = 50,
        sample_size: int = 10,
        mutation_prob: float = 0.05,
        crossover: bool = False,
        dedup: bool = True,
        seed: int | None = None,
    ) -> None:
        check_dedup(dedup)
        if not 1 <= sample_size <= population_size:
            raise UsageError(
                "1 <= sample_size <= population_size must hold, but got "
                f"(sample_size={sample_size}, population_size={population_size})"
            )
        if not 0 <= mutation_prob <= 1:
            raise UsageError(f"mutation_prob must be between 0 and 1, but got {mutation_prob}")
        self.population_size = population_size
        self.sample_size = sample_size
        self.mutation_prob = mutation_prob
        self.crossover = crossover
        self.seed = seed

    def propose(self, state: SearchState) -> Sample:
        if len(state.history) < self.population_size:
            return state.sample()
        parent = self._winner(state).arch
        if self.crossover:
            parent = crossover(state.space, parent, self._winner(state).arch, state.words)
        return mutate(state.space, parent, state.words, self.mutation_prob)

    def _winner(self, state: SearchState) -> Evaluated:
        """The best of a few of the population, or one of the best."""
        population = state.history[-self.population_size :]
        few = shuffled(state.words, population)[: self.sample_size]
        best = [one for one in few if not any(other.dominates(one) for other in few)]
        return choose(state.words, best)
