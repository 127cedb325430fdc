"""Pictures show what they say they show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_space.hub import ProxylessNAS
from nas_space.report import SearchPoint, architecture_picture, search_picture
from nas_space.report.pictures import policy_pictures


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


def test_a_policy_is_drawn_label_by_label_over_its_steps() -> None:
    policy = {
        "a": [(10, [0.5, 0.5]), (30, [0.8, 0.2])],
        "b": [(10, [0.4, 0.6]), (30, [0.1, 0.9])],
        "size": [(10, [1 / 13] * 13), (30, [0.0] * 6 + [1.0] + [0.0] * 6)],
        "fixed": [(10, [1.0]), (30, [1.0])],
    }
    ops = ["conv", "pool"]
    values: dict[str, list[Any]] = {"a": ops, "b": ops, "size": list(range(13)), "fixed": ["only"]}
    drawn = {}
    for figure in policy_pictures(policy, values):
        names = [text.get_text() for text in figure.legends[0].get_texts()]
        for axes in figure.axes:
            # Each value is an area: how high it is at the last step.
            outlines = [area.get_paths()[0].vertices for area in axes.collections]
            ends = [outline[outline[:, 0] == 30, 1] for outline in map(np.asarray, outlines)]
            heights = [float(np.ptp(end)) for end in ends]
            drawn[axes.get_title()] = dict(zip(reversed(names), heights, strict=True))
    assert drawn["a"] == pytest.approx({"conv": 0.8, "pool": 0.2})
    assert drawn["b"] == pytest.approx({"conv": 0.1, "pool": 0.9})
    # Of many values the range is cut, and a value on a cut counts once.
    assert sum(drawn["size"].values()) == pytest.approx(1)
    assert drawn["size"]["6 to 9"] == pytest.approx(1)
    assert "fixed" not in drawn
