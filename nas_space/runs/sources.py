"""Networks and data as the command line names them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from torch import nn

from ..compression import load_network
from ..errors import DataError, UsageError
from ..lazy import named
from ..training import Splits, Task, load_data
from ..training.batches import one_pass
from ..training.forward import inputs_of
from .files import read_json

__all__ = ["example_of", "load_model", "load_task"]


def load_model(spec: str) -> nn.Module:
    """Load the network that a short text stands for, in evaluation mode.

    Parameters
    ----------
    spec
        A folder that ``save_pretrained`` of a model of ``transformers`` wrote, or
        :func:`nas_space.save_network` of one; or ``module:function``, what the function returns.

    Raises
    ------
    UsageError
        There is no such folder or function, or it gives no network.
    StorageError
        A file of the folder is damaged.
    """
    folder = Path(spec)
    if folder.is_dir():
        return _from_folder(folder).eval()
    found = _function("--model", spec)()
    if not isinstance(found, nn.Module):
        raise UsageError(
            f"--model {spec}: the function returned a {type(found).__name__}, not a network"
        )
    return found.eval()


def load_task(spec: str, teacher: nn.Module, seed: int, **options: Any) -> Task:
    """Make the task of doing what a network does, on the data that a short text stands for.

    Parameters
    ----------
    spec
        ``'digits'`` or an ``.npz``, as for :func:`~nas_space.training.load_data`; or
        ``module:function``, which returns a :class:`~nas_space.training.Task` of one's own, to
        which the teacher is added; :class:`~nas_space.training.Splits` of images with labels; or
        one, two or three data sets, to train, validate and test, whose labels are passed over. It
        is called with ``seed=`` if it takes that.
    teacher
        The network.
    seed
        Which examples are for what.
    options
        Of the task, such as ``batch_size`` and ``optimizer``, but for a task of one's own.

    Raises
    ------
    DataError
        There are no such data.
    UsageError
        The task has no data to validate on.
    """
    if ":" in spec and not spec.endswith(".npz"):
        function = _function("--data", spec)
        takes_seed = "seed" in inspect.signature(function).parameters
        found = function(seed=seed) if takes_seed else function()
    else:
        found = load_data(spec, seed)
    if isinstance(found, Task):
        task = found.distilled(teacher)
    elif isinstance(found, Splits):
        task = Task.classification(found, **options).distilled(teacher)
    else:
        if isinstance(found, Mapping):
            found = [found[name] for name in ("train", "validation", "test") if name in found]
        parts = list(found) if isinstance(found, Sequence) and len(found) <= 3 else [found]
        task = Task.distillation(teacher, *_split(parts), **options)
    if task.validation is None:
        raise UsageError(
            f"--data {spec}: candidates are compared on validation data, but there are none; "
            "return a task with validation=..., or two data sets"
        )
    return task


def example_of(task: Task) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what the network of a task is called with for one example.

    Raises
    ------
    DataError
        There are no data.
    """
    for batch in one_pass(task.train, 1):
        arguments, keywords = inputs_of(batch)
        return (
            tuple(_first(value) for value in arguments),
            {name: _first(value) for name, value in keywords.items()},
        )
    raise DataError("there are no training data")


def _split(parts: list[Any]) -> list[Any]:
    """Put a fifth of the only data set aside for validation."""
    from torch.utils.data import random_split

    from ..randomness import generator_of

    if len(parts) > 1:
        return parts
    try:
        size = len(parts[0])
    except TypeError:
        return parts
    # The same examples whatever the seed of the run, so that runs of several seeds are compared on
    # what none of them was trained on.
    held = max(1, size // 5)
    return list(random_split(parts[0], [size - held, held], generator_of(0, "held out", 0)))


def _first(value: Any) -> Any:
    return value[:1] if hasattr(value, "ndim") and value.ndim else value


def _function(option: str, spec: str) -> Callable[..., Any]:
    if ":" not in spec:
        raise UsageError(f"{option} {spec}: there is no such folder; or give module:function")
    found = named(spec, option)
    if not callable(found):
        raise UsageError(f"{option} {spec}: that is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]


class _Pretrained(TypedDict, total=False):
    """What ``config.json`` of a model of transformers says, as far as it is read here."""

    architectures: list[str] | None


def _from_folder(folder: Path) -> nn.Module:
    """Load what :func:`nas_space.save_network` or ``save_pretrained`` of transformers wrote."""
    config = folder / "config.json"
    if not config.exists():
        return load_network(folder)
    names = read_json(config, _Pretrained).get("architectures") or ["AutoModel"]
    try:
        import transformers
    except ImportError as error:
        raise UsageError(
            f"{folder} holds a model of transformers, which is not installed; pip install "
            "'nas-space[transformers]'"
        ) from error
    kind: Any = getattr(transformers, names[0], transformers.AutoModel)
    try:
        return kind.from_pretrained(folder, local_files_only=True)  # type: ignore[no-any-return]
    except Exception as error:  # transformers and safetensors have no class of error in common
        raise UsageError(
            f"{folder} holds no model that transformers can load: {type(error).__name__}: {error}"
        ) from error
