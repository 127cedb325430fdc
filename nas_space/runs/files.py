"""What a search leaves behind: a network in files that need this library no more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import StorageError
from ..files import replacing, writing
from ..schema import checked

if TYPE_CHECKING:
    from torch import nn

__all__ = ["load_either", "read_json", "write_json", "write_network"]


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that the file is whole at every moment."""
    text = json.dumps(content, indent=2, default=str) + "\n"
    with replacing(path) as file:
        file.write_text(text, encoding="utf-8")


def read_json(path: Path, kind: Any) -> Any:
    """Return what a file of a run says; empty if there is none.

    Parameters
    ----------
    path
        The file.
    kind
        What it holds, as of :func:`~nas_space.schema.checked`.

    Raises
    ------
    StorageError
        It is damaged; the message names the file and what is wrong in it.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return kind()
    except (OSError, RecursionError, ValueError) as error:
        raise StorageError(f"{path} is damaged: {error}; restore a copy") from error
    return checked(found, kind, path)


def write_network(
    folder: Path, network: nn.Module, input_shape: tuple[int, ...] | None, facts: Mapping[str, Any]
) -> list[Path]:
    """Write an architecture's facts, its weights, and its program for inputs of a shape, if any."""
    import torch

    from ..training import save_weights

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in ("architecture.json", "weights.safetensors")]
    # Channels last is for training here. Which order of memory is fast is for the device to say on
    # which the network will run.
    plain: Any = network.to("cpu")
    plain = plain.to(memory_format=torch.contiguous_format)
    save_weights(plain, paths[1])
    if input_shape is not None:
        paths.append(_write_program(folder, plain, input_shape))
    write_json(paths[0], facts)  # the last: where it is, the others are
    return paths


def _write_program(folder: Path, network: nn.Module, input_shape: tuple[int, ...]) -> Path:
    """Write a network in evaluation as a program of ``torch.export``."""
    import torch

    from ..runtimes import export

    training = network.training
    try:
        export(network.eval(), "torch-export", torch.zeros(1, *input_shape), folder, seconds=0)
    finally:
        network.train(training)
    return folder / "network.pt2"


def load_either(space: Any, network: Any, path: Path) -> Any:
    """Return a network with weights from a file, which holds those of the network or of its space.

    Parameters
    ----------
    space
        Gets the weights if they are not the network's.
    network
        Frozen from the space.
    path
        As for :func:`~nas_space.training.load_weights`.

    Raises
    ------
    CheckpointError
        If the file is damaged, or its weights are of something else.
    """
    from ..training import load_weights, read_weights

    if read_weights(path).keys() == network.state_dict().keys():
        load_weights(network, path)
        return network
    load_weights(space, path)
    return space.freeze(network.architecture)
