"""Runtimes that take much room, where they are: ``pip install 'nas-space[executorch,litert]'``."""

import sys

import pytest
import torch
from torch import nn

import nas_space as ns
from nas_space.errors import SpaceError, UsageError
from nas_space.runtimes import find_runtime

pytestmark = pytest.mark.slow


@pytest.fixture(params=["executorch", "litert"])
def runtime(request):
    for package in find_runtime(request.param).packages:
        pytest.importorskip(package)
    return request.param


def test_a_cnn_runs_there_as_in_torch(runtime, cnn, images, tmp_path):
    made = ns.export(cnn, runtime, images, tmp_path, seconds=0.01)
    assert made.difference is not None
    assert made.difference < 1e-5
    assert not made.dynamic_batch
    assert made.latency is not None
    again = find_runtime(runtime).load(made.file)
    first, second = torch.randn(2, 2, 3, 16, 16)
    outputs = again(first), again(second)
    for (found,), given in zip(outputs, (first, second), strict=True):
        torch.testing.assert_close(found, cnn(given), atol=1e-5, rtol=1e-4)


def test_a_transformer_and_named_inputs_run_there(runtime, bert, two_inputs, tmp_path):
    ids = torch.randint(0, 100, (1, 9))
    inputs = {"attention_mask": torch.ones_like(ids), "input_ids": ids}
    assert ns.export(bert, runtime, inputs, tmp_path, seconds=0.01).difference == pytest.approx(
        0, abs=1e-5
    )
    pair = {"key": torch.randn(1, 7, 5), "query": torch.randn(1, 2, 4), "causal": True}
    made = ns.export(two_inputs, runtime, pair, tmp_path, name="pair", seconds=0.01)
    assert made.difference == pytest.approx(0, abs=1e-5)


def test_batches_are_of_one_size(runtime, cnn, images):
    with pytest.raises((RuntimeError, ValueError)):
        find_runtime(runtime).compile(cnn, images)(torch.randn(3, 3, 16, 16))


def test_litert_takes_batches_of_one_size_only(cnn, images, tmp_path):
    pytest.importorskip("litert_torch")
    with pytest.raises(UsageError, match="litert has no batches of any size"):
        ns.export(cnn, "litert", images, tmp_path, dynamic_batch=True)


@pytest.mark.parametrize(("given", "largest"), [(1, 32), (4, 32), (40, 41)])
def test_executorch_plans_for_a_largest_batch_if_it_is_asked_to(cnn, tmp_path, given, largest):
    pytest.importorskip("executorch")
    made = ns.export(
        cnn, "executorch", torch.randn(given, 3, 16, 16), tmp_path, dynamic_batch=True, seconds=0.01
    )
    assert made.dynamic_batch
    assert made.notes == (f"for batches of 1 to {largest}",)
    program = find_runtime("executorch").load(made.file)
    for size in (1, 15, 16, largest):
        batch = torch.randn(size, 3, 16, 16)
        torch.testing.assert_close(program(batch)[0], cnn(batch), atol=1e-5, rtol=1e-4)
    with pytest.raises(RuntimeError):
        program(torch.randn(largest + 1, 3, 16, 16))


class Lacking(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)


def test_an_operator_that_it_lacks_is_named_with_its_layer(runtime, tmp_path):
    network = nn.Sequential(nn.Linear(4, 4), Lacking()).eval()
    with pytest.raises(SpaceError, match=r"bessel_j0.* in 1 \(Lacking\)"):
        ns.export(network, runtime, torch.randn(2, 4), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "darwin", reason="it runs there")
def test_core_ml_is_written_here_and_says_that_it_runs_elsewhere(cnn, images, bert, tmp_path):
    pytest.importorskip("coremltools")
    made = ns.export(cnn, "coreml", images, tmp_path)
    assert made.file.is_dir()
    assert made.size > 1000
    assert made.difference is None
    assert made.latency is None
    assert made.notes == ("not compared: coreml does not run here",)
    assert ns.export(cnn, "coreml", images, tmp_path).size == made.size  # it replaces the package
    with pytest.raises(UsageError, match="Apple's devices only"):
        find_runtime("coreml").load(made.file)
    ids = torch.randint(0, 100, (1, 9))
    assert ns.export(bert, "coreml", {"input_ids": ids}, tmp_path, name="bert").file.is_dir()
