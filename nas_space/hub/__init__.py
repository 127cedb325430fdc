"""Spaces of networks, ready to search, and the parts they are built of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazily

if TYPE_CHECKING:
    from .autoformer import (
        AutoFormer,
        AutoformerSpace,
        RelativePosition2D,
        RelativePositionSelfAttention,
    )
    from .configuration_writers import write_configuration
    from .configurations import Configuration, read_configuration
    from .mobile import (
        ConvBNReLU,
        DepthwiseSeparableConv,
        InvertedResidual,
        inverted_residual_choice_builder,
        reset_parameters,
        same_width,
        simplify_sequential,
    )
    from .mobilenetv3 import (
        Compact,
        CompactDepthwiseSeparableConv,
        CompactInvertedResidual,
        MobileNetV3Space,
        SqueezeExcite,
    )
    from .nas_bench_101 import NasBench101
    from .nas_bench_201 import NasBench201
    from .nas_bench_macro import NasBenchMacro
    from .nasnet import AmoebaNetSpace, CellSpace, DARTSSpace, ENASSpace, NASNetSpace, PNASSpace
    from .ofa import BottleneckD, OFAMobileNetV3Space, OFAResNetSpace
    from .proxylessnas import ProxylessNAS
    from .searched import SearchedSpace
    from .shufflenet import ShuffleNetBlock, ShuffleNetSpace

__all__ = [
    "AmoebaNetSpace",
    "AutoFormer",
    "AutoformerSpace",
    "BottleneckD",
    "CellSpace",
    "Compact",
    "CompactDepthwiseSeparableConv",
    "CompactInvertedResidual",
    "Configuration",
    "ConvBNReLU",
    "DARTSSpace",
    "DepthwiseSeparableConv",
    "ENASSpace",
    "InvertedResidual",
    "MobileNetV3Space",
    "NASNetSpace",
    "NasBench101",
    "NasBench201",
    "NasBenchMacro",
    "OFAMobileNetV3Space",
    "OFAResNetSpace",
    "PNASSpace",
    "ProxylessNAS",
    "RelativePosition2D",
    "RelativePositionSelfAttention",
    "SearchedSpace",
    "ShuffleNetBlock",
    "ShuffleNetSpace",
    "SqueezeExcite",
    "inverted_residual_choice_builder",
    "read_configuration",
    "reset_parameters",
    "same_width",
    "simplify_sequential",
    "write_configuration",
]

__getattr__, __dir__ = lazily(__name__)
