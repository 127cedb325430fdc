"""The report: what varies together, where, in which steps; what is fixed, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Group", "Groups"]


@dataclass(frozen=True)
class Group:
    """Dimensions and attributes that one choice decides, or that are fixed.

    Attributes
    ----------
    label
        Of the choice; of what is fixed, the place where it is.
    kind
        ``'width'``, ``'depth'`` or ``'kernel'``.
    size
        The value in the original.
    values
        What it may be; only the size where it is fixed.
    places
        The dimensions and attributes, each with its size in terms of labels.
    outer
        Whether it reaches an output of the network.
    reason
        Why it is fixed; ``None`` where it varies.
    """

    label: str
    kind: str
    size: int
    values: tuple[int, ...]
    places: tuple[str, ...] = ()
    outer: bool = False
    reason: str | None = None

    def __str__(self) -> str:
        shown = ", ".join(self.places[:3]) + (", ..." if len(self.places) > 3 else "")
        if self.reason is not None:
            return f"{self.label}: {self.size}, fixed: {self.reason}"
        among = ", ".join(map(str, self.values))
        return f"{self.label}: {among} ({self.kind} of {len(self.places)} places: {shown})"


@dataclass(frozen=True)
class Groups(Sequence[Group]):
    """All groups of a network: a sequence of those that vary, which prints as a report.

    Attributes
    ----------
    varying
        Those with a choice.
    fixed
        Those without, each with the reason.
    restrictions
        What equations between sizes leave out, in words.
    notes
        What could not be followed, by the path of the part.
    """

    varying: tuple[Group, ...]
    fixed: tuple[Group, ...] = ()
    restrictions: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.varying)

    def __getitem__(self, place: Any) -> Any:
        return self.varying[place]

    def __iter__(self) -> Iterator[Group]:
        return iter(self.varying)

    def __str__(self) -> str:
        lines = [str(group) for group in self.varying]
        for title, found in (
            ("fixed", [str(group) for group in self.fixed]),
            ("restricted", self.restrictions),
            ("not followed", self.notes),
        ):
            if found:
                lines += [f"{title}:", *(f"  {line}" for line in found)]
        return "\n".join(lines)

    __repr__ = __str__
