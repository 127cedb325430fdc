"""Parts of a user's own classes that say by a ``freeze(sample)`` of their own what they become.

What they become may be anything, so nothing that follows from the modules of the space holds for
them: neither that an architecture runs as it freezes, nor what it costs.  It holds where their
``freeze`` gives what that of this library gives, with more attributes at most; whether it does is
seen by calling both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ..mutable.node import Node
from ..tables.model import BareStructure
from .digests import described
from .freezing import freezes_itself, rebuilds_itself
from .module import MutableModule

__all__ = ["parts_apart"]


def parts_apart(root: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the path and the class of each part that becomes something else than its modules.

    Parameters
    ----------
    root
        A space, or any other module; frozen networks have no such parts.

    Examples
    --------
    >>> list(parts_apart(nn.Linear(2, 2)))
    []
    """
    for path, module in root.named_modules():
        if isinstance(module, MutableModule) and freezes_itself(type(module)):
            structure = module.structure()
            if structure is not None and not _freezes_as_ours(module, structure):
                yield path, type(module).__name__


def _freezes_as_ours(module: MutableModule, structure: Node) -> bool:
    kind: Any = type(module)
    if rebuilds_itself(kind):
        return False  # its weights are others, even where they begin with the same numbers
    ours = next(
        base for base in kind.__mro__ if not freezes_itself(base) and "freeze" in vars(base)
    )
    labels = BareStructure(structure)
    for values in (labels.default(), labels.random(random_state=0)):
        sample = dict(values.active)
        try:
            with torch.random.fork_rng(devices=[]):
                mine, its = ours.freeze(module, sample), kind.freeze(module, sample)
        except Exception:  # noqa: BLE001 - it is somebody's own, and not to be relied on
            return False
        if not _adds_attributes(mine, its):
            return False
    return True


def _adds_attributes(mine: nn.Module, its: Any) -> bool:
    """Return whether a network is another one but for more plain attributes."""
    if not isinstance(its, nn.Module):
        return False
    expected, found = dict.fromkeys(described(mine)), dict.fromkeys(described(its))
    if any(line not in found for line in expected):
        return False
    if any(" = " not in line for line in found if line not in expected):
        return False
    tensors = its.state_dict()
    return all(torch.equal(tensor, tensors[key]) for key, tensor in mine.state_dict().items())
