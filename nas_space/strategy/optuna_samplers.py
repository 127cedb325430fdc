"""Optuna's samplers as strategies."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseGASampler, BaseSampler, CmaEsSampler
from optuna.trial import TrialState, create_trial

from ..errors import UsageError, suggest
from ..mutable import Sample
from .base import Evaluated, Searchable, SearchState, Strategy
from .dimensions import Dimension, dimension_of
from .neighbours import decide

__all__ = ["NSGAII", "NSGAIII", "TPE", "OptunaGP", "OptunaSampler"]


class OptunaSampler(Strategy):
    """Proposes what one of Optuna's samplers suggests.

    The sampler is shown the history as trials of a study of its own, in memory, and asked for
    active labels only, in the order in which they are known to be active.  So it learns from
    what was evaluated, also where its own suggestion had to be repaired.

    Parameters
    ----------
    make
        Makes the sampler, from a seed.
    impute
        Whether labels that are not active in an architecture are shown at their defaults.
        Samplers that relate labels to each other otherwise see only those that are active
        in all architectures.

    Raises
    ------
    UsageError
        When a search begins, if the sampler cannot deal with the space.

    Examples
    --------
    >>> from optuna.samplers import TPESampler
    >>> strategy = OptunaSampler(lambda seed: TPESampler(seed=seed, n_ei_candidates=50))
    """

    def __init__(self, make: Callable[[int], BaseSampler], *, impute: bool = False) -> None:
        self.make = make
        self.impute = impute

    def check(self, space: Searchable) -> None:
        with _silent():
            sampler = self.make(0)
        if isinstance(sampler, CmaEsSampler):
            for label, symbol in space.symbols().items():
                kinds = dimension_of(symbol).distributions.values()
                if any(isinstance(kind, CategoricalDistribution) for kind in kinds):
                    raise UsageError(
                        "CMA-ES adapts a normal distribution over numbers; the values of "
                        f"{label!r} have no order, so Optuna draws them independently at random, "
                        "and nothing is learnt of them; use TPE, GP, NSGA-II or evolution"
                    )

    def propose(self, state: SearchState) -> Sample:
        with _silent():
            memory = self._remember(state)
            sampler = self.make(int(state.words(1)[0]) % 2**32)
            study = memory.study
            study.sampler = sampler
            trial = study.ask()
            try:
                return decide(
                    state.space, {}, lambda symbol: memory.dimensions[symbol.name].suggest(trial)
                )
            finally:
                # Samplers overlook it; what is evaluated in the end is shown as a new trial.
                study.tell(trial, state=TrialState.FAIL)

    def _remember(self, state: SearchState) -> _Memory:
        """A study that shows the history, from the last proposal where that goes on from it."""
        memory: _Memory | None = self._memory
        if memory is None or not memory.continues(state):
            memory = self._memory = _Memory(state)
        for evaluated in state.history[len(memory.shown) :]:
            self._show(memory, evaluated)
        return memory

    def _show(self, memory: _Memory, evaluated: Evaluated) -> None:
        """Add an evaluated architecture as a trial."""
        memory.study.add_trial(
            create_trial(
                params=memory.params(evaluated.arch, impute=self.impute),
                distributions=memory.distributions(evaluated.arch, impute=self.impute),
                values=list(evaluated.fitness),
            )
        )
        memory.shown.append(evaluated)


class _Memory:
    """A study in memory, and what it shows."""

    def __init__(self, state: SearchState) -> None:
        self.space = state.space
        self.objectives = state.objectives
        self.study = optuna.create_study(directions=["maximize"] * state.objectives)
        self.shown: list[Evaluated] = []
        self.dimensions: dict[str, Dimension] = {
            label: dimension_of(symbol) for label, symbol in state.space.symbols().items()
        }
        self.defaults = {
            label: dimension.params(dimension.symbol.default_choice())
            for label, dimension in self.dimensions.items()
        }

    def continues(self, state: SearchState) -> bool:
        """Return whether the history is what is shown, or goes on from it."""
        return self.objectives == state.objectives and state.goes_on(self.space, self.shown)

    def params(self, arch: Sample, *, impute: bool) -> dict[str, Any]:
        """Return the parameters that stand for an architecture."""
        params: dict[str, Any] = {}
        for label, dimension in self.dimensions.items():
            if label in arch:
                params |= dimension.params(arch[label])
            elif impute:
                params |= self.defaults[label]
        return params

    def distributions(self, arch: Sample, *, impute: bool) -> dict[str, BaseDistribution]:
        """Return those of the parameters."""
        return {
            name: distribution
            for label, dimension in self.dimensions.items()
            if impute or label in arch
            for name, distribution in dimension.distributions.items()
        }


class _Named(OptunaSampler):
    """One of Optuna's samplers, with arguments of its own."""

    kind: Callable[..., BaseSampler]
    imputes = True

    def __init__(self, **arguments: Any) -> None:
        _check(self.kind, arguments)
        self.arguments = arguments
        super().__init__(self._sampler, impute=self.imputes)

    def _sampler(self, seed: int) -> BaseSampler:
        return self.kind(seed=seed, **self.arguments)


