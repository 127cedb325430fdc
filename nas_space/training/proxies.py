"""Zero-cost proxies: scores of an untrained network, from one batch or a few.

Each takes a network, or a space under an active architecture, and leaves it as it was.  More is
better.  They are measured on fresh weights; how far to trust one is a matter of the space, and
best found out on some networks that were trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import UsageError, suggest
from ..randomness import device_of, preserved_randomness
from .batches import training_batches
from .modes import preserved_buffers, preserved_modes
from .task import Task

__all__ = ["PROXIES", "grad_norm", "naswot", "proxy", "synflow", "zico"]

_RECTIFIERS = frozenset(
    f"aten::{name}{mark}"
    for name in ("relu", "hardtanh", "leaky_relu", "gelu", "silu", "hardswish", "elu")
    for mark in ("", "_")
)
"""What is active or not by the sign of its input."""


def naswot(network: nn.Module, task: Task, *, batches: int = 1, seed: int = 0) -> float:
    """Return how differently a network's rectifiers respond to different examples.

    The logarithm of the determinant of the matrix that says of each two examples in how many
    units they agree on being active.

    Parameters
    ----------
    network
        A network with fresh weights, or a space under an active architecture.
    task
        Whose training data are looked at, and how.
    batches
        How many of them; the mean over batches.
    seed
        Which.

    References
    ----------
    Mellor et al., *Neural architecture search without training*, ICML 2021.
    """
    scores = []
    with _untouched(network, training=True):
        for batch in _batches(network, task, batches, seed):
            with torch.no_grad(), _Agreement() as seen:
                task.training_loss(network, batch)
            if seen.kernel is None:
                raise UsageError(
                    f"naswot looks at rectifiers, and {type(network).__name__} has none (ReLU and "
                    "its like); take another proxy"
                )
            scores.append(float(torch.linalg.slogdet(seen.kernel).logabsdet))
    return math.fsum(scores) / len(scores)


class _Agreement(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up, over all rectifiers, in how many units each two examples agree."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernel: Tensor | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        # Two examples agree in a unit if both are active there or neither is; the products count
        # both kinds for all pairs at once.  Below autograd and modules, any form of call is seen.
        if func.name().split(".")[0] in _RECTIFIERS:
            active = (args[0].flatten(1) > 0).double()
            same = active @ active.T + (1 - active) @ (1 - active).T
            self.kernel = same if self.kernel is None else self.kernel + same
        return func(*args, **(kwargs or {}))


def grad_norm(network: nn.Module, task: Task, *, batches: int = 1, seed: int = 0) -> float:
    """Return the sum over weights of the norm of their gradient; see :func:`naswot`.

    References
    ----------
    Abdelfattah et al., *Zero-cost proxies for lightweight NAS*, ICLR 2021.
    """
    found = [
        math.fsum(float(gradient.norm()) for gradient in gradients)
        for gradients in _gradients(network, task, batches, seed)
    ]
    return math.fsum(found) / len(found)


def synflow(
    network: nn.Module,
    task: Task,
    *,
    batches: int = 1,  # noqa: ARG001 - as all proxies take it
    seed: int = 0,
) -> float:
    """Return the logarithm of the synaptic flow: how much the weights carry, whatever the data.

    Weights are taken by their absolute values and the input is all ones, so of the data only the
    shape counts, and ``batches`` does not matter.  Batch norms run on their running statistics,
    which change nothing as long as they are fresh.  See :func:`naswot`.

    References
    ----------
    Tanaka et al., *Pruning neural networks without any data by iteratively conserving synaptic
    flow*, NeurIPS 2020.
    """
    weights = [weight for weight in network.parameters() if weight.is_floating_point()]
    signs = [weight.detach().sign() for weight in weights]
    with _untouched(network, training=False), torch.enable_grad():
        [batch] = _batches(network, task, 1, seed)
        batch = torch.utils._pytree.tree_map_only(Tensor, _ones, batch)
        # With absolute weights and an input of ones nothing cancels: weight times gradient, summed
        # over a layer, is the flow through it, as much in each layer.
        with torch.no_grad():
            for weight in weights:
                weight.abs_()
        try:
            output, _ = task.outputs(network, batch)
            found: Sequence[Tensor | None] = torch.autograd.grad(
                output.double().sum(), weights, allow_unused=True
            )
            flows = [
                float((weight.detach().double() * gradient.double()).abs().sum())
                for weight, gradient in zip(weights, found, strict=True)
                if gradient is not None
            ]
        finally:
            with torch.no_grad():
                for weight, sign in zip(weights, signs, strict=True):
                    weight.mul_(sign)
    total = math.fsum(flows)
    return math.log(total) if total > 0 else -math.inf


def _ones(tensor: Tensor) -> Tensor:
    return torch.ones_like(tensor[:1]) if tensor.is_floating_point() else tensor[:1]


def zico(network: nn.Module, task: Task, *, batches: int = 2, seed: int = 0) -> float:
    """Return how large and how alike the gradients of several batches are; see :func:`naswot`.

    For each layer the logarithm of the sum, over its weights, of the mean of the absolute
    gradient over the standard deviation of the gradient, as in the authors' code; summed over
    layers.

    References
    ----------
    Li et al., *ZiCo: zero-shot NAS via inverse coefficient of variation on gradients*, ICLR 2023.
    """
    if batches < 2:
        raise UsageError(f"zico compares batches, so it needs at least 2, but got {batches}")
    layers = zip(*_gradients(network, task, batches, seed), strict=True)
    total = 0.0
    for gradients in layers:
        stacked = torch.stack([gradient.double() for gradient in gradients])
        deviation = stacked.std(0, correction=0)
        varies = deviation > 0
        ratio = float((stacked.abs().mean(0)[varies] / deviation[varies]).sum())
        total += math.log(ratio) if ratio > 0 else 0.0
    return total


PROXIES: Mapping[str, Callable[..., float]] = {
    "grad_norm": grad_norm,
    "naswot": naswot,
    "synflow": synflow,
    "zico": zico,
}
"""The proxies by name."""


def proxy(name: str) -> Callable[..., float]:
    """Return a proxy by its name.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    if name not in PROXIES:
        raise UsageError(
            f"there is no proxy {name!r}{suggest(name, PROXIES)}; there are {list(PROXIES)}"
        )
    return PROXIES[name]


