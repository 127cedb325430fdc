"""Architectures of AutoFormer that others found, as plain data."""

from __future__ import annotations

from typing import Any

from .published import Published

__all__ = ["AUTOFORMER", "AUTOFORMER_SUPERNETS", "PRESETS"]

_RATIOS = (3.0, 3.5, 4.0)

PRESETS: dict[str, dict[str, Any]] = {
    size: {
        "search_embed_dim": widths,
        "search_mlp_ratio": _RATIOS,
        "search_num_heads": heads,
        "search_depth": depths,
    }
    for size, widths, heads, depths in (
        ("tiny", (192, 216, 240), (3, 4), (12, 13, 14)),
        ("small", (320, 384, 448), (5, 6, 7), (12, 13, 14)),
        ("base", (528, 576, 624), (8, 9, 10), (14, 15, 16)),
    )
}
"""The three spaces of arXiv 2107.00651, table 1, as arguments."""


def _found(size: str, width: int, ratios: str, heads: str, file: str) -> Published:
    inner, numbers = ratios.split(), heads.split()
    architecture: dict[str, Any] = {"embed_dim": width, "depth": len(inner)}
    architecture |= {f"mlp_ratio_{i}": float(ratio) for i, ratio in enumerate(inner)}
    architecture |= {f"num_head_{i}": int(number) for i, number in enumerate(numbers)}
    return Published(architecture, file, PRESETS[size])


# As the authors' configurations list them, block by block.
AUTOFORMER: dict[str, Published] = {
    "autoformer-base": _found(
        "base",
        576,
        "3.5 3.5 4 3.5 4 3.5 3.5 3 4 4 3 4 3 3.5",
        "9 9 9 9 9 10 9 9 10 9 10 9 9 10",
        "autoformer-base-subnet-85105f76.pth",
    ),
    "autoformer-small": _found(
        "small",
        384,
        "3 3.5 3 3.5 4 4 4 4 4 4 4 3.5 4",
        "6 6 5 7 5 5 5 6 6 7 7 6 7",
        "autoformer-small-subnet-b4e25a1b.pth",
    ),
    "autoformer-tiny": _found(
        "tiny",
        192,
        "3.5 3.5 3 3.5 3 3 4 4 3.5 4 3.5 4 3.5",
        "3 3 3 3 3 3 3 3 3 3 4 3 3",
        "autoformer-tiny-subnet-12ed42ff.pth",
    ),
}

AUTOFORMER_SUPERNETS: dict[str, str] = {
    "base": "autoformer-base-supernet-0c6d6612.pth",
    "small": "autoformer-small-supernet-8ed79e18.pth",
    "tiny": "autoformer-tiny-supernet-6f107004.pth",
}
"""The weights of whole spaces, trained along random paths."""
