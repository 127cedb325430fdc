"""The page on migrating: what it shows of NNI runs under NNI."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nas_space.interop.migrate import migrate
from tests.interop.snippets import of_kind

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files as they are written for NNI."""
    for name, text in of_kind("file").items():
        (tmp_path / name).write_text(text)
    return tmp_path


def run(folder: Path, script: str, show: str) -> Any:
    """Runs a script by itself, where NNI may write what it likes; gives a value out of it."""
    program = folder / "program.py"
    program.write_text(f"{script}\nimport json\njson.dump({show}, open('answer.json', 'w'))\n")
    done = subprocess.run(
        [sys.executable, program.name],
        cwd=folder,
        env=os.environ | {"HOME": str(folder), "PYTHONPATH": f"{ROOT}:{folder}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "answer.json").read_text())


def test_what_nni_finds_and_saves_loads_after_the_move(folder: Path) -> None:
    """The script under NNI, and a checkpoint it might write; then both in the migrated space."""
    save = """
torch.manual_seed(0)
exported = {"width": 16, "depth": 1, "op0": 0, "op1": 1, "op2": 0}
network = Net.frozen_factory(exported)().eval()
torch.save(network.state_dict(), "nni.pt")
"""
    ask = "network.eval()(torch.ones(1, 1, 8, 8)).tolist()"
    best, there = run(folder, of_kind("file")["search.py"] + save, f"[best, {ask}]")
    (folder / "net.py").write_text(migrate(of_kind("file")["net.py"]).text)
    here, known = run(folder, of_kind("migrated")["load.py"], f"[{ask}, Net().contains({best})]")
    assert here == there
    assert known


def test_the_comparison_runs(folder: Path) -> None:
    script = of_kind("file")["compare.py"]
    assert run(folder, script, "space.contains(network.architecture)")
