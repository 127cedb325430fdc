"""``SearchResult``: what a search has found, for as long as its study is there."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from ..errors import StorageError, TrialError, UsageError
from ..extensions import call
from ..mutable import Sample
from ..mutable.node import key_of
from ..strategy import Evaluated
from ..strategy.base import dominates, unrestricted
from .ledger import (
    ARCHITECTURE,
    COST,
    ERROR,
    FAILURE,
    METRICS,
    REPAIRED,
    counts,
    number_of,
    sound,
)
from .networks import KeptNetworks
from .objectives import Objective, ranking
from .studies import quiet, unwarned

if TYPE_CHECKING:
    from ..strategy import ScoreModel

__all__ = ["Outcome", "SearchResult"]

State = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of one architecture.

    Attributes
    ----------
    number
        Its place in the search, from 0.
    arch
        The architecture.
    state
        'complete', 'pruned' (stopped early) or 'failed'.
    values
        Objective to value; empty unless complete.
    metrics
        What else was measured.
    seconds
        How long it took.
    repaired
        In how many labels it differs from what the strategy had proposed.
    failure
        The traceback, if it failed.
    cost
        What decides between equal scores: the cost that the space's first budget limits, or else
        the number of parameters; ``None`` where neither is known.
    standard_error
        Of the first objective, on a finite number of examples; ``None`` where it is not known.
    """

    number: int
    arch: Sample
    state: State
    values: Mapping[str, float]
    metrics: Mapping[str, float]
    seconds: float
    repaired: int = 0
    failure: str | None = None
    cost: float | None = None
    standard_error: float | None = None


