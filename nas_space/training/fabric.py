"""Where to run: one function in front of Lightning Fabric, which does the rest."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import UsageError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["check_whole", "make_fabric", "unwrapped"]

_SHARDING = {"DeepSpeedStrategy", "FSDPStrategy", "ModelParallelStrategy", "XLAFSDPStrategy"}

_DEVICES = "'auto', 'cpu', 'cuda', 'cuda:0' (any index), or 'mps'"


def make_fabric(
    device: str | torch.device = "auto", precision: Any = None, *, processes: int = 1
) -> Fabric:
    """Make a :class:`~lightning_fabric.Fabric` for a device.

    Parameters
    ----------
    device
        'auto' (CUDA where there is some, otherwise the CPU), 'cpu', 'cuda', 'cuda:1', 'mps', or a
        :class:`torch.device`.
    precision
        As Fabric names them, such as '32-true' or 'bf16-mixed'. By default mixed precision with
        bfloat16 on CUDA, and 32 bits elsewhere.
    processes
        More than one trains data-parallel, one device for each, and allows branches without a
        gradient, as a space has them. The fabric must then be launched, see Fabric's documentation.

    Returns
    -------
    Fabric
        Not launched.

    Raises
    ------
    UsageError
        No such device here.

    Examples
    --------
    >>> make_fabric("cpu").device
    device(type='cpu')
    """
    from lightning_fabric import Fabric

    if str(device) == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        where = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"there is no device {device!r}; use {_DEVICES}") from error
    _check_present(where)
    devices: Any = processes
    if where.type != "cpu" and where.index is not None:
        if processes > 1:
            raise UsageError(
                f"{processes} processes need a device each, but {str(where)!r} is one; "
                f"use {where.type!r}"
            )
        devices = [where.index]
    with warnings.catch_warnings():
        # Whoever works on a machine that can submit to SLURM need not mean to.
        warnings.filterwarnings("ignore", "The `srun` command is available")
        return Fabric(
            accelerator=where.type,
            devices=devices,
            strategy="ddp_find_unused_parameters_true" if processes > 1 else "auto",
            precision=precision or ("bf16-mixed" if where.type == "cuda" else "32-true"),
        )


def check_whole(fabric: Fabric) -> None:
    """Refuse a strategy of Fabric's that shards parameters over devices, such as FSDP.

    A step on a path trains slices of parameters as leaves of the graph, which the optimizer takes
    for the parameters. A shard of a parameter is no slice of it that a path could use.

    Raises
    ------
    UsageError
        The strategy shards parameters.
    """
    if _SHARDING & {each.__name__ for each in type(fabric.strategy).__mro__}:
        raise UsageError(
            f"{type(fabric.strategy).__name__} shards parameters over devices, and a path of a "
            "space trains slices of whole ones: use DDP, strategy='ddp_find_unused_parameters_true'"
            "; if the space is too large for one device, bf16 precision, gradient checkpoints or a "
            "smaller batch save memory"
        )


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the network that Fabric, or torch's data parallelism, has wrapped.

    Examples
    --------
    >>> net = nn.Linear(1, 1)
    >>> unwrapped(make_fabric("cpu").setup(net)) is net
    True
    """
    from lightning_fabric.wrappers import _FabricModule

    while isinstance(network, _FabricModule | nn.parallel.DistributedDataParallel):
        network = network.module
    return network


def _check_present(device: torch.device) -> None:
    present = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    if device.type not in present:
        raise UsageError(f"there is no way to train on {str(device)!r}; use {_DEVICES}")
    if not present[device.type]:
        raise UsageError(f"there is no {device.type} device here; use 'cpu' or 'auto'")
    index: int | None = device.index
    if index is not None and index >= present[device.type]:
        raise UsageError(
            f"there is no {str(device)!r}: this machine has {present[device.type]}, counted from 0"
        )
