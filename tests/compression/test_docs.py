"""The page on compression runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "compression.md"
TEXT = PAGE.read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_the_page_runs_and_prints_the_report_that_it_shows(capsys):
    names: dict[str, Any] = {"__name__": "page"}
    for snippet in SNIPPETS:
        exec(compile(snippet, str(PAGE), "exec"), names)  # noqa: S102 - it is our own text
    printed = capsys.readouterr().out
    (shown,) = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)
    for line in shown.splitlines():
        for part in line.split(" at ...")[:1]:
            assert part in printed
