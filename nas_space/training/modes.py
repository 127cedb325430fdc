"""The modes of modules, training or evaluation, and their buffers, put back as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["preserved_buffers", "preserved_modes"]


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


@contextmanager
def preserved_buffers(network: nn.Module) -> Iterator[None]:
    """Put the values of all buffers back, such as running statistics of batch norms."""
    before = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
