"""The training loop: one step at a time, each a function of its number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from ..errors import CheckpointError, DivergenceError, UsageError
from ..randomness import device_of, generator_of, preserved_randomness, seed_globally
from .batches import training_batches
from .checkpoint import load_state, save_state
from .early_stopping import EarlyStopping, Watch
from .fabric import check_whole, make_fabric
from .task import Task
from .weights import check_fit

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Progress", "Trainer", "fit"]

PathOf = Callable[[int], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Progress:
    """Where a run of training stands after a step.

    Attributes
    ----------
    step : int
        Steps done.
    total : int
        Steps there are.
    lr : float
        The learning rate of the step, of the first group of parameters.
    loss : float
        The loss of the step, on this process. Reading it waits for the device.
    """

    step: int
    total: int
    lr: float
    _loss: Tensor

    @property
    def loss(self) -> float:
        return float(self._loss)


class Trainer:
    """A run of training that goes one step at a time and can be put down and taken up.

    :func:`fit` is the usual way to one; use this to put something else between the steps.

    Everything random in step ``t`` (the examples, their augmentation, the path, dropout) is derived
    from (seed, ``t``), so a run that is continued from :meth:`state_dict` ends, on the CPU, with
    the very bits it would have ended with. The global generators of torch, numpy and Python are
    seeded within a step and put back after it. They belong to the whole process: do not train in
    two threads of one.

    Parameters
    ----------
    network
        Is trained in place, and moved to the device. Its parameters without a gradient in a step
        are left as they are by it: no momentum, no decay.
    task
        What to train for.
    steps, epochs
        How long: exactly one of the two. A pass over the data need not be a whole number.
    fabric
        Where, see :func:`make_fabric`; by default where the network is. With several processes,
        each takes its share of the joint batch.
    seed
        What the run depends on, next to the network's initial weights.
    path
        ``path(step)`` returns a context to run the forward and backward pass of a step in, such as
        ``space.activate(arch)``. What it draws from global generators is the same in all processes.

    Raises
    ------
    UsageError
        Neither or both of ``steps`` and ``epochs`` are given, there is nothing to train, or the
        fabric shards parameters.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> task = Task.regression(TensorDataset(torch.rand(8, 3), torch.rand(8, 1)), batch_size=4)
    >>> trainer = Trainer(nn.Linear(3, 1), task, steps=2)
    >>> trainer.advance().step, trainer.done
    (1, False)
    >>> trainer.advance().step, trainer.done
    (2, True)
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        *,
        steps: int | None = None,
        epochs: float | None = None,
        fabric: Fabric | None = None,
        seed: int = 0,
        path: PathOf | None = None,
    ) -> None:
        if fabric is not None:
            check_whole(fabric)
        self.network = network
        self.task = task
        self.total = _total(task, steps, epochs)
        self.seed = seed
        self.path = path
        self.step = 0
        self.fabric = fabric or make_fabric(device_of(network))
        optimizer, self.schedule = task.optimization(network, self.total)
        # The wrapper takes care of precision and of other processes; weights stay in `network`.
        self._wrapped, self.optimizer = self.fabric.setup(network, optimizer)
        self._batches: Iterator[Any] | None = None
        network.train()

    @property
    def done(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self.total

    def advance(self) -> Progress:
        """Do one step.

        Returns
        -------
        Progress
            Where the run stands after it.

        Raises
        ------
        UsageError
            All steps are done.
        DivergenceError
            The loss is NaN or infinite. The parameters are those before the step.
        """
        if self.done:
            raise UsageError(f"all {self.total} steps are done; make a new Trainer to go on")
        device = self.fabric.device
        with preserved_randomness(device):
            batch = self._prepared(self._next_batch())
            self._forget()
            # The path must be one for all processes, dropout must not.
            seed_globally(self.seed, "train/path", self.step, device)
            loss = self.gradients(batch)
            self._check(loss)  # before the update, so that the weights are those before the step
            if self.task.clip is not None:
                self.fabric.clip_gradients(
                    self._wrapped,
                    self.optimizer,
                    max_norm=self.task.clip,
                    error_if_nonfinite=False,
                )
            lr = float(self.optimizer.param_groups[0]["lr"])
            self.optimizer.step()
            if self.schedule is not None:
                self.schedule.step()
        self.step += 1
        if self.done:
            self.finish()
        return Progress(self.step, self.total, lr, loss)

    def _prepared(self, batch: Any) -> Any:
        """Return a batch as it is trained on in this step: on the device, augmented, converted."""
        batch, device = self.fabric.to_device(batch), self.fabric.device
        stream = f"train/augment/{self.fabric.global_rank}"
        noise = generator_of(self.seed, stream, self.step, device)
        return self.fabric.strategy.precision.convert_input(self.task.augmented(batch, noise))

    def _check(self, loss: Tensor) -> None:
        """Raise if the loss of a step is not finite, before it spoils the parameters."""
        finite = loss.isfinite().all()
        if self.fabric.world_size > 1:  # all stop, or none
            finite = cast("Tensor", self.fabric.all_reduce(finite.float(), reduce_op="mean")) == 1
        if not finite:
            raise DivergenceError(
                f"the loss of step {self.step} of {self.total} is {float(loss.detach().mean())}, "
                "so training stops before it spoils the weights; lower the learning rate, clip "
                "the gradients (Task(clip=...)), or look for data that are not finite"
            )

    def gradients(self, batch: Any) -> Tensor:
        """Leave the gradients of a step in the parameters, and return its loss, detached.

        A subclass may go along several paths, by :meth:`descend`.
        """
        path = self.path(self.step) if self.path else nullcontext()
        return self.descend(path, lambda: self.task.training_loss(self._wrapped, batch))

    def descend(self, path: AbstractContextManager[Any], loss: Callable[[], Tensor]) -> Tensor:
        """Add the gradients of a loss along a path; return the loss, detached."""
        with path:
            noise = f"train/forward/{self.fabric.global_rank}"
            seed_globally(self.seed, noise, self.step, self.fabric.device)
            # The whole of it, as a step of the task's own may compute outside of the network.
            with self.fabric.autocast():
                value = loss()
            self.fabric.backward(value)
        return value.detach()

    def state_dict(self) -> dict[str, Any]:
        """Return the state between two steps, as a tree that :func:`save_state` takes.

        Its tensors are those of the run, not copies.
        """
        return {
            "run": self._identity(),
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Parameters
        ----------
        state
            As :meth:`state_dict` returned it, in a run of the same task, length and seed.

        Raises
        ------
        CheckpointError
            It is the state of another run, or of another network, which is as it was.
        """
        try:
            there, here = state["run"], self._identity()
            if there != here:
                differing = [k for k in here if there.get(k) != here[k]]
                raise CheckpointError(
                    "the state is of another run: "
                    + ", ".join(
                        f"{k} is {there.get(k)!r} there, {here[k]!r} here" for k in differing
                    )
                    + "; use the same settings to resume, or start a new run"
                )
            # The network last: whatever is refused before leaves it as it was.
            check_fit(self.network, state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.schedule is not None:
                self.schedule.load_state_dict(state["schedule"])
            self.fabric.strategy.precision.load_state_dict(state["precision"])
            self.network.load_state_dict(state["network"])
            self.step = state["step"]
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"this is not the state of such a run: {error!r}") from error
        self._batches = None

    def _identity(self) -> dict[str, Any]:
        return {"seed": self.seed, "total": self.total, "batch_size": self.task.batch_size}

    def _next_batch(self) -> Any:
        if self._batches is None:
            self._batches = training_batches(
                self.task.train,
                self.task.batch_size,
                seed=self.seed,
                start=self.step,
                stop=self.total,
                rank=self.fabric.global_rank,
                processes=self.fabric.world_size,
                workers=self.task.workers,
            )
        return next(self._batches)

    def _forget(self) -> None:
        """Leave no gradients.

        None, not zero: an optimizer passes over parameters that are not on the path.  Its own
        ``zero_grad`` takes several times as long, which the many of a space make felt.
        """
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def finish(self) -> None:
        """Leave no gradients, and the same network in all processes, after the last step."""
        self._forget()
        self._batches = None
        if self.fabric.world_size > 1:
            # Each process has gathered batch-norm statistics of its own share.
            for buffer in self.network.buffers():
                if buffer.is_floating_point():
                    mean = self.fabric.all_reduce(buffer, reduce_op="mean")
                    buffer.copy_(cast("Tensor", mean))


def fit(
    network: nn.Module,
    task: Task,
    *,
    steps: int | None = None,
    epochs: float | None = None,
    fabric: Fabric | None = None,
    seed: int = 0,
    path: PathOf | None = None,
    on_step: Callable[[Progress], object] | None = None,
    checkpoint: str | Path | None = None,
    every: int = 100,
    resume: bool = False,
    early_stopping: EarlyStopping | None = None,
) -> nn.Module:
    """Train a network.

    Parameters
    ----------
    network, task, steps, epochs, fabric, seed, path
        As for :class:`Trainer`.
    on_step
        Is called after each step, to show progress or to measure.
    checkpoint
        A file to keep the state of the run in, written every ``every`` steps and at the end.
    every
        How often. A run that is cut off loses the steps since, which are then done again.
    resume
        Continue from ``checkpoint`` if the file is there. On the CPU the result is, bit for bit,
        that of a run that was never interrupted. Otherwise the file is overwritten.
    early_stopping
        When to end before all steps are done. Only for a network: of a space, no one architecture
        says whether its weights still get better.

    Returns
    -------
    Module
        The network, trained in place, in training mode.

    Raises
    ------
    CheckpointError
        The file to resume from is damaged, or of another run.
    DivergenceError
        A loss is NaN or infinite. The checkpoint is of a step before.
    UsageError
        The arguments do not go together.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> x = torch.rand(64, 3)
    >>> task = Task.regression(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=16)
    >>> losses = []
    >>> net = fit(nn.Linear(3, 1), task, epochs=20, on_step=lambda p: losses.append(p.loss))
    >>> len(losses), losses[-1] < losses[0]
    (80, True)
    """
    if resume and checkpoint is None:
        raise UsageError("resume=True needs checkpoint=, the file to resume from")
    if every < 1:
        raise UsageError(f"every must be at least 1, but is {every}")
    if early_stopping is not None and path is not None:
        raise UsageError("early_stopping scores one network, but path= trains a space; give one")
    trainer = Trainer(
        network, task, steps=steps, epochs=epochs, fabric=fabric, seed=seed, path=path
    )
    watch = None
    if early_stopping is not None:
        watch = Watch(early_stopping, network, task, trainer.total, trainer.fabric)
    file = None if checkpoint is None else Path(checkpoint)
    if resume and file is not None and file.exists():
        state = load_state(file)
        try:
            _load(trainer, watch, state)
        except CheckpointError as error:
            raise CheckpointError(f"{file}: {error}") from error
    ended = trainer.done or (watch is not None and watch.stopped)
    while not ended:
        progress = trainer.advance()
        if watch is not None:
            watch.after(progress.step)
        ended = trainer.done or (watch is not None and watch.stopped)
        if file is not None and (ended or progress.step % every == 0):
            _save(file, trainer, watch)
        if on_step is not None:
            on_step(progress)
    if watch is not None:
        watch.restore()
        trainer.finish()
    return network


_STOPPING = "early_stopping"
"""The key of early stopping in the state of a run."""


def _save(file: Path, trainer: Trainer, watch: Watch | None) -> None:
    """Write the state of a training, by one of its processes."""
    if trainer.fabric.is_global_zero:
        stopping = {} if watch is None else {_STOPPING: watch.state_dict()}
        save_state(file, {**trainer.state_dict(), **stopping})


def _load(trainer: Trainer, watch: Watch | None, state: Any) -> None:
    """Go on from a state; if that is of another run, all is as it was."""
    stopping = state.get(_STOPPING) if isinstance(state, dict) else None
    if watch is not None:
        watch.load_state_dict(stopping)
    elif stopping is not None:
        raise CheckpointError(
            "the state is of a training with early_stopping=; use the same to resume, or start a "
            "new run"
        )
    trainer.load_state_dict(state)


def _total(task: Task, steps: int | None, epochs: float | None) -> int:
    if (steps is None) == (epochs is None):
        raise UsageError("say how long to train: either steps= or epochs=")
    for name, number, kind in (("steps", steps, Integral), ("epochs", epochs, Real)):
        if number is not None and (not isinstance(number, kind) or isinstance(number, bool)):
            what = "a whole number" if kind is Integral else "a number"
            raise UsageError(f"{name} is {what}, but got {number!r}")
    total = cast("int", steps) if epochs is None else task.steps(epochs)
    if total < 0:
        raise UsageError(f"the number of steps must not be negative, but is {total}")
    return total
