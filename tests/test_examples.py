"""The scripts of the manual run as they stand, at a small size."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "docs" / "examples"
SMALL: dict[str, dict[str, int]] = {
    "first_space": {"trials": 1, "epochs": 1},
    "own_data": {"rows": 100, "trials": 4, "epochs": 1},
    "one_shot_or_trials": {"steps": 2, "trials": 1, "epochs": 1},
    "milliseconds": {"networks": 6, "trials": 1, "epochs": 1, "repeats": 2},
}


ELSEWHERE = {"compress_minilm"}  # in tests/compression/test_tutorial.py


def test_every_script_of_the_manual_is_run() -> None:
    assert {file.stem for file in FOLDER.glob("*.py")} == set(SMALL) | ELSEWHERE


@pytest.mark.slow  # they train networks
@pytest.mark.parametrize("name", SMALL)
def test_a_script_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    script: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    results = script.main(**SMALL[name])
    for result in results if isinstance(results, tuple) else (results,):
        assert isinstance(result.network(), torch.nn.Module)
    assert capsys.readouterr().out
