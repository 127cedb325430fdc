"""What a search leaves behind: a network in files that need this library no more."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import replacing, writing

if TYPE_CHECKING:
    from torch import nn

__all__ = ["export_network", "load_either", "write_json", "write_network"]


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that the file is whole at every moment."""
    text = json.dumps(content, indent=2, default=str) + "\n"
    with replacing(path) as file:
        file.write_text(text, encoding="utf-8")


def export_network(network: nn.Module, input_shape: tuple[int, ...], path: Path) -> None:
    """Write a network as a program of ``torch.export``, for batches of any size.

    Parameters
    ----------
    network
        A plain network; exported in evaluation mode, on the CPU.
    input_shape
        Of one sample, without the batch.
    path
        Ends in ``.pt2``.
    """
    import torch

    training = network.training
    network.eval()
    example = torch.zeros(2, *input_shape)
    batch = torch.export.Dim("batch", min=1)
    try:
        program = torch.export.export(network, (example,), dynamic_shapes=({0: batch},))
    finally:
        network.train(training)
    content = io.BytesIO()  # torch's own writer may abort the process where the disk is full
    torch.export.save(program, content)
    with replacing(path) as file:
        file.write_bytes(content.getbuffer())


def write_network(
    folder: Path, network: nn.Module, input_shape: tuple[int, ...], facts: Mapping[str, Any]
) -> list[Path]:
    """Write an architecture's facts, its weights and its program; give the paths."""
    import torch

    from ..training import save_weights

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in ("architecture.json", "weights.safetensors", "network.pt2")]
    # Which order of memory is fast is for the device to say on which it will run.
    plain: Any = network.to("cpu")
    plain = plain.to(memory_format=torch.contiguous_format)
    save_weights(plain, paths[1])
    export_network(plain, input_shape, paths[2])
    write_json(paths[0], facts)  # the last: where it is, the others are
    return paths


def load_either(space: Any, network: Any, path: Path) -> Any:
    """A network with weights from a file, which holds those of the network or of its space.

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
