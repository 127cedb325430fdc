"""What a user brings to training: data, loss, metrics, and how to optimise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from ..errors import DataError, UsageError, suggest
from .batches import Source, check_source, length_of
from .data import Splits
from .metric import Metric, accuracy, rmse, squared_error
from .optimization import Schedule, cosine, parameter_groups

if TYPE_CHECKING:
    from .distillation import Divergence

__all__ = ["Metric", "Task"]

Loss: TypeAlias = Callable[[Any, Any], Tensor]
Augmentation: TypeAlias = Callable[[Tensor, torch.Generator], Tensor]

_SPLITS = ("train", "validation", "test")
_SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=4e-5)
_ADAMW = partial(torch.optim.AdamW, lr=3e-4, weight_decay=0.01)


@dataclass(frozen=True, kw_only=True)
class Task:
    """Everything about training and scoring a network except the network.

    Most tasks are :meth:`classification` or :meth:`regression` with an argument or two. By default
    a batch is a pair ``(input, target)``; with a ``step`` and ``predict`` of your own it may be
    anything.

    Parameters
    ----------
    train, validation, test
        For each, a data set of examples, or an iterable of batches such as a
        :class:`~torch.utils.data.DataLoader`. Data sets are preferable: a run on them is resumed
        exactly and at once, in several processes too, and takes ``batch_size`` and ``workers``.
    loss
        ``loss(output, target)``, the mean over the batch. Not needed with a ``step`` of your own.
    metrics
        A :class:`Metric` for each name. The first is the main one, which searches go by.
    optimizer
        Makes an optimizer from a list of parameter groups, such as
        ``partial(torch.optim.AdamW, lr=1e-3)``. Parameters named by the network's
        ``no_weight_decay()`` come in a group with ``weight_decay=0``.
    schedule
        Makes a learning-rate schedule from the optimizer and the number of steps, at each of which
        it is stepped; None for a constant rate.
    batch_size
        Examples in a batch: the joint one, if several processes train.
    augment
        ``augment(input, generator)`` changes a batch of training inputs on the device, drawing from
        the generator only.
    clip
        The largest norm of the gradient; larger ones are scaled down to it.
    workers
        Processes that fetch training batches ahead. Their number does not change the result.
    step
        ``step(network, batch)`` returns the training loss, instead of
        ``loss(network(input), target)``.
    predict
        ``predict(network, batch)`` returns the pair of tensors that metrics take, examples along
        the first axis, instead of ``(network(input), target)``.
    configure
        ``configure(network, task, total_steps)`` returns optimizer and schedule, instead of what
        ``optimizer`` and ``schedule`` make.

    Raises
    ------
    DataError
        What was given as data is none.
    UsageError
        An argument is missing or out of range.

    Examples
    --------
    A task of one's own:

    >>> from torch.utils.data import TensorDataset
    >>> data = TensorDataset(torch.rand(8, 3), torch.rand(8, 1))
    >>> task = Task(
    ...     train=data,
    ...     loss=F.l1_loss,
    ...     metrics={"worst": Metric(lambda y, t: (y - t).abs().max(), maximize=False)},
    ...     batch_size=4,
    ... )
    >>> task.main_metric, task.steps(epochs=3)
    ('worst', 6)
    """

    train: Source
    validation: Source | None = None
    test: Source | None = None
    loss: Loss | None = None
    metrics: Mapping[str, Metric]
    optimizer: Callable[[list[dict[str, Any]]], Optimizer] = _SGD
    schedule: Callable[[Optimizer, int], Schedule | None] | None = cosine
    batch_size: int = 64
    augment: Augmentation | None = None
    clip: float | None = None
    workers: int = 0
    step: Callable[[nn.Module, Any], Tensor] | None = None
    predict: Callable[[nn.Module, Any], tuple[Tensor, Tensor]] | None = None
    configure: Callable[[nn.Module, Task, int], tuple[Optimizer, Schedule | None]] | None = None

    def __post_init__(self) -> None:
        for name in _SPLITS:
            if name == "train" or getattr(self, name) is not None:
                check_source(getattr(self, name), name)
        self._check_functions()
        if self.loss is None and self.step is None:
            raise UsageError("a task needs a loss(output, target), or a step(network, batch)")
        if not self.metrics:
            raise UsageError("a task needs at least one metric; the first is what searches go by")
        self._check_numbers()
        if not isinstance(cast("object", self.metrics), Mapping):
            raise UsageError(f"metrics is a dict from name to Metric, but is {self.metrics!r}")
        for name, metric in cast("Mapping[str, object]", self.metrics).items():
            if not isinstance(metric, Metric):
                raise UsageError(
                    f"metric {name!r} is a {type(metric).__name__}; give a Metric, which says "
                    f"whether more is better: Metric(function, maximize=False)"
                )

    def _check_numbers(self) -> None:
        for name in ("batch_size", "workers"):
            number: object = getattr(self, name)
            if not isinstance(number, Integral) or isinstance(number, bool):
                raise UsageError(f"{name} is a whole number, but is {number!r}")
        if self.batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, but is {self.batch_size}")
        if self.workers < 0:
            raise UsageError(f"workers must be at least 0, but is {self.workers}")
        if self.clip is not None and not self.clip > 0:
            raise UsageError(f"clip must be above 0, or None for no limit, but is {self.clip}")

    def _check_functions(self) -> None:
        """Refuse what should be called later on and cannot be."""
        if isinstance(cast("object", self.optimizer), Optimizer):
            kind = type(self.optimizer).__name__
            raise UsageError(
                f"optimizer is a {kind} of the parameters of one network; each network needs one "
                f"of its own: give what makes it, functools.partial(torch.optim.{kind}, lr=...)"
            )
        makers = {
            "optimizer": "functools.partial(torch.optim.SGD, lr=0.1)",
            "schedule": "nas_space.training.cosine, which makes one from an optimizer and steps",
            "loss": "torch.nn.functional.cross_entropy",
            "augment": "augment(input, generator)",
            "step": "step(network, batch)",
            "predict": "predict(network, batch)",
            "configure": "configure(network, task, total_steps)",
        }
        for name, example in makers.items():
            given = getattr(self, name)
            if not callable(given) and not (given is None and name != "optimizer"):
                raise UsageError(f"{name} is called, such as {example}; but it is {given!r}")

    @classmethod
    def _of(cls, options: Mapping[str, Any]) -> Task:
        """Return the task of some arguments, or say which of them a task does not have."""
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                optimizer = "functools.partial(torch.optim.SGD, lr=0.1, weight_decay=1e-4)"
                hint = suggest(name, known)
                if name in ("lr", "learning_rate", "momentum", "weight_decay", "betas"):
                    hint = f": it belongs to the optimizer, optimizer={optimizer}"
                elif name in ("epochs", "steps"):
                    hint = ": how long to train is said to fit, from_scratch or search"
                raise UsageError(f"a task has no argument {name!r}{hint}")
        return cls(**options)

    @classmethod
    def classification(
        cls,
        train: Source | Splits,
        validation: Source | None = None,
        test: Source | None = None,
        *,
        label_smoothing: float = 0.0,
        **options: Any,
    ) -> Task:
        """Return a task with classes: cross-entropy, and accuracy as the main metric.

        Parameters
        ----------
        train, validation, test
            As for :class:`Task`, the targets being integers from 0. Or one
            :class:`~nas_space.training.Splits` in place of all, whose augmentation is used too.
        label_smoothing
            Of the training loss, from 0 to 1.
        **options
            Any other argument of :class:`Task`.

        Examples
        --------
        >>> from torch.utils.data import TensorDataset
        >>> data = TensorDataset(torch.rand(8, 3), torch.arange(8) % 2)
        >>> task = Task.classification(data, optimizer=partial(torch.optim.AdamW, lr=1e-3))
        >>> list(task.metrics)
        ['accuracy', 'loss']
        """
        defaults = {
            "loss": partial(F.cross_entropy, label_smoothing=label_smoothing),
            "metrics": {
                "accuracy": Metric(accuracy),
                "loss": Metric(F.cross_entropy, maximize=False),
            },
        }
        return cls._of({**_sources(train, validation, test), **defaults, **options})

    @classmethod
    def regression(
        cls,
        train: Source | Splits,
        validation: Source | None = None,
        test: Source | None = None,
        **options: Any,
    ) -> Task:
        """Return a task with numbers as targets: squared error, whose root is the main metric.

        Parameters
        ----------
        train, validation, test
            As for :class:`Task`. Outputs and targets must have the same shape.
        **options
            Any other argument of :class:`Task`.

        Examples
        --------
        >>> from torch.utils.data import TensorDataset
        >>> task = Task.regression(TensorDataset(torch.rand(8, 3), torch.rand(8, 1)))
        >>> list(task.metrics)
        ['rmse', 'mae']
        """
        defaults = {
            "loss": squared_error,
            "metrics": {
                "rmse": Metric(rmse, maximize=False),
                "mae": Metric(F.l1_loss, maximize=False),
            },
        }
        return cls._of({**_sources(train, validation, test), **defaults, **options})

    @classmethod
    def from_lightning(
        cls,
        module: nn.Module,
        *,
        metrics: Mapping[str, str],
        network: str | None = None,
        train: Source | None = None,
        validation: Source | None = None,
        test: Source | None = None,
        **options: Any,
    ) -> Task:
        """Take a LightningModule as a task: its steps, its optimizer, its data.

        ``training_step`` gives the loss, ``configure_optimizers`` the one optimizer with its
        schedule, and what ``validation_step`` logs gives the metrics, on whichever split: for each
        the mean over the examples, every example counting with the value of its batch. Steps get 0
        as the index of the batch. Other hooks are not called, and there is no trainer to ask;
        give ``optimizer`` and ``schedule`` where ``configure_optimizers`` needs one.

        Parameters
        ----------
        module
            Any module with these methods; Lightning itself is not needed.
        metrics
            For each name that ``validation_step`` logs and that is wanted, 'max' or 'min': what is
            better. The first is the main one.
        network
            The attribute of ``module`` that holds the network; whatever is trained or scored takes
            its place for the time of a step. By default the module is the network: train it, or
            what a space of its class freezes to.
        train, validation, test
            As for :class:`Task`; by default what the module's ``train_dataloader`` and so on give.
        **options
            Any other argument of :class:`Task`.

        Raises
        ------
        UsageError
            The module optimises by hand, with several optimizers, or has parameters of its own
            beside the network.
        """
        from .lightning import task_options

        sources = {"train": train, "validation": validation, "test": test}
        own = task_options(module, network, metrics, sources)
        if "optimizer" in options:
            del own["configure"]
        return cls._of(own | options)

    @classmethod
    def distillation(
        cls,
        teacher: nn.Module,
        train: Source | Splits,
        validation: Source | None = None,
        test: Source | None = None,
        *,
        loss: Divergence = "mse",
        temperature: float = 1.0,
        hidden: Sequence[str] | Mapping[str, str] = (),
        attention: Sequence[str] | Mapping[str, str] = (),
        **options: Any,
    ) -> Task:
        """Make a task of doing what a trained network does; it needs no labels.

        The main metric is ``fidelity``, one less the squared error relative to the teacher's
        output; with ``loss='kl'`` it is ``agreement``, how often both prefer the same class.

        Parameters
        ----------
        teacher, loss, temperature, hidden, attention
            As for :class:`~nas_space.training.distillation.Distillation`.
        train, validation, test
            As for :class:`Task`. A batch is a tensor; a tuple whose first element is the input; or
            a mapping, as tokenizers make it. Targets are passed over.
        **options
            Any other argument of :class:`Task`.

        Raises
        ------
        UsageError
            An argument makes no sense, or the teacher is a space.

        Examples
        --------
        >>> from torch.utils.data import TensorDataset
        >>> task = Task.distillation(nn.Linear(3, 2), TensorDataset(torch.rand(8, 3)))
        >>> task.main_metric
        'fidelity'
        """
        from .distillation import Distillation, metrics_of

        teaching = Distillation(
            teacher, loss=loss, temperature=temperature, hidden=hidden, attention=attention
        )
        defaults = {
            "metrics": metrics_of(teaching),
            "step": teaching.loss,
            "predict": teaching.compared,
            "optimizer": _ADAMW,
        }
        return cls(**{**_sources(train, validation, test), **defaults, **options})

    def distilled(
        self,
        teacher: nn.Module,
        *,
        weight: float = 0.5,
        loss: Divergence = "mse",
        temperature: float = 1.0,
        hidden: Sequence[str] | Mapping[str, str] = (),
        attention: Sequence[str] | Mapping[str, str] = (),
    ) -> Task:
        """Return this task with a teacher: its loss is joined by how far the teacher is.

        The network is run once: what its calls return within the task's own step is compared with
        what the teacher returns for the same arguments. So any task can be distilled, those with a
        step of their own included.

        Parameters
        ----------
        teacher, loss, temperature, hidden, attention
            As for :class:`~nas_space.training.distillation.Distillation`.
        weight
            The share of the teacher in the loss, above 0; with 1, labels do not count.

        Raises
        ------
        UsageError
            An argument makes no sense, or the teacher is a space.

        Examples
        --------
        >>> from torch.utils.data import TensorDataset
        >>> data = TensorDataset(torch.rand(8, 3), torch.arange(8) % 2)
        >>> task = Task.classification(data).distilled(nn.Linear(3, 2), weight=0.9)
        >>> task.main_metric
        'accuracy'
        """
        from .distillation import Distillation, DistilledStep

        teaching = Distillation(
            teacher, loss=loss, temperature=temperature, hidden=hidden, attention=attention
        )
        return replace(self, step=DistilledStep(self, teaching, weight))

    @property
    def main_metric(self) -> str:
        """The name of the metric that searches go by."""
        return next(iter(self.metrics))

    def fitness(self, scores: Mapping[str, float], metric: str | None = None) -> float:
        """Return one of ``scores``, by default the main one, its sign such that more is better.

        Examples
        --------
        >>> from torch.utils.data import TensorDataset
        >>> task = Task.regression(TensorDataset(torch.rand(8, 3), torch.rand(8, 1)))
        >>> task.fitness({"rmse": 0.5, "mae": 0.4})
        -0.5
        """
        name = metric or self.main_metric
        return scores[name] if self.metrics[name].maximize else -scores[name]

    def split(self, name: str) -> Source:
        """Return the data of a split: 'train', 'validation' or 'test'.

        Raises
        ------
        UsageError
            The task has no such split.
        """
        source: Source | None = getattr(self, name) if name in _SPLITS else None
        if source is None:
            there = ", ".join(repr(n) for n in _SPLITS if getattr(self, n) is not None)
            raise UsageError(f"the task has no {name!r} data; it has {there}")
        return source

    def steps(self, epochs: float) -> int:
        """Return how many steps make ``epochs`` passes over the training data, rounded up.

        Raises
        ------
        UsageError
            The data has no length.
        """
        per_epoch = length_of(self.train, self.batch_size)
        if per_epoch is None:
            raise UsageError("the training data has no length: say steps=, not epochs=")
        # Rounded first: 77 steps must not become 78 because 1.1 * 70 is 77.00000000000001.
        return math.ceil(round(per_epoch * epochs, 6))

    def training_loss(self, network: nn.Module, batch: Any) -> Tensor:
        """Return the loss of one batch, to go backward from."""
        if self.step is not None:
            return self.step(network, batch)
        inputs, target = _pair(batch)
        assert self.loss is not None
        return self.loss(network(inputs), target)

    def outputs(self, network: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the outputs and targets of one batch, for the metrics."""
        if self.predict is not None:
            return self.predict(network, batch)
        inputs, target = _pair(batch)
        return network(inputs), target

    def augmented(self, batch: Any, generator: torch.Generator) -> Any:
        """Return the batch with ``augment`` applied to its inputs."""
        if self.augment is None:
            return batch
        inputs, *rest = _pair(batch)
        return (self.augment(inputs, generator), *rest)

    def optimization(
        self, network: nn.Module, total_steps: int
    ) -> tuple[Optimizer, Schedule | None]:
        """Make the optimizer and the schedule for training a network for ``total_steps``."""
        if self.configure is not None:
            return self.configure(network, self, total_steps)
        optimizer = self.optimizer(parameter_groups(network))
        return optimizer, self.schedule(optimizer, total_steps) if self.schedule else None


def _sources(
    train: Source | Splits, validation: Source | None, test: Source | None
) -> dict[str, Any]:
    if not isinstance(train, Splits):
        return {"train": train, "validation": validation, "test": test}
    if validation is not None or test is not None:
        raise UsageError("a Splits brings its own validation and test data; give it alone")
    return {name: getattr(train, name) for name in (*_SPLITS, "augment")}


def _pair(batch: Any) -> Any:
    if not isinstance(batch, Sequence) or len(batch) != 2:
        raise DataError(
            f"a batch is a {type(batch).__name__}, not a pair (input, target); give a data set of "
            "pairs, or a step= and a predict= that take the batches as they are"
        )
    return batch
