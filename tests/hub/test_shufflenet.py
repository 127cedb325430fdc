"""The space of single path one-shot search, against facts about NNI's and the paper's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import nas_space as ns
from nas_space.errors import UsageError
from nas_space.hub import ShuffleNetBlock, ShuffleNetSpace

SPOS = ShuffleNetSpace.published["spos"].architecture


def test_the_published_architecture_has_the_published_costs():
    net = ShuffleNetSpace.load_searched_model("spos")
    assert sum(parameter.numel() for parameter in net.parameters()) == 3_558_464
    # arXiv 1904.00420 says 323M multiply-adds.
    assert ns.profiler.macs(ShuffleNetSpace(), (3, 224, 224)).evaluate(SPOS) == 322_918_720


def test_there_are_four_layers_for_each_of_twenty_blocks_and_eight_widths():
    assert ShuffleNetSpace().count() == 4**20
    space = ShuffleNetSpace(channel_search=True)
    assert space.count() == 32**20
    symbols: Any = space.symbols()
    assert list(symbols["channel_1"].values) == [6, 12, 19, 25, 32, 38, 44, 51]
    assert list(symbols["layer_20"].values) == ["k3", "k5", "k7", "xcep"]


def test_half_of_the_channels_pass_through_a_block_and_are_shuffled():
    block = ShuffleNetBlock(8, 8, 4, kernel_size=3, stride=1).eval()
    x = torch.randn(2, 8, 5, 5)
    y = block(x)
    torch.testing.assert_close(y[:, :4], x[:, ::2])
    torch.testing.assert_close(y[:, 4:], block.branch_main(x[:, 1::2]))


def test_a_strided_block_halves_images_and_projects_what_it_passes():
    block = ShuffleNetBlock(8, 24, 6, kernel_size=5, stride=2, sequence="dpdpdp")
    assert block(torch.randn(2, 8, 6, 6)).shape == (2, 24, 3, 3)
    strides = [m.stride[0] for m in block.branch_main if isinstance(m, nn.Conv2d)]
    assert strides == [2, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"base_widths": (16, 64)}, "6 positive whole numbers"),
        ({"stage_depths": (1, 0, 1, 1)}, "4 positive whole numbers"),
        ({"base_widths": (16, 66, 160, 320, 640, 1024)}, "multiples of 4"),
    ],
)
def test_senseless_arguments_are_refused(arguments, told):
    with pytest.raises(UsageError, match=told):
        ShuffleNetSpace(**arguments)


@pytest.mark.parametrize("sequence", ["pd", "pxp", ""])
def test_a_block_refuses_other_sequences(sequence):
    with pytest.raises(UsageError, match="ends with 'p'"):
        ShuffleNetBlock(8, 8, 4, kernel_size=3, stride=1, sequence=sequence)
