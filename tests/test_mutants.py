"""The command that changes the code for tests to notice, where it is known what they notice."""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path

import pytest

pytest.importorskip("cosmic_ray", reason="comes with the extra `dev`")
pytest.importorskip("coverage", reason="comes with the extra `dev`")

from benchmarks.mutants import Mutant, Suite, mutants, tried

FILE = "nas_space/tables/prices.py"
SOURCE = '''"""Prices."""

from __future__ import annotations


def total(price: int, number: int | None = None, rebate: int = 1 - 1) -> int:
    if rebate < 0:
        raise ValueError(rebate)
    return price if number is None else price * number - rebate


LEAST = 1


def at_least(price: int) -> int:
    return max(price, LEAST)


def dear(price: int) -> int:
    return price * 100
'''
TEST = """from nas_space.tables.prices import total


def test_total():
    assert total(3) == 3
    assert total(3, 5) == 15
"""
OTHER = """from nas_space.tables.prices import at_least


def test_at_least():
    assert at_least(3) == 3
"""
ELSEWHERE = """def test_nothing():
    pass


def test_no_rebate():
    from nas_space.tables.prices import total

    assert total(3, 5, 0) == 15
"""
PARAMETRIZED = """import pytest


def costs():
    from nas_space.tables.prices import dear

    return [dear(3)]


@pytest.mark.parametrize("cost", costs())
def test_dear(cost):
    assert cost == 300
"""
TESTS = {
    "tests/tables/test_total.py": TEST,
    "tests/tables/test_at_least.py": OTHER,
    "tests/tables/test_dear.py": PARAMETRIZED,
    "tests/nn/test_elsewhere.py": ELSEWHERE,
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    # Whole packages, or what is installed would be imported in their place.
    packages = {"nas_space/__init__.py": "", "nas_space/tables/__init__.py": ""}
    for name, text in {FILE: SOURCE, **packages, **TESTS}.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.fixture(scope="module")
def suite(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return Suite.measured(tree, ["tests/tables", "tests/nn"], tmp_path_factory.mktemp("out"))


def planted(old: str, new: str) -> Mutant:
    assert SOURCE.count(old) == 1
    return Mutant(FILE, "planted", SOURCE, SOURCE.replace(old, new))


def test_a_change_that_a_test_notices_is_killed_and_one_that_none_notices_survives(tree, suite):
    outcome = tried(planted("price * number", "price + number"), suite, tree)
    assert outcome.what == "killed"
    assert "tests/tables/test_total.py::test_total" in outcome.said
    assert (tree / FILE).read_text() == SOURCE
    assert tried(planted("number - rebate", "number + rebate"), suite, tree).what == "survived"


def test_what_does_not_end_is_said_to_be_so_and_the_file_is_as_before(tree, suite, monkeypatch):
    monkeypatch.setattr("benchmarks.mutants.PATIENCE", 1)
    endless = planted("return max(price, LEAST)", "while True: pass")
    assert tried(endless, suite, tree).what == "timeout"
    assert (tree / FILE).read_text() == SOURCE


def test_only_tests_that_run_a_statement_are_tried_of_whatever_layer(tree, suite):
    of_total = ["tests/tables/test_total.py::test_total"]
    of_total += ["tests/nn/test_elsewhere.py::test_no_rebate"]
    of_both = [*of_total, "tests/tables/test_at_least.py::test_at_least"]
    covering = suite.covering(planted("price * number", "price + number"))
    assert sorted(covering) == sorted(of_total)
    nobody = planted("ValueError(rebate)", "TypeError(rebate)")
    assert not suite.covering(nobody)
    assert tried(nobody, suite, tree) == ("survived", 0.0, "no test runs it")
    for at_import in (
        planted("LEAST = 1", "LEAST = 2"),
        planted("rebate: int = 1 - 1", "rebate: int = 1"),
    ):
        assert sorted(suite.covering(at_import)) == sorted(of_both)


def test_what_tests_are_parametrized_by_is_tried_by_these(tree, suite):
    dearer = planted("price * 100", "price * 101")
    assert "tests/tables/test_dear.py::test_dear[300]" in suite.covering(dearer)
    assert tried(dearer, suite, tree).what == "killed"


def test_tests_that_fail_anyway_are_said(tree, tmp_path):
    shutil.copytree(tree, tmp_path / "tree")
    (tmp_path / "tree" / FILE).write_text(SOURCE.replace("price * number", "price"))
    with pytest.raises(SystemExit, match=r"tests/tables fails without a change: .*test_total"):
        Suite.measured(tmp_path / "tree", ["tests/tables"], tmp_path)
    assert not list(tmp_path.glob("*.json"))


def test_a_seed_draws_the_same_mutants_each_once_and_none_of_annotations(tree):
    drawn = [*islice(mutants(tree, ["nas_space/tables"], 1), 30)]
    assert drawn[:9] == [*islice(mutants(tree, ["nas_space/tables"], 1), 9)]
    assert len({mutant.source for mutant in drawn}) == 30
    assert all("number: int | None = None" in mutant.source for mutant in drawn)
