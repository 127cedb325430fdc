"""``ReconnectingStorage``: a database that may be restarted while a search is under way."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

__all__ = ["ReconnectingStorage"]

_PATIENCE = 300.0
"""Seconds that a database may be away."""

_PAUSE = 5.0
"""Seconds between two attempts, at most."""


class ReconnectingStorage(RDBStorage):
    """Optuna's storage in the database of a server, whose calls wait while that is away.

    A call that is made again may have been carried out already.  Attributes and values are then
    written a second time; of a second trial its driver knows nothing, and gives it up; a state
    that was set is reported as Optuna reports it, and the driver looks what it is.
    """


def _patient(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: ReconnectingStorage, *args: Any, **kwargs: Any) -> Any:
        until, pause = time.monotonic() + _PATIENCE, 0.1
        while True:
            try:
                return method(self, *args, **kwargs)
            except (StorageInternalError, OperationalError, InterfaceError) as error:
                if not _is_away(error) or time.monotonic() >= until:
                    raise
            self.scoped_session.remove()
            time.sleep(pause)
            pause = min(2 * pause, _PAUSE)

    return call


def _is_away(error: BaseException) -> bool:
    """Tell whether a call failed because the server could not be reached, or broke it off."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, DBAPIError) and cause.connection_invalidated:
        return True
    return isinstance(cause, OperationalError | InterfaceError)


for _name in (
    "create_new_study", "delete_study", "set_study_user_attr", "set_study_system_attr",
    "get_study_id_from_name", "get_study_name_from_id", "get_study_directions",
    "get_study_user_attrs", "get_study_system_attrs", "get_all_studies", "_create_new_trial",
    "_set_trial_param", "get_trial_id_from_study_id_trial_number", "_get_best_trial_id",
    "set_trial_state_values", "set_trial_intermediate_value", "set_trial_user_attr",
    "set_trial_system_attr", "get_trial", "_get_trials",
):  # fmt: skip
    setattr(ReconnectingStorage, _name, _patient(getattr(RDBStorage, _name)))
