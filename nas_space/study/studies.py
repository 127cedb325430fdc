"""Studies of Optuna: made for a search, named, and silenced."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection

from ..errors import UsageError
from .objectives import Objective, maximize, minimize

__all__ = [
    "NoSampler",
    "in_memory",
    "name_objectives",
    "objectives_in",
    "open_study",
    "quiet",
    "unwarned",
]


def open_study(
    storage: BaseStorage,
    name: str,
    objectives: tuple[Objective, ...],
    pruner: optuna.pruners.BasePruner | None,
) -> optuna.Study:
    """Return the study of a name, made if there is none."""
    with quiet():
        return optuna.create_study(
            storage=storage,
            study_name=name,
            directions=[objective.direction for objective in objectives],
            sampler=NoSampler(),
            pruner=pruner or optuna.pruners.NopPruner(),
            load_if_exists=True,
        )


def in_memory(
    name: str, objectives: tuple[Objective, ...], pruner: optuna.pruners.BasePruner | None
) -> optuna.Study:
    """Return a new study in memory."""
    study = open_study(InMemoryStorage(), name, objectives, pruner)
    name_objectives(study, [objective.name for objective in objectives])
    return study


def name_objectives(study: optuna.Study, names: list[str]) -> None:
    """Tell Optuna what the values of trials are called."""
    with unwarned():
        study.set_metric_names(names)


def objectives_in(study: optuna.Study) -> list[Objective]:
    """Return what a study looks for, as Optuna knows it: without expressions."""
    names = study.metric_names or [f"value {place}" for place in range(len(study.directions))]
    maximized = [direction == StudyDirection.MAXIMIZE for direction in study.directions]
    return [maximize(n) if up else minimize(n) for n, up in zip(names, maximized, strict=True)]


class NoSampler(optuna.samplers.RandomSampler):
    """Strategies propose whole architectures, so Optuna is never asked to suggest anything."""

    def sample_independent(
        self, study: Any, trial: Any, param_name: str, param_distribution: Any
    ) -> Any:
        raise UsageError(
            f"nothing can be suggested for {param_name!r}: architectures come from the strategy; "
            "make it a label of the space"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna, which logs every trial; a search shows its own progress."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(level, optuna.logging.ERROR))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


@contextmanager
def unwarned() -> Iterator[None]:
    """Silence what Optuna says of interfaces that may change; tests would notice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
