"""Spaces of the hub against checks, a table: ours, NNI's modules as somebody's own, and NNI beside.

::

    python -m benchmarks.hub                 # all three
    python -m benchmarks.hub ours --slow     # strategies on every space take minutes

The checks are the tests: of the registry, of NNI's hub as migrated files, and those that run where
NNI is installed.  Of each space, how many of a check's tests passed is told, and which did not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from nas_space.hub.registry import SPACES
from tests.interop.own_hub import SPACES as OWN

ROOT = Path(__file__).parents[1]
NNI = ROOT / ".venv-nni" / "bin" / "python"
PARTS: dict[str, tuple[Path, list[str]]] = {
    "ours": (Path(sys.executable), ["tests/hub/test_registry.py"]),
    "migrated": (Path(sys.executable), ["tests/interop/test_own_hub.py"]),
    "beside NNI": (
        NNI,
        ["tests/interop/under_nni/test_hub_modules.py", "tests/interop/under_nni/test_equality.py"],
    ),
}
"""What runs the tests, and their files."""

Results = dict[str, dict[str, list[str]]]
"""By check, by space: ``'passed'``, ``'failed'`` or ``'skipped'``, a test each."""


def outcomes(python: Path, files: Iterable[str], *, slow: bool) -> Results:
    """Run tests, and return how those went that are about one space each."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        marked = [] if slow else ["-m", "not slow"]
        command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *marked, *files]
        subprocess.run(
            [*command, f"--junitxml={report}"],
            cwd=ROOT,
            # NNI keeps a list of experiments at home.
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": folder},
            stdout=subprocess.DEVNULL,
            check=False,
        )
        cases = ET.parse(report).iter("testcase")  # noqa: S314 - just written by pytest
        found: Results = defaultdict(lambda: defaultdict(list))
        for case in cases:
            check, _, of = case.get("name", "").removesuffix("]").partition("[")
            if space := space_of(of):
                kinds = [child.tag for child in case]
                bad = "failed" if {"failure", "error"} & {*kinds} else "skipped"
                found[check][space].append(bad if kinds else "passed")
        return found


def space_of(parameters: str) -> str:
    """Return the space that the parameters of a test name; empty if there is none."""
    named = (n for n in (*SPACES, *OWN) if n in (parameters, *_sides(parameters)))
    return max(named, key=len, default="")


def _sides(parameters: str) -> list[str]:
    words = parameters.split("-")
    cuts = range(1, len(words))
    return ["-".join(part) for cut in cuts for part in (words[:cut], words[cut:])]


def show(results: Results) -> bool:
    """Print a table, and return whether nothing failed."""
    spaces = list(dict.fromkeys(space for row in results.values() for space in row))
    for number, check in enumerate(results, 1):
        print(f"  {number}  {check.removeprefix('test_').replace('_', ' ')}")
    width = max(map(len, spaces), default=0)
    print(" " * width, *(f"{number:>5}" for number in range(1, len(results) + 1)))
    for space in spaces:
        cells = [_cell(row.get(space, [])) for row in results.values()]
        print(f"{space:<{width}}", *(f"{cell:>5}" for cell in cells))
    return not any("failed" in told for row in results.values() for told in row.values())


def _cell(told: list[str]) -> str:
    run = [each for each in told if each != "skipped"]
    return f"{run.count('passed')}/{len(run)}" if run else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--slow", action="store_true", help="the slow tests, too")
    arguments = parser.parse_args()
    if unknown := [part for part in arguments.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    good = True
    for part in arguments.parts or PARTS:
        python, files = PARTS[part]
        print(f"\n{part}")
        if not python.exists():
            print("  NNI is not installed: `make test` does that where it reaches a registry")
            continue
        good &= show(outcomes(python, files, slow=arguments.slow))
    sys.exit(not good)


if __name__ == "__main__":
    main()
