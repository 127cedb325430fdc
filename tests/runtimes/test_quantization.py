"""Eight bits after training: what changes, and what is refused."""

import pytest
import torch
from torch import nn

import nas_space as ns
from nas_space.errors import SpaceError, UsageError
from nas_space.runtimes import find_runtime
from nas_space.runtimes.quantization import eight_bit_products

pytest.importorskip("onnxruntime")


def operators(path):
    import onnx

    return {node.op_type for node in onnx.load(path).graph.node}


@pytest.fixture
def wide():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 4),
    ).eval()


def test_a_cnn_is_quantised_statically_and_scored_before_and_after(wide, images, tmp_path):
    batches = [torch.randn(4, 3, 16, 16) for _ in range(3)]
    wanted = wide(images)

    def score(module):
        return float((module(images) - wanted).detach().abs().max())

    made = ns.quantize(
        wide, "onnxruntime", images, tmp_path, calibration=batches, score=score, seconds=0.01
    )
    assert made.method == "static"
    assert made.after.size < made.before.size / 2
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators(made.after.file)
    assert made.scores is not None
    assert made.before.difference is not None
    assert made.after.difference is not None
    # Rounding is seen, and small: a 256th of a range, some times over.
    assert made.before.difference < 1e-5 < made.after.difference < 0.1 * made.after.largest
    assert made.scores == pytest.approx((made.before.difference, made.after.difference))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network.int8.onnx", "network.onnx"]
    other = torch.randn(7, 3, 16, 16)
    (found,) = find_runtime("onnxruntime").load(made.after.file)(other)
    assert (found - wide(other)).abs().max() < 0.1 * made.after.largest


def test_linear_layers_of_a_transformer_are_quantised_dynamically(bert, tmp_path):
    inputs = {"input_ids": torch.randint(0, 100, (2, 9))}

    def score(module):
        return float(module(**inputs).logits.abs().max())

    made = ns.quantize(bert, "onnxruntime", inputs, tmp_path, score=score, seconds=0.01)
    assert made.method == "dynamic"
    assert made.after.size < made.before.size
    assert "MatMulInteger" in operators(made.after.file)
    assert made.scores is not None
    assert made.scores[0] == pytest.approx(made.scores[1], rel=0.05)


def test_ranges_come_from_the_calibration_data(wide, images, tmp_path):
    """Calibrated on what is a tenth as large, activations are cut off."""
    fits, cuts = (
        ns.quantize(
            wide, "onnxruntime", images, tmp_path / str(scale), calibration=[images * scale],
            seconds=0.01,
        )
        for scale in (1.0, 0.1)
    )  # fmt: skip
    assert fits.after.difference is not None
    assert cuts.after.difference is not None
    assert cuts.after.difference > 3 * fits.after.difference


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"calibration": None}, "needs calibration"),
        ({"calibration": []}, "needs calibration"),
        ({"method": "qat"}, "'static' or 'dynamic'"),
        ({"runtime": "openvino"}, "quantised for onnxruntime"),
        ({"calibration": [torch.randn(3, 16, 16)]}, "that the network was exported with"),
        ({"calibration": [torch.randn(4, 3, 16, 16)], "dynamic_batch": False}, "of the shapes"),
    ],
)
def test_wrong_arguments_are_refused(wide, images, tmp_path, given, message):
    right = {"network": wide, "runtime": "onnxruntime", "inputs": images, "folder": tmp_path}
    with pytest.raises(UsageError, match=message):
        ns.quantize(**{**right, "calibration": [images], "seconds": 0, **given})
    assert not any(path.name.startswith((".", "network.int8")) for path in tmp_path.iterdir())


def test_a_failure_of_the_runtime_leaves_no_half_file(wide, images, tmp_path, monkeypatch):
    def fail(_path, target, **_):
        target.write_bytes(b"half")
        raise RuntimeError("no such thing")

    monkeypatch.setattr(find_runtime("onnxruntime"), "quantize", fail)
    with pytest.raises(SpaceError, match="onnxruntime with 8 bits: RuntimeError: no such thing"):
        ns.quantize(wide, "onnxruntime", images, tmp_path, calibration=[images], seconds=0)
    assert [path.name for path in tmp_path.iterdir()] == ["network.onnx"]


def test_processors_say_whether_they_multiply_eight_bits(monkeypatch):
    for flags, products in (("fpu avx2", False), ("fpu avx512_vnni", True), ("asimddp", True)):
        monkeypatch.setattr("pathlib.Path.read_text", lambda *_, flags=flags, **__: flags)
        assert eight_bit_products() is products
    monkeypatch.undo()
    monkeypatch.setattr("pathlib.Path.read_text", missing)
    assert eight_bit_products() is None


def missing(*_, **__):
    raise FileNotFoundError
