"""Networks and data small enough to train in a test, and what is needed to compare them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from nas_space.training import Task


def network(seed: int = 0) -> nn.Sequential:
    """With batch norm and dropout, so that statistics and noise matter."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3)
        )


def statistics(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Running mean and variance of a batch norm."""
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var


def dataset(length: int = 40, seed: int = 0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(length, 4, generator=generator)
    return TensorDataset(x, (x.sum(1) > 0).long() + (x[:, 0] > 1).long())


def noisy(x: Tensor, generator: torch.Generator) -> Tensor:
    return x + 0.1 * torch.randn(x.shape, generator=generator)


def task(**options: Any) -> Task:
    data = dataset()
    return Task.classification(
        **{
            "train": data,
            "validation": dataset(11, seed=1),
            "test": dataset(7, seed=2),
            "batch_size": 12,
            "augment": noisy,
            **options,
        }
    )


def same(a: nn.Module, b: nn.Module) -> bool:
    """Whether two networks have the same weights and buffers, bit for bit."""
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
