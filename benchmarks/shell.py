"""How much processor time the shell takes, beside what it takes to import torch.

    python -m benchmarks.shell [--rounds 5]

Whole processes take turns; of each the median is printed, and its ratio to ``import torch``. What
needs no torch is to take 0.6 seconds at most, all other commands 0.5 more than torch's import.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

TORCH = "import torch"


def commands(folder: Path) -> dict[str, list[str]]:
    """What is measured, by its name in the table, in a folder with a search of few trials."""
    arch = folder / "arch.json"
    sampled = subprocess.run([*SHELL, "sample", "--seed", "0"], capture_output=True, check=True)
    arch.write_bytes(sampled.stdout)
    small = ["--arg", "width_mult=0.25", "--strategy", "random", "--trials", "2", "--epochs", "1"]
    run = folder / "run"
    subprocess.run(
        [*SHELL, "search", *small, "--final-epochs", "1", "--out", str(run), "--quiet"],
        capture_output=True, check=True,
    )  # fmt: skip
    frozen = ["freeze", str(arch), "--out", str(folder / "network")]
    asked = [
        ["--version"], ["--help"], ["spaces"], ["runs", str(folder)], ["show", str(run)],
        ["report", str(run)], ["sample"], ["sample", "--max-macs", "300M"], frozen,
        [*frozen, "--program"], ["profile"],
    ]  # fmt: skip
    found = {TORCH: [sys.executable, "-c", TORCH]}
    for given in asked:
        told = [word for word in given if not word.startswith(str(folder)) and word != "--out"]
        found[" ".join(told)] = [*SHELL, *given]
    return found


SHELL = [sys.executable, "-m", "nas_space"]


def seconds(command: list[str]) -> float:
    """Return the processor time of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        asked = commands(Path(folder))
        taken: dict[str, list[float]] = {name: [] for name in asked}
        for _ in range(rounds):
            for name, command in asked.items():
                taken[name].append(seconds(command))
        print(json.dumps(taken), file=sys.stderr)
    torch = median(taken[TORCH])
    print("| command | seconds | of torch's import | beyond it |\n|---|---|---|---|")
    for name, times in taken.items():
        spent = median(times)
        print(f"| `{name}` | {spent:.2f} | {spent / torch:.2f} | {spent - torch:+.2f} |")


if __name__ == "__main__":
    main()
