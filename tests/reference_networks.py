"""ProxylessNAS (arXiv 1812.00332) written by hand, in ``torch.nn`` and nothing else.

Two things need networks that know nothing of search spaces. The tests compare what
a space freezes to with :class:`ProxylessNetwork`, and the benchmarks take the time to
build one as the floor: nobody gets the same layers for less.

Module names follow the published checkpoints, so a ``state_dict`` moves freely between
these networks, the frozen ones, and files made elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random

import torch
from torch import Tensor, nn

Architecture = Mapping[str, int | str]
NormLayer = Callable[[int], nn.Module]

BASE_WIDTHS = (32, 16, 32, 40, 80, 96, 192, 320, 1280)
"""Output channels of the stem, of stages 1 to 7, and of the feature mix; multiples of eight."""

STRIDES = {2: 2, 3: 2, 4: 2, 5: 1, 6: 2, 7: 1}
"""Stride of the first block of each searched stage."""

MAX_DEPTHS = {2: 4, 3: 4, 4: 4, 5: 4, 6: 4, 7: 1}
"""How many blocks a stage can have. Stage 7 always has its one."""

CANDIDATES = tuple(f"k{kernel}e{ratio}" for ratio in (3, 6) for kernel in (3, 5, 7))
"""A block's candidates, by the kernel of the depthwise convolution and the expansion."""


def random_architecture(rng: Random) -> dict[str, int | str]:
    """Draw every depth, and a candidate for every block kept, uniformly.

    Only active labels are present, in the order in which an input meets them.
    """
    architecture: dict[str, int | str] = {}
    for stage, max_depth in MAX_DEPTHS.items():
        depth = rng.randint(1, max_depth)
        if max_depth > 1:
            architecture[f"s{stage}_depth"] = depth
        for index in range(depth):
            architecture[f"s{stage}_i{index}"] = rng.choice(CANDIDATES)
    return architecture


def conv_norm(
    in_channels: int, out_channels: int, kernel_size: int, stride: int, groups: int, norm: NormLayer
) -> tuple[nn.Module, nn.Module]:
    """A convolution that keeps the size at stride 1, without a bias, and its norm."""
    conv = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False
    )
    return conv, norm(out_channels)


class ConvNormReLU(nn.Sequential):
    """Convolution, norm, ReLU6: the first and the last convolution of the network."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, norm: NormLayer
    ) -> None:
        super().__init__(
            *conv_norm(in_channels, out_channels, kernel_size, stride, 1, norm),
            nn.ReLU6(inplace=True),
        )


class Residual(nn.Sequential):
    """Layers in a row, and their input added to their output where `has_skip` says so."""

    has_skip: bool

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self:
            y = layer(y)
        return x + y if self.has_skip else y


class SeparableConv(Residual):
    """Depthwise, then pointwise convolution: the fixed first stage."""

    def __init__(self, in_channels: int, out_channels: int, norm: NormLayer) -> None:
        super().__init__(
            *conv_norm(in_channels, in_channels, 3, 1, in_channels, norm),
            nn.ReLU6(inplace=True),
            *conv_norm(in_channels, out_channels, 1, 1, 1, norm),
        )
        self.has_skip = in_channels == out_channels


class InvertedResidual(Residual):
    """Widen, convolve each channel by itself, narrow; a skip where the shapes agree."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        expand_ratio: int,
        stride: int,
        norm: NormLayer,
    ) -> None:
        hidden = in_channels * expand_ratio
        super().__init__(
            *conv_norm(in_channels, hidden, 1, 1, 1, norm),
            nn.ReLU6(inplace=True),
            *conv_norm(hidden, hidden, kernel_size, stride, hidden, norm),
            nn.ReLU6(inplace=True),
            *conv_norm(hidden, out_channels, 1, 1, 1, norm),
        )
        self.has_skip = stride == 1 and in_channels == out_channels


def candidate(
    name: str, stage: int, index: int, widths: Sequence[int], norm: NormLayer
) -> InvertedResidual:
    """The candidate called `name` (``'k5e3'``) of the block at `index` of a stage."""
    kernel_size, expand_ratio = int(name[1]), int(name[3])
    out_channels = widths[stage]
    if index == 0:
        in_channels, stride = widths[stage - 1], STRIDES[stage]
    else:
        in_channels, stride = out_channels, 1
    return InvertedResidual(in_channels, out_channels, kernel_size, expand_ratio, stride, norm)