class SearchResult:
    """What a search has found.

    Attributes
    ----------
    study
        The study of Optuna underneath.
    space
        What was searched; ``None`` where the study was opened without it.
    objectives
        What was looked for.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Any,
        objectives: tuple[Objective, ...],
        weights: str = "inherit",
        networks: KeptNetworks | None = None,
        *,
        taken_up: bool = False,
    ) -> None:
        self.study = study
        self.space = space
        self.objectives = objectives
        self._weights = "fresh" if weights == "fresh" else "inherit"
        self._networks = networks or KeptNetworks(0)
        # Whether a ledger has taken up the trials, which then hold what a search writes.
        self._taken_up = taken_up

    @cached_property
    def outcomes(self) -> list[Outcome]:
        """Every architecture that was tried, in the order of the search."""
        found = [
            self._outcome(trial)
            for trial in self.study.get_trials(deepcopy=False)
            if trial.state.is_finished() and ARCHITECTURE in trial.user_attrs and counts(trial)
        ]
        found.sort(key=lambda outcome: outcome.number)
        for one, other in pairwise(found):
            if one.number == other.number:
                raise StorageError(
                    f"two trials are number {one.number}: their storage is damaged; restore a copy"
                )
        return found

    def _outcome(self, trial: FrozenTrial) -> Outcome:
        names: dict[TrialState, State] = {
            TrialState.COMPLETE: "complete",
            TrialState.PRUNED: "pruned",
        }
        if not self._taken_up:
            sound(trial, len(self.objectives))
        given = trial.values or ()
        values: dict[str, float] = {}
        if trial.state == TrialState.COMPLETE:
            values = {o.name: v for o, v in zip(self.objectives, given, strict=True)}
        failure = trial.user_attrs.get(FAILURE)
        return Outcome(
            number=number_of(trial),
            arch=self._arch(trial),
            state=names.get(trial.state, "failed"),
            values=values,
            metrics=trial.user_attrs.get(METRICS, {}),
            seconds=trial.duration.total_seconds() if trial.duration is not None else 0.0,
            repaired=int(trial.user_attrs.get(REPAIRED, 0)),
            failure=None if failure is None else str(failure),
            cost=trial.user_attrs.get(COST),
            standard_error=trial.user_attrs.get(ERROR),
        )

    def _arch(self, trial: FrozenTrial) -> Sample:
        stored: Sample = trial.user_attrs[ARCHITECTURE]
        return dict(stored) if self.space is None else unrestricted(self.space).canonical(stored)

    @cached_property
    def complete(self) -> list[Outcome]:
        """Those whose objectives are known."""
        return [outcome for outcome in self.outcomes if outcome.state == "complete"]

    @property
    def repaired(self) -> int:
        """How many proposals were not allowed or not new, and gave way to others near them."""
        return sum(outcome.repaired > 0 for outcome in self.outcomes)

    def ranked(self, objective: str | None = None) -> list[Outcome]:
        """Return what is complete, the best first by one objective.

        Parameters
        ----------
        objective
            Its name; the first one by default.  Among equals the other objectives decide, then
            what costs less (:attr:`Outcome.cost`), then the earlier comes first.
        """
        by = self._objective(objective)
        order = [by, *(other for other in self.objectives if other != by)]

        def rank(outcome: Outcome) -> tuple[float, ...]:
            values = [outcome.values[one.name] for one in order]
            return ranking(order, values, outcome.cost, outcome.number)

        return sorted(self.complete, key=rank)

    def sharing(self, objective: str | None = None) -> list[Outcome]:
        """Return the complete trials that share the best score, that of the winner first.

        A small validation set makes many; then the order among them says little.
        """
        by, ranked = self._objective(objective), self.ranked(objective)
        return [one for one in ranked if one.values[by.name] == ranked[0].values[by.name]]

    @property
    def standard_error(self) -> float | None:
        """The standard error of the winner's score on its validation data, where it is known.

        Evaluators of a :class:`~nas_space.training.Task` measure it.
        """
        return self.winner().standard_error if self.complete else None

    def winner(self, objective: str | None = None) -> Outcome:
        """Return the best trial by one objective, the first one by default.

        Raises
        ------
        TrialError
            No trial is complete.
        """
        ranked = self.ranked(objective)
        if not ranked:
            failed = [outcome for outcome in self.outcomes if outcome.failure is not None]
            raise TrialError(
                "no trial is complete, so none is the best"
                + (f"; {len(failed)} failed, the last so:\n{failed[-1].failure}" if failed else "")
            )
        return ranked[0]

    def best(self, objective: str | None = None) -> Sample:
        """Return the best architecture by one objective, the first one by default.

        Raises
        ------
        TrialError
            If no trial is complete.
        """
        return dict(self.winner(objective).arch)

    def top(self, k: int, objective: str | None = None) -> list[Sample]:
        """Return the ``k`` best architectures by one objective, the best first."""
        return [dict(outcome.arch) for outcome in self.ranked(objective)[:k]]

    def pareto(self) -> list[Sample]:
        """Return the architectures that no other dominates, ordered by the first objective."""
        return [dict(outcome.arch) for outcome in self.front()]

    def front(self) -> list[Outcome]:
        """Return :meth:`pareto`, with their values."""

        def fitness(outcome: Outcome) -> tuple[float, ...]:
            return tuple(o.sign * outcome.values[o.name] for o in self.objectives)

        points = [(fitness(outcome), outcome) for outcome in self.ranked()]
        return [
            outcome
            for mine, outcome in points
            if not any(dominates(its, mine) for its, _ in points)
        ]

    def model(self, objective: str | None = None, *, pairs: bool = True) -> ScoreModel:
        """Return what the trials say that each choice is worth, with its uncertainty.

        It prints as a list of effects; :meth:`~nas_space.strategy.ScoreModel.picture` draws them.
        It is an expression, for ``space.best``, ``where`` and ``pareto`` to take; more is better,
        also for an objective that is to be small.

        Parameters
        ----------
        objective
            Its name; the first one by default.
        pairs
            Whether pairs of labels may be worth something together.

        Raises
        ------
        UsageError
            If the study was opened without the space, or fewer than two trials are complete.

        Examples
        --------
        >>> from nas_space.hub import ProxylessNAS
        >>> from nas_space.study import search
        >>> space = ProxylessNAS(num_labels=10, width_mult=0.25)
        >>> def deep(network, arch):
        ...     return sum(value for label, value in arch.items() if label.endswith("depth"))
        >>> result = search(space, deep, trials=40, weights="none")
        >>> model = result.model()
        >>> [best] = space.best(model, maximize=True)
        >>> [value for label, value in best.arch.items() if label.endswith("depth")]
        [4, 4, 4, 4, 4]
        """
        from ..strategy.score_model import fit_model

        if self.space is None:
            raise UsageError("a model is about the labels of a space: open the study with it")
        by = self._objective(objective)
        history = [
            Evaluated(outcome.number, outcome.arch, (by.sign * outcome.values[by.name],))
            for outcome in self.complete
        ]
        return fit_model(self.space, history, pairs=pairs)

    def values(self, arch: Mapping[str, Any]) -> dict[str, float]:
        """Return the objectives of an architecture that was evaluated.

        Raises
        ------
        UsageError
            If it was not.
        """
        arch = dict(arch) if self.space is None else self.space.canonical(arch)
        for outcome in self._of(arch):
            return dict(outcome.values)
        raise UsageError(f"the architecture {arch} was not evaluated in this search")

    def _of(self, arch: Sample) -> Iterator[Outcome]:
        """Yield the complete trials of an architecture."""
        key = key_of(arch, loose=True)
        return (outcome for outcome in self.complete if key_of(outcome.arch, loose=True) == key)

    def network(self, arch: Mapping[str, Any] | None = None) -> Any:
        """Return the network of an architecture, by default of the best one.

        The networks of the best trials have the weights and buffers with which they were scored,
        bit for bit; as many are kept as ``search(keep_networks=...)`` says.  That of any other
        architecture has the weights of the space; or fresh ones, with a warning, if the search
        trained its candidates from these.

        Raises
        ------
        UsageError
            If the study was opened without the space.
        CheckpointError
            If the weights that were kept do not fit, because ``evaluate`` has changed the network.
        """
        from ..training.weights import check_fit
        from .evaluation import make_network

        if self.space is None:
            raise UsageError("networks are made by the space: open the study with it")
        chosen = self.winner().arch if arch is None else self.space.canonical(arch)
        network = make_network(unrestricted(self.space), dict(chosen), self._weights)
        for outcome in self._of(chosen):
            state = self._networks.state(outcome.number)
            if state is not None:
                check_fit(network, state)
                network.load_state_dict(state)
                return network
        if self._weights == "fresh":
            warnings.warn(
                "the weights that this architecture was scored with are not kept here, so its "
                "network is freshly initialised; search(keep_networks=...) says how many are",
                stacklevel=2,
            )
        return network

    def labelled_study(self) -> optuna.Study:
        """Return a copy of the study, in memory, in which labels are parameters.

        For Optuna's own plots and importances.  (In the study itself an architecture is one
        attribute of its trial.)

        Examples
        --------
        >>> from nas_space.hub import ProxylessNAS
        >>> from nas_space.study import search
        >>> result = search(ProxylessNAS(num_labels=10), lambda net, arch: 1.0, trials=3)
        >>> sorted(result.labelled_study().trials[0].params)[:2]
        ['s2_depth', 's2_i0']
        """
        distributions = {
            label: _distribution([o.arch[label] for o in self.outcomes if label in o.arch])
            for label in dict.fromkeys(label for o in self.outcomes for label in o.arch)
        }
        trials = [t for t in self.study.get_trials() if ARCHITECTURE in t.user_attrs and counts(t)]
        with quiet(), unwarned():
            study = optuna.create_study(directions=self.study.directions)
            study.set_metric_names([objective.name for objective in self.objectives])
        for trial in trials:
            arch = self._arch(trial)
            trial.distributions = {label: distributions[label] for label in arch}
            trial.params = {
                label: value if _is_number(value) else str(value) for label, value in arch.items()
            }
            study.add_trial(trial)
        return study

    def to_dataframe(self) -> Any:
        """Return the trials as a table: number, state, seconds, objectives, metrics and labels.

        Returns
        -------
        pandas.DataFrame or dict
            A dict from column to list where pandas is not installed.
        """
        rows = [
            {"number": o.number, "state": o.state, "seconds": o.seconds, "repaired": o.repaired}
            | {objective.name: o.values.get(objective.name) for objective in self.objectives}
            | dict(o.metrics)
            | o.arch
            for o in self.outcomes
        ]
        columns = dict.fromkeys(key for row in rows for key in row)
        table = {column: [row.get(column) for row in rows] for column in columns}
        try:
            pandas = import_module("pandas")
        except ImportError:
            return table
        return pandas.DataFrame(table)

    def _objective(self, name: str | None) -> Objective:
        if name is None:
            return self.objectives[0]
        for objective in self.objectives:
            if objective.name == name:
                return objective
        names = [objective.name for objective in self.objectives]
        raise UsageError(f"there is no objective {name!r}; there are {names}")

    def _repr_html_(self) -> str:
        return str(call("html", self))

    def __repr__(self) -> str:
        found = f"{len(self.complete)} of {len(self.outcomes)} trials complete"
        if self.complete:
            values = self.ranked()[0].values
            found += ", best " + ", ".join(f"{k}={v:.6g}" for k, v in values.items())
            sharing, error = len(self.sharing()), self.standard_error
            found += f", a score that {sharing} share" if sharing > 1 else ""
            found += f", standard error {error:.2g}" if error is not None else ""
        return f"SearchResult({found})"


def _distribution(values: list[Any]) -> BaseDistribution:
    """The range of numbers, or the names of everything else."""
    if not all(_is_number(value) for value in values):
        return CategoricalDistribution(sorted({str(value) for value in values}))
    kind = IntDistribution if all(isinstance(v, int) for v in values) else FloatDistribution
    return kind(min(values), max(values))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
