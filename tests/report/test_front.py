"""The star of a report, the winner, stands on the front that is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from nas_space.report.pictures import front_picture

import nas_space as ns
from nas_space.report import page
from nas_space.runs import open_run
from nas_space.study import maximize, minimize
from tests.problems import Tiny, Various


def drawn(result_in: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what the picture of the front in a report is made of."""
    seen: dict[str, Any] = {}
    draw = front_picture

    def watch(points: Any, front: Any, names: Any, winner: str) -> Any:
        seen.update(points=points, front=front, names=names, winner=winner)
        return draw(points, front, names, winner)

    monkeypatch.setattr("nas_space.report.page.front_picture", watch)
    page.write_report(open_run(result_in), result_in.with_suffix(".html"))
    assert "The winner is the star" in result_in.with_suffix(".html").read_text()
    return seen


def is_beaten(winner: tuple[str, float, float], points: list[tuple[str, float, float]]) -> bool:
    """Tell whether another costs no more and scores no less, and one of these is strict."""
    _, cost, score = winner
    return any(c <= cost and s >= score and (c, s) != (cost, score) for _, c, s in points)


@pytest.mark.parametrize("score", [lambda *_: 1.0, lambda _, arch: float(len(arch) // 3)])
@pytest.mark.parametrize("limited", [False, True])
def test_among_equal_scores_the_star_is_the_cheapest(score, limited, tmp_path, monkeypatch):
    space: Any = Tiny()
    store = tmp_path / "search.db"
    where = space.where(space.width <= 8) if limited else space
    result = ns.search(where, score, trials=12, strategy="random", storage=store)
    seen = drawn(store, monkeypatch)
    assert seen["winner"] == f"#{result.winner().number}" in seen["front"]
    [star] = [point for point in seen["points"] if point[0] == seen["winner"]]
    assert not is_beaten(star, seen["points"])
    assert len({cost for _, cost, _ in seen["points"]}) > 1


def test_with_two_objectives_the_star_is_on_the_front_too(tmp_path, monkeypatch):
    space: Any = Various()
    store = tmp_path / "search.db"
    objectives = [maximize("value"), minimize("width", space.width)]
    score = lambda _, arch: float(arch["depth"] > 0)  # noqa: E731
    ns.search(space, score, objectives=objectives, trials=15, storage=store)
    seen = drawn(store, monkeypatch)
    assert seen["winner"] in seen["front"]
    [star] = [point for point in seen["points"] if point[0] == seen["winner"]]
    assert not is_beaten(star, seen["points"])
