"""The folder of a run: begun, killed while it is begun, damaged; and networks in folders."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from nas_space.errors import StorageError, UsageError
from nas_space.files import replacing
from nas_space.report.page import write_report
from nas_space.runs import folder, open_run
from nas_space.runs.folder import UNFINISHED, RunFolder
from nas_space.runs.sources import load_model

SETTINGS = {"space": "darts", "arguments": {}, "data": "digits", "seed": 0, "fingerprint": "x"}


def claimed(out: Path) -> None:
    RunFolder(out, resume=False).claim({**SETTINGS, "strategy": "darts", "steps": 9}, {}, ())


def test_a_process_killed_before_the_settings_leaves_a_folder_that_can_be_begun_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, _: object) -> None:
        path.with_name(".run.json.host.1.ab.tmp.json").touch()  # as a killed write leaves it
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(folder, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            claimed(tmp_path)
    assert (tmp_path / UNFINISHED).exists()
    claimed(tmp_path)
    assert open_run(tmp_path).state != "finished"


def test_what_looks_like_the_file_of_a_process_that_no_machine_has_hinders_nothing(
    tmp_path: Path,
) -> None:
    with replacing(tmp_path / "run.json") as file:
        left = Path(str(file).replace(f".{os.getpid()}.", f".{10**30}."))
        left.touch()
        file.write_text("{}")
    with replacing(tmp_path / "run.json") as file:
        file.write_text("[]")
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", left.name}
    assert (tmp_path / "run.json").read_text() == "[]"


@pytest.mark.parametrize("name", ["notes.txt", "work/notes.txt", "data/x"])
def test_a_folder_of_something_else_is_not_begun_in(name: str, tmp_path: Path) -> None:
    (tmp_path / UNFINISHED).parent.mkdir()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(UsageError, match="holds other files"):
        claimed(tmp_path)


@pytest.mark.parametrize("at", ['"x"', "null", "2.5", "1e400", "[1]"])
def test_a_record_whose_place_is_no_number_is_damaged(at: str, tmp_path: Path) -> None:
    claimed(tmp_path)
    (tmp_path / "metrics.jsonl").write_text(f'{{"stage": "search", "at": {at}}}\n')
    with pytest.raises(StorageError, match=r"metrics\.jsonl is damaged"):
        _ = open_run(tmp_path).steps


def test_a_report_says_what_its_files_leave_out_by_nothing(tmp_path: Path) -> None:
    claimed(tmp_path)
    deployed = {
        "runtime": "litert", "version": "2", "threads": 1, "promised": None, "measured": 2000.0,
        "steady": True, "file": "network.tflite", "difference": None,
    }  # fmt: skip
    ended = {"arch": {}, "validation": 0.5, "test": 0.5, "deployed": deployed}
    (tmp_path / "architecture.json").write_text(json.dumps(ended))
    (tmp_path / "decisions.json").write_text(json.dumps([{"label": ""}]))
    write_report(open_run(tmp_path), tmp_path / "report.html")
    told = "It takes, on litert 2, one thread: 2 ms measured; in network.tflite."
    assert told in (tmp_path / "report.html").read_text()


def test_a_folder_that_holds_no_network_is_named(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    config = tmp_path / "config.json"
    for text in ("{", "[]", '{"architectures": [3]}'):
        config.write_text(text)
        with pytest.raises(StorageError, match=r"config\.json is damaged"):
            load_model(str(tmp_path))
    for told in ({}, {"model_type": "bert", "architectures": ["BertModel"]}):
        config.write_text(json.dumps(told))
        with pytest.raises(UsageError, match="no model that transformers can load"):
            load_model(str(tmp_path))
