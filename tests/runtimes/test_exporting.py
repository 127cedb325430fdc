"""Networks run by the runtimes themselves, and what is refused."""

import math
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import nas_space as ns
from nas_space.errors import SpaceError, UsageError
from nas_space.runtimes import Exportable, Program, exporting, find_runtime, register_runtime
from nas_space.runtimes.exporting import difference
from nas_space.runtimes.torch_export import TorchExport

RUNTIMES = ["torch-export", "onnxruntime", "openvino"]


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    pytest.importorskip({"torch-export": "torch"}.get(request.param, request.param))
    return request.param


def differs(made):
    assert made.difference is not None
    return made.difference


def files(folder):
    return sorted(path.name for path in folder.iterdir())


# -- what works ----------------------------------------------------------------------------------


def test_a_cnn_runs_there_as_in_torch_on_batches_of_any_size(runtime, cnn, images, tmp_path):
    made = ns.export(cnn, runtime, images[:1], tmp_path, seconds=0.01)
    assert differs(made) < 1e-5
    assert made.dynamic_batch
    assert not made.notes
    assert made.latency is not None
    assert made.latency.minimum <= made.latency.median
    assert made.size == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert files(tmp_path) == sorted(path.name for path in made.files)
    program = find_runtime(runtime).load(made.file)
    more = torch.randn(5, 3, 16, 16)
    torch.testing.assert_close(program(more)[0], cnn(more), atol=1e-5, rtol=1e-4)


def test_a_transformer_runs_there_on_a_tokenizers_mapping_in_any_order(runtime, bert, tmp_path):
    ids = torch.randint(0, 100, (2, 9))
    mask = torch.tensor([[1] * 9, [1] * 6 + [0] * 3])
    made = ns.export(
        bert, runtime, {"attention_mask": mask, "input_ids": ids}, tmp_path, seconds=0.01
    )
    assert differs(made) < 1e-5
    assert made.dynamic_batch
    more, mask = torch.randint(0, 100, (5, 9)), torch.ones(5, 9, dtype=torch.long)
    program = find_runtime(runtime).load(made.file)
    (logits,) = program(more, mask)
    torch.testing.assert_close(logits, bert(more, mask).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dynamic", [True, False])
def test_constants_and_nested_outputs_are_kept(runtime, two_inputs, tmp_path, dynamic):
    query, key = torch.randn(3, 2, 4), torch.randn(3, 7, 5)
    inputs = {"key": key, "query": query, "causal": True}
    made = ns.export(
        two_inputs, runtime, inputs, tmp_path, dynamic_batch=dynamic, name="pair", seconds=0.01
    )
    assert made.file.stem == "pair"
    program = find_runtime(runtime).load(made.file)
    found = program(query, key)  # in the order of the signature
    wanted = two_inputs(**inputs)
    torch.testing.assert_close(found[0], wanted["scores"], atol=1e-5, rtol=1e-4)
    assert found[1].tolist() == wanted["parts"][0].tolist()


def test_inputs_and_outputs_keep_their_names(two_inputs, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    inputs = ((torch.randn(1, 2, 4),), {"key": torch.randn(1, 7, 5)})
    made = ns.export(two_inputs, "onnxruntime", inputs, tmp_path, seconds=0.01)
    session = onnxruntime.InferenceSession(made.file)
    assert [entry.name for entry in session.get_inputs()] == ["query", "key"]
    assert [entry.name for entry in session.get_outputs()] == ["scores", "parts_0"]


class OfOneSize(nn.Module):
    def forward(self, x):
        return x.reshape(2, 4).softmax(-1)  # two, whatever the batch


def test_a_network_of_one_batch_size_falls_back_and_says_so(runtime, tmp_path):
    made = ns.export(OfOneSize().eval(), runtime, torch.randn(2, 4), tmp_path, seconds=0.01)
    assert not made.dynamic_batch
    assert "not for other batches" in made.notes[0]
    assert differs(made) < 1e-6
    with pytest.raises(UsageError, match="cannot have batches of any size"):
        ns.export(OfOneSize().eval(), runtime, torch.randn(2, 4), tmp_path, dynamic_batch=True)


def test_compiled_for_timing_it_gives_the_same(runtime, cnn, images):
    program = find_runtime(runtime).compile(cnn, images)
    torch.testing.assert_close(program(images)[0], cnn(images), atol=1e-5, rtol=1e-4)
    program.prepare(images)()


class Ignoring(nn.Module):
    """Looks at one of its inputs only, and gives a constant too."""

    def forward(self, x, y, z):
        return y * 2, torch.ones(3)


def test_inputs_that_nothing_depends_on_are_inputs_all_the_same(runtime, tmp_path):
    inputs = torch.zeros(2, 2), torch.ones(2, 5), torch.ones(2, 4, dtype=torch.int64)
    program = find_runtime(runtime).compile(Ignoring().eval(), (inputs, {}))
    program.prepare(*inputs)()
    made = ns.export(Ignoring().eval(), runtime, inputs, tmp_path)
    for each in (program, find_runtime(runtime).load(made.file)):
        assert [found.tolist() for found in each(*inputs)] == [[[2.0] * 5] * 2, [1.0] * 3]


def test_another_export_replaces_the_file(runtime, cnn, images, tmp_path):
    before = ns.export(cnn, runtime, images, tmp_path, seconds=0.01)
    with torch.no_grad():
        cnn[-1].bias += 1
    after = ns.export(cnn, runtime, images, tmp_path, seconds=0.01)
    assert before.file == after.file
    assert differs(after) < 1e-5
    program = find_runtime(runtime).load(after.file)
    torch.testing.assert_close(program(images)[0], cnn(images), atol=1e-5, rtol=1e-4)


# -- what is refused -----------------------------------------------------------------------------


class Polar(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)


def test_an_operator_that_a_runtime_lacks_is_named_with_its_layer(tmp_path):
    network = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), Polar())).eval()
    for runtime in ("onnxruntime", "openvino"):
        pytest.importorskip(runtime)
        with pytest.raises(SpaceError, match=r"bessel_j0.* in 1\.1 \(Polar\)"):
            ns.export(network, runtime, torch.randn(2, 4), tmp_path)
    assert files(tmp_path) == []


