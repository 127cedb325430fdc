"""NNI's own unit tests of spaces, run on this library: what passes, and why the others do not.

::

    git clone --branch v3.0 https://github.com/microsoft/nni
    python -m benchmarks.nni_unit_tests --nni nni [--out nni-unit-tests.json] [TEST ...]

The tests are read from a checkout, since NNI's package does not have them; they are migrated into
a temporary folder by ``nas-space migrate``, and ``benchmarks/nni_shim.py`` stands for what is
internal to NNI.  Each that does not pass is sorted by the table below; one that the table does not
know is a fault of ours, and the command ends with 1.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import sys
import tempfile
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from benchmarks import nni_shim
from nas_space.interop.migrate import migrate

PARTS = ("sdk/mutable", "nas/nn", "nas/profiler")
"""Folders of NNI's ``test/ut`` whose subject is here."""

WHOLLY_INTERNAL = {
    "nas/profiler/test_shape.py": "tensors that carry symbolic shapes through a forward: "
    "nas_space.profiler follows forward itself",
    "nas/profiler/test_utils.py": "attributes of layers as expressions, and simplification by "
    "SymPy, inside of NNI's profiler",
}
"""Files of which every test is of something internal, so that they cannot even be imported."""

_GRAPH = "internal", "the graph format: spaces run as they are, and are not compiled to a graph"
_EVALUATOR = "internal", "choices among the arguments of an evaluator: ns.search takes a function"
_TRACE = "internal", "nni.trace: a space has its arguments as space.args"
_LOGS = "deliberate", "nothing is logged: what there is to say is in the error"
_ACTIVE = "deliberate", "a sample has the active labels, and grid() goes through these only"
_TEXT = "deliberate", "expressions and domains print as Python, with what is open and by default"
_VALUES = "deliberate", "values of a choice are a tuple, since a domain does not change"
_DRAWN = "deliberate", "frozen_context() chooses nothing: only constructors of spaces draw defaults"
_FROZEN = "deliberate", "ensure_frozen in the constructor of a space is refused, with what to write"

DEVIATIONS: dict[str, tuple[str, str]] = {
    "*[[]graph[]]": _GRAPH,
    "test_choice.py::test_layer_choice[[]simple[]]": (
        "internal",
        "a format that keeps the candidates of when it was made",
    ),
    "*evaluator*": _EVALUATOR,
    "test_base.py::test_model_space_args": _TRACE,
    "test_base.py::test_model_space_inherit*": _TRACE,
    "test_base.py::test_model_space_combination_label_prefix": _TRACE,
    "test_base.py::test_label": _TRACE,
    "test_base.py::test_ensure_frozen": _FROZEN,
    "test_base.py::test_ensure_frozen_freeze_fail": _LOGS,
    "test_base.py::test_ensure_frozen_no_register": _LOGS,
    "test_base.py::test_ensure_frozen_constraint_first": _FROZEN,
    "test_base.py::test_deepcopy": _DRAWN,
    "test_base.py::test_nested_parametrized_module": _DRAWN,
    "test_base.py::test_model_space_no_label_prefix": (
        "deliberate",
        "a space inside of one without a prefix has a prefix of its own",
    ),
    "test_base.py::test_mutable_descendants": (
        "deliberate",
        "validation follows from structure(), and migrate reports check_contains of a module",
    ),
    "test_base.py::test_parametrized_module": (
        "deliberate",
        "attributes of a parametrized module are those of an architecture, not of the default",
    ),
    "test_frozen.py::test_ensure_frozen": _LOGS,
    "test_label.py::test_auto_label": _LOGS,
    "test_label.py::test_label_simple": ("internal", "label_scope.activated"),
    "test_choice.py::test_simplify_freeze": _VALUES,
    "test_choice.py::test_layer_choice_dict*": _VALUES,
    "test_mutable.py::test_categorical_multiple": _VALUES,
    "test_choice.py::test_nested_layer_choice*": _ACTIVE,
    "test_choice.py::test_value_choice_in_layer_choice*": _ACTIVE,
    "test_repeat.py::test_repeat_complex_independent*": _ACTIVE,
    "test_choice.py::test_freeze_layerchoice_nested": (
        "deliberate",
        "an inactive label is dropped after a check of its value",
    ),
    "test_choice.py::test_discrete_tuple_warning": (
        "deliberate",
        "choices within a tuple of sizes, which NNI refuses, are supported",
    ),
    "test_flops.py::test_e2e_simple[[]custom_op[]]": (
        "deliberate",
        "functions of which NNI has no formula of shapes are followed as they are",
    ),
    "test_choice.py::test_value_choice_backward_compatibility*": (
        "deliberate",
        "ValueChoice is another name, and warns of nothing",
    ),
    "test_choice.py::test_value_choice_in_functional*": (
        "deliberate",
        "an expression that is an attribute is part of the space, and reads as its value",
    ),
    "test_hub_modules.py::test_nasbench101_cell*": (
        "deliberate",
        "random architectures meet the constraints, where NNI's may fail them",
    ),
    "test_flops.py::test_mhattn": (
        "deliberate",
        "parameters are those that torch has: NNI's formula lacks three, as its test says",
    ),
    "test_flops.py::test_inputchoice": (
        "deliberate",
        "an input choice that is given fewer inputs than it is among is refused",
    ),
    "test_frozen.py::test_frozen_context_complex": (
        "deliberate",
        "what is no dict is refused when a context is made, not when it is read",
    ),
    "test_mutable.py::test_categorical": _TEXT,
    "test_mutable.py::test_numerical": _TEXT,
    "test_mutable.py::test_repr": _TEXT,
    "test_shortcut.py::*": _TEXT,
    "test_symbol.py::*": _TEXT,
    "test_mutable.py::test_dedup": (
        "deliberate",
        "log_distributed with a bound of 0 is refused when the choice is made",
    ),
    "test_mutable.py::test_default": (
        "deliberate",
        "what is chosen already counts, even where a default was given",
    ),
}
"""By the name of tests, with wildcards: ``deliberate`` or ``internal``, and why.

Each of the deliberate ones is a line of docs/migrating-from-nni.md."""


