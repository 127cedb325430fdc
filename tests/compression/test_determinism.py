"""A space of a network is the same one in every process: a run that goes on finds its labels."""

from __future__ import annotations

import pytest

from tests.hash_seeds import printed_under

SCRIPT = """
import torch
from torch import nn
import nas_space as ns

class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads, self.head_dim = 4, 16
        self.qkv, self.out = nn.Linear(8, 192), nn.Linear(64, 8)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, self.head_dim)).unbind(-3)
        out = nn.functional.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)))
        return self.out(out.transpose(1, 2).flatten(2))

space = ns.elastic(Attention().eval(), torch.randn(2, 3, 8))
print(list(space.original), [space.sample(seed=seed) for seed in range(3)])
"""


@pytest.mark.slow
def test_labels_and_their_order_do_not_depend_on_how_a_process_hashes_text():
    found = printed_under(SCRIPT, (1, 2))  # which differ in the order of a set of two sizes
    assert len(found) == 1
    assert "'heads'" in found.pop()
