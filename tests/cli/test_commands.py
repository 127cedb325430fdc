"""The commands, as a person types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nas_space.cli import main
from nas_space.cli.values import amount, architecture
from nas_space.errors import UsageError

TINY = ["--steps", "2", "--trials", "2", "--fine-tuning", "1", "--rivals", "1", "--quiet"]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def test_help_names_the_commands_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from nas_space.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'optuna', 'matplotlib') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert all(name in printed.stdout for name in ("search", "sample", "freeze", "spaces"))
    assert printed.stdout.strip().endswith("[]")


def test_sampling_prints_architectures_within_the_budget(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from nas_space.hub import ProxylessNAS
    from nas_space.profiler import macs

    small = ["--arg", "width_mult=0.25", "--input-shape", "3,32,32", "--seed", "1"]
    assert run("sample", "-n", "3", "--max-macs", "0.6M", *small) == 0
    archs = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    space = ProxylessNAS(width_mult=0.25)
    cost = macs(space, (3, 32, 32))
    assert len(archs) == 3
    assert all(cost.evaluate(space.canonical(arch)) <= 0.6e6 for arch in archs)


def test_an_architecture_becomes_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    small = ["--arg", "width_mult=0.25", "--arg", "num_labels=7"]
    run("sample", "--seed", "0", *small)
    file = tmp_path / "arch.json"
    file.write_text(capsys.readouterr().out)
    out = tmp_path / "network"
    assert run("freeze", str(file), "--out", str(out), "--input-shape", "3,32,32", *small) == 0
    program = torch.export.load(out / "network.pt2").module()
    assert program(torch.zeros(3, 3, 32, 32)).shape == (3, 7)


def test_spaces_are_listed_with_their_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("spaces") == 0
    printed = capsys.readouterr().out
    assert "proxylessnas" in printed
    assert "5.4e+16" in printed


@pytest.mark.slow
def test_a_search_writes_its_files_and_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run("search", "--out", str(out), *TINY) == 0
    names = {"architecture.json", "weights.safetensors", "network.pt2", "metrics.jsonl"}
    names |= {"search.png", "architecture.png", "run.json", "study.db"}
    assert names <= {path.name for path in out.iterdir()}
    for picture in ("search.png", "architecture.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    assert "nearest neighbour" in capsys.readouterr().out
    assert run("search", "--out", str(out), *TINY) == 2
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sample", "--space", "proxylesnas"], "did you mean 'proxylessnas'"),
        (["sample", "--space", "nowhere:Net"], "cannot import"),
        (["sample", "--space", "json:loads"], "is no space"),
        (["sample", "--max-macs", "many"], "is no amount"),
        (["sample", "--arg", "width"], "name=value"),
        (["sample", "--arg", "widht_mult=1"], "cannot be made"),
        (["sample", "--max-macs", "1", "--arg", "width_mult=0.25"], "smallest"),
        (["freeze", "nowhere.json"], "there is no file"),
        (["search", "--data", "nowhere.npz", "--out", "unused"], "nowhere.npz"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error:")
    assert words in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "value"), [("320M", 320e6), ("0.5k", 500.0), ("6e6", 6e6), ("1.5G", 1.5e9), ("7", 7.0)]
)
def test_amounts_are_read_with_their_units(text: str, value: float) -> None:
    assert amount(text) == value


@pytest.mark.parametrize("text", ["", "M", "-3", "0", "3X", "1.2.3"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no amount"):
        amount(text)


def test_a_file_without_an_architecture_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "list.json"
    file.write_text("[1, 2]")
    with pytest.raises(UsageError, match="no architecture"):
        architecture(file)
    file.write_text("{")
    with pytest.raises(UsageError, match="cannot be read as JSON"):
        architecture(file)
