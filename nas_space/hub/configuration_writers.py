"""Networks of the hub as configurations in the form that once-for-all and ProxylessNAS publish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ..errors import UsageError
from .mobile import DepthwiseSeparableConv, InvertedResidual
from .mobilenetv3 import SqueezeExcite
from .ofa import BottleneckD, OFAMobileNetV3Space, OFAResNetSpace
from .proxylessnas import ProxylessNAS

__all__ = ["write_configuration"]


def write_configuration(network: nn.Module) -> dict[str, Any]:
    """Return the published form of a network.

    Parameters
    ----------
    network
        A frozen network of :class:`~nas_space.hub.ProxylessNAS`,
        :class:`~nas_space.hub.OFAMobileNetV3Space` or :class:`~nas_space.hub.OFAResNetSpace`.

    Returns
    -------
    dict
        Plain data, for ``json.dumps``.

    Raises
    ------
    UsageError
        If it is none of these, or still has something to choose.
    """
    for kind, write in _WRITERS.items():
        if isinstance(network, kind):
            space: Any = network
            if space.symbols():
                raise UsageError(
                    f"this {kind.__name__} has still to be decided; write the configuration of "
                    "space.freeze(architecture)"
                )
            return write(network)
    raise UsageError(
        f"configurations are of {[kind.__name__ for kind in _WRITERS]}, not of a "
        f"{type(network).__name__}"
    )


# -- inverted residuals: ProxylessNAS and MobileNetV3 ----------------------------------------------

_ACTS: dict[type[nn.Module], str] = {nn.ReLU6: "relu6", nn.ReLU: "relu", nn.Hardswish: "h_swish"}


def _inverted(block: nn.Sequential) -> dict[str, Any]:
    """Return the entry of an inverted residual."""
    convs = [layer for layer in block if isinstance(layer, nn.Conv2d)]
    depthwise = next(conv for conv in convs if conv.groups > 1)
    inputs, outputs = convs[0].in_channels, convs[-1].out_channels
    hidden = depthwise.in_channels
    act = next(_ACTS[type(layer)] for layer in block if type(layer) in _ACTS)
    # Whole ratios are written as such, as they are published; others say the width itself as well.
    ratio = hidden / inputs
    return {
        "name": "ResidualBlock",
        "conv": {
            "name": "MBConvLayer",
            "in_channels": inputs,
            "out_channels": outputs,
            "kernel_size": depthwise.kernel_size[0],
            "stride": depthwise.stride[0],
            "expand_ratio": int(ratio) if ratio == int(ratio) else ratio,
            "mid_channels": None if convs[0] is depthwise else hidden,
            "act_func": act,
            "use_se": any(isinstance(layer, SqueezeExcite) for layer in block),
            "groups": None,
        },
        "shortcut": _identity(inputs) if block.has_skip else None,
    }


def _inverted_blocks(network: nn.Module) -> list[dict[str, Any]]:
    kinds = (DepthwiseSeparableConv, InvertedResidual)
    return [_inverted(module) for module in network.modules() if isinstance(module, kinds)]


def _write_proxyless(network: Any) -> dict[str, Any]:
    return {
        "name": "ProxylessNASNets",
        "bn": _norm_of(network),
        "first_conv": _layer(*network.stem),
        "blocks": _inverted_blocks(network),
        "feature_mix_layer": _layer(*network.feature_mix_layer),
        "classifier": _linear(network.classifier, network.dropout_rate),
    }


def _write_mobilenet(network: Any) -> dict[str, Any]:
    *_, expand, _, mix = network.blocks
    dropout, last = network.classifier
    return {
        "name": "MobileNetV3",
        "bn": _norm_of(network),
        "first_conv": _layer(*network.stem),
        "blocks": _inverted_blocks(network),
        "final_expand_layer": _layer(*expand),
        "feature_mix_layer": _layer(*mix),
        "classifier": _linear(last, dropout.p),
    }


# -- bottlenecks: ResNet-50 D ----------------------------------------------------------------------


def _write_resnet(network: Any) -> dict[str, Any]:
    first, *middle, last = network.input_stem
    stem = [_layer(*first)]
    for conv in (layer.conv for repeat in middle for layer in repeat):
        layer = _layer(*conv)
        shortcut = _identity(layer["in_channels"])
        stem.append({"name": "ResidualBlock", "conv": layer, "shortcut": shortcut})
    stem.append(_layer(*last))
    return {
        "name": "ResNets",
        "bn": _norm_of(network),
        "input_stem": stem,
        "blocks": [_bottleneck(m) for m in network.modules() if isinstance(m, BottleneckD)],
        "classifier": _linear(network.classifier, network.dropout.p),
    }


def _bottleneck(block: Any) -> dict[str, Any]:
    conv = block.conv2.conv
    return {
        "name": "ResNetBottleneckBlock",
        "in_channels": block.conv1.conv.in_channels,
        "out_channels": block.conv3.conv.out_channels,
        "kernel_size": 3,
        "stride": conv.stride[0],
        "expand_ratio": block.expand_ratio,
        "mid_channels": conv.in_channels,
        "act_func": "relu",
        "groups": 1,
        "downsample_mode": "avgpool_conv",
    }


# -- what all have -------------------------------------------------------------------------------


_ALONE = {"use_bn": False, "act_func": None, "dropout_rate": 0, "ops_order": "weight_bn_act"}
"""What once-for-all says of a layer without others around it."""


def _layer(conv: Any, *others: nn.Module) -> dict[str, Any]:
    norm = any(isinstance(layer, nn.BatchNorm2d) for layer in others)
    return {
        "name": "ConvLayer",
        "kernel_size": conv.kernel_size[0],
        "stride": conv.stride[0],
        "dilation": 1,
        "groups": 1,
        "bias": conv.bias is not None,
        "has_shuffle": False,
        "use_se": False,
        "in_channels": conv.in_channels,
        "out_channels": conv.out_channels,
        **_ALONE,
        "use_bn": norm,
        "act_func": next(_ACTS[type(layer)] for layer in others if type(layer) in _ACTS),
    }


def _identity(channels: int) -> dict[str, Any]:
    return {"name": "IdentityLayer", "in_channels": channels, "out_channels": channels, **_ALONE}


def _linear(layer: Any, dropout_rate: float) -> dict[str, Any]:
    return {
        "name": "LinearLayer",
        "in_features": layer.in_features,
        "out_features": layer.out_features,
        "bias": layer.bias is not None,
        **_ALONE,
        "dropout_rate": dropout_rate,
    }


def _norm_of(network: nn.Module) -> dict[str, Any]:
    norm: Any = next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    return {"momentum": norm.momentum, "eps": norm.eps}


_WRITERS: dict[type[nn.Module], Callable[[Any], dict[str, Any]]] = {
    ProxylessNAS: _write_proxyless,
    OFAMobileNetV3Space: _write_mobilenet,
    OFAResNetSpace: _write_resnet,
}
