"""What the README shows works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parents[1] / "README.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=["tour", "own", "existing"])
def test_a_snippet_runs(snippet: str) -> None:
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(snippet, str(README), "exec"), names)  # noqa: S102 - it is our own text
    if "half" in names:  # a network that was made of another
        counts = [sum(p.numel() for p in names[name].parameters()) for name in ("small", "net")]
        assert counts[0] < counts[1]
        assert type(names["small"]) is type(names["net"])
        return
    assert not names["net"].simplify()
    if "result" in names:
        assert names["small"].contains(names["result"].best())
        assert f"{names['space'].count():,}" in snippet
        assert str(names["arch"]).startswith("{'s2_depth': 3, 's2_i0': 'k5e3', ")
        assert names["logits"].shape == (8, 10)
        assert names["result"].network().architecture == names["result"].best()
