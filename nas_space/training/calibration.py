"""Batch-norm statistics of exactly the network they are used in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas_space.errors import DataError, UsageError
from nas_space.training.batches import Source, length_of, training_batches
from nas_space.training.evaluation import preserved_modes
from nas_space.training.fabric import device_of, make_fabric
from nas_space.training.randomness import generator_of, preserved_randomness
from nas_space.training.task import Task

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["recalibrate"]

_UNTOUCHED = -1.0
"""Put into variances, which are never negative, to see which of them a pass has replaced."""


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
        Its batch norms' statistics are replaced in place; modes and momenta are put back, and
        nothing else is touched. In a space, only what the active architecture uses is replaced:
        statistics of other branches, or beyond the active width, stay. Layers of one's own need to
        derive from torch's batch norms and to honour a momentum of None (average over
        ``num_batches_tracked``).
    data
        A task, whose training data are taken; or a data set, or an iterable of batches. Of a batch
        that is a tuple or a list, the first is the input.
    batches
        How many batches of random examples. By default one pass over the data, but for a last
        batch that is not full.
    batch_size
        Examples in a batch, unless `data` knows it.
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
        `batches` is below 1, or not given for data without a length.

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
        network(batch[0] if isinstance(batch, tuple | list) else batch)


@contextmanager
def _averaging(norms: list[_BatchNorm]) -> Iterator[None]:
    """Let batch norms average anew, and put back what they did not use; on an error, everything."""
    momenta = [_momenta(norm) for norm in norms]
    saved = [_clones(norm) for norm in norms]
    for norm in norms:
        norm.training = True
        for place, _ in _momenta(norm):
            place["momentum"] = None
        mean, variance, tracked = _statistics(norm)
        mean.zero_()
        variance.fill_(_UNTOUCHED)
        tracked.zero_()
    used = [False] * len(norms)
    try:
        yield
        used = [bool(_statistics(norm)[2]) for norm in norms]
    finally:
        for norm, places, before, was_used in zip(norms, momenta, saved, used, strict=True):
            for place, momentum in places:
                place["momentum"] = momentum
            _put_back(norm, before, everything=not was_used)


def _momenta(norm: _BatchNorm) -> list[tuple[dict[str, Any], Any]]:
    """Where a norm keeps its momentum, and what it is there: perhaps an expression, as it stands.

    A layer of a space has the arguments that it was made with in ``args``, and runs by them.
    """
    places: tuple[dict[str, Any], ...] = (vars(norm), getattr(norm, "args", {}))
    return [(place, place["momentum"]) for place in places if "momentum" in place]


def _statistics(norm: _BatchNorm) -> tuple[Tensor, Tensor, Tensor]:
    mean, variance, tracked = norm.running_mean, norm.running_var, norm.num_batches_tracked
    if mean is None or variance is None or tracked is None:
        raise UsageError("a batch norm has a running mean, but not all of its other statistics")
    return mean, variance, tracked


def _clones(norm: _BatchNorm) -> tuple[Tensor, ...]:
    return tuple(tensor.clone() for tensor in _statistics(norm))


def _put_back(norm: _BatchNorm, before: tuple[Tensor, ...], *, everything: bool) -> None:
    mean, variance, tracked = _statistics(norm)
    # A statistic beyond the active width still holds the mark. (Not `<= 0`: NaN would be one.)
    untouched = torch.full_like(variance, everything, dtype=torch.bool) | (variance < 0)
    mean.copy_(torch.where(untouched, before[0], mean))
    variance.copy_(torch.where(untouched, before[1], variance))
    if everything:
        tracked.copy_(before[2])
