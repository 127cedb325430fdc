"""Having NNI measured beside us, in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._measure import Spread

ROOT = Path(__file__).resolve().parents[1]


class NniMissingError(RuntimeError):
    """There is no environment with NNI to measure; the message says how to get one."""


def nni_python() -> Path:
    """The Python of NNI's environment: ``$NNI_PYTHON``, or the one in ``.venv-nni``."""
    given = os.environ.get("NNI_PYTHON")
    python = Path(given) if given else ROOT / ".venv-nni" / "bin" / "python"
    if not python.exists():
        raise NniMissingError(
            f"no NNI at {python}: set NNI_PYTHON, or make .venv-nni "
            "from benchmarks/requirements-nni.txt"
        )
    return python


def measure_nni(rows: Sequence[str], spaces: Sequence[str]) -> dict[str, Any]:
    """What ``benchmarks.nni_baseline`` finds, run now and on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "nni.json"
        command = [str(nni_python()), "-m", "benchmarks.nni_baseline", "--out", str(out)]
        command += ["--rows", *rows, "--spaces", *spaces]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"NNI could not be measured:\n{done.stderr}")
        figures: dict[str, Any] = json.loads(out.read_text())
    return figures


def spread(figure: dict[str, Any]) -> Spread:
    """A measurement out of the figures; what else was noted with it is left out."""
    return Spread(**{name: figure[name] for name in Spread.__dataclass_fields__})
