"""What crosses to a process that an executor runs, and what happens there.

A process is sent the recipe once, which it keeps, and a job for each trial.
"""

from __future__ import annotations

import hashlib
import pickle
import traceback
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from ..errors import NasSpaceError, UsageError
from ..executors import Processes, adapted, capacity_of
from .evaluation import LONGEST, NO_RECIPE, Job, Recipe, Reports
from .ledger import FAILURE, Measurement

if TYPE_CHECKING:
    from .channel import PruningClient

__all__ = ["MakeExecutor", "calls_of", "engine_of"]

MakeExecutor = Callable[[], Executor]
"""Makes an executor, and another one should that break."""


def engine_of(
    given: Executor | MakeExecutor | None, workers: int | None
) -> tuple[Executor, MakeExecutor | None, int]:
    """Return what evaluates, what makes it anew, and how many trials are evaluated at once."""
    make: MakeExecutor | None = None
    if isinstance(given, Executor):
        executor = adapted(given)
    else:
        make = partial(_made, partial(Processes, workers or 1) if given is None else given)
        executor = make()
    slots = workers or capacity_of(executor)
    if slots is None:
        raise UsageError(
            f"{type(executor).__name__} does not tell how many trials it can evaluate at once; "
            "say so by workers="
        )
    return executor, make, slots


def _made(make: MakeExecutor) -> Executor:
    """Return an executor of a function that makes one."""
    try:
        executor: Any = make()
    except NasSpaceError:
        raise
    except Exception as error:
        raise UsageError(
            f"executor= is a function that raised {type(error).__name__}: {error}; what has been "
            "found is kept, for resume=True"
        ) from error
    if not isinstance(executor, Executor):
        raise UsageError(f"executor= gave {executor!r}, which is no concurrent.futures.Executor")
    return adapted(executor)


def calls_of(
    recipe: Recipe, executor: Any, line: PruningClient | None
) -> Callable[[Job, bool], tuple[Any, ...]]:
    """Pickle a recipe once for all jobs; return what gives the function and arguments of a job.

    Parameters
    ----------
    recipe
        Comes along with a job where that is sent whole, for a process that does not have it.
    executor
        Whose processes are to read it.
    line
        Where a process asks whether to go on with a trial; ``None`` where nothing is pruned.

    Raises
    ------
    UsageError
        Something of the recipe cannot be sent to other processes.
    """
    try:
        content = _pickler(executor).dumps(recipe)
    except Exception as error:  # whatever the pickling of what users give runs into
        raise UsageError(
            f"what evaluates trials cannot be sent to other processes: {error}; define "
            "evaluate, and the classes of the space, at the top level of a module, or "
            "evaluate in this process, by workers=1"
        ) from error
    key = hashlib.sha256(content).hexdigest()
    return lambda job, whole: (run_job, key, content if whole else None, line, job)


def _pickler(executor: Any) -> Any:
    """Return what pickles for the processes of an executor.

    Those of this machine run the same script again, so that ``__main__`` is the same there.
    Elsewhere it is another, and what stands in it has to be sent by value: that is what
    cloudpickle is for, which the engines that run processes elsewhere bring along.
    """
    if not isinstance(executor, Processes):
        try:
            import cloudpickle

            return cloudpickle
        except ImportError:
            pass
    return pickle


_KEPT: dict[str, Recipe] = {}
"""The recipe that this process was sent last."""


def run_job(
    key: str, content: bytes | None, line: PruningClient | None, job: Job
) -> Measurement | str:
    """Evaluate a job in this process; or say that its recipe is neither here nor came along."""
    recipe = _KEPT.get(key)
    if recipe is None:
        if content is None:
            return NO_RECIPE
        try:
            recipe = pickle.loads(content)  # noqa: S301 - of our own driver: what its user gave
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever modules do that it imports
            return Measurement(
                TrialState.FAIL,
                attributes={FAILURE: traceback.format_exc()[-LONGEST:]},
                fatal="what evaluates trials cannot be made in a process of the executor: "
                f"{type(error).__name__}: {error}; it must have the same packages and modules",
            )
        _KEPT.clear()
        _KEPT[key] = recipe
    reports = Reports(None if line is None else line.asking(job.attempt.trial))
    return recipe.run(job, reports, sent=True)
