"""The shell answers at once: what needs no torch loads none, and says the whole truth."""

from __future__ import annotations

import math
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import optuna
import pytest

import nas_space as ns
from nas_space.cli import main
from nas_space.runs import open_run
from nas_space.study import load_search
from nas_space.study import report as tell
from nas_space.study.snapshot import snapshot
from tests.problems import Various, worth


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with trials that are complete, pruned and failed."""

    def evaluate(network: object, arch: dict[str, object]) -> dict[str, float]:
        value = worth(network, arch)
        tell(value, 0)
        if int(value * 100) % 5 == 0:
            raise ValueError("out of luck")
        return {"value": value, "other": math.inf if value > 2 else value}

    file = tmp_path_factory.mktemp("store") / "search.db"
    with pytest.warns(UserWarning, match="luck"):
        ns.search(Various(), evaluate, objectives="value", trials=25, storage=file)
    return file


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


@pytest.mark.parametrize("command", ["--version", "spaces", "runs", "show"])
def test_what_needs_no_torch_loads_none(command: str, store: Path) -> None:
    place = {"runs": [str(store.parent)], "show": [str(store)]}.get(command, [])
    code = (
        "import sys; from nas_space.cli import main\n"
        f"try: main({[command, *place]!r})\n"
        "except SystemExit as ended: assert not ended.code\n"
        "heavy = ('torch', 'scipy', 'sqlalchemy', 'alembic', 'matplotlib', 'sklearn')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]"), done.stdout


def test_a_copy_of_the_trials_is_what_optuna_reads(store: Path) -> None:
    copy = snapshot(store)
    assert copy is not None
    [theirs], [ours] = (
        [optuna.load_study(study_name=name, storage=s) for name in optuna.get_all_study_names(s)]
        for s in (f"sqlite:///{store}", copy)
    )
    assert ours.directions == theirs.directions
    assert ours.metric_names == theirs.metric_names
    assert ours.user_attrs == theirs.user_attrs
    assert len(ours.trials) == len(theirs.trials) > 20
    for mine, its in zip(ours.trials, theirs.trials, strict=True):
        for what in (
            "number", "state", "values", "datetime_start", "datetime_complete", "user_attrs",
            "system_attrs", "intermediate_values",
        ):  # fmt: skip
            assert getattr(mine, what) == getattr(its, what), what
    shown = open_run(store).result
    assert shown is not None
    assert [o.arch for o in shown.ranked()] == [o.arch for o in load_search(store).ranked()]


def test_tables_of_another_form_are_left_to_optuna(store: Path, tmp_path: Path) -> None:
    import shutil
    import sqlite3

    other = tmp_path / "other.db"
    shutil.copy(store, other)
    with sqlite3.connect(other) as tables:
        tables.execute("UPDATE alembic_version SET version_num = 'v9'")
    tables.close()
    assert snapshot(other) is None
    (tmp_path / "text.db").write_text("no database")
    assert snapshot(tmp_path / "text.db") is None
    assert snapshot(tmp_path / "nowhere.db") is None


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"nas-space {version('nas-space')}\n"
    assert version("nas-space") == ns.__version__


def test_no_name_is_cut_or_broken_where_there_is_little_room(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nas_space.hub.registry import SPACES

    monkeypatch.setenv("COLUMNS", "40")
    assert run("spaces") == 0
    words = capsys.readouterr().out.replace(",", " ").split()
    for name, entry in SPACES.items():
        assert {name, entry.address.rpartition(":")[2], *entry.networks} <= set(words)


def test_a_search_without_trials_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_network: object, _arch: object) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ns.search(Various(), interrupted, trials=3, storage=tmp_path / "search.db")
    assert run("show", str(tmp_path / "search.db")) == 0
    assert "no trial has ended yet" in capsys.readouterr().out


def test_completion_is_offered(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    assert "--install-completion" in capsys.readouterr().out


def test_the_package_is_a_program_in_any_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nas_space", "--version"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.startswith("nas-space ")
