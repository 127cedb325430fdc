"""The space of AutoFormer: vision transformers of elastic width, heads and depth."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import torch

import nas_space as ns
from nas_space.errors import UsageError
from nas_space.hub import (
    AutoformerSpace,
    RelativePosition2D,
    RelativePositionSelfAttention,
    autoformer,
)
from nas_space.mutable import Categorical

SMALL: dict[str, Any] = {
    "search_embed_dim": (16, 24),
    "search_num_heads": (1, 2),
    "search_depth": (1, 2),
    "img_size": 16,
    "patch_size": 4,
    "head_dim": 8,
    "num_labels": 5,
}


def images(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(0))


# In millions, as the paper's tables 4 and 5 say; the smallest without relative positions.
@pytest.mark.parametrize(("name", "told"), [("small", 22.9), ("base", 53.7)])
def test_published_networks_have_the_published_parameters(name, told):
    space = AutoformerSpace(**AutoformerSpace.preset(name))
    arch = AutoformerSpace.published[f"autoformer-{name}"].architecture
    assert round(ns.profiler.params(space).evaluate(arch) / 1e6, 1) == told


def test_there_are_as_many_architectures_as_choices_of_each_block_that_is_used():
    assert AutoformerSpace().count() == 3 * sum(6**depth for depth in (12, 13, 14))
    assert AutoformerSpace(**AutoformerSpace.preset("base")).count() == 3 * (9**14 + 9**15 + 9**16)


def test_relative_positions_are_entries_for_distances_in_rows_and_columns():
    table = RelativePosition2D(3, length=1)
    vectors = table(10)  # a class token and 3 × 3 patches
    rows, columns = table.embeddings_table_v, table.embeddings_table_h
    assert torch.equal(vectors[0, 4], rows[0] + columns[0])  # from and to the class token
    assert torch.equal(vectors[4, 0], rows[0] + columns[0])
    for one in range(9):
        for other in range(9):
            down = max(-1, min(1, other // 3 - one // 3))
            right = max(-1, min(1, other % 3 - one % 3))
            expected = rows[2 + down] + columns[2 + right]
            assert torch.equal(vectors[1 + one, 1 + other], expected)


def test_attention_without_relative_positions_is_that_of_torch():
    attention = RelativePositionSelfAttention(12, 3, head_dim=4, qkv_bias=True)
    theirs = torch.nn.MultiheadAttention(12, 3, batch_first=True)
    qkv = (attention.q, attention.k, attention.v)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([layer.weight for layer in qkv]))
        theirs.in_proj_bias.copy_(torch.cat([layer.bias for layer in qkv]))
        theirs.out_proj.load_state_dict(attention.proj.state_dict())
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(attention(x), theirs(x, x, x)[0])


def test_fewer_heads_are_the_first_ones():
    heads = Categorical([1, 2], label="heads")
    attention = RelativePositionSelfAttention(6, heads, head_dim=3, rpe=True).eval()
    one = attention.q.freeze({"heads": 1})
    assert torch.equal(one.weight, attention.q.weight[:3])


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"pre_norm": False},
        {"global_pooling": False},
        {"rpe": False, "absolute_position": False},
    ],
)
def test_every_architecture_is_a_leading_part_of_the_space_and_costs_what_it_costs(arguments):
    space = AutoformerSpace(**SMALL, **arguments).eval()
    params = ns.profiler.params(space)
    for arch in space.sample(5, seed=0):
        net = space.freeze(arch)
        with space.activate(arch):
            assert torch.equal(space(images()), net(images()))
        assert params.evaluate(arch) == sum(parameter.numel() for parameter in net.parameters())


def test_a_network_of_published_weights_keeps_a_head_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setitem(autoformer._PRESETS, "tiny", SMALL)
    monkeypatch.setenv("NAS_SPACE_CACHE", str(tmp_path))
    theirs = AutoformerSpace(**SMALL)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    digest = hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()[:8]
    (tmp_path / "weights.pth").rename(tmp_path / f"supernet-{digest}.pth")
    monkeypatch.setitem(autoformer._SUPERNETS, "tiny", f"supernet-{digest}.pth")
    mine = AutoformerSpace.load_pretrained_supernet("random-one-shot-tiny")
    assert all(torch.equal(mine.state_dict()[k], v) for k, v in theirs.state_dict().items())
    arch = mine.sample(seed=0)
    assert torch.equal(mine.eval().freeze(arch)(images()), theirs.eval().freeze(arch)(images()))


def test_senseless_arguments_and_images_are_refused():
    with pytest.raises(UsageError, match="no multiple of patch_size=16"):
        AutoformerSpace(img_size=40)
    with pytest.raises(UsageError, match="did you mean 'tiny'"):
        AutoformerSpace.preset("tinny")
    network = AutoformerSpace(**SMALL).random(seed=0)
    with pytest.raises(UsageError, match="16 by 16 pixels"):
        network(torch.zeros(1, 3, 32, 32))
