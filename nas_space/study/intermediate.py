"""``report``: values on the way to the end of a trial, by which poor ones are stopped early."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import optuna

from ..errors import UsageError
from ..mutable.context_stack import Entered

__all__ = ["check_pruner", "report"]

_TRIAL: Entered[optuna.trial.Trial] = Entered("trial")


@contextmanager
def reporting_to(trial: optuna.trial.Trial) -> Iterator[None]:
    """Return a context in which :func:`report` is about a trial."""
    with _TRIAL.entering(trial):
        yield


def pruning() -> bool:
    """Return whether what is reported here may end the trial."""
    trial = _TRIAL.last()
    return (
        trial is not None
        and len(trial.study.directions) == 1
        and not isinstance(trial.study.pruner, optuna.pruners.NopPruner)
    )


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
    trial = _TRIAL.last()
    if trial is None or len(trial.study.directions) > 1:
        return
    trial.report(value, step)
    if trial.should_prune():
        raise optuna.TrialPruned(f"stopped at step {step}, at {value}")
