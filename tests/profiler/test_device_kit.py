"""A folder that measures on a device without torch, and what comes back from it."""

import csv
import json
import subprocess
import sys

import pytest
import torch
from torch import nn

import nas_space as ns
from nas_space.cli.app import app
from nas_space.errors import DataError, SpaceError, UsageError
from nas_space.nn import LayerChoice, ModelSpace, MutableConv2d
from nas_space.profiler import (
    LatencyTable,
    blocks,
    calibrate_latency,
    device_kit,
    export_blocks,
    latency,
    read_device_kit,
)

ALONE = (
    "import sys, runpy\n"
    "sys.modules['torch'] = sys.modules['nas_space'] = None  # importing them fails\n"
    "sys.argv = sys.argv[1:]\n"
    "runpy.run_path(sys.argv[0], run_name='__main__')\n"
)


class Sparse(ModelSpace):
    """A space with few blocks."""

    def __init__(self):
        super().__init__()
        width = ns.Categorical([4, 32], label="width")
        self.stem = MutableConv2d(3, width, 3, padding=1)
        branches = {"conv": MutableConv2d(width, 4, 3), "point": MutableConv2d(width, 4, 1)}
        self.body = LayerChoice(branches, label="body")

    def forward(self, x):
        return self.body(self.stem(x).relu())


def measure(script, *options):
    command = [sys.executable, "-I", "-c", ALONE, str(script), "--turns", "2", "--most", "4"]
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_kit_measures_without_torch_what_latency_reads(runtime, tmp_path):
    pytest.importorskip(runtime)
    space = Sparse()
    folder = tmp_path / "kit"
    script = device_kit(space, (3, 8, 8), folder, runtime=runtime, networks=3, batch_size=2)
    with pytest.raises(DataError, match=r"run `python measure.py`"):
        read_device_kit(folder)
    done = measure(script)
    assert done.returncode == 0, done.stderr
    assert "halves of the readings agree" in done.stdout

    table, networks = read_device_kit(folder)
    assert list(table.milliseconds) == [b.key for b in blocks(space, (3, 8, 8), batch_size=2)]
    assert all(time > 0 for time in table.milliseconds.values())
    head = {"runtime": runtime, "batch_size": 2, "input_shape": [3, 8, 8], "threads": 1}
    assert head.items() <= table.about.items()
    assert table.about["version"]
    arch = space.sample(seed=1)
    cost = latency(space, table)  # whole microseconds, of which a device may well need none
    assert (cost if isinstance(cost, int) else cost.evaluate(arch)) >= 0

    assert len(networks) == 3
    assert all(space.freeze(arch) is not None and time > 0 for arch, time in networks)
    filled = LatencyTable.read(folder / "blocks.csv")
    for key, time in table.milliseconds.items():
        assert filled.milliseconds[key] == pytest.approx(time, rel=1e-4)


def test_what_a_kit_has_measured_calibrates_a_table(tmp_path):
    """Times that follow from whole networks, not from blocks, as a device may well give them."""
    pytest.importorskip("onnxruntime")
    space = Sparse()
    measured = device_kit(space, (3, 64, 64), tmp_path, networks=8).parent  # µs apart
    assert measure(measured / "measure.py").returncode == 0
    table, networks = read_device_kit(measured)
    made = [(arch, 2.0 + 8.0 * (arch["width"] == 32)) for arch, _ in networks]
    corrected = latency(space, calibrate_latency(space, table, made, held_out=0))
    for arch, time in made:
        assert corrected.evaluate(arch) / 1000 == pytest.approx(time, rel=0.2)


def test_networks_of_a_kit_are_drawn_by_its_seed(tmp_path):
    pytest.importorskip("onnxruntime")
    drawn = []
    for place, seed in enumerate((0, 0, 1)):
        folder = device_kit(
            Sparse(), (3, 8, 8), tmp_path / str(place), networks=4, seed=seed
        ).parent
        with (folder / "networks.csv").open(newline="") as stream:
            drawn.append([json.loads(row["arch"]) for row in csv.DictReader(stream)])
    assert drawn[0] == drawn[1] != drawn[2]


def test_whole_numbers_and_several_inputs_are_measured(tmp_path):
    pytest.importorskip("onnxruntime")

    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.top = nn.Embedding(5, 8), nn.Linear(8, 2)

        def forward(self, ids, scale):
            return self.top(self.table(ids) * scale)

    inputs = (torch.zeros(2, 7, dtype=torch.long), torch.ones(2, 7, 1))
    script = device_kit(Words().eval(), None, tmp_path, inputs=inputs)
    done = measure(script)
    assert done.returncode == 0, done.stderr
    assert len(read_device_kit(tmp_path)[0]) > 0


def test_the_shell_writes_a_kit(tmp_path):
    pytest.importorskip("onnxruntime")
    from typer.testing import CliRunner

    command = ["latency", "device-kit", str(tmp_path), "--input-shape", "3,8,8"]
    space = ["--space", "tests.test_main_job:Small", "--networks", "2"]
    done = CliRunner().invoke(app, [*command, *space], catch_exceptions=False)
    assert done.output.strip() == str(tmp_path / "measure.py")
    assert (tmp_path / "network0001.onnx").exists()


# -- what is refused -----------------------------------------------------------------------------


def test_what_cannot_be_measured_elsewhere_is_refused(tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(UsageError, match="torch-export has no package for Python that runs"):
        device_kit(Sparse(), (3, 8, 8), tmp_path, runtime="torch-export")
    with pytest.raises(UsageError, match="a number of architectures"):
        device_kit(Sparse(), (3, 8, 8), tmp_path, networks=-1)
    with pytest.raises(UsageError, match="no runtime 'onnx'"):
        device_kit(Sparse(), (3, 8, 8), tmp_path, runtime="onnx")
    assert list(tmp_path.iterdir()) == []
    export_blocks(Sparse(), (3, 8, 8), tmp_path)
    with pytest.raises(UsageError, match="exists already"):
        device_kit(Sparse(), (3, 8, 8), tmp_path)


def test_a_block_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path):
    pytest.importorskip("onnxruntime")

    class Odd(ModelSpace):
        def __init__(self):
            super().__init__()
            self.stem = MutableConv2d(3, ns.Categorical([4, 8], label="width"), 3)
            self.odd = Bessel()

        def forward(self, x):
            return self.odd(self.stem(x))

    class Bessel(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    with pytest.raises(SpaceError, match=r"^odd .* cannot be written for onnxruntime: .*bessel_j0"):
        export_blocks(Odd(), (3, 8, 8), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_damaged_measurements_are_refused(tmp_path):
    LatencyTable({"a": 1.0}).write(tmp_path / "latency.yaml")
    (tmp_path / "networks.csv").write_text("arch,file,milliseconds\n{,network0000.onnx,1.0\n")
    with pytest.raises(DataError, match=r"networks\.csv is damaged"):
        read_device_kit(tmp_path)
