"""``nas-space compress``: from a network that exists to smaller ones, in a folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import nas_space as ns
from nas_space.cli.app import app
from nas_space.errors import InfeasibleError, NasSpaceError, UsageError
from nas_space.runs.compression import CompressionRun
from nas_space.runs.exporting import export_checked
from nas_space.runs.plan import CompressionPlan

from . import small_models

HERE = small_models.__name__
FEW = CompressionPlan(
    steps=6,
    trials=4,
    fine_tuning=4,
    batch_size=16,
    calibration=2,
    elastic={"widths": (0.25, 0.5, 1.0)},
)


def run_of(out: Path, **given: Any) -> CompressionRun:
    arguments: dict[str, Any] = {
        "model": f"{HERE}:net",
        "data": f"{HERE}:data",
        "budgets": [{"macs": "60%"}, {"macs": "30%"}],
        "plan": FEW,
    }
    return CompressionRun(out, **{**arguments, **given})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return ns.load_network(folder, small_models.net).state_dict()


def test_a_network_is_made_smaller_to_each_budget(tmp_path):
    run = run_of(tmp_path / "out")
    original, *found = run.run()
    assert original.scores == {"fidelity": 1.0, "agreement": 1.0}
    for one, share in zip(found, (0.6, 0.3), strict=True):
        assert one.costs["macs"] <= share * original.costs["macs"]
        assert one.folder is not None
        net = ns.load_network(one.folder, run.original)
        assert type(net) is type(run.original)
        wanted = run.space.freeze(one.arch).state_dict()
        assert all(value.shape == wanted[name].shape for name, value in net.state_dict().items())
        assert set(one.exports) == {"network.pt2", "network.onnx"}
        assert all(isinstance(d, float) and d < 1e-4 for d in one.exports.values()), one.exports
        steps = one.steps
        assert steps["tuned"] >= steps["refitted"] >= steps["cut"]


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
def test_what_was_pruned_stays_pruned_in_each_smaller_network(tmp_path):
    run = run_of(tmp_path / "out", model=f"{HERE}:pruned", budgets=[{"macs": "50%"}])
    _, small = run.run()
    assert small.folder is not None
    net: Any = ns.load_network(small.folder, run.original)
    wanted: Any = run.space.freeze(small.arch)
    assert net.state_dict().keys() == wanted.state_dict().keys() == run.original.state_dict().keys()
    assert torch.equal(net[3].weight_mask, wanted[3].weight_mask)
    net(torch.randn(2, 3, 8, 8))
    assert 0.3 < float((net[3].weight == 0).float().mean()) < 0.7
    assert all(isinstance(d, float) and d < 1e-4 for d in small.exports.values()), small.exports


def test_a_compression_that_is_cut_off_anywhere_goes_on_to_the_same_networks(tmp_path):
    whole = run_of(tmp_path / "whole").run()
    cuts = ["sorting", "shared weights", "search macs-60", "fine-tuning macs-30"]
    for cut in cuts:

        def stop(stage: str, *_: Any, cut: str = cut) -> None:
            if stage == cut:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_of(tmp_path / "cut", resume=True).run(stop)
    resumed = run_of(tmp_path / "cut", resume=True).run()
    for one, other in zip(whole, resumed, strict=True):
        assert (one.arch, one.scores, one.steps) == (other.arch, other.scores, other.steps)
    for name in ("macs-60", "macs-30"):
        mine, theirs = (weights(tmp_path / out / name / "network") for out in ("whole", "cut"))
        assert all(torch.equal(value, theirs[key]) for key, value in mine.items())


def test_the_rate_grows_with_what_is_cut_away_but_a_task_of_ones_own_has_its_own(tmp_path):
    run: Any = run_of(tmp_path / "out", budgets=[{"macs": "90%"}, {"macs": "60%"}, {"macs": "25%"}])
    rates = {name: run._task(name).optimizer.keywords["lr"] for name in run.budgets}
    wanted = {"macs-90": 1e-5, "macs-60": 1.6e-4, "macs-25": 5.625e-4}
    assert rates == pytest.approx(wanted, rel=1e-6)
    run.task = replace(run.task, optimizer=torch.optim.SGD)
    assert run._task("macs-60").optimizer is torch.optim.SGD


@pytest.mark.parametrize("order", ["other", None])
def test_a_run_that_goes_on_where_channels_come_out_in_another_order_begins_from_the_original(
    tmp_path, order
):
    out = tmp_path / "out"
    whole = run_of(out).run()
    before = weights(out / "macs-30" / "network")
    note = out / "macs-60" / "network" / "network.json"
    for cut in (False, True):
        if cut:
            described = json.loads(note.read_text()) | {"order": order}
            del described["sha256"]
            note.write_text(json.dumps(described))
        for place in ("macs-30", "compressed.json", "work/fine-tuning-macs-30.safetensors"):
            file = out / place
            shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
        resumed = run_of(out, resume=True).run()
        assert resumed[2].arch == whole[2].arch
        after = weights(out / "macs-30" / "network")
        assert all(torch.equal(value, after[key]) for key, value in before.items()) is not cut


def test_batches_of_texts_with_masks_are_compressed_without_labels(tmp_path):
    run = run_of(
        tmp_path / "out",
        model=f"{HERE}:encoder",
        data=f"{HERE}:texts",
        budgets=[{"params": "80%"}],
    )
    original, small = run.run()
    assert small.costs["params"] <= 0.8 * original.costs["params"]


def test_a_budget_of_latency_is_one_of_the_times_of_torch_here(tmp_path):
    space: Any = ns.elastic(
        small_models.net(), torch.zeros(1, 3, 8, 8), widths=FEW.elastic["widths"]
    )
    table = ns.profiler.measure_latency(
        space, inputs=torch.zeros(1, 3, 8, 8), warmup=1, repeats=3, progress=False
    )
    table.write(tmp_path / "table.yaml")
    ours = ns.profiler.latency(space, table, inputs=torch.zeros(1, 3, 8, 8))
    ends = [space.best(ours, maximize=high)[0].arch for high in (False, True)]
    middle = sum(map(ours.evaluate, ends)) / 2
    _, small = run_of(
        tmp_path / "out",
        budgets=[{"latency": middle}],
        latency_table=str(tmp_path / "table.yaml"),
    ).run()
    assert ours.evaluate(small.arch) <= middle
    with pytest.raises(NasSpaceError, match="--latency-table"):
        run_of(tmp_path / "none", budgets=[{"latency": middle}])


def test_what_an_exporter_cannot_do_is_told_and_the_network_written_all_the_same(tmp_path):
    class Deciding(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum().item() > 0 else -x

    found = export_checked(Deciding().eval(), ((torch.ones(1, 3),), {}), tmp_path)
    assert all(isinstance(value, str) and value for value in found.values())
    assert not list(tmp_path.iterdir())


def test_the_shell_compresses_shows_and_resumes(tmp_path):
    shell, out = CliRunner(), str(tmp_path / "out")
    command = [
        *("compress", "--model", f"{HERE}:net", "--data", f"{HERE}:data", "--out", out),
        *("--max-macs", "60%,30%", "--steps", "4", "--trials", "3", "--fine-tuning", "2"),
        *("--batch-size", "16"),
    ]
    done = shell.invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    assert "macs-60" in done.output
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Which layers gave what" in page
    assert json.loads((tmp_path / "out" / "compressed.json").read_text())[2]["name"] == "macs-30"
    assert "original" in shell.invoke(app, ["show", out], catch_exceptions=False).output
    listed = shell.invoke(app, ["runs", str(tmp_path)], catch_exceptions=False).output
    assert "2 networks" in listed
    again = shell.invoke(app, ["resume", out], catch_exceptions=False)
    assert again.exit_code == 0
    with pytest.raises(UsageError, match="nas-space resume"):
        shell.invoke(app, ["report", out], catch_exceptions=False)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"model": "nowhere"}, "no such folder"),
        ({"model": f"{HERE}:nothing"}, "a NoneType, not a network"),
        ({"model": f"{HERE}:missing"}, "missing"),
        ({"data": "weather"}, "no data 'weather'"),
        ({"budgets": [{"macs": "0%"}]}, "written as 50%"),
        ({"budgets": [{"macs": "150%"}]}, "written as 50%"),
        ({"budgets": []}, "at least one cost"),
        ({"budgets": [{"macs": "50%"}, {"macs": "50%"}]}, "give each budget once"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(tmp_path, given, told):
    with pytest.raises(NasSpaceError, match=told):
        run_of(tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_a_budget_below_the_smallest_network_is_refused_with_that(tmp_path):
    with pytest.raises(InfeasibleError, match="the smallest is"):
        run_of(tmp_path / "out", budgets=[{"macs": "1%"}])


def test_lists_of_budgets_are_one_or_as_many(tmp_path):
    shell = CliRunner()
    command = ["compress", "--max-macs", "50%,25%", "--max-params", "1M,2M,3M"]
    with pytest.raises(UsageError, match="2 budgets of macs, but 3"):
        shell.invoke(app, [*command, "--out", str(tmp_path / "out")], catch_exceptions=False)
    with pytest.raises(UsageError, match="go together"):
        shell.invoke(app, ["compress", "--model", "x"], catch_exceptions=False)


@pytest.mark.parametrize("rate", ["nan", "inf", "0", "-0.1"])
def test_a_rate_that_is_none_is_refused_before_anything_is_done(rate, tmp_path):
    command = ["compress", "--learning-rate", rate, "--out", str(tmp_path / "out")]
    with pytest.raises(UsageError, match="--learning-rate must be positive"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert not (tmp_path / "out").exists()
