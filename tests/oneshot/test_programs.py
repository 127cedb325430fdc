"""Random programs of torch's functions: a tensor of a mixture is, in each architecture, its own.

Unlike a whole network, whose output is a mean, each architecture's tensor is compared, exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

import nas_space as ns
from nas_space import nn as mnn
from nas_space.mutable import Categorical
from nas_space.nn.decisions import Weighted
from nas_space.nn.decisions.mixed_tensor import MixedTensor

WIDTHS = [{"w": w, "v": v} for w, v in product((2, 4, 6), (3, 4))]


class Widths(ns.ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        w, v = Categorical([2, 4, 6], label="w"), Categorical([3, 4], label="v")
        sizes = (w, v, w + v, w * 2)
        self.layers = torch.nn.ModuleList(mnn.MutableLinear(4, size) for size in sizes)


def at(d: int, index: Any) -> tuple[Any, ...]:
    return (*[slice(None)] * d, index)


def written(x: Tensor, d: int) -> Tensor:
    y = x.clone()
    y[at(d, 0)] = 7.0
    return y


Function = Callable[[Any, int, int], Any]
"""Takes a tensor, one of its dimensions, and a number from -3 to 3."""

MOVING: dict[str, Function] = {
    "transpose": lambda x, d, n: x.transpose(d, n % x.dim()),
    "movedim": lambda x, d, n: x.movedim(d, n % x.dim()),
    "flip": lambda x, d, _n: x.flip(d),
    "roll": lambda x, d, n: x.roll(n, d),
    "narrow": lambda x, d, _n: x.narrow(d, 0, x.shape[d] // 2),
    "slice": lambda x, d, n: x[at(d, slice(n, None, 1 + n % 2))],
    "slice to an end": lambda x, d, n: x[at(d, slice(None, n or None))],
    "index": lambda x, d, n: x[at(d, n % 2)],
    "select": lambda x, d, _n: x.select(d, -1),
    "new dimension": lambda x, d, _n: x[at(d, None)],
    "squeeze": lambda x, d, _n: x.squeeze(d),
    "flatten": lambda x, d, n: x.flatten(*sorted((d, n % x.dim()))),
    "unflatten": lambda x, d, n: x.unflatten(d, (2, -1) if n > 0 else (-1, 2)),
    "reshape": lambda x, _d, _n: x.reshape(2, -1, x.shape[-1]),
    "chunk": lambda x, d, n: x.chunk(2, d)[n % 2],
    "split": lambda x, d, n: x.split(1 + n % 3, d)[0],
    "split by sizes": lambda x, d, _n: x.split([1, x.shape[d] - 1], d)[1],
    "repeat_interleave": lambda x, d, _n: x.repeat_interleave(2, d),
    "repeat": lambda x, d, _n: x.repeat(*[2 if k == d else 1 for k in range(x.dim())]),
    "expand": lambda x, _d, _n: x.unsqueeze(0).expand(2, *x.shape),
    "cat": lambda x, d, _n: torch.cat([x, x * 2], d),
    "stack": lambda x, d, _n: torch.stack([x, x.tanh()], d),
    "unbind": lambda x, d, n: x.unbind(d)[n % 2],
    "channel_shuffle": lambda x, _d, _n: F.channel_shuffle(x.unsqueeze(-1), 2),
}
MIXING: dict[str, Function] = {
    "sum": lambda x, d, n: x.sum(d, keepdim=n > 0),
    "mean": lambda x, _d, _n: x.mean((0, -1), keepdim=True),
    "max": lambda x, d, _n: x.max(d)[0],
    "norm": lambda x, d, _n: x.norm(2, d),
    "normalize": lambda x, d, _n: F.normalize(x, dim=d),
    "softmax": lambda x, d, _n: x.softmax(d),
    "cumsum": lambda x, d, _n: x.cumsum(d),
    "tanh": lambda x, _d, _n: x.tanh(),
    "added to itself": lambda x, d, _n: x + x.flip(d),
    "times a mean": lambda x, d, _n: x * x.mean(d, keepdim=True),
    "where": lambda x, _d, _n: torch.where(x > 0, x, x * 0.1),
    "scaled by a size": lambda x, d, _n: x * x.shape[d] ** -0.5,
    "in place": lambda x, _d, _n: (x * 1).add_(1),
    "written": lambda x, d, _n: written(x, d),
    "masked": lambda x, _d, _n: x.masked_fill(x > 0.3, 0.5),
    "glu": lambda x, d, _n: F.glu(x, d),
    "pad": lambda x, _d, _n: F.pad(x, (1, 1)),
    "layer_norm": lambda x, _d, _n: F.layer_norm(x, (x.shape[-1],)),
    "matmul": lambda x, _d, _n: x @ x.transpose(-1, -2),
    "sort": lambda x, d, _n: x.sort(d)[0],
    "gather": lambda x, d, _n: x.gather(d, x.argsort(d)),
}
STEPS = st.tuples(st.sampled_from([*MOVING, *MIXING]), st.integers(0, 3), st.integers(-3, 3))


def run(space: Widths, inputs: Tensor, form: int, steps: list[tuple[str, int, int]]) -> Any:
    x: Any = space.layers[form % 4](inputs)
    if form < 4:
        x = x.unsqueeze(1).repeat(1, 3, 1)
    elif form < 8:
        x = x.unsqueeze(-1) * space.layers[1](inputs).unsqueeze(1)
    for name, d, n in steps:
        if not x.dim():
            break
        x = (MOVING | MIXING)[name](x, d % x.dim(), n)
    return x


def attempted(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except (IndexError, KeyError, RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
        return error


@given(st.integers(0, 11), st.lists(STEPS, min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_a_program_does_to_each_architecture_what_torch_does(form, steps):
    torch.manual_seed(0)
    space, inputs = Widths().double(), torch.randn(2, 4, dtype=torch.double)
    rights = []
    for arch in WIDTHS:
        with torch.no_grad(), space.activate(arch):
            rights.append(attempted(lambda: run(space, inputs, form, steps)))
    even = {label: torch.full((n,), 1 / n) for label, n in (("w", 3), ("v", 2))}
    with torch.no_grad(), Weighted(even):
        mixed: Any = attempted(lambda: run(space, inputs, form, steps))
        if isinstance(mixed, Exception):  # refused, or to be run once for each number
            return
        for arch, right in zip(WIDTHS, rights, strict=True):
            own = mixed.at(space.read(arch)) if isinstance(mixed, MixedTensor) else mixed
            assert not isinstance(right, Exception)
            torch.testing.assert_close(own, right, rtol=1e-9, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("name", [*MOVING, *MIXING])
def test_each_function_is_followed(name):
    """No function is refused for all forms of its input: then nothing would be compared."""
    space, inputs = Widths(), torch.randn(2, 4)
    even = {label: torch.full((n,), 1 / n) for label, n in (("w", 3), ("v", 2))}
    with torch.no_grad(), Weighted(even):
        for form, d, n in product(range(12), range(3), (-2, 1)):
            step = [(name, d, n)]
            found = attempted(partial(run, space, inputs, form, step))
            if not isinstance(found, Exception):
                return
    pytest.fail("it is always refused")
