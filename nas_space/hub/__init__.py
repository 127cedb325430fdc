"""Spaces of networks, ready to search, and the parts they are built of."""

from .mobile import (
    ConvBNReLU,
    DepthwiseSeparableConv,
    InvertedResidual,
    inverted_residual_choice_builder,
    reset_parameters,
    same_width,
    simplify_sequential,
)
from .proxylessnas import ProxylessNAS

__all__ = [
    "ConvBNReLU",
    "DepthwiseSeparableConv",
    "InvertedResidual",
    "ProxylessNAS",
    "inverted_residual_choice_builder",
    "reset_parameters",
    "same_width",
    "simplify_sequential",
]
