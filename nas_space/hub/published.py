"""Published architectures: what ``published.toml`` lists, as spaces have it."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import UsageError, suggest

__all__ = ["Published", "find", "presets", "published_in", "supernets", "with_weights"]


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


@cache
def published_in(space: str) -> dict[str, Published]:
    """Return what is published of a space, by name.

    Parameters
    ----------
    space
        What its class is called.

    Examples
    --------
    >>> list(published_in("NASNetSpace"))
    ['nasnet-a']
    """
    return {
        name: Published(
            _READERS[space](listed),
            listed.get("checkpoint", ""),
            {**_arguments(family), **_arguments(listed)},
        )
        for family in _families(space)
        for name, listed in family["networks"].items()
    }


def with_weights() -> dict[str, Published]:
    """Return what was published with weights, of all spaces."""
    everything = {name: found for space in _READERS for name, found in published_in(space).items()}
    return {name: found for name, found in everything.items() if found.checkpoint}


def presets(space: str) -> dict[str, dict[str, Any]]:
    """Return the arguments of the spaces that a publication searches, by what it calls them."""
    return {family["preset"]: _arguments(family) for family in _families(space)}


def supernets(space: str) -> dict[str, str]:
    """Return the file names of the weights of whole spaces, by what a publication calls these."""
    return {family["preset"]: family["supernet"] for family in _families(space)}


@cache
def _read() -> list[dict[str, Any]]:
    text = Path(__file__).with_suffix(".toml").read_text("utf-8")
    families: list[dict[str, Any]] = tomllib.loads(text)["family"]
    return families


def _families(space: str) -> list[dict[str, Any]]:
    return [family for family in _read() if family["space"] == space]


def _arguments(listed: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of a space; what is listed is a tuple, which nobody changes."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in listed.get("arguments", {}).items()
    }


# -- how publications list what spaces call by labels -------------------------------------------


def _proxyless(listed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the blocks of stages 2 to 7, each ``k<kernel>e<ratio>``."""
    found: dict[str, Any] = {}
    for stage, blocks in enumerate(map(str.split, listed["stages"]), start=2):
        found[f"s{stage}_depth"] = len(blocks)
        found |= {f"s{stage}_i{index}": block for index, block in enumerate(blocks)}
    return found


def _mobilenet(listed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the blocks of stages 1 and on, each ``k<kernel>e<ratio>``."""
    found: dict[str, Any] = {"stem_ks": 3, "s0_i0_ks": 3}
    for stage, blocks in enumerate(map(str.split, listed["stages"]), start=1):
        found[f"s{stage}_depth"] = len(blocks)
        for index, block in enumerate(blocks):
            kernel, ratio = block.removeprefix("k").split("e")
            found[f"s{stage}_i{index}_exp"] = float(ratio)
            found[f"s{stage}_i{index}_ks"] = int(kernel)
    return found


def _shufflenet(listed: Mapping[str, Any]) -> dict[str, Any]:
    return {f"layer_{place}": kind for place, kind in enumerate(listed["layers"].split(), start=1)}


def _autoformer(listed: Mapping[str, Any]) -> dict[str, Any]:
    ratios, heads = listed["mlp_ratio"].split(), listed["num_head"].split()
    found: dict[str, Any] = {"embed_dim": listed["embed_dim"], "depth": len(ratios)}
    found |= {f"mlp_ratio_{index}": float(ratio) for index, ratio in enumerate(ratios)}
    return found | {f"num_head_{index}": int(number) for index, number in enumerate(heads)}


def _cells(listed: Mapping[str, Any]) -> dict[str, Any]:
    """Return both kinds of cells: of each node its operations, each with the node that it reads."""
    found: dict[str, Any] = {}
    for kind in ("normal", "reduce"):
        for node, operations in enumerate(map(str.split, listed[kind]), start=2):
            for place, operation in enumerate(operations):
                name, _, source = operation.partition(":")
                found[f"{kind}/op_{node}_{place}"] = name
                found[f"{kind}/input_{node}_{place}"] = [int(source)]
    return found


_READERS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "ProxylessNAS": _proxyless,
    "ShuffleNetSpace": _shufflenet,
    "MobileNetV3Space": _mobilenet,
    "AutoformerSpace": _autoformer,
    "DARTSSpace": _cells,
    "NASNetSpace": _cells,
    "AmoebaNetSpace": _cells,
}
"""Reads what is listed of a network as an architecture, by the class of the space."""
