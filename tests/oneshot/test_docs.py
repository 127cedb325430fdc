"""The pages on one-shot search run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from nas_space.strategy.oneshot import Run
from tests.oneshot.planted import BEST, Planted, task
from tests.oneshot.test_run import Rich, finish, same

DOCS = Path(__file__).parents[2] / "docs"


def snippets(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def executed(page: str) -> dict[str, Any]:
    """Everything that a page defines, one snippet after another."""
    found: dict[str, Any] = {"__name__": "page"}
    torch.manual_seed(0)
    for snippet in snippets(page):
        exec(compile(snippet, page, "exec"), found)  # noqa: S102 - it is our own text
    return found


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    return executed("extending/one-shot.md")


def test_the_page_on_search_runs():
    result = executed("one-shot.md")["result"]
    assert result.best() == result.top(1)[0]
    assert not result.network().simplify()


def test_the_page_on_an_algorithm_runs(names):
    assert names["result"].best() == names["result"].top(1)[0]


def test_an_algorithm_of_ones_own_takes_about_forty_lines():
    lines = snippets("extending/one-shot.md")[0].split("class Exp3")[1].splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 40


def test_an_algorithm_of_ones_own_finds_the_best(names):
    torch.manual_seed(0)
    run = Run(names["Exp3"](warmup_epochs=8), Planted(), task(), steps=300)
    finish(run)
    assert run.best() == BEST


def test_an_algorithm_of_ones_own_resumes_to_the_same_bits(names):
    def begun() -> Run:
        torch.manual_seed(0)
        return Run(names["Exp3"](), Rich(), task(), steps=6)

    run, resumed = begun(), begun()
    for _ in range(3):
        run.advance()
    resumed.load_state_dict(run.state_dict())
    assert same(finish(resumed), finish(begun()))
