"""A picture of each space of the hub: what may be where, how many, and where the cost is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nas_space.hub.registry import SPACES
from nas_space.report import space_picture

IMAGES = (3, 32, 32)


def main(names: Sequence[str] = tuple(SPACES), out: str = "hub") -> list[Path]:
    """Draw spaces in the small form that the shell searches, for images of 32×32 pixels."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name in names:
        space = SPACES[name].space(num_labels=10, **SPACES[name].small)
        files.append(folder / f"{name}.png")
        space_picture(space, IMAGES, files[-1])
    return files


if __name__ == "__main__":
    main()
