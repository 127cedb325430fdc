"""One-shot searches: run to the end, kept in a file, and what they found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from ..errors import CheckpointError, DivergenceError, NasSpaceError, StorageError, UsageError
from ..extensions import call
from ..mutable import Sample
from ..profiler import macs
from ..strategy.oneshot import OneShot, OneShotProgress, Run
from ..training import Task, load_state, save_state
from .evaluators import try_one_batch
from .fingerprint import fingerprint

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["OneShotResult", "search_oneshot"]


class OneShotResult:
    """What a one-shot search has found.

    Parameters
    ----------
    run
        The search, done or not.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.space = run.space
        self._within: dict[int, Run] = {}

    def best(self, *, within: Any = None) -> Sample:
        """Return the best architecture.

        Parameters
        ----------
        within
            A restriction of the space, ``space.where(...)``, to look in; by default what was
            searched.  It needs no more training.
        """
        return self._looking(within).best()

    def top(self, k: int, *, within: Any = None) -> list[Sample]:
        """Return up to ``k`` different architectures, the best first; ``within`` as above."""
        return self._looking(within).top(k)

    def network(self, arch: Mapping[str, Any] | None = None, *, within: Any = None) -> Any:
        """Return the network of an architecture, with its trained weights.

        Parameters
        ----------
        arch
            By default the best.
        within
            As of :meth:`best`; not together with an architecture.
        """
        if arch is not None and within is not None:
            raise UsageError("give an architecture, or within= for the best there; not both")
        return self._looking(within).frozen(arch)

    def _looking(self, within: Any) -> Run:
        if within is None:
            return self.run
        known = self._within.get(id(within))
        if known is None or known.space is not within or known.step != self.run.step:
            known = self._within[id(within)] = self.run.within(within)
        return known

    def probabilities(self) -> dict[str, list[tuple[int, list[float]]]]:
        """Return the policy over time: for each label, steps and probabilities of its values."""
        return self.run.probabilities()

    def _repr_html_(self) -> str:
        return str(call("html", self))

    def __repr__(self) -> str:
        name = type(self.run.strategy).__name__
        return f"OneShotResult({name}, step {self.run.step} of {self.run.total})"


def search_oneshot(
    space: Any,
    task: Task,
    strategy: OneShot,
    *,
    steps: int | None = None,
    epochs: float | None = None,
    seed: int = 0,
    storage: str | Path | None = None,
    every: int = 100,
    resume: bool = False,
    callbacks: Sequence[Callable[[OneShotProgress], object]] = (),
    fabric: Fabric | None = None,
) -> OneShotResult:
    """Search a space with shared weights, which are those of the space.

    Parameters
    ----------
    space
        A space, or a restriction of one; its weights are trained in place.
    task
        What to train for; policies learn from its validation data.
    strategy
        The algorithm.
    steps, epochs
        How long: exactly one of the two.
    seed
        The same seed and the same weights to begin with give the same search.
    storage
        A file to keep the state in, written every ``every`` steps and at the end.
    every
        How often.
    resume
        Whether to go on from the file, if it is there; to the same bits, on the CPU.
    callbacks
        Called with the progress after each step.
    fabric
        Where; by default where the space is.

    Raises
    ------
    DivergenceError
        If a loss, or what a policy learns from it, is NaN or infinite; it names the step. The file
        keeps the last state that was written, and the weights are those before the step.
    SpaceError
        If an architecture of the space does not run; it is named.
    StorageError
        If the file is of a search of another space.
    UsageError
        If an argument makes no sense, or no network of the space can be trained and scored on one
        batch of the task.
    """
    if not isinstance(cast("object", task), Task):
        raise UsageError(f"{type(strategy).__name__} trains on a Task, but got {task!r}")
    if resume and storage is None:
        raise UsageError("resume=True needs storage=, the file to resume from")
    if task.validation is not None and (fabric is None or fabric.world_size == 1):
        try_one_batch(space, task, "validation", "inherit", train=True, fabric=fabric)
    run = Run(strategy, space, task, steps=steps, epochs=epochs, seed=seed, fabric=fabric)
    _check_lengths(run, every)
    file = None if storage is None else Path(storage)
    if file is not None and file.exists():
        if not resume:
            raise UsageError(f"{file} is there already; resume=True goes on with it")
        _load(run, file)
    while not run.done:
        progress = _advance(run, file)
        due = progress.step in {progress.total, progress.step // every * every}
        if file is not None and due and run.fabric.is_global_zero:
            save_state(file, {"space": fingerprint(space), "run": run.state_dict()})
        for callback in callbacks:
            callback(progress)
    if run.fabric.world_size > 1:
        run.best()  # together: afterwards, a single process may ask
    return OneShotResult(run)


def _check_lengths(run: Run, every: int) -> None:
    """Refuse a search that would train nothing, or never write its state."""
    if every < 1:
        raise UsageError(f"every must be at least 1, but is {every}")
    if run.total < 1:
        raise UsageError("steps and epochs must be positive: of 0 nothing would be trained")


def _advance(run: Run, file: Path | None) -> OneShotProgress:
    """Do one step; where that fails, say what to make of it."""
    try:
        return run.advance()
    except DivergenceError as error:
        kept = "" if file is None or not file.exists() else f"; the state before is in {file}"
        raise DivergenceError(f"{error}{kept}") from error
    except (RuntimeError, ValueError) as error:
        if not isinstance(error, NasSpaceError):
            _explain(run)
        raise


def _explain(run: Run) -> None:
    """Raise what the profiler finds wrong with an architecture, of which torch names no part."""
    batch = run.training_batch()
    inputs = batch[0] if isinstance(batch, list | tuple) and batch else None
    if run.task.step is None and isinstance(inputs, Tensor):
        macs(run.network, tuple(inputs.shape[1:]), dtype=inputs.dtype)


def _load(run: Run, file: Path) -> None:
    state: Any = load_state(file)
    here = fingerprint(run.space)
    there = state.get("space") if isinstance(state, dict) else None
    if there != here:
        raise StorageError(f"{file} is of another space ({there}, here {here}); give another file")
    try:
        run.load_state_dict(state.get("run"))
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error
