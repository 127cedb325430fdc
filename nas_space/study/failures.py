"""Failures of trials: told apart by their reasons, warned of, and what ends a search."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence, Set

import optuna
from optuna.trial import FrozenTrial

from ..errors import TrialError
from .ledger import FAILURE, counts, number_of

__all__ = ["failure_error", "verdict", "warn_of"]

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


def warn_of(study: optuna.Study, trial: FrozenTrial, warned: set[str]) -> None:
    """Warn of a failed trial, unless that was done for its kind of reason."""
    if _kind(trial) in warned:
        return
    warned.add(_kind(trial))
    warnings.warn(
        f"trial {number_of(trial)} of the search {study.study_name!r} failed with "
        f"{reason_of(trial)!r}; further failures of this kind are not told, see result.outcomes",
        stacklevel=2,
    )


def verdict(trials: Sequence[FrozenTrial], before: Set[int], most: int | None) -> TrialError | None:
    """Return the error that ends a search, if too much of it has failed.

    Parameters
    ----------
    trials
        All attempts.
    before
        Optuna's numbers of those that had ended when this driver began.
    most
        How many were allowed to fail and have; ``None`` while there are fewer.
    """
    ended = [t for t in trials if t.state.is_finished() and counts(t)]
    failed = [trial for trial in ended if FAILURE in trial.user_attrs]
    if most is not None:
        return failure_error(
            f"{most} trials have failed, so the search ends",
            failed,
            f"Each trial's traceback is in its attribute {FAILURE!r}; what has been found is "
            "kept. Resume with a larger `failures` to go on all the same",
        )
    new = [trial for trial in ended if trial.number not in before]
    if len(failed) == len(ended) and all_alike(new):
        return failure_error(
            "the first trials have all failed for the same reason, so the search ends",
            [trial for trial in failed if trial.number not in before],
            "Mend it and resume; or say by `failures` how many may fail, to go on all the same",
        )
    return None
