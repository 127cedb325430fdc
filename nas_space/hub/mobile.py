"""The parts that mobile networks are built of.

They take expressions wherever a number of channels, a kernel or a ratio stands, and make
decisions (a bias, a residual) on structure, so that they come out the same in a space and
in a network built for one architecture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from ..errors import UsageError
from ..mutable import Categorical, MutableExpression, make_divisible
from ..mutable.node import Node
from ..nn import LayerChoice, MaybeIntChoice, MutableBatchNorm2d, MutableConv2d, MutableModule
from ..nn.construction import extent

__all__ = [
    "ActivationLayer",
    "ConvBNReLU",
    "DepthwiseSeparableConv",
    "InvertedResidual",
    "NormLayer",
    "SqueezeExcite",
    "inverted_residual_choice_builder",
    "one_of",
    "reset_parameters",
    "same_width",
    "simplify_sequential",
]

NormLayer = Callable[[Any], nn.Module]
ActivationLayer = Callable[..., nn.Module]
SqueezeExcite = Callable[[Any, Any], nn.Module]


def same_width(first: MaybeIntChoice, second: MaybeIntChoice) -> bool:
    """Tell whether two widths are the same for every architecture, as a residual needs them.

    Equal numbers, or the same expression; never decided by the identity of numbers.

    >>> same_width(320, 319 + 1)
    True
    """
    # Equal expressions are one object, whatever they were written like. Two choices that may come
    # out alike are not the same: a residual there would be in some architectures only, and
    # constructors decide once for all.
    if isinstance(first, Node) or isinstance(second, Node):
        return first is second
    return first == second


def simplify_sequential(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """Return modules, those of a ``Sequential`` in its place, one level deep, without identities.

    >>> list(simplify_sequential([nn.Sequential(nn.ReLU(), nn.Identity()), nn.Identity()]))
    [ReLU()]
    """
    for module in modules:
        for part in module.children() if isinstance(module, nn.Sequential) else (module,):
            if not isinstance(part, nn.Identity):
                yield part


class ConvBNReLU(nn.Sequential):
    """Convolution, normalisation, activation, keeping the size up to the stride.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, groups, dilation
        As of a convolution; any may be an expression.
    norm_layer
        Makes the normalisation of a number of channels; batch norm by default.
    activation_layer
        Makes the activation, called with ``inplace=True``; ReLU6 by default.
    bias
        Whether the convolution has one: by default, where the normalisation is an identity.

    Examples
    --------
    >>> ConvBNReLU(3, 8, stride=2)(torch.zeros(1, 3, 8, 8)).shape
    torch.Size([1, 8, 4, 4])
    """

    def __init__(
        self,
        in_channels: MaybeIntChoice,
        out_channels: MaybeIntChoice,
        kernel_size: MaybeIntChoice = 3,
        stride: MaybeIntChoice = 1,
        groups: MaybeIntChoice = 1,
        norm_layer: NormLayer | None = None,
        activation_layer: ActivationLayer | None = None,
        dilation: MaybeIntChoice = 1,
        bias: bool | None = None,
    ) -> None:
        norm = (norm_layer or MutableBatchNorm2d)(out_channels)
        convolution = MutableConv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            (kernel_size - 1) // 2 * dilation,
            dilation=dilation,
            groups=groups,
            bias=isinstance(norm, nn.Identity) if bias is None else bias,
        )
        activation = (activation_layer or nn.ReLU6)(inplace=True)
        super().__init__(*simplify_sequential([convolution, norm, activation]))


class _Residual(nn.Sequential):
    """Layers in sequence, added to their input where that has the same shape.

    Parameters
    ----------
    layers
        Identities among them are left out.
    in_channels, out_channels, stride
        Of all layers together: where they keep the shape, there is a residual connection.

    Raises
    ------
    UsageError
        If the stride is neither 1 nor 2.
    """

    def __init__(
        self,
        layers: Iterable[nn.Module],
        in_channels: MaybeIntChoice,
        out_channels: MaybeIntChoice,
        stride: int,
    ) -> None:
        if isinstance(stride, Node) or stride not in {1, 2}:
            raise UsageError(
                f"the stride of a block is 1 or 2, and the same for every architecture, since it "
                f"decides whether there is a residual connection; but got {stride!r}"
            )
        super().__init__(*simplify_sequential(layers))
        self.stride = stride
        self.has_skip = stride == 1 and same_width(in_channels, out_channels)

    @property
    def out_channels(self) -> Any:
        """The width of the output."""
        return [layer for layer in self if isinstance(layer, nn.Conv2d)][-1].out_channels

    torch.jit.unused(out_channels)  # scripting compiles properties, and this is Python

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the layers, and add the input if there is a residual connection."""
        y = x
        for layer in self:
            y = layer(y)
        return x + y if self.has_skip else y


