"""The folder of a run with something wrong in one of its files, under every command."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_space.cli import main
from nas_space.errors import StorageError
from nas_space.schema import checked
from nas_space.training import load_state, save_state
from tests.cli import small_models
from tests.fuzz.test_fuzz import SEED

SPACE = "tests.test_main_job:Small"
KINDS = ("trials", "one-shot", "compression")
ODD: list[Any] = [
    None, True, -1, 0, 5, 10**400, 1e308, float("nan"), float("inf"), "", "x", "a:b", "50%",
    "\ud800", "a\0b", [], [[]], {}, {"x": 1}, [1, "x", None], "../..", "digits",
]  # fmt: skip


def shell(*arguments: object) -> int:
    """Run a command: it ends by itself, or by an error of this library, and so by its status."""
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    return int(ended.value.code or 0)


def begun(kind: str, out: Path, images: Path) -> None:
    if kind == "compression":
        where = small_models.__name__
        given = ["--model", f"{where}:net", "--data", f"{where}:data", "--max", "macs=50%"]
        lengths = ["--steps", "0", "--trials", "2", "--fine-tuning", "2", "--batch-size", "16"]
        assert shell("compress", "--out", out, *given, *lengths, "--quiet") == 0
        return
    steps: dict[str, list[str]] = {
        "trials": ["--strategy", "random", "--trials", "3", "--epochs", "1", "--final-epochs", "1"],
        "one-shot": ["--strategy", "proxyless", "--steps", "4", "--fine-tuning", "2"],
    }
    given = ["--space", SPACE, "--data", str(images), "--max-macs", "40K", *steps[kind]]
    assert shell("search", "--out", out, *given, "--quiet") == 0
    assert shell("export", out, "--to", "torch-export") == 0


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each kind."""
    root = tmp_path_factory.mktemp("runs")
    y = np.arange(60) % 3
    np.savez(root / "images.npz", x=np.random.default_rng(0).random((60, 3, 8, 8), "f4"), y=y)
    for kind in KINDS:
        begun(kind, root / kind, root / "images.npz")
    return {kind: root / kind for kind in KINDS}


