"""Networks of a run, written for the runtimes that they are deployed on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..compression import load_network
from ..errors import NasSpaceError, UsageError
from ..hub.registry import check_trusted
from ..runtimes import Export, Quantized, export, find_runtime, quantize
from ..schema import checked
from ..study.passwords import without_password
from ..training import Task, evaluate, load_data, make_fabric
from ..training.batches import one_pass
from ..training.forward import inputs_of
from .contents import Compressed, Conclusion
from .files import load_either, read_json, write_json
from .folder import COMPRESSED, COMPRESSION, EXPORTS, UNFINISHED, settings_of
from .sources import example_of, load_model, load_task
from .stored import StoredRun

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["StoredNetwork", "export_checked", "export_network", "networks_of", "note_exports"]

_CALIBRATION = 8
"""Batches that show which ranges 8 bits are to cover."""


@dataclass(frozen=True)
class StoredNetwork:
    """A network that a run has found.

    Attributes
    ----------
    name
        ``'network'``, or the budget that a compression kept to.
    network
        In evaluation mode, on the CPU.
    task
        What it was trained for, with the data of the run.
    """

    name: str
    network: nn.Module
    task: Task


def networks_of(place: Path | str, *, trust: bool = False) -> list[StoredNetwork]:
    """Return the networks in the folder of a run, with the data of the run.

    Parameters
    ----------
    place
        The folder of a search or of a compression, finished.
    trust
        Whether a module that the folder names may be imported.

    Raises
    ------
    UsageError
        There is no run, it has not finished, or its space is of a module that is not trusted.
    """
    folder = Path(place)
    settings = settings_of(folder)
    if settings is None:
        raise UsageError(
            f"{without_password(place)} is not the folder of a run; nas-space runs lists those "
            "there are"
        )
    is_compression = settings.get("strategy") == COMPRESSION
    # The folder may come from someone else: what it names is imported if that is trusted only. The
    # space of a search is checked where it is made.
    for name in ("model", "data") if is_compression else ("data",):
        check_trusted(settings[name], folder / "run.json", trust=trust, called=True)
    if is_compression:
        return _of_compression(folder, settings)
    file = folder / "architecture.json"
    # A finished run that goes on with more trials has that of before, beside weights of after.
    if not file.exists() or (folder / UNFINISHED).exists():
        raise UsageError(f"{place} has not finished: nas-space resume {place} goes on with it")
    facts = read_json(file, Conclusion)
    space = StoredRun(str(folder), settings).make_space(trust=trust)
    network = load_either(space, space.freeze(facts["arch"]), folder / "weights.safetensors")
    task = Task.classification(load_data(settings["data"], settings["seed"]), optimizer=_SGD)
    return [StoredNetwork("network", network.eval(), task)]


_SGD = partial(torch.optim.SGD, lr=0.1)
"""A task has an optimizer; nothing is trained here."""


def _of_compression(folder: Path, settings: Mapping[str, Any]) -> list[StoredNetwork]:
    file = folder / COMPRESSED
    if not file.exists():
        raise UsageError(f"{folder} has not finished: nas-space resume {folder} goes on with it")
    original = load_model(settings["model"])
    size = checked(settings["plan"].get("batch_size"), int, folder / "run.json")
    task = load_task(settings["data"], original, settings["seed"], batch_size=size, optimizer=_SGD)
    found = read_json(file, list[Compressed])
    return [
        StoredNetwork(one.name, load_network(folder / one.name / "network", original), task)
        for one in found
        if one.folder is not None
    ]


def export_network(
    stored: StoredNetwork,
    runtime: str,
    folder: Path,
    *,
    int8: bool = False,
    fabric: Fabric | None = None,
    **options: Any,
) -> Export | Quantized:
    """Write a network of a run for a runtime, on the first example of its training data.

    Parameters
    ----------
    stored, runtime, folder
        What, for which, and where.
    int8
        Whether to quantise it as well, calibrated on training data, and scored on those to test.
    fabric
        Where it is scored; by default on the CPU.
    **options
        Of :func:`~nas_space.runtimes.export`.

    Raises
    ------
    UsageError, SpaceError, StorageError
        As of :func:`~nas_space.runtimes.export` and :func:`~nas_space.runtimes.quantize`.
    """
    task, network = stored.task, stored.network
    if not int8:
        return export(network, runtime, example_of(task), folder, **options)
    split = "validation" if task.test is None else "test"

    def score(module: nn.Module) -> float:
        return evaluate(module, task, split, fabric=fabric or make_fabric("cpu"))[task.main_metric]

    batches = islice(one_pass(task.train, task.batch_size), _CALIBRATION)
    calibration = [inputs_of(batch) for batch in batches]
    return quantize(
        network, runtime, example_of(task), folder, calibration=calibration, score=score, **options
    )


def note_exports(run: Path, told: Mapping[str, str]) -> None:
    """Keep in a run's folder what was written for which runtime: the report says it."""
    file = run / EXPORTS
    if told:
        write_json(file, {**read_json(file, dict[str, str]), **told})


def export_checked(
    network: nn.Module,
    inputs: tuple[tuple[Any, ...], Mapping[str, Any]],
    folder: Path,
    runtimes: Sequence[str] = ("torch-export", "onnxruntime"),
) -> dict[str, float | str]:
    """Write a network for some runtimes; what one of them cannot do hinders no other.

    Parameters
    ----------
    network, inputs, folder
        As of :func:`~nas_space.runtimes.export`.
    runtimes
        Which.

    Returns
    -------
    dict
        By the name of the file, the largest difference of an output from what the network itself
        gives; or why there is no such file.
    """
    found: dict[str, float | str] = {}
    for runtime in runtimes:
        file = f"network{find_runtime(runtime).suffix}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the difference is told
                made = export(network, runtime, inputs, folder, seconds=0)
            found[file] = made.notes[-1] if made.difference is None else made.difference
        except NasSpaceError as error:
            found[file] = f"{type(error).__name__}: {error}"
    return found
