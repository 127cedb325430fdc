"""Loggers of Lightning's, callbacks and progress: alike for trials and for one-shot searches."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric.loggers.csv_logs import CSVLogger
from torch.utils.data import TensorDataset

import nas_space as ns
from nas_space.errors import UsageError
from nas_space.study import SearchCallback, live
from nas_space.training import Task
from tests.problems import Various, worth
from tests.test_main_job import Small


def task() -> Task:
    x = torch.randn(48, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(x, torch.arange(48) % 3)
    return Task.classification(data, data, batch_size=16)


def search(kind: str, **more: Any) -> Any:
    if kind == "trials":
        return ns.search(Various(), worth, trials=4, **more)
    return ns.search(Small(num_labels=3), task(), strategy="darts", steps=12, **more)


@pytest.mark.parametrize("kind", ["trials", "one-shot"])
def test_csv_has_a_row_for_what_was_measured(kind: str, tmp_path: Path) -> None:
    result = search(kind, loggers=[CSVLogger(tmp_path, "log", flush_logs_every_n_steps=1)])
    [file] = tmp_path.rglob("metrics.csv")
    rows = list(csv.DictReader(file.read_text().splitlines()))
    if kind == "trials":
        told = [float(row["value"]) for row in rows if row.get("value")]
        assert told == pytest.approx([o.values["value"] for o in result.outcomes], abs=1e-4)
        best = [float(row["best/value"]) for row in rows]
        assert best == sorted(best)
        assert any(name.startswith("arch/") for name in rows[0])
    else:
        assert {int(row["step"]) for row in rows if row.get("loss")} == {10, 12}
        assert any(name.startswith("policy/") for name in rows[0])


@pytest.mark.parametrize("kind", ["trials", "one-shot"])
def test_tensorboard_has_the_metrics_and_the_picture(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install 'nas-space[dev]'")
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    search(kind, loggers=[TensorBoardLogger(tmp_path, "log")])
    [folder] = {file.parent for file in tmp_path.rglob("events.*")}
    events = EventAccumulator(str(folder), size_guidance={"images": 1}).Reload()
    assert ("value" if kind == "trials" else "loss") in events.Tags()["scalars"]
    assert events.Tags()["images"] == ["architecture"]


@pytest.mark.parametrize("kind", ["trials", "one-shot"])
def test_mlflow_has_the_metrics_the_settings_and_the_picture(kind: str, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="pip install lightning mlflow")
    loggers = pytest.importorskip("lightning.pytorch.loggers")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    place = str(tmp_path / "files")
    logger = loggers.MLFlowLogger("search", tracking_uri=uri, artifact_location=place)
    result = search(kind, loggers=[logger])
    client = mlflow.MlflowClient(uri)
    run = client.get_run(logger.run_id)
    assert run.info.status == "FINISHED"
    assert ("value" if kind == "trials" else "loss") in run.data.metrics
    if kind == "trials":
        told = [one.value for one in client.get_metric_history(logger.run_id, "value")]
        assert told == pytest.approx([o.values["value"] for o in result.outcomes])
    label, value = next(iter(result.best().items()))
    assert run.data.params[f"best/{label}"] == str(value)
    assert [file.path for file in client.list_artifacts(logger.run_id)] == ["architecture.png"]


@pytest.mark.parametrize("kind", ["trials", "one-shot"])
def test_wandb_has_the_metrics_and_the_picture_offline(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb", reason="pip install lightning wandb")
    loggers = pytest.importorskip("lightning.pytorch.loggers")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = loggers.WandbLogger("search", save_dir=str(tmp_path), offline=True)
    search(kind, loggers=[logger])
    summary = dict(logger.experiment.summary)
    wandb.finish()
    assert ("value" if kind == "trials" else "loss") in summary
    assert "architecture" in summary
    [folder] = tmp_path.glob("wandb/offline-run-*")
    assert list(folder.glob("files/media/images/architecture*.png"))


@pytest.mark.parametrize(
    "wrong",
    [{"loggers": "logs"}, {"loggers": ["logs"]}, {"loggers": object()}, {"progress": "yes"}],
    ids=["a text", "texts", "an object", "no truth value"],
)
@pytest.mark.parametrize("kind", ["trials", "one-shot"])
def test_what_is_no_logger_and_no_progress_is_refused(kind: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        search(kind, **wrong)


@pytest.mark.parametrize("kind", ["trials", "one-shot"])
def test_one_protocol_tells_of_both_kinds(kind: str) -> None:
    class Heard(SearchCallback):
        def __init__(self) -> None:
            self.words: list[str] = []

        def on_begin(self, space: Any, facts: dict[str, Any]) -> None:
            self.words.append(f"begin {facts['seed']}")

        def on_trial(self, study: Any, trial: Any) -> None:
            self.words.append("trial")

        def on_step(self, progress: Any) -> None:
            self.words.append("step")

        def on_end(self, result: Any) -> None:
            self.words.append(f"end {type(result).__name__}")

    heard = Heard()
    search(kind, callbacks=[heard], seed=3)
    kinds = {"trials": (4, "trial", "SearchResult"), "one-shot": (12, "step", "OneShotResult")}
    number, each, result = kinds[kind]
    assert heard.words == ["begin 3", *[each] * number, f"end {result}"]


@pytest.mark.parametrize("kind", ["trials", "one-shot"])
def test_progress_is_told_where_it_is_asked_for(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    search(kind)
    assert capsys.readouterr().err == ""  # short, and no terminal
    search(kind, progress=True)
    told = capsys.readouterr().err
    assert ("4 of 4 trials, best value" if kind == "trials" else "step 12 of 12, loss") in told
    search(kind, progress=False)
    assert capsys.readouterr().err == ""


def test_a_plain_log_has_a_line_every_thirty_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    line = live._Line(eager=False)
    for second in range(100):
        now[0] = float(second)
        line.write(f"at {second}", end=second == 99)
    assert capsys.readouterr().err.split("\n") == ["at 30", "at 60", "at 90", "at 99", ""]


def test_a_terminal_has_one_line_that_is_written_anew(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_in_notebook", lambda: True)
    line = live._Line(eager=False)
    line.write("first, and long", end=False)
    line.pause = 0.0
    line.write("second", end=True)
    assert capsys.readouterr().err == "\rfirst, and long\rsecond         \n"
