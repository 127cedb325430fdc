"""The kinds of runs: the stages of each, and the settings of a plan that it heeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError, suggest
from ..strategy import ONE_SHOT, STRATEGIES
from .initialization import zero_last_norms
from .plan import Limits, Plan
from .search_stages import inherited_search, one_shot_search, trained_search
from .stage import Stage
from .tuning_stage import final_training, fine_tuning
from .weight_stages import one_path, random_paths
from .workspace import Workspace

__all__ = ["Kind", "kind_of", "plan_of"]


@dataclass(frozen=True)
class Kind:
    """A kind of run.

    Attributes
    ----------
    stages
        The stages, in their order. They are made before anything is written: what cannot be done
        is refused here.
    defaults
        The settings of a :class:`~nas_space.runs.plan.Plan` that it heeds, beside the strategy,
        and what they are by default.
    limits
        The :class:`Limits` that mean something to it.
    flexible
        The settings that may change when a run is resumed, beside the device.
    compared
        Whether its winner is compared with random architectures and a nearest neighbour.
    """

    stages: Callable[[Workspace, Limits], list[Stage]]
    defaults: Mapping[str, Any]
    limits: frozenset[str] = frozenset()
    flexible: frozenset[str] = frozenset()
    compared: bool = False


def _shared_weights(run: Workspace, limits: Limits) -> list[Stage]:
    """Train the weights along random paths, evolve architectures with them, tune the best."""
    zero_last_norms(run.space)
    return [
        one_path(run),
        random_paths(run),
        inherited_search(run, limits),
        fine_tuning(run, run.plan.finalists + run.plan.rivals),
    ]


def _one_shot(run: Workspace, _: Limits) -> list[Stage]:
    """Train the weights while searching, tune what is found."""
    zero_last_norms(run.space)
    return [one_shot_search(run), fine_tuning(run, 1)]


def _trained(run: Workspace, limits: Limits) -> list[Stage]:
    """Train each candidate by itself, the best one for longer."""
    return [trained_search(run, limits), final_training(run)]


_SHARED_WEIGHTS = Kind(
    _shared_weights,
    {
        "minimize": (),
        "first_steps": 60,
        "steps": 400,
        "trials": 80,
        "population": 30,
        "finalists": 3,
        "fine_tuning": 50,
        "rivals": 3,
        "learning_rate": 0.1,
        "batch_size": 128,
        "epochs": None,
        "calibration": 2,
    },
    limits=frozenset({"workers", "executor"}),
    compared=True,
)

_ONE_SHOT = Kind(
    _one_shot,
    {
        "options": {},
        "minimize": (),
        "steps": 600,
        "fine_tuning": 150,
        "learning_rate": 0.1,
        "batch_size": 64,
        "epochs": None,
    },
)

_TRAINED = Kind(
    _trained,
    {
        "options": {},
        "minimize": (),
        "trials": 30,
        "epochs": 5,
        "final_epochs": 15,
        "learning_rate": 0.1,
        "batch_size": 64,
        "pruner": "none",
        "storage": None,
        "name": "search",
    },
    limits=frozenset({"workers", "executor", "timeout", "failures"}),
    # More trials may be wanted, somewhere else; all else would make trials that do not compare.
    flexible=frozenset({"trials", "final_epochs"}),
)


def kind_of(strategy: str) -> Kind:
    """Return the kind of the runs that search by a strategy.

    Raises
    ------
    UsageError
        There is no such strategy.
    """
    if strategy == "spos":
        return _SHARED_WEIGHTS
    if strategy in ONE_SHOT:
        return _ONE_SHOT
    if strategy in STRATEGIES:
        return _TRAINED
    names = ["spos", *ONE_SHOT, *STRATEGIES]
    near = suggest(strategy, names)
    raise UsageError(f"there is no strategy {strategy!r}{near}; there are {', '.join(names)}")


def plan_of(strategy: str = "spos", **given: Any) -> Plan:
    """Return the plan of a run: the defaults of its kind, but for what is given.

    Parameters
    ----------
    strategy
        As of :class:`~nas_space.runs.plan.Plan`.
    given
        Other settings of it.

    Raises
    ------
    UsageError
        There is no such strategy, or it has no use for a setting.

    Examples
    --------
    >>> plan_of("spos").trials, plan_of("tpe").trials
    (80, 30)
    """
    defaults = kind_of(strategy).defaults
    foreign = sorted(given.keys() - defaults.keys())
    if foreign:
        raise UsageError(f"the strategy {strategy!r} has no use for {', '.join(foreign)}")
    return Plan(strategy, **{**defaults, **given})