class DepthwiseSeparableConv(_Residual):
    """A depthwise convolution, an optional squeeze-and-excite, and a linear projection.

    What an inverted residual of ratio 1 is in MobileNetV2.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride
        As of a convolution; all but the stride, which is 1 or 2, may be expressions.
    squeeze_excite
        Called with the hidden width and the input width, which are the same here.
    norm_layer, activation_layer
        As of :class:`ConvBNReLU`; there is no activation after the projection.

    Raises
    ------
    UsageError
        If the stride is neither 1 nor 2.

    Examples
    --------
    >>> DepthwiseSeparableConv(8, 16, stride=2)(torch.zeros(1, 8, 8, 8)).shape
    torch.Size([1, 16, 4, 4])
    """

    def __init__(
        self,
        in_channels: MaybeIntChoice,
        out_channels: MaybeIntChoice,
        kernel_size: MaybeIntChoice = 3,
        stride: int = 1,
        squeeze_excite: SqueezeExcite | None = None,
        norm_layer: NormLayer | None = None,
        activation_layer: ActivationLayer | None = None,
    ) -> None:
        width = in_channels
        layers = [
            *ConvBNReLU(width, width, kernel_size, stride, width, norm_layer, activation_layer),
            *([squeeze_excite(width, width)] if squeeze_excite else ()),
            *ConvBNReLU(width, out_channels, 1, 1, 1, norm_layer, nn.Identity),
        ]
        super().__init__(layers, in_channels, out_channels, stride)


class InvertedResidual(_Residual):
    """Widen, convolve depthwise, project back: the block of MobileNetV2 (arXiv 1801.04381).

    Parameters
    ----------
    in_channels, out_channels
        Widths; may be expressions.  With stride 1 and the same width, there is a residual.
    expand_ratio
        The hidden width is ``make_divisible(in_channels * expand_ratio, 8)``; the first
        convolution stays at ratio 1.  May be an expression.
    kernel_size
        Of the depthwise convolution; may be an expression.
    stride
        Of the depthwise convolution: 1 or 2.
    squeeze_excite
        Called with the hidden width and the input width; stands before the projection.
    norm_layer, activation_layer
        As of :class:`ConvBNReLU`; there is no activation after the projection.

    Raises
    ------
    UsageError
        If the stride is neither 1 nor 2.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> block = InvertedResidual(8, 8, expand_ratio=Categorical([3, 6], label="ratio"))
    >>> block.has_skip
    True
    """

    def __init__(
        self,
        in_channels: MaybeIntChoice,
        out_channels: MaybeIntChoice,
        expand_ratio: float | MutableExpression[Any],
        kernel_size: MaybeIntChoice = 3,
        stride: int = 1,
        squeeze_excite: SqueezeExcite | None = None,
        norm_layer: NormLayer | None = None,
        activation_layer: ActivationLayer | None = None,
    ) -> None:
        hidden = make_divisible(in_channels * expand_ratio, 8)
        layers = [
            *ConvBNReLU(in_channels, hidden, 1, 1, 1, norm_layer, activation_layer),
            *ConvBNReLU(hidden, hidden, kernel_size, stride, hidden, norm_layer, activation_layer),
            *([squeeze_excite(hidden, in_channels)] if squeeze_excite else ()),
            *ConvBNReLU(hidden, out_channels, 1, 1, 1, norm_layer, nn.Identity),
        ]
        super().__init__(layers, in_channels, out_channels, stride)


