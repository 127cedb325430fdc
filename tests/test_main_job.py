"""The main job, from data to files, on a space and data that are as small as they can be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nas_space as ns
from nas_space.errors import InfeasibleError, StorageError, UsageError
from nas_space.nn import LayerChoice, MutableConv2d, MutableLinear, Repeat
from nas_space.randomness import generator_of
from nas_space.runs import StagedRun, conclusion, plan_of, tuning_stage
from nas_space.runs.conclusion import nearest_neighbour
from nas_space.runs.initialization import copy_to_candidates, zero_last_norms
from nas_space.runs.record import Record
from nas_space.training import evaluate, load_data, load_weights

PLAN = plan_of(
    "spos",
    first_steps=2,
    steps=6,
    trials=5,
    population=2,
    finalists=2,
    fine_tuning=3,
    rivals=1,
    calibration=1,
)
SPACE = f"{__name__}:Small"


class Small(ns.ModelSpace):
    """A few convolutions, of several kernels, widths and depths."""

    def __init__(self, num_labels: int = 10) -> None:
        super().__init__()
        width = ns.Categorical([4, 6, 8], label="width")
        self.stem = MutableConv2d(3, width, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(3)
        self.body = Repeat(
            lambda i: LayerChoice(
                {
                    "3": lambda: MutableConv2d(width, width, 3, padding=1),
                    "5": lambda: MutableConv2d(width, width, 5, padding=2),
                    "skip": torch.nn.Identity,
                },
                label=f"op{i}",
            ),
            (0, 2),
            label="depth",
        )
        self.head = MutableLinear(width, num_labels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(self.stem(self.norm(x)).relu())
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sixty noisy images of three classes, told apart by their colour."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = rng.random((60, 3, 8, 8), dtype=np.float32)
    x[np.arange(60), y] += 1
    file = tmp_path_factory.mktemp("data") / "images.npz"
    np.savez(file, x=x, y=y)
    return str(file)


def job(out: Path, images: str, **options: Any) -> StagedRun:
    arguments: dict[str, Any] = {
        "space": SPACE, "data": images, "budgets": {"macs": 40_000}, "device": "cpu", "plan": PLAN,
    }  # fmt: skip
    return StagedRun(out, **{**arguments, **options})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, images: str) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    job(out, images).run()
    return out


def facts(out: Path) -> tuple[object, str, dict[str, torch.Tensor]]:
    from safetensors.torch import load_file

    architecture = json.loads((out / "architecture.json").read_text())
    return architecture, (out / "metrics.jsonl").read_text(), load_file(out / "weights.safetensors")


def test_everything_it_tried_is_within_the_budget(finished: Path) -> None:
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    tried = [row for row in rows if row["stage"] == "search"]
    assert len(tried) == PLAN.trials
    assert len({row["arch_id"] for row in tried}) == PLAN.trials
    finalists = [row for row in rows if "role" in row]
    assert len(finalists) == 1 + PLAN.rivals
    assert all(row["macs"] <= 40_000 for row in (*tried, *finalists))


def test_the_winner_is_the_best_of_the_best_trials_and_its_files_agree(
    finished: Path, images: str
) -> None:
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    tried = [row for row in rows if row["stage"] == "search"]
    found = json.loads((finished / "architecture.json").read_text())
    ranked = sorted(tried, key=lambda row: (-row["accuracy"], row["loss"]))
    assert found["arch_id"] in [row["arch_id"] for row in ranked[: PLAN.finalists]]
    tuned = {row["at"]: row["after"] for row in rows if row["stage"] == "validation"}
    assert found["validation"] == max(tuned["found 1"], tuned["found 2"])
    network = Small(num_labels=3).freeze(found["arch"])
    load_weights(network, finished / "weights.safetensors")
    test = load_data(images, 0).test
    x, y = test.tensors  # type: ignore[union-attr]
    right = (network.eval()(x).argmax(1) == y).float().mean()
    assert float(right) == pytest.approx(found["test"])
    program = torch.export.load(finished / "network.pt2").module()
    torch.testing.assert_close(program(x), network(x))


def test_the_program_runs_where_the_library_is_not_installed(finished: Path) -> None:
    code = (
        "import sys; sys.modules['nas_space'] = None; import torch;"
        "net = torch.export.load(sys.argv[1]).module();"
        "print(*[tuple(net(torch.zeros(n, 3, 8, 8)).shape) for n in (5, 1)])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    printed = subprocess.run(
        [sys.executable, "-c", code, str(finished / "network.pt2")],
        capture_output=True, text=True, check=True, env=environment, cwd=finished,
    )  # fmt: skip
    assert printed.stdout.strip() == "(5, 3) (1, 3)"


class Killed(BaseException):
    """Stands for a process that ends at any point."""


@pytest.mark.parametrize(
    ("stage", "at"),
    [
        ("one path", 2),
        ("shared weights", 6),
        ("search", 2),
        ("search", 5),
        ("fine-tuning", 3),
        ("fine-tuning", 9),
    ],
)
def test_an_interrupted_run_goes_on_to_the_same_result(
    tmp_path: Path, images: str, finished: Path, stage: str, at: int
) -> None:
    def kill(where: str, done: int, _total: int, _word: str) -> None:
        if where == stage and done >= at:
            raise Killed

    out = tmp_path / "cut"
    with pytest.raises(Killed):
        job(out, images).run(kill)
    job(out, images, resume=True).run()
    whole, cut = facts(finished), facts(out)
    assert cut[0] == whole[0]
    assert cut[1] == whole[1]
    assert all(torch.equal(cut[2][name], whole[2][name]) for name in whole[2])


def test_a_finished_run_resumes_to_the_same_and_trains_nothing(finished: Path, images: str) -> None:
    before = facts(finished)
    steps: list[str] = []
    job(finished, images, resume=True).run(lambda stage, *_: steps.append(stage))
    after = facts(finished)
    assert steps == []
    assert after[0] == before[0]
    assert after[1] == before[1]


def test_a_folder_with_a_run_is_not_overwritten(finished: Path, images: str) -> None:
    with pytest.raises(UsageError, match="--resume"):
        job(finished, images)


def test_a_run_is_not_resumed_with_other_settings(finished: Path, images: str) -> None:
    with pytest.raises(UsageError, match=r"seed is 0 there, 1 here"):
        job(finished, images, resume=True, seed=1)


def test_a_budget_that_nothing_meets_names_the_smallest(tmp_path: Path, images: str) -> None:
    with pytest.raises(InfeasibleError, match="smallest") as caught:
        job(tmp_path / "none", images, budgets={"macs": 10})
    least = job(tmp_path / "any", images, budgets="median").workspace
    assert caught.value.smallest == least.space.bounds(least.costs["macs"]).minimum
    assert not (tmp_path / "none").exists()


def test_the_nearest_neighbour_is_scored_on_the_test_split(images: str) -> None:
    splits = load_data(images, 0)
    (a, label_a), (b, label_b) = splits.train.tensors, splits.test.tensors  # type: ignore[union-attr]
    assert splits.augment is not None
    draws = (generator_of(0, "job/neighbour", copy) for copy in range(4))
    known = torch.cat([a, *(splits.augment(a, draw) for draw in draws)])
    nearest = torch.cdist(b.flatten(1), known.flatten(1)).argmin(1)
    expected = float((label_a.repeat(5)[nearest] == label_b).float().mean())
    assert nearest_neighbour(splits) == pytest.approx(expected)


def test_the_test_split_is_looked_at_once_and_last(
    tmp_path: Path, images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []

    def watched(network: Any, task: Any, split: str = "validation", **options: Any) -> Any:
        looks.append(split)
        return evaluate(network, task, split, **options)

    for module in (tuning_stage, conclusion):
        monkeypatch.setattr(module, "evaluate", watched)
    job(tmp_path / "run", images).run()
    tuned = PLAN.finalists + PLAN.rivals
    assert looks == ["validation"] * 2 * tuned + ["test"] * (1 + PLAN.rivals)
    looks.clear()
    job(tmp_path / "run", images, resume=True).run()
    assert "test" not in looks


def test_the_usual_budget_allows_half_of_the_space(tmp_path: Path, images: str) -> None:
    one = job(tmp_path / "run", images, budgets="median").workspace
    costs = one.costs["macs"].evaluate(one.space.sample(2000, seed=5))
    assert 0.4 < (costs <= one.budgets["macs"]).mean() < 0.6


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, images: str) -> None:
    (tmp_path / "thesis.txt").write_text("the only copy")
    with pytest.raises(UsageError, match="other files"):
        job(tmp_path, images)
    with pytest.raises(UsageError, match="is a file"):
        job(tmp_path / "thesis.txt", images)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_damaged_run_is_said_to_be_one(tmp_path: Path, images: str) -> None:
    (tmp_path / "run.json").write_text('{"space": ')
    with pytest.raises(StorageError, match=r"run\.json is damaged"):
        job(tmp_path, images, resume=True)


def test_the_weights_of_the_smallest_path_make_all_paths_compute_the_same() -> None:
    torch.manual_seed(0)
    space = ns.hub.ProxylessNAS(num_labels=10, width_mult=0.25)
    x = torch.randn(8, 3, 32, 32)
    archs = list(space.sample(6, seed=1))
    smallest = {label: symbol.default_choice() for label, symbol in space.symbols().items()}

    def outputs() -> list[torch.Tensor]:
        with torch.no_grad():
            return [space.freeze(arch)(x) for arch in archs]

    first, second, *_ = outputs()
    assert (first - second).abs().max() > 0.5 * first.abs().max()
    zero_last_norms(space)
    copy_to_candidates(space, space.canonical(smallest))
    first, *others = outputs()
    for other in others:
        assert (other - first).abs().max() < 1e-3 * first.abs().max()


def test_a_record_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    record = Record(file)
    record.add("a", 1, loss=0.5)
    record.add("a", 2, loss=0.25)
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    record = Record(file)
    assert [row["at"] for row in record.rows("a")] == [1]
    record.add("a", 1, loss=0.5)
    record.add("a", 2, loss=0.25)
    assert file.read_bytes() == whole
