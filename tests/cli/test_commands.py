"""The commands, as a person types them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import load_file

from nas_space.cli import display, main
from nas_space.cli.values import amount, architecture
from nas_space.errors import UsageError
from nas_space.runs import Stage

SPACE = "tests.test_main_job:Small"
TINY = [
    *(
        "--strategy",
        "spos",
        "--first-steps",
        "1",
        "--steps",
        "2",
        "--trials",
        "2",
        "--fine-tuning",
        "1",
    ),
    *("--rivals", "1", "--finalists", "1", "--quiet"),
]


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
    small = ["--arg", "width_mult=0.25", "--arg", "num_labels=7"]
    run("sample", "--seed", "0", *small)
    file = tmp_path / "arch.json"
    file.write_text(capsys.readouterr().out)
    out = tmp_path / "network"
    assert run("freeze", str(file), "--out", str(out), *small) == 0
    assert {file.name for file in out.iterdir()} == {"architecture.json", "weights.safetensors"}
    shape = ["--input-shape", "3,32,32"]
    assert run("freeze", str(file), "--out", str(out), "--program", *shape, *small) == 0
    program = torch.export.load(out / "network.pt2").module()
    assert program(torch.zeros(3, 3, 32, 32)).shape == (3, 7)


def test_spaces_are_listed_with_their_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("spaces") == 0
    printed = capsys.readouterr().out
    assert "proxylessnas" in printed
    assert "5.4·10¹⁶" in printed


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny search on tiny data."""
    folder = tmp_path_factory.mktemp("search")
    y = np.arange(60) % 3
    x = np.random.default_rng(0).random((60, 3, 8, 8), dtype=np.float32)
    x[np.arange(60), y] += 1
    np.savez(folder / "images.npz", x=x, y=y)
    given = ["--space", SPACE, "--data", str(folder / "images.npz"), "--max-macs", "40K"]
    assert run("search", "--out", str(folder / "run"), *given, *TINY) == 0
    return folder / "run"


def test_a_search_writes_its_files_and_pictures(searched: Path) -> None:
    names = {"architecture.json", "weights.safetensors", "network.pt2", "metrics.jsonl"}
    names |= {"search.png", "architecture.png", "run.json", "study.db"}
    assert names <= {path.name for path in searched.iterdir()}
    for picture in ("search.png", "architecture.png"):
        assert (searched / picture).read_bytes().startswith(b"\x89PNG")


