"""Change one place of the code at a time, and see whether a test notices.

::

    make mutants ARGS="--count 300 --seed 0 --jobs 2"

A mutant is a file with one operator, constant, condition or loop changed by cosmic-ray.  Each is
tried in a copy of the tree in a temporary folder, by its file's doctests and those tests of its
layer that are not slow, until one fails; those that name most of what the file defines come first.
What came out is kept, a file per mutant, so that the command goes on where it was stopped, and a
larger ``--count`` tries those of a smaller one first.  Hypothesis draws the same examples each
time, as in CI.  A survivor is printed as a diff: a missing test, or a change that nobody can see.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import hashlib
import json
import os
import queue
import random
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from cosmic_ray.testing import run_tests

ROOT = Path(__file__).parents[1]
LAYERS = {
    "nas_space/mutable": "tests/mutable",
    "nas_space/tables": "tests/tables",
    "nas_space/nn": "tests/nn",
    "nas_space/nn/decisions": "tests/oneshot",
    "nas_space/strategy/oneshot": "tests/oneshot",
}
"""What is changed, and the tests that should notice."""


class Mutant(NamedTuple):
    """A file of the repository with one change; without a change, a check of the tests."""

    file: str
    operator: str
    source: str

    @property
    def key(self) -> str:
        """Where the outcome is kept; another one as soon as the file is edited."""
        return hashlib.sha256(f"{self.file}\n{self.source}".encode()).hexdigest()[:16]

    def diff(self) -> str:
        before, after = (ROOT / self.file).read_text().splitlines(), self.source.splitlines()
        return "\n".join(difflib.unified_diff(before, after, self.file, self.operator, lineterm=""))


class Outcome(NamedTuple):
    """Killed, survived, or timeout; after how long; and the first test that failed."""

    what: str
    seconds: float
    said: str


def _meaning(source: str) -> str:
    """The syntax without annotations: by the import from ``__future__``, nobody evaluates them."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for name in {"annotation", "returns"} & set(node._fields):
            setattr(node, name, None)
    return ast.dump(tree)


@cache
def _changes(source: str) -> list[list[tuple[str, int]]]:
    """For each place that can be changed: the operators, and how many places of theirs precede."""
    nodes = [*ast_nodes(get_ast(source))]
    found: dict[Any, list[tuple[str, int]]] = {}
    for name in operator_names():
        operator = get_operator(name)
        if not operator.arguments():  # others want names of variables
            places = [place for node in nodes for place in operator().mutation_positions(node)]
            for occurrence, place in enumerate(places):
                found.setdefault(place, []).append((name, occurrence))
    return [found[place] for place in sorted(found)]


def mutants(root: Path, folders: Sequence[str], seed: int) -> Iterator[Mutant]:
    """Draw mutants without end: a file by its length, a place in it, a change of that place.

    Places come before changes, as a sum can become many things, and a loop only an empty one.
    """
    rng = random.Random(seed)
    files = sorted({file for folder in folders for file in (root / folder).rglob("*.py")})
    sources = {file: file.read_text() for file in files}
    seen = set()
    while True:
        file = rng.choices(files, [len(sources[file]) for file in files])[0]
        if not (places := _changes(sources[file])):
            continue
        operator, occurrence = rng.choice(rng.choice(places))
        changed = mutate_code(sources[file], get_operator(operator)(), occurrence)
        with suppress(SyntaxError):
            mutant = Mutant(str(file.relative_to(root)), operator, changed)
            if _meaning(changed) != _meaning(sources[file]) and mutant.key not in seen:
                seen.add(mutant.key)
                yield mutant


def likeliest_tests(root: Path, file: str) -> list[str]:
    """The file, for its doctests, and the tests of its layer, the likeliest to notice first."""
    layer = max((layer for layer in LAYERS if file.startswith(f"{layer}/")), key=len)
    tests = sorted((root / LAYERS[layer]).glob("test_*.py"))
    words = {test: set(re.findall(r"\w+", test.read_text())) for test in tests}
    often = Counter(word for each in words.values() for word in each)
    names = set(re.findall(r"(?:def|class) (\w+)", (root / file).read_text()))
    score = {test: sum(1 / often[name] for name in names & words[test]) for test in tests}
    ordered = sorted(tests, key=lambda test: (Path(file).stem not in test.stem, -score[test]))
    return [file, *(str(test.relative_to(root)) for test in ordered)]


