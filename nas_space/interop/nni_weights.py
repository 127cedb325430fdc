"""Weights that were trained in an NNI supernet, by the names that they have in a space."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from ..errors import SpaceError

__all__ = ["load_supernet"]


def load_supernet(space: nn.Module, nni_space: Any) -> None:
    """Copy weights that were trained in an NNI supernet into a space.

    Parameters
    ----------
    space
        Where they go.
    nni_space
        What :func:`to_nni` made of the space, or NNI's own space of the same modules, after one
        of NNI's one-shot strategies has made a supernet of it.

    Raises
    ------
    SpaceError
        If the supernet lacks a tensor of the space, or has one of another shape; nothing is
        copied then.
    """
    mine = space.state_dict(keep_vars=True)
    theirs = _weights_of(nni_space)
    missing = [name for name in mine if name not in theirs]
    other = [name for name in mine if name in theirs and mine[name].shape != theirs[name].shape]
    if missing or other:
        name = (missing + other)[0]
        found = "is missing" if missing else f"has the shape {tuple(theirs[name].shape)}"
        raise SpaceError(
            f"NNI's space holds other tensors than {type(space).__name__}: {name!r} {found} there, "
            f"and {tuple(mine[name].shape)} is needed (one of {len(missing) + len(other)}); an NNI "
            "space holds all weights only after a one-shot strategy has made a supernet of it"
        )
    with torch.no_grad():
        for name, tensor in mine.items():
            tensor.copy_(theirs[name])


def _weights_of(nni_space: Any) -> dict[str, torch.Tensor]:
    """Return the tensors of an NNI supernet, by the names they had before it was made one."""
    found: dict[str, torch.Tensor] = nni_space.state_dict()
    for path, module in nni_space.named_modules():
        if type(module).__name__ == "ProxylessMixedRepeat":
            # A block that may be left out stands there as the second of two candidates, of which
            # the first is an identity: ``blocks.2.weight`` is ``blocks.2.1.weight``. Blocks below
            # the least depth stay as they are, and those may have a part called 1 of their own.
            start = re.escape(f"{path}.blocks" if path else "blocks")
            pattern = re.compile(rf"({start}\.(\d+))\.1\.")
            least = module.min_depth
            found = {
                pattern.sub(lambda m: f"{m[1]}." if int(m[2]) >= least else m[0], name, count=1): t  # noqa: B023
                for name, t in found.items()
            }
    return found
