"""Importing a part of the package loads no library that this part can do without.

`import-linter` reads the source; these tests run it, so they also see what a library pulls in.
"""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import nas_space

FRAMEWORKS = {
    "lightning",
    "lightning_fabric",
    "matplotlib",
    "nni",
    "onnx",
    "optuna",
    "pandas",
    "pytorch_lightning",
    "ray",
    "scipy",
    "sklearn",
    "timm",
}
WITHOUT = {
    "nas_space": FRAMEWORKS | {"torch"},
    "nas_space.errors": FRAMEWORKS | {"torch"},
    "nas_space.mutable": FRAMEWORKS | {"torch"},
    "nas_space.tables": FRAMEWORKS | {"torch"},
    "nas_space.nn": FRAMEWORKS,
    "nas_space.hub": FRAMEWORKS,
    "nas_space.cli": FRAMEWORKS | {"torch"},
}


def loaded_by(statement: str) -> set[str]:
    """The top-level packages in memory after `statement` ran in a fresh interpreter."""
    script = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("module", WITHOUT)
def test_import_is_lazy(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} does not exist yet")
    assert loaded_by(f"import {module}") & WITHOUT[module] == set()


def test_imports_within_the_package_are_relative() -> None:
    """So they show whether they go down: `.` is here, `..` is below."""
    package = Path(nas_space.__file__).parent
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                within = node.module.partition(".")[0] == "nas_space"
                assert not within, f"{file.relative_to(package)}:{node.lineno}: {node.module}"


def test_the_check_sees_what_is_loaded() -> None:
    assert {"numpy", "scipy"} <= loaded_by("import scipy")
