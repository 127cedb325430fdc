"""Budgets of time on a runtime: measured, corrected, kept, promised, and timed at the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nas_space.errors import UsageError
from nas_space.profiler import LatencyTable, latency
from nas_space.runs import open_run
from nas_space.runs.compression import CompressionRun
from nas_space.runs.plan import CompressionPlan

from . import small_models
from .test_costs import SPACE, run, written

pytestmark = [
    pytest.mark.filterwarnings("ignore:the machine is too noisy"),
    pytest.mark.filterwarnings("ignore:the corrected table ranks"),
]

TINY = ["--space", SPACE, "--input-shape", "3,16,16", "--quiet", "--repeats", "2"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime")
    out = tmp_path_factory.mktemp("latency") / "latency.yaml"
    given = ["--runtime", "onnxruntime", "--calibrate", "8", "--out", out]
    assert run("latency", *TINY, *given) == 0
    return out


def test_a_table_of_a_runtime_says_so_and_is_corrected(table: Path) -> None:
    found = LatencyTable.read(table)
    assert found.about["runtime"] == "onnxruntime"
    assert found.about["threads"] == 1
    assert found.correction is not None
    assert found.correction.about["networks"] == 8
    assert found.correction.milliseconds.keys() == found.milliseconds.keys()


def test_a_table_of_another_runtime_is_not_added_to(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = table.read_text(encoding="utf-8")
    assert run("latency", *TINY, "--out", table) == 2
    assert "another runtime: it was measured with 'onnxruntime', and 'torch'" in written(
        capsys.readouterr().err
    )
    assert run("latency", *TINY, "--runtime", "onnxruntime", "--threads", "2", "--out", table) == 2
    assert "another threads" in written(capsys.readouterr().err)
    assert table.read_text(encoding="utf-8") == before


def test_a_search_takes_no_table_of_another_runtime(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["search", "--space", SPACE, "--out", tmp_path / "out", "--latency-table", table]
    assert run(*given, "--runtime", "openvino", "--max-latency", "1ms") == 2
    assert "another runtime" in written(capsys.readouterr().err)
    assert run(*given, "--threads", "2", "--max-latency", "1ms") == 2
    assert "--threads are those of a --runtime" in written(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_search_measures_what_it_needs_and_times_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    out = tmp_path / "out"
    short = ["--steps", "2", "--first-steps", "1", "--trials", "2", "--finalists", "1",
             "--fine-tuning", "2", "--rivals", "1", "--quiet"]  # fmt: skip
    given = ["search", "--space", SPACE, "--out", out, *short]
    assert run(*given, "--runtime", "onnxruntime", "--max-latency", "50ms") == 0
    printed = written(capsys.readouterr().out)
    assert "ms promised" in printed
    assert "ms measured" in printed
    facts = json.loads((out / "architecture.json").read_text(encoding="utf-8"))
    deployed = facts["deployed"]
    assert deployed["runtime"] == "onnxruntime"
    assert deployed["measured"] > 0
    assert deployed["promised"] == facts["costs"]["latency"] <= 50_000
    assert deployed["difference"] < 1e-4
    assert Path(deployed["file"]).is_file()
    table = LatencyTable.read(out / "latency.yaml")
    assert table.correction is not None
    # It goes on with the table that it began with.
    kept = (out / "latency.yaml").read_bytes()
    assert run("resume", out, "--quiet") == 0
    assert (out / "latency.yaml").read_bytes() == kept
    assert run("report", out) == 0
    assert "ms promised" in written((out / "report.html").read_text(encoding="utf-8"))
    concluded = open_run(out).conclusion
    assert concluded is not None
    assert concluded["deployed"].promised == deployed["promised"]


PLAN = CompressionPlan(
    steps=0, trials=2, fine_tuning=2, batch_size=16, calibration=1,
    elastic={"widths": (0.25, 0.5, 1.0)},
)  # fmt: skip


def compression(out: Path, **given: Any) -> CompressionRun:
    arguments: dict[str, Any] = {
        "model": f"{small_models.__name__}:net",
        "data": f"{small_models.__name__}:data",
        "plan": PLAN,
        "runtime": "onnxruntime",
    }
    return CompressionRun(out, **{**arguments, **given})


@pytest.mark.slow
def test_a_compression_keeps_a_share_of_the_time_on_a_runtime(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    made = compression(tmp_path / "out", budgets=[{"latency": "100%"}])
    original, small = made.run()
    whole = made.costs.values("latency", made.space.original)
    assert small.deployed is not None
    assert small.deployed.promised <= whole
    assert small.deployed.measured > 0
    assert small.deployed.file is not None
    assert Path(small.deployed.file).is_file()
    assert original.deployed is None
    table = LatencyTable.read(tmp_path / "out" / "latency.yaml")
    cost = latency(made.space, table, inputs=torch.zeros(1, 3, 8, 8))
    assert cost.evaluate(small.arch) == small.deployed.promised
    stored = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert stored["runtime"] == "onnxruntime"
    again = CompressionRun.stored(tmp_path / "out", stored)
    assert again.costs.values("latency", small.arch) == small.deployed.promised


def test_threads_without_a_runtime_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--threads are those of a --runtime"):
        compression(tmp_path, budgets=[{"macs": "50%"}], runtime=None, threads=2)
    with pytest.raises(UsageError, match="there is no runtime 'onnx'"):
        compression(tmp_path, budgets=[{"macs": "50%"}], runtime="onnx")
