"""Runs the tests that need NNI in the environment where NNI is, and passes on what they say.

NNI 3.0 wants older versions than this project of what both use, so `make test` sets up
``.venv-nni`` for it.  Nothing is mocked there: the tests import the real package.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-nni"
FILES = sorted((Path(__file__).parent / "under_nni").glob("test_*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_passes_under_nni(path: Path, tmp_path: Path) -> None:
    run_under_nni(path, "not slow", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_hub_modules"])
def test_slow_ones_pass_under_nni(name: str, tmp_path: Path) -> None:
    run_under_nni(Path(__file__).parent / "under_nni" / f"{name}.py", "slow", tmp_path)


def run_under_nni(path: Path, marked: str, tmp_path: Path) -> None:
    if not (ENVIRONMENT / ".ready").exists():
        pytest.skip("NNI is not installed: `make test` does that where it reaches a registry")
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", marked, str(path)]
    done = subprocess.run(
        [ENVIRONMENT / "bin" / "python", *command],
        cwd=ROOT,
        # NNI keeps a list of experiments at home.
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "skipped" not in done.stdout, done.stdout
