"""``Distillation``: a network trained to do what another does, the teacher.

The student's calls are recorded while its loss is computed, and the teacher is called on the same
arguments. So the teacher never needs to know what a batch looks like, and whatever step a task has
can be joined by a teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import DataError, UsageError
from ..nn.copying import copied
from ..randomness import device_of
from .fabric import unwrapped
from .forward import RecordedCall, forward, recorded_calls, tensors_of
from .metric import Metric
from .modes import preserved_modes
from .result_cache import LastResult, ResultCache

__all__ = ["Distillation", "Divergence", "divergence_of", "relative_error", "soft_cross_entropy"]

Divergence: TypeAlias = "Literal['mse', 'kl'] | Callable[[Tensor, Tensor], Tensor]"
"""How far the student's output is from the teacher's: a name, or ``function(student, teacher)``."""


_Answer: TypeAlias = "tuple[RecordedCall, dict[str, list[RecordedCall]]]"


def relative_error(output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the squared error as a share of the target's squared size.

    Parameters
    ----------
    output, target
        Of one shape.
    weight
        What each element counts, broadcast from the left; all the same by default.

    Examples
    --------
    >>> relative_error(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])).item()
    0.5
    """
    output, target = output.float(), target.float()
    error, size = (output - target).square(), target.square()
    if weight is not None:
        weight = weight.to(error).reshape(weight.shape + (1,) * (error.ndim - weight.ndim))
        error, size = error * weight, size * weight
    return error.sum() / size.sum().clamp_min(1e-12)


