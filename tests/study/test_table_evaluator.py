"""`TableEvaluator`: what is read, found and refused."""

from __future__ import annotations

import gzip
import json
import pickle
from itertools import product
from typing import Any

import numpy as np
import pytest

import nas_space as ns
from nas_space.errors import DataError, UsageError
from nas_space.hub import NasBenchMacro
from nas_space.study import TableEvaluator, minimize
from tests.problems import Tiny, Various, worth

NAMES = ["".join(digits) for digits in product("012", repeat=8)][::81]


@pytest.fixture(scope="module")
def macro() -> NasBenchMacro:
    return NasBenchMacro(init_channels=8)


def everything(space) -> list[dict[str, Any]]:
    return [space.canonical(arch) for arch in ns.tables.grid(space)]


def by_label(space) -> list[dict[str, Any]]:
    return [{**arch, "value": worth(None, arch)} for arch in everything(space)]


def test_a_search_of_a_table_is_the_search_of_the_function():
    space = Tiny()
    table = TableEvaluator(space, by_label(space))
    assert len(table) == 12
    one = ns.search(space, table, trials=12, seed=1)
    other = ns.search(space, worth, trials=12, seed=1, weights="none")
    assert [o.arch for o in one.outcomes] == [o.arch for o in other.outcomes]
    assert [o.values for o in one.outcomes] == [o.values for o in other.outcomes]


def test_what_a_search_has_measured_is_a_table_written_and_read(tmp_path):
    space = Various()
    result = ns.search(space, worth, trials=10, weights="none")
    file = tmp_path / "table.json"
    TableEvaluator.of(result).write(file)
    table = TableEvaluator.read(file, Various())
    for outcome in result.outcomes:
        assert table(None, outcome.arch) == outcome.values


def test_a_restricted_space_has_the_table_of_the_whole():
    space = Tiny()
    narrow = space.where(space.width <= 4)
    table = TableEvaluator(narrow, by_label(space))
    assert len(ns.search(narrow, table, trials=50).outcomes) == 6


@pytest.mark.parametrize("packed", [False, True])
def test_csv_by_labels_where_a_blank_is_an_inactive_label(tmp_path, packed):
    space = Tiny()
    labels = list(space.simplify())
    cells = [
        [*(str(row.get(label, "")) for label in labels), str(row["value"]), "x"]
        for row in by_label(space)
    ]
    lines = [",".join(row) for row in ([*labels, "value", "remark"], *cells)]
    text = "\n".join(lines).encode()
    file = tmp_path / ("table.csv.gz" if packed else "table.csv")
    file.write_bytes(gzip.compress(text) if packed else text)
    table = TableEvaluator.read(file, space)
    for arch in everything(space):
        assert table(None, arch) == {"value": worth(None, arch)}


@pytest.mark.parametrize("packed", [False, True])
def test_json_by_published_name(tmp_path, macro, packed):
    data = json.dumps(
        {n: {"test_acc": [i, i + 0.5], "params": 2 * i} for i, n in enumerate(NAMES)}
    ).encode()
    file = tmp_path / ("table.json.gz" if packed else "table.json")
    file.write_bytes(gzip.compress(data) if packed else data)
    table = TableEvaluator.read(file, macro, key=macro.name_of, objectives="test_acc[1]")
    found = table(None, macro.architecture_of(NAMES[7]))
    assert found == {"test_acc[0]": 7, "test_acc[1]": 7.5, "params": 14}
    assert table.objectives[0].name == "test_acc[1]"


def test_json_of_numbers_or_of_lists_by_published_name(tmp_path, macro):
    file = tmp_path / "table.json"
    arch = macro.architecture_of(NAMES[7])
    file.write_text(json.dumps({n: i for i, n in enumerate(NAMES)}))
    assert TableEvaluator.read(file, macro, key=macro.name_of)(None, arch) == {"value": 7}
    file.write_text(json.dumps({n: [i, -i] for i, n in enumerate(NAMES)}))
    table = TableEvaluator.read(file, macro, key=macro.name_of)
    assert table(None, arch) == {"value[0]": 7, "value[1]": -7}


def test_columns_in_json_and_numpy_by_place(tmp_path, macro):
    def place(arch):
        return NAMES.index(macro.name_of(arch))

    accuracy = np.arange(len(NAMES) * 3.0).reshape(-1, 3)
    file = tmp_path / "table.json"
    file.write_text(json.dumps({"about": "remark", "acc": accuracy.tolist()}))
    np.savez(tmp_path / "table.npz", acc=accuracy)
    np.save(tmp_path / "table.npy", accuracy)
    structured = np.array([tuple(row) for row in accuracy], dtype=[(c, float) for c in "abc"])
    np.save(tmp_path / "structured.npy", structured)
    for name, columns in {
        "table.json": ["acc[0]", "acc[1]", "acc[2]"],
        "table.npz": ["acc[0]", "acc[1]", "acc[2]"],
        "table.npy": ["value[0]", "value[1]", "value[2]"],
        "structured.npy": ["a", "b", "c"],
    }.items():
        table = TableEvaluator.read(tmp_path / name, macro, key=place)
        found = table(None, macro.architecture_of(NAMES[5]))
        assert found == dict(zip(columns, [15.0, 16.0, 17.0], strict=True)), name


