"""Moving code written for NNI 3.0 here: its imports, and a report of what they do not cover.

Only import statements are rewritten, so a file stays what it was in every other line.
"""

from __future__ import annotations

import ast
import difflib
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import UsageError
from .experiments import experiment_lines
from .names import Target, advice, find, homes, is_module, is_nni, offers
from .star_imports import StarImports

__all__ = ["Finding", "Migration", "migrate", "migrate_file", "package_of"]

OVERRIDDEN = {
    "create_fixed_module": "networks are cloned out of the space; freeze_module(freezer) is what a "
    "primitive of one's own may say",
    "should_invoke_fixed_module": "nothing is invoked; leave it out",
    "extra_oneshot_hooks": "a space is its own supernet; leave it out",
    "_shape_forward": "nas_space.profiler follows forward itself; leave it out",
}
"""Methods that NNI calls and this library does not."""

_FOLLOWS = (
    "it follows here from structure() and freeze_values(values), for validation, drawing and "
    "counting alike: implement these, or declare a Constraint with space.require(...)"
)
DERIVED = {"check_contains": _FOLLOWS, "leaf_mutables": _FOLLOWS}
"""Methods that are called here, but that say nothing unless they are a constraint's."""


@dataclass(frozen=True)
class Finding:
    """Something that is left for its author to do.

    Attributes
    ----------
    line
        Where it is, from 1.
    what
        What is there.
    instead
        What to write.
    """

    line: int
    what: str
    instead: str

    def __str__(self) -> str:
        return f"{self.line}: {self.what}; {self.instead}"


@dataclass
class Migration:
    """A file before and after, and what is left to do.

    Attributes
    ----------
    source, text
        What was written, and what takes its place.
    encoding
        Of the file.
    findings
        What no import covers, by line.
    """

    source: str
    text: str = ""
    encoding: str = "utf-8"
    findings: list[Finding] = field(default_factory=list)

    def diff(self, name: str) -> str:
        """Return the change as a unified diff; empty if there is none."""
        before, after = (text.splitlines(keepends=True) for text in (self.source, self.text))
        return "".join(difflib.unified_diff(before, after, name, f"{name} (migrated)"))


def migrate(source: str, package: str = "") -> Migration:
    r"""Return the source of a module with NNI's imports replaced.

    Parameters
    ----------
    source
        Python, as NNI's users write it.
    package
        The package that the module is in, to tell what relative imports mean: those of NNI's
        own files are replaced, too.

    Returns
    -------
    Migration
        The new text, and what no import covers: names without a counterpart, whose imports
        stay; methods that nothing calls here; residuals decided by ``is``.

    Raises
    ------
    UsageError
        If it is not Python.

    Examples
    --------
    >>> done = migrate(
    ...     "import nni\nfrom nni.nas.space import model_context\nw = nni.choice('w', [1, 2])\n"
    ... )
    >>> print(done.text, end="")
    import nas_space as nni
    from nas_space.interop.nni_compat import model_context
    w = nni.choice('w', [1, 2])
    >>> print(migrate("from nni.nas.experiment import NasExperiment\n").findings[0].what)
    nni.nas.experiment.NasExperiment has no counterpart
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise UsageError(f"this is not Python: {error}") from error
    done = Migration(source)
    lines = re.findall(r".*?(?:\r\n|\r|\n)|.+", source, re.DOTALL)  # the lines that Python counts
    # From the last import to the first, so that the numbers of the lines above stay true. All else
    # stays as it is: layout, comments and ends of lines are the author's.
    imports, kinds = _Imports(tree, package), (ast.Import, ast.ImportFrom)
    for node in reversed([node for node in ast.walk(tree) if isinstance(node, kinds)]):
        written = imports.rewritten(node)
        if written is not None:
            start, end = node.lineno - 1, node.end_lineno or node.lineno
            before = lines[start].encode()[: node.col_offset].decode()  # ast counts bytes
            after = lines[end - 1].encode()[node.end_col_offset :].decode()
            lines[start:end] = [_laid_out(written, before, after)]
    done.text = "".join(lines)
    written_out = experiment_lines(tree)
    done.findings = [_with_lines(finding, written_out) for finding in imports.findings]
    done.findings += _questionable(tree)
    done.findings = sorted(dict.fromkeys(done.findings), key=lambda finding: finding.line)
    return done


def _with_lines(finding: Finding, lines: dict[str, str]) -> Finding:
    """Return a finding about one of NNI's names with the lines to write, if there are such."""
    name = finding.what.split()[0].rpartition(".")[2]
    return replace(finding, instead=lines.get(name, finding.instead))


