"""The modes of modules, training or evaluation, put back as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["preserved_modes"]


@contextmanager
def preserved_modes(network: nn.Module) -> Iterator[None]:
    """Put every module of ``network`` back into the mode, training or not, that it was in."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            # Not `train(mode)`, which would reach the children as well.
            module.training = training