def test_csv_with_a_column_of_names_which_keep_their_zeros(tmp_path, macro):
    file = tmp_path / "table.csv"
    file.write_text("\n".join(["acc,name", *(f"{i},{n}" for i, n in enumerate(NAMES))]))
    table = TableEvaluator.read(file, macro, key=macro.name_of, names="name")
    assert table(None, macro.architecture_of(NAMES[3])) == {"acc": 3}


def test_an_architecture_that_is_not_there_is_named(macro):
    records = [{"arch": macro.architecture_of(n), "acc": 1.0} for n in NAMES]
    table = TableEvaluator(macro, records)
    with pytest.raises(DataError, match=r"does not have .*'op7': 'mb3_k3'"):
        table(None, macro.architecture_of("00000001"))
    table = TableEvaluator(
        macro, [{"name": n, "acc": 1} for n in NAMES], key=macro.name_of, names="name"
    )
    with pytest.raises(DataError, match="no row named '00000001'"):
        table(None, macro.architecture_of("00000001"))


@pytest.mark.parametrize("given", [-1, 81, "x", None, 1.5])
def test_a_key_that_gives_no_place_is_refused(macro, given):
    table = TableEvaluator(macro, [{"acc": 1}] * 81, key=lambda _: given)
    with pytest.raises(DataError, match="a row's place from 0 to 80"):
        table(None, macro.sample(seed=0))


def test_what_cannot_be_read_is_refused_by_name(tmp_path, macro):
    def read(name, text="", **options):
        file = tmp_path / name
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return TableEvaluator.read(file, macro, **options)

    with pytest.raises(DataError, match="there is no table"):
        TableEvaluator.read(tmp_path / "absent.json", macro)
    for name in ("table.pth", "table.pkl", "table", "table.npz.gz"):
        with pytest.raises(DataError, match="what is pickled"):
            read(name, pickle.dumps({}))
    np.save(tmp_path / "objects.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"objects\.npy"):
        TableEvaluator.read(tmp_path / "objects.npy", macro, key=lambda _: 0)
    for text in ("{", "[]", "3", "[1, 2]"):
        with pytest.raises(DataError, match=r"table\.json"):
            read("table.json", text)
    with pytest.raises(DataError, match=r"table\.json"):
        read("table.json", '{"a": [1, 2], "b": [1]}')
    for text in ("", "a,b\n", "a,b\n1\n"):
        with pytest.raises(DataError, match=r"table\.csv"):
            read("table.csv", text)
    with pytest.raises(DataError, match=r"table\.json\.gz"):
        read("table.json.gz", "no gzip")


def test_rows_that_are_no_architectures_are_refused(tmp_path, macro):
    with pytest.raises(DataError, match="give key="):
        TableEvaluator(macro, [{"acc": 1.0}])
    named = tmp_path / "table.json"
    named.write_text(json.dumps(dict.fromkeys(NAMES, 1)))
    with pytest.raises(DataError, match="give key="):
        TableEvaluator.read(named, macro)
    with pytest.raises(DataError, match=r"row 1 .*'op3'"):
        TableEvaluator(
            macro,
            [
                {"arch": macro.architecture_of(NAMES[0]), "acc": 1.0},
                {"arch": {**macro.architecture_of(NAMES[1]), "op3": "conv"}, "acc": 1.0},
            ],
        )
    with pytest.raises(DataError, match="row 0"):
        TableEvaluator(macro, [{"arch": "00000000", "acc": 1.0}])
    twice = [{"arch": macro.architecture_of(NAMES[0]), "acc": i} for i in range(2)]
    with pytest.raises(DataError, match="rows 0 and 1"):
        TableEvaluator(macro, twice)
    with pytest.raises(DataError, match="rows 0 and 1"):
        TableEvaluator(macro, [{"n": "a", "acc": 1}] * 2, key=lambda _: "a", names="n")


def test_columns_that_are_not_there_are_refused(macro):
    records = [{"arch": macro.architecture_of(n), "accuracy": 1.0, "note": "x"} for n in NAMES]
    with pytest.raises(UsageError, match="did you mean 'accuracy'"):
        TableEvaluator(macro, records, objectives="acuracy")
    with pytest.raises(UsageError, match="'note'"):
        TableEvaluator(macro, records, objectives=minimize("note"))
    with pytest.raises(UsageError, match="no column 'nam'"):
        TableEvaluator(macro, records, key=macro.name_of, names="nam")
    with pytest.raises(DataError, match="no column of numbers"):
        TableEvaluator(macro, [{"arch": macro.architecture_of(NAMES[0])}])
    with pytest.raises(DataError, match="needs rows"):
        TableEvaluator(macro, [])
