"""The space of NAS-Bench-Macro (Su et al., arXiv 2103.11922)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn

from ..errors import UsageError
from ..mutable import Sample
from ..nn import LayerChoice, ModelSpace
from .arguments import check_positive
from .mobile import ConvBNReLU, InvertedResidual, same_width

__all__ = ["NasBenchMacro"]

_STAGES = (2, 3, 3)
"""How many searched layers each stage has; the first of a stage halves the image."""

_OPERATIONS = ("identity", "mb3_k3", "mb6_k5")
"""The candidates of a layer, in the order of the digits of the published names."""


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return what the benchmark calls an identity: a projection where the shape changes."""
    if stride == 1 and same_width(in_channels, out_channels):
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
    )


class NasBenchMacro(ModelSpace):
    """The 6,561 networks of NAS-Bench-Macro: eight layers, each one of three operations.

    A label ``op<layer>`` says what a layer is: ``identity``, ``mb3_k3`` or ``mb6_k5`` (inverted
    residuals of ratio 3 and kernel 3, ratio 6 and kernel 5).  The benchmark names a network by
    eight digits, one for each layer; :meth:`name_of` and :meth:`architecture_of` translate.
    At 32×32 pixels, multiply-adds and parameters are those of the published table.

    Parameters
    ----------
    num_labels
        Classes.
    init_channels
        Width of the stem; each of the three stages doubles it.

    Raises
    ------
    UsageError
        If a number is not positive.

    References
    ----------
    Su et al., *Prioritized architecture sampling with Monto-Carlo tree search*, CVPR 2021.

    Examples
    --------
    >>> from nas_space.profiler import macs
    >>> space = NasBenchMacro()
    >>> space.count()
    6561
    >>> arch = NasBenchMacro.architecture_of("00000000")
    >>> macs(space, (3, 32, 32)).freeze(arch)
    7713280
    """

    example_shape: ClassVar[tuple[int, ...]] = (3, 32, 32)

    def __init__(self, num_labels: int = 10, init_channels: int = 32) -> None:
        super().__init__()
        check_positive(num_labels=num_labels, init_channels=init_channels)
        self.num_labels = num_labels
        self.stem = ConvBNReLU(3, init_channels, activation_layer=nn.ReLU)
        width = init_channels
        layers: list[nn.Module] = []
        for depth in _STAGES:
            for index in range(depth):
                source, width = width, width if index else 2 * width
                stride = 1 if index else 2
                layers.append(_layer(len(layers), source, width, stride))
        self.layers = nn.Sequential(*layers)
        self.out = ConvBNReLU(width, 1280, 1, activation_layer=nn.ReLU)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(1280, num_labels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return class scores, ``(batch, num_labels)``, of images ``(batch, 3, height, width)``."""
        scores: torch.Tensor = self.classifier(
            self.pool(self.out(self.layers(self.stem(x)))).flatten(1)
        )
        return scores

    @staticmethod
    def name_of(arch: Mapping[str, Any]) -> str:
        """Return the published name of an architecture: a digit for each layer.

        Raises
        ------
        UsageError
            If it is no architecture of this space.

        Examples
        --------
        >>> NasBenchMacro.name_of(NasBenchMacro.architecture_of("01201201"))
        '01201201'
        """
        try:
            return "".join(
                str(_OPERATIONS.index(arch[f"op{layer}"])) for layer in range(sum(_STAGES))
            )
        except (KeyError, ValueError):
            raise UsageError(
                f"an architecture of NAS-Bench-Macro has the labels op0 to op{sum(_STAGES) - 1}, "
                f"each of {list(_OPERATIONS)}, but got {dict(arch)}"
            ) from None

    @staticmethod
    def architecture_of(name: str) -> Sample:
        """Return the architecture of a published name.

        Raises
        ------
        UsageError
            If the name is not eight digits from 0 to 2.
        """
        digits = str(name)
        if len(digits) != sum(_STAGES) or set(digits) - set("012"):
            raise UsageError(
                f"NAS-Bench-Macro names a network by {sum(_STAGES)} digits from 0 to "
                f"{len(_OPERATIONS) - 1}, first layer first, but got {name!r}"
            )
        return {f"op{layer}": _OPERATIONS[int(digit)] for layer, digit in enumerate(digits)}


def _layer(number: int, in_channels: int, out_channels: int, stride: int) -> LayerChoice:
    """Return one searched layer."""
    block = partial(InvertedResidual, in_channels, out_channels, activation_layer=nn.ReLU)
    return LayerChoice(
        {
            "identity": partial(_shortcut, in_channels, out_channels, stride),
            "mb3_k3": partial(block, 3, 3, stride),
            "mb6_k5": partial(block, 6, 5, stride),
        },
        label=f"op{number}",
    )