def soft_cross_entropy(output: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the divergence of two softened distributions, given by logits in the last dimension.

    It is scaled by the square of the temperature, which keeps its gradients comparable.

    References
    ----------
    Hinton et al., *Distilling the knowledge in a neural network*, arXiv 1503.02531.

    Examples
    --------
    >>> logits = torch.tensor([[1.0, 2.0, 3.0]])
    >>> round(soft_cross_entropy(logits, logits).item(), 6)
    0.0
    """
    classes = output.shape[-1]
    mine = F.log_softmax(output.float().reshape(-1, classes) / temperature, -1)
    theirs = F.log_softmax(target.float().reshape(-1, classes) / temperature, -1)
    # Gradients of softened distributions shrink with the square of the temperature (section 2 of
    # the paper).
    divergence = F.kl_div(mine, theirs, reduction="batchmean", log_target=True)
    return divergence * temperature**2


class Distillation:
    """A teacher, and how far a student is from it.

    Parameters
    ----------
    teacher
        A trained network. It runs in evaluation mode and without gradients, once for each batch
        however many students are compared on it; it is never changed, nor moved.
    loss
        How outputs are compared: ``'mse'``, the squared error relative to the size of the
        teacher's output, which suits logits and features alike; ``'kl'``, the divergence of the
        softened distributions, for logits in the last dimension; or a function of the student's
        and the teacher's tensor.
    temperature
        Of ``'kl'``.
    hidden
        Modules whose outputs are compared too: paths that are the same in both networks, or a
        mapping from the student's path to the teacher's. Where widths differ, the student's are
        projected by the linear map that fits the batch best.
    attention
        As ``hidden``, for modules that return a tensor of attention probabilities of shape
        ``(batch, heads, queries, keys)``; compared by their mean over the heads.

    Attributes
    ----------
    cache
        Answers that are kept beyond that on the last batch. At first there is no room in it: give
        it some, ``cache.most``, where several networks are trained on the same batches.

    Raises
    ------
    UsageError
        An argument makes no sense, or the teacher is a space.

    References
    ----------
    Kim et al., *Comparing Kullback-Leibler divergence and mean squared error loss in knowledge
    distillation*, arXiv 2105.08919; Jiao et al., *TinyBERT*, arXiv 1909.10351, for hidden states
    and attention.

    Examples
    --------
    >>> import copy
    >>> teacher = nn.Linear(3, 2)
    >>> student, x = copy.deepcopy(teacher), torch.rand(4, 3)
    >>> Distillation(teacher).loss(student, x).item()
    0.0
    """

    def __init__(
        self,
        teacher: nn.Module,
        *,
        loss: Divergence = "mse",
        temperature: float = 1.0,
        hidden: Sequence[str] | Mapping[str, str] = (),
        attention: Sequence[str] | Mapping[str, str] = (),
    ) -> None:
        if not isinstance(teacher, nn.Module):
            raise UsageError(f"a teacher is a network, but got a {type(teacher).__name__}")
        if hasattr(teacher, "simplify") and getattr(teacher, "architecture", True) is None:
            raise UsageError(
                f"the teacher is a space, {type(teacher).__name__}; give one of its networks, "
                "space.freeze(arch)"
            )
        if not callable(loss) and loss not in ("mse", "kl"):
            raise UsageError(f"loss must be 'mse', 'kl' or a function, but is {loss!r}")
        if temperature <= 0:
            raise UsageError(f"temperature must be above 0, but is {temperature}")
        self.teacher = teacher
        self.divergence: Divergence = loss
        self.temperature = temperature
        self.hidden = _as_pairs("hidden", hidden)
        self.attention = _as_pairs("attention", attention)
        for path in (*self.hidden.values(), *self.attention.values()):
            _submodule(teacher, path, "teacher")
        self.cache, self._last = ResultCache(), LastResult()
        self._copy: nn.Module | None = None

    def __getstate__(self) -> dict[str, Any]:
        # What another process, or a copy, would not find again.
        return {**self.__dict__, "_copy": None, "_last": LastResult()}

    def loss(self, network: nn.Module, batch: Any) -> Tensor:
        """Return how far a student is from the teacher on a batch of inputs.

        Parameters
        ----------
        network
            The student.
        batch
            As :func:`~nas_space.training.forward.forward` takes it; targets are passed over.

        Raises
        ------
        DataError
            The outputs of the two are not alike.
        """
        with self.recording(network) as record:
            forward(network, batch)
        return record.divergence()

    def compared(self, network: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """Return, for the metrics, a row for each example: squared error, squared size, agreement.

        Agreement is the share of positions at which the largest element of the last dimension is
        the teacher's.
        """
        with self.recording(network) as record:
            forward(network, batch)
        call = record.calls[-1]
        answer, _ = self.answer(call)
        output, target, mask = _matched(call, answer)
        output, target = output.float(), target.float()
        weight = torch.ones_like(output[..., 0]) if mask is None else mask.to(output)
        error = (output - target).square().sum(-1) * weight
        size = target.square().sum(-1) * weight
        same = (output.argmax(-1) == target.argmax(-1)).float() * weight
        flat = [part.reshape(len(part), -1).sum(1) for part in (error, size, same, weight)]
        rows = torch.stack([*flat[:2], flat[2] / flat[3].clamp_min(1.0)], 1)
        return rows, rows

    def recording(self, network: nn.Module) -> AbstractContextManager[_Record]:
        """Make a context in which a student's calls are recorded, to be compared afterwards."""
        return _recording(self, network)

    def answer(self, call: RecordedCall) -> _Answer:
        """Return the teacher's own call with the arguments of a student's, and those inside it."""
        # Asked for again at once, when losses and metrics of one batch are computed, and by each
        # path of a step: the last answer is found by the identity of its inputs, which costs
        # nothing. The cache goes by their content, for batches that come again in another epoch.
        given = _flat((call.arguments, call.keywords))
        answer: _Answer | None = self._last.find(given) or self.cache.find(given)
        if answer is None:
            answer = self._asked(call, given)
            self.cache.keep(given, answer)
        self._last.keep(given, answer)
        return answer

    def _asked(self, call: RecordedCall, given: list[Any]) -> _Answer:
        teacher = self._beside(given)
        kind = next((p.dtype for p in teacher.parameters() if p.is_floating_point()), None)
        arguments, keywords = _cast((call.arguments, call.keywords), kind)
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(preserved_modes(teacher))
            inside = {
                path: stack.enter_context(recorded_calls(teacher.get_submodule(path)))
                for path in {*self.hidden.values(), *self.attention.values()}
            }
            teacher.eval()
            output = teacher(*arguments, **keywords)
        return RecordedCall((), {}, output), inside

    def between(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Return how far an output is from the teacher's."""
        if callable(self.divergence):
            return self.divergence(output, target)
        if self.divergence == "mse":
            return relative_error(output, target, weight)
        if weight is not None:
            kept = weight.bool()
            output, target = output[kept], target[kept]
        return soft_cross_entropy(output, target, self.temperature)

    def _beside(self, given: list[Any]) -> nn.Module:
        """Return the teacher, or a copy of it on the student's device."""
        device = next((item.device for item in given if isinstance(item, Tensor)), None)
        if device is None or device_of(self.teacher) == device:
            return self.teacher
        if self._copy is None or device_of(self._copy) != device:
            self._copy = copied(self.teacher).to(device)
        return self._copy


class _Record:
    """The calls of a student, and of the modules inside it that are compared."""

    def __init__(self, distillation: Distillation, calls: list[RecordedCall]) -> None:
        self.distillation = distillation
        self.calls = calls
        self.inside: dict[str, list[RecordedCall]] = {}

    def divergence(self) -> Tensor:
        """Return how far the student was from the teacher, over all of its calls."""
        if not self.calls:
            raise UsageError(
                "the step of the task did not call the network, so that there is nothing to "
                "compare with the teacher; call the network itself, not one of its methods"
            )
        mine = self.distillation
        losses = []
        for place, call in enumerate(self.calls):
            answer, inside = mine.answer(call)
            losses.append(mine.between(*_matched(call, answer)))
            mask = _mask(call)
            for paths, compare in ((mine.hidden, _hidden_loss), (mine.attention, _attention_loss)):
                for student, teacher in paths.items():
                    # Of a module that is called several times in a forward, the first is compared;
                    # one that an architecture does without is not called at all.
                    each = len(self.inside[student]) // len(self.calls)
                    if each:
                        ours, theirs = self.inside[student][place * each], inside[teacher][0]
                        losses.append(compare(student, ours.output, theirs.output, mask))
        return torch.stack(losses).sum() / len(self.calls)


@contextmanager
def _recording(distillation: Distillation, network: nn.Module) -> Iterator[_Record]:
    whole = unwrapped(network)
    with ExitStack() as stack:
        record = _Record(distillation, stack.enter_context(recorded_calls(network)))
        for path in {**distillation.hidden, **distillation.attention}:
            module = _submodule(whole, path, "student")
            record.inside[path] = stack.enter_context(recorded_calls(module))
        yield record


class Stepping(Protocol):
    """What a teacher has to know of a task."""

    @property
    def step(self) -> Any:
        """What computes the loss, if not the task itself."""

    def training_loss(self, network: nn.Module, batch: Any) -> Tensor:
        """Return the loss of a network on a batch."""


class DistilledStep:
    """The step of a task and of a teacher together; see :meth:`Task.distilled`."""

    def __init__(self, task: Stepping, distillation: Distillation, weight: float) -> None:
        if not 0 < weight <= 1:
            raise UsageError(f"weight must be above 0 and at most 1, but is {weight}")
        self.task = task
        self.distillation = distillation
        self.weight = weight

    def __call__(self, network: nn.Module, batch: Any) -> Tensor:
        with self.distillation.recording(network) as record:
            own = self.task.training_loss(network, batch)
        return (1 - self.weight) * own + self.weight * record.divergence()


def distillation_of(task: Stepping) -> Distillation | None:
    """Return the teacher of a task that has one."""
    step: Any = task.step
    if isinstance(step, DistilledStep):
        return step.distillation
    owner = getattr(step, "__self__", None)
    return owner if isinstance(owner, Distillation) else None


def divergence_of(task: Stepping, network: nn.Module, batch: Any) -> Tensor:
    """Return how far a network is from the teacher of a task on a batch, whatever its step is.

    Raises
    ------
    UsageError
        The task has no teacher.
    """
    distillation = distillation_of(task)
    if distillation is None:
        raise UsageError("the task has no teacher; give it one by task.distilled(teacher)")
    with distillation.recording(network) as record:
        step: Any = task.step
        if isinstance(step, DistilledStep):
            step.task.training_loss(network, batch)
        else:
            forward(network, batch)
    return record.divergence()


def metrics_of(distillation: Distillation) -> dict[str, Metric]:
    """Return the metrics of :meth:`Distillation.compared`, the main one first."""
    metrics = {"fidelity": Metric(_fidelity), "agreement": Metric(_agreement)}
    if distillation.divergence == "kl":
        metrics = dict(reversed(metrics.items()))
    return metrics


def _fidelity(rows: Tensor, _: Tensor) -> Tensor:
    error, size = rows[:, 0].sum(), rows[:, 1].sum()
    return 1 - error / size.clamp_min(1e-12)


def _agreement(rows: Tensor, _: Tensor) -> Tensor:
    return rows[:, 2].mean()


def _as_pairs(name: str, paths: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    if isinstance(paths, str):
        raise UsageError(f"{name} must be a list of paths, but is the text {paths!r}")
    return dict(paths) if isinstance(paths, Mapping) else {path: path for path in paths}


def _submodule(network: nn.Module, path: str, who: str) -> nn.Module:
    try:
        return network.get_submodule(path)
    except AttributeError:
        raise UsageError(
            f"the {who}, a {type(network).__name__}, has no module {path!r} to compare; its "
            "modules are what named_modules() lists"
        ) from None


def _matched(call: RecordedCall, answer: RecordedCall) -> tuple[Tensor, Tensor, Tensor | None]:
    """The output of the student, that of the teacher, and what each position counts."""
    mine, theirs = tensors_of(call.output), tensors_of(answer.output)
    shared = [name for name in theirs if name in mine and mine[name].shape == theirs[name].shape]
    if not shared:
        raise DataError(
            "the student's output and the teacher's have nothing in common to compare: "
            f"{_shapes(mine)} beside {_shapes(theirs)}; give hidden=, or networks whose outputs "
            "have the same shapes"
        )
    # The first is the output proper of all models that return several; caches and states follow.
    output, target = mine[shared[0]], theirs[shared[0]]
    mask = _mask(call)
    fits = mask is not None and output.ndim > 2 and output.shape[:2] == mask.shape
    return output, target, mask if fits else None


def _shapes(tensors: Mapping[str, Tensor]) -> str:
    listed = [f"{name or 'output'} {tuple(tensor.shape)}" for name, tensor in tensors.items()]
    return ", ".join(listed) or "no floating-point tensors"


def _mask(call: RecordedCall) -> Tensor | None:
    """The positions that a batch of texts fills, where there is such a mask."""
    mask = call.keywords.get("attention_mask")
    return mask if isinstance(mask, Tensor) and mask.ndim == 2 else None


def _hidden_loss(path: str, output: Any, target: Any, mask: Tensor | None) -> Tensor:
    mine, theirs = _first(path, output), _first(path, target)
    axis = 1 if mine.ndim == 4 else -1  # images: channels
    mine, theirs = mine.movedim(axis, -1).float(), theirs.movedim(axis, -1).float()
    if mine.shape[:-1] != theirs.shape[:-1]:
        raise DataError(
            f"{path!r} gives {tuple(mine.shape)} in the student and {tuple(theirs.shape)} in the "
            "teacher: only widths may differ"
        )
    weight = mask if mask is not None and mine.shape[:-1] == mask.shape else None
    if mine.shape[-1] != theirs.shape[-1]:
        rows, wanted = mine.reshape(-1, mine.shape[-1]), theirs.reshape(-1, theirs.shape[-1])
        if weight is not None:
            kept = weight.reshape(-1).bool()
            rows, wanted = rows[kept], wanted[kept]
        if len(rows) <= rows.shape[1]:
            raise DataError(
                f"{path!r} is {rows.shape[1]} wide in the student, and a batch has only "
                f"{len(rows)} positions to fit a projection to; take a larger batch"
            )
        return relative_error(_projected(rows, wanted), wanted)
    return relative_error(mine, theirs, weight)


def _projected(rows: Tensor, wanted: Tensor) -> Tensor:
    """Project rows by the linear map that fits others best.

    The map is found anew for each batch, in closed form, rather than learned: it needs no
    parameters, so that one loss serves every width of a space, and its gradient is exact, for the
    map is at the minimum. A little ridge keeps it defined where rows are linearly dependent.
    """
    gram = rows.T @ rows
    ridge = 1e-4 * gram.diagonal().mean().detach().clamp_min(1e-12)
    eye = torch.eye(len(gram), device=gram.device)
    fitted: Tensor = torch.linalg.solve(gram + ridge * eye, rows.T @ wanted)
    return rows @ fitted


def _attention_loss(path: str, output: Any, target: Any, mask: Tensor | None) -> Tensor:
    del mask  # attention to what is not there is nothing already
    mine, theirs = (_probabilities(path, value).mean(1) for value in (output, target))
    return F.kl_div(mine.clamp_min(1e-8).log(), theirs, reduction="none").sum(-1).mean()


def _first(path: str, output: Any) -> Tensor:
    found = tensors_of(output)
    if not found:
        raise DataError(f"{path!r} returns no tensor to compare")
    return next(iter(found.values()))


def _probabilities(path: str, output: Any) -> Tensor:
    for tensor in tensors_of(output).values():
        if tensor.ndim == 4 and torch.allclose(
            tensor.detach().sum(-1), torch.ones((), device=tensor.device), atol=1e-2
        ):
            return tensor
    raise DataError(
        f"{path!r} returns no attention probabilities (batch, heads, queries, keys); fused "
        "kernels do not: models of transformers return them with attn_implementation='eager' and "
        "output_attentions=True"
    )


def _flat(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [leaf for key, item in value.items() for leaf in (key, *_flat(item))]
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in _flat(item)]
    return [value]


def _cast(value: Any, kind: torch.dtype | None) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point() and kind is not None:
        return value.to(kind)
    if isinstance(value, dict):
        return {key: _cast(item, kind) for key, item in value.items()}
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(_cast(item, kind) for item in value)
    return value