def migrate_file(path: Path) -> Migration:
    """Apply :func:`migrate` to a file, which stays as it is.

    Raises
    ------
    UsageError
        If it cannot be read, or is not Python.
    """
    try:
        with path.open("rb") as file:
            encoding, _ = tokenize.detect_encoding(file.readline)
        source = path.read_bytes().decode(encoding)
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    try:
        done = migrate(source, package_of(path))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    done.encoding = encoding
    return done


def package_of(path: Path) -> str:
    """Return the package that a file is in, by the ``__init__.py`` beside and above it."""
    names: list[str] = []
    folder = path.resolve().parent
    while (folder / "__init__.py").exists() or (folder.name == "nni" and names):
        names.insert(0, folder.name)
        folder = folder.parent
    return ".".join(names)


def _laid_out(statements: list[str], before: str, after: str) -> str:
    """Return statements between what stands before and after them in their line."""
    if before.strip() or after.lstrip().startswith(";"):  # they share it with others
        return before + "; ".join(statements) + after
    newline = "\r\n" if after.endswith("\r\n") else "\n"
    rows = [row for statement in statements for row in _wrapped(statement)]
    return newline.join(before + row for row in rows) + after


def _wrapped(statement: str) -> list[str]:
    """Return a statement in rows, one for each name where it is too long for one row."""
    head, _, names = statement.partition(" import ")
    if len(statement) <= 100 or not head.startswith("from "):
        return [statement]
    return [f"{head} import (", *(f"    {name}," for name in names.split(", ")), ")"]