KINDS = ("passed", "in other words", "deliberate", "internal", "skipped", "fault")


class Results:
    """A plugin of pytest that keeps what became of each test.

    Attributes
    ----------
    outcomes
        By test, as ``file::name``: ``passed``, ``skipped`` or ``failed``.
    reasons
        Of those that failed, the error.
    """

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}
        self.reasons: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        name = report.nodeid.rpartition("/")[2]
        if report.when == "setup":
            nni_shim.Raises.otherwise = False
        if report.failed:
            self.outcomes[name] = "failed"
            crash = getattr(report.longrepr, "reprcrash", None)
            self.reasons[name] = str(crash.message if crash else report.longrepr).splitlines()[0]
        elif report.when == "call" and nni_shim.Raises.otherwise:
            self.outcomes[name] = "in other words"
        elif report.when == "call" or report.skipped:
            self.outcomes.setdefault(name, report.outcome)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            name = report.nodeid.rpartition("/")[2]
            self.outcomes[name] = "failed"
            self.reasons[name] = str(report.longrepr).strip().splitlines()[-1]


def moved(nni: Path, folder: Path) -> Path:
    """Write the tests, and the modules of the hub that they test, migrated; return their folder."""
    for path in (nni / "nni" / "nas" / "hub" / "pytorch" / "modules").glob("*.py"):
        target = folder / "hub_modules" / path.name
        target.parent.mkdir(exist_ok=True)
        target.write_text(migrate(path.read_text()).text)  # as somebody's own
    tests = nni / "test" / "ut"
    for part in PARTS:
        for path in (tests / part).glob("*.py"):
            target = folder / "ut" / path.relative_to(tests)
            target.parent.mkdir(parents=True, exist_ok=True)
            if f"{part}/{path.name}" not in WHOLLY_INTERNAL:
                target.write_text(migrate(path.read_text()).text)
    for each in [folder / "ut", *(path for path in (folder / "ut").rglob("*") if path.is_dir())]:
        (each / "__init__.py").touch()
    (folder / "pytest.ini").write_text("[pytest]\n")
    return folder / "ut"


def of_file(path: Path) -> list[str]:
    """Return the names of the tests in a file that is not run."""
    return [
        f"{path.name}::{node.name}"
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def sorted_by_kind(results: Results) -> dict[str, list[tuple[str, str]]]:
    """Return the tests of each kind, with the reason."""
    found: dict[str, list[tuple[str, str]]] = {kind: [] for kind in KINDS}
    for name, outcome in results.outcomes.items():
        if outcome != "failed":
            found[outcome].append((name, ""))
            continue
        kind, why = next(
            (told for pattern, told in DEVIATIONS.items() if fnmatchcase(name, pattern)),
            ("fault", results.reasons[name]),
        )
        found[kind].append((name, why))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nni", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--out", type=Path, help="also write what became of each, as JSON")
    parser.add_argument("tests", nargs="*", metavar="TEST", help="those whose names have this")
    arguments = parser.parse_args()
    nni_shim.install()
    results = Results()
    with tempfile.TemporaryDirectory() as temporary:
        tests = moved(arguments.nni, Path(temporary))
        sys.path.insert(0, temporary)
        sys.modules["nni.nas.hub.pytorch.modules"] = importlib.import_module("hub_modules")
        options = [
            "-q",
            "-p",
            "no:cacheprovider",
            "-W",
            "ignore",
            "--tb=no",
            "--continue-on-collection-errors",
        ]
        chosen = ["-k", " or ".join(arguments.tests)] if arguments.tests else []
        pytest.main([*options, *chosen, "--rootdir", temporary, str(tests)], plugins=[results])
    found = sorted_by_kind(results)
    for name, why in WHOLLY_INTERNAL.items():
        found["internal"] += [(test, why) for test in of_file(arguments.nni / "test/ut" / name)]
    for kind in ("deliberate", "internal", "fault"):
        print(f"\n{kind}")
        for why, number in Counter(why for _, why in found[kind]).items():
            names = [name for name, its in found[kind] if its == why]
            print(f"  {number:3}  {why}\n       {', '.join(names[:4])}{' …' if number > 4 else ''}")
    print("\n" + ", ".join(f"{len(tests)} {kind}" for kind, tests in found.items()))
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(bool(found["fault"]))


if __name__ == "__main__":
    main()
