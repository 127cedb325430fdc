"""Contexts that put a network into another state, and back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nas_space.training.modes import without_dropout


def test_without_dropout_training_has_no_noise_and_rates_are_put_back_after_an_error_too():
    net = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout1d(0.3), nn.AlphaDropout(0.2)))
    x = torch.randn(8, 16)
    with without_dropout(net.train()):
        assert torch.equal(net(x), x)
    with pytest.raises(RuntimeError), without_dropout(net):
        net(x[0, 0])
    assert [layer.p for layer in net.modules() if hasattr(layer, "p")] == [0.5, 0.3, 0.2]
    assert not torch.equal(net(x), x)
