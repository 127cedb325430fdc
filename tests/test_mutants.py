"""The command that changes the code for tests to notice, where it is known what they notice."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

pytest.importorskip("cosmic_ray", reason="comes with the extra `dev`")

from benchmarks.mutants import Mutant, likeliest_tests, mutants, tried

FILE = "nas_space/tables/prices.py"
SOURCE = '''"""Prices."""

from __future__ import annotations


def total(price: int, number: int | None = None, rebate: int = 1 - 1) -> int:
    return price if number is None else price * number - rebate
'''
TEST = """from nas_space.tables.prices import total


def test_total():
    assert total(3) == 3
    assert total(3, 5) == 15
"""
OTHER = "def test_nothing():\n    assert True\n"
TESTS = (OTHER, TEST, OTHER)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tests = {f"tests/tables/test_{name}.py": t for name, t in zip("abc", TESTS, strict=True)}
    # Whole packages, or what is installed would be imported in their place.
    packages = {"nas_space/__init__.py": "", "nas_space/tables/__init__.py": ""}
    for name, text in {FILE: SOURCE, **packages, **tests}.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


def test_a_change_that_a_test_notices_is_killed_and_one_that_none_notices_survives(tree):
    noticed = Mutant(FILE, "planted", SOURCE.replace("price * number", "price + number"))
    outcome = tried(noticed, tree, 60)
    assert outcome.what == "killed"
    assert "tests/tables/test_b.py::test_total" in outcome.said
    assert (tree / FILE).read_text() == SOURCE
    hidden = Mutant(FILE, "planted", SOURCE.replace("number - rebate", "number + rebate"))
    assert tried(hidden, tree, 60).what == "survived"


def test_what_does_not_end_is_said_to_be_so_and_the_file_is_as_before(tree):
    endless = Mutant(FILE, "planted", SOURCE + "\nwhile True: pass\n")
    assert tried(endless, tree, 1).what == "timeout"
    assert (tree / FILE).read_text() == SOURCE


def test_the_tests_that_name_what_is_changed_come_first(tree):
    first, second, *_ = likeliest_tests(tree, FILE)
    assert (first, second) == (FILE, "tests/tables/test_b.py")


def test_a_seed_draws_the_same_mutants_each_once_and_none_of_annotations(tree):
    drawn = [*islice(mutants(tree, ["nas_space/tables"], 1), 30)]
    assert drawn[:9] == [*islice(mutants(tree, ["nas_space/tables"], 1), 9)]
    assert len({mutant.source for mutant in drawn}) == 30
    assert all("number: int | None = None" in mutant.source for mutant in drawn)
