"""Latency: tables, what they are made of, and the sums over them."""

from __future__ import annotations

import csv
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nas_space.errors import DataError, SpaceError, UsageError
from nas_space.hub import ProxylessNAS
from nas_space.mutable import Categorical, MutableExpression
from nas_space.nn import LayerChoice, ModelSpace, MutableConv2d, MutableLinear, Repeat
from nas_space.profiler import (
    LatencyTable,
    blocks,
    export_blocks,
    latency,
    macs,
    measure_latency,
)

from . import oracle
from .spaces import SPACES, Residual

PIXEL1 = Path(__file__).parents[3] / "shared" / "data" / "proxylessnas_pixel1_latency.yaml"
PIXEL1_WIDTHS = (32, 16, 24, 40, 80, 96, 192, 320, 1280)


def value(cost: Any, arch: Any) -> Any:
    return cost.evaluate(arch) if isinstance(cost, MutableExpression) else cost


class Small(ModelSpace):
    def __init__(self, depth: int = 3) -> None:
        super().__init__()
        width = Categorical([2, 3], label="width")
        self.body = Repeat(
            lambda i: LayerChoice(
                {"linear": nn.Linear(4, 4), "none": nn.Identity()}, label=f"op{i}"
            ),
            (1, depth),
            label="depth",
        )
        self.head = MutableLinear(4, width)

    def forward(self, x: Any) -> Any:
        return self.head(self.body(x) + x)


# -- blocks -------------------------------------------------------------------------------------


def test_the_same_piece_is_one_block_wherever_it_is():
    found = blocks(Small(), (4,))
    assert [(block.kind, block.path) for block in found] == [
        ("Linear", "body.blocks.0.linear"),
        ("torch.Tensor.__add__", ""),
        ("Linear", "head"),
        ("Linear", "head"),
    ]
    assert len({block.key for block in found}) == 4
    assert [block.outputs for block in found] == [[(1, 4)], [(1, 4)], [(1, 2)], [(1, 3)]]
    assert [block.macs for block in found] == [16, 0, 8, 12]


def test_keys_are_the_same_in_every_process():
    # Pinned: a table must be found again.
    assert [block.key for block in blocks(Small(), (4,))][:2] == KEYS


KEYS = [
    "Linear-input:1x4-output:1x4-72747a5e",
    "torch.Tensor.__add__-input:1x4,1x4-output:1x4-5a320df5",
]


@pytest.mark.parametrize("name", SPACES)
def test_blocks_run_alone(name):
    make, inputs = SPACES[name]
    for block in blocks(make(), inputs=inputs)[::3]:
        out = block.of_tensors()(*block.example())
        leaves = [
            leaf for leaf in torch.utils._pytree.tree_leaves(out) if isinstance(leaf, torch.Tensor)
        ]
        assert [tuple(leaf.shape) for leaf in leaves] == block.outputs
        assert block.sample is not None


@pytest.mark.parametrize("name", SPACES)
def test_every_multiply_add_is_in_one_block(name):
    make, inputs = SPACES[name]
    space = make()
    # A table in which each block takes as many microseconds as it has multiply-adds.
    table = LatencyTable({b.key: b.macs / 1000 for b in blocks(space, inputs=inputs)})
    times, cost = latency(space, table, inputs=inputs), macs(space, inputs=inputs)
    for arch in oracle.architectures(space):
        assert value(times, arch) == value(cost, arch)