class Deciding(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_code_that_decides_on_values_is_refused_with_its_layer(runtime, tmp_path):
    network = nn.Sequential(nn.Linear(4, 4), Deciding()).eval()
    with pytest.raises(SpaceError, match=r"in 1 \(Deciding\)"):
        ns.export(network, runtime, torch.randn(2, 4), tmp_path)
    assert files(tmp_path) == []


def test_a_failure_leaves_the_file_that_was_there(cnn, images, tmp_path):
    before = ns.export(cnn, "torch-export", images, tmp_path, seconds=0.01).file.read_bytes()
    with pytest.raises(SpaceError):
        ns.export(nn.Sequential(Deciding()).eval(), "torch-export", images, tmp_path)
    assert files(tmp_path) == ["network.pt2"]
    assert (tmp_path / "network.pt2").read_bytes() == before


def test_training_mode_is_refused_by_the_path_of_the_module(cnn, images, tmp_path):
    cnn[1].train()
    with pytest.raises(UsageError, match=r"1 \(BatchNorm2d\) is in training mode.*eval\(\)"):
        ns.export(cnn, "torch-export", images, tmp_path)


def test_other_devices_are_refused(cnn, images, tmp_path):
    cnn[5].to("meta")
    with pytest.raises(UsageError, match=r"5.weight is on meta.*to\('cpu'\)"):
        ns.export(cnn, "torch-export", images, tmp_path)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.randn(2, 5, 16, 16), r"Sequential does not run on input \(2, 5, 16, 16\)"),
        ((torch.randn(2, 3, 16, 16), torch.ones(1)), "does not take these inputs"),
        ({"pixels": torch.randn(2, 3, 16, 16)}, "does not take these inputs"),
        (torch.randn(0, 3, 16, 16), "the input input is empty"),
        (None, "hold no tensor"),
        ({}, "does not take these inputs"),
        (torch.randn(2, 3, 16, 16, device="meta"), "is on meta"),
    ],
)
def test_wrong_inputs_are_refused(cnn, tmp_path, inputs, message):
    with pytest.raises(UsageError, match=message):
        ns.export(cnn, "torch-export", inputs, tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"runtime": "onnx-runtime"}, "did you mean 'onnxruntime'"),
        ({"threads": 0}, "1 thread or more"),
        ({"name": "a/b"}, "without folder"),
        ({"network": "net"}, "torch.nn.Module"),
    ],
)
def test_wrong_arguments_are_refused(cnn, images, tmp_path, given, message):
    right = {"network": cnn, "runtime": "torch-export", "inputs": images, "folder": tmp_path}
    with pytest.raises(UsageError, match=message):
        ns.export(**{**right, **given})


