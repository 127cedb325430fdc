"""Published weights: a local cache, and how to fill it."""

from __future__ import annotations

import hashlib
import os
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

import torch
from torch import nn

from ..errors import CheckpointError
from .published import find, with_weights

__all__ = [
    "BASE_ADDRESS",
    "base_address",
    "cache_folder",
    "checkpoint_file",
    "load_checkpoint",
    "load_pretrained_weight",
]

BASE_ADDRESS = "https://nni.blob.core.windows.net/nashub"
"""Where NNI published its checkpoints; the environment variable below names another place."""


def base_address() -> str:
    """Return where checkpoints are fetched from: ``NAS_SPACE_CHECKPOINTS``, if that is set."""
    return os.environ.get("NAS_SPACE_CHECKPOINTS", BASE_ADDRESS).rstrip("/")


def cache_folder() -> Path:
    """Return where checkpoints are kept: ``NAS_SPACE_CACHE``, else the user's cache folder."""
    if configured := os.environ.get("NAS_SPACE_CACHE"):
        return Path(configured)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "nas_space"


def checkpoint_file(name: str, *, download: bool = False, progress: bool = True) -> Path:
    """Return a checkpoint in the local cache, fetched if it is not there.

    Parameters
    ----------
    name
        File name: before the suffix, the first eight hex digits of the file's SHA-256.
    download
        Whether it may be fetched.
    progress
        Whether to show a progress bar.

    Raises
    ------
    CheckpointError
        If it is not there and may not or cannot be fetched, or its digest is wrong.
    """
    # The digest is checked each time, not only after the download: a file of the cache may have
    # been put there by hand, as the messages below say, or be damaged since. Weights are read by
    # torch's restricted unpickler, so that this is for the right numbers, and not what keeps code
    # from running.
    path = cache_folder() / name
    digest = Path(name).stem.rpartition("-")[2]
    address = f"{base_address()}/{name}"
    if not path.is_file():
        if not download:
            raise CheckpointError(
                f"the checkpoint {name} is not in {path.parent}; pass download=True to fetch it "
                f"from {address}"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Writes to a file beside it, and moves that into place once its digest is right.
            torch.hub.download_url_to_file(
                address, str(path), hash_prefix=digest, progress=progress
            )
        except (URLError, HTTPException, OSError) as error:
            raise CheckpointError(
                f"cannot fetch {address}: {error}; set NAS_SPACE_CHECKPOINTS to another base "
                f"address, or put the file into {path.parent}"
            ) from error
        except RuntimeError as error:  # how torch reports a wrong digest
            raise CheckpointError(
                f"{address} is damaged or not the published file: {error}"
            ) from error
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not found.startswith(digest):
        raise CheckpointError(
            f"{path} is damaged: its SHA-256 begins with {found[:8]}, not {digest}; delete it and "
            "fetch it again"
        )
    return path


def load_pretrained_weight(name: str, *, download: bool = False, progress: bool = True) -> str:
    """Return the path of the published weights of an architecture, as NNI's function of this name.

    Parameters
    ----------
    name
        Of the architecture, such as ``'proxyless-mobile'``.
    download, progress
        As in :func:`checkpoint_file`.

    Raises
    ------
    UsageError
        If none of that name is published.
    CheckpointError
        As :func:`checkpoint_file`.
    """
    published = find(name, with_weights(), "the hub")
    return str(checkpoint_file(published.checkpoint, download=download, progress=progress))


def load_checkpoint(
    network: nn.Module, name: str, *, head: str, download: bool = False, progress: bool = True
) -> None:
    """Load published weights into a network.

    Parameters
    ----------
    network
        Changed only if everything fits.
    name
        As in :func:`checkpoint_file`.
    head
        The module that keeps its own weights if the network has another number of labels.
    download, progress
        As in :func:`checkpoint_file`.

    Raises
    ------
    CheckpointError
        If the file holds anything but tensors, or other ones than the network needs.
    """
    path = checkpoint_file(name, download=download, progress=progress)
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{path} is not a checkpoint of plain tensors: {error}") from error
    if not isinstance(weights, dict) or not all(
        isinstance(value, torch.Tensor) for value in weights.values()
    ):
        raise CheckpointError(f"{path} is not a dictionary of tensors")
    own = network.state_dict()
    # Batch norms did not always count their batches.
    weights = {k: v for k, v in own.items() if k.endswith("num_batches_tracked")} | weights
    for key in [key for key in weights if str(key).startswith(f"{head}.")]:
        if key in own and own[key].shape != weights[key].shape:
            weights[key] = own[key]
    wrong = sorted(
        {key for key in own if key not in weights}
        | {str(k) for k in weights if k not in own or own[k].shape != weights[k].shape}
    )
    if wrong:
        raise CheckpointError(
            f"{path} does not fit a {type(network).__name__}: {len(wrong)} tensors are missing, "
            f"unknown or of another shape, among them {wrong[:3]}"
        )
    network.load_state_dict(weights)
