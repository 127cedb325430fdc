"""The spaces of published tables of trained networks."""

from __future__ import annotations

import gzip
import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from nas_space.errors import UsageError
from nas_space.hub import NasBench201, NasBenchMacro
from nas_space.mutable import SampleBatch
from nas_space.profiler import macs, params

TABLE = Path(__file__).parents[3] / "shared/data/nas_bench_macro_cifar10.json.gz"

# Multiply-adds at 32×32 and parameters, from the published table of NAS-Bench-Macro.
MACRO = {
    "00000000": (7_713_280, 387_882),
    "00000001": (14_115_328, 791_594),
    "00000002": (20_910_592, 1_219_370),
}

# An architecture of the README of NAS-Bench-201, which tells 113.95 million and 0.802 million.
STRING = (
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|"
    "+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
)


@pytest.fixture(scope="module")
def macro() -> NasBenchMacro:
    return NasBenchMacro()


def test_nas_bench_macro_costs_what_some_published_networks_cost(macro):
    macs_of, params_of = macs(macro, (3, 32, 32)), params(macro)
    for name, published in MACRO.items():
        arch = macro.architecture_of(name)
        assert (macs_of.freeze(arch), params_of.freeze(arch)) == published


@pytest.mark.skipif(not TABLE.exists(), reason=f"needs the published table, {TABLE.name}")
def test_nas_bench_macro_costs_what_the_published_table_says_of_each_network(macro):
    table = json.loads(gzip.decompress(TABLE.read_bytes()))
    names = map("".join, product("012", repeat=8))
    batch = SampleBatch.from_samples(macro, map(macro.architecture_of, names))
    assert macs(macro, (3, 32, 32)).evaluate(batch).tolist() == table["flops"]
    assert params(macro).evaluate(batch).tolist() == table["params"]


def test_nas_bench_macro_freezes_to_plain_layers_that_compute_the_same(macro):
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for name in ("00000000", "01201201", "22222222"):
        arch = macro.architecture_of(name)
        network = macro.freeze(arch)
        assert sum(p.numel() for p in network.parameters()) == params(macro).freeze(arch)
        with macro.activate(arch):
            assert torch.equal(network(x), macro(x))


def test_nas_bench_macro_names_are_read_and_written(macro):
    for name in map("".join, product("012", repeat=8)):
        assert macro.name_of(macro.architecture_of(name)) == name


@pytest.mark.parametrize("name", ["0000000", "000000000", "00000003", "0000000a", 12, None])
def test_nas_bench_macro_refuses_other_names(name: Any):
    with pytest.raises(UsageError, match="8 digits from 0 to 2"):
        NasBenchMacro.architecture_of(name)


@pytest.mark.parametrize("arch", [{}, {f"op{i}": "conv" for i in range(8)}])
def test_nas_bench_macro_refuses_architectures_of_other_spaces(arch):
    with pytest.raises(UsageError, match="op0 to op7"):
        NasBenchMacro.name_of(arch)


# Index 0 of the benchmark, the least and the most.
FIRST = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"  # noqa: E501
NOTHING = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
ALL = NOTHING.replace("none", "nor_conv_3x3")


@pytest.mark.parametrize(
    ("string", "classes", "size", "flops", "parameters"),
    [
        (FIRST, 10, 32, 15.64737, 129_306),
        (STRING, 10, 32, 113.95137, 802_426),
        (NOTHING, 10, 32, 7.78305, 73_306),
        (ALL, 10, 32, 220.11969, 1_531_546),
        (NOTHING, 100, 32, 7.7889, 79_156),
        (ALL, 100, 32, 220.12554, 1_537_396),
        (FIRST, 120, 16, 3.91948, None),
    ],
)
def test_nas_bench_201_costs_what_its_authors_say(string, classes, size, flops, parameters):
    space = NasBench201(num_labels=classes)
    arch = space.architecture_of(string)
    # Theirs count an addition for each bias, which only the classifier has.
    counted = macs(space, (3, size, size)).freeze(arch) + classes
    assert round(counted / 1e6, 5) == flops
    if parameters is not None:
        assert params(space).freeze(arch) == parameters


def test_nas_bench_201_freezes_to_plain_layers_that_compute_the_same():
    space = NasBench201(num_modules_per_stack=1)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for seed in range(3):
        arch = space.sample(seed=seed)
        with space.activate(arch):
            assert torch.equal(space.freeze(arch)(x), space(x))


def test_nas_bench_201_strings_are_read_and_written():
    space = NasBench201(num_modules_per_stack=1)
    for seed in range(50):
        arch = space.sample(seed=seed)
        assert space.canonical(space.architecture_of(space.string_of(arch))) == arch
    assert space.string_of(space.architecture_of(STRING)) == STRING


@pytest.mark.parametrize(
    "text",
    [
        "",
        "|none~0|",
        STRING[:-1],
        STRING + "+|none~0|none~1|none~2|none~3|",
        STRING.replace("~2", "~1"),
        STRING.replace("nor_conv_3x3", "max_pool_3x3"),
        STRING.replace("+", ""),
        None,
    ],
)
def test_nas_bench_201_refuses_other_strings(text: Any):
    with pytest.raises(UsageError, match="writes an architecture as"):
        NasBench201.architecture_of(text)


def test_nas_bench_201_refuses_architectures_of_other_spaces():
    with pytest.raises(UsageError, match="cell/0_1"):
        NasBench201.string_of({"op0": "identity"})


@pytest.mark.parametrize(
    ("kind", "argument"),
    [
        (NasBenchMacro, {"num_labels": 0}),
        (NasBenchMacro, {"init_channels": 2.5}),
        (NasBench201, {"num_modules_per_stack": -1}),
        (NasBench201, {"stem_out_channels": True}),
    ],
)
def test_senseless_arguments_are_refused(kind, argument):
    with pytest.raises(UsageError, match=next(iter(argument))):
        kind(**argument)
