"""Whatever comes in, what comes out is right or an error of this library.

A few hundred inputs of each kind with every run of the tests, thousands with the slow ones:
``make test-slow ARGS=tests/fuzz``.  Inputs that once got through are stored as examples.  Which
inputs are drawn follows from ``FUZZ_SEED`` in the environment, 0 by default.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import operator
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis import strategies as st

import nas_space as ns
from nas_space.cli.values import amount, architecture, arguments_of, duration, shape_of
from nas_space.errors import NasSpaceError
from nas_space.profiler import LatencyTable
from nas_space.runs import open_run
from nas_space.runs.record import Record, rows_of
from nas_space.training import load_data
from tests.problems import Tiny, Various

SEED = int(os.environ.get("FUZZ_SEED", "0"))
SPACES = (Various(), Tiny())


def fuzz(few: int, many: int) -> list[Any]:
    """Parametrize a property by how often it is tried."""
    return [
        pytest.param(few, id=f"{few}"),
        pytest.param(many, id=f"{many}", marks=pytest.mark.slow),
    ]


def tried(count: int, strategy: Any, check: Callable[[Any], None], *examples: Any) -> None:
    """Run a check on stored examples, and on so many others."""

    @seed(SEED)
    @settings(
        max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(strategy)
    def run(value: Any) -> None:
        check(value)

    for each in examples:
        check(each)
    run()


class Evil:
    """Neither compares nor prints."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    def __repr__(self) -> str:
        raise RuntimeError("not printable")


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)

PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=4)
)
ODD = st.sampled_from(
    [
        torch.tensor([1, 2]), torch.tensor(8), np.array([4, 8]), np.array(8), np.int64(8),
        np.float64("nan"), "x" * 1_000_000, 10**5000, ENDLESS, Evil(), int, len, {1: 2}, {3}, 1j,
    ]
)  # fmt: skip
VALUES = st.one_of(
    PLAIN,
    ODD,
    st.sampled_from([4, 8, 16, 24, 32, 0, 1, 2, 3, 0.25, "relu", "tanh", "none", [0, 1], (2, 3)]),
    st.lists(PLAIN, max_size=3),
    st.tuples(PLAIN, PLAIN),
)
LABELS = ["width", "rate", "pick", "depth", "op0", "op1", "op2"]
ARCHITECTURES = st.dictionaries(
    st.one_of(st.sampled_from(LABELS), st.text(max_size=5), st.integers(), st.none()),
    VALUES,
    max_size=9,
)


def check_architecture(arch: Any) -> None:
    for space in SPACES:
        try:
            canonical = space.canonical(arch)
        except NasSpaceError as error:
            said = str(error)
        else:
            said = ""
        if said:
            assert len(said) < 20_000
            assert not space.contains(arch)
            continue
        assert space.contains(arch)
        assert space.canonical(canonical) == canonical
        json.dumps(canonical)
        assert space.freeze(arch).architecture == canonical


@pytest.mark.parametrize("count", fuzz(300, 10_000))
def test_architectures(count: int) -> None:
    sample: Any = Tiny().sample(seed=0)
    known: list[Any] = [
        {**sample, 0: 1},
        {**sample, (1, 2): 3},
        *({**sample, "op1": value} for value in (torch.zeros(3), Evil(), ENDLESS)),
        [1, 2], None, "width",
    ]  # fmt: skip
    near = st.builds(
        lambda seed, more: {**Various().sample(seed=seed), **more},
        st.integers(0, 50),
        st.dictionaries(st.sampled_from(LABELS), VALUES, max_size=2),
    )
    tried(count, st.one_of(ARCHITECTURES, near), check_architecture, *known)


# -- expressions and conditions -------------------------------------------------------------------

A = ns.Categorical([1, 2, 3], label="a")
B = ns.Categorical([0, 2, 5], label="b")
C = ns.Categorical([-1, 4], label="c")
SYMBOLS = {"a": A, "b": B, "c": C}
BINARY = [
    operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.truediv,
    operator.and_, operator.or_, operator.xor, operator.lshift,
]  # fmt: skip
COMPARED = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
LEAVES = st.one_of(st.sampled_from(["a", "b", "c"]), st.integers(-3, 3))
TREES = st.recursive(
    LEAVES, lambda kids: st.tuples(st.sampled_from(BINARY), kids, kids), max_leaves=7
)


def evaluated(tree: Any, names: dict[str, Any]) -> Any:
    if isinstance(tree, tuple):
        function, one, other = tree
        return function(evaluated(one, names), evaluated(other, names))
    return names[tree] if isinstance(tree, str) else tree


def every_arch() -> list[dict[str, Any]]:
    return [
        dict(zip(SYMBOLS, values, strict=True))
        for values in itertools.product((1, 2, 3), (0, 2, 5), (-1, 4))
    ]


