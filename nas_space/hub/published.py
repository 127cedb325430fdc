"""Published architectures, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import UsageError, suggest

__all__ = ["PROXYLESSNAS", "SHUFFLENET", "Published", "find"]


@dataclass(frozen=True)
class Published:
    """An architecture that somebody published.

    Attributes
    ----------
    architecture
        Label to value.
    checkpoint
        The file name of its weights: the last eight hex digits begin its SHA-256. Empty where no
        weights were published.
    arguments
        Arguments of the space that differ from the defaults.
    """

    architecture: Mapping[str, Any]
    checkpoint: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def find(name: str, known: Mapping[str, Published], space: str) -> Published:
    """Return the published architecture of a name.

    Raises
    ------
    UsageError
        If there is none; it lists those there are.
    """
    if name not in known:
        raise UsageError(
            f"{space} has no published architecture {name!r}{suggest(name, known)}; it has "
            f"{sorted(known)}"
        )
    return known[name]


def _stages(*stages: str) -> dict[str, Any]:
    """An architecture of ProxylessNAS: the blocks of stages 2 to 7, as publications list them."""
    architecture: dict[str, Any] = {}
    for stage, blocks in enumerate(stages, start=2):
        chosen = blocks.split()
        architecture[f"s{stage}_depth"] = len(chosen)
        architecture.update({f"s{stage}_i{index}": block for index, block in enumerate(chosen)})
    return architecture


# ProxylessNAS: arXiv 1812.00332; AceNAS: arXiv 2108.03001.
PROXYLESSNAS: dict[str, Published] = {
    "acenas-m1": Published(
        _stages(
            "k3e6 k3e3",
            "k5e3 k3e3 k5e3",
            "k3e6 k5e3",
            "k7e6 k3e6 k3e6 k7e3",
            "k7e6 k7e6 k7e3 k7e3",
            "k7e6",
        ),
        "acenas-m1-e215f1b8.pth",
    ),
    "acenas-m2": Published(
        _stages(
            "k5e3",
            "k3e6 k3e3 k5e3",
            "k7e6 k5e6",
            "k5e6 k5e3 k5e6 k3e6",
            "k7e6 k5e6 k5e3 k5e6",
            "k7e6",
        ),
        "acenas-m2-a8ee9e8f.pth",
    ),
    "acenas-m3": Published(
        _stages(
            "k3e3 k3e6",
            "k5e3 k3e3",
            "k5e6 k7e6 k3e6",
            "k7e6 k7e3 k7e3 k5e3",
            "k7e6 k7e3 k7e6 k3e3",
            "k5e6",
        ),
        "acenas-m3-66a5ed7b.pth",
    ),
    "proxyless-cpu": Published(
        _stages(
            "k3e6 k3e3 k3e3 k3e3",
            "k3e6 k3e3 k3e3 k5e3",
            "k3e6 k3e3",
            "k5e6 k3e3 k3e3 k3e3",
            "k5e6 k5e3 k5e3 k3e3",
            "k5e6",
        ),
        "proxyless-cpu-2df03430.pth",
        {"base_widths": (40, 24, 32, 48, 88, 104, 216, 360, 1432)},
    ),
    "proxyless-gpu": Published(
        _stages(
            "k5e3",
            "k7e3 k3e3",
            "k7e6 k5e3",
            "k5e6 k3e3 k5e3",
            "k7e6 k7e6 k7e6 k5e6",
            "k7e6",
        ),
        "proxyless-gpu-dbe6dd15.pth",
        {"base_widths": (40, 24, 32, 56, 112, 128, 256, 432, 1728)},
    ),
    "proxyless-mobile": Published(
        _stages(
            "k5e3 k3e3",
            "k7e3 k3e3 k5e3 k5e3",
            "k7e6 k5e3 k5e3 k5e3",
            "k5e6 k5e3 k5e3 k5e3",
            "k7e6 k7e6 k7e3 k7e3",
            "k7e6",
        ),
        "proxyless-mobile-8668a978.pth",
    ),
}

# Single path one-shot search: arXiv 1904.00420.
SHUFFLENET: dict[str, Published] = {
    "spos": Published(
        {
            f"layer_{place}": layer
            for place, layer in enumerate(
                (
                    *("k7", "k5", "k3", "k5"),
                    *("k7", "k3", "k7", "k3"),
                    *("k7", "k3", "k7", "xcep", "k3", "k3", "k3", "k3"),
                    *("xcep", "k7", "xcep", "xcep"),
                ),
                start=1,
            )
        },
        "spos-0b17f6fc.pth",
    )
}
