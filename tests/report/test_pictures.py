"""Pictures show what they say they show."""

from __future__ import annotations

from pathlib import Path

from nas_space.hub import ProxylessNAS
from nas_space.report import SearchPoint, architecture_picture, search_picture


def test_pictures_are_written(tmp_path: Path) -> None:
    space = ProxylessNAS(num_labels=10, width_mult=0.25)
    arch = space.sample(seed=0)
    architecture_picture(space, arch, (3, 32, 32), tmp_path / "a.png")
    trials = [SearchPoint(i / 10, i / 20) for i in range(1, 10)]
    found, others = SearchPoint(0.5, 0.9), [SearchPoint(0.4, 0.8)]
    search_picture(trials, found, others, tmp_path / "s.png", budget=0.9)
    for name in ("a.png", "s.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / name).stat().st_size > 5000