def tried(mutant: Mutant, copy: Path, timeout: float) -> Outcome:
    """Run the tests of a mutant in a copy of the tree, which is as before afterwards."""
    file, began = copy / mutant.file, time.monotonic()
    # With bytecode: it is stored with the time of its file, which is given back below.
    command = [
        "env",
        "-C",
        str(copy),
        "-u",
        "PYTHONDONTWRITEBYTECODE",
        f"PYTHONPATH={copy}",
        "CI=1",
    ]
    command += ["OMP_NUM_THREADS=1", sys.executable, "-m", "pytest", "-xqm", "not slow"]
    command += ["-p", "no:cacheprovider", *likeliest_tests(copy, mutant.file)]
    original, times = file.read_text(), file.stat()
    file.write_text(mutant.source)
    try:
        result, said = run_tests(shlex.join(command), timeout)
    finally:
        file.write_text(original)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    failed = [line for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))]
    what = said if said == "timeout" else result.value
    return Outcome(what, time.monotonic() - began, failed[0] if failed else said[-300:])


def tried_all(drawn: Sequence[Mutant], given: argparse.Namespace) -> list[Outcome]:
    """Try each in one of as many copies as there are jobs, unless its outcome is kept."""
    copies: queue.SimpleQueue[Path] = queue.SimpleQueue()

    def outcome_of(mutant: Mutant) -> Outcome:
        file = given.out / f"{mutant.key}.json"
        if file.exists():
            kept = Outcome(**json.loads(file.read_text())["outcome"])
            if kept.what == "killed" or not given.again:
                return kept
        copy = copies.get()
        outcome = tried(mutant, copy, given.timeout)
        copies.put(copy)
        file.write_text(json.dumps({"mutant": mutant.diff(), "outcome": outcome._asdict()}))
        print(f"{outcome.what} after {outcome.seconds:.0f} s: {mutant.file}, {outcome.said}")
        return outcome

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(given.jobs) as pool:
        for job in range(given.jobs):
            copy = Path(folder, str(job))
            for name in ("nas_space", "tests", "benchmarks", "docs"):
                shutil.copytree(ROOT / name, copy / name)
            for file in filter(Path.is_file, ROOT.iterdir()):
                shutil.copy2(file, copy)
            copies.put(copy)
        return [*pool.map(outcome_of, drawn)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=300, help="how many mutants (300)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (0)")
    parser.add_argument("--only", nargs="+", default=[*LAYERS], choices=[*LAYERS], metavar="FOLDER")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time (1)")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one mutant (900)")
    parser.add_argument("--again", action="store_true", help="try survivors again")
    parser.add_argument("--out", type=Path, default=Path("runs/mutants"), help="what is kept")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    # Tests that fail anyway would kill whatever is tried.
    files = [f"{layer}/__init__.py" for layer in given.only]
    unchanged = [Mutant(file, "unchanged", (ROOT / file).read_text()) for file in files]
    for mutant, outcome in zip(unchanged, tried_all(unchanged, given), strict=True):
        if outcome.what != "survived":
            (given.out / f"{mutant.key}.json").unlink()
            sys.exit(f"the tests of {mutant.file} fail without a change: {outcome.said}")
    drawn = [*islice(mutants(ROOT, given.only, given.seed), given.count)]
    outcomes = tried_all(drawn, given)
    for mutant, outcome in zip(drawn, outcomes, strict=True):
        if outcome.what != "killed":
            print(f"\n{outcome.what}\n{mutant.diff()}")
    print(f"\n{len(drawn)} mutants: {dict(Counter(each.what for each in outcomes))}")


if __name__ == "__main__":
    main()
