"""The page on deployment runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "deployment.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_page_runs(capsys):
    pytest.importorskip("onnxruntime")
    names: dict[str, Any] = {"__name__": "page"}
    for snippet in SNIPPETS:
        exec(compile(snippet, str(PAGE), "exec"), names)  # noqa: S102 - it is our own text
    exported, quantised, kit = capsys.readouterr().out.splitlines()
    assert str(names["made"].file) in exported
    assert "batches of any size" in exported
    assert "score" in quantised
    assert "block0000.onnx" in kit
    assert len(names["networks"]) == 2
