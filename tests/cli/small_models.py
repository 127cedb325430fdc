"""A network and data that the tests of ``nas-space compress`` name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils.data import TensorDataset


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 5),
    )


def pruned() -> nn.Module:
    """A network of which weights were pruned, and one is normalised, by hooks."""
    made: Any = net()
    prune.random_unstructured(made[3], "weight", amount=0.5)
    made[7] = nn.utils.weight_norm(made[7])
    return made  # type: ignore[no-any-return]


def data(seed: int = 0) -> list[Any]:
    """Images without labels, to train and to validate."""
    draw = torch.Generator().manual_seed(seed)
    return [TensorDataset(torch.randn(n, 3, 8, 8, generator=draw)) for n in (64, 32)]


class Encoder(nn.Module):
    """What takes its inputs by name, with a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(30, 16)
        self.up = nn.Linear(16, 32)
        self.down = nn.Linear(32, 16)

    def forward(self, tokens: Tensor, attention_mask: Tensor | None = None) -> dict[str, Tensor]:
        x = self.table(tokens)
        x = x + self.down(self.up(x).relu())
        if attention_mask is not None and not bool(attention_mask.all()):
            x = x * attention_mask[..., None]
        return {"states": x}


def encoder() -> nn.Module:
    torch.manual_seed(0)
    return Encoder()


def texts() -> list[dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(0)
    return [
        {
            "tokens": torch.randint(0, 30, (6,), generator=draw),
            "attention_mask": torch.ones(6, dtype=torch.int64),
        }
        for _ in range(40)
    ]


def nothing() -> None:
    return None