def test_a_runtime_that_is_not_installed_names_its_extra(cnn, images, tmp_path, monkeypatch):
    monkeypatch.setattr("nas_space.runtimes.base.find_spec", lambda _: None)
    for runtime in ("onnxruntime", "openvino"):
        with pytest.raises(UsageError, match=rf"pip install 'nas-space\[{runtime}\]'"):
            ns.export(cnn, runtime, images, tmp_path)


# -- the check -----------------------------------------------------------------------------------


class Wrong(TorchExport):
    """A runtime that computes something else."""

    name = "wrong"

    def load(self, path, *, threads=1):
        right = super().load(path, threads=threads)

        class Shifted(Program):
            def prepare(self, *inputs):
                return right.prepare(*inputs)

            def __call__(self, *inputs):
                return [output + 0.5 for output in right(*inputs)]

        return Shifted()


@pytest.fixture
def wrong(monkeypatch):
    monkeypatch.setattr("nas_space.runtimes.registry.RUNTIMES", {})
    register_runtime("wrong", Wrong())


@pytest.mark.usefixtures("wrong")
def test_a_difference_from_torch_is_told_and_warned_of(cnn, images, tmp_path):
    with pytest.warns(UserWarning, match=r"gives other outputs than torch: they differ by 0\.5"):
        made = ns.export(cnn, "wrong", images, tmp_path, seconds=0.01)
    assert made.difference == pytest.approx(0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ns.export(cnn, "wrong", images, tmp_path, seconds=0.01, tolerance=1.0)


def test_differences_count_nan_and_infinity():
    one, nan, inf = torch.ones(2), torch.tensor([1.0, math.nan]), torch.tensor([1.0, math.inf])
    assert difference([nan, inf], [nan, inf]) == 0
    assert difference([one], [nan]) == math.inf
    assert difference([inf], [one]) == math.inf
    assert difference([torch.tensor([3])], [torch.tensor([1])]) == 2
    with pytest.raises(SpaceError, match="shapes"):
        difference([one], [torch.ones(3)])


def test_other_batches_are_made_of_the_samples_there_are(two_inputs):
    query, key, scale = torch.randn(2, 2, 4), torch.randn(2, 7, 5), torch.ones(1)
    source = Exportable(two_inputs, (query, key, scale))
    assert [tuple(tensor.shape) for tensor in source.of_batch(3)] == [(3, 2, 4), (3, 7, 5), (1,)]
    assert torch.equal(source.of_batch(3)[0][2], query[0])


class Doubled(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(3, 4, 3).double()

    def forward(self, x):
        return self.inner(x.double())


def test_what_a_runtime_finds_only_when_it_loads_a_file_is_named_as_well(images, tmp_path):
    pytest.importorskip("onnxruntime")
    network = nn.Sequential(nn.ReLU(), Doubled()).eval()
    with pytest.raises(SpaceError, match=r"in 1\.inner \(Conv2d\): NotImplemented"):
        ns.export(network, "onnxruntime", images, tmp_path)
    assert files(tmp_path) == []


def test_a_number_alone_is_no_batch(tmp_path):
    class Squared(nn.Module):
        def forward(self, x):
            return x * x

    made = ns.export(Squared().eval(), "torch-export", torch.tensor(3.0), tmp_path, seconds=0)
    assert not made.dynamic_batch
    with pytest.raises(UsageError, match="has no axis"):
        ns.export(Squared().eval(), "torch-export", torch.tensor(3.0), tmp_path, dynamic_batch=True)


def test_a_file_that_cannot_be_moved_leaves_the_main_file_of_before(tmp_path, monkeypatch):
    made = tmp_path / "made"
    made.mkdir()
    for folder, text in ((tmp_path, "old"), (made, "new")):
        for name in ("network.xml", "network.bin"):
            (folder / name).write_text(text)
    move = Path.replace

    def stuck(self, target):
        if self.suffix == ".bin":
            raise OSError("stuck")
        return move(self, target)

    monkeypatch.setattr(Path, "replace", stuck)
    with pytest.raises(OSError, match="stuck"):
        exporting._moved(made / "network.xml", tmp_path)
    assert (tmp_path / "network.xml").read_text() == "old"
    monkeypatch.undo()
    (tmp_path / "network.xml").unlink()
    made.joinpath("network.xml").write_text("new")
    assert exporting._moved(made / "network.xml", tmp_path)[0] == tmp_path / "network.xml"
