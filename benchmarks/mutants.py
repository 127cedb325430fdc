"""Change one place of the code at a time, and see whether a test notices.

::

    make mutants ARGS="--count 300 --seed 0 --jobs 2"

A mutant is a file with one operator, constant, condition or loop changed by cosmic-ray.  First the
doctests and tests of all layers that are not slow run once, unchanged, under coverage, which keeps
the lines that each test runs and how long it takes.  A mutant is then tried, in a copy of the tree
in a temporary folder, by the tests of any layer that run the changed statement, the quickest first,
until one fails: what never runs a statement cannot notice that it changed.  What is run when a
module is imported is tried by the tests that run anything of its file, and what is run while the
tests of a file are collected, such as what they are parametrized by, by these.  (A test that found
in a cache what an earlier one left there is not seen to run what made it.  So a survivor may be
none, but no survivor is missed.)

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
import multiprocessing
import os
import queue
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import ChainMap, Counter
from collections.abc import Generator, Iterable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import cache
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from coverage import Coverage, CoverageData

ROOT = Path(__file__).parents[1]
LAYERS = {
    "nas_space/mutable": "tests/mutable",
    "nas_space/tables": "tests/tables",
    "nas_space/nn": "tests/nn",
    "nas_space/nn/decisions": "tests/oneshot",
    "nas_space/strategy/oneshot": "tests/oneshot",
}
"""What is changed, and the tests that should notice."""
PATIENCE = 60
"""Seconds of the processor that a test may take beyond ten times what it took unchanged."""

FORKS = multiprocessing.get_context("forkserver")  # each begins with torch imported, none with us
FORKS.set_forkserver_preload(
    ["torch", "lightning_fabric", "optuna", "scipy.stats", "hypothesis", __name__]
)


class Mutant(NamedTuple):
    """A file of the repository with one change."""

    file: str
    operator: str
    before: str
    source: str

    @property
    def key(self) -> str:
        """Where the outcome is kept; another one as soon as the file is edited."""
        return hashlib.sha256(f"{self.file}\n{self.source}".encode()).hexdigest()[:16]

    def __str__(self) -> str:
        before, after = self.before.splitlines(), self.source.splitlines()
        return "\n".join(difflib.unified_diff(before, after, self.file, self.operator, lineterm=""))

    def statement(self) -> set[int] | None:
        """The lines of what differs, without statements in it; ``None`` if an import runs it."""
        pairs = zip_longest(self.before.splitlines(), self.source.splitlines())
        line = next(number for number, (one, two) in enumerate(pairs, 1) if one != two)
        around = [n for n in ast.walk(ast.parse(self.before)) if isinstance(n, ast.stmt)]
        around = sorted((n for n in around if line in _lines(n)), key=lambda n: len(_lines(n)))
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        if not any(isinstance(node, functions) for node in around[1:]):
            return None
        within = [n for n in ast.walk(around[0]) if isinstance(n, ast.stmt) and n is not around[0]]
        return _lines(around[0]).difference(*map(_lines, within)) | {line}


def _lines(statement: ast.stmt) -> set[int]:
    decorators = getattr(statement, "decorator_list", ())
    first = min([statement.lineno, *(decorator.lineno for decorator in decorators)])
    return set(range(first, (statement.end_lineno or first) + 1))


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
            mutant = Mutant(str(file.relative_to(root)), operator, sources[file], changed)
            if _meaning(changed) != _meaning(sources[file]) and mutant.key not in seen:
                seen.add(mutant.key)
                yield mutant


class Suite:
    """What folders of tests run: which lines each test, and for how many seconds.

    ``kept`` is where coverage left the lines of each folder, beside a table of seconds.
    """

    def __init__(self, kept: Sequence[Path]) -> None:
        self.data = [CoverageData(str(file)) for file in kept]
        for data in self.data:
            data.read()
        tables = [json.loads(file.with_suffix(".json").read_text()) for file in kept]
        self.seconds: dict[str, float] = dict(ChainMap(*tables))

    @classmethod
    def measured(cls, root: Path, folders: Iterable[str], out: Path) -> Suite:
        """Run folders of tests under coverage, unless what they and all layers run is kept.

        Raises
        ------
        SystemExit
            If one fails: tests that fail anyway would kill whatever is tried.
        """
        layers = [layer for layer in LAYERS if (root / layer).exists()]
        return cls([_measured(root, folder, layers, out) for folder in sorted(folders)])

    def covering(self, mutant: Mutant) -> dict[str, float]:
        """The tests that run the changed statement, and for how long, the quickest first."""
        by_line: dict[int, set[str]] = {}
        for data in self.data:
            for line, tests in data.contexts_by_lineno(mutant.file).items():
                by_line.setdefault(line, set()).update(tests)
        names = {name for line in mutant.statement() or () for name in by_line.get(line, ())}
        chosen = self.seconds.keys() & names
        collected = {name for name in names if "::" not in name}
        if mutant.statement() is None or collected:
            chosen |= self.seconds.keys() & set().union(*by_line.values())
            chosen |= {name for name in self.seconds if name.partition("::")[0] in collected}
        quickest = sorted(chosen, key=lambda name: (name not in names, self.seconds[name]))
        return {name: self.seconds[name] for name in quickest}


def _measured(root: Path, folder: str, layers: Sequence[str], out: Path) -> Path:
    """Where coverage left what a folder of tests, and the doctests that it tests, run of layers."""
    files = sorted(file for name in [*layers, folder] for file in (root / name).rglob("*.py"))
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    kept = out / f"{Path(folder).name}-{digest}.coverage"
    if not kept.with_suffix(".json").exists():
        kept.unlink(missing_ok=True)
        tested = [layer for layer in layers if LAYERS[layer] == folder]
        code, said = _in_a_fork(root, [*tested, folder], _Watch(kept, layers))
        if code:
            sys.exit(f"{folder} fails without a change: {_failed(said)}")
    return kept


class _Watch:
    """In pytest: notes which lines each test runs, and how long it takes."""

    def __init__(self, kept: Path, folders: Sequence[str]) -> None:
        self.kept, self.folders = kept, folders
        self.seconds: dict[str, float] = {}

    def pytest_sessionstart(self) -> None:
        self.coverage = Coverage(data_file=str(self.kept), config_file=False, source=self.folders)
        self.coverage.set_option("run:relative_files", True)
        self.coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Generator[None, Any, Any]:
        self.coverage.switch_context(collector.nodeid.partition("::")[0])
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        self.coverage.switch_context(item.nodeid)
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        spent = self.seconds.get(report.nodeid, 0.0)
        self.seconds[report.nodeid] = spent + report.duration

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self.coverage.stop()
        if not exitstatus:
            self.coverage.save()
            self.kept.with_suffix(".json").write_text(json.dumps(self.seconds))


class _Pick:
    """In pytest: runs these tests in this order, and ends the process if one takes far too long.

    Those of unknown names come last: a test may be called after what the change made otherwise.
    """

    def __init__(self, seconds: dict[str, float], known: Set[str], patience: int) -> None:
        self.seconds, self.known, self.patience = seconds, {*known}, patience

    def _limit(self, seconds: float) -> None:
        """End the process by a signal after so much work, or after ten times that on the wall."""
        signal.setitimer(signal.ITIMER_PROF, self.patience + seconds)
        signal.setitimer(signal.ITIMER_REAL, 10 * (self.patience + seconds))

    def pytest_sessionstart(self) -> None:
        self._limit(0)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        found = {item.nodeid: item for item in items}
        chosen = [found[name] for name in self.seconds if name in found]
        items[:] = chosen + [item for name, item in found.items() if name not in self.known]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        self._limit(10 * self.seconds.get(item.nodeid, 0))
        return (yield)


def _run(root: Path, names: Sequence[str], plugin: object, said: Path) -> None:
    """Run pytest in this process, as that of a copy of the tree."""
    os.setsid()  # what it starts ends with it
    os.chdir(root)
    sys.path[:] = [str(root), *(path for path in sys.path if path not in {"", str(ROOT)})]
    for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
        del sys.modules[name]
    os.environ.update(PYTHONPATH=str(root), CI="1", OMP_NUM_THREADS="1")
    # Bytecode is known by the second in which its file was written: two mutants may share one.
    sys.dont_write_bytecode = isinstance(plugin, _Pick)
    options = ["-xqm", "not slow", "-p", "no:cacheprovider"]
    with said.open("w") as file, redirect_stdout(file), redirect_stderr(file):
        code = pytest.main([*options, *names], plugins=[plugin])
    os._exit(code)


def _in_a_fork(root: Path, names: Sequence[str], plugin: object) -> tuple[int, str]:
    """Return pytest's exit code, negative if a signal ended it, and what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder, "said")
        process = FORKS.Process(target=_run, args=(root, names, plugin, said))
        process.start()
        process.join()
        with suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        return process.exitcode or 0, said.read_text() if said.exists() else ""


