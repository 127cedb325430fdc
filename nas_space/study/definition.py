"""``SearchDefinition``: the space and the objectives of a search, kept in its study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from ..errors import StorageError, UsageError
from ..schema import checked
from .fingerprint import Described, describe, differences, digest, fingerprint
from .objectives import Objective
from .passwords import without_password
from .storage import Storage
from .studies import name_objectives

__all__ = ["SearchDefinition"]

_ATTRIBUTE = "search"
"""The attribute of a study that holds its definition."""


@dataclass(frozen=True)
class SearchDefinition:
    """The space that is searched, and the objectives.

    Attributes
    ----------
    space
        As :func:`~nas_space.study.describe` gives it.
    fingerprint
        Of the space.
    objectives
        For each its name, its direction, and a digest of its expression if it has one.
    """

    space: Described
    fingerprint: str
    objectives: list[list[Any]]

    @classmethod
    def of(cls, space: Any, objectives: Sequence[Objective]) -> SearchDefinition:
        """Return the definition of a search."""
        return cls(
            describe(space),
            fingerprint(space),
            [
                [o.name, o.direction, None if o.expression is None else digest(o.expression)]
                for o in objectives
            ],
        )

    @classmethod
    def in_study(cls, study: optuna.Study) -> SearchDefinition | None:
        """Return the definition that a study holds; ``None`` if this library did not make it."""
        there = study.user_attrs.get(_ATTRIBUTE)
        if there is None:
            return None
        found: SearchDefinition = checked(there, cls, f"the study {study.study_name!r}")
        return found

    def measured(self) -> tuple[Objective, ...]:
        """Return the objectives, without their expressions."""
        return tuple(Objective(name, direction) for name, direction, _ in self.objectives)

    def claim(self, study: optuna.Study, storage: Storage, *, resume: bool) -> None:
        """Write the definition to a new study, or compare it with that of an old one.

        Raises
        ------
        StorageError
            If the study has another definition; what differs is named.
        UsageError
            If it has trials already, and ``resume`` is not given.
        """
        where = _where(study, storage)
        trials = len(study.get_trials(deepcopy=False))
        if _ATTRIBUTE not in study.user_attrs:
            if trials:
                raise StorageError(
                    f"{where} holds {trials} trials of something else; give another name"
                )
            study.set_user_attr(_ATTRIBUTE, vars(self))
            name_objectives(study, [name for name, *_ in self.objectives])
            return
        there = SearchDefinition.in_study(study)
        assert there is not None
        there.check_space(self, study, storage)
        if there.objectives != self.objectives:
            theirs = [f"{direction} {name}" for name, direction, _ in there.objectives]
            raise StorageError(f"{where} is for other objectives: {theirs}; give another name")
        names = [name for name, *_ in self.objectives]
        if study.metric_names != names:
            name_objectives(study, names)  # who looks on by Optuna goes by them
        if trials and not resume:
            raise UsageError(
                f"{where} has {trials} trials already; resume=True goes on with them, "
                "another name begins anew"
            )

    def check_space(self, other: SearchDefinition, study: optuna.Study, storage: Storage) -> None:
        """Raise :class:`StorageError` if another definition is of another space than this."""
        if self.fingerprint != other.fingerprint:
            where, what = _where(study, storage), "; ".join(differences(self.space, other.space))
            raise StorageError(f"{where} is of another space: {what}; give another name")


def _where(study: optuna.Study, storage: Storage) -> str:
    return f"the study {study.study_name!r}" + (
        f" in {without_password(storage)!r}" if storage else ""
    )
