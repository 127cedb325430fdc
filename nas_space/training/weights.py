"""The weights of a network in a file of their own, to be read by others as well."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import CheckpointError, UsageError
from ..files import replacing
from .checkpoint import digest_of, identity_of, read_safetensors, stored_tensors

__all__ = ["check_fit", "load_weights", "read_weights", "save_weights"]

_PICKLED = (".pth", ".pt")
_CHECKSUM = "nas_space.sha256"


def save_weights(network: nn.Module, path: str | Path) -> None:
    """Write the weights of a network to a file, all of them or nothing.

    Parameters
    ----------
    network
        Parameters and persistent buffers are written. A tied one is written once; its other names
        are in the metadata, where ``safetensors.torch.load_model`` finds them too.
    path
        A ``.safetensors`` file; or ``.pth`` or ``.pt``, as ``torch.save`` writes them.

    Raises
    ------
    CheckpointError
        The network has state other than tensors.
    UsageError
        The file has another ending.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> net, other = nn.Linear(3, 2), nn.Linear(3, 2)
    >>> save_weights(net, Path(folder.name, "net.safetensors"))
    >>> load_weights(other, Path(folder.name, "net.safetensors"))
    >>> torch.equal(net.weight, other.weight)
    True
    >>> folder.cleanup()
    """
    path = Path(path)
    pickled = _is_pickled(path)
    state: dict[str, Tensor] = dict(network.state_dict())
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"{name!r} of the network is a {type(value).__name__}, not a tensor; "
                "save_state(path, network.state_dict()) may keep it"
            )
    with replacing(path) as temporary:
        if pickled:
            # torch's own writer may abort the process where the disk is full.
            content = io.BytesIO()
            torch.save({name: value.detach().cpu() for name, value in state.items()}, content)
            temporary.write_bytes(content.getbuffer())
        else:
            kept, aliases = _without_ties(state)
            tensors, metadata = stored_tensors(kept), {"format": "pt", **aliases}
            save_file(tensors, temporary, {**metadata, _CHECKSUM: digest_of(metadata, tensors)})


def load_weights(network: nn.Module, path: str | Path, strict: bool = True) -> None:
    """Read the weights of a network from a file.

    Parameters
    ----------
    network
        Gets the weights, converted to its own device and type.
    path
        A ``.safetensors``, ``.pth`` or ``.pt`` file; see :func:`read_weights`.
    strict
        Whether the names must be exactly those of the network. Otherwise those that both have are
        loaded.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, unsafe, or does not fit: the names and shapes that do not are
        listed. The network is as it was.
    """
    state = read_weights(path)
    check_fit(network, state, strict=strict, source=str(path))
    network.load_state_dict(state, strict=strict)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read tensors by name from a file, without running code that may be in it.

    Parameters
    ----------
    path
        A ``.safetensors`` file; or a ``.pth`` or ``.pt`` file that holds a dict of tensors, from
        which torch's restricted unpickler refuses all but tensors and plain containers.

    Returns
    -------
    dict
        From names to tensors on the CPU; tied ones under each of their names.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, or holds something else.
    UsageError
        The file has another ending.
    """
    path = Path(path)
    if _is_pickled(path):
        return _read_pickled(path)
    metadata, tensors = read_safetensors(path)
    checksum = metadata.pop(_CHECKSUM, None)  # a file of somebody else's has none
    if checksum is not None and checksum != digest_of(metadata, tensors):
        raise CheckpointError(f"{path} is damaged: its contents do not match their checksum")
    aliases = {
        alias: tensors[kept]
        for alias, kept in metadata.items()
        if kept in tensors and alias not in tensors
    }
    return {**tensors, **aliases}


def check_fit(
    network: nn.Module, state: Mapping[str, Any], *, strict: bool = True, source: str = "the state"
) -> None:
    """Refuse weights that do not fit a network, before any of them is loaded.

    Parameters
    ----------
    network
        Whose names and shapes are needed.
    state
        From names to tensors.
    strict
        Whether no name may be missing or unknown.
    source
        What to call ``state`` in the message.

    Raises
    ------
    CheckpointError
        It lists what is missing, unknown, or of another shape.
    """
    own = network.state_dict()
    wrong = [
        f"{name} is {_shape(state[name])} there, {_shape(own[name])} here"
        for name in own
        if name in state and _shape(state[name]) != _shape(own[name])
    ]
    if strict:
        wrong += [f"{name} is missing there" for name in own if name not in state]
        wrong += [f"{name} is unknown here" for name in state if name not in own]
    if wrong:
        more = f"; and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise CheckpointError(
            f"{source} does not fit this {type(network).__name__}: {'; '.join(wrong[:8])}{more}"
        )


def _shape(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__


def _is_pickled(path: Path) -> bool:
    if path.suffix not in {".safetensors", *_PICKLED}:
        raise UsageError(f"{path}: weights are in files that end in .safetensors, .pth or .pt")
    return path.suffix in _PICKLED


def _read_pickled(path: Path) -> dict[str, Tensor]:
    try:
        _check_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no file {path}") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is refused: it is damaged, or holds more than tensors and could run code "
            f"when read; ask for a .safetensors file ({str(error).splitlines()[0]})"
        ) from error
    except (
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
    ) as error:
        raise CheckpointError(
            f"{path} is damaged, cut short, or no file of torch: {error}"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise CheckpointError(
            f"{path} holds a {type(state).__name__}, not a dict of tensors by name"
        )
    return state


def _check_archive(path: Path) -> None:
    """Compare a file of ``torch.save`` with the checksums in it, at which torch does not look."""
    if not zipfile.is_zipfile(path):
        return  # the format of earlier versions, which has none
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"{damaged} does not match its checksum")


def _without_ties(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors, each under one name, and the other names of those that are tied."""
    kept: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    names: dict[tuple[Any, ...], str] = {}
    for name, tensor in state.items():
        identity = identity_of(tensor)
        if tensor.numel() and identity in names:
            aliases[name] = names[identity]
        else:
            kept[name] = tensor
            names[identity] = name
    return kept, aliases
