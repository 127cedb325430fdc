"""The space of ProxylessNAS (Cai, Zhu and Han, arXiv 1812.00332)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from ..mutable import make_divisible
from ..nn import MutableLinear, Repeat
from ..nn.elastic import blank_layers
from .arguments import positive_numbers
from .mobile import (
    ConvBNReLU,
    DepthwiseSeparableConv,
    inverted_residual_choice_builder,
    reset_parameters,
)
from .published import published_in
from .searched import SearchedSpace

__all__ = ["ProxylessNAS"]

_DOWNSAMPLES = {2: True, 3: True, 4: True, 5: False, 6: True, 7: False}
"""Which of the searched stages halve the size of the image."""

_IN_TABLES = {
    "stem": "Conv",
    "blocks": "expanded_conv",
    "feature_mix_layer": "Conv_1",
    "global_avg_pooling": "Logits",
}
"""What the authors' tables of latencies call the parts of the network."""


class ProxylessNAS(SearchedSpace):
    """Inverted residuals of several kernels and ratios, in six stages of variable depth.

    The space of the paper as NNI's hub has it.  A label ``s<stage>_depth`` says how many
    blocks a stage has (1 to 4 in stages 2 to 6; stage 7 has one), ``s<stage>_i<index>``
    which of ``k3e3``, ``k5e3``, ``k7e3``, ``k3e6``, ``k5e6``, ``k7e6`` a block is.  It
    describes 54,375,883,032,510,144 architectures.  Published are ``proxyless-cpu``,
    ``proxyless-gpu``, ``proxyless-mobile``, and ``acenas-m1`` to ``acenas-m3`` (arXiv 2108.03001).

    Parameters
    ----------
    num_labels
        Classes.
    base_widths
        Nine widths: of the stem, of stages 1 to 7, and of the last convolution.
    dropout_rate
        Before the classifier.
    width_mult
        Factor on all widths, which are rounded to multiples of 8.
    bn_eps, bn_momentum
        Of the batch norms.

    Raises
    ------
    UsageError
        If there are not nine positive widths.

    Examples
    --------
    >>> space = ProxylessNAS(num_labels=10, width_mult=0.25)
    >>> net = space.random(seed=0).eval()
    >>> net(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    published = published_in("ProxylessNAS")
    # Stage 7 has no depth to choose, but published architectures give one.
    retired_labels: ClassVar[dict[str, Any]] = {"s7_depth": 1}

    def __init__(
        self,
        num_labels: int = 1000,
        base_widths: Sequence[int] = (32, 16, 32, 40, 80, 96, 192, 320, 1280),
        dropout_rate: float = 0.0,
        width_mult: float = 1.0,
        bn_eps: float = 1e-3,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        meaning = "stem, stages 1 to 7, last convolution"
        given = positive_numbers("base_widths", base_widths, 9, meaning)
        widths = [make_divisible(width * width_mult, 8) for width in given]
        self.num_labels = num_labels
        self.dropout_rate = dropout_rate
        self.bn_eps = bn_eps
        self.bn_momentum = bn_momentum

        with blank_layers():
            self._build(widths)
        reset_parameters(self, bn_momentum=bn_momentum, bn_eps=bn_eps)

    def _build(self, widths: Sequence[int]) -> None:
        self.stem = ConvBNReLU(3, widths[0], stride=2)
        blocks: list[nn.Module] = [DepthwiseSeparableConv(widths[0], widths[1])]
        for stage, downsample in _DOWNSAMPLES.items():
            build = inverted_residual_choice_builder(
                [3, 6], [3, 5, 7], downsample, widths[stage - 1], widths[stage], f"s{stage}"
            )
            blocks.append(Repeat(build, (1, 4), label=f"s{stage}_depth") if stage < 7 else build(0))
        self.blocks = nn.Sequential(*blocks)
        self.feature_mix_layer = ConvBNReLU(widths[7], widths[8], kernel_size=1)
        self.global_avg_pooling = nn.AdaptiveAvgPool2d(1)
        self.dropout_layer = nn.Dropout(self.dropout_rate)
        self.classifier = MutableLinear(widths[8], self.num_labels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return class scores, ``(batch, num_labels)``, of images ``(batch, 3, height, width)``."""
        x = self.feature_mix_layer(self.blocks(self.stem(x)))
        x = self.global_avg_pooling(x).flatten(1)
        return self.classifier(self.dropout_layer(x))  # type: ignore[no-any-return]

    def no_weight_decay(self) -> set[str]:
        """Return names of the parameters that are not to be decayed, as timm asks for them."""
        return {"classifier.weight", "classifier.bias"}

    def latency_key(self, block: Any) -> str | None:
        """Return what the authors' tables of latencies call a piece of the network.

        Parameters
        ----------
        block
            A block of :mod:`nas_space.profiler`.

        Returns
        -------
        str or None
            ``None`` for what their ``Logits`` include: all from the pooling on.
        """
        # Dropout and classifier are within what the tables call Logits, which stands at the
        # pooling.
        part = block.path.split(".")[0]
        if part not in _IN_TABLES:
            return None
        source, target = block.inputs[0], block.outputs[0]
        shapes = f"input:{_height_first(source)}-output:{_height_first(target)}"
        if part == "global_avg_pooling":
            shapes = f"input:{_height_first(source)}-output:{self.num_labels}"
        if part != "blocks":
            return f"{_IN_TABLES[part]}-{shapes}"
        net = block.frozen()
        depthwise = next(m for m in net.modules() if isinstance(m, nn.Conv2d) and m.groups > 1)
        return (
            f"expanded_conv-{shapes}-expand:{depthwise.in_channels // source[1]}"
            f"-kernel:{depthwise.kernel_size[0]}-stride:{depthwise.stride[0]}"
            f"-idskip:{int(net.has_skip)}"
        )


def _height_first(shape: Sequence[int]) -> str:
    """A shape ``(batch, channels, height, width)`` as the tables write it."""
    return "x".join(map(str, (*shape[2:], shape[1])))
