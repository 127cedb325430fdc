import pytest
import torch
from torch import nn


def convolutional():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    ).eval()


class TwoInputs(nn.Module):
    """Takes its inputs by name, one of them optional, and returns a dict."""

    def __init__(self):
        super().__init__()
        self.query, self.key = nn.Linear(4, 6), nn.Linear(5, 6)

    def forward(self, query, key, scale=None, *, causal=False):
        scores = self.query(query) @ self.key(key).transpose(-1, -2)
        if scale is not None:
            scores = scores * scale
        if causal:
            scores = scores.tril()
        return {"scores": scores, "parts": (scores.argmax(-1), None)}


@pytest.fixture
def cnn():
    return convolutional()


@pytest.fixture
def images():
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def two_inputs():
    torch.manual_seed(0)
    return TwoInputs().eval()


@pytest.fixture
def bert():
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        vocab_size=100,
    )
    return BertForSequenceClassification(config).eval()