def test_a_search_is_not_begun_twice_but_resumed_with_its_own_settings(
    searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("search", "--out", str(searched)) == 2
    assert "--resume" in capsys.readouterr().err
    before = (searched / "architecture.json").read_text()
    assert run("search", "--resume", "--quiet", "--out", str(searched)) == 0
    assert "nearest neighbour" in capsys.readouterr().out
    assert (searched / "architecture.json").read_text() == before
    assert run("search", "--resume", "--out", str(searched), "--seed", "3") == 2
    assert "seed is 0 there, 3 here" in capsys.readouterr().err


def test_an_interrupted_search_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nas_space.runs.workspace.Workspace.fit", interrupted)
    assert run("search", "--out", str(tmp_path / "run"), "--space", SPACE, *TINY) == 130
    assert f"--resume --out {tmp_path / 'run'}" in capsys.readouterr().err


def test_progress_is_lines_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loud = [argument for argument in TINY if argument != "--quiet"]
    assert run("search", "--out", str(tmp_path / "run"), "--space", SPACE, *loud) == 0
    told = capsys.readouterr().err
    told_of = ("one path: 1 of 1, loss", "search: 2 of 2, best", "fine-tuning: 2 of 2, random 1")
    for stage in told_of:
        assert stage in told


def test_the_first_line_says_how_long_it_takes_by_the_first_steps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(display, "monotonic", lambda: now[0])
    stages = [Stage("one path", 100, 1.0, print), Stage("search", 100, 4.0, print)]
    with display.show_progress(stages, quiet=False) as on_progress:
        for done in range(10, 101, 10):  # ten steps a second, 500 steps in all
            now[0] += 1.0
            on_progress("one path", done, 100, "")
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert first == "this takes about 50 seconds more here, as its first steps go"
    assert "one path: 20 of 100" in second


@pytest.mark.parametrize("done_before", [0, 4])
def test_the_bar_of_the_whole_has_the_time_of_all_stages_but_not_of_what_was_done_before(
    done_before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, made = [0.0], list[Progress]()

    class Watched(Progress):
        def __init__(self, *columns: Any, **options: Any) -> None:
            super().__init__(*columns, get_time=lambda: now[0], **options)
            made.append(self)

    terminal = Console(file=io.StringIO(), force_terminal=True, width=100)
    monkeypatch.setattr(display, "Progress", Watched)
    monkeypatch.setattr(display, "plain_console", lambda **_: terminal)
    stages = [Stage(name, 4, 2.0, print) for name in ("first", "second", "third")]
    with display.show_progress(stages, quiet=False) as on_progress:
        if done_before:
            on_progress("first", 4, 4, "done")
        for stage in stages[1 if done_before else 0 :]:
            for done in range(1, 5):
                now[0] += 1.0
                on_progress(stage.name, done, 4, "")
        *_, whole = made[0].tasks
        assert whole.completed == whole.total == 24
        # The first step of a bar sets its clock.
        assert whole.elapsed == 4 * (2 if done_before else 3) - 1
        assert whole.speed == pytest.approx(2.0, rel=0.2)


def test_options_of_training_mean_something_in_every_kind_of_run(tmp_path: Path) -> None:
    """Steps are epochs over batches, and what is given is in the settings of the run."""
    images = tmp_path / "images.npz"
    rng = np.random.default_rng(0)
    np.savez(images, x=rng.random((60, 3, 8, 8), dtype=np.float32), y=np.arange(60) % 3)
    common = ["--batch-size", "16", "--learning-rate", "0.03"]
    few = ["--first-steps", "1", "--trials", "2", "--finalists", "1", "--rivals", "0"]
    kinds = {
        "spos": [*few, "--fine-tuning", "1", "--epochs", "1"],
        "random-path": ["--fine-tuning", "1", "--epochs", "1"],
        "random": ["--trials", "1", "--epochs", "1", "--final-epochs", "1"],
    }
    for strategy, given in kinds.items():
        out = tmp_path / strategy
        arguments = ["--out", str(out), "--space", SPACE, "--strategy", strategy, "--quiet"]
        assert run("search", *arguments, "--data", str(images), *common, *given) == 0
        settings = json.loads((out / "run.json").read_text())
        assert (settings["batch_size"], settings["learning_rate"]) == (16, 0.03)
        # 36 of 60 images are there to train on: three batches of 16 are more than one pass.
        assert settings["epochs" if strategy == "random" else "steps"] == (
            1 if strategy == "random" else 3
        )


@pytest.mark.parametrize("strategy", ["spos", "random"])
def test_an_executor_that_means_nothing_is_refused_before_anything_is_written(
    strategy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    given = ["--space", SPACE, "--strategy", strategy, "--executor", "dusk://host:8786"]
    assert run("search", "--out", str(out), *given) == 2
    assert "an executor is dask://host:port" in capsys.readouterr().err
    assert not out.exists()


def test_steps_and_epochs_together_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("search", "--steps", "5", "--epochs", "1") == 2
    assert "give one" in capsys.readouterr().err
    assert run("search", "--learning-rate", "-1") == 2
    assert "must be positive" in capsys.readouterr().err


def test_what_a_search_found_can_be_frozen_again(searched: Path, tmp_path: Path) -> None:
    found = str(searched / "architecture.json")
    for weights in ("weights", "shared_weights"):
        file = str(searched / f"{weights}.safetensors")
        assert run("freeze", found, "--weights", file, "--out", str(tmp_path / weights)) == 0
    whole, mine, shared = (
        load_file(folder / "weights.safetensors")
        for folder in (searched, tmp_path / "weights", tmp_path / "shared_weights")
    )
    assert all(torch.equal(mine[name], whole[name]) for name in whole)
    assert shared.keys() == whole.keys()
    assert not all(torch.equal(shared[name], whole[name]) for name in whole)
    told = json.loads((tmp_path / "weights" / "architecture.json").read_text())
    assert told["arch"] == json.loads(Path(found).read_text())["arch"]


def test_a_traceback_is_shown_when_asked_for() -> None:
    with pytest.raises(UsageError, match="did you mean"):
        main(["sample", "--space", "proxylesnas", "--traceback"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sample", "--space", "proxylesnas"], "did you mean 'proxylessnas'"),
        (["sample", "--space", "nowhere:Net"], "cannot be imported"),
        (["sample", "--space", "json:loads"], "is no space"),
        (["sample", "--max-macs", "many"], "is no amount"),
        (["sample", "--arg", "width"], "name=value"),
        (["sample", "--arg", "widht_mult=1"], "cannot be made"),
        (["sample", "--max-macs", "1", "--arg", "width_mult=0.25"], "smallest"),
        (["freeze", "nowhere.json"], "there is no file"),
        (["search", "--data", "nowhere.npz", "--out", "unused"], "nowhere.npz"),
        (["search", "--data", "nothing", "--out", "unused"], "there are no data"),
        (["search", "--space", SPACE, "--max-macs", "1", "--out", "unused"], "smallest"),
        (["search", "--device", "abacus", "--out", "unused"], "there is no device"),
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
