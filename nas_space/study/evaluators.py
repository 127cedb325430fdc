"""Ready-made functions that say how good a network is on a task."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.utils.data import Subset

from ..errors import DataError, DivergenceError, UsageError
from ..mutable import Sample
from ..randomness import device_of, preserved_randomness
from ..strategy.base import unrestricted
from ..training import EarlyStopping, Progress, Task, evaluate, fit, make_fabric, recalibrate
from ..training.batches import is_dataset, length_of
from ..training.early_stopping import check_rules
from ..training.scoring import STANDARD_ERROR, evaluate_with_error
from .evaluation import Evaluator, make_network
from .intermediate import pruning, report
from .ledger import ERROR
from .objectives import Objective, maximize, minimize

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["FromScratch", "Inherited", "from_scratch", "inherited"]

_TRIED = 3
"""Random architectures that all must fail alike before a task is refused."""


@dataclass(frozen=True)
class _OfTask(Evaluator):
    """What evaluators have in common that score networks on a task."""

    task: Task
    _: KW_ONLY
    split: str = "validation"

    def __post_init__(self) -> None:
        task: Any = self.task
        if not isinstance(task, Task):
            raise UsageError(
                "what networks are scored on is a Task, such as Task.classification(train, "
                f"validation=...), but got a {type(task).__name__}"
            )
        task.split(self.split)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The main metric of the task."""
        return (main_objective(self.task),)

    @property
    def measured(self) -> list[str]:
        """What there is to look for."""
        return list(dict.fromkeys([*self.task.metrics, "loss"]))


@dataclass(frozen=True)
class Inherited(_OfTask):
    """Scores networks with the space's weights, without training.

    For a space whose shared weights are trained: batch norms are recalibrated for each
    network, then it is scored.

    Parameters
    ----------
    task
        Whose training data calibrate, and whose metrics score; the main one is the objective.
    batches
        Of training data to recalibrate with; all by default.
    split
        What to score on.

    Raises
    ------
    UsageError
        If the task has no such split.
    """

    _: KW_ONLY
    batches: int | None = None

    weights = "inherit"

    def __call__(self, network: nn.Module, arch: Sample) -> dict[str, float]:
        recalibrate(network, self.task, batches=self.batches)
        return _scored(network, self.task, self.split)

    def check(self, space: Any) -> None:
        """Try one batch; see :func:`try_one_batch`."""
        try_one_batch(space, self.task, self.split, self.weights, train=False)


@dataclass(frozen=True)
class FromScratch(_OfTask):
    """Trains each network from fresh weights, and scores it.

    Where the search has a pruner, it scores after each epoch too and reports that.

    Parameters
    ----------
    task
        What to train for; its main metric is the objective.
    epochs
        How long.
    split
        What to score on.
    device, precision
        Where, as for :func:`~nas_space.training.make_fabric`; by default where the network is.
    seed
        Of the training; the same for all, so that they see the same batches.
    early_stopping
        When to end a training before all epochs are done. The score is then the best of several
        on the same examples, which flatters all candidates alike, a little.

    Raises
    ------
    UsageError
        If ``epochs`` is not positive, or the task has no such split.
    """

    epochs: int = 10
    _: KW_ONLY
    device: str | None = None
    precision: Any = None
    seed: int = 0
    early_stopping: EarlyStopping | None = None

    weights = "fresh"

    def __post_init__(self) -> None:
        super().__post_init__()
        epochs: Any = self.epochs
        if isinstance(epochs, bool) or not isinstance(epochs, Integral) or epochs < 1:
            raise UsageError(f"epochs is a whole number, at least 1, but got {epochs!r}")
        if self.early_stopping is not None:
            check_rules(self.early_stopping, self.task)

    def __call__(self, network: nn.Module, arch: Sample) -> dict[str, float]:
        fabric = self._fabric()
        per_epoch = self.task.steps(1)

        def after_step(progress: Progress) -> None:
            epoch, rest = divmod(progress.step, per_epoch)
            if rest == 0 and epoch < self.epochs:
                scores = evaluate(network, self.task, self.split, fabric=fabric)
                report(scores[self.task.main_metric], epoch - 1)

        fit(
            network,
            self.task,
            epochs=self.epochs,
            fabric=fabric,
            seed=self.seed,
            on_step=after_step if pruning() else None,
            early_stopping=self.early_stopping,
        )
        return _scored(network, self.task, self.split, fabric)

    def _fabric(self) -> Fabric | None:
        return None if self.device is None else make_fabric(self.device, self.precision)

    def check(self, space: Any) -> None:
        """Try one batch; see :func:`try_one_batch`."""
        fabric = self._fabric()
        try_one_batch(space, self.task, self.split, self.weights, train=True, fabric=fabric)


