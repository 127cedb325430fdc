"""The scripts of the manual run as they stand, at a small size."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

DOCS = Path(__file__).parents[1] / "docs"
FOLDER = DOCS / "examples"
SIZES: dict[str, dict[str, int]] = json.loads((FOLDER / "sizes.json").read_text())
SLOW = {"first_space", "gallery", "hub", "milliseconds", "one_shot_or_trials"}
PICTURES = {"gallery", "hub"}
ELSEWHERE = {"compress_minilm"}  # in tests/compression/test_tutorial.py


def test_every_script_of_the_manual_is_run() -> None:
    assert {file.stem for file in FOLDER.glob("*.py")} == set(SIZES) | ELSEWHERE


def test_every_script_is_on_a_page_of_the_manual() -> None:
    pages = "".join(page.read_text() for page in DOCS.rglob("*.md"))
    for name in set(SIZES) | ELSEWHERE:
        assert f"examples/{name}.py" in pages


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in SIZES]
)
def test_a_script_runs(
    name: str,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    script: Any = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, script)
    monkeypatch.chdir(tmp_path)
    spec.loader.exec_module(script)
    results = script.main(**SIZES[name])
    if name in PICTURES:
        check_pictures(name, results)
        return
    for result in results if isinstance(results, tuple) else (results,):
        assert isinstance(result.network(), torch.nn.Module)
    printed = capfd.readouterr().out
    assert printed
    if name == "several_machines":
        assert re.search(r"8 trials by 2 machines", printed)
    if name == "read_the_report":
        assert "<table" in Path("signals", "report.html").read_text(encoding="utf-8")


def check_pictures(name: str, files: list[Path]) -> None:
    """Each picture is there, and on the page."""
    page = (DOCS / f"{name}.md").read_text()
    shown = set(re.findall(rf"examples/output/{name}/([\w-]+)\.png", page))
    assert shown == {file.stem for file in files}
    assert all(file.stat().st_size > 5000 for file in files)
