"""The space of single path one-shot search (Guo et al., arXiv 1904.00420), on ShuffleNetV2."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..mutable import Categorical
from ..nn import LayerChoice, MutableBatchNorm2d, MutableConv2d
from ..nn.elastic import blank_layers
from .arguments import positive_numbers
from .published import published_in
from .searched import SearchedSpace

__all__ = ["ShuffleNetBlock", "ShuffleNetSpace"]

_LAYERS = {"k3": ("pdp", 3), "k5": ("pdp", 5), "k7": ("pdp", 7), "xcep": ("dpdpdp", 3)}
"""Candidate to its sequence of point-wise and depth-wise convolutions, and their kernel."""

_SHARES = range(1, 9)
"""Fifths of the usual width that the middle of a block may have."""


class ShuffleNetBlock(nn.Module):
    """Transforms one half of the channels and passes the other on; a stride transforms both.

    Parameters
    ----------
    in_channels, out_channels
        Of the block. With a stride of 1, half of the channels in are passed on as they are.
    mid_channels
        After the first point-wise convolution: a number or an expression.
    kernel_size
        Of depth-wise convolutions.
    stride
        1 or 2, of the first of these.
    sequence
        The convolutions in turn: ``p`` is point-wise, followed by a ReLU, ``d`` depth-wise. The
        last is a ``p``.
    affine
        Whether batch norms have weights.

    Raises
    ------
    UsageError
        If the sequence has anything else, or another end.

    References
    ----------
    Ma et al., *ShuffleNet V2*, arXiv 1807.11164.

    Examples
    --------
    >>> block = ShuffleNetBlock(8, 8, 4, kernel_size=3, stride=1)
    >>> block(torch.zeros(1, 8, 5, 5)).shape
    torch.Size([1, 8, 5, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        mid_channels: Any,
        *,
        kernel_size: int,
        stride: int,
        sequence: str = "pdp",
        affine: bool = True,
    ) -> None:
        super().__init__()
        if set(sequence) - {"p", "d"} or not sequence.endswith("p"):
            raise UsageError(f"a sequence is of 'p' and 'd' and ends with 'p', but is {sequence!r}")
        self.stride = stride
        channels = in_channels if stride == 2 else in_channels // 2
        depthwise = partial(
            MutableConv2d, kernel_size=kernel_size, padding=kernel_size // 2, bias=False
        )
        layers: list[nn.Module] = []
        width: Any = channels
        for place, kind in enumerate(sequence):
            if kind == "d":
                step = stride if "d" not in sequence[:place] else 1
                layers.append(depthwise(width, width, stride=step, groups=width))
                layers.append(MutableBatchNorm2d(width, affine=affine))
                continue
            if place == len(sequence) - 1:
                wider: Any = out_channels - channels
            else:
                wider = width if "p" in sequence[:place] else mid_channels
            layers.append(MutableConv2d(width, wider, 1, bias=False))
            layers += [MutableBatchNorm2d(wider, affine=affine), nn.ReLU(inplace=True)]
            width = wider
        self.branch_main = nn.Sequential(*layers)
        self.branch_proj = nn.Sequential()
        if stride == 2:
            self.branch_proj.extend(
                [
                    depthwise(channels, channels, stride=stride, groups=channels),
                    MutableBatchNorm2d(channels, affine=affine),
                    MutableConv2d(channels, channels, 1, bias=False),
                    MutableBatchNorm2d(channels, affine=affine),
                    nn.ReLU(inplace=True),
                ]
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return images ``(batch, out_channels, height, width)``, these halved by a stride of 2."""
        if self.stride == 2:
            return torch.cat([self.branch_proj(x), self.branch_main(x)], 1)
        # The shuffle of channels, at the beginning of the block and not at the end of the one
        # before: every other channel is passed on, and so what both halves hold is mixed by the
        # next block.
        return torch.cat([x[:, ::2], self.branch_main(x[:, 1::2])], 1)


class ShuffleNetSpace(SearchedSpace):
    """Twenty blocks, each with a kernel of 3, 5 or 7, or three depth-wise convolutions.

    The space as NNI's hub has it.  A label ``layer_<n>``, from 1 to 20, says which of ``k3``,
    ``k5``, ``k7`` and ``xcep`` a block is, and with ``channel_search``, ``channel_<n>`` how wide
    its middle is: of 20 % to 160 % of half of its output.  Published is ``spos``, whose
    weights want images with channels in the order blue, green, red, not normalised.

    Parameters
    ----------
    num_labels
        Classes.
    channel_search
        Whether widths of blocks are searched too.
    affine
        Whether batch norms have weights.
    base_widths
        Six widths: of the stem, of the four stages, and of the last convolution.
    stage_depths
        How many blocks each stage has.

    Raises
    ------
    UsageError
        If there are not six widths, multiples of 4 but for the last, and four depths.

    Examples
    --------
    >>> space = ShuffleNetSpace(num_labels=10, stage_depths=(1, 1, 2, 1))
    >>> space.count()
    1024
    >>> space.random(seed=0).eval()(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 10])
    """

    published = published_in("ShuffleNetSpace")

    def __init__(
        self,
        num_labels: int = 1000,
        channel_search: bool = False,
        affine: bool = True,
        *,
        base_widths: Sequence[int] = (16, 64, 160, 320, 640, 1024),
        stage_depths: Sequence[int] = (4, 4, 8, 4),
    ) -> None:
        super().__init__()
        stem, *stages, last = positive_numbers("base_widths", base_widths, 6)
        depths = positive_numbers("stage_depths", stage_depths, 4)
        if any(width % 4 for width in (stem, *stages)):
            raise UsageError(
                "blocks halve channels, and their halves, so that widths before the last are "
                f"multiples of 4, but base_widths is {tuple(base_widths)}"
            )
        self.num_labels = num_labels
        self.channel_search = channel_search
        self.affine = affine
        with blank_layers():
            self.first_conv = nn.Sequential(
                nn.Conv2d(3, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem), nn.ReLU(inplace=True)
            )
            blocks: list[nn.Module] = []
            before = stem
            for width, depth in zip(stages, depths, strict=True):
                for index in range(depth):
                    blocks.append(self._choice(len(blocks) + 1, before, width, 1 if index else 2))
                    before = width
            self.features = nn.Sequential(*blocks)
            self.conv_last = nn.Sequential(
                nn.Conv2d(before, last, 1, bias=False),
                nn.BatchNorm2d(last, affine=affine),
                nn.ReLU(inplace=True),
            )
            self.globalpool = nn.AdaptiveAvgPool2d(1)
            self.dropout = nn.Dropout(0.1)
            self.classifier = nn.Sequential(nn.Linear(last, num_labels, bias=False))
        self._reset()

    def _choice(self, place: int, before: int, width: int, stride: int) -> LayerChoice:
        middle: Any = width // 2
        if self.channel_search:
            # In this order: a product of floats is cut to a whole number, and another order of the
            # factors may end just below it.
            widths = [int(middle * (0.2 * share)) for share in _SHARES]
            middle = Categorical(widths, label=f"channel_{place}")

        def build(sequence: str, kernel_size: int) -> nn.Module:
            return ShuffleNetBlock(
                before,
                width,
                middle,
                kernel_size=kernel_size,
                stride=stride,
                sequence=sequence,
                affine=self.affine,
            )

        layers = {name: partial(build, *layer) for name, layer in _LAYERS.items()}
        return LayerChoice(layers, label=f"layer_{place}")

    def _reset(self) -> None:
        """Draw initial weights: small in the stem, by the inverse of their inputs elsewhere."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                stem = name.startswith("first_conv")
                nn.init.normal_(module.weight, 0, 0.01 if stem else 1 / module.weight.shape[1])
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
            elif isinstance(module, nn.BatchNorm2d) and module.affine:
                nn.init.ones_(module.weight)
                nn.init.constant_(module.bias, 1e-4)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores, ``(batch, num_labels)``, of images ``(batch, 3, height, width)``."""
        x = self.globalpool(self.conv_last(self.features(self.first_conv(x)))).flatten(1)
        return self.classifier(self.dropout(x))  # type: ignore[no-any-return]
