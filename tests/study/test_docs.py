"""The page on strategies runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "strategies.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    for snippet in SNIPPETS:
        exec(compile(snippet, str(PAGE), "exec"), names)  # noqa: S102 - it is our own text
    assert Path("worth.png").stat().st_size > 10_000
    assert names["cost"].freeze(names["expected"].arch) <= 2e6
    assert len(names["front"]) > 3
    assert {outcome.state for outcome in names["result"].outcomes} <= {"complete", "pruned"}
