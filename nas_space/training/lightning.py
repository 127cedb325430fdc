"""The methods of a LightningModule as those that a task wants, without Lightning."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ..errors import UsageError
from ..randomness import device_of
from .batches import Source
from .metric import Metric, mean_of_column
from .optimization import Schedule

__all__ = ["LightningSteps", "task_options"]


class Scheduled(Protocol):
    """What a schedule has to know of a task."""

    def steps(self, epochs: float) -> int:
        """Return how many steps some epochs take."""


def task_options(
    module: nn.Module,
    network: str | None,
    metrics: Mapping[str, str],
    sources: Mapping[str, Source | None],
) -> dict[str, Any]:
    """Return the arguments of the task that a module is.

    Parameters
    ----------
    module, network, metrics
        As of :meth:`Task.from_lightning`.
    sources
        By split, the data in place of the module's own.

    Raises
    ------
    UsageError
        As of :meth:`Task.from_lightning`.
    """
    steps = LightningSteps(module, network, tuple(metrics))
    given = {
        name: steps.data(name) if source is None else source for name, source in sources.items()
    }
    wrong = {name: way for name, way in metrics.items() if way not in {"max", "min"}}
    if wrong:
        raise UsageError(f"metrics are to be 'max' or 'min', but there is {wrong}")
    wanted = {
        name: Metric(partial(mean_of_column, column), maximize=way == "max")
        for column, (name, way) in enumerate(metrics.items())
    }
    return {
        **given,
        "metrics": wanted,
        "step": steps.loss,
        "predict": steps.logged,
        "configure": steps.configure,
    }


class LightningSteps:
    """Calls the steps of a module on behalf of a task; see :meth:`Task.from_lightning`.

    Parameters
    ----------
    module
        With ``training_step``, ``validation_step``, ``configure_optimizers``.
    attribute
        Where it holds the network; None if it is the network.
    metrics
        The names of logged values to hand to the metrics, in this order.
    """

    def __init__(self, module: nn.Module, attribute: str | None, metrics: Sequence[str]) -> None:
        if not getattr(module, "automatic_optimization", True):
            raise UsageError(
                f"{type(module).__name__} optimises by hand (automatic_optimization is False); "
                "give a Task with a step of its own instead"
            )
        if attribute is not None:
            _check_is_all(module, attribute)
        self.module = module
        self.attribute = attribute
        self.metrics = metrics
        self._device = device_of(module)

    def data(self, split: str) -> Source | None:
        """Return the loader that the module itself has for a split, or None."""
        method = {"train": "train_dataloader", "validation": "val_dataloader"}.get(split)
        loader = getattr(self.module, method or f"{split}_dataloader", None)
        try:
            return cast("Source | None", loader and loader())
        except Exception as error:
            # Lightning's own method is there on every module, and raises an exception of its own.
            if type(error).__name__ == "MisconfigurationException":
                return None
            raise

    def loss(self, network: nn.Module, batch: Any) -> Tensor:
        """Return the training loss of a batch."""
        with self._in_place(network) as module, _recorded_log(module):
            result = _call(module, "training_step", batch)
        loss = result.get("loss") if isinstance(result, Mapping) else result
        if not isinstance(loss, Tensor):
            raise UsageError(
                f"{type(self.module).__name__}.training_step must return a loss, or a "
                f"dict with 'loss', but returned a {type(result).__name__}"
            )
        return loss

    def logged(self, network: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """Return what ``validation_step`` logs: a row an example, a column a metric."""
        with self._in_place(network) as module, _recorded_log(module) as log:
            _call(module, "validation_step", batch)
        missing = [name for name in self.metrics if name not in log]
        if missing:
            raise UsageError(
                f"{type(self.module).__name__}.validation_step logs no {missing[0]!r}; "
                f"it logs {', '.join(map(repr, log)) or 'nothing'}"
            )
        example = _first_tensor(batch)
        # What is logged is a mean over the batch.  A row for each example, all alike, makes the
        # mean over rows that over examples, also where the last batch is smaller.
        row = torch.tensor([float(log[name]) for name in self.metrics], device=example.device)
        rows = row.expand(len(example), -1)
        return rows, rows

    def configure(
        self, network: nn.Module, task: Scheduled, total_steps: int
    ) -> tuple[Optimizer, Schedule | None]:
        """Return the module's one optimizer for a network, and its schedule."""
        del total_steps  # the module decides by itself
        with self._in_place(network) as module:
            result = cast("Any", module).configure_optimizers()
        optimizer, schedule = _one_of_each(result, type(self.module).__name__)
        config = schedule if isinstance(schedule, Mapping) else {"scheduler": schedule}
        schedule = config["scheduler"]
        if isinstance(schedule, ReduceLROnPlateau):
            raise UsageError(
                "ReduceLROnPlateau needs to be told of a metric, which no training step does; "
                "configure another schedule, or give optimizer= and schedule= to from_lightning"
            )
        period = int(config.get("frequency", 1))
        if config.get("interval", "epoch") == "epoch" and schedule is not None:
            period *= task.steps(epochs=1)
        return optimizer, schedule if schedule is None or period == 1 else _Every(period, schedule)

    @contextmanager
    def _in_place(self, network: nn.Module) -> Iterator[nn.Module]:
        """The module to call, which works on ``network`` meanwhile."""
        if self.attribute is None:
            yield network
            return
        before = getattr(self.module, self.attribute)
        setattr(self.module, self.attribute, network)
        try:
            device = device_of(network)
            if device != self._device:
                # Losses with weights of their own, say, follow the network.
                self.module.to(device)
                self._device = device
            yield self.module
        finally:
            setattr(self.module, self.attribute, before)


