"""Any cost is a budget and an objective, in every kind of run, and in what is told of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_space.cli import main
from nas_space.cli.values import budgets_of
from nas_space.errors import UsageError
from nas_space.profiler import COSTS, find_cost, params, register_cost
from nas_space.runs import open_run
from nas_space.runs.folder import settings_of
from tests.test_main_job import Small

SPACE = "tests.test_main_job:Small"
OWN = "tests.cli.test_budgets:energy"
KINDS = {
    "spos": "--first-steps 1 --steps 2 --trials 3 --finalists 1 --fine-tuning 1 --rivals 1",
    "random": "--trials 3 --epochs 1 --final-epochs 1",
    "proxyless": "--steps 6 --fine-tuning 1",
    "random-path": "--steps 4 --fine-tuning 1",
}


def energy(space: Any, **_: Any) -> Any:
    """A cost of one's own: a multiple of the parameters."""
    return params(space) * 3


def flat(_space: Any, **_: Any) -> int:
    """A cost that is the same for all."""
    return 5


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    y = np.arange(60) % 3
    x = np.random.default_rng(0).random((60, 3, 8, 8), dtype=np.float32)
    file = tmp_path_factory.mktemp("data") / "images.npz"
    np.savez(file, x=x, y=y)
    return str(file)


def search(out: Path, images: str, strategy: str, *more: str) -> int:
    given = ["--strategy", strategy, "--space", SPACE, "--data", images, "--quiet"]
    return run("search", "--out", str(out), *given, *KINDS[strategy].split(), *more)


def values_of(name: str) -> Any:
    """The values of a cost of random architectures."""
    space = Small(num_labels=3)
    return np.asarray(find_cost(name)(space, (3, 8, 8)).evaluate(space.sample(300, seed=0)))


@pytest.mark.parametrize(
    ("strategy", "name"), [("spos", "params"), *((strategy, OWN) for strategy in KINDS)]
)
def test_a_budget_of_any_cost_holds_in_every_kind_of_run(
    strategy: str, name: str, tmp_path: Path, images: str, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = float(np.quantile(values_of(name), 0.3))
    out = tmp_path / "run"
    assert search(out, images, strategy, "--max", f"{name}={limit}") == 0
    shown = capsys.readouterr().out
    found = json.loads((out / "architecture.json").read_text())
    cost = find_cost(name)(Small(num_labels=3), (3, 8, 8))
    assert found["costs"][name] == cost.evaluate(found["arch"]) <= limit
    assert "energy" in shown or name == "params"
    assert run("show", str(out)) == 0
    assert f"budget {name} " in " ".join(capsys.readouterr().out.split())
    assert run("report", str(out)) == 0
    page = (out / "report.html").read_text()
    assert "It costs: MACs" in page
    assert name.rpartition(":")[2] in page or name == "params"


@pytest.mark.parametrize("strategy", ["spos", "random", "proxyless"])
def test_any_cost_is_made_small_in_every_kind_of_run(
    strategy: str, tmp_path: Path, images: str
) -> None:
    out = tmp_path / "run"
    assert search(out, images, strategy, "--minimize", OWN, "--minimize", "params") == 0
    found = json.loads((out / "architecture.json").read_text())
    assert found["costs"][OWN] == 3 * found["costs"]["params"]
    result = open_run(out).result
    if result is not None:
        assert [one.name for one in result.objectives] == ["accuracy", OWN, "params"]


def test_what_learns_no_policy_cannot_make_a_cost_small(
    tmp_path: Path, images: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(tmp_path / "run", images, "random-path", "--minimize", "macs") == 2
    assert "learns no policy" in capsys.readouterr().err
    assert search(tmp_path / "run", images, "proxyless", "--minimize", "loss") == 2
    assert "metric" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_registered_cost_needs_no_change_of_the_shell(
    tmp_path: Path, images: str, capsys: pytest.CaptureFixture[str]
) -> None:
    register_cost("joules", energy, unit="J")
    try:
        limit = float(np.quantile(values_of("joules"), 0.5))
        budget = f"joules={limit}"
        assert search(tmp_path / "run", images, "random", "--max", budget) == 0
        capsys.readouterr()
        small = ["--space", SPACE, "--input-shape", "3,8,8"]
        assert run("profile", *small, "--max", budget) == 0
        assert "joules (J)" in capsys.readouterr().out
        assert run("sample", *small, "-n", "5", "--max", f"joules={limit * 2}") == 0
        archs = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        cost = energy(Small())
        assert all(cost.evaluate(arch) <= limit * 2 for arch in archs)
    finally:
        del COSTS["joules"]


def test_several_budgets_hold_together_and_a_run_is_resumed_with_them(
    tmp_path: Path, images: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    limits = {name: float(np.quantile(values_of(name), 0.5)) for name in ("macs", OWN)}
    budgets = [f"--max={name}={limit}" for name, limit in limits.items()]
    assert search(out, images, "random", *budgets, "--cost", "memory") == 0
    assert run("resume", str(out), "--trials", "4", "--quiet") == 0
    result = open_run(out).result
    assert result is not None
    assert len(result.outcomes) == 4
    found = json.loads((out / "architecture.json").read_text())
    assert all(found["costs"][name] <= limit for name, limit in limits.items())
    assert found["costs"]["memory"] > 0
    capsys.readouterr()
    assert search(out, images, "random", "--resume", "--max", "macs=1M") == 2
    assert "budgets is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--max", "mac=1M"], "did you mean 'macs'"),
        (["--max", "macs"], "name=value"),
        (["--max", "macs=10"], "the smallest is"),
        (["--max", "macs=1M", "--max-macs", "2M"], "two budgets of macs"),
        (["--max", "latency=5"], "is no time"),
        (["--max", "latency=5ms"], "--latency-table"),
        (["--max", "nowhere:cost=5"], "module 'nowhere' cannot be imported"),
        (["--max", "tests.cli.test_budgets:flat=4"], "the smallest is 5"),
        (["--cost", "energie"], "there is no cost 'energie'"),
        (["--minimize", "tests.cli.test_budgets:flat"], "the same"),
    ],
)
def test_mistakes_about_costs_are_one_line_before_anything_begins(
    more: list[str], words: str, tmp_path: Path, images: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(tmp_path / "run", images, "random", *more) == 2
    error = capsys.readouterr().err
    assert error.startswith("error:")
    assert words in error
    assert not (tmp_path / "run").exists()


def test_budgets_are_read_with_the_units_of_their_costs() -> None:
    assert budgets_of(["latency=1.5ms", "macs=3M"]) == {"latency": 1500.0, "macs": 3e6}
    assert budgets_of(["macs=none"]) == {}
    assert budgets_of(None) is None
    with pytest.raises(UsageError, match="no amount"):
        budgets_of(["memory=5ms"])
    with pytest.raises(UsageError, match="but got 'memory'"):
        budgets_of(["memory"])


def test_the_settings_of_earlier_versions_are_read(tmp_path: Path) -> None:
    old = {
        "space": SPACE, "max_macs": 40000.0, "max_latency": None, "strategy": "spos",
        "recipe": {"trials": 5},
    }  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps(old))
    settings = settings_of(tmp_path)
    assert settings is not None
    assert settings["budgets"] == {"macs": 40000.0}
    assert settings["trials"] == 5
