"""Depthwise convolutions of which the number of channels is a symbol to a compiler.

Compilers want to know how many groups there are, so that each width would be a program of its own.
What they do not look into, they need not know.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["depthwise"]


@torch.library.custom_op("nas_space::depthwise", mutates_args=())
def _convolve(
    x: Tensor, weight: Tensor, stride: list[int], padding: list[int], dilation: list[int]
) -> Tensor:
    outputs: Tensor = torch.convolution(
        x, weight, None, stride, padding, dilation, False, [0], x.shape[1]
    )
    return outputs


@_convolve.register_fake
def _(x: Any, weight: Any, stride: Any, padding: Any, dilation: Any) -> Tensor:
    sizes = [
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, k, s, p, d in zip(
            x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True
        )
    ]
    made: Tensor = x.new_empty([*x.shape[:2], *sizes])
    return made


@torch.library.custom_op("nas_space::depthwise_backward", mutates_args=())
def _backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
) -> tuple[Tensor, Tensor]:
    first, second, _ = torch.ops.aten.convolution_backward(
        *(grad, x, weight, None, stride, padding, dilation, False, [0], x.shape[1]),
        [True, True, False],
    )
    return first, second


@_backward.register_fake
def _(_grad: Any, x: Any, weight: Any, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(weight)


def _remember(ctx: Any, inputs: Any, output: Any) -> None:
    del output
    x, weight, *ctx.how = inputs
    ctx.save_for_backward(x, weight)


def _differentiate(ctx: Any, grad: Tensor) -> Any:
    return (*_backward(grad, *ctx.saved_tensors, *ctx.how), None, None, None)


_convolve.register_autograd(_differentiate, setup_context=_remember)


class _Depthwise:
    """A convolution of as many groups as there are channels, whatever it says itself."""

    def forward(self: Any, x: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        if torch.is_autocast_enabled(x.device.type):
            x, weight = (t.to(torch.get_autocast_dtype(x.device.type)) for t in (x, weight))
        y: Tensor = _convolve(x, weight, list(self.stride), list(self.padding), list(self.dilation))
        if bias is not None:
            y = y + bias.to(y).view(-1, *[1] * len(self.stride))
        return y


@cache
def depthwise(plain: Any) -> Any:
    """Return a class of convolutions that are depthwise, with the attributes of a plain one.

    >>> from torch import nn
    >>> layer = nn.Conv2d(4, 4, 3, groups=4)
    >>> x = torch.randn(1, 4, 5, 5)
    >>> y = layer(x)
    >>> layer.__class__ = depthwise(nn.Conv2d)
    >>> torch.allclose(layer(x), y, atol=1e-6)
    True
    """
    return type(f"Depthwise{plain.__name__}", (_Depthwise, plain), {})
