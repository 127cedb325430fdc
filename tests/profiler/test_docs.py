"""The page on costs runs as it stands, and what it says comes out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "costs.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_page_runs(capsys):
    names: dict[str, Any] = {"__name__": "page"}
    for snippet in SNIPPETS:
        exec(compile(snippet, str(PAGE), "exec"), names)  # noqa: S102 - it is our own text
    text = "\n".join(SNIPPETS)
    printed = capsys.readouterr().out
    assert f"# {printed.splitlines()[0]}\n" in text
    assert f"small.count()  # {names['small'].count()}: exact" in text
    assert f"minimum  # {names['table'].bounds().minimum}\n" in text
    assert all(values.grad is not None for values in names["logits"].values())