inherited = Inherited
"""The evaluator that scores networks with the weights of the space."""

from_scratch = FromScratch
"""The evaluator that trains each network from fresh weights."""


def _scored(
    network: nn.Module, task: Task, split: str, fabric: Fabric | None = None
) -> dict[str, float]:
    """Score a network, or raise if its numbers are not finite.

    Accuracy is a number even where all outputs are NaN, so weights and the main metric are looked
    at, too.
    """
    scores = evaluate_with_error(network, task, split, fabric=fabric)
    if STANDARD_ERROR in scores:
        scores[ERROR] = scores.pop(STANDARD_ERROR)
    bad = [name for name, weight in network.named_parameters() if not weight.isfinite().all()]
    # A mask may hold infinities on purpose.
    bad += [name for name, buffer in network.named_buffers() if buffer.isnan().any()]
    if bad:
        raise DivergenceError(f"{bad[0]} of the network is not finite, so its score means nothing")
    for name in (task.main_metric, "loss"):
        if not math.isfinite(scores.get(name, 0.0)):
            raise DivergenceError(f"{name} on the {split} data is {scores[name]}")
    return scores


def try_one_batch(
    space: Any,
    task: Task,
    split: str,
    weights: str,
    *,
    train: bool,
    fabric: Fabric | None = None,
) -> None:
    """Take one batch of each kind through a network of a space, before a search begins.

    What fails for several random architectures, and always in the same way, is wrong with the data
    or with the task, and is refused here. What fails for one only is left to the trials.

    Parameters
    ----------
    space
        A space, or a restriction of one; it stays as it is.
    task, split
        What to try, and which data score.
    weights
        Which weights the networks have.
    train
        Whether networks are trained.
    fabric
        Where; by default where the space is.

    Raises
    ------
    UsageError
        If no architecture can be trained and scored so; its cause says why.
    """
    for name in ("train", split):
        if length_of(task.split(name), 1) == 0:
            raise DataError(f"the {name} data is empty")
    failures: list[Exception] = []
    for seed in range(_TRIED):
        try:
            with preserved_randomness(device_of(unrestricted(space))):
                network = make_network(unrestricted(space), space.sample(seed=seed), weights)
                _one_batch(network, task, split, train=train, fabric=fabric)
            return
        except Exception as error:  # noqa: BLE001 - whatever a user's task may run into
            failures.append(error)
        if len({type(error) for error in failures}) > 1:
            return
    first = failures[0]
    raise UsageError(
        f"no network of the space can be trained and scored on one batch: {type(first).__name__}: "
        f"{first}; look at the data, the loss, the metrics and the optimizer of the task"
    ) from first


def _one_batch(
    network: nn.Module, task: Task, split: str, *, train: bool, fabric: Fabric | None
) -> None:
    one = {"train": task.train, split: task.split(split)}
    few = {name: _few(source, task.batch_size) for name, source in one.items()}
    short = replace(task, **few, workers=0)
    if train:
        fit(network, short, steps=1, fabric=fabric)
    evaluate(network, short, split, fabric=fabric)


def _few(source: Any, number: int) -> Any:
    """Return the first examples of a data set, or the first batch of an iterable."""
    if is_dataset(source):
        return Subset(source, range(min(number, len(source))))
    if isinstance(source, Iterator):  # what is taken from it would be missing
        return source
    return _Repeated(next(iter(source)))


class _Repeated:
    """One batch, as often as it is asked for."""

    def __init__(self, batch: Any) -> None:
        self.batch = batch

    def __iter__(self) -> Iterator[Any]:
        return iter([self.batch])


def main_objective(task: Task) -> Objective:
    """Return what searches on a task go by."""
    name = task.main_metric
    return maximize(name) if task.metrics[name].maximize else minimize(name)
