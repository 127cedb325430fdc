"""``report``: values on the way to the end of a trial, by which poor ones are stopped early."""

from __future__ import annotations

from collections.abc import Sequence

import optuna

from ..errors import UsageError
from .evaluation import REPORTS

__all__ = ["check_pruner", "pruning", "report"]


def pruning() -> bool:
    """Tell whether what is reported here may end the trial."""
    reports = REPORTS.get()
    return reports is not None and reports.ask is not None


def check_pruner(pruner: optuna.pruners.BasePruner | None, objectives: Sequence[str]) -> None:
    """Raise :class:`UsageError` if a pruner would have nothing to go by."""
    if len(objectives) > 1 and not isinstance(pruner, (optuna.pruners.NopPruner, type(None))):
        raise UsageError(
            f"a pruner has no use for several objectives ({', '.join(objectives)}): Optuna prunes "
            "by a single one; leave it out, or search for one within a budget of the others"
        )


def report(value: float, step: int) -> None:
    """Say, from within ``evaluate``, how good the network is so far.

    The search's pruner may end the trial here: the exception that does so is not to be
    caught.  Outside of a search, and in one for several objectives (where Optuna prunes
    nothing), nothing happens.

    Parameters
    ----------
    value
        The objective, as far as it is known.
    step
        How far training is, such as the number of the epoch, from 0.

    Raises
    ------
    optuna.TrialPruned
        If the trial is not worth going on with.
    UsageError
        If this is no number, or no step.

    Examples
    --------
    >>> def evaluate(network, arch):
    ...     for epoch in range(10):
    ...         accuracy = 0.1 * epoch  # after training a bit
    ...         report(accuracy, epoch)
    ...     return accuracy
    >>> evaluate(None, {})
    0.9
    """
    reports = REPORTS.get()
    if reports is None:
        return
    try:
        told = float(value), int(step)
        is_step = told[1] == step and 0 <= told[1] < 2**31  # as databases hold it
    except (ArithmeticError, RuntimeError, TypeError, ValueError):
        is_step = False
    if not is_step:
        raise UsageError(
            "report takes how good a network is, a number, and how far its training is, a whole "
            f"number from 0, but got {value!r} and {step!r}"
        )
    value, step = told
    reports.values[step] = value
    if reports.ask is not None and reports.ask(value, step):
        raise optuna.TrialPruned(f"stopped at step {step}, at {value}")
