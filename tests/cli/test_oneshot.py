"""One-shot strategies from the shell."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nas_space.cli import main
from nas_space.runs import open_run
from nas_space.strategy import ONE_SHOT
from nas_space.strategy.oneshot import OneShotProgress
from tests.report.pages import data_of

SPACE = "tests.test_main_job:Small"
SHORT = ["--steps", "12", "--fine-tuning", "2", "--option", "warmup_epochs=1"]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    y = np.arange(120) % 3
    x = np.random.default_rng(0).random((120, 3, 8, 8), dtype=np.float32)
    x[np.arange(120), y] += 1
    file = tmp_path_factory.mktemp("data") / "images.npz"
    np.savez(file, x=x, y=y)
    return str(file)


def search(out: Path, images: str, strategy: str, *more: str) -> int:
    given = ["--strategy", strategy, "--space", SPACE, "--data", images, "--max-macs", "40K"]
    return run("search", "--out", str(out), *given, *SHORT, *more)


@pytest.mark.parametrize("strategy", ONE_SHOT)
def test_a_search_finds_trains_and_writes(
    strategy: str, tmp_path: Path, images: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert search(out, images, strategy) == 0
    shown = capsys.readouterr()
    told = json.loads((out / "architecture.json").read_text())
    assert told["macs"] <= 40_000
    assert told["strategy"] == strategy
    assert "accuracy: validation" in shown.out
    assert "fine-tuning: 2 of 2, loss" in shown.err
    program = torch.export.load(out / "network.pt2").module()
    assert program(torch.zeros(4, 3, 8, 8)).shape == (4, 3)
    assert run("show", str(out)) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "steps 12 of 12" in printed
    assert f"test {told['test']:.4g}" in printed
    assert " ".join(f"{label}={value}" for label, value in told["arch"].items()) in printed
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in rows if row["stage"] == "search"][-1]
    learned = {"random-path": set(), "sandwich": set(), "enas": {"reward", "entropy", "cost"}}
    wanted: set[str] = learned.get(strategy, {"entropy", "cost"})
    assert wanted <= set(last)
    assert all(f"{name} " in shown.err for name in {"loss", *wanted})


def test_a_short_search_has_a_short_warm_up(
    tmp_path: Path, images: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--strategy", "proxyless", "--space", SPACE, "--data", images, "--max-macs", "40K"]
    short = ["--steps", "10", "--fine-tuning", "1"]
    assert run("search", "--out", str(tmp_path / "run"), *given, *short) == 0
    shown = capsys.readouterr().err
    assert all(f"{name} " in shown for name in ("policy loss", "entropy", "cost"))


def test_an_interrupted_search_goes_on_to_the_same_end(
    tmp_path: Path, images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert search(tmp_path / "whole", images, "proxyless", "--quiet") == 0
    shown, seen = OneShotProgress.__str__, []

    def interrupted(self: Any) -> str:
        seen.append(self.step)
        if self.step == 10:
            raise KeyboardInterrupt
        return shown(self)

    monkeypatch.setattr(OneShotProgress, "__str__", interrupted)
    cut = tmp_path / "cut"
    assert search(cut, images, "proxyless", "--quiet") == 130
    assert seen
    monkeypatch.undo()
    assert run("resume", str(cut), "--quiet") == 0
    for file in ("weights.safetensors", "shared_weights.safetensors"):
        one, other = load_file(tmp_path / "whole" / file), load_file(cut / file)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory, images: str) -> Path:
    out = tmp_path_factory.mktemp("runs") / "enas"
    assert search(out, images, "enas", "--quiet", "--option", "log_prob_every_n_step=4") == 0
    return out


def test_the_report_draws_the_policy_over_time(reported: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    assert run("report", str(reported), "--out", str(file)) == 0
    page, told = file.read_text(), json.loads((reported / "architecture.json").read_text())
    assert "The policy over time" in page
    assert f"{told['test']:.1%} on the test split" in page
    for label, value in told["arch"].items():
        assert f"<tr><td>{label}</td><td>{value}</td>" in page
    stored = open_run(reported)
    assert stored.steps == (12, 12)
    assert {step for over_time in stored.policy.values() for step, _ in over_time} == {0, 4, 8, 12}
    data = data_of(file)
    assert {label for label, _, _ in data["policy"]} == set(stored.policy)
    assert [row["name"] for row in data["labels"] if row.get("share")]  # the picture's


def test_the_report_before_the_end(
    reported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(reported, out)
    (out / "architecture.json").unlink()
    assert run("report", str(out)) == 0
    page = (out / "report.html").read_text()
    assert "has not come to its end" in page
    assert "The policy over time" in page
    # Before its first checkpoint it has drawn nothing, and done what its record says.
    (out / "work" / "search.safetensors").unlink()
    with (out / "metrics.jsonl").open("a") as record:
        record.write('{"stage": "sea')
    assert run("report", str(out)) == 0
    assert "The policy over time" not in (out / "report.html").read_text()
    assert run("runs", str(tmp_path)) == 0
    assert "12/12 steps" in " ".join(capsys.readouterr().out.split())


def test_what_has_no_meaning_is_refused(
    tmp_path: Path, images: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(tmp_path / "run", images, "darts", "--timeout", "2", "--workers", "2") == 2
    said = capsys.readouterr().err
    assert "--timeout" in said
    assert "--workers" in said
    assert search(tmp_path / "run", images, "darts", "--epochs", "2") == 2  # beside --steps
    assert "--steps and --epochs both say how long" in capsys.readouterr().err
    assert search(tmp_path / "run", images, "proxyles") == 2
    assert "did you mean 'proxyless'" in capsys.readouterr().err
