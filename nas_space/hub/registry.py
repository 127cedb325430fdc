"""Spaces by name, for the shell and for results on disk.

What a list of them says stands here, so that listing them loads none.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any

from ..errors import NasSpaceError, UsageError, suggest
from ..lazy import at_address, named
from .published import Published, published_in

if TYPE_CHECKING:
    from ..nn import ModelSpace

__all__ = ["SPACES", "Entry", "check_trusted", "find_space"]


@dataclass(frozen=True)
class Entry:
    """A space of the hub.

    Attributes
    ----------
    address
        Of its class, as ``module:Class``; a module of the hub begins with a dot.
    small
        Arguments that make it small enough to search small images in minutes.
    labels, architectures
        How many it has by default.
    """

    address: str
    small: Mapping[str, Any]
    labels: int = 0
    architectures: int = 0

    @property
    def networks(self) -> tuple[str, ...]:
        """The names of its published architectures, if it is one of the hub; none is imported."""
        module, _, name = self.address.partition(":")
        return tuple(published_in(name)) if module.startswith(".") else ()

    @property
    def space(self) -> type[ModelSpace]:
        """Its class, imported when it is asked for."""
        found: type[ModelSpace] = at_address(self.address, __package__)
        return found

    def build(self, arguments: Mapping[str, Any]) -> Any:
        """Return a space, with arguments that come from a command line or from a file.

        Raises
        ------
        UsageError
            It cannot be made with them, whatever its class says of it.
        """
        try:
            return self.space(**arguments)
        except NasSpaceError:
            raise
        except (Exception, SystemExit) as error:  # a constructor meets whatever was written
            raise UsageError(
                f"{self.address.rpartition(':')[2]} cannot be made with {dict(arguments)}: "
                f"{type(error).__name__}: {error}; it takes {signature(self.space)}"
            ) from error

    @property
    def published(self) -> Mapping[str, Published]:
        """Its published architectures, by name."""
        return getattr(self.space, "published", {})


_CELLS: dict[str, Any] = {"width": 8, "num_cells": 3}

SPACES: dict[str, Entry] = {
    "autoformer": Entry(
        ".autoformer:AutoformerSpace",
        {
            "search_embed_dim": (16, 24, 32),
            "search_num_heads": (1, 2),
            "search_depth": (1, 2, 3),
            "img_size": 32,
            "patch_size": 8,
            "head_dim": 8,
        },
        30,
        280_804_921_344,
    ),
    "proxylessnas": Entry(
        ".proxylessnas:ProxylessNAS", {"width_mult": 0.25}, 26, 54_375_883_032_510_144
    ),
    "mobilenetv3": Entry(
        ".mobilenetv3:MobileNetV3Space",
        {
            "width_multipliers": (0.25, 0.5, 0.75),
            "depth_range": (1, 2),
            "expand_ratios": (1.0, 2.0, 3.0),
        },
        67,
        2_203_368_352_784_502_925_061_485_493_979_840_000,
    ),
    "darts": Entry(".nasnet:DARTSSpace", _CELLS, 34, 103_367_707_243_686_950_400_000),
    "ofa-mobilenetv3": Entry(
        ".ofa:OFAMobileNetV3Space",
        {"width_mult": 0.25, "expand_ratios": (2, 3), "depths": (1, 2), "kernel_sizes": (3, 5)},
        45,
        21_758_655_492_572_485_851,
    ),
    "ofa-resnet50d": Entry(
        ".ofa:OFAResNetSpace",
        {"base_widths": (16, 32, 64, 96, 128), "depths": (0, 1)},
        29,
        2_458_914_796_962,
    ),
    "nasnet": Entry(
        ".nasnet:NASNetSpace", _CELLS, 42, 76_610_498_965_704_453_192_482_832_998_400_000
    ),
    "enas": Entry(".nasnet:ENASSpace", _CELLS, 42, 384_433_593_750_000_000_000_000_000),
    "amoebanet": Entry(
        ".nasnet:AmoebaNetSpace", _CELLS, 42, 4_647_516_974_116_161_337_058_918_400_000
    ),
    "pnas": Entry(".nasnet:PNASSpace", _CELLS, 42, 4_647_516_974_116_161_337_058_918_400_000),
    "nas-bench-101": Entry(
        ".nas_bench_101:NasBench101",
        {"stem_out_channels": 8, "num_modules_per_stack": 1, "max_num_vertices": 4},
        6,
        450_808,
    ),
    "nas-bench-201": Entry(".nas_bench_201:NasBench201", {"num_modules_per_stack": 1}, 6, 15_625),
    "nas-bench-macro": Entry(".nas_bench_macro:NasBenchMacro", {"init_channels": 8}, 8, 6_561),
    "shufflenet": Entry(
        ".shufflenet:ShuffleNetSpace",
        {"base_widths": (8, 16, 32, 64, 128, 256), "stage_depths": (1, 2, 3, 2)},
        20,
        1_099_511_627_776,
    ),
}


def check_trusted(name: Any, source: object, *, trust: bool, called: bool = False) -> None:
    """Refuse to import a module, or to call a function, because a file names it.

    Parameters
    ----------
    name
        Of a space, of data or of a network, as the file has it.
    source
        The file, for the message.
    trust
        Whether the user vouches for the file.
    called
        Whether what is named is called, whatever it is: a space has to be a class of spaces, but
        ``os:abort`` is a function as any other, of a module that is there.

    Raises
    ------
    UsageError
        It is called, or of a module that is not of this library and that this process has not
        imported.
    """
    # To import a module runs it, and the current folder is where modules are looked for: a folder
    # with a ``run.json`` and a module beside it would run code when it is looked at. What the
    # process has imported already has run, and what this library holds is trusted with it.
    module, colon, _ = str(name).partition(":")
    is_ours = module.partition(".")[0] == __package__.partition(".")[0]
    is_known = not called and (is_ours or module in sys.modules)
    if colon and not trust and not is_known:
        raise UsageError(
            f"{source} names {name!r}; for that, the module {module!r} is imported, and its code "
            "runs. Say --trust if you know where the file and the module come from"
        )


def find_space(name: str) -> Entry:
    """Return a space of the hub by its name, or a class of one's own as ``module:Class``.

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
    from ..nn import ModelSpace

    if ":" not in name:
        raise UsageError(
            f"there is no space {name!r}{suggest(name, SPACES)}; there are {sorted(SPACES)}, and "
            "your own as module:Class"
        )
    found = named(name, "a space")
    if not (isinstance(found, type) and issubclass(found, ModelSpace)):
        raise UsageError(f"{name!r} is no space: {found!r} does not derive from ModelSpace")
    return Entry(name, {})