def outcome(function: Callable[[], Any]) -> Any:
    try:
        value = function()
    except (ArithmeticError, TypeError, ValueError) as error:
        return type(error).__name__ if not isinstance(error, NasSpaceError) else "refused"
    # Python refuses to print integers of thousands of digits as decimals.
    return type(value).__name__, hex(value) if type(value) is int else repr(value)


def check_expression(tree: Any) -> None:
    built = outcome(lambda: evaluated(tree, SYMBOLS))
    if isinstance(built, str):  # a constant part, such as 1 // 0, fails for all
        found = [outcome(partial(evaluated, tree, arch)) for arch in every_arch()]
        # Another part may fail before it, for some of them.
        assert built == "refused" or all(isinstance(each, str) for each in found)
        return
    expression = evaluated(tree, SYMBOLS)
    for arch in every_arch():
        expected = outcome(partial(evaluated, tree, arch))
        found = (
            outcome(partial(expression.evaluate, arch))
            if isinstance(expression, ns.MutableExpression)
            else built
        )
        assert found == expected or "refused" in (found, expected), (tree, arch)


@pytest.mark.parametrize("count", fuzz(200, 10_000))
def test_expressions_are_what_python_computes(count: int) -> None:
    tried(
        count,
        TREES,
        check_expression,
        (operator.floordiv, "a", "b"),
        (operator.mod, "c", "b"),
        (operator.add, (operator.floordiv, "a", "b"), (operator.lshift, 0, -1)),
        (operator.lshift, "a", (operator.lshift, "a", (operator.mul, "a", "b"))),
    )


SMALL = st.recursive(
    LEAVES,
    lambda kids: st.tuples(st.sampled_from([operator.add, operator.sub, operator.mul]), kids, kids),
    max_leaves=4,
)


