"""Importing a part of the package loads no library that this part can do without.

`import-linter` reads the source; these tests run it, so they also see what a library pulls in.
"""

from __future__ import annotations

import ast
import importlib.util
import re
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


def test_a_search_loads_the_strategy_that_it_is_asked_for_and_no_other() -> None:
    script = """
import sys
from nas_space import search
from nas_space.hub import ProxylessNAS
from nas_space.strategy import STRATEGIES
assert "gp" in STRATEGIES and "nothing" not in STRATEGIES
space = ProxylessNAS(num_labels=10, width_mult=0.25)
search(space, lambda network, arch: 1.0, strategy="evolution", trials=2, progress=False)
print(*[name for name in sys.modules if name.startswith("nas_space.")])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    idle = {"executors", "hub.nasnet", "nn.decisions", "profiler.recorder", "strategy.oneshot"}
    idle |= {"strategy.predictor", "strategy.optuna_samplers", "training.loop"}
    idle.add("training.checkpoint")
    # Of a search in memory by this process: nothing that stores trials, shares or sends them.
    idle |= {
        f"study.{name}" for name in (
            "channel", "definition", "failures", "fingerprint", "network_files", "remote",
            "shared_ledger", "signs", "storage", "stored",
        )
    }  # fmt: skip
    assert "nas_space.strategy.evolution" in loaded
    assert {name for name in idle if f"nas_space.{name}" in loaded} == set()


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


BLOCKED = """
import sys
for name in ("sklearn", "matplotlib"):
    sys.modules[name] = None  # as if it were not installed: importing it fails
"""


def printed_without_extras(script: str, cwd: Path) -> str:
    """What a script prints where neither scikit-learn nor matplotlib is installed."""
    command = [sys.executable, "-c", BLOCKED + script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_searches_need_neither_pictures_nor_scikit_learn(tmp_path: Path) -> None:
    """From the shell and from a script, to files, a report and an explanation."""
    told = printed_without_extras(
        """
import numpy as np
import torch
from torch.utils.data import TensorDataset
import nas_space as ns
from nas_space.cli import main
from nas_space.report import explain
from nas_space.training import Task
from tests.test_main_job import Small

def run(*arguments):
    try:
        main(list(arguments))
    except SystemExit as ended:
        assert not ended.code, ended.code

rng = np.random.default_rng(0)
np.savez("images.npz", x=rng.random((60, 3, 8, 8), dtype=np.float32), y=np.arange(60) % 3)
few = ["--first-steps", "1", "--steps", "2", "--trials", "2", "--finalists", "1", "--rivals", "1"]
few += ["--fine-tuning", "1", "--quiet"]
run("search", "--space", "tests.test_main_job:Small", "--data", "images.npz", "--out", "run", *few)
run("show", "run")
run("report", "run")

space = Small(3)
data = TensorDataset(torch.rand(8, 3, 8, 8), torch.arange(8) % 3)
evaluate = ns.study.from_scratch(Task.classification(data, data), epochs=1)
result = ns.search(space, evaluate, strategy="random", trials=2, progress=False)
explain(space, result.best(), (3, 8, 8))._repr_html_()
print(sorted(name for name in sys.modules if name.startswith(("sklearn.", "matplotlib."))))
""",
        tmp_path,
    )
    assert "no pictures: matplotlib is not installed here: pip install 'nas-space[plots]'" in told
    assert "\n[]\n" in told
    assert {"report.html", "decisions.json", "network.pt2"} <= {
        file.name for file in (tmp_path / "run").iterdir()
    }


def test_what_needs_an_extra_says_which(tmp_path: Path) -> None:
    told = printed_without_extras(
        """
from nas_space.cli import main
from nas_space.hub import NasBench201
from nas_space.report import space_picture
from nas_space.strategy import Predictor
from nas_space.training import load_data

for call in (
    lambda: load_data("digits"),
    lambda: Predictor().check(NasBench201(num_labels=10)),
    lambda: space_picture(NasBench201(num_labels=10), (3, 32, 32), "a.png"),
    lambda: main(["profile", "--plot", "a.png", "--traceback"]),
):
    try:
        call()
    except Exception as error:
        print(error)
""",
        tmp_path,
    )
    extras = re.findall(r"pip install 'nas-space\[(.*)\]'", told)
    assert extras == ["demo", "sklearn", "plots", "plots"]
