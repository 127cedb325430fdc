"""What ``make bench`` prints: the figures of every part, each measured by a process of its own.

::

    python -m benchmarks [trunk shell costs oneshot trials gpu]
"""

from __future__ import annotations

import argparse
import subprocess
import sys

PARTS = ["trunk", "shell", "costs", "oneshot", "trials", "gpu"]
"""Modules beside this one. Two take hours and are asked for by name: `search_quality` and
`oneshot_quality`; and `nni` is what ``make bench-nni`` runs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    chosen = parser.parse_args().parts or PARTS
    if unknown := [part for part in chosen if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    failed = []
    for part in chosen:
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{part}"], check=False)
        if done.returncode:
            failed.append(part)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
