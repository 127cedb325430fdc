"""What programs print, however the process that runs them hashes text."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


def printed_under(program: str, seeds: Sequence[int] = (1, 2)) -> set[str]:
    """Return the different things that a program prints under some hash seeds."""
    found = set()
    for seed in seeds:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    return found