def initialise(network: nn.Module) -> None:
    """Draw weights as the published networks do: He's normal by fan out; a small classifier.

    Batch norms are left alone: they are built with scale 1 and shift 0.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01)
            nn.init.zeros_(module.bias)


class ProxylessNetwork(nn.Module):
    """The network of one architecture.

    Inactive and retired labels of `architecture` are not looked at. `initialised=False`
    leaves the weights as the constructors of torch make them, for whoever loads others.
    """

    def __init__(
        self,
        architecture: Architecture,
        num_labels: int = 1000,
        widths: Sequence[int] = BASE_WIDTHS,
        dropout_rate: float = 0.0,
        bn_eps: float = 1e-3,
        bn_momentum: float = 0.1,
        initialised: bool = True,
    ) -> None:
        super().__init__()
        norm = partial(nn.BatchNorm2d, eps=bn_eps, momentum=bn_momentum)

        def block(stage: int, index: int) -> InvertedResidual:
            return candidate(str(architecture[f"s{stage}_i{index}"]), stage, index, widths, norm)

        self.stem = ConvNormReLU(3, widths[0], 3, 2, norm)
        self.blocks = nn.Sequential(
            SeparableConv(widths[0], widths[1], norm),
            *(
                nn.Sequential(
                    *(block(stage, i) for i in range(int(architecture[f"s{stage}_depth"])))
                )
                for stage in range(2, 7)
            ),
            block(7, 0),
        )
        self.feature_mix_layer = ConvNormReLU(widths[7], widths[8], 1, 1, norm)
        self.global_avg_pooling = nn.AdaptiveAvgPool2d(1)
        self.dropout_layer = nn.Dropout(dropout_rate)
        self.classifier = nn.Linear(widths[8], num_labels)
        if initialised:
            initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.feature_mix_layer(self.blocks(self.stem(x)))
        x = torch.flatten(self.global_avg_pooling(x), 1)
        y: Tensor = self.classifier(self.dropout_layer(x))
        return y


class Choice(nn.ModuleDict):
    """All the candidates of one block."""

    def __init__(self, stage: int, index: int, widths: Sequence[int], norm: NormLayer) -> None:
        super().__init__({name: candidate(name, stage, index, widths, norm) for name in CANDIDATES})


class Stage(nn.Module):
    """All the blocks that a stage of searched depth can have."""

    def __init__(self, stage: int, widths: Sequence[int], norm: NormLayer) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Choice(stage, index, widths, norm) for index in range(MAX_DEPTHS[stage])
        )


class ProxylessModules(nn.Module):
    """Every module of the whole space: what a space has to build, and nothing of what it adds.

    There is no choice to make here, hence no ``forward``; :meth:`path` gives the modules of
    one architecture, sharing their weights with the rest.
    """

    def __init__(
        self,
        num_labels: int = 1000,
        widths: Sequence[int] = BASE_WIDTHS,
        dropout_rate: float = 0.0,
        bn_eps: float = 1e-3,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        norm = partial(nn.BatchNorm2d, eps=bn_eps, momentum=bn_momentum)
        self.stem = ConvNormReLU(3, widths[0], 3, 2, norm)
        self.blocks = nn.Sequential(
            SeparableConv(widths[0], widths[1], norm),
            *(Stage(stage, widths, norm) for stage in range(2, 7)),
            Choice(7, 0, widths, norm),
        )
        self.feature_mix_layer = ConvNormReLU(widths[7], widths[8], 1, 1, norm)
        self.global_avg_pooling = nn.AdaptiveAvgPool2d(1)
        self.dropout_layer = nn.Dropout(dropout_rate)
        self.classifier = nn.Linear(widths[8], num_labels)
        initialise(self)

    def path(self, architecture: Architecture) -> nn.Sequential:
        """The modules that an input meets under `architecture`, in order."""
        names = ["stem", "blocks.0"]
        for stage in range(2, 7):
            depth = int(architecture[f"s{stage}_depth"])
            chosen = [architecture[f"s{stage}_i{i}"] for i in range(depth)]
            names += [f"blocks.{stage - 1}.blocks.{i}.{name}" for i, name in enumerate(chosen)]
        names += [f"blocks.6.{architecture['s7_i0']}", "feature_mix_layer", "global_avg_pooling"]
        body = [self.get_submodule(name) for name in names]
        return nn.Sequential(*body, nn.Flatten(), self.dropout_layer, self.classifier)
