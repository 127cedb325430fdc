"""Elastic layers on tensors that differ: each element is the mean over the architectures with it.

The oracle runs every architecture by itself, and adds up its output at the elements it has.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from itertools import product
from typing import Any

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

import nas_space as ns
from nas_space import nn as mnn
from nas_space.mutable import Categorical
from nas_space.nn.decisions import Weighted
from nas_space.nn.decisions.mixed_tensor import MixedTensor

W, V = Categorical([2, 4], label="w"), Categorical([3, 5], label="v")
ARCHS = [{"w": w, "v": v} for w, v in product([2, 4], [3, 5])]

LAYERS: dict[str, Callable[[], Any]] = {
    "linear": lambda: mnn.MutableLinear(W, V),
    "linear of the same": lambda: mnn.MutableLinear(W, W),
    "linear of a sum": lambda: mnn.MutableLinear(W + V, V),
    "linear of a sum the other way round": lambda: mnn.MutableLinear(V + W, 3),
    "linear of a product": lambda: mnn.MutableLinear(W * 2, 3),
    "batch norm": lambda: mnn.MutableBatchNorm1d(W),
    "batch norm of a sum": lambda: mnn.MutableBatchNorm1d(V + W),
    "layer norm": lambda: mnn.MutableLayerNorm(W),
    "batch norm of images": lambda: mnn.MutableBatchNorm2d(W),
    "convolution": lambda: mnn.MutableConv2d(W, V, 3, padding=1),
    "depthwise": lambda: mnn.MutableConv2d(W, W, 3, padding=1, groups=W),
    "transposed": lambda: mnn.MutableConvTranspose2d(W, V, 2, stride=2),
    "rectifier": lambda: mnn.MutablePReLU(W),
    "group norm": lambda: mnn.MutableGroupNorm(1, W),
    "recurrent": lambda: mnn.MutableGRU(W, V, batch_first=True),
}

FORMS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "w": lambda a, _b, _c: a,
    "w reversed": lambda a, _b, _c: a.flip(-1),
    "w twice": lambda a, _b, _c: torch.cat([a, a], 1),
    "each of w twice": lambda a, _b, _c: a.repeat_interleave(2, 1),
    "the first w": lambda a, _b, c: c[:, : a.shape[1]],
    "w and v": lambda a, b, _c: torch.cat([a, b], 1),
    "v and w": lambda a, b, _c: torch.cat([b, a], 1),
    "w and v reversed": lambda a, b, _c: torch.cat([a, b], 1).flip(1),
    "three of w": lambda a, _b, _c: a.unsqueeze(1).repeat(1, 3, 1),
    "v of w": lambda a, b, _c: a.unsqueeze(1) * b.unsqueeze(2),
    "a batch of v of w": lambda a, b, _c: (a.unsqueeze(1) * b.unsqueeze(2)).reshape(-1, a.shape[1]),
    "w of w": lambda a, _b, _c: a.unsqueeze(1) * a.unsqueeze(2),
    "a batch of w of w": lambda a, _b, _c: (a.unsqueeze(1) * a.unsqueeze(2)).reshape(
        -1, a.shape[1]
    ),
    "w + v of w": lambda a, _b, c: a.unsqueeze(1) * c.unsqueeze(2),
    "w of w + v": lambda a, _b, c: c.unsqueeze(1) * a.unsqueeze(2),
    "w of w + v, first": lambda a, _b, c: (c.unsqueeze(1) * a.unsqueeze(2)).transpose(0, 1),
    "w by v": lambda a, b, _c: a.unsqueeze(2) * b.unsqueeze(1),
    "images of w": lambda a, _b, _c: a[:, :, None, None].repeat(1, 1, 3, 3),
    "images of w by v by v": lambda a, b, _c: (
        a[:, :, None, None] * b[:, None, :, None] * b[:, None]
    ),
    "images of w, w of them": lambda a, _b, _c: (
        (a[:, :, None, None, None] * a[:, None, :, None, None]).flatten(0, 1).repeat(1, 1, 3, 3)
    ),
}


class Net(ns.ModelSpace):
    def __init__(self, layer: str, form: str) -> None:
        super().__init__()
        self.firsts = torch.nn.ModuleList(mnn.MutableLinear(4, size) for size in (W, V, W + V))
        self.layer = LAYERS[layer]()
        self.form = FORMS[form]

    def output(self, x: Tensor) -> Any:
        output = self.layer(self.form(*(first(x) for first in self.firsts)))
        return output[0] if isinstance(output, tuple) else output


def elements(axes: Any, shape: Any, values: Any) -> Any:
    """The indices of the elements that an architecture has."""
    return np.ix_(
        *[
            np.arange(size) if axis is None else axis.indices(values)
            for axis, size in zip(axes, shape, strict=True)
        ]
    )


@given(
    st.sampled_from([*LAYERS]),
    st.sampled_from([*FORMS]),
    st.booleans(),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.booleans(),
)
@settings(max_examples=120, deadline=None)
@example("linear", "w of w", True, 0.3, False)
@example("linear of the same", "a batch of w of w", False, 0.3, False)
@example("linear", "v of w", True, 0.3, True)
@example("linear of a sum", "w of w + v, first", True, 0.3, False)
@example("convolution", "images of w, w of them", True, 0.3, False)
@example("batch norm", "a batch of v of w", True, 0.0, False)
def test_an_element_is_the_mean_over_the_architectures_that_have_it(
    layer, form, training, share, tied
):
    torch.manual_seed(0)
    space = Net(layer, form).double().train(training)
    x, rights = torch.randn(2, 4, dtype=torch.double), []
    for arch in ARCHS:
        try:
            with torch.no_grad(), space.activate(arch):
                rights.append(space.output(x))
        except (RuntimeError, ValueError):  # the layer does not go with the form
            return
    p = {
        "w": torch.tensor([share, 1 - share], dtype=torch.double),
        "v": torch.tensor([0.4, 0.6], dtype=torch.double),
    }
    mixture = Weighted(p)
    known: Any = mixture.knowing((W == 4) == (V == 5), True) if tied else nullcontext()
    with torch.no_grad(), mixture, known:
        mixed: Any = space.output(x)
    weights = [
        float(p["w"][i] * p["v"][j]) * (i == j or not tied) for i, j in product(range(2), range(2))
    ]
    by_cases = isinstance(mixed, MixedTensor) and mixed.wide is None
    wide: Any = mixed.wide if isinstance(mixed, MixedTensor) else mixed
    axes = mixed.axes if isinstance(mixed, MixedTensor) else (None,) * mixed.dim()
    total, shares = (torch.zeros(() if by_cases else wide.shape).double() for _ in range(2))
    for arch, right, weight in zip(ARCHS, rights, weights, strict=True):
        values = space.read(arch)
        if weight and by_cases:
            torch.testing.assert_close(mixed.at(values), right)
        elif weight:
            there = elements(axes, wide.shape, values)
            total[there] += weight * right
            shares[there] += weight
    if not by_cases:
        torch.testing.assert_close(wide[shares > 0], (total / shares)[shares > 0])
