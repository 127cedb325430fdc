"""``Run``: a one-shot search under way, that can be put down and taken up at any step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from ...errors import CheckpointError, DivergenceError, InfeasibleError, UsageError
from ...mutable import Sample
from ...nn.decisions import Traced
from ...randomness import (
    generator_of,
    preserved_randomness,
    seed_globally,
    seed_of,
)
from ...training import Task, evaluate, recalibrate, training_batches
from ...training.modes import preserved_buffers, preserved_modes
from ...training.weights import check_fit
from .algorithm import OneShot
from .policy import allowed_codes, over_time
from .progress import OneShotProgress
from .trainer import SharedWeightsTrainer

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Run"]

_ATTEMPTS = 1000
_PATIENCE = 100


class Run:
    """A one-shot search under way.

    Everything random at step ``t`` is derived from (seed, ``t``), so a run that is continued from
    :meth:`state_dict` ends, on the CPU, with the very bits it would have ended with.

    Parameters
    ----------
    strategy
        The algorithm.
    space
        A space, or a restriction of one: whatever is drawn and found is within it.
    task
        What to train for.  Policies learn from the validation data.
    steps, epochs
        How long the weights are trained: exactly one of the two.
    seed
        What the run depends on, next to the weights that the space has.
    fabric
        Where; by default where the space is.

    Attributes
    ----------
    network
        The whole space, whose weights are trained in place.
    symbols, allowed
        Its labels, and the codes that those may have of which the restriction excludes some.
    policy, optimizer
        What is learned beside the weights, and how.
    memory
        Numbers that an algorithm remembers from one step to the next.
    notes
        What it has worked out once, and would work out again to the same.

    Raises
    ------
    UsageError
        If the arguments do not go together.
    SpaceError
        If the algorithm cannot deal with the space.

    Examples
    --------
    >>> from nas_space.strategy.oneshot import RandomOneShot
    >>> from torch.utils.data import TensorDataset
    >>> from nas_space.nn import LayerChoice, ModelSpace
    >>> class Net(ModelSpace):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.op = LayerChoice([nn.Linear(3, 1), nn.Linear(3, 1)], label="op")
    ...
    ...     def forward(self, x):
    ...         return self.op(x)
    >>> data = TensorDataset(torch.rand(8, 3), torch.rand(8, 1))
    >>> task = Task.regression(data, validation=data, batch_size=4)
    >>> run = Run(RandomOneShot(), Net(), task, steps=2)
    >>> while not run.done:
    ...     progress = run.advance()
    >>> sorted(run.best())
    ['op']
    """

    def __init__(
        self,
        strategy: OneShot,
        space: Any,
        task: Task,
        *,
        steps: int | None = None,
        epochs: float | None = None,
        seed: int = 0,
        fabric: Fabric | None = None,
    ) -> None:
        if strategy.needs_validation and task.validation is None:
            raise UsageError(
                f"{type(strategy).__name__} compares architectures on validation data, but the "
                "task has none; give validation=..."
            )
        getattr(space, "space", space).check_shared_weights()
        strategy.check(space)
        if strategy.gradient_clip_val is not None:
            task = replace(task, clip=strategy.gradient_clip_val)
        self.strategy, self.space, self.task, self.seed = strategy, space, task, seed
        self.network: Any = getattr(space, "space", space)
        self.symbols = self.network.symbols()
        self.allowed = allowed_codes(space)
        self.trainer = SharedWeightsTrainer(
            self.network,
            task,
            lambda batch: strategy.train(self, batch),
            steps=steps,
            epochs=epochs,
            seed=seed,
            fabric=fabric,
        )
        self.fabric = self.trainer.fabric
        self.warmup = task.steps(strategy.warmup_epochs) if strategy.warmup_epochs else 0
        self.policy: Any = None
        self.optimizer: Optimizer | None = None
        if learned := strategy.policy(self):
            self.policy, self.optimizer = learned
            if self.warmup >= self.total:
                raise UsageError(
                    f"the warm-up takes {self.warmup} steps, but there are only {self.total}, so "
                    "that no policy would be learned; lower warmup_epochs, or train longer"
                )
        self.memory: dict[str, float] = {}
        self.notes: dict[str, Any] = {}
        self._history: list[tuple[int, dict[str, list[float]]]] = []
        self._batches: Iterator[Any] | None = None
        self._ranked: tuple[int, int, list[Sample]] | None = None
        with preserved_randomness(self.fabric.device):
            strategy.rehearse(self)
        self._batches = None  # the rehearsal took one; the search begins with the first

    # -- going on ----------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """Steps done."""
        return self.trainer.step

    @property
    def total(self) -> int:
        """Steps there are."""
        return self.trainer.total

    @property
    def done(self) -> bool:
        """Whether all steps are done."""
        return self.trainer.done

    def advance(self) -> OneShotProgress:
        """Do one step: of the policy, once the warm-up is over, and of the weights.

        Raises
        ------
        UsageError
            All steps are done.
        """
        numbers: Mapping[str, Any] = {}
        if not self.done:
            self._note()
            if self.step >= self.warmup:
                with preserved_randomness(self.fabric.device):
                    self.seed_as("learn")
                    numbers = self.strategy.learn(self)
        progress = self.trainer.advance()
        if self.done:
            self._note()
            self._batches = None
        return OneShotProgress(progress, numbers)

    def seed_as(self, stream: str) -> None:
        """Seed the global generators, of dropout for example, for some purpose at this step.

        Each process gets random numbers of its own, as it has a batch of its own.
        """
        stream = f"oneshot/{stream}/{self.fabric.global_rank}"
        seed_globally(self.seed, stream, self.step, self.fabric.device)

    def _note(self) -> None:
        if self.done or self.step % self.strategy.log_prob_every_n_step == 0:
            found = self.strategy.probabilities(self)
            now = {label: _listed(vector) for label, vector in found.items()}
            self._history.append((self.step, now))

    # -- for algorithms ----------------------------------------------------------------------

    def generator(self, stream: str) -> torch.Generator:
        """Return a generator of this step's own random numbers for some purpose, on the CPU."""
        return generator_of(self.seed, f"oneshot/{stream}", self.step)

    def seed_for(self, stream: str) -> int:
        """Return a seed, as :meth:`generator` returns a generator."""
        return seed_of(self.seed, f"oneshot/{stream}", self.step)

    def policy_batch(self) -> Any:
        """Return the next batch of validation data, on the device; one for each step at most."""
        # Where a run is continued, the stream begins at the batch of this step: one batch is taken
        # at each step after the warm-up, by every algorithm, so the number of steps says which.
        if self._batches is None:
            self._batches = training_batches(
                self.task.split("validation"),
                self.task.batch_size,
                seed=self.seed,
                start=max(0, self.step - self.warmup),
                stream="policy",
                rank=self.fabric.global_rank,
                processes=self.fabric.world_size,
                workers=self.task.workers,
            )
        batch = self.fabric.to_device(next(self._batches))
        return self.fabric.strategy.precision.convert_input(batch)

    def loss(self, batch: Any) -> Tensor:
        """Return the training loss of what is active, for the weights to go down."""
        return self.task.training_loss(self.trainer.wrapped, batch)

    def policy_loss(self, batch: Any) -> Tensor:
        """Return the loss of what is active, for a policy to go down: weights get no gradient."""
        with self.fabric.autocast():
            return self.task.training_loss(self.network, batch)

    def along(self, arch: Mapping[str, Any]) -> Traced:
        """Return a context in which the space is one architecture, and only that one is trained."""
        return self.trainer.along(arch)

    def descend(self, path: AbstractContextManager[Any], loss: Callable[[], Tensor]) -> Tensor:
        """Add the gradients of the weights for a loss along a path; return the loss."""
        return self.trainer.descend(path, loss)

    def accepted(self, draw: Callable[[], Sample]) -> Sample:
        """Return what is drawn, again and again until it is in the space.

        Raises
        ------
        InfeasibleError
            If a thousand in a row are outside of the restriction.
        """
        found = self._first_within(draw, _ATTEMPTS)
        if found is not None:
            return found
        raise InfeasibleError(
            f"none of {_ATTEMPTS} architectures that the policy drew is in the restricted space; "
            "loosen its conditions, or say what architectures cost by a penalty instead"
        )

    def preferred(self, draw: Callable[[], Sample]) -> Sample:
        """Return :meth:`accepted`, or a random architecture of the space if it takes too long.

        For training weights: a policy that learns by gradients may well come to prefer what is
        outside of a restriction.
        """
        found = self._first_within(draw, _PATIENCE)
        return self.space.sample(seed=self.seed_for("preferred")) if found is None else found

    def _first_within(self, draw: Callable[[], Sample], attempts: int) -> Sample | None:
        every = (draw() for _ in range(attempts))
        return next((arch for arch in every if self.space.contains(arch)), None)

    def training_batch(self) -> Any:
        """Return the batch that the weights will be trained on at this step."""
        return self.trainer.coming()

    @property
    def learning_rate(self) -> float:
        """That of the weights at this step."""
        return float(self.trainer.optimizer.param_groups[0]["lr"])

    def statistics_as_they_are(self) -> AbstractContextManager[None]:
        """Return a context after which buffers, such as running statistics, are put back."""
        return preserved_buffers(self.network)

    @contextmanager
    def weights_as_they_are(self) -> Iterator[None]:
        """Enter :meth:`statistics_as_they_are`; weights get no gradient, which saves memory."""
        trained = [p for p in self.network.parameters() if p.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            with self.statistics_as_they_are():
                yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)

    def reward(self, arch: Mapping[str, Any], batch: Any, metric: str | None = None) -> float:
        """Return how good an architecture is on a batch, with the batch's own statistics.

        Parameters
        ----------
        arch
            The architecture.
        batch
            As of :meth:`policy_batch`.
        metric
            Of the task's; the main one by default.  The sign is such that more is better.

        Raises
        ------
        UsageError
            If there is no such metric.
        """
        name = self.task.main_metric if metric is None else metric
        if name not in self.task.metrics:
            raise UsageError(f"there is no metric {name!r}; there are {list(self.task.metrics)}")
        # Running statistics are a mean over all architectures that were trained, and right for
        # none; so batch norms take those of the batch, and everything else is as in evaluation.
        with self.weights_as_they_are(), torch.no_grad(), preserved_modes(self.network):
            self.network.eval()
            for module in self.network.modules():
                if isinstance(module, _BatchNorm):
                    module.training = True
            with self.network.activate(arch), self.fabric.autocast():
                output, target = self.task.outputs(self.network, batch)
        value = self.task.metrics[name](output, target)
        found = torch.tensor(value, device=self.fabric.device)
        mean = float(self.fabric.all_reduce(found, reduce_op="mean"))  # type: ignore[arg-type]
        return self.task.fitness({name: mean}, name)

    def averaged(self, gradients: Iterable[Tensor | None]) -> list[Tensor | None]:
        """Return gradients, each the mean over the processes."""
        if self.fabric.world_size == 1:
            return list(gradients)
        return [
            None
            if gradient is None
            else cast("Tensor", self.fabric.all_reduce(gradient, reduce_op="mean"))
            for gradient in gradients
        ]

    def improve_by(self, loss: Tensor) -> None:
        """Take a step of the policy's optimizer by the gradients of a loss."""
        parameters = list(self.policy.parameters())
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        self.improve(dict(zip(parameters, found, strict=True)))

    def improve(self, gradients: Mapping[nn.Parameter, Tensor | None]) -> None:
        """Take a step of the policy's optimizer; parameters without a gradient stay."""
        assert self.optimizer is not None
        averaged = self.averaged(gradients.values())
        if not all(one.isfinite().all() for one in averaged if one is not None):
            raise DivergenceError(
                f"the gradient of the policy is not finite at step {self.step} of {self.total}, so "
                "the search stops before it spoils the policy; lower the learning rates, or clip "
                "the gradients (Task(clip=...))"
            )
        for parameter, gradient in zip(gradients, averaged, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def fitness(self, arch: Mapping[str, Any], batches: int) -> float:
        """Return the validation metric of what an architecture freezes to; more is better.

        Parameters
        ----------
        arch
            The architecture.
        batches
            Of the training data, from which it gets its batch-norm statistics.
        """
        # All candidates are calibrated on the same batches, so differences between them are not
        # differences of data.  A frozen copy, as statistics of the space are shared by all.
        network = self.network.freeze(arch)
        recalibrate(network, self.task, batches=batches, fabric=self.fabric, seed=self.seed)
        return self.task.fitness(evaluate(network, self.task, "validation", fabric=self.fabric))

    # -- what was found ----------------------------------------------------------------------

    def best(self) -> Sample:
        """Return the architecture that the search prefers now."""
        return self.top(1)[0]

    def top(self, k: int) -> list[Sample]:
        """Return different architectures, the best first; fewer if the space has fewer.

        Of several processes, all must ask for more than were ranked before: they evaluate together.

        Raises
        ------
        UsageError
            If ``k`` is not positive.
        """
        if k < 1:
            raise UsageError(f"k must be at least 1, but got {k}")
        known = self._ranked
        if known is None or known[0] != self.step or k > max(known[1], len(known[2])):
            with preserved_randomness(self.fabric.device):
                self.seed_as("rank")
                known = self._ranked = self.step, k, self.strategy.rank(self, k)
        return [dict(arch) for arch in known[2][:k]]

    def within(self, space: Any) -> Run:
        """Return this run as it stands, for what is best in a restriction of its space.

        Nothing more is trained: it ranks by the same weights and the same policy.

        Raises
        ------
        UsageError
            If it is not a restriction of the run's own space.
        """
        if getattr(space, "space", space) is not self.network:
            raise UsageError(
                f"within= takes the space that was trained, or a restriction of it by "
                f"where(...), but got a {type(space).__name__} of another"
            )
        run = copy.copy(self)
        run.space, run.allowed = space, allowed_codes(space)
        run.notes, run._ranked = {}, None
        return run

    def frozen(self, arch: Mapping[str, Any] | None = None) -> Any:
        """Return the network of an architecture, by default the best, with its trained weights."""
        return self.network.freeze(self.best() if arch is None else arch)

    def probabilities(self) -> dict[str, list[tuple[int, list[float]]]]:
        """Return the policy over time: for each label, steps and probabilities of its values."""
        return over_time(self._history)

    # -- being put down ----------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the state between two steps, as a tree that ``training.save_state`` takes."""
        parameters = [] if self.policy is None else list(self.policy.parameters())
        return {
            "strategy": type(self.strategy).__name__,
            "weights": self.trainer.state_dict(),
            "policy": None if self.policy is None else self.policy.state_dict(),
            "gradients": [parameter.grad for parameter in parameters],
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
            "memory": dict(self.memory),
            "history": [[step, dict(now)] for step, now in self._history],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises
        ------
        CheckpointError
            If it is of another run; nothing is changed then.
        """
        mine = type(self.strategy).__name__
        try:
            # What can be refused is refused before anything is loaded.
            if state["strategy"] != mine:
                raise CheckpointError(f"the state is of {state['strategy']}, not of {mine}")
            if self.policy is not None and self.optimizer is not None:
                check_fit(self.policy, state["policy"])
            self.trainer.load_state_dict(state["weights"])
            if self.policy is not None and self.optimizer is not None:
                self.policy.load_state_dict(state["policy"])
                self.optimizer.load_state_dict(state["optimizer"])
                for parameter, gradient in zip(
                    self.policy.parameters(), state["gradients"], strict=True
                ):
                    parameter.grad = None if gradient is None else gradient.to(parameter)
            self.memory = dict(state["memory"])
            self._history = [(step, dict(now)) for step, now in state["history"]]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"this is not the state of such a run: {error!r}") from error
        self._batches = self._ranked = None


def _listed(vector: Any) -> list[float]:
    values: list[float] = vector.detach().tolist() if isinstance(vector, Tensor) else list(vector)
    return [float(value) for value in values]
