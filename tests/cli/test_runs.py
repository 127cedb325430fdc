"""Searches whose candidates are trained one by one; what is told of them; resuming them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

import nas_space as ns
from nas_space.cli import main
from nas_space.errors import TrialError
from nas_space.runs import open_run
from nas_space.study import load_search, report
from nas_space.study.evaluators import FromScratch
from tests.engines import ray_nodes
from tests.problems import Various, failing, worth
from tests.report.pages import data_of

SPACE = "tests.test_main_job:Small"
SHORT = ["--epochs", "1", "--final-epochs", "1", "--quiet"]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    y = np.arange(60) % 3
    x = np.random.default_rng(0).random((60, 3, 8, 8), dtype=np.float32)
    x[np.arange(60), y] += 1
    file = tmp_path_factory.mktemp("data") / "images.npz"
    np.savez(file, x=x, y=y)
    return str(file)


@pytest.fixture(scope="module")
def evolved(tmp_path_factory: pytest.TempPathFactory, images: str) -> Path:
    """The folder of a search over trials, for accuracy and few multiply-adds."""
    out = tmp_path_factory.mktemp("runs") / "evolved"
    given = ["--strategy", "evolution", "--space", SPACE, "--data", images, "--max-macs", "40K"]
    more = ["--minimize", "macs", "--option", "population_size=5", "--option", "sample_size=2"]
    assert run("search", "--out", str(out), *given, *more, "--trials", "12", *SHORT) == 0
    return out


def test_candidates_are_within_the_budget_and_their_costs_known(evolved: Path) -> None:
    stored = open_run(evolved)
    result = stored.result
    assert result is not None
    assert len(result.outcomes) == 12
    cost = ns.profiler.macs(stored.make_space(), (3, 8, 8))
    for outcome in result.outcomes:
        assert outcome.values["macs"] == cost.evaluate(outcome.arch) <= 40_000
        assert set(outcome.values) == {"accuracy", "macs"}


def test_the_best_is_trained_and_written_down(evolved: Path) -> None:
    told = json.loads((evolved / "architecture.json").read_text())
    result = open_run(evolved).result
    assert result is not None
    assert told["arch"] == result.best()
    assert 0 <= told["test"] <= 1
    program = torch.export.load(evolved / "network.pt2").module()
    assert program(torch.zeros(4, 3, 8, 8)).shape == (4, 3)


@pytest.mark.parametrize("name", ["architecture.json", "decisions.json", "exports.json"])
@pytest.mark.parametrize("content", ['{"arch": ', "3", "\x00\xff"])
def test_a_damaged_file_of_a_run_is_named(
    evolved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str
) -> None:
    shutil.copytree(evolved, tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(content.encode("latin-1"))
    assert run("report", str(tmp_path / "run")) == 2
    assert f"{name} is damaged: " in capsys.readouterr().err


def test_runs_are_listed(evolved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("runs", str(evolved.parent)) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "evolution 12/12 accuracy" in printed
    assert "finished" in printed
    assert run("runs", str(evolved / "work")) == 0
    assert "no runs" in capsys.readouterr().out


def test_a_run_is_running_as_long_as_its_process_lives(evolved: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(evolved, out)
    assert open_run(out).state == "finished"
    name = subprocess.run(
        [sys.executable, "-c", "from nas_space.study.signs import new_name; print(new_name())"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    (out / "work" / "worker").write_text(name)
    assert open_run(out).state == "finished"
    code = (
        "from nas_space.study.signs import new_name; import sys;"
        "print(new_name(), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        (out / "work" / "worker").write_text(process.stdout.readline().strip())
        assert open_run(out).state == "running"
        process.communicate()
    assert open_run(out).state == "finished"


def test_a_run_is_finished_when_its_last_picture_is_drawn(evolved: Path, tmp_path: Path) -> None:
    assert not (evolved / "work" / "unfinished").exists()
    out = tmp_path / "run"
    shutil.copytree(evolved, out)
    (out / "work" / "unfinished").touch()
    assert open_run(out).state == "interrupted"


def test_a_run_is_shown(evolved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", str(evolved)) == 0
    printed = capsys.readouterr().out
    assert "12 of 12: 12 complete" in printed
    assert "maximize accuracy, minimize macs" in printed
    assert run("show", str(evolved), "--trial", "3") == 0
    result = open_run(evolved).result
    assert result is not None
    assert json.loads(capsys.readouterr().out) == result.outcomes[3].arch
    assert run("show", str(evolved), "--trial", "12") == 2
    assert "no trial 12" in capsys.readouterr().err


def test_an_interrupted_run_is_resumed_to_the_same_end(
    evolved: Path, tmp_path: Path, images: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from nas_space.study.evaluators import FromScratch

    out, calls, train = tmp_path / "cut", [], FromScratch.__call__

    def interrupted(self, network, arch):
        calls.append(arch)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return train(self, network, arch)

    monkeypatch.setattr(FromScratch, "__call__", interrupted)
    given = ["--strategy", "evolution", "--space", SPACE, "--data", images, "--max-macs", "40K"]
    more = ["--minimize", "macs", "--option", "population_size=5", "--option", "sample_size=2"]
    assert run("search", "--out", str(out), *given, *more, "--trials", "12", *SHORT) == 130
    assert open_run(out).state == "interrupted"
    assert run("resume", str(out), "--quiet") == 0
    whole, cut = load_search(evolved / "study.db"), load_search(out / "study.db")
    assert [o.arch for o in cut.outcomes] == [o.arch for o in whole.outcomes]
    assert [o.values for o in cut.outcomes] == [o.values for o in whole.outcomes]
    for file in ("architecture.json", "metrics.jsonl"):
        assert (out / file).read_text() == (evolved / file).read_text()
    assert run("resume", str(out), "--trials", "14", "--quiet") == 0
    assert len(load_search(out / "study.db").outcomes) == 14
    assert "14 trials" in capsys.readouterr().out


def test_a_run_whose_space_has_changed_is_not_resumed(
    evolved: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from tests import test_main_job

    class Small(test_main_job.Small):
        def __init__(self, num_labels: int = 10) -> None:
            super().__init__(num_labels)
            self.more = ns.Categorical([1, 2], label="more")

    before = (evolved / "run.json").read_text()
    monkeypatch.setattr(test_main_job, "Small", Small)
    assert run("resume", str(evolved)) == 2
    assert "the label 'more' is not there" in capsys.readouterr().err
    assert (evolved / "run.json").read_text() == before


def test_two_commands_share_one_storage(tmp_path: Path, images: str) -> None:
    store = str(tmp_path / "shared.db")
    given = ["--strategy", "random", "--space", SPACE, "--data", images, "--storage", store]
    for place, trials in (("one", "2"), ("two", "5")):
        out = ["--out", str(tmp_path / place), "--trials", trials]
        assert run("search", *given, *out, *SHORT) == 0
    assert len(load_search(store).outcomes) == 5
    assert not (tmp_path / "two" / "study.db").exists()
    shown = open_run(tmp_path / "one").result
    assert shown is not None
    assert len(shown.outcomes) == 5


@pytest.mark.slow  # processes take their time to start
@pytest.mark.parametrize("strategy", ["spos", "evolution"])
def test_several_workers(strategy: str, tmp_path: Path, images: str) -> None:
    out = tmp_path / "run"
    given = ["--strategy", strategy, "--space", SPACE, "--data", images, "--max-macs", "none"]
    lengths = {
        "spos": [
            "--first-steps",
            "1",
            "--steps",
            "2",
            "--fine-tuning",
            "1",
            "--rivals",
            "1",
            "--finalists",
            "1",
        ],
        "evolution": ["--epochs", "1", "--final-epochs", "1"],
    }
    more = ["--trials", "30", "--workers", "2", "--quiet", *lengths[strategy]]
    assert run("search", "--out", str(out), *given, *more) == 0
    result = open_run(out).result
    assert result is not None
    assert [outcome.state for outcome in result.outcomes] == ["complete"] * 30
    assert sorted(outcome.number for outcome in result.outcomes) == list(range(30))
    # One driver tells what all workers have found.
    assert len({trial.user_attrs["worker"] for trial in result.study.trials}) == 1


def test_trials_are_evaluated_by_the_workers_of_dask(tmp_path: Path, images: str) -> None:
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    out = tmp_path / "run"
    given = ["--strategy", "random", "--space", SPACE, "--data", images, "--max-macs", "none"]
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp",
        dashboard_address=":0", silence_logs=50,
    ) as cluster:  # fmt: skip
        address = cluster.scheduler_address.replace("tcp", "dask")
        more = ["--trials", "3", "--executor", address, *SHORT]
        assert run("search", "--out", str(out), *given, *more) == 0
        assert "run_job" in cluster.scheduler.task_prefixes
        assert set(cluster.scheduler.clients) <= {"fire-and-forget"}
    found = open_run(out).result
    assert found is not None
    assert [outcome.state for outcome in found.outcomes] == ["complete"] * 3


@pytest.mark.slow  # a cluster takes its time to start
def test_trials_are_evaluated_by_the_nodes_of_ray(tmp_path: Path, images: str) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    out = tmp_path / "run"
    given = ["--strategy", "random", "--space", SPACE, "--data", images, "--max-macs", "none"]
    environment = {"env_vars": {"PYTHONPATH": str(Path.cwd())}}
    with ray_nodes() as address:
        # What the shell is given is connected to already: Ray's own client wants a server beside.
        ray.init(address=address, log_to_driver=False, runtime_env=environment)
        more = ["--trials", "3", "--executor", "ray", *SHORT]
        assert run("search", "--out", str(out), *given, *more) == 0
    found = open_run(out).result
    assert found is not None
    assert [outcome.state for outcome in found.outcomes] == ["complete"] * 3


def test_when_time_has_run_out_the_best_so_far_is_trained(
    tmp_path: Path, images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 2.0

    def lasting(*_arguments: object) -> dict[str, float]:
        time.sleep(limit)
        return {"accuracy": 0.5}

    monkeypatch.setattr(FromScratch, "__call__", lasting)
    given = ["--strategy", "random", "--space", SPACE, "--data", images, "--max-macs", "none"]
    out = tmp_path / "run"
    more = ["--trials", "50", "--timeout", str(limit), *SHORT]
    assert run("search", *given, "--out", str(out), *more) == 0
    done = open_run(out).result
    assert done is not None
    assert len(done.outcomes) == 1
    assert (out / "weights.safetensors").exists()
    # The limit is of a command, not of the run.
    monkeypatch.undo()
    assert run("resume", str(out), "--trials", "3", "--quiet") == 0
    assert len(load_search(out / "study.db").outcomes) == 3


def test_too_many_failures_end_a_run(
    tmp_path: Path, images: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object) -> float:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(FromScratch, "__call__", broken)
    given = ["--strategy", "random", "--space", SPACE, "--data", images, "--failures", "2"]
    with pytest.warns(UserWarning, match="out of luck"):
        assert run("search", *given, "--out", str(tmp_path / "run"), *SHORT) != 0
    assert "2 trials have failed" in capsys.readouterr().err
    assert run("show", str(tmp_path / "run")) == 0
    assert "out of luck" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("pruner", "length"),
    [
        ("median", ["--epochs", "2", "--trials", "14"]),
        *(
            pytest.param(
                name,
                ["--epochs", "8", "--trials", "25", "--max-macs", "none"],
                marks=pytest.mark.slow,
            )
            for name in ("halving", "hyperband")
        ),
    ],
)
def test_poor_trials_are_stopped_early(
    pruner: str, length: list[str], tmp_path: Path, images: str
) -> None:
    given = ["--strategy", "random", "--space", SPACE, "--data", images, "--pruner", pruner]
    length = [*length, "--final-epochs", "1", "--quiet"]
    assert run("search", *given, "--out", str(tmp_path / "run"), *length) == 0
    states = {outcome.state for outcome in load_search(tmp_path / "run" / "study.db").outcomes}
    assert states == {"complete", "pruned"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--strategy", "evolutoin"], "did you mean 'evolution'"),
        (["--strategy", "spo"], "did you mean 'spos'"),
        (["--strategy", "random", "--steps", "3"], "--steps: the strategy 'random' has no use"),
        (["--timeout", "3"], "--timeout: the strategy 'spos' has no use"),
        (["--strategy", "tpe", "--option", "n_startup_trial=3"], "'n_startup_trials'"),
        (["--strategy", "tpe", "--option", "n_startup_trials"], "--option takes name=value"),
        (["--strategy", "random", "--pruner", "medium"], "did you mean 'median'"),
        (
            ["--strategy", "random", "--pruner", "median", "--minimize", "macs"],
            "several objectives",
        ),
        (["--strategy", "random", "--timeout", "0"], "timeout must be positive"),
        (["--strategy", "random", "--minimize", "mac"], "did you mean 'macs'"),
        (["--strategy", "random", "--storage", "nowhere/at/all.db"], "no folder"),
        (["--strategy", "random", "--storage", "postgresql://localhost:1/none"], "check that"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_begun(
    arguments: list[str], words: str, images: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    given = ["--space", SPACE, "--data", images, "--out", "run", "--quiet"]
    assert run("search", *given, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error:")
    assert words in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "nowhere"], "there is no run in 'nowhere'"),
        (["report", "nowhere.db"], "there is no"),
        (["resume", "nowhere"], "there is no run in 'nowhere'"),
        (["show", "sqlite:///nowhere.db"], "there is no file"),
    ],
)
def test_what_is_not_there_is_not_made(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_script_is_needed_to_resume_what_a_script_began(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ns.search(Various(), worth, trials=3, storage=tmp_path / "search.db")
    assert run("resume", str(tmp_path / "search.db")) == 2
    assert "begun by a script" in capsys.readouterr().err


# -- the report --------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page shows, and what it asks others for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.rows: list[list[str]] = []
        self.words = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.links += [str(found[name]) for name in ("href", "src") if name in found]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in ("br", "input", "link", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag  # what is opened is closed, in order

    def handle_data(self, data):
        self.words += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_the_report_is_one_file_that_needs_no_other(evolved: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    assert run("report", str(evolved), "--out", str(file)) == 0
    page = Page(file.read_text())
    assert page.open == []
    assert all(link == "data:," for link in page.links)
    assert not re.search(r"https?://", file.read_text())
    result = open_run(evolved).result
    assert result is not None
    best = result.ranked()[0]
    assert f"trial {best.number} is the best in accuracy" in page.words
    data = data_of(file)
    assert data["winner"] == best.number
    labels = data["labels"]
    for trial, outcome in zip(data["trials"], result.outcomes, strict=True):
        assert trial["number"] == outcome.number
        chosen = {
            label["name"]: label["values"][code]
            for label, code in zip(labels, trial["codes"], strict=True)
            if code is not None
        }
        assert chosen == {label: str(value) for label, value in outcome.arch.items()}
    # The picture's rows are those that the run has drawn.
    rows = json.loads((evolved / "decisions.json").read_text())
    assert [row["label"] for row in rows if row["label"]] == [label["name"] for label in labels]
    assert data["rest"] == next(row["share"] for row in rows if not row["label"])


def test_the_report_is_about_the_architecture_that_the_run_ended_with(
    evolved: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(evolved, out)
    told = json.loads((out / "architecture.json").read_text())
    result = open_run(out).result
    assert result is not None
    last = result.ranked()[-1]  # as if ties had been broken otherwise
    (out / "architecture.json").write_text(json.dumps({**told, "arch": last.arch, "test": 0.125}))
    assert run("report", str(out)) == 0
    page = Page((out / "report.html").read_text())
    assert f"trial {last.number} is " in page.words
    assert "12.5% on the test split" in page.words


def test_the_report_of_a_storage(tmp_path: Path) -> None:
    def evaluate(network, arch):
        report(worth(network, arch), 0)
        return failing(network, arch)

    with pytest.warns(UserWarning, match="depth 2 does not train"):
        ns.search(Various(), evaluate, trials=30, storage=tmp_path / "search.db")
    file = tmp_path / "report.html"
    assert run("report", str(tmp_path / "search.db"), "--out", str(file)) == 0
    failures = [trial["failure"] for trial in data_of(file)["trials"] if "failure" in trial]
    assert all("depth 2 does not train" in failure for failure in failures)
    assert failures


@pytest.mark.parametrize("trials", [1, 3])
def test_the_report_of_few_trials(trials: int, tmp_path: Path) -> None:
    ns.search(Various(), worth, trials=trials, storage=tmp_path / "search.db")
    file = tmp_path / "report.html"
    assert run("report", str(tmp_path / "search.db"), "--out", str(file)) == 0
    assert "is the best in value" in Page(file.read_text()).words


def test_the_report_of_failures_only(tmp_path: Path) -> None:
    def broken(_network, _arch):
        raise ValueError("no & <luck>")

    warned = pytest.warns(UserWarning, match="no & <luck>")
    with warned, pytest.raises(TrialError, match="no & <luck>"):
        ns.search(Various(), broken, trials=3, storage=tmp_path / "search.db")
    file = tmp_path / "report.html"
    assert run("report", str(tmp_path / "search.db"), "--out", str(file)) == 0
    assert "No trial is complete" in Page(file.read_text()).words
    assert all("no & <luck>" in trial["failure"] for trial in data_of(file)["trials"])