@dataclass
class _Imports:
    """The imports of a file, and what is found while they are rewritten.

    Attributes
    ----------
    tree
        The file.
    package
        The one it is in.
    findings
        What no import covers, as far as they are rewritten.
    """

    tree: ast.Module
    package: str
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.uses = list(_uses(self.tree))
        self.stars = StarImports(self.tree)

    def found(self, line: int, what: str, instead: str) -> None:
        """Leave something for the author to do."""
        self.findings.append(Finding(line, what, instead))

    def rewritten(self, node: ast.Import | ast.ImportFrom) -> list[str] | None:
        """Return the statements that take the place of an import; ``None`` if it stays."""
        if isinstance(node, ast.Import):
            return self.plain(node)
        module = node.module or ""
        if node.level:
            parts = self.package.split(".") if self.package else []
            above = parts[: len(parts) - node.level + 1]
            module = ".".join([*above, *([module] if module else [])])
        if not is_nni(module):
            return None
        by_home: dict[str, list[str]] = {}
        kept = []
        for alias in node.names:
            moved = self.moved(node, module, alias)
            if moved is None:
                kept.append(alias)
            for home, name in moved or []:
                if name not in by_home.setdefault(home, []):
                    by_home[home].append(name)
        written = [text for home, names in sorted(by_home.items()) for text in _from(home, names)]
        if not written:
            return None
        if kept:
            stays = "." * node.level + (node.module or "")
            written += _from(stays, [ast.unparse(alias) for alias in kept])
        return written

    def moved(
        self, node: ast.ImportFrom, module: str, alias: ast.alias
    ) -> list[tuple[str, str]] | None:
        """Return from where what takes one name's place is imported; ``None`` if it stays."""
        if is_module(f"{module}.{alias.name}"):
            whole = ast.alias(f"{module}.{alias.name}", alias.asname or alias.name)
            new = self.whole_module(whole, alias.lineno)
            return None if new is None else [("", new)]
        target = find(module, alias.name)
        if target is None:
            what = f"{module}.{alias.name} has no counterpart"
            self.found(alias.lineno, what, advice(module, alias.name))
            return None
        if alias.name == "*":
            return self.star(node, module, target.module)
        return [(target.module, _as(target, alias))]

    def star(self, node: ast.ImportFrom, module: str, home: str) -> list[tuple[str, str]] | None:
        """Return what takes the place of a star import, where nothing is lost by that."""
        lost = self.stars.lost(node, module, home)
        if lost:
            self.findings += [Finding(*each) for each in lost]
            return None
        others = [(find(module, name), name) for name in self.stars.elsewhere(module, home)]
        more = [(found.module, _as(found, ast.alias(name))) for found, name in others if found]
        return [(home, "*"), *more]

    def plain(self, node: ast.Import) -> list[str] | None:
        """Return the statements that take the place of ``import a, b``."""
        before = [ast.unparse(alias) for alias in node.names]
        after = [
            (self.whole_module(alias, alias.lineno) if is_nni(alias.name) else None) or text
            for alias, text in zip(node.names, before, strict=True)
        ]
        return None if after == before else _from("", list(dict.fromkeys(after)))

    def whole_module(self, alias: ast.alias, line: int) -> str | None:
        """Return what takes the place of ``nni...``, under a name of its own or as ``nni``.

        What the file reads through it must be there; where only some is, the rest is reported.
        """
        module = alias.name if alias.asname else "nni"
        bound = alias.asname or "nni"
        read = [
            (line, chain, *_place(module, chain.removeprefix(f"{bound}.")))
            for line, chain in self.uses
            if chain.startswith(f"{bound}.")
        ]

        def is_reached(home: str, chain: str, inner: str, name: str) -> bool:
            # The name is written out in the code, so what it leads to must be called the same.
            found = find(inner, name)
            if found is None or found.name != name:
                return False
            return _same_chain(chain) if bound == "nni" else offers(home, name)

        # One module takes the place of the alias: the one with most of what is read through it.
        # What is left over is reported where it is read, and not where it is imported.
        candidates = ("nas_space",) if bound == "nni" else homes(alias.name)
        known = {home: [is_reached(home, *use[1:]) for use in read] for home in candidates}
        home = max(candidates, key=lambda home: sum(known[home]), default="")
        for place, (where, _, inner, name) in enumerate(read):
            if not home or not known[home][place]:
                found = find(inner, name)
                told = (
                    advice(inner, name) if found is None else f"write {found.module}.{found.name}"
                )
                self.found(where, f"{inner}.{name} is read through {bound!r}", told)
        if not home or (read and not any(known[home])):
            if not read:
                self.found(line, f"{alias.name} has no counterpart", advice(alias.name))
            return None
        return f"{home} as {bound}"


def _from(module: str, names: list[str]) -> list[str]:
    """Return the statements that import names from a module; whole modules from nowhere."""
    if not module:
        return [f"import {name}" for name in names]
    star, others = [n for n in names if n == "*"], [n for n in names if n != "*"]
    return [f"from {module} import {', '.join(each)}" for each in (star, others) if each]


def _as(found: Target, alias: ast.alias) -> str:
    bound = alias.asname or alias.name
    return bound if bound == found.name else f"{found.name} as {bound}"


def _place(module: str, rest: str) -> tuple[str, str]:
    """Return the module and the name in it that a chain of attributes leads to."""
    parts = rest.split(".")
    while len(parts) > 1 and (
        parts[0] in {"mutable", "nas", "retiarii", "common"} or module != "nni"
    ):
        if parts[0][:1].isupper():
            break
        module = f"{module}.{parts.pop(0)}"
    return module, parts[0]


def _same_chain(chain: str) -> bool:
    """Return whether ``nni.a.b`` is there as ``nas_space.a.b``."""
    parts = chain.split(".")[1:]
    return len(parts) == 1 or parts[0] == "mutable" or parts[0][:1].isupper()