def one_of(values: Sequence[Any], label: str) -> Any:
    """Return a choice between values, or the value itself where there is one only."""
    return values[0] if len(values) == 1 else Categorical(list(values), label=label)


def inverted_residual_choice_builder(
    expand_ratios: Sequence[int],
    kernel_sizes: Sequence[int],
    downsample: bool,
    stage_input_width: MaybeIntChoice,
    stage_output_width: MaybeIntChoice,
    label: str,
) -> Callable[[int], LayerChoice]:
    """Return a builder of the blocks of one stage, each a choice between inverted residuals.

    Only the first block of the stage downsamples and changes the width.  Candidates are
    named ``k<kernel>e<ratio>``; the choice of block ``i`` is labelled ``<label>_i<i>``.

    Examples
    --------
    >>> from nas_space.nn import Repeat
    >>> build = inverted_residual_choice_builder([3, 6], [3, 5], True, 16, 24, "s2")
    >>> stage = Repeat(build, (1, 2), label="s2_depth")
    >>> stage.freeze({"s2_depth": 1, "s2_i0": "k5e6"})(torch.zeros(1, 16, 8, 8)).shape
    torch.Size([1, 24, 4, 4])
    """

    def build(index: int) -> LayerChoice:
        stride = 2 if downsample and index == 0 else 1
        width = stage_input_width if index == 0 else stage_output_width
        return LayerChoice(
            {
                f"k{kernel}e{ratio}": partial(
                    InvertedResidual, width, stage_output_width, ratio, kernel, stride
                )
                for ratio in expand_ratios
                for kernel in kernel_sizes
            },
            label=f"{label}_i{index}",
        )

    return build


def reset_parameters(
    model: nn.Module,
    model_init: str = "he_fout",
    init_div_groups: bool = False,
    bn_momentum: float = 0.1,
    bn_eps: float = 1e-5,
) -> None:
    """Initialise convolutions, batch norms and linear layers as mobile networks have it.

    Parameters
    ----------
    model
        A network or a space.  Of an elastic layer, the fan is that of the largest shape.
    model_init
        ``'he_fout'`` or ``'he_fin'``: whether outputs or inputs count for the variance of a
        convolution's weights (He et al., arXiv 1502.01852).
    init_div_groups
        Whether the fan is divided by the groups.
    bn_momentum, bn_eps
        Set on two-dimensional batch norms.

    Raises
    ------
    UsageError
        If the initialisation is unknown; nothing is changed then.

    Examples
    --------
    >>> conv = nn.Conv2d(16, 64, 3)
    >>> reset_parameters(conv, "he_fin")
    >>> bool(abs(conv.weight.std() - (2 / (9 * 16)) ** 0.5) < 0.01)
    True
    """
    if model_init not in ("he_fout", "he_fin"):
        raise UsageError(f"model_init must be 'he_fout' or 'he_fin', but got {model_init!r}")
    side = "out_channels" if model_init == "he_fout" else "in_channels"
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                width: Any = _as_set(module, side)
                if init_div_groups:
                    width = width / _as_set(module, "groups")
                fan = math.prod(module.weight.shape[2:]) * extent(width)
                module.weight.normal_(0, math.sqrt(2.0 / fan))
            elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                if module.affine:
                    module.weight.fill_(1)
                    module.bias.zero_()
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = bn_momentum
                    module.eps = bn_eps
            elif isinstance(module, nn.Linear):
                module.weight.normal_(0, 0.01)
                if module.bias is not None:
                    module.bias.zero_()


def _as_set(module: nn.Module, attribute: str) -> Any:
    """An attribute of a layer: an expression stays one, whatever is active."""
    if isinstance(module, MutableModule):
        return module.expression(attribute)
    return getattr(module, attribute)
