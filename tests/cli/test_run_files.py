"""The manual's table of a run's files is complete, and names nothing that no run writes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest

from nas_space.cli import main

from . import small_models

PAGE = Path(__file__).parents[2] / "docs" / "watching.md"
SPACE = ["--space", "tests.test_main_job:Small", "--quiet", "--max-macs", "40K"]
SEARCHES = {
    "shared": ["--first-steps", "2", "--steps", "4", "--trials", "4", "--finalists", "1",
               "--fine-tuning", "2", "--rivals", "1"],
    "oneshot": ["--strategy", "enas", "--steps", "8", "--fine-tuning", "2",
                "--option", "warmup_epochs=1"],
    "trials": ["--strategy", "random", "--trials", "2", "--epochs", "1", "--final-epochs", "1"],
}  # fmt: skip
NETWORKS = ["--model", f"{small_models.__name__}:net", "--data", f"{small_models.__name__}:data"]


def run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    assert not ended.value.code


def listed() -> Iterator[str]:
    """The names in the first column of the table, in which ``<...>`` stands for any name."""
    section = PAGE.read_text().partition("## The files of a run\n")[2].partition("\n## ")[0]
    for line in section.splitlines():
        cells = line.split("|")
        if len(cells) > 2 and not cells[1].startswith("-"):
            yield from (re.sub(r"<\w+>", "*", name) for name in re.findall(r"`([^`]+)`", cells[1]))


def written(folder: Path) -> set[str]:
    """All files but those that SQLite has while this process is at it."""
    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    return {name for name in files if not name.endswith(("-wal", "-shm"))}


@pytest.mark.slow
def test_the_table_of_a_runs_files_is_the_files_that_runs_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    y = np.arange(60) % 3
    x = np.random.default_rng(0).random((60, 3, 8, 8), dtype=np.float32)
    np.savez("images.npz", x=x, y=y)
    found: set[str] = set()
    for name, arguments in SEARCHES.items():
        run("search", "--out", name, "--data", "images.npz", *SPACE, *arguments)
        run("report", name)
        found |= written(tmp_path / name)
    short = ["--steps", "6", "--trials", "4", "--fine-tuning", "4", "--quiet", "--int8"]
    run("compress", *NETWORKS, "--max-macs", "60%,30%", *short, "--out", "small")
    found |= written(tmp_path / "small")
    run("export", "oneshot", "--to", "torch-export")
    found |= written(tmp_path / "oneshot")

    names = set(listed())
    in_folders = {name for name in names if name.endswith("/")}
    for file in found:
        assert any(fnmatch(file, name) for name in names - in_folders), f"{file} is in no line"
    for name in names - in_folders:
        assert any(fnmatch(file, name) for file in found), f"{name} is written by none of these"


def test_the_table_can_be_read() -> None:
    assert {"run.json", "architecture.json", "work/unfinished"} <= set(listed())
