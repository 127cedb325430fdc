"""The modes of modules, training or evaluation, and their buffers, put back as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

__all__ = ["preserved_buffers", "preserved_modes", "without_dropout"]


@contextmanager
def without_dropout(network: nn.Module) -> Iterator[None]:
    """Enter a context in which layers of dropout let everything through, in training mode too."""
    rates = [(layer, layer.p) for layer in network.modules() if isinstance(layer, _DropoutNd)]
    try:
        for layer, _ in rates:
            layer.p = 0.0
        yield
    finally:
        for layer, rate in rates:
            layer.p = rate


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
