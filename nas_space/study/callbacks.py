"""``SearchCallback``: what is told of a search while it runs, whichever kind it is."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ..errors import NasSpaceError, UsageError
from ..extensions import call
from ..lazy import installed
from .ledger import ARCHITECTURE, METRICS, counts, number_of
from .studies import objectives_in

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from ..strategy.oneshot import OneShotProgress
    from .objectives import Objective

__all__ = ["SearchCallback", "Tracked", "check_loggers"]


class SearchCallback:
    """What a search tells as it runs: override what is of interest.

    It goes with searches over trials and with one-shot searches: ``callbacks=[...]`` of
    :func:`~nas_space.search` takes such objects beside plain functions.

    Examples
    --------
    >>> import nas_space as ns
    >>> from nas_space.hub import ProxylessNAS
    >>> class Count(SearchCallback):
    ...     trials = 0
    ...
    ...     def on_trial(self, study, trial):
    ...         self.trials += 1
    >>> counted = Count()
    >>> space = ProxylessNAS(num_labels=10, width_mult=0.25)
    >>> result = ns.search(
    ...     space, lambda net, arch: len(arch), trials=3, weights="none", callbacks=[counted]
    ... )
    >>> counted.trials
    3
    """

    def on_begin(self, space: Any, facts: dict[str, Any]) -> None:
        """React to the beginning, before the first trial or step."""

    def on_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """React to a trial that has ended."""

    def on_step(self, progress: OneShotProgress) -> None:
        """React to a step of a one-shot search."""

    def on_end(self, result: Any) -> None:
        """React to the result, when the search has come to its end."""

    def __call__(self, *told: Any) -> None:
        """Tell of a trial or of a step, as functions are told."""
        if len(told) == 2:
            self.on_trial(*told)
        else:
            self.on_step(*told)


class Tracked(SearchCallback):
    """Tell loggers of Lightning what happens: metrics, the policy, the architecture, its picture.

    Parameters
    ----------
    loggers
        Objects with ``log_metrics`` and ``log_hyperparams``, such as ``TensorBoardLogger`` and
        ``CSVLogger`` of ``lightning.fabric``, or ``MLFlowLogger`` and ``WandbLogger`` of
        ``lightning.pytorch``.
    input_shape
        Of one sample, for the picture.
    every
        How many steps of a one-shot search there are between two rows.
    """

    def __init__(
        self, loggers: Sequence[Any], input_shape: tuple[int, ...] | None = None, every: int = 10
    ) -> None:
        self.loggers = list(loggers)
        self.input_shape = input_shape
        self.every = every
        self._space: Any = None
        self._best: dict[str, float] = {}
        self._objectives: list[Objective] = []

    def on_begin(self, space: Any, facts: dict[str, Any]) -> None:
        self._space = space
        self._note(facts)

    def on_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        if ARCHITECTURE not in trial.user_attrs or not counts(trial):
            return
        told = {"state/failed": float(trial.state.name == "FAIL")}
        self._objectives = self._objectives or objectives_in(study)  # a read of the storage
        for objective, value in zip(self._objectives, trial.values or (), strict=False):
            objective.improve(self._best, value)
            told |= {objective.name: value, f"best/{objective.name}": self._best[objective.name]}
        told |= {name: float(v) for name, v in trial.user_attrs.get(METRICS, {}).items()}
        for label, value in trial.user_attrs[ARCHITECTURE].items():
            number = self._number(label, value)
            if number is not None:
                told[f"arch/{label}"] = number
        self._log(told, number_of(trial))

    def on_step(self, progress: OneShotProgress) -> None:
        if progress.step % self.every and progress.step != progress.total:
            return
        self._log({"loss": progress.loss, **progress.metrics}, progress.step)

    def on_end(self, result: Any) -> None:
        from .oneshot import OneShotResult

        if isinstance(result, OneShotResult):
            symbols = result.space.symbols()
            for label, over_time in result.probabilities().items():
                values = [symbols[label].value(code) for code in range(len(over_time[0][1]))]
                names = [f"policy/{label}/{value}" for value in values]
                for step, vector in over_time:
                    self._log(dict(zip(names, vector, strict=True)), step)
        elif not result.complete:
            return
        best = result.best()
        self._note({"best": {label: str(value) for label, value in best.items()}})
        self._picture(best)
        for logger in self.loggers:
            save = getattr(logger, "save", None)
            if callable(save):
                save()
            logger.finalize("success")

    def _number(self, label: str, value: Any) -> float | None:
        """Return a value as a number: itself, or its place among those of the label."""
        if isinstance(value, (int, float)):
            return float(value)
        symbol = self._space.symbols().get(label)
        with suppress(NasSpaceError):
            return None if symbol is None else float(symbol.code(value))
        return None

    def _note(self, facts: dict[str, Any]) -> None:
        for logger in self.loggers:
            with suppress(NotImplementedError):  # Fabric's CSVLogger takes metrics only
                logger.log_hyperparams(facts)

    def _log(self, told: dict[str, float], step: int) -> None:
        for logger in self.loggers:
            logger.log_metrics(dict(told), step=step)

    def _picture(self, arch: dict[str, Any]) -> None:
        """Give the picture of the best architecture to those loggers that have a way to take it."""
        takers = [take for take in map(_taker, self.loggers) if take is not None]
        if not takers:
            return
        try:
            installed("matplotlib", "plots")
        except UsageError as error:
            warnings.warn(f"loggers get no picture of the architecture: {error}", stacklevel=2)
            return
        with TemporaryDirectory() as folder:
            file = Path(folder, "architecture.png")
            call("architecture_picture", self._space, arch, self.input_shape, file)
            for take in takers:
                take(file)


def check_loggers(loggers: Any) -> None:
    """Raise :class:`UsageError` for what is no list of loggers."""
    needed = ("log_metrics", "log_hyperparams", "finalize")
    listed = isinstance(loggers, Sequence) and not isinstance(loggers, str)
    if not listed or not all(hasattr(one, name) for one in loggers for name in needed):
        raise UsageError(
            "loggers is a list of Lightning's, such as "
            f"[lightning.fabric.loggers.CSVLogger('logs')], but got {loggers!r}"
        )


def _taker(logger: Any) -> Any:
    """Return what a logger takes a picture by: W&B, TensorBoard, MLflow; ``None`` for others."""
    if callable(getattr(logger, "log_image", None)):
        return lambda file: logger.log_image("architecture", [str(file)])
    experiment = getattr(logger, "experiment", None)
    if callable(getattr(experiment, "add_image", None)):
        board: Any = experiment
        return lambda file: board.add_image("architecture", _pixels(file), dataformats="HWC")
    if callable(getattr(experiment, "log_artifact", None)) and hasattr(logger, "run_id"):
        client: Any = experiment
        return lambda file: client.log_artifact(logger.run_id, str(file))
    return None


def _pixels(file: Path) -> Any:
    from matplotlib.image import imread

    return imread(file)[..., :3]
