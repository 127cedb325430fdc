"""torch's own step before training with several processes, on spaces."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import nas_space.nn as mnn
from nas_space.mutable import Categorical
from nas_space.nn import LayerChoice, ModelSpace


class Net(ModelSpace):
    def __init__(self, conv: Any, norm: str) -> None:
        super().__init__()
        width = Categorical([2, 4], label="width")
        elastic = getattr(mnn, f"Mutable{norm}")
        affine = Categorical([True, False], label="affine")
        self.stem = conv(3, width, 1)
        self.norm = elastic(width, eps=0.1)
        self.again = self.norm
        self.op = LayerChoice([elastic(width, affine=affine), nn.Identity()], label="op")
        self.out = conv(width, 3, 1)
        self.plain = nn.Sequential(getattr(nn, norm)(3))
        self.fixed = elastic(3)

    def forward(self, x: Any) -> Any:
        x = self.norm(self.stem(x))
        return self.fixed(self.plain(self.out(self.op(self.again(x)))))


ARCHS: list[dict[str, Any]] = [
    {"width": 2, "op": 0, "affine": True},
    {"width": 4, "op": 0, "affine": False},
    {"width": 4, "op": 1},
]


@pytest.mark.parametrize(
    ("conv", "norm", "shape"),
    [
        (mnn.MutableConv1d, "BatchNorm1d", (5,)),
        (mnn.MutableConv2d, "BatchNorm2d", (5, 5)),
        (mnn.MutableConv3d, "BatchNorm3d", (5, 5, 5)),
    ],
)
def test_elastic_batch_norms_become_synchronised_with_the_same_tensors(conv, norm, shape):
    torch.manual_seed(0)
    space, x = Net(conv, norm), torch.randn(2, 3, *shape)
    space.norm.momentum = 0.3
    for arch in ARCHS:
        with space.activate(arch):
            space(x)  # moves the statistics
    space.eval()
    before = dict(space.named_parameters()), dict(space.named_buffers()), space.symbols()
    expected = []
    for arch in ARCHS:
        with space.activate(arch):
            expected.append(space(x))
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(space)
    assert converted is space
    assert space.norm is space.again
    assert isinstance(space.norm, mnn.MutableSyncBatchNorm)
    assert space.norm.momentum == 0.3
    norms = [m for m in space.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 4
    assert all(isinstance(m, nn.SyncBatchNorm) for m in norms)
    assert (dict(space.named_parameters()), dict(space.named_buffers()), space.symbols()) == before
    space.refresh()
    for arch, output in zip(ARCHS, expected, strict=True):
        with space.activate(arch):
            assert torch.equal(space(x), output)
        network = space.freeze(arch)
        assert torch.equal(network(x), output)
        assert type(network.norm) is nn.SyncBatchNorm
    again = nn.SyncBatchNorm.convert_sync_batchnorm(space)
    assert again.norm is space.norm


def test_an_elastic_batch_norm_alone_becomes_one():
    made = nn.SyncBatchNorm.convert_sync_batchnorm(
        mnn.MutableBatchNorm2d(Categorical([2, 4], label="w"))
    )
    assert isinstance(made, mnn.MutableSyncBatchNorm)
    assert type(made.freeze({"w": 2})) is nn.SyncBatchNorm


def test_what_is_not_elastic_is_left_to_torch():
    made = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(nn.BatchNorm2d(2), nn.ReLU()))
    assert type(made[0]) is nn.SyncBatchNorm
    sub = mnn.MutableSyncBatchNorm.convert_sync_batchnorm(nn.BatchNorm2d(3))
    assert type(sub) is nn.SyncBatchNorm


def test_utilities_that_work_on_the_tensors_of_layers_work_on_elastic_ones():
    space = Net(mnn.MutableConv2d, "BatchNorm2d").eval()
    x = torch.randn(2, 3, 5, 5)
    with space.activate(ARCHS[0]):
        expected = space(x)
    nn.utils.convert_conv2d_weight_memory_format(space, torch.channels_last)
    torch.func.replace_all_batch_norm_modules_(space)
    space.train()
    with space.activate(ARCHS[0]):
        assert space(x).shape == expected.shape
        assert torch.equal(space(x), space.freeze(ARCHS[0])(x))
