"""``Options``: what of a network may vary, as its user wants it."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from ..errors import UsageError

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """What a user has asked for; see :func:`nas_space.elastic`."""

    widths: tuple[float, ...] = (0.5, 0.75, 1.0)
    depth: bool | str = True
    kernels: bool | tuple[int, ...] = False
    divisor: int = 8
    fixed: tuple[str, ...] = ()
    only: tuple[str, ...] = ("*",)
    outputs: str = "fixed"
    share: str = "layer"

    def check(self) -> None:
        """Raise if an option means nothing.

        Raises
        ------
        UsageError
            With the option, and what it may be.
        """
        if not self.widths or not all(0 < width <= 1 for width in self.widths):
            raise UsageError(f"widths are parts of a width, above 0 and up to 1, not {self.widths}")
        if self.divisor < 1:
            raise UsageError(f"divisor is a whole number from 1 on, not {self.divisor}")
        if self.depth not in (True, False, "any"):
            raise UsageError(f"depth is True, False or 'any', not {self.depth!r}")
        if not isinstance(self.kernels, bool) and not all(
            type(size) is int and size % 2 and size > 0 for size in self.kernels
        ):
            raise UsageError(f"kernels is True, False or odd sizes, not {self.kernels}")
        for name, value, known in (
            ("outputs", self.outputs, ("fixed", "free")),
            ("share", self.share, ("layer", "kind")),
        ):
            if value not in known:
                raise UsageError(f"{name} is {' or '.join(map(repr, known))}, not {value!r}")

    def excludes(self, label: str) -> bool:
        """Tell whether the caller wants a label fixed."""
        chosen = any(fnmatch.fnmatchcase(label, pattern) for pattern in self.only)
        return not chosen or any(fnmatch.fnmatchcase(label, pattern) for pattern in self.fixed)
