"""Spaces by name, for the shell and for results on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ..errors import UsageError, suggest
from ..nn import ModelSpace
from .autoformer import AutoformerSpace
from .mobilenetv3 import MobileNetV3Space
from .nas_bench_201 import NasBench201
from .nas_bench_macro import NasBenchMacro
from .nasnet import DARTSSpace, PNASSpace
from .proxylessnas import ProxylessNAS
from .published import Published
from .shufflenet import ShuffleNetSpace

__all__ = ["SPACES", "Entry", "find_space"]


@dataclass(frozen=True)
class Entry:
    """A space of the hub.

    Attributes
    ----------
    space
        Its class.
    small
        Arguments that make it small enough to search small images in minutes.
    """

    space: type[ModelSpace]
    small: Mapping[str, Any]

    @property
    def published(self) -> Mapping[str, Published]:
        """Its published architectures, by name."""
        return getattr(self.space, "published", {})


_CELLS: dict[str, Any] = {"width": 8, "num_cells": 3}

SPACES: dict[str, Entry] = {
    "autoformer": Entry(
        AutoformerSpace,
        {
            "search_embed_dim": (16, 24, 32),
            "search_num_heads": (1, 2),
            "search_depth": (1, 2, 3),
            "img_size": 32,
            "patch_size": 8,
            "head_dim": 8,
        },
    ),
    "proxylessnas": Entry(ProxylessNAS, {"width_mult": 0.25}),
    "mobilenetv3": Entry(
        MobileNetV3Space,
        {
            "width_multipliers": (0.25, 0.5, 0.75),
            "depth_range": (1, 2),
            "expand_ratios": (1.0, 2.0, 3.0),
        },
    ),
    "darts": Entry(DARTSSpace, _CELLS),
    "pnas": Entry(PNASSpace, _CELLS),
    "nas-bench-201": Entry(NasBench201, {"num_modules_per_stack": 1}),
    "nas-bench-macro": Entry(NasBenchMacro, {"init_channels": 8}),
    "shufflenet": Entry(
        ShuffleNetSpace,
        {"base_widths": (8, 16, 32, 64, 128, 256), "stage_depths": (1, 2, 3, 2)},
    ),
}


def find_space(name: str) -> Entry:
    """A space of the hub by its name, or a class of one's own as ``module:Class``.

    Raises
    ------
    UsageError
        If there is none of that name, or it is no space.

    Examples
    --------
    >>> find_space("proxylessnas").space.__name__
    'ProxylessNAS'
    """
    if name in SPACES:
        return SPACES[name]
    module, _, attribute = name.partition(":")
    if not attribute:
        raise UsageError(
            f"there is no space {name!r}{suggest(name, SPACES)}; there are {sorted(SPACES)}, and "
            "your own as module:Class"
        )
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"cannot import the space {name!r}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, ModelSpace)):
        raise UsageError(f"{name!r} is no space: {found!r} does not derive from ModelSpace")
    return Entry(found, {})
