"""The page on migrating: what it shows is what happens."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from nas_space.cli import main
from tests.interop.snippets import PAGE, SNIPPETS, of_kind


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files as they are written for NNI, where one works."""
    for name, text in of_kind("file").items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "net", raising=False)
    return tmp_path


def migrate(*names: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["migrate", *names])
    assert not ended.value.code


def test_every_snippet_is_run_by_a_test() -> None:
    shown = PAGE.read_text("utf-8").count("```python")
    assert shown == len(of_kind("file")) + len(of_kind("migrated"))
    assert {name for _, name in SNIPPETS} == {"net.py", "search.py", "load.py", "compare.py"}


@pytest.mark.usefixtures("folder")
def test_the_command_prints_what_the_page_shows(capsys: pytest.CaptureFixture[str]) -> None:
    migrate("net.py")
    diff = capsys.readouterr().out
    hunk = re.sub(r"\A.*?\n@@.*?\n", "", diff, flags=re.DOTALL)
    assert hunk.startswith(of_kind("diff")["net.py"])
    migrate("search.py")
    assert capsys.readouterr().err == of_kind("report")["search.py"]


def test_the_migrated_script_searches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate("net.py", "--write")
    (folder / "search.py").write_text(of_kind("migrated")["search.py"])
    torch.manual_seed(0)
    names: dict[str, Any] = runpy.run_path("search.py")
    space = names["Net"]()
    assert type(space).__mro__[1].__module__.startswith("nas_space")
    assert space.contains(names["best"])
    assert len(names["result"].outcomes) == 6
    monkeypatch.delitem(sys.modules, "net")


def test_what_nni_exported_loads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate("net.py", "--write")
    source = of_kind("migrated")["load.py"]
    (folder / "load.py").write_text(source)
    names: dict[str, Any] = runpy.run_path("net.py")
    saved = names["Net"].frozen_factory({"width": 16, "depth": 1, "op0": 0})()
    torch.save(saved.state_dict(), "nni.pt")
    loaded = runpy.run_path("load.py")["network"]
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(loaded.eval()(x), saved.eval()(x))
    monkeypatch.delitem(sys.modules, "net")
