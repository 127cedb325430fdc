"""Networks that were made small, kept: by their library where it can, and by ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

import nas_space as ns
from nas_space.errors import CheckpointError, UsageError
from tests.compression.networks import NETWORKS
from tests.compression.test_elastic import assert_equal, run


def fresh(name, **options):
    try:
        net, inputs = NETWORKS[name]()
    except ImportError as error:
        pytest.skip(f"not installed: {error.name}")
    return net, inputs, ns.elastic(net, inputs, **options)


def smallest(space):
    return {name: space.symbols()[name].values[0] for name in space.symbols()}


@pytest.mark.parametrize(
    "name",
    [
        "ResNet",
        "BERT",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("GPT-2", "Llama", "T5")),
    ],
)
def test_a_network_comes_back_as_it_was_saved(name, tmp_path):
    net, inputs, space = fresh(name)
    small = space.freeze(space.canonical(smallest(space)))
    ns.save_network(small, tmp_path)
    again = ns.load_network(tmp_path, net if name == "ResNet" else None)
    assert type(again) is type(net)
    with torch.no_grad():
        assert_equal(run(again, inputs), run(small, inputs))
    assert [repr(m) for m in again.modules()] == [repr(m) for m in small.modules()]
    before = list(net.state_dict())
    assert list(net.state_dict()) == before


def test_tied_parameters_stay_tied(tmp_path):
    _, _, space = fresh("GPT-2", outputs="free")
    small = space.freeze(space.canonical(smallest(space)))
    ns.save_network(small, tmp_path)
    again: Any = ns.load_network(tmp_path)
    assert again.lm_head.weight is again.transformer.wte.weight


@pytest.mark.parametrize(
    ("name", "label", "attribute"),
    [
        ("BERT", "encoder.layer.*.intermediate.dense.width", "intermediate_size"),
        ("BERT", "encoder.layer.depth", "num_hidden_layers"),
        pytest.param("GPT-2", "transformer.h.depth", "n_layer", marks=pytest.mark.slow),
        pytest.param("Llama", "model.layers.depth", "num_hidden_layers", marks=pytest.mark.slow),
        pytest.param(
            *("Llama", "model.layers.*.mlp.gate_proj.width", "intermediate_size"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_a_configuration_can_say_goes_through_save_pretrained(
    name, label, attribute, tmp_path
):
    net, inputs, space = fresh(name, share="kind")
    value = min(space.symbols()[label].values)
    small = space.freeze(space.canonical(space.original | {label: value}))
    assert getattr(small.config, attribute) == value
    assert getattr(net.config, attribute) == space.original[label]
    small.save_pretrained(tmp_path)
    again = type(net).from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert_equal(run(again, inputs), run(small, inputs))


def test_what_a_configuration_cannot_say_is_refused_by_the_tensor_that_stands_in_the_way(tmp_path):
    _, inputs, space = fresh("BERT")
    label = "encoder.layer.0.intermediate.dense.width"
    small = space.freeze(space.original | {label: min(space.symbols()[label].values)})
    with pytest.raises(UsageError, match=r"intermediate\.dense\.weight.*save_network"):
        small.save_pretrained(tmp_path)
    ns.save_network(small, tmp_path)
    with torch.no_grad():
        assert_equal(run(ns.load_network(tmp_path), inputs), run(small, inputs))


def test_files_of_something_else_are_refused(tmp_path):
    def make():
        return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)).eval()

    with pytest.raises(CheckpointError, match="holds no network"):
        ns.load_network(tmp_path, make)
    small = ns.elastic(make(), torch.ones(1, 4)).freeze({"0.width": 8})
    ns.save_network(small, tmp_path)
    with pytest.raises(UsageError, match="a function that makes one"):
        ns.load_network(tmp_path)
    with pytest.raises(CheckpointError, match="but the original is a"):
        ns.load_network(tmp_path, nn.Linear(4, 2))
    described = json.loads((tmp_path / "network.json").read_text())
    (tmp_path / "network.json").write_text(json.dumps(described | {"format": 9}))
    with pytest.raises(CheckpointError, match="another format"):
        ns.load_network(tmp_path, make)


def made_here():
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)).eval()


def makes_nothing():
    return 3


def test_a_maker_that_was_saved_is_called_only_by_who_trusts_it(tmp_path):
    small = ns.elastic(made_here(), torch.ones(1, 4)).freeze({"0.width": 8})
    maker = f"{__name__}:made_here"
    ns.save_network(small, tmp_path, maker=maker)
    with pytest.raises(UsageError, match=f"trust=True have {maker}"):
        ns.load_network(tmp_path)
    again = ns.load_network(tmp_path, trust=True)
    assert_equal(run(again, torch.ones(1, 4)), run(small, torch.ones(1, 4)))
    ns.save_network(small, tmp_path)  # whose class, without arguments, has no layers
    with pytest.raises(CheckpointError, match="lacks"):
        ns.load_network(tmp_path, trust=True)
    ns.save_network(small, tmp_path, maker=f"{__name__}:makes_nothing")
    with pytest.raises(UsageError, match="returned a int"):
        ns.load_network(tmp_path, trust=True)
    for wrong in (f"{__name__}:nothing", "nowhere:f", "f", f"{__name__}:ns.__name__"):
        with pytest.raises(UsageError, match=r"module:function|no function"):
            ns.save_network(small, tmp_path, maker=wrong)


@pytest.mark.slow
def test_generation_with_a_cache_gives_what_a_forward_without_one_does():
    for name in ("GPT-2", "Llama"):
        _, inputs, space = fresh(name)
        small = space.freeze(space.canonical(smallest(space)))
        with torch.no_grad():
            made = small.generate(inputs, max_new_tokens=6, do_sample=False, use_cache=True)
            ids = inputs
            for _ in range(made.shape[1] - inputs.shape[1]):
                ids = torch.cat([ids, small(ids).logits[:, -1:].argmax(-1)], 1)
        assert torch.equal(made, ids)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ResNet", "BERT"])
def test_frozen_networks_are_exported_and_compiled_as_their_originals_are(name, tmp_path):
    _, inputs, space = fresh(name)
    small = space.freeze(space.canonical(smallest(space)))
    exported = torch.export.export(small, (inputs,))
    with torch.no_grad():
        expected = run(small, inputs)
        for ours, theirs in zip(run(exported.module(), inputs), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        compiled = torch.compile(small, backend="aot_eager")
        for ours, theirs in zip(run(compiled, inputs), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    torch.onnx.export(small, (inputs,), tmp_path / "net.onnx", dynamo=True)
    assert (tmp_path / "net.onnx").stat().st_size > 0
