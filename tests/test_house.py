"""What keeps the house in order: names, imports, docstrings."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import grimp
import pytest

import nas_space

ROOT = Path(nas_space.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py"))
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8")) for path in FILES}

CIRCLES = [
    # An algorithm and its run, each of which is told by the other.
    {"strategy.oneshot.algorithm", "strategy.oneshot.run"},
]
"""Groups of files that may import each other; a new one belongs here only with its reason."""


def circles() -> list[set[str]]:
    """Groups of modules that import each other, for type checkers only included."""
    graph = grimp.build_graph("nas_space", exclude_type_checking_imports=False, cache_dir=None)
    groups = {
        frozenset(graph.find_upstream_modules(name) & graph.find_downstream_modules(name)) | {name}
        for name in graph.modules
    }
    return [{n.removeprefix("nas_space.") for n in group} for group in groups if len(group) > 1]


def test_files_that_import_each_other_are_one_idea() -> None:
    assert [group for group in circles() if not any(group <= known for known in CIRCLES)] == []


def test_no_two_classes_have_one_name() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(name)
    assert {name: files for name, files in found.items() if len(files) > 1} == {}


@pytest.mark.parametrize(
    "name",
    [name for name in TREES if not name.endswith("__main__.py")],
)
def test_a_module_says_what_it_offers(name: str) -> None:
    targets = [
        target.id
        for node in TREES[name].body
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    ]
    assert "__all__" in targets or Path(name).stem.startswith("_")


def test_code_in_docstrings_has_double_backticks() -> None:
    single = re.compile(r"(?<![`:\w])`[^`\n]+`(?![`_])")
    found = [
        (name, match)
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        for match in single.findall(ast.get_docstring(node) or "")
    ]
    assert found == []


def test_functions_are_described_in_the_imperative() -> None:
    """Not in the third person, nor by a noun: "Return the ...", not "Returns ..." or "The ..."."""
    third = re.compile(
        r"(Returns|Raises|Gives|Makes|Takes|Draws|Checks|Refuses|Runs|Writes|Reads|Adds|Puts|Notes|"
        r"Says|Copies|Counts|Builds|Loads|Sets|Keeps|Calls|Follows|Measures|Splits|Trains|Searches)\b"
    )
    noun = re.compile(
        r"(The|A|An|All|Any|Arguments|As|Batches|Both|By|Called|Class|Codes|Components|Different|"
        r"Expressions|For|Gradients|How|If|Images|In|It|Its|Names|Numbers|Of|One|Parameters|Path|"
        r"Paths|Sizes|Those|To|Two|Up|Values|Weights|What|When|Where|Whether|Which|With)\b"
    )
    found = [
        (name, node.lineno, doc.splitlines()[0])
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        if (doc := ast.get_docstring(node))
        if third.match(doc) or (not _is_private_or_property(node) and noun.match(doc))
    ]
    assert found == []


def _is_private_or_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    return node.name.startswith("_") or any("property" in name for name in decorators)