def _uses(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the longest chains of attributes that a file reads, as text, with their lines."""
    inner: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            below: ast.expr = node
            while isinstance(below, ast.Attribute):
                inner.add(id(below))
                below = below.value
            if isinstance(below, ast.Name):
                yield node.lineno, ast.unparse(node)


def _questionable(tree: ast.AST) -> Iterator[Finding]:
    """Yield what runs, but does not mean what it says, or is never asked for."""
    # Each of these is Python that runs here as well, so no error would ever point to it.
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.Is, ast.IsNot)):
            left, right = node.left, node.comparators[0]
            if _is_a_value(left) and _is_a_value(right):
                yield Finding(
                    node.lineno,
                    f"'{ast.unparse(node)}' asks whether two objects are one, and equal numbers "
                    "above 256 are two",
                    f"write nas_space.hub.same_width({ast.unparse(left)}, {ast.unparse(right)})",
                )
        elif isinstance(node, ast.For):
            if _goes_through_modules(node):
                yield from _numbers_of_layers(node)
            yield from _identities_left_out(node)
        elif isinstance(node, ast.Attribute) and node.attr == "as_legacy_dict":
            yield Finding(
                node.lineno,
                f"'{ast.unparse(node)}' is no method here",
                "call nas_space.interop.nni_compat.legacy_description(symbol)",
            )
        elif isinstance(node, ast.ClassDef):
            for item in _methods(node):
                whole, name = f"{node.name}.{item.name}", item.name
                if name in OVERRIDDEN.keys() - called:  # but by the file itself
                    yield Finding(item.lineno, f"{whole} is not called here", OVERRIDDEN[name])
                elif name in DERIVED and not _says_its_structure(node):
                    what = f"{whole} does not decide here what the space is"
                    yield Finding(item.lineno, what, DERIVED[name])


def _identities_left_out(loop: ast.For) -> Iterator[Finding]:
    """Yield where a constructor leaves identities out of what it is made of."""
    for node in ast.walk(loop):
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) == "isinstance"
            and len(node.args) == 2
            and ast.unparse(node.args[1]).endswith("Identity")
        ):
            yield Finding(
                node.lineno,
                f"'{ast.unparse(node)}' sees no choice that may become an identity: networks keep "
                "it, where NNI's frozen_factory has left it out",
                "for tensors of the same names derive the block that is made of them from Compact "
                "as well: class Block(nas_space.hub.Compact, nn.Sequential)",
            )


def _goes_through_modules(node: ast.For) -> bool:
    return any(
        isinstance(part, ast.Attribute) and part.attr in {"modules", "named_modules", "children"}
        for part in ast.walk(node.iter)
    )


def _numbers_of_layers(loop: ast.For) -> Iterator[Finding]:
    """Yield where the sizes of layers that a loop goes through are no plain numbers."""
    for node in ast.walk(loop):
        if not isinstance(node, ast.Call):
            continue
        name, variable = ast.unparse(node.func), (ast.Name, ast.Attribute)
        if (name.startswith(("np.", "numpy.")) or name == "int") and any(
            isinstance(part, variable) for each in node.args for part in ast.walk(each)
        ):
            yield Finding(
                node.lineno,
                f"'{ast.unparse(node)}' needs a plain number, but sizes of elastic layers are "
                "expressions",
                "for initial weights take float(size), that of the largest weights, or math.sqrt",
            )


def _methods(node: ast.ClassDef) -> list[ast.FunctionDef]:
    return [item for item in node.body if isinstance(item, ast.FunctionDef)]


def _says_its_structure(node: ast.ClassDef) -> bool:
    """Return whether a class is a constraint, of which these are used, or has a structure."""
    bases = (ast.unparse(base) for base in node.bases)
    return any(base.endswith("Constraint") for base in bases) or any(
        method.name == "structure" for method in _methods(node)
    )


def _is_a_value(side: ast.expr) -> bool:
    """Return whether a name may stand for a number: no constant, no class, and not ``self``."""
    name = side.id if isinstance(side, ast.Name) else getattr(side, "attr", "")
    return isinstance(side, (ast.Name, ast.Attribute)) and not (
        name[:1].isupper() or name == "self"
    )
