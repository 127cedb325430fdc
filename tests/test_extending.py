"""The pages on extending the library run as they stand, and print what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nas_space.strategy import STRATEGIES

PAGES = Path(__file__).parents[1] / "docs" / "extending"


def executed(page: str) -> dict[str, Any]:
    """Run the snippets of a page, one after another, and return what they define."""
    found: dict[str, Any] = {"__name__": "page"}
    exec(compile(program(page), page, "exec"), found)  # noqa: S102 - it is our own text
    return found


def program(page: str) -> str:
    """Return the snippets of a page as one program."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


def told(page: str) -> list[str]:
    """Return the comments of a page behind what is printed: what it says comes out."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(r"^print\(.*\)  # ([^;\n]*)", text, re.MULTILINE)


def test_every_page_is_listed() -> None:
    index = (PAGES / "index.md").read_text(encoding="utf-8")
    for page in PAGES.glob("*.md"):
        assert page.stem == "index" or f"({page.name})" in index


@pytest.mark.parametrize("page", ["layer", "space", "storage", "strategy"])
def test_a_page_runs_and_prints_what_it_says(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        executed(page)
    finally:
        STRATEGIES.pop("annealing", None)  # what a page adds is undone
    printed = capsys.readouterr().out.splitlines()
    expected = told(page)
    assert expected
    assert [line for line in expected if line not in printed] == []


@pytest.mark.slow  # each of its trials takes the start of an interpreter
def test_the_page_on_executors_runs_as_a_program(tmp_path: Path) -> None:
    file = tmp_path / "page.py"  # what it defines crosses processes, so it has to be a file
    file.write_text(program("executor"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, file.name], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == told("executor")
