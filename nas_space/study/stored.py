"""``open_ledger``: what a search needs beyond memory, for its trials to be stored and shared."""

from __future__ import annotations

import json
from typing import Any

import optuna

from ..errors import UsageError
from ..mutable import MISSING
from ..mutable.node import key_of
from ..strategy.base import unrestricted
from .definition import SearchDefinition
from .ledger import WEIGHTS
from .network_files import networks_of
from .objectives import Objective
from .shared_ledger import SharedLedger
from .storage import Storage, open_storage, reading
from .studies import open_study

__all__ = ["open_ledger", "storable"]


def open_ledger(
    storage: Storage,
    name: str,
    space: Any,
    objectives: tuple[Objective, ...],
    pruner: optuna.pruners.BasePruner | None,
    *,
    weights: str,
    keep_networks: int,
    resume: bool,
    elsewhere: bool,
) -> SharedLedger:
    """Return the trials of a study in a storage, made if there is none.

    Raises
    ------
    StorageError
        It cannot be reached, is damaged, or the study is of something else.
    UsageError
        It has trials already, and ``resume`` is not given.
    """
    definition = SearchDefinition.of(space, objectives)
    with reading(storage):
        study = open_study(open_storage(storage), name, objectives, pruner)
        definition.claim(study, storage, resume=resume)
        study.set_user_attr(WEIGHTS, weights)
        networks = networks_of(storage, name, keep_networks)
        return SharedLedger(study, objectives, networks, space, storage, elsewhere=elsewhere)


def storable(space: Any) -> None:
    """Check that architectures can be written down.

    Raises
    ------
    UsageError
        If a label has values that JSON cannot hold.
    """
    for label, symbol in unrestricted(space).simplify().items():
        for value in getattr(symbol, "values", ()):
            try:
                read = json.loads(json.dumps(value))
            except (TypeError, ValueError):
                read = MISSING
            if key_of(read, loose=True) != key_of(value, loose=True):
                raise UsageError(
                    f"the label {label!r} has the value {value!r}, which cannot be stored; give "
                    "its values as numbers or names, and look up what they stand for"
                )
