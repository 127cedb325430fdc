"""Published cells of the NASNet family, as plain data."""

from __future__ import annotations

from typing import Any

from .published import Published

__all__ = ["AMOEBANET", "DARTS", "NASNET"]


def _cell(kind: str, *nodes: str) -> dict[str, Any]:
    """One cell: for each node its two operations, each with the node that it reads."""
    architecture: dict[str, Any] = {}
    for node, operations in enumerate(nodes, start=2):
        for place, operation in enumerate(operations.split()):
            name, _, source = operation.partition(":")
            architecture[f"{kind}/op_{node}_{place}"] = name
            architecture[f"{kind}/input_{node}_{place}"] = [int(source)]
    return architecture


_DARTS: dict[str, Any] = {"width": 36, "num_cells": 20}
"""The size at which papers train cells for CIFAR-10."""

# First and second order: arXiv 1806.09055; P-DARTS: 1904.12760; PC-DARTS: 1907.05737;
# SNAS (moderate constraint): 1812.09926.
DARTS: dict[str, Published] = {
    "darts-v1": Published(
        _cell(
            "normal",
            "sep_conv_3x3:1 sep_conv_3x3:0",
            "skip_connect:0 sep_conv_3x3:1",
            "skip_connect:0 sep_conv_3x3:1",
            "sep_conv_3x3:0 skip_connect:2",
        )
        | _cell(
            "reduce",
            "max_pool_3x3:0 max_pool_3x3:1",
            "skip_connect:2 max_pool_3x3:0",
            "max_pool_3x3:0 skip_connect:2",
            "skip_connect:2 avg_pool_3x3:0",
        ),
        "",
        _DARTS,
    ),
    "darts-v2": Published(
        _cell(
            "normal",
            "sep_conv_3x3:0 sep_conv_3x3:1",
            "sep_conv_3x3:0 sep_conv_3x3:1",
            "sep_conv_3x3:1 skip_connect:0",
            "skip_connect:0 dil_conv_3x3:2",
        )
        | _cell(
            "reduce",
            "max_pool_3x3:0 max_pool_3x3:1",
            "skip_connect:2 max_pool_3x3:1",
            "max_pool_3x3:0 skip_connect:2",
            "skip_connect:2 max_pool_3x3:1",
        ),
        "darts-v2-5465b0d2.pth",
        _DARTS,
    ),
    "p-darts": Published(
        _cell(
            "normal",
            "skip_connect:0 dil_conv_3x3:1",
            "skip_connect:0 sep_conv_3x3:1",
            "sep_conv_3x3:1 sep_conv_3x3:3",
            "sep_conv_3x3:0 dil_conv_5x5:4",
        )
        | _cell(
            "reduce",
            "avg_pool_3x3:0 sep_conv_5x5:1",
            "sep_conv_3x3:0 dil_conv_5x5:2",
            "max_pool_3x3:0 dil_conv_3x3:1",
            "dil_conv_3x3:1 dil_conv_5x5:3",
        ),
        "",
        _DARTS,
    ),
    "pc-darts": Published(
        _cell(
            "normal",
            "sep_conv_3x3:1 skip_connect:0",
            "sep_conv_3x3:0 dil_conv_3x3:1",
            "sep_conv_5x5:0 sep_conv_3x3:1",
            "avg_pool_3x3:0 dil_conv_3x3:1",
        )
        | _cell(
            "reduce",
            "sep_conv_5x5:1 max_pool_3x3:0",
            "sep_conv_5x5:1 sep_conv_5x5:2",
            "sep_conv_3x3:0 sep_conv_3x3:3",
            "sep_conv_3x3:1 sep_conv_3x3:2",
        ),
        "",
        _DARTS,
    ),
    "snas": Published(
        _cell(
            "normal",
            "sep_conv_3x3:0 sep_conv_3x3:1",
            "skip_connect:0 dil_conv_3x3:1",
            "skip_connect:1 skip_connect:0",
            "skip_connect:0 sep_conv_3x3:1",
        )
        | _cell(
            "reduce",
            "max_pool_3x3:0 max_pool_3x3:1",
            "max_pool_3x3:1 skip_connect:2",
            "skip_connect:2 max_pool_3x3:1",
            "max_pool_3x3:0 dil_conv_5x5:2",
        ),
        "",
        _DARTS,
    ),
}

# arXiv 1707.07012.
NASNET: dict[str, Published] = {
    "nasnet-a": Published(
        _cell(
            "normal",
            "sep_conv_5x5:1 sep_conv_3x3:0",
            "sep_conv_5x5:0 sep_conv_3x3:0",
            "avg_pool_3x3:1 skip_connect:0",
            "avg_pool_3x3:0 avg_pool_3x3:0",
            "sep_conv_3x3:1 skip_connect:1",
        )
        | _cell(
            "reduce",
            "sep_conv_5x5:1 sep_conv_7x7:0",
            "max_pool_3x3:1 sep_conv_7x7:0",
            "avg_pool_3x3:1 sep_conv_5x5:0",
            "skip_connect:3 avg_pool_3x3:2",
            "sep_conv_3x3:2 max_pool_3x3:1",
        ),
        "",
        {"width": 32, "num_cells": 20},
    )
}

# arXiv 1802.01548.
AMOEBANET: dict[str, Published] = {
    "amoebanet-a": Published(
        _cell(
            "normal",
            "avg_pool_3x3:0 max_pool_3x3:1",
            "sep_conv_3x3:0 sep_conv_5x5:2",
            "sep_conv_3x3:0 avg_pool_3x3:3",
            "sep_conv_3x3:1 skip_connect:1",
            "skip_connect:0 avg_pool_3x3:1",
        )
        | _cell(
            "reduce",
            "avg_pool_3x3:0 sep_conv_3x3:1",
            "max_pool_3x3:0 sep_conv_7x7:2",
            "sep_conv_7x7:0 avg_pool_3x3:1",
            "max_pool_3x3:0 max_pool_3x3:1",
            "conv_7x1_1x7:0 sep_conv_3x3:5",
        ),
        "",
        {"width": 36, "num_cells": 20},
    )
}