class TPE(_Named):
    """Tree-structured Parzen estimators: likely values of good architectures, unlikely of others.

    Parameters
    ----------
    arguments
        Of :class:`optuna.samplers.TPESampler`.

    References
    ----------
    Bergstra et al., *Algorithms for hyper-parameter optimization*, NeurIPS 2011.
    """

    kind = optuna.samplers.TPESampler
    imputes = False


class OptunaGP(_Named):
    """A Gaussian process as a model of the objectives, and its expected improvement.

    Parameters
    ----------
    arguments
        Of :class:`optuna.samplers.GPSampler`.
    """

    kind = optuna.samplers.GPSampler

    def _sampler(self, seed: int) -> BaseSampler:
        quiet = {"warn_independent_sampling": False, **self.arguments}
        return optuna.samplers.GPSampler(seed=seed, **quiet)


class _Genetic(_Named):
    """A genetic algorithm, whose trials belong to generations."""

    kind: Callable[..., BaseGASampler]

    def _show(self, memory: _Memory, evaluated: Evaluated) -> None:
        # As a running trial first, so that the sampler can say which generation it is of.
        study = memory.study
        waiting = create_trial(
            state=TrialState.WAITING,
            params=memory.params(evaluated.arch, impute=True),
            distributions=memory.distributions(evaluated.arch, impute=True),
        )
        study.add_trial(waiting)
        trial = study.ask()
        frozen = study.get_trials(deepcopy=False)[trial.number]
        sampler = self.kind(seed=0, **self.arguments)
        generation = sampler.get_trial_generation(study, frozen)
        study.tell(trial, list(evaluated.fitness))
        memory.shown.append(evaluated)
        # The parents of the next generation are chosen here, not by the proposal that first needs
        # them: it would draw from them in another order than those after it, which find them kept,
        # and so would the first proposal of a search that is resumed.
        size = sampler.population_size
        if size is not None and len(sampler.get_population(study, generation)) >= size:
            sampler.get_parent_population(study, generation + 1)


class NSGAII(_Genetic):
    """The genetic algorithm NSGA-II, for several objectives.

    Parameters
    ----------
    arguments
        Of :class:`optuna.samplers.NSGAIISampler`.

    References
    ----------
    Deb et al., *A fast and elitist multiobjective genetic algorithm: NSGA-II*, 2002.
    """

    kind = optuna.samplers.NSGAIISampler


class NSGAIII(_Genetic):
    """The genetic algorithm NSGA-III, for many objectives.

    Parameters
    ----------
    arguments
        Of :class:`optuna.samplers.NSGAIIISampler`.

    References
    ----------
    Deb and Jain, *An evolutionary many-objective optimization algorithm*, 2014.
    """

    kind = optuna.samplers.NSGAIIISampler


def _check(kind: Any, arguments: dict[str, Any]) -> None:
    """Refuse arguments that a sampler does not take, or that the search gives."""
    known = [name for name in inspect.signature(kind).parameters if name != "seed"]
    if "seed" in arguments:
        raise UsageError("the seed is that of the search: search(..., seed=...)")
    for name in arguments:
        if name not in known:
            near = suggest(name, known)
            raise UsageError(f"{kind.__name__} takes no {name!r}{near}; it takes {known}")
    with _silent():
        kind(**arguments)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep what Optuna says of the study in memory, which nobody sees, to itself."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