def _gradients(network: nn.Module, task: Task, batches: int, seed: int) -> Iterator[list[Tensor]]:
    """Yield the gradients of all weights that are in use, for one batch after the other."""
    weights = [w for w in network.parameters() if w.requires_grad and w.dim() > 1]
    with _untouched(network, training=True), torch.enable_grad():
        for batch in _batches(network, task, batches, seed):
            loss = task.training_loss(network, batch)
            found: Sequence[Tensor | None] = torch.autograd.grad(loss, weights, allow_unused=True)
            yield [gradient for gradient in found if gradient is not None]


def _batches(network: nn.Module, task: Task, batches: int, seed: int) -> list[Any]:
    """Return the first batches of a task's training data, where the network is."""
    if batches < 1:
        raise UsageError(f"batches must be at least 1, but got {batches}")
    device = device_of(network)
    stream = training_batches(task.train, task.batch_size, seed=seed, stream="proxy")
    return [
        torch.utils._pytree.tree_map_only(Tensor, lambda tensor: tensor.to(device), batch)
        for batch in islice(stream, batches)
    ]


@contextmanager
def _untouched(network: nn.Module, *, training: bool) -> Iterator[None]:
    """Run a network in a mode, and leave modes, buffers and generators as they were."""
    randomness = preserved_randomness(device_of(network))
    with preserved_buffers(network), preserved_modes(network), randomness:
        network.train(training)
        yield
