"""Failures of trials: told apart by their reasons, warned of, and what ends a search."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial

from ..errors import TrialError
from .ledger import FAILURE, number_of

__all__ = ["FailureWarnings", "all_alike", "failure_error", "reason_of"]

_HOPELESS = 3
"""How many failures for the same reason, before anything has worked, show that nothing will."""


def reason_of(trial: FrozenTrial) -> str:
    """Return the last line of the traceback of a failed trial."""
    lines = str(trial.user_attrs[FAILURE]).strip().splitlines()
    # A message of several lines has its head where the indented frames end.
    frames = [place for place, line in enumerate(lines) if line.startswith("  ")]
    return lines[min(frames[-1] + 1, len(lines) - 1)] if frames else lines[-1]


def _kind(trial: FrozenTrial) -> str:
    """Return the reason without numbers and addresses, which differ between architectures."""
    return re.sub(r"0x[0-9a-fA-F]+|\d+(\.\d+)?", "#", reason_of(trial))


def all_alike(trials: Sequence[FrozenTrial]) -> bool:
    """Tell whether the first trials that ended all failed, and all for the same reason."""
    first = sorted(trials, key=number_of)[:_HOPELESS]
    failed = [trial for trial in first if FAILURE in trial.user_attrs]
    return len(failed) == _HOPELESS and len({_kind(trial) for trial in failed}) == 1


def failure_error(what: str, trials: Sequence[FrozenTrial], advice: str) -> TrialError:
    """Return the error that ends a search, with the cause of the first failure.

    Parameters
    ----------
    what
        What is wrong with the search.
    trials
        Those that failed.
    advice
        What to do.
    """
    first = min(trials, key=number_of)
    error = TrialError(
        f"{what}; trial {number_of(first)} failed with {reason_of(first)!r}. {advice}"
    )
    error.add_note(f"The first failure:\n{first.user_attrs[FAILURE]}")
    return error


class FailureWarnings:
    """A callback of a search that warns of failed trials, once for each kind of reason."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:
        if FAILURE not in trial.user_attrs or _kind(trial) in self._seen:
            return
        self._seen.add(_kind(trial))
        warnings.warn(
            f"trial {number_of(trial)} of the search {study.study_name!r} failed with "
            f"{reason_of(trial)!r}; further failures of this kind are not told, see "
            "result.outcomes",
            stacklevel=2,
        )
