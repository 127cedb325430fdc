"""``nas-space export`` on runs of both kinds."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from typer.testing import CliRunner

from nas_space.cli.app import app
from nas_space.errors import UsageError
from nas_space.runs.compression import CompressionRun
from nas_space.runs.exporting import networks_of
from nas_space.runs.plan import CompressionPlan
from nas_space.runtimes import find_runtime

from . import small_models
from .test_commands import SPACE, TINY

pytest.importorskip("onnxruntime")
HERE = small_models.__name__


def shell(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "search"
    shell("search", "--space", SPACE, "--out", out, *TINY)
    return out


@pytest.fixture(scope="module")
def compressed(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "small"
    few = CompressionPlan(
        steps=0, trials=1, fine_tuning=1, batch_size=16, calibration=1,
        elastic={"widths": (0.25, 0.5, 1.0)},
    )  # fmt: skip
    budgets = [{"macs": "60%"}, {"macs": "30%"}]
    CompressionRun(out, model=f"{HERE}:net", data=f"{HERE}:data", budgets=budgets, plan=few).run()
    return out


def test_a_search_is_exported_with_its_weights_and_quantised(searched, tmp_path):
    printed = shell(
        "export", searched, "--to", "onnxruntime", "--int8", "--out", tmp_path, "--trust"
    )
    assert "score" in printed
    assert "MB before" in printed
    (stored,) = networks_of(searched, trust=True)
    reached = json.loads((searched / "architecture.json").read_text())["arch"]
    assert stored.network.architecture == reached
    x = torch.randn(3, 3, 32, 32)
    (found,) = find_runtime("onnxruntime").load(tmp_path / "network.onnx")(x)
    torch.testing.assert_close(found, stored.network(x), atol=1e-4, rtol=1e-3)
    assert (tmp_path / "network.int8.onnx").exists()
    shell("report", searched, "--out", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "network for onnxruntime, 8 bits: " in page
    assert "MB before" in page


def test_a_compression_is_exported_budget_by_budget(compressed):
    pytest.importorskip("openvino")
    printed = shell("export", compressed, "--to", "onnxruntime,openvino", "--trust")
    assert printed.count("differs by") == 4
    for name in ("macs-60", "macs-30"):
        files = {path.name for path in (compressed / "export" / name).iterdir()}
        assert files == {"network.onnx", "network.xml", "network.bin"}


def test_what_one_runtime_cannot_do_hinders_no_other(compressed, tmp_path):
    pytest.importorskip("openvino")
    printed = shell(
        "export",
        compressed,
        "--to",
        "openvino,onnxruntime",
        "--int8",
        "--out",
        tmp_path,
        "--trust",
        code=1,
    )
    assert "for openvino: networks are quantised for onnxruntime" in printed
    assert (tmp_path / "macs-30" / "network.int8.onnx").exists()


def test_what_is_no_finished_run_is_refused(tmp_path, compressed, monkeypatch):
    with pytest.raises(UsageError, match="not the folder of a run"):
        shell("export", tmp_path)
    with pytest.raises(UsageError, match="no runtime 'onnx'"):
        shell("export", compressed, "--to", "onnx")
    (tmp_path / "run.json").write_text((compressed / "run.json").read_text())
    with pytest.raises(UsageError, match="nas-space resume"):
        shell("export", tmp_path, "--trust")
    monkeypatch.setattr("nas_space.runtimes.base.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"nas-space\[openvino\]"):
        shell("export", compressed, "--to", "openvino")


def test_a_finished_run_that_is_to_go_on_is_not_exported_from_files_of_two_ends(searched, tmp_path):
    shutil.copytree(searched, tmp_path / "run")
    assert networks_of(tmp_path / "run", trust=True)
    (tmp_path / "run" / "work" / "unfinished").touch()
    with pytest.raises(UsageError, match="nas-space resume"):
        networks_of(tmp_path / "run", trust=True)


def test_a_compression_says_in_its_report_what_eight_bits_change(tmp_path):
    out = tmp_path / "run"
    shell(
        *("compress", "--model", f"{HERE}:net", "--data", f"{HERE}:data", "--out", out, "--int8"),
        *("--max-macs", "60%", "--steps", "0", "--trials", "1", "--fine-tuning", "1", "--quiet"),
    )
    _, one = json.loads((out / "compressed.json").read_text())
    made = one["quantised"]
    before, after = (
        (out / "macs-60" / name).stat().st_size for name in ("network.onnx", "network.int8.onnx")
    )
    assert made["size"] == [before, after]
    assert made["score"][0] == pytest.approx(one["scores"]["fidelity"], abs=1e-3)
    assert made["score"][1] == pytest.approx(made["score"][0], abs=0.1)
    page = (out / "report.html").read_text()
    assert "With 8 bits" in page
    assert f"{made['score'][0]:.4f} to {made['score'][1]:.4f}" in page
    shell("resume", out, "--quiet")
    assert json.loads((out / "compressed.json").read_text())[1]["quantised"] == made