class _Every:
    """A schedule that is stepped once in ``period`` steps."""

    def __init__(self, period: int, schedule: Schedule) -> None:
        self.period = period
        self.schedule = schedule
        self.steps = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps % self.period == 0:
            self.schedule.step()

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "schedule": self.schedule.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.schedule.load_state_dict(state["schedule"])
        self.steps = state["steps"]


def _check_is_all(module: nn.Module, attribute: str) -> None:
    """Refuse parameters beside the network, which would be trained but belong to no result."""
    network = getattr(module, attribute, None)
    if not isinstance(network, nn.Module):
        raise UsageError(f"{type(module).__name__}.{attribute} is no module; name the network")
    inside = set(network.parameters())
    outside = [name for name, parameter in module.named_parameters() if parameter not in inside]
    if outside:
        raise UsageError(
            f"{type(module).__name__} has the parameter {outside[0]!r} beside {attribute!r}; "
            "leave out network= to train the whole module"
        )


def _one_of_each(result: Any, name: str) -> tuple[Optimizer, Any]:
    """The optimizer and the schedule, or its description, in what configure_optimizers returns."""
    if isinstance(result, Optimizer):
        return result, None
    if isinstance(result, Mapping):
        return result["optimizer"], result.get("lr_scheduler")
    if isinstance(result, Sequence) and result:
        optimizers, schedules = result, []
        if len(result) == 2 and isinstance(result[0], Sequence):
            optimizers, schedules = result
        if len(optimizers) == 1 and len(schedules) <= 1:
            optimizer, schedule = _one_of_each(optimizers[0], name)
            return optimizer, schedules[0] if schedules else schedule
    raise UsageError(
        f"{name}.configure_optimizers must configure one optimizer with at most one schedule, "
        f"but returned {result!r}; give optimizer= and schedule= to from_lightning"
    )


@contextmanager
def _recorded_log(module: nn.Module) -> Iterator[dict[str, Any]]:
    """Stand in for ``log`` and ``log_dict``, which need a trainer, and keep what they are given."""
    kept: dict[str, Any] = {}

    def log(name: str, value: Any, *_: Any, **__: Any) -> None:
        if hasattr(value, "compute"):  # a metric object, which would go on to accumulate
            metric, value = value, value.compute()
            metric.reset()
        kept[name] = value

    def log_dict(values: Mapping[str, Any], *_: Any, **__: Any) -> None:
        for name, value in values.items():
            log(name, value)

    own = vars(_original(module))
    before: dict[str, Any] = {name: own[name] for name in ("log", "log_dict") if name in own}
    own["log"], own["log_dict"] = log, log_dict
    try:
        yield kept
    finally:
        del own["log"], own["log_dict"]
        own.update(before)


def _call(module: nn.Module, method: str, batch: Any) -> Any:
    step = getattr(module, method)
    takes = inspect.signature(getattr(_original(module), method)).parameters
    return step(batch, 0) if len(takes) > 1 else step(batch)


def _original(module: nn.Module) -> nn.Module:
    """The module itself, of one that Fabric has wrapped."""
    from lightning_fabric.wrappers import is_wrapped

    return cast("nn.Module", module.module) if is_wrapped(module) else module


def _first_tensor(batch: Any) -> Tensor:
    if isinstance(batch, Tensor):
        return batch
    parts = batch.values() if isinstance(batch, Mapping) else batch
    return _first_tensor(next(iter(parts)))
