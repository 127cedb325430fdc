"""What crosses to a process that an executor runs, and what happens there.

A process is sent the recipe once, which it keeps, and a job for each trial.
"""

from __future__ import annotations

import hashlib
import pickle
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .evaluation import LONGEST, NO_RECIPE, Job, Measurement, Recipe, Reports

if TYPE_CHECKING:
    from .channel import PruningClient

__all__ = ["SentRecipe"]


@dataclass(frozen=True)
class SentRecipe:
    """A recipe as it is sent: once to each process, which keeps it.

    Attributes
    ----------
    content
        The recipe, pickled.
    key
        Its digest, by which jobs call it.
    line
        Where a process asks whether to go on with a trial; ``None`` where nothing is pruned.
    """

    content: bytes
    key: str
    line: PruningClient | None

    @classmethod
    def of(cls, recipe: Recipe, executor: Any, line: PruningClient | None) -> SentRecipe:
        """Pickle a recipe.

        Raises
        ------
        UsageError
            Something of it cannot be sent to other processes.
        """
        try:
            content = _pickler(executor).dumps(recipe)
        except Exception as error:  # whatever the pickling of what users give runs into
            raise UsageError(
                f"what evaluates trials cannot be sent to other processes: {error}; define "
                "evaluate, and the classes of the space, at the top level of a module, or "
                "evaluate in this process, by workers=1"
            ) from error
        return cls(content, hashlib.sha256(content).hexdigest(), line)

    def job(self, job: Job, *, whole: bool) -> tuple[Any, ...]:
        """Return what to submit: a function and its arguments."""
        return run_job, self.key, self.content if whole else None, self.line, job


def _pickler(executor: Any) -> Any:
    """Return what pickles for the processes of an executor.

    Those of this machine run the same script again, so that ``__main__`` is the same there.
    Elsewhere it is another, and what stands in it has to be sent by value: that is what
    cloudpickle is for, which the engines that run processes elsewhere bring along.
    """
    from ..executors import Processes

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
        except Exception as error:  # noqa: BLE001 - whatever the modules run into that it imports
            return Measurement(
                failure=traceback.format_exc()[-LONGEST:],
                fatal="what evaluates trials cannot be made in a process of the executor: "
                f"{type(error).__name__}: {error}; it must have the same packages and modules",
            )
        _KEPT.clear()
        _KEPT[key] = recipe
    return recipe.run(job, Reports(None if line is None else line.asking(job.attempt)))
