"""Scoring a network on a split."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from ..errors import DataError
from ..randomness import device_of, preserved_randomness, seed_globally
from .batches import is_dataset, one_pass
from .fabric import make_fabric
from .metric import STANDARD_ERROR
from .modes import preserved_modes
from .task import Task

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["STANDARD_ERROR", "evaluate", "evaluate_with_error", "predict"]

_GROUPS = 50
"""Groups of examples that are left out in turn."""


def evaluate(
    network: nn.Module,
    task: Task,
    split: str = "validation",
    *,
    fabric: Fabric | None = None,
    batch_size: int | None = None,
) -> dict[str, float]:
    """Score a network on a split by all metrics of a task.

    Parameters
    ----------
    network
        Runs in evaluation mode and without gradients; its modes are put back afterwards. A space
        runs as the architecture that is active.
    task
        Says how to run the network and what to measure. Metrics are functions of the whole split,
        not means over batches.
    split
        'train' (not augmented), 'validation' or 'test'.
    fabric
        Where; by default where the network is. Several processes share the examples, and all get
        the scores of the whole.
    batch_size
        Examples at a time: by default four times as many as in training, as less is kept.

    Returns
    -------
    dict
        From the name of each metric to its value.

    Raises
    ------
    UsageError
        The task has no such split.
    DataError
        The split is empty.

    Examples
    --------
    >>> from torch.utils.data import TensorDataset
    >>> x = torch.eye(3)
    >>> task = Task.classification(
    ...     TensorDataset(x, torch.arange(3)), test=TensorDataset(x, torch.arange(3))
    ... )
    >>> evaluate(nn.Identity(), task, "test")["accuracy"]
    1.0
    """
    output, target = predict(network, task, split, fabric=fabric, batch_size=batch_size)
    return {name: metric(output, target) for name, metric in task.metrics.items()}


def evaluate_with_error(
    network: nn.Module, task: Task, split: str = "validation", *, fabric: Fabric | None = None
) -> dict[str, float]:
    """Score a network as :func:`evaluate` does, with the standard error of the main metric.

    The error is that of a finite number of examples, by the delete-a-group jackknife: it asks for
    no more of a metric than that it be smooth in the examples, whatever it computes. It stands
    under the name :data:`STANDARD_ERROR`, and is left out where there are too few examples.

    Examples are taken to be independent.  A data set of which some are not, such as changed copies
    of one image, says so by an attribute ``clusters``: for each example a number, the same for
    those that belong together, which are then left out together.

    References
    ----------
    Shao and Wu, *A general theory for jackknife variance estimation*, Annals of Statistics, 1989.
    """
    output, target = predict(network, task, split, fabric=fabric)
    scores = {name: metric(output, target) for name, metric in task.metrics.items()}
    clusters = getattr(task.split(split), "clusters", None)
    numbers = torch.arange(len(target)) if clusters is None else torch.as_tensor(clusters)
    if len(numbers) != len(target):
        raise DataError(
            f"the {split} data says of {len(numbers)} examples which belong together, and has "
            f"{len(target)}"
        )
    numbers = torch.unique(numbers, return_inverse=True)[1]
    groups = min(_GROUPS, int(numbers.max()) + 1)
    # The metric without each of G groups in turn.  As each lacks only 1/G of the examples, the
    # variance of these values is about 1/G of the metric's own from sample to sample, and so their
    # squares are summed, and not averaged.
    if groups > 1:
        place = numbers.to(target.device) % groups
        metric = task.metrics[task.main_metric]
        try:
            without = [metric(output[place != g], target[place != g]) for g in range(groups)]
        except Exception:  # noqa: BLE001 - of a metric that needs all of the examples
            return scores
        spread = torch.tensor(without, dtype=torch.float64)
        variance = (groups - 1) / groups * (spread - spread.mean()).square().sum()
        scores[STANDARD_ERROR] = float(variance.sqrt())
    return scores


def predict(
    network: nn.Module,
    task: Task,
    split: str = "validation",
    *,
    fabric: Fabric | None = None,
    batch_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Run a network on a split.

    Parameters
    ----------
    network, task, split, fabric, batch_size
        As for :func:`evaluate`.

    Returns
    -------
    tuple of Tensor
        The outputs and the targets of all examples, in their order, on the device.
    """
    source = task.split(split)
    fabric = fabric or make_fabric(device_of(network))
    rank, processes = fabric.global_rank, fabric.world_size
    precision = fabric.strategy.precision
    outputs: list[Tensor] = []
    targets: list[Tensor] = []
    fabric.to_device(network)
    with torch.no_grad(), preserved_modes(network), preserved_randomness(fabric.device):
        seed_globally(0, f"evaluate/{split}", 0, fabric.device)
        network.eval()
        for batch in one_pass(
            source, batch_size or 4 * task.batch_size, rank=rank, processes=processes
        ):
            inputs = precision.convert_input(fabric.to_device(batch))
            with fabric.autocast():
                output, target = task.outputs(network, inputs)
            outputs.append(precision.convert_output(output))
            targets.append(target)
    if not outputs:
        raise DataError(f"the {split} data is empty")
    output, target = torch.cat(outputs), torch.cat(targets)
    if processes > 1 and is_dataset(source):
        length = len(source)  # type: ignore[arg-type]
        output, target = (_gathered(fabric, share)[:length] for share in (output, target))
    return output, target


def _gathered(fabric: Fabric, share: Tensor) -> Tensor:
    shares = cast("Tensor", fabric.all_gather(share))
    # Process r has examples r, r + processes, ...: taken in turn, they are in order again.
    return shares.transpose(0, 1).flatten(0, 1)
