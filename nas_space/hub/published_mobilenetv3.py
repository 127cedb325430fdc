"""Published architectures of the MobileNetV3 space, as plain data."""

from __future__ import annotations

from typing import Any

from .published import Published

__all__ = ["MOBILENETV3"]


def _stages(*stages: str) -> dict[str, Any]:
    """An architecture: the blocks of stages 1 and on, each as ``k<kernel>e<ratio>``."""
    architecture: dict[str, Any] = {"stem_ks": 3, "s0_i0_ks": 3}
    for stage, listed in enumerate(stages, start=1):
        blocks = listed.split()
        architecture[f"s{stage}_depth"] = len(blocks)
        for index, block in enumerate(blocks):
            kernel, ratio = block.removeprefix("k").split("e")
            architecture[f"s{stage}_i{index}_exp"] = float(ratio)
            architecture[f"s{stage}_i{index}_ks"] = int(kernel)
    return architecture


_FIXED: dict[str, Any] = {"width_multipliers": 1.0, "bn_eps": 1e-5, "bn_momentum": 0.1}
"""What the publications have in common: widths that are not chosen, and their batch norms."""

# Searching for MobileNetV3: arXiv 1905.02244.
_LARGE = {
    **_FIXED,
    "base_widths": (16, 16, 24, 40, 80, 112, 160, 960, 1280),
    "expand_ratios": (1.0, 2.0, 2.3, 2.5, 3.0, 4.0, 6.0),
    "squeeze_excite": ("none", "none", "force", "none", "force", "force"),
}


def _small(*base_widths: int) -> dict[str, Any]:
    return {
        **_FIXED,
        "base_widths": base_widths,
        "expand_ratios": (3.0, 3.67, 4.0, 4.5, 6.0),
        "squeeze_excite": ("force", "none", "force", "force", "force"),
        "activation": ("hswish", "relu", "relu", *["hswish"] * 5),
        "stride": (2, 2, 2, 2, 1, 2, 1, 1),
        "depth_range": (1, 3),
    }


_SMALL_BLOCKS = _stages("k3e4.5 k3e3.67", "k5e4 k5e6 k5e6", "k5e3 k5e3", "k5e6 k5e6 k5e6")

# Cream of the Crop: arXiv 2010.15821.
_CREAM = {
    **_FIXED,
    "base_widths": (16, 16, 24, 40, 80, 96, 192, 320, 1280),
    "expand_ratios": (4.0, 6.0),
    "squeeze_excite": ("force",) * 6,
    "activation": ("swish",) * 9,
    "depth_range": (1, 6),
}

MOBILENETV3: dict[str, Published] = {
    "mobilenetv3-large-100": Published(
        _stages(
            "k3e4 k3e3",
            "k5e3 k5e3 k5e3",
            "k3e6 k3e2.5 k3e2.3 k3e2.3",
            "k3e6 k3e6",
            "k5e6 k5e6 k5e6",
        ),
        "mobilenetv3-large-100-420e040a.pth",
        _LARGE,
    ),
    "mobilenetv3-small-050": Published(
        _SMALL_BLOCKS,
        "mobilenetv3-small-050-05cb7a80.pth",
        _small(16, 8, 16, 24, 24, 48, 288, 1024),
    ),
    "mobilenetv3-small-075": Published(
        _SMALL_BLOCKS,
        "mobilenetv3-small-075-c87d8acb.pth",
        _small(16, 16, 24, 32, 40, 72, 432, 1024),
    ),
    "mobilenetv3-small-100": Published(
        _SMALL_BLOCKS,
        "mobilenetv3-small-100-8332faac.pth",
        _small(16, 16, 24, 40, 48, 96, 576, 1024),
    ),
    "cream-014": Published(
        _stages("k3e4", "k5e6 k5e6", "k5e6 k5e6", "k3e6", "k5e6"),
        "cream-014-060aea24.pth",
        _CREAM,
    ),
    "cream-043": Published(
        _stages("k3e4", "k5e6 k3e6", "k5e6 k3e6", "k5e6 k5e6 k5e6", "k5e6 k5e6"),
        "cream-043-bec949e1.pth",
        _CREAM,
    ),
    "cream-114": Published(
        _stages("k3e4", "k5e6 k5e6", "k5e6 k5e6", "k5e6 k5e6 k5e6", "k5e6 k5e6"),
        "cream-114-fc272590.pth",
        _CREAM,
    ),
    "cream-287": Published(
        _stages("k3e4", "k5e6 k5e6", "k5e6 k3e6 k5e6", "k5e6 k5e6 k5e6 k5e6", "k5e6 k5e6 k5e6"),
        "cream-287-a0fcba33.pth",
        _CREAM,
    ),
    "cream-481": Published(
        _stages(
            "k5e6 k7e4 k5e6 k3e6",
            "k5e6 k5e4 k5e6 k3e4",
            "k5e6 k5e6 k5e6 k3e6 k3e6",
            "k5e6 k5e6 k5e6 k5e6",
            "k5e6 k5e6 k5e6 k5e6",
        ),
        "cream-481-d85779b6.pth",
        _CREAM,
    ),
    "cream-604": Published(
        _stages(
            "k5e6 k5e6 k5e4 k5e6 k5e6",
            "k5e6 k5e4 k5e6 k5e4 k5e6",
            "k5e6 k5e4 k5e6 k5e4 k5e6",
            "k5e6 k5e6 k5e4 k5e4 k5e6 k5e6",
            "k5e6 k5e6 k5e4 k5e6 k5e6 k5e6",
        ),
        "cream-604-9ee425f7.pth",
        _CREAM,
    ),
}
