"""Batch-norm statistics, computed anew for exactly the network they are used in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import DataError, UsageError
from ..nn.activation import current
from ..nn.elastic import ElasticModule
from ..randomness import device_of, generator_of, preserved_randomness
from .batches import Source, length_of, training_batches
from .fabric import make_fabric
from .forward import forward
from .modes import preserved_modes
from .task import Task

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["recalibrate"]


def recalibrate(
    network: nn.Module,
    data: Task | Source,
    *,
    batches: int | None = None,
    batch_size: int = 64,
    fabric: Fabric | None = None,
    augment: bool = False,
    seed: int = 0,
) -> nn.Module:
    """Estimate the statistics of all batch norms anew, for the weights as they are.

    The running averages of a space mix those of all architectures that it was trained as, and fit
    none. Here each layer gets the plain average, over some batches, of the batches' means and
    (unbiased) variances, with all layers in evaluation mode but the batch norms.

    Parameters
    ----------
    network
        Its batch norms' statistics are replaced in place; modes are put back, and nothing else is
        touched. In a space, only what the active architecture uses is replaced: statistics of
        other branches, and of the channels beyond the active width, stay.
    data
        A task, whose training data are taken; or a data set, or an iterable of batches, which the
        network is called on as :func:`~nas_space.training.forward.forward` does. Nothing is read
        where there is no batch norm.
    batches
        How many batches of random examples. By default one pass over the data, but for a last
        batch that is not full.
    batch_size
        Examples in a batch, unless ``data`` knows it.
    fabric
        Where; by default where the network is. Every process goes through the same batches.
    augment
        Whether to augment the inputs as the task does in training. Not to do so gives the
        statistics of what the network will see.
    seed
        Says which examples.

    Returns
    -------
    Module
        The network.

    Raises
    ------
    DataError
        There are no data.
    UsageError
        ``batches`` is below 1, or not given for data without a length.

    References
    ----------
    Yu and Huang, *Universally slimmable networks*, arXiv 1903.05134: statistics after training.

    Examples
    --------
    >>> net = nn.BatchNorm1d(1)
    >>> _ = recalibrate(net, torch.utils.data.TensorDataset(torch.tensor([[1.0], [3.0]])))
    >>> net.running_mean, net.running_var
    (tensor([2.]), tensor([2.]))
    """
    task: Task | None = None
    source: Source
    if isinstance(data, Task):
        task, source, batch_size = data, data.train, data.batch_size
    else:
        source = data
    count = _count(source, batch_size) if batches is None else batches
    if count < 1:
        raise UsageError(f"batches must be at least 1, but is {count}")
    norms = [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]
    fabric = fabric or make_fabric(device_of(network))
    fabric.to_device(network)
    if not norms:
        return network
    convert = fabric.strategy.precision.convert_input
    with torch.no_grad(), preserved_modes(network), preserved_randomness(fabric.device):
        network.eval()
        with _averaging(norms):
            stream = training_batches(source, batch_size, seed=seed, stream="recalibrate")
            for step, batch in enumerate(islice(stream, count)):
                inputs = fabric.to_device(batch)
                if task and augment:
                    noise = generator_of(seed, "recalibrate/augment", step, fabric.device)
                    inputs = task.augmented(inputs, noise)
                with fabric.autocast():
                    _run(network, task, convert(inputs))
    return network


def _count(source: Source, batch_size: int) -> int:
    length = length_of(source, batch_size)
    if length is None:
        raise UsageError("the data have no length: say how many batches=")
    if not length:
        raise DataError("there are no data to calibrate on; give at least one batch")
    return int(length)


def _run(network: nn.Module, task: Task | None, batch: Any) -> None:
    if task is not None:
        task.outputs(network, batch)
    else:
        forward(network, batch)


class _Average:
    """A hook that averages the statistics of what reaches a batch norm.

    Attributes
    ----------
    channels
        Which of the norm's channels reach it, as indices.
    """

    def __init__(self) -> None:
        self.batches = 0
        self.channels = torch.zeros(0)
        self.mean = torch.zeros(())
        self.variance = torch.zeros(())

    def __call__(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        # A layer that cuts itself, as one of the user's own, is taken to use the first of its
        # channels.
        if not self.batches:
            self.channels = _channels(norm)[: inputs[0].shape[1]]
        # Batches count alike, so this is the mean of their statistics; updated step by step, as a
        # sum of many batches in single precision would lose digits.
        x = inputs[0].float()
        variance, mean = torch.var_mean(x, dim=(0, *range(2, x.ndim)), correction=1)
        self.batches += 1
        self.mean = self.mean + (mean - self.mean) / self.batches
        self.variance = self.variance + (variance - self.variance) / self.batches


@contextmanager
def _averaging(norms: list[_BatchNorm]) -> Iterator[None]:
    """Replace the statistics of the norms that run by their averages; on an error, none."""
    saved = [_clones(norm) for norm in norms]
    averages = [_Average() for _ in norms]
    hooks = [norm.register_forward_pre_hook(a) for norm, a in zip(norms, averages, strict=True)]
    for norm in norms:
        # The layers behind it are to see what it will give them: batches that are normalised.
        norm.training = True
    completed = False
    try:
        yield
        completed = True
    finally:
        for norm, hook, before, average in zip(norms, hooks, saved, averages, strict=True):
            hook.remove()
            # Its own running averages went on meanwhile.
            for statistic, value in zip(_statistics(norm), before, strict=True):
                statistic.copy_(value)
            if completed and average.batches:
                mean, variance, tracked = _statistics(norm)
                mean[average.channels] = average.mean.to(mean)
                variance[average.channels] = average.variance.to(variance)
                tracked.fill_(average.batches)


def _channels(norm: Any) -> Tensor:
    """Return the indices of the channels that a batch norm has in the active architecture.

    They are cut as its statistics are: of a concatenation, they are not the first ones.
    """
    mean: Tensor = norm._buffers["running_mean"]
    every = torch.arange(len(mean), device=mean.device)
    activation = current()
    if activation is None or not isinstance(norm, ElasticModule) or not norm.is_parametrized:
        return every
    cut: Any = norm.form(activation.values).parts[""].cuts.get("running_mean")
    found: Tensor = every if cut is None else cut(every)
    return found


def _statistics(norm: _BatchNorm) -> tuple[Tensor, Tensor, Tensor]:
    # The buffers themselves: as an attribute, a layer of a space gives the part of the active
    # architecture, which is a copy where its channels are several pieces.
    names = ("running_mean", "running_var", "num_batches_tracked")
    mean, variance, tracked = map(norm._buffers.get, names)
    if mean is None or variance is None or tracked is None:
        raise UsageError("a batch norm has a running mean, but not all of its other statistics")
    return mean, variance, tracked


def _clones(norm: _BatchNorm) -> tuple[Tensor, ...]:
    return tuple(tensor.clone() for tensor in _statistics(norm))
