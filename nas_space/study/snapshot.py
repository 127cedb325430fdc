"""Copies of the trials in a file of SQLite, for those who only look on."""

from __future__ import annotations

import json
import math
import sqlite3
from collections import defaultdict
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from .studies import quiet

__all__ = ["snapshot"]

_SCHEMA = "v3.2.0.a"
"""The form of Optuna's tables that is read here."""

_NUMBERS = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}


def snapshot(file: Path) -> InMemoryStorage | None:
    """Copy all searches in a file into memory, without Optuna's own way to a database.

    That loads SQLAlchemy and Alembic and asks for the tables' version, which takes longer than all
    else that ``nas-space runs`` does. Parameters of trials are left out: a search of ours keeps
    whole architectures, as attributes.

    Parameters
    ----------
    file
        Which may be written to by others meanwhile: one transaction reads all.

    Returns
    -------
    InMemoryStorage or None
        ``None`` if the file is not SQLite's, or its tables have another form; ask Optuna then.
    """
    if not file.is_file():
        return None
    try:
        with closing(sqlite3.connect(file, timeout=60, isolation_level=None)) as tables:
            tables.execute("BEGIN")
            if tables.execute("SELECT version_num FROM alembic_version").fetchall() != [(_SCHEMA,)]:
                return None
            with quiet():
                return _copied(tables)
    except (sqlite3.Error, ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
        return None  # or it is damaged: Optuna will say how


def _copied(tables: sqlite3.Connection) -> InMemoryStorage:
    memory = InMemoryStorage()
    directions = _grouped(
        tables,
        "SELECT study_id, objective, direction FROM study_directions ORDER BY objective",
    )
    of_study, of_study_system, of_trial, of_trial_system = (
        _grouped(tables, f"SELECT {whose}_id, key, value_json FROM {whose}_{kind}_attributes")  # noqa: S608 - names of ours
        for whose in ("study", "trial")
        for kind in ("user", "system")
    )
    values = _grouped(
        tables,
        "SELECT trial_id, objective, value, value_type FROM trial_values ORDER BY objective",
    )
    reported = _grouped(
        tables,
        "SELECT trial_id, step, intermediate_value, intermediate_value_type "
        "FROM trial_intermediate_values ORDER BY step",
    )
    ids: dict[int, int] = {}
    for study, name in tables.execute("SELECT study_id, study_name FROM studies"):
        ids[study] = memory.create_new_study(
            [StudyDirection[direction] for _, direction in directions[study]], name
        )
        for key, value in _attributes(of_study[study]).items():
            memory.set_study_user_attr(ids[study], key, value)
        for key, value in _attributes(of_study_system[study]).items():
            memory.set_study_system_attr(ids[study], key, value)
    for trial, number, study, state, began, ended in tables.execute(
        "SELECT trial_id, number, study_id, state, datetime_start, datetime_complete "
        "FROM trials ORDER BY trial_id"
    ):
        measured = [_number(value, kind) for _, value, kind in values[trial]]
        copied = FrozenTrial(
            number=number,
            trial_id=trial,
            state=TrialState[state],
            value=None,
            values=measured or None,
            datetime_start=_time(began),
            datetime_complete=_time(ended),
            params={},
            distributions={},
            user_attrs=_attributes(of_trial[trial]),
            system_attrs=_attributes(of_trial_system[trial]),
            intermediate_values={
                step: _number(value, kind) for step, value, kind in reported[trial]
            },
        )
        memory.create_new_trial(ids[study], template_trial=copied)
    return memory


def _grouped(tables: sqlite3.Connection, query: str) -> defaultdict[int, list[tuple[Any, ...]]]:
    """Return the rows of a query by their first column, without it."""
    found: defaultdict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for whose, *row in tables.execute(query):
        found[whose].append(tuple(row))
    return found


def _attributes(rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    return {key: json.loads(value) for key, value in rows}


def _number(value: float | None, kind: str) -> float:
    return _NUMBERS[kind] if value is None or kind != "FINITE" else value


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
