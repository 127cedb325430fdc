"""``nas-space profile`` and ``nas-space latency``, and a search within a budget of time."""

from __future__ import annotations

import csv
import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas_space import Categorical, ModelSpace
from nas_space.cli import main
from nas_space.cli.values import duration
from nas_space.errors import UsageError
from nas_space.hub import ProxylessNAS
from nas_space.nn import MutableConv2d
from nas_space.profiler import LatencyTable, latency, macs

TINY = ["--arg", "width_mult=0.25", "--input-shape", "3,32,32"]
SPACE = "tests.test_main_job:Small"


def run(*arguments: Any) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def written(text: str) -> str:
    """What was printed, without line breaks."""
    return re.sub(r"\s+", " ", text)


def test_times_have_units() -> None:
    assert [duration(text) for text in ("60ms", "1.5 s", "800us", "7µs")] == [60e3, 1.5e6, 800, 7]
    for text in ("60", "60 min", "-1ms", "0ms", "ms", "1e3ms"):
        with pytest.raises(UsageError, match="write a positive number with us, ms or s"):
            duration(text)


@pytest.mark.slow
def test_a_profile_counts_what_fits_and_names_known_networks(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run("profile", "--max-macs", "320M", "--plot", tmp_path / "costs.png") == 0
    printed = written(capsys.readouterr().out)
    space = ProxylessNAS()
    fitting = space.where(macs(space, (3, 224, 224)) <= 320e6).count()
    assert f"54,375,883,032,510,144 architectures, of which {fitting:,}" in printed
    assert "MACs 108.9M 320M" in printed
    assert "█" in printed
    assert re.search(r"proxyless-mobile 320\.4M 4\.081M no", printed)
    assert (tmp_path / "costs.png").read_bytes()[1:4] == b"PNG"


def test_a_published_network_that_the_space_lacks_costs_nothing_and_is_said_to_be_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = ["channel_search=true", "base_widths=[8,16,32,64,128,256]", "stage_depths=[1,1,1,1]"]
    options = [part for each in given for part in ("--arg", each)]
    plot = tmp_path / "costs.png"
    assert run("profile", "--space", "shufflenet", *options, "--input-shape", "3,32,32",
               "--plot", plot) == 0  # fmt: skip
    assert "spos no such network" in written(capsys.readouterr().out)
    assert plot.exists()


class Crossed(ModelSpace):
    """Concatenates in another order than the reader's width says."""

    def __init__(self) -> None:
        super().__init__()
        w, v = Categorical([1, 3], label="w"), Categorical([2, 4], label="v")
        self.a, self.b = MutableConv2d(3, w, 1), MutableConv2d(3, v, 1)
        self.last = MutableConv2d(w + v, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(torch.cat([self.b(x), self.a(x)], 1))
        return out


def test_a_profile_says_what_is_read_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is printed instead
        assert run("profile", "--space", f"{__name__}:Crossed", "--input-shape", "3,4,4") == 0
    printed = written(capsys.readouterr().out)
    assert "last, of in_channels=w + v, reads elements that lie otherwise" in printed
    assert "write v + w" in printed


def test_a_profile_without_a_budget_has_the_whole_range(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("profile", *TINY) == 0
    printed = capsys.readouterr().out
    assert "of which" not in printed
    space = ProxylessNAS(width_mult=0.25)
    ends = space.bounds(macs(space, (3, 32, 32)))
    assert f"{ends.minimum / 1e3:.4g}K" in printed
    assert f"{ends.maximum / 1e6:.4g}M" in printed


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("latency") / "latency.yaml"
    assert run("latency", *TINY, "--repeats", "1", "--out", out, "--quiet") == 0
    return out


def test_measured_blocks_are_kept_compared_merged_and_used(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = ProxylessNAS(width_mult=0.25)
    before = LatencyTable.read(table)
    cost = latency(space, table)
    assert cost.evaluate(space.sample(seed=0)) > 0
    assert run("latency", *TINY, "--repeats", "1", "--out", table, "--quiet") == 0
    assert LatencyTable.read(table).milliseconds == before.milliseconds

    key = next(iter(before.milliseconds))
    other = tmp_path / "other.yaml"
    LatencyTable({**before.milliseconds, key: 9.0}, before.about).write(other)
    capsys.readouterr()
    assert run("latency", "diff", table, other) == 0
    printed = capsys.readouterr().out
    assert key in printed
    assert "1 blocks differ" in printed
    assert run("latency", "merge", table, other, "--out", tmp_path / "both.yaml") == 0
    assert LatencyTable.read(tmp_path / "both.yaml").milliseconds[key] == 9.0

    middle = sum(space.bounds(cost)[:2]) / 2000
    budget = ["--latency-table", table, "--max-latency", f"{middle}ms"]
    capsys.readouterr()
    assert run("profile", *TINY, *budget) == 0
    fitting = space.where(cost <= middle * 1000).count()
    assert f"of which {fitting:,}" in written(capsys.readouterr().out)


def test_blocks_are_exported_for_other_devices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    assert run("latency", "export", tmp_path, "--space", SPACE, "--input-shape", "3,8,8") == 0
    listed = Path(capsys.readouterr().out.strip())
    rows = list(csv.DictReader(listed.read_text(encoding="utf-8").splitlines()))
    assert rows
    assert all((tmp_path / row["file"]).stat().st_size for row in rows)


@pytest.mark.slow
def test_a_search_stays_within_a_budget_of_time(tmp_path: Path) -> None:
    from tests.test_main_job import Small

    y = np.arange(60) % 3
    x = np.random.default_rng(0).random((60, 3, 8, 8), dtype=np.float32)
    np.savez(tmp_path / "images.npz", x=x, y=y)
    space = Small(num_labels=3)
    table = tmp_path / "times.yaml"
    given = ["--space", SPACE, "--arg", "num_labels=3", "--input-shape", "3,8,8", "--quiet"]
    assert run("latency", *given, "--repeats", "1", "--out", table) == 0
    cost = latency(space, table)
    least, most = space.bounds(cost)[:2]
    budget = ["--latency-table", table, "--max-latency", f"{(least + most) // 2}us"]
    tiny = ["--first-steps", "1", "--steps", "2", "--trials", "2", "--fine-tuning", "1"]
    out = tmp_path / "run"
    arguments = ["search", "--space", SPACE, *budget, *tiny, "--rivals", "1", "--quiet"]
    arguments += ["--data", tmp_path / "images.npz"]
    assert run(*arguments, "--out", out) == 0
    found = json.loads((out / "architecture.json").read_text())["arch"]
    assert cost.evaluate(found) <= (least + most) // 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["profile", "--max-latency", "60ms"], "--latency-table"),
        (["profile", "--max-macs", "10"], "the smallest is"),
        (["profile", "--max-macs", "320 apples"], "is no amount"),
        (["profile", "--latency-table", "nowhere.yaml"], "cannot be read"),
        (["profile", "--input-shape", "3,x"], "a shape is"),
        (["profile", "--input-shape", "1,32,32"], "does not run on"),
        (["profile", "--plot", "costs"], "ends in one of"),
        (["latency", "--device", "abacus", "--quiet"], "abacus"),
        (["latency", "diff", "nowhere.yaml", "nowhere.yaml"], "cannot be read"),
        (["search", "--max-latency", "60ms", "--out", "unused"], "--latency-table"),
        (["search", "--max-latency", "60", "--out", "unused"], "is no time"),
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
    assert list(tmp_path.iterdir()) == []
