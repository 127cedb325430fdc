# ruff: noqa: ARG005 - what makes a layer is given both widths
"""Each kind of operation between elastic layers, in a mixture: exact, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nas_space as ns
from nas_space import nn as mnn
from nas_space.errors import SpaceError
from nas_space.mutable import Categorical, CategoricalMultiple, MutableExpression
from nas_space.nn import active, flattened
from nas_space.nn.decisions import Weighted
from tests.oneshot.mixtures import attention, norm_by_hand, shuffled_by_hand

SIZE = 4


class Between(ns.ModelSpace):
    """Elastic branches of widths w, v and 2 * w; some operation; layers that read."""

    def __init__(self, run: Callable[..., Any], *make: Callable[..., nn.Module]) -> None:
        super().__init__()
        w, v = Categorical([2, 4], label="w"), Categorical([1, 3], label="v")
        self.a, self.b, self.c = (mnn.MutableConv2d(3, width, 1) for width in (w, v, w * 2))
        self.run = run
        self.layers = nn.ModuleList(one(w, v) for one in make)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def conv(size: Callable[..., Any], **more: Any) -> Callable[..., nn.Module]:
    return lambda w, v: mnn.MutableConv2d(size(w, v), 2, 1, **more)


def linear(size: Callable[..., Any]) -> Callable[..., nn.Module]:
    return lambda w, v: mnn.MutableLinear(size(w, v), 2)


def cat(*tensors: Tensor) -> Tensor:
    return torch.cat(tensors, 1)


def W(w: Any, _: Any) -> Any:  # noqa: N802 - as the label
    return w


def set_plainly(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, :, 0] = 0
    x[x > 1] = 0.5
    return x


def set_from(value: Callable[[Tensor], Any], index: Any) -> Callable[[Tensor], Tensor]:
    def changed(x: Tensor) -> Tensor:
        x = x.clone()
        x[index] = value(x)
        return x

    return changed


def asserted(x: Tensor) -> Tensor:
    assert x.shape[1] % 2 == 0
    assert x.shape[-1] == SIZE
    return x * 2 if x.size(1) > 1 else x


def outer(x: Tensor, y: Tensor) -> Tensor:
    return (x.mean((2, 3))[:, :, None] * y.mean((2, 3))[:, None]).flatten(1)


def either(w: Any, v: Any) -> Any:
    """The width of the input that is chosen."""
    chosen = CategoricalMultiple(range(2), n_chosen=1, label="in")
    return MutableExpression.condition(chosen[0] == 0, w, v)


KINDS: dict[str, tuple[Any, ...]] = {
    "cat": (lambda s, x: s.layers[0](cat(s.a(x), s.b(x))), conv(lambda w, v: w + v)),
    "cat in another order": (
        lambda s, x: s.layers[0](cat(s.b(x), s.a(x))),
        conv(lambda w, v: w + v),
    ),
    "cat of one, read as a product": (
        lambda s, x: s.layers[0](cat(s.a(x), s.a(x))),
        conv(lambda w, v: 2 * w),
    ),
    "cat of one, read as halves": (
        lambda s, x: s.layers[0](cat(s.a(x), s.a(x))),
        conv(lambda w, v: flattened(2, w)),
    ),
    "cat, batch norm": (
        lambda s, x: s.layers[1](s.layers[0](cat(s.a(x), s.b(x))).relu()),
        lambda w, v: mnn.MutableBatchNorm2d(w + v, momentum=0.0),
        conv(lambda w, v: w + v),
    ),
    "batch norm of another order": (
        lambda s, x: s.layers[1](s.layers[0](cat(s.b(x), s.a(x))).relu()),
        lambda w, v: mnn.MutableBatchNorm2d(w + v, momentum=0.0),
        conv(lambda w, v: w + v),
    ),
    "cat, layer norm": (
        lambda s, x: s.layers[1](s.layers[0](cat(s.a(x), s.b(x)).movedim(1, -1))),
        lambda w, v: mnn.MutableLayerNorm(w + v),
        linear(lambda w, v: w + v),
    ),
    "layer norm of a shape": (
        lambda s, x: s.layers[1](s.layers[0](s.a(x).movedim(1, -1))),
        lambda w, v: mnn.MutableLayerNorm((SIZE, SIZE, w)),
        linear(W),
    ),
    "layer norm of a tuple": (
        lambda s, x: s.layers[1](s.layers[0](s.a(x).movedim(1, -1))),
        lambda w, v: mnn.MutableLayerNorm((w,)),
        linear(W),
    ),
    "cat, depthwise": (
        lambda s, x: s.layers[1](s.layers[0](cat(s.a(x), s.b(x)))),
        lambda w, v: mnn.MutableConv2d(w + v, w + v, 3, groups=w + v),
        conv(lambda w, v: w + v),
    ),
    "groups": (
        lambda s, x: s.layers[0](cat(s.a(x), s.a(x))),
        conv(lambda w, v: w + w, groups=2),
    ),
    "transposed convolution": (
        lambda s, x: s.layers[0](cat(s.b(x), s.a(x))),
        lambda w, v: mnn.MutableConvTranspose2d(w + v, 2, 2),
    ),
    "dense": (
        lambda s, x: s.layers[1](cat((y := cat(s.a(x), s.b(x))), s.layers[0](y))),
        lambda w, v: mnn.MutableConv2d(w + v, v, 1),
        conv(lambda w, v: w + v + v),
    ),
    "chunk": (
        lambda s, x: s.layers[0]((p := s.c(x).chunk(2, 1))[0] * p[1].sigmoid()),
        conv(W),
    ),
    "split by size": (
        lambda s, x: s.layers[0](torch.split(y := s.c(x), y.size(1) // 2, 1)[1]),
        conv(W),
    ),
    "split by sizes": (
        lambda s, x: s.layers[0](
            cat(a := s.a(x), b := s.b(x)).split([a.shape[1], b.shape[1]], 1)[1]
        ),
        conv(lambda w, v: v),
    ),
    "glu": (lambda s, x: s.layers[0](F.glu(s.c(x), 1)), conv(W)),
    "channel shuffle": (
        lambda s, x: s.layers[0](F.channel_shuffle(cat(s.a(x), s.a(x).tanh()), 2)),
        conv(lambda w, v: 2 * w),
    ),
    "channel shuffle of a prefix": (
        lambda s, x: s.layers[0](nn.ChannelShuffle(2)(s.c(x))),
        conv(lambda w, v: 2 * w),
    ),
    "channel shuffle by hand": (
        lambda s, x: s.layers[0](shuffled_by_hand(s.a(x), s.a(x).tanh())),
        conv(lambda w, v: 2 * w),
    ),
    "flatten": (lambda s, x: s.layers[0](s.a(x).flatten(1)), linear(lambda w, v: w * 16)),
    "cat, view": (
        lambda s, x: s.layers[0](cat(s.a(x), s.b(x)).view(len(x), -1)),
        linear(lambda w, v: (w + v) * 16),
    ),
    "permute, flatten": (
        lambda s, x: s.layers[0](s.a(x).permute(0, 2, 3, 1).flatten(1)),
        linear(lambda w, v: w * 16),
    ),
    "permute, flatten, by name": (
        lambda s, x: s.layers[0](s.a(x).permute(0, 2, 3, 1).reshape(len(x), -1)),
        linear(lambda w, v: flattened(4, 4, w)),
    ),
    "stack": (
        lambda s, x: s.layers[0](torch.stack([s.a(x), s.a(x).tanh()], 2).flatten(1, 2)),
        conv(lambda w, v: w * 2),
    ),
    "unflatten": (
        lambda s, x: s.layers[0](s.c(x).unflatten(1, (2, -1)).mean(1)),
        conv(W),
    ),
    "repeat": (lambda s, x: s.layers[0](s.a(x).repeat(1, 2, 1, 1)), conv(lambda w, v: w * 2)),
    "squeeze": (lambda s, x: s.a(x).mean((2, 3), keepdim=True).squeeze().sum(1),),
    "squeeze of two": (lambda s, x: s.a(x).mean((2, 3), keepdim=True).squeeze((-1, 2)).sum(1),),
    "unsqueeze": (lambda s, x: s.a(x).unsqueeze(1).sum((1, 2)),),
    "repeat of other dimensions": (lambda s, x: s.layers[0](s.a(x).repeat(1, 1, 2, 1)), conv(W)),
    "repeat by a tuple": (
        lambda s, x: s.layers[0](s.a(x).repeat((1, 2, 1, 1))),
        conv(lambda w, v: w * 2),
    ),
    "repeat_interleave": (
        lambda s, x: s.layers[0](s.a(x).repeat_interleave(2, 1)),
        conv(lambda w, v: w * 2),
    ),
    "expand": (
        lambda s, x: s.layers[0](s.a(x).mean((2, 3), keepdim=True).expand(-1, -1, 3, 3)),
        conv(W),
    ),
    "expand by a tuple": (
        lambda s, x: s.layers[0](s.a(x).mean((2, 3), keepdim=True).expand((-1, -1, 3, 3))),
        conv(W),
    ),
    "expand by name": (
        lambda s, x: s.layers[0](s.a(x).mean((2, 3), keepdim=True).expand(size=(-1, -1, 3, 3))),
        conv(W),
    ),
    "roll, flip": (lambda s, x: s.layers[0](s.a(x).roll(1, 1).flip(1)), conv(W)),
    "flip, by keyword": (lambda s, x: s.layers[0](torch.flip(s.a(x), dims=(1,))), conv(W)),
    "roll, by keyword": (
        lambda s, x: s.layers[0](torch.roll(s.a(x), shifts=(1,), dims=(1,))),
        conv(W),
    ),
    "slice": (lambda s, x: s.layers[0](s.a(x)[:, ::2]), conv(lambda w, v: w // 2)),
    "half": (
        lambda s, x: s.layers[0]((y := s.a(x))[:, y.shape[1] // 2 :]),
        conv(lambda w, v: w // 2),
    ),
    "one channel": (lambda s, x: s.a(x)[:, 0] + s.a(x)[:, -1],),
    "listed channels": (lambda s, x: s.a(x)[:, [1, 0]],),
    "the number of dimensions, one more in some": (
        lambda s, x: (y := s.a(x)[:, ::2].squeeze(1)).amax(1).sum() * len(y.shape),
    ),
    "the size of what is kept case by case": (
        lambda s, x: (y := s.a(x).diagonal(dim1=1, dim2=3)).sum(-1) / y.shape[-1],
    ),
    "pixel shuffle": (lambda s, x: s.layers[0](F.pixel_shuffle(cat(*[s.a(x)] * 4), 2)), conv(W)),
    "pixel shuffle of a prefix": (
        lambda s, x: s.layers[1](F.pixel_shuffle(s.layers[0](x), 2)),
        lambda w, v: mnn.MutableConv2d(3, w * 4, 1),
        conv(W),
    ),
    "pixel unshuffle": (
        lambda s, x: s.layers[0](F.pixel_unshuffle(s.a(x), 2)),
        conv(lambda w, v: w * 4),
    ),
    "pad": (lambda s, x: s.layers[0](F.pad(s.a(x), (1, 1, 1, 1), mode="reflect")), conv(W)),
    "pad of channels": (
        lambda s, x: s.layers[0](F.pad(s.a(x), (0, 0, 0, 0, 1, 1))),
        conv(lambda w, v: w + 2),
    ),
    "pool, interpolate": (
        lambda s, x: s.layers[0](F.interpolate(F.max_pool2d(s.a(x), 2), scale_factor=2.0)),
        conv(W),
    ),
    "changed in place": (
        lambda s, x: s.layers[0](F.relu(set_plainly(s.a(x)), inplace=True)),
        conv(W),
    ),
    "asserts about the width": (lambda s, x: s.layers[0](asserted(s.a(x))), conv(W)),
    "flipped, and changed afterwards": (
        lambda s, x: s.layers[0]((y := s.a(x) * 1).flip(1).roll(1, 1).mul_(3) + y.mul_(2)),
        conv(W),
    ),
    "filled": (lambda s, x: s.layers[0]((y := s.a(x) * 1).fill_(2.0) + y), conv(W)),
    "a tensor made of a width": (
        lambda s, x: s.layers[0](
            F.conv2d(s.a(x), torch.ones(s.a(x).shape[1], 1, 1, 1).to(x), groups=s.a(x).shape[1])
        ),
        conv(W),
    ),
    "a width on the right": (
        lambda s, x: s.layers[0](
            s.a(x) * ((9 - (n := s.a(x).shape[1])) / (7 // n + 7 % n + 1 / n + 2**n))
        ),
        conv(W),
    ),
    "a plain linear of two in the middle": (
        lambda s, x: F.linear(
            (y := s.c(x))[:, (m := y.shape[1] // 2) : m + 2].movedim(1, -1),
            torch.arange(6.0).reshape(3, 2).to(x),
        ),
    ),
    "a width looked up": (
        lambda s, x: s.layers[0](s.a(x) * {2: 5.0, 4: 7.0}[s.a(x).shape[1]]),
        conv(W),
    ),
    "a width as a tensor": (
        lambda s, x: s.layers[0](s.a(x) * torch.tensor(s.a(x).shape[1])),
        conv(W),
    ),
    "parts of a shape": (
        lambda s, x: s.layers[0](s.a(x) / s.a(x).shape[1:].numel()),
        conv(W),
    ),
    "where": (
        lambda s, x: s.layers[0](torch.where((y := s.a(x)) > 0, y, y.masked_fill(y < -1, 0.0))),
        conv(W),
    ),
    "softmax": (lambda s, x: s.layers[0](s.a(x).softmax(1)), conv(W)),
    "norm by hand": (lambda s, x: s.layers[0](norm_by_hand(s.a(x))), conv(W)),
    "normalize": (lambda s, x: s.layers[0](F.normalize(s.a(x))), conv(W)),
    "plain layer norm": (
        lambda s, x: s.layers[0](F.layer_norm(y := s.a(x).movedim(1, -1), y.shape[-1:])),
        linear(W),
    ),
    "group norm": (lambda s, x: s.layers[0](F.group_norm(s.c(x), 2)), conv(lambda w, v: w * 2)),
    "sort": (lambda s, x: s.layers[0](s.a(x).sort(1)[0]), conv(W)),
    "cumsum": (lambda s, x: s.layers[0](s.a(x).cumsum(1)), conv(W)),
    "attention by hand": (lambda s, x: s.layers[0](attention_of(s.a(x))), linear(W)),
    "multi-head attention": (
        lambda s, x: s.layers[1](s.layers[0](*[tokens(s.c(x))] * 3)[0]),
        lambda w, v: mnn.MutableMultiheadAttention(w * 2, 2, batch_first=True),
        linear(lambda w, v: w * 2),
    ),
    "mean": (lambda s, x: s.a(x).mean(1),),
    "mean and maximum": (
        lambda s, x: cat(s.a(x).mean(1, keepdim=True), s.a(x).amax(1, keepdim=True)),
    ),
    "mean by the number of elements": (lambda s, x: (y := s.a(x)).sum((1, 2, 3)) / y.numel(),),
    "einsum": (lambda s, x: torch.einsum("bchw,bchw->bhw", s.a(x), s.a(x).relu()),),
    "gram": (lambda s, x: ((y := s.a(x).flatten(2)) @ y.transpose(1, 2)).sum((1, 2)),),
    "outer product": (
        lambda s, x: s.layers[0](outer(s.a(x), s.b(x))),
        linear(flattened),
    ),
    "outer product, read as a product": (
        lambda s, x: s.layers[0](outer(s.a(x), s.b(x))),
        linear(lambda w, v: w * v),
    ),
    "bilinear": (
        lambda s, x: s.layers[0](s.a(x).mean((2, 3)), s.b(x).mean((2, 3))),
        lambda w, v: mnn.MutableBilinear(w, v, 2),
    ),
    "unfold": (
        lambda s, x: s.layers[0](F.unfold(s.a(x), 3).flatten(1)),
        linear(lambda w, v: w * 36),
    ),
    "choice": (
        lambda s, x: s.layers[1](s.layers[0](cat(s.a(x), s.b(x)))),
        lambda w, v: mnn.LayerChoice([nn.Identity(), nn.Tanh()], label="op"),
        conv(lambda w, v: w + v),
    ),
    "choice by the width itself": (
        lambda s, x: s.layers[1](s.layers[0](s.a(x))),
        lambda w, v: Sine(w),
        conv(W),
    ),
    "depth": (
        lambda s, x: s.layers[1](s.layers[0](s.a(x))),
        lambda w, v: mnn.Repeat(_tanh, (0, 2), label="d"),
        conv(W),
    ),
    "chosen inputs, joined": (
        lambda s, x: s.layers[1](s.layers[0]([s.a(x), s.a(x).tanh(), s.a(x).relu()])),
        lambda w, v: mnn.InputChoice(3, n_chosen=2, reduction="concat", label="in"),
        conv(lambda w, v: w + w),
    ),
    "some inputs, joined": (
        lambda s, x: s.layers[1](s.layers[0]([s.a(x), s.b(x)])),
        lambda w, v: mnn.InputChoice(2, n_chosen=1, reduction="concat", label="in"),
        lambda w, v: mnn.MutableConv2d(either(w, v), 2, 1),
    ),
    "candidates of other shapes": (
        lambda s, x: s.layers[0](s.a(x)).mean((2, 3)) @ torch.ones(4, 2).to(x),
        lambda w, v: mnn.LayerChoice(
            [mnn.MutableConv2d(w, 4, 2), mnn.MutableConv2d(w, 4, 1)], label="op"
        ),
    ),
    "a number that is read": (
        lambda s, x: s.layers[1](s.layers[0](s.a(x))),
        lambda w, v: Heads(w),
        conv(W),
    ),
    "a number that is read, of another width": (
        lambda s, x: s.layers[1](s.layers[0](s.a(x))),
        lambda w, v: Powers(v),
        conv(W),
    ),
    "a number that cuts": (
        lambda s, x: s.layers[1](s.layers[0](x)),
        lambda w, v: Leading(v),
        conv(lambda w, v: v),
    ),
    "a width that is counted": (
        lambda s, x: s.layers[1](s.layers[0](s.a(x))),
        lambda w, v: Counting(w),
        conv(W),
    ),
    "numbers that are read in two modules": (
        lambda s, x: s.layers[2](s.layers[1](s.layers[0](s.a(x)))),
        lambda w, v: Heads(w),
        lambda w, v: Powers(v),
        conv(W),
    ),
    "a number that is read by a plain module": (
        lambda s, x: s.layers[1](s.layers[0](s.a(x))),
        lambda w, v: Plainly(v),
        conv(W),
    ),
    "a width as a plain number, after a change": (
        lambda s, x: s.layers[1](s.layers[0](s.a(x))),
        lambda w, v: Doubling(w),
        conv(W),
    ),
    "a width as a plain number": (
        lambda s, x: s.layers[0](s.a(x)) * int(s.a(x).shape[1]),
        conv(W),
    ),
}


class Reader(mnn.MutableModule):
    """Reads a number in its forward."""

    number: Any

    def __init__(self, number: Any) -> None:
        super().__init__()
        self.number = number


class Heads(Reader):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x.unflatten(1, (self.number, -1)).softmax(1)
        return y.flatten(1, 2) if self.number > 2 else y.flatten(1, 2) * 2


class Powers(Reader):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.number):
            x = x.square()
        return x


class Leading(Reader):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, : self.number]


class Counting(Reader):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, k : k + 1] * k for k in range(x.shape[1])], 1)


class Doubling(Reader):
    def forward(self, x: Tensor) -> Tensor:
        x.mul_(2)
        return x * int(x.shape[1])


class Plainly(nn.Module):
    def __init__(self, number: Any) -> None:
        super().__init__()
        self.number = number

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x ** active(self.number)
        return y


def tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def attention_of(x: Tensor) -> Tensor:
    return tokens(attention(F.avg_pool2d(x, 2)))


def _tanh(_: int) -> nn.Module:
    return nn.Tanh()


class Sine(mnn.ParametrizedModule):
    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.factor).sin()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_mixture_is_the_mean_over_all_architectures(kind, training):
    torch.manual_seed(0)
    space = Between(*KINDS[kind]).double().train(training)
    x = torch.randn(2, 3, SIZE, SIZE, dtype=torch.double)
    symbols = space.symbols()
    outputs = []
    for codes in product(*(range(symbol.size or 0) for symbol in symbols.values())):
        pairs = list(zip(symbols, codes, strict=True))
        with space.activate({label: symbols[label].value(code) for label, code in pairs}):
            outputs.append(space(x))
        certain = {
            label: torch.eye(symbols[label].size or 0, dtype=torch.double)[code].requires_grad_()
            for label, code in pairs
        }
        with Weighted(certain):
            output = space(x)
        torch.testing.assert_close(output, outputs[-1], rtol=1e-9, atol=1e-9)
        assert_finite_gradients(output, certain)
    uniform = {
        label: torch.full((symbol.size or 0,), 1 / (symbol.size or 1), dtype=torch.double)
        for label, symbol in symbols.items()
    }
    with Weighted({label: p.requires_grad_() for label, p in uniform.items()}):
        mixed = space(x)
    torch.testing.assert_close(mixed, torch.stack(outputs).mean(0), rtol=1e-9, atol=1e-9)
    assert_finite_gradients(mixed, uniform)


def assert_finite_gradients(output: Tensor, probabilities: dict[str, Tensor]) -> None:
    inputs = [*probabilities.values()]
    gradients: Any = torch.autograd.grad(output.square().sum(), inputs, allow_unused=True)
    assert all(torch.as_tensor(0.0 if g is None else g).isfinite().all() for g in gradients)


def put(x: Tensor) -> Tensor:
    x[:, 0] = 1
    return x


def branched(x: Tensor) -> Tensor:
    return x * 2 if x.sum() > 0 else x


ALL = slice(None)
SET: dict[str, Callable[[Tensor], Tensor]] = {
    "a column from a column": set_from(lambda x: x[:, :, 1].sigmoid(), (ALL, ALL, 0)),
    "a column from a plain tensor": set_from(lambda x: torch.arange(4.0), (ALL, ALL, 0)),
    "listed columns": set_from(lambda x: 0.5, (ALL, ALL, [0, 2])),
    "columns by a plain mask": set_from(
        lambda x: 0.5, (ALL, ALL, torch.tensor([True, False, True, False]))
    ),
    "elements by a plain mask": set_from(lambda x: 0.5, (ALL, ALL, torch.eye(4, dtype=torch.bool))),
}

REFUSED: dict[str, tuple[str, Any, Any]] = {
    "a change of channels in place": ("__setitem__", lambda s, x: s.layers[0](put(s.a(x))), W),
    "views of cases changed in place": (
        "add_",
        lambda s, x: s.layers[0]((y := s.a(x)) * y.diagonal(dim1=1, dim2=3).add_(1).sum()),
        W,
    ),
    "a branch on a value": ("__bool__", lambda s, x: s.layers[0](branched(s.a(x))), W),
    "plain numbers": ("tolist", lambda s, x: torch.tensor(s.a(x).sum(1).tolist()), W),
    "channels one by one": ("unbind", lambda s, x: sum(s.a(x).unbind(1)), W),
    "an output of elastic size": ("output", lambda s, x: s.a(x), W),
    "a width as a plain number": ("output", lambda s, x: torch.ones(int(s.a(x).shape[1])), W),
    "whole numbers": ("int64", lambda s, x: s.a(x).argmax(1), W),
    "an input that is too wide for some": (
        "in_channels",
        lambda s, x: s.layers[0](x),
        lambda w, v: w + 1,
    ),
    "sizes that do not fit": ("sub", lambda s, x: s.layers[0](s.a(x) - s.c(x)), W),
}
REFUSED |= {
    f"a change in place: {what}": (
        "__setitem__",
        lambda s, x, changed=changed: s.layers[0](changed(s.a(x))),
        W,
    )
    for what, changed in SET.items()
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_mixed_is_refused_by_name(what):
    name, run, size = REFUSED[what]
    space = Between(run, conv(size))
    uniform = {label: torch.full((2,), 0.5) for label in space.symbols()}
    with Weighted(uniform), pytest.raises(SpaceError, match=rf"(?s){name}.*'w'"):
        space(torch.randn(2, 3, SIZE, SIZE))


def test_a_refusal_names_the_module():
    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return put(x)

    space = Between(lambda s, x: s.layers[1](s.layers[0](s.a(x))), lambda w, v: Inner(), conv(W))
    uniform = {label: torch.full((2,), 0.5) for label in space.symbols()}
    with Weighted(uniform), pytest.raises(SpaceError, match=r"path: layers\.0"):
        space(torch.randn(2, 3, SIZE, SIZE))


def test_plain_tensors_stay_plain():
    """Where nothing differs, a mixture costs nothing: its tensors are those of torch."""
    space = Between(lambda s, x: type(s.layers[0](s.a(x))), conv(W))
    uniform = {label: torch.full((2,), 0.5) for label in space.symbols()}
    with Weighted(uniform):
        assert space(torch.randn(2, 3, SIZE, SIZE)) is Tensor