def tried(mutant: Mutant, suite: Suite, copy: Path) -> Outcome:
    """Run what covers a mutant in a copy of the tree, which is as before afterwards."""
    chosen, began = suite.covering(mutant), time.monotonic()
    if not chosen:
        return Outcome("survived", 0.0, "no test runs it")
    file = copy / mutant.file
    times = file.stat()
    file.write_text(mutant.source)
    try:
        names = dict.fromkeys(name.partition("::")[0] for name in chosen)
        code, said = _in_a_fork(copy, [*names], _Pick(chosen, suite.seconds.keys(), PATIENCE))
    finally:
        file.write_text(mutant.before)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    whats = {0: "survived", int(pytest.ExitCode.NO_TESTS_COLLECTED): "survived"}
    whats |= {-signal.SIGPROF: "timeout", -signal.SIGALRM: "timeout"}
    return Outcome(whats.get(code, "killed"), time.monotonic() - began, _failed(said))


def _failed(said: str) -> str:
    lines = [line for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return lines[0] if lines else said[-300:]


def tried_all(
    drawn: Iterable[Mutant],
    suite: Suite,
    copies: Sequence[Path],
    given: argparse.Namespace,
) -> list[tuple[Mutant, Outcome]]:
    """Try each in one of the copies as soon as it is drawn, unless its outcome is kept."""
    free: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for copy in copies:
        free.put(copy)

    def outcome_of(mutant: Mutant) -> tuple[Mutant, Outcome]:
        file = given.out / f"{mutant.key}.json"
        if file.exists():
            kept = Outcome(**json.loads(file.read_text())["outcome"])
            if kept.what == "killed" or not given.again:
                return mutant, kept
        copy = free.get()
        outcome = tried(mutant, suite, copy)
        free.put(copy)
        file.write_text(json.dumps({"mutant": str(mutant), "outcome": outcome._asdict()}))
        print(
            f"{outcome.what} after {outcome.seconds:.0f} s: {mutant.file}, {outcome.said}",
            flush=True,
        )
        return mutant, outcome

    with ThreadPoolExecutor(len(copies)) as pool:
        return [*pool.map(outcome_of, drawn)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=300, help="how many mutants (300)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (0)")
    parser.add_argument("--only", nargs="+", default=[*LAYERS], choices=[*LAYERS], metavar="FOLDER")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time (1)")
    parser.add_argument("--again", action="store_true", help="try survivors again")
    parser.add_argument("--out", type=Path, default=Path("runs/mutants"), help="what is kept")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        first, *others = [Path(folder, str(job)) for job in range(given.jobs)]
        for name in ("nas_space", "tests", "benchmarks", "docs"):
            shutil.copytree(ROOT / name, first / name)
        for file in filter(Path.is_file, ROOT.iterdir()):
            shutil.copy2(file, first)
        suite = Suite.measured(first, {*LAYERS.values()}, given.out.resolve())
        for copy in others:  # with the bytecode that those left
            shutil.copytree(first, copy)
        drawn = islice(mutants(first, given.only, given.seed), given.count)
        outcomes = tried_all(drawn, suite, [first, *others], given)
        for mutant, outcome in outcomes:
            if outcome.what != "killed":
                print(f"\n{outcome.what}: {outcome.said}\n{mutant}")
    print(f"\n{len(outcomes)} mutants: {dict(Counter(each.what for _, each in outcomes))}")


if __name__ == "__main__":
    main()