def places(tree: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key and index of a tree, as a path; not more than a few items of a list."""
    items: Any = tree.items() if isinstance(tree, dict) else ()
    if isinstance(tree, list):
        items = enumerate(tree[:3])
    for key, value in items:
        yield (*place, key)
        yield from places(value, (*place, key))


def doctored(tree: Any, draw: random.Random) -> Any:
    """Return a tree with a value that is missing, or another."""
    tree = copy.deepcopy(tree)
    *above, last = draw.choice([*places(tree), ()]) or (None,)
    if last is None:
        return draw.choice(ODD)
    parent = tree
    for key in above:
        parent = parent[key]
    if draw.random() < 0.4:
        del parent[last]
    else:
        parent[last] = draw.choice(ODD)
    return tree


def damage(path: Path, draw: random.Random) -> None:
    """Change something in a file: a value, or a byte, or its length."""
    content = path.read_bytes()
    if path.suffix == ".jsonl":
        lines = content.decode().splitlines()
        place = draw.randrange(len(lines))
        lines[place] = json.dumps(doctored(json.loads(lines[place]), draw))
        path.write_text("\n".join(lines) + "\n")
    elif path.suffix == ".json" and draw.random() < 0.9:
        path.write_text(json.dumps(doctored(json.loads(content), draw)))
    elif content and draw.random() < 0.5:
        changed = bytearray(content)
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
    else:
        path.write_bytes(content[: draw.randrange(len(content) + 1)])


def commands(kind: str, run: Path, out: Path) -> list[list[object]]:
    """What looks at a run, and what works at it, which is slower and comes last."""
    looking: list[list[object]] = [["show", run], ["runs", run.parent]]
    looking += [["report", run, "--out", out / "report.html"]]
    working: list[list[object]] = [["export", run, "--to", "torch-export", "--out", out, "--trust"]]
    if kind != "compression":
        working += [["freeze", run / "architecture.json", "--out", out / "frozen"]]
    return [*looking, *working, ["resume", run, "--quiet"]]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy, about numbers like 1e308
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "count", [pytest.param(15, id="15"), pytest.param(100, id="100", marks=pytest.mark.slow)]
)
def test_every_command_reads_a_damaged_folder_or_refuses_it_in_our_words(
    kind: str, count: int, folders: dict[str, Path], tmp_path: Path
) -> None:
    whole = folders[kind]
    files = [path for path in sorted(whole.rglob("*")) if path.is_file() and path.stat().st_size]
    # What SQLite keeps beside a study is gone as soon as the last connection is.
    passing = (".png", ".html", ".pt2", ".onnx", ".db-wal", ".db-shm")
    files = [path for path in files if path.suffix not in passing]
    leaked = []
    for number in range(count):
        draw = random.Random(1000 * SEED + number)
        run = tmp_path / "runs" / "run"
        shutil.copytree(whole, run)
        path = run / draw.choice(files).relative_to(whole)
        damage(path, draw)
        every = commands(kind, run, tmp_path / "out")
        working = draw.choice(every[3:])
        for command in [*every[:3], *([working] if number % 5 == 0 or count > 15 else [])]:
            try:
                shell(*command)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is none of ours
                leaked.append(f"{number}: {command[0]}, {path.relative_to(run)}: {error!r}")
        shutil.rmtree(run)
    assert not leaked, "\n".join(leaked)


@pytest.mark.parametrize(
    ("kind", "file", "keys"),
    [
        ("trials", "run.json", ["space"]),
        ("trials", "architecture.json", ["arch", "validation", "test"]),
        ("trials", "decisions.json", ["label"]),
        ("one-shot", "run.json", ["steps"]),
        ("compression", "compressed.json", ["name", "arch", "costs", "scores"]),
    ],
)
def test_a_key_that_is_missing_is_named_with_the_file(
    kind: str, file: str, keys: list[str], folders: dict[str, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = tmp_path / "run"
    shutil.copytree(folders[kind], run)
    content = json.loads((run / file).read_text())
    for key in keys:
        less = copy.deepcopy(content)
        del (less[0] if isinstance(less, list) else less)[key]
        (run / file).write_text(json.dumps(less))
        command = "show" if kind != "trials" else "report"
        assert shell(command, run) == 2
        told = capsys.readouterr().err
        assert f"{file} is damaged: " in told
        assert f"{key} is missing" in told


def test_a_damaged_run_does_not_hide_the_others(
    folders: dict[str, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copytree(folders["trials"], tmp_path / "whole")
    shutil.copytree(folders["trials"], tmp_path / "torn")
    (tmp_path / "torn" / "run.json").write_text('{"trials": "many"}')
    capsys.readouterr()
    assert shell("runs", tmp_path) == 0
    told = capsys.readouterr()
    assert {line.split()[-1] for line in told.out.splitlines()[1:]} == {"damaged", "finished"}
    assert "trials is 'many', but a whole number is expected" in told.err


@pytest.mark.parametrize("name", ["space", "data", "budgets"])
def test_what_a_folder_names_is_not_imported_to_look_at_it_or_to_export_it(
    name: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(folders["trials"], run)
    (tmp_path / f"evil_{name}.py").write_text("open('was_run', 'w').close()\n")
    settings = json.loads((run / "run.json").read_text())
    evil = f"evil_{name}:thing"
    settings[name] = {evil: 5} if name == "budgets" else evil
    (run / "run.json").write_text(json.dumps(settings))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for command in (["show", run], ["runs", tmp_path], ["report", run], ["export", run]):
        shell(*command)
        assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize(
    ("value", "kind", "told"),
    [
        ({"a": {"b": [1, True]}}, dict[str, dict[str, list[int]]], r"a\.b\[1\] is True"),
        ({"a": 10**400}, dict[str, float], "a is 1000"),
        ({"a": None}, dict[str, int | str], "a is None"),
        (["\ud800"], list[Any], r"\[0\] is '\\ud800', but text that can be written"),
        ({"a\0": 1}, Any, "text that can be written"),
        ([1], tuple[int, int], "a list of 2 is expected"),
        (5, list[int], "it is 5, but a list"),
        (2**63, int, "a smaller number"),
    ],
)
def test_what_is_of_another_type_is_named_by_its_key(value: Any, kind: Any, told: str) -> None:
    with pytest.raises(StorageError, match=f"file.json is damaged: .*{told}"):
        checked(value, kind, "file.json")


@pytest.mark.parametrize("state", [{}, [], {"run": {}}, {"run": {"history": [[1, {"a": ["x"]}]]}}])
def test_the_state_of_a_search_without_what_it_needs_is_named(
    state: Any, folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(folders["one-shot"], run)
    file = run / "work" / "search.safetensors"
    save_state(file, state)
    for command in (["report", run], ["resume", run, "--quiet"]):
        assert shell(*command) == 2
        assert str(file) in capsys.readouterr().err
    save_state(file, {**load_state(folders["one-shot"] / "work" / "search.safetensors"), "run": 1})
    assert shell("resume", run, "--quiet") == 2
    assert str(file) in capsys.readouterr().err
    (run / "work" / "search.safetensors").unlink()
    save_state(run / "work" / "fine-tuning.safetensors", state)
    shutil.copy(folders["one-shot"] / "work" / "search.safetensors", file)
    assert shell("resume", run, "--quiet") == 2
    assert "fine-tuning.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["x", -1, None, [], 1e308, {}])
def test_arguments_with_which_a_space_cannot_be_made_are_told(
    value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "architecture.json"
    file.write_text(
        json.dumps({"space": "proxylessnas", "arguments": {"num_labels": value}, "arch": {}})
    )
    assert shell("freeze", file, "--out", tmp_path / "network") == 2
    assert "ProxylessNAS cannot be made with" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["os:abort", "sys:exit", "nas_space.cli:main"])
def test_a_function_that_a_folder_names_is_not_called_though_its_module_is_there(
    name: str, folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(folders["trials"], run)
    settings = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**settings, "data": name}))
    assert shell("export", run) == 2
    assert f"names {name!r}" in capsys.readouterr().err