def test_a_piece_that_falls_into_too_many_is_taken_apart():
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.widths = [Categorical(range(1, 9), label=f"w{i}") for i in range(4)]
            steps = zip([1, *self.widths], [*self.widths, 1], strict=True)
            self.layers = nn.Sequential(*(MutableConv2d(a, b, 1) for a, b in steps))

        def forward(self, x: Any) -> Any:
            return self.layers(x)

    class Net(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.op = LayerChoice([Wide(), nn.Identity()], label="op")

        def forward(self, x: Any) -> Any:
            return self.op(x)

    found = blocks(Net(), (1, 2, 2))
    assert {block.kind for block in found} == {"Conv2d"}
    assert len(found) == 64  # a width before and after: those at the ends occur in the middle, too


# -- sums ---------------------------------------------------------------------------------------


def test_a_latency_is_the_sum_over_the_blocks_in_whole_microseconds():
    space = Small()
    times = dict(zip((b.key for b in blocks(space, (4,))), [0.1, 0.02, 0.5, 0.7004], strict=True))
    cost = latency(space, LatencyTable(times), (4,))
    arch = {"depth": 2, "op0": "linear", "op1": "linear", "width": 3}
    assert cost.evaluate(arch) == 100 + 100 + 20 + 700
    assert cost.evaluate({"depth": 1, "op0": "none", "width": 2}) == 20 + 500


def test_missing_blocks_are_listed():
    space = Small()
    keys = [block.key for block in blocks(space, (4,))]
    with pytest.raises(DataError) as caught:
        latency(space, LatencyTable(dict.fromkeys(keys[1:3], 1.0)), (4,))
    assert "lacks 2 blocks of Small" in str(caught.value)
    assert keys[0] in str(caught.value)
    assert keys[3] in str(caught.value)
    assert keys[1] not in str(caught.value)


def test_blocks_that_constraints_exclude_need_no_time():
    space = Small()
    keys = [block.key for block in blocks(space, (4,))]
    space.require(space.head.args["out_features"] == 2)
    table = LatencyTable(dict.fromkeys(keys[:3], 1.0))
    assert latency(space, table, (4,)).evaluate({"depth": 1, "op0": "none", "width": 2}) == 2000
    assert [block.key for block in blocks(space, (4,))] == keys[:3]


def test_a_table_knows_for_what_inputs_it_is():
    space = Small()
    keys = [block.key for block in blocks(space, (4,))]
    table = LatencyTable(dict.fromkeys(keys, 1.0), {"input_shape": [4]})
    assert latency(space, table).equals(latency(space, table, (4,)))
    with pytest.raises(UsageError, match="give input_shape"):
        latency(space, LatencyTable(dict.fromkeys(keys, 1.0)))
    with pytest.raises(SpaceError, match="runs on"):
        latency(space, table, (5,))


# -- measuring ----------------------------------------------------------------------------------


def test_measuring_times_every_block_once():
    told: list[Any] = []
    space = Small()
    table = measure_latency(
        space, "cpu", (4,), warmup=1, repeats=2, progress=lambda *args: told.append(args)
    )
    keys = [block.key for block in blocks(space, (4,))]
    assert list(table.milliseconds) == keys
    assert all(0 < time < 1000 for time in table.milliseconds.values())
    assert told == [*((i, 4, key) for i, key in enumerate(keys)), (4, 4, "")]
    assert table.about["input_shape"] == [4]
    assert table.about["device"].startswith("cpu")
    assert latency(space, table).evaluate({"depth": 1, "op0": "none", "width": 2}) >= 0


def test_what_is_known_is_not_measured_again():
    space = Small()
    keys = [block.key for block in blocks(space, (4,))]
    known = LatencyTable({keys[0]: 123.0, "other": 1.0})
    told: list[Any] = []
    with pytest.warns(UserWarning, match="does not say with which runtime"):
        table = measure_latency(
            space, "cpu", (4,), known=known, repeats=1, progress=lambda *args: told.append(args[2])
        )
    assert told == [*keys[1:], ""]
    assert table.milliseconds[keys[0]] == 123.0
    assert set(table.milliseconds) == {*keys, "other"}


def test_measuring_leaves_the_space_alone():
    space = Residual()
    before = {name: tensor.clone() for name, tensor in space.state_dict().items()}
    measure_latency(space, "cpu", (3, 8, 8), warmup=0, repeats=1, progress=False)
    assert all(torch.equal(space.state_dict()[name], tensor) for name, tensor in before.items())


def test_measuring_in_another_type():
    table = measure_latency(
        Small(), "cpu", (4,), dtype=torch.bfloat16, repeats=1, batch_size=2, progress=False
    )
    assert (table.about["dtype"], table.about["batch_size"]) == ("bfloat16", 2)
    assert latency(Small(), table).evaluate({"depth": 1, "op0": "none", "width": 2}) >= 0


def test_a_bar_shows_progress(capsys):
    measure_latency(Small(1), "cpu", (4,), warmup=0, repeats=1)
    assert capsys.readouterr().err == ""  # drawn on a terminal only


@pytest.mark.parametrize("device", ["meta", "nowhere", "cuda:99"])
def test_devices_that_are_not_there(device):
    with pytest.raises(UsageError, match="device"):
        measure_latency(Small(), device, (4,), progress=False)


def test_numbers_that_make_no_sense():
    for warmup, repeats in ((5, 0), (-1, 30)):
        with pytest.raises(UsageError, match="repeats"):
            measure_latency(Small(), "cpu", (4,), progress=False, warmup=warmup, repeats=repeats)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_measuring_on_a_gpu():
    table = measure_latency(Residual(), "cuda", (3, 8, 8), repeats=3, progress=False)
    assert table.about["device"].startswith("cuda: ")
    assert all(time > 0 for time in table.milliseconds.values())


# -- tables -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["table.yaml", "table.csv"])
def test_tables_are_read_back_as_they_were(name, tmp_path):
    table = LatencyTable({"a, with a comma": 0.1234567890123, "b": 2e-5}, {"device": "cpu: x"})
    table.write(tmp_path / name)
    back = LatencyTable.read(tmp_path / name)
    assert back.milliseconds == table.milliseconds
    assert back.about == (table.about if name.endswith("yaml") else {})
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(("unit", "factor"), [("s", 1000), ("ms", 1), ("us", 0.001)])
def test_units(unit, factor, tmp_path):
    path = tmp_path / "table.yaml"
    path.write_text(f"{HEADER}unit: {unit}\nblocks:\n  a: 2\n")
    assert LatencyTable.read(path).milliseconds == {"a": 2 * factor}


@pytest.mark.parametrize("time", [-1, math.nan, math.inf, "fast", None, True, 1e9, [1]])
def test_impossible_times_are_refused(time):
    with pytest.raises(DataError, match="'a'"):
        LatencyTable({"a": time})


HEADER = "format: nas_space latency table, version 1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mapping"),
        ("- 1\n", "mapping"),
        ("a: [", "no YAML"),
        ("a: 1\n", "'mean'"),
        (HEADER + "blocks: {a: 1}\n", "unit must be one of"),
        (HEADER + "unit: hours\nblocks: {a: 1}\n", "unit must be one of.*hours"),
        (HEADER + "unit: ms\nblocks: [1]\n", "mapping from keys"),
        (HEADER + "unit: ms\nblocks: {a: null, b: 1, c: null}\n", "2 blocks have no time: .a"),
        (HEADER + "unit: ms\nblocks: {a: -3}\n", "between 0"),
        ("format: something\nunit: ms\nblocks: {a: 1}\n", "another version"),
    ],
)  # fmt: skip
def test_bad_files_are_refused(text, message, tmp_path):
    path = tmp_path / "table.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        LatencyTable.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("key,ms\na,1\n", "columns 'key' and 'milliseconds'"),
        ("key,milliseconds\na,\nb,1\n", "1 blocks have no time: 'a'"),
        ("key,milliseconds\na,quick\n", "a number of milliseconds"),
        ("key,milliseconds\na,1\na,2\n", "twice"),
        ("", "columns"),
        ("key,milliseconds\na,1,5\n", "line 2 has more cells"),
        ("key,milliseconds,milliseconds\na,1,5\n", "a column occurs twice"),
    ],
)
def test_bad_lists_are_refused(text, message, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        LatencyTable.read(path)


@pytest.mark.parametrize(
    "number", ["010", "-017", "1:30", "1:30.5", "0x1F", "0b11", "1_000", "1_0.5", "0_1",
               "!!int '\u0661'", "!!float '\u0661'", "!!float 010", "!!int ' 1'", "!!float '1e3_0'"]
)  # fmt: skip
@pytest.mark.parametrize(
    "text",
    [
        HEADER + "unit: ms\nblocks:\n  a: {}\n",
        HEADER + "threads: {}\nunit: ms\nblocks: {{a: 1}}\n",
        HEADER + "unit: ms\nblocks: {{a: 1}}\ncorrection: {{constant: {}, blocks: {{a: 1}}}}\n",
        "a: {{mean: {}}}\n",
        "? {}\n: {{mean: 1}}\n",
    ],
)
def test_numbers_that_yaml_reads_otherwise_than_people_are_refused(number, text, tmp_path):
    path = tmp_path / "table.yaml"
    path.write_text(text.format(number), encoding="utf-8")
    written = text.format(number).split(number)[0]
    line, column = written.count("\n") + 1, len(written.rpartition("\n")[2]) + 1
    with pytest.raises(DataError, match=f"line {line}, column {column}: .*decimal digits") as told:
        LatencyTable.read(path)
    assert str(path) in str(told.value)


@pytest.mark.parametrize(
    "number", ["010", "1:30", "0x1F", "1_000", "\u0661\u0662", "\uff11", "1 000",
               "nan", "inf", "1e", "1.5 ms"]
)  # fmt: skip
def test_numbers_of_a_list_are_decimal(number, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(f"key,milliseconds\nb,1\na,{number}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 3, column 'milliseconds': .*'a'.*decimal digits"):
        LatencyTable.read(path)


@pytest.mark.parametrize("keys", ["a: 1, a: 2", "1: 1, '1': 2", "1.0: 1, 1.00: 2"])
def test_keys_that_are_the_same_text_are_refused(keys, tmp_path):
    path = tmp_path / "table.yaml"
    path.write_text(f"{HEADER}unit: ms\nblocks: {{{keys}}}\n")
    with pytest.raises(DataError, match="occurs twice"):
        LatencyTable.read(path)


@pytest.mark.parametrize("number", ["0", "8", "0.25", "+1.5e-3", "1.0e+3", ".5", "2.", "0.50"])
@pytest.mark.parametrize("name", ["table.yaml", "table.csv"])
def test_decimal_numbers_are_read_as_they_are_written(number, name, tmp_path):
    path = tmp_path / name
    head = f"{HEADER}unit: ms\nblocks:\n  a: " if name.endswith("yaml") else "key,milliseconds\na,"
    path.write_text(f"{head}{number}\n")
    assert LatencyTable.read(path).milliseconds == {"a": float(number)}


def test_a_file_that_is_not_there():
    with pytest.raises(DataError, match="cannot be read"):
        LatencyTable.read("nowhere.yaml")


@pytest.mark.parametrize("given", [None, 5, {"a": 1.0}])
def test_what_is_no_table(given):
    with pytest.raises(UsageError, match="a latency table, or the file it is in, is needed"):
        latency(ProxylessNAS(width_mult=0.25), given)
    with pytest.raises(DataError, match="maps blocks to milliseconds"):
        LatencyTable([1.0, 2.0])  # type: ignore[arg-type]


def test_differences_and_merging():
    one = LatencyTable({"a": 1, "b": 2}, {"device": "x", "batch_size": 1})
    other = LatencyTable({"b": 3, "c": 4}, {"device": "x"})
    assert one.diff(other) == {"a": (1, None), "b": (2, 3), "c": (None, 4)}
    assert one.diff(one) == {}
    merged = one.merge(other)
    assert merged.milliseconds == {"a": 1, "b": 3, "c": 4}
    assert merged.about == {"device": "x", "batch_size": 1}
    with pytest.raises(UsageError, match="device is 'x' here and 'y' there"):
        one.merge(LatencyTable({}, {"device": "y"}))
    with pytest.raises(UsageError, match="published"):
        one.merge(LatencyTable({}, published=True))


# -- the published format -----------------------------------------------------------------------


@cache
def pixel1() -> LatencyTable:
    return LatencyTable.read(PIXEL1)


@pytest.mark.skipif(not PIXEL1.exists(), reason="the authors' table is not here")
def test_the_published_table_covers_the_space_it_was_made_for():
    space = ProxylessNAS(base_widths=PIXEL1_WIDTHS)
    cost = latency(space, pixel1())
    net: Any = ProxylessNAS.load_searched_model("proxyless-mobile")
    # 16 blocks, the stem, the feature mix and the logits, added up by hand.
    assert cost.evaluate(net.architecture) == published_by_hand(net.architecture)


def published_by_hand(arch: dict[str, Any]) -> int:
    size, width = 112, 16
    keys = [
        "Conv-input:224x224x3-output:112x112x32",
        "expanded_conv-input:112x112x32-output:112x112x16-expand:1-kernel:3-stride:1-idskip:0",
        "Conv_1-input:7x7x320-output:7x7x1280",
        "Logits-input:7x7x1280-output:1000",
    ]
    for stage, (out, halves) in enumerate(
        zip(PIXEL1_WIDTHS[2:8], (1, 1, 1, 0, 1, 0), strict=True), start=2
    ):
        for index in range(arch.get(f"s{stage}_depth", 1)):
            kernel, ratio = arch[f"s{stage}_i{index}"][1], arch[f"s{stage}_i{index}"][3]
            stride = 2 if halves and index == 0 else 1
            after = size // stride
            keys.append(
                f"expanded_conv-input:{size}x{size}x{width}-output:{after}x{after}x{out}"
                f"-expand:{ratio}-kernel:{kernel}-stride:{stride}"
                f"-idskip:{int(stride == 1 and width == out)}"
            )
            size, width = after, out
    return sum(pixel1().microseconds(key) for key in keys)


@pytest.mark.skipif(not PIXEL1.exists(), reason="the authors' table is not here")
def test_blocks_that_the_published_table_lacks_are_listed():
    with pytest.raises(DataError, match=r"lacks 18 blocks.*expanded_conv-input:112x112x16-output"):
        latency(ProxylessNAS(), pixel1())


def test_a_published_table_needs_a_space_that_knows_its_names(tmp_path):
    path = tmp_path / "table.yaml"
    path.write_text("Conv-input:8x6x3-output:4x3x2:\n  count: 3\n  mean: 1.5\n  var: 0.1\n")
    table = LatencyTable.read(path)
    assert table.about["input_shape"] == [3, 8, 6]
    assert table.milliseconds == {"Conv-input:8x6x3-output:4x3x2": 1.5}
    with pytest.raises(UsageError, match=r"latency_key\(block\)"):
        latency(Small(), table, (4,))
    with pytest.raises(UsageError, match="only read"):
        table.write(tmp_path / "other.yaml")


# -- ONNX ---------------------------------------------------------------------------------------


def test_blocks_are_exported_with_their_keys(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    space = Small(1)
    listing = export_blocks(space, (4,), tmp_path / "blocks")
    with listing.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["key"] for row in rows] == [block.key for block in blocks(space, (4,))]
    for row, block in zip(rows, blocks(space, (4,)), strict=True):
        model = onnx.load(listing.parent / row["file"])
        onnx.checker.check_model(model)
        shapes = [
            tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
            for value in model.graph.input
        ]
        assert shapes == [tuple(tensor.shape) for tensor in block.example()]
        row["milliseconds"] = "0.5"
    with pytest.raises(DataError, match="4 blocks have no time"):
        latency(space, listing, (4,))
    with listing.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    arch = {"depth": 1, "op0": "linear", "width": 2}
    assert latency(space, listing, (4,)).evaluate(arch) == 1500
    with pytest.raises(UsageError, match="exists already"):
        export_blocks(space, (4,), tmp_path / "blocks")


def test_exporting_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setattr("nas_space.runtimes.base.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install 'nas-space\[onnxruntime\]'"):
        export_blocks(Small(), (4,), tmp_path)