class Three(ns.ModelSpace):
    """Three labels, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.a = ns.Categorical([1, 2, 3], label="a")
        self.b = ns.Categorical([0, 2, 5], label="b")
        self.c = ns.Categorical([-1, 4], label="c")


THREE = Three()


def check_condition(case: Any) -> None:
    compare, one, other = case
    names = {"a": THREE.a, "b": THREE.b, "c": THREE.c}
    left, right = evaluated(one, names), evaluated(other, names)
    condition = compare(left, right)
    allowed = [
        arch for arch in every_arch() if compare(evaluated(one, arch), evaluated(other, arch))
    ]
    if isinstance(condition, bool):
        assert len(allowed) in (0, 18)
        return
    try:
        within = THREE.where(condition)
        count = within.count()
        drawn = within.sample(12, seed=0) if allowed else []
    except NasSpaceError:
        assert not allowed or len(allowed) == 18
        return
    assert count == len(allowed)
    assert all(dict(arch) in allowed for arch in drawn)


@pytest.mark.parametrize("count", fuzz(150, 5_000))
def test_conditions_are_what_brute_force_finds(count: int) -> None:
    tried(count, st.tuples(st.sampled_from(COMPARED), SMALL, SMALL), check_condition)


# -- files ----------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    ["format: nas_space.latency/1\n", "unit: ms\n", "blocks:\n", "  a: 1.0\n", "  c: true\n",
     "  d: 2020-01-01\n", "  e: !!int zzz\n", f"  f: {'9' * 400}\n", "  a: 2.0\n", "  g: .nan\n",
     "  h: -1\n", "? [x]\n: 1\n", "key,milliseconds\n", "a,1\n", "a\n", ",,,\n", "[" * 3000,
     "&a [*a]", "mean: 1\n", "{", "}", '"', "\x00", "é", "!!python/object:os.system x\n"]
)  # fmt: skip
TEXTS = st.one_of(st.lists(WORDS, max_size=9).map("".join), st.text(max_size=60))
JSONS = st.one_of(
    TEXTS,
    st.recursive(
        st.one_of(PLAIN.filter(lambda each: not isinstance(each, bytes))),
        lambda kids: st.one_of(
            st.lists(kids, max_size=3), st.dictionaries(st.sampled_from(
                ["space", "arguments", "described", "trials", "arch", "strategy", "recipe", "steps",
                 "stage", "at", "budgets", "seed", "storage", "name"]), kids, max_size=6)),
        max_leaves=8,
    ).map(json.dumps),
    st.just("[" * 100_000),
    st.just("9" * 5000),
)  # fmt: skip


def archive(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


IMAGES = archive(x=np.zeros((20, 4, 4), np.float32), y=np.arange(20) % 2)


def check_file(folder: Any, case: Any) -> None:
    kind, text = case
    content = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    run = folder / "run"
    run.mkdir(exist_ok=True)
    names: dict[str, Callable[[Any], Any]] = {
        "latency.yaml": LatencyTable.read,
        "latency.csv": LatencyTable.read,
        "arch.json": architecture,
        "metrics.jsonl": lambda path: (rows_of(path), Record(path)),
        "run.json": lambda path: _looked_at(path.parent),
        "images.npz": lambda path: load_data(str(path)),
    }
    path = (run if kind == "run.json" else folder) / kind
    path.write_bytes(content)
    with contextlib.suppress(NasSpaceError):
        names[kind](path)
    assert {each.name for each in folder.iterdir()} <= {*names, "run"}


def _looked_at(folder: Any) -> None:
    run = open_run(folder)
    _ = run.trials, run.strategy, run.space_name, run.state, run.steps
    run.make_space()


def flipped(place: int, bit: int) -> bytes:
    changed = bytearray(IMAGES)
    changed[place % len(changed)] ^= 1 << bit
    return bytes(changed)


@pytest.mark.parametrize("count", fuzz(300, 5_000))
def test_files(count: int, tmp_path: Any) -> None:
    cases = st.one_of(
        st.tuples(st.sampled_from(["latency.yaml", "latency.csv"]), TEXTS),
        st.tuples(st.sampled_from(["arch.json", "metrics.jsonl", "run.json"]), JSONS),
        st.tuples(st.just("metrics.jsonl"), JSONS.map(lambda text: text + "\n")),
        st.tuples(st.just("images.npz"), st.builds(flipped, st.integers(0), st.integers(0, 7))),
        st.tuples(st.just("images.npz"), st.binary(max_size=50)),
    )
    tried(
        count, cases, partial(check_file, tmp_path), ("run.json", '{"space": "evil:Space"}'),
        ("run.json", '{"trials": "many"}'), ("metrics.jsonl", '{"stage": "a", "at": []}\n'),
    )  # fmt: skip


def test_a_small_archive_that_is_very_large_is_refused(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("nas_space.training.data._INFLATED", 1_000_000)
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, x=np.zeros((4000, 32, 32), np.float32), y=np.arange(4000) % 2)
    with pytest.raises(NasSpaceError, match="GB of memory"):
        load_data(str(path))


# -- the command line -----------------------------------------------------------------------------


@example("1e400")
@example("9" * 5000)
@example("a=" + "[" * 100_000)
@example("a=" + "9" * 5000)
@seed(SEED)
@settings(max_examples=200, deadline=None, database=None)
@given(st.one_of(st.text(max_size=20), st.from_regex(r"[0-9.]+(e[0-9]{1,3})?[kKmMgGs ]{0,3}")))
def test_values_of_options(text: str) -> None:
    readers: list[Callable[[str], Any]] = [
        amount, duration, shape_of, lambda value: arguments_of([value]),
    ]  # fmt: skip
    for read in readers:
        with contextlib.suppress(NasSpaceError):
            found = read(text)
            assert found != float("inf")


def test_a_module_that_a_file_names_is_not_imported_before_it_is_trusted(
    tmp_path: Any, monkeypatch: Any
) -> None:
    from nas_space.cli import main

    (tmp_path / "evil_module.py").write_text("open('was_run', 'w').close()\nclass Net: pass\n")
    (tmp_path / "arch.json").write_text(json.dumps({"space": "evil_module:Net", "arch": {}}))
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text(
        json.dumps({"space": "evil_module:Net", "arguments": {}, "described": {}, "trials": 3})
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for command in (["freeze", "arch.json"], ["report", "run"], ["show", "run"]):
        with contextlib.suppress(SystemExit, NasSpaceError):
            main(command)
        assert not (tmp_path / "was_run").exists()
    with contextlib.suppress(SystemExit, NasSpaceError):
        main(["freeze", "arch.json", "--trust"])
    assert (tmp_path / "was_run").exists()


def test_what_lies_in_the_folder_takes_the_place_of_nothing_that_is_installed(
    tmp_path: Any,
) -> None:
    """A folder that somebody has downloaded is looked at from within."""
    for name in ("yaml", "optuna", "sqlite3", "torch", "json", "nas_space_extra"):
        (tmp_path / f"{name}.py").write_text("open('was_run', 'a').write(__name__)\n")
    (tmp_path / "arch.json").write_text(json.dumps({"space": "nas_space_extra:Net", "arch": {}}))
    script = "from nas_space.cli import main; import sys; sys.path.remove(''); main()"
    for command in (["runs", "."], ["freeze", "arch.json"], ["show", "."]):
        subprocess.run([sys.executable, "-c", script, *command], cwd=tmp_path, check=False)
    assert not (tmp_path / "was_run").exists()


def test_lists_within_lists_of_any_depth() -> None:
    nested = within(ns.Categorical([1, 2], label="a"), 100)
    found = nested.freeze({"a": 2})
    for _ in range(100):
        [found] = found
    assert found == 2
    with pytest.raises(NasSpaceError, match="deep"):
        within(nested, 1000)


def within(mutable: Any, depth: int) -> Any:
    """Return a mutable within so many lists."""
    for _ in range(depth):
        mutable = ns.MutableList([mutable])
    return mutable
