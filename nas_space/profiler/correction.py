"""``Correction``: what blocks take within a network, which is not what they take alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from ..errors import DataError

__all__ = ["Correction"]


@dataclass(frozen=True)
class Correction:
    """What blocks take within a network: what whole networks take is a constant and their sum.

    Attributes
    ----------
    constant
        Milliseconds that every network takes besides.
    milliseconds
        Key of a block to its share of a network's time; less than nothing where a block makes its
        neighbours faster.
    about
        How it was found, and how well it predicts networks that it was not made from: ``networks``,
        ``held_out``, ``spearman``, ``median_error`` and so on.
    """

    constant: float
    milliseconds: Mapping[str, float]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def unit(self) -> float:
        """Microseconds in which shares are counted: 1, or less for networks of few of them.

        A power of two, so that sums of whole numbers of it are exact; fine enough that a typical
        network is some thousands.
        """
        typical = 1000 * float(self.about.get("typical", 0.0)) or 1.0
        return float(2.0 ** min(0, math.floor(math.log2(typical / 4096))))

    def __str__(self) -> str:
        """How well it predicts, in words."""
        held_out, about = self.about.get("held_out"), self.about
        if not {"networks", "spearman", "median_error"} <= about.keys():
            return f"a correction of {len(self.milliseconds)} blocks"
        which = f"{held_out} others" if held_out else "each of them, left out"
        return (
            f"corrected by {about['networks']} networks, which predict {which}: Spearman "
            f"{about['spearman']:.3f}, median error {about['median_error']:.1%}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as they are written to a file."""
        return {
            **self.about,
            "constant": self.constant,
            "blocks": dict(self.milliseconds),
        }

    @classmethod
    def of_dict(cls, content: Any) -> Self:
        """Return the correction that :meth:`to_dict` gave.

        Raises
        ------
        DataError
            If it is none.
        """
        if not isinstance(content, dict) or not isinstance(content.get("blocks"), dict):
            raise DataError("a correction has a constant and blocks, but this one has not")
        numbers = {"constant": content.get("constant"), **content["blocks"]}
        for key, number in numbers.items():
            if type(number) not in (int, float) or not abs(number) < math.inf:
                raise DataError(f"the correction of {key!r} must be a number, but is {number!r}")
        about = {k: v for k, v in content.items() if k not in ("constant", "blocks")}
        blocks = {str(key): float(number) for key, number in content["blocks"].items()}
        return cls(float(content["constant"]), blocks, about)
