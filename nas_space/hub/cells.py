"""Parts of the spaces of the NASNet family: operations, and what aligns the inputs of cells."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..nn import MutableBatchNorm2d, MutableConv2d, MutableLinear
from ..nn.segments import flattened
from ..nn.switch import Switch

__all__ = ["OPERATIONS", "AuxiliaryHead", "CellInputs", "DropPath", "FactorizedReduce", "relu_conv"]


def relu_conv(in_channels: Any, out_channels: Any, kernel_size: Any = 1, **options: Any) -> Any:
    """Return an activation, a convolution without a bias, and a batch norm."""
    return nn.Sequential(
        nn.ReLU(),
        MutableConv2d(in_channels, out_channels, kernel_size, bias=False, **options),
        MutableBatchNorm2d(out_channels),
    )


def _separable(width: Any, kernel_size: int, padding: int, stride: int, dilation: int) -> list[Any]:
    """An activation, a depth-wise and a point-wise convolution, and a batch norm."""
    depthwise = MutableConv2d(
        width, width, kernel_size, stride=stride, padding=padding, dilation=dilation,
        groups=width, bias=False,
    )  # fmt: skip
    pointwise = MutableConv2d(width, width, 1, bias=False)
    return [nn.ReLU(), depthwise, pointwise, MutableBatchNorm2d(width)]


def _separable_conv(kernel_size: int, times: int, dilation: int, width: Any, stride: int) -> Any:
    padding = dilation * (kernel_size // 2)
    parts = [
        _separable(width, kernel_size, padding, 1 if time else stride, dilation)
        for time in range(times)
    ]
    return nn.Sequential(*(layer for part in parts for layer in part))


def _conv(kernel_size: int, width: Any, stride: int) -> Any:
    return relu_conv(width, width, kernel_size, stride=stride, padding=kernel_size // 2)


def _spatially_separable(kernel_size: int, width: Any, stride: int) -> Any:
    """A convolution along rows and one along columns."""
    half = kernel_size // 2
    rows = {"kernel_size": (1, kernel_size), "stride": (1, stride), "padding": (0, half)}
    columns = {"kernel_size": (kernel_size, 1), "stride": (stride, 1), "padding": (half, 0)}
    return nn.Sequential(
        nn.ReLU(),
        MutableConv2d(width, width, bias=False, **rows),
        MutableConv2d(width, width, bias=False, **columns),
        MutableBatchNorm2d(width),
    )


def _average(kernel_size: int, _: Any, stride: int) -> Any:
    return nn.AvgPool2d(kernel_size, stride, kernel_size // 2, count_include_pad=False)


def _maximum(kernel_size: int, _: Any, stride: int) -> Any:
    return nn.MaxPool2d(kernel_size, stride, kernel_size // 2)


def _skip(width: Any, stride: int) -> Any:
    return nn.Identity() if stride == 1 else FactorizedReduce(width, width)


OPERATIONS: dict[str, Callable[[Any, int], nn.Module]] = {
    "skip_connect": _skip,
    "avg_pool_3x3": partial(_average, 3),
    "max_pool_3x3": partial(_maximum, 3),
    "max_pool_5x5": partial(_maximum, 5),
    "max_pool_7x7": partial(_maximum, 7),
    "conv_1x1": partial(_conv, 1),
    "conv_3x3": partial(_conv, 3),
    "conv_3x1_1x3": partial(_spatially_separable, 3),
    "conv_7x1_1x7": partial(_spatially_separable, 7),
    "sep_conv_3x3": partial(_separable_conv, 3, 2, 1),
    "sep_conv_5x5": partial(_separable_conv, 5, 2, 1),
    "sep_conv_7x7": partial(_separable_conv, 7, 2, 1),
    "dil_conv_3x3": partial(_separable_conv, 3, 1, 2),
    "dil_conv_5x5": partial(_separable_conv, 5, 1, 2),
    "dil_sep_conv_3x3": partial(_separable_conv, 3, 2, 2),
}
"""Name to a function of width and stride, which makes the operation."""


class FactorizedReduce(nn.Module):
    """Halves an image without a pooling: half of the channels read even places, half odd ones.

    Parameters
    ----------
    in_channels, out_channels
        Numbers or expressions; those out are even.
    """

    def __init__(self, in_channels: Any, out_channels: Any) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        half = out_channels // 2
        self.conv_1 = MutableConv2d(in_channels, half, 1, stride=2, bias=False)
        self.conv_2 = MutableConv2d(in_channels, half, 1, stride=2, bias=False)
        self.bn = MutableBatchNorm2d(flattened(2, half))
        self.pad = nn.ConstantPad2d((0, 1, 0, 1), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Return images of half the size."""
        # Every second place from the first, and every second from the next: half of the channels
        # each, so that no place of the image is lost by halving it. The padding is for odd sizes.
        x = self.relu(x)
        odd = self.pad(x)[:, :, 1:, 1:]
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(odd)], 1))  # type: ignore[no-any-return]


class DropPath(nn.Module):
    """Stochastic depth: zeroes whole examples in training, and scales the others up.

    Parameters
    ----------
    drop_prob
        The share of examples.

    References
    ----------
    Larsson et al., *FractalNet*, arXiv 1605.07648.
    """

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """Return examples of the same shape."""
        if not self.training or not self.drop_prob:
            return x
        # Whole examples, not numbers; those that stay are scaled up so that the mean does not
        # change.
        shape = (len(x), *(1 for _ in x.shape[1:]))
        kept = torch.full(shape, 1 - self.drop_prob, dtype=x.dtype, device=x.device)
        return x * kept.bernoulli() / kept


class CellInputs(nn.Module):
    """Gives the outputs of the two cells before one width and size.

    Parameters
    ----------
    before_last, last
        Channels of these outputs.
    width
        Of the cell.
    reduced
        Whether the last cell has halved images, so that those of the one before are larger; an
        expression where that is for the depth to say.
    """

    def __init__(self, before_last: Any, last: Any, width: Any, reduced: Any) -> None:
        super().__init__()
        ways = {
            True: partial(FactorizedReduce, before_last, width),
            False: partial(relu_conv, before_last, width),
        }
        self.pre0 = ways[reduced]() if isinstance(reduced, bool) else Switch(reduced, ways)
        self.pre1 = relu_conv(last, width)

    def forward(self, cells: list[Tensor]) -> list[Tensor]:
        """Return both, as the nodes of a cell read them."""
        before_last, last = cells
        return [self.pre0(before_last), self.pre1(last)]


class CellOutputs(nn.Module):
    """Hands the last cell's output on beside this one's, so that cells follow each other."""

    def forward(self, output: Tensor, cells: list[Tensor]) -> list[Tensor]:
        """Return what the next cell takes."""
        return [cells[-1], output]


class AuxiliaryHead(nn.Module):
    """A second classifier, for the loss in training, of images of about 8×8 or 14×14.

    Parameters
    ----------
    in_channels
        A number or an expression.
    num_labels
        Classes.
    stride
        Of its pooling: 3 for 8×8, 2 for 14×14.
    """

    def __init__(self, in_channels: Any, num_labels: int, stride: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.ReLU(inplace=True),
            nn.AvgPool2d(5, stride, 0, count_include_pad=False),
            MutableConv2d(in_channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(inplace=True),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(inplace=True),
        )
        self.classifier = MutableLinear(768, num_labels)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores."""
        return self.classifier(self.features(x).flatten(1))  # type: ignore[no-any-return]
