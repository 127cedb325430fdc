"""The names that star imports give a file, and what is lost if one imports another module."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module

from .names import advice, find, is_nni

__all__ = ["StarImports"]


class StarImports:
    """The names that a file uses, those it binds itself, and what it imports by ``*``.

    Parameters
    ----------
    tree
        The file.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.bound: dict[str, int] = {}
        self.used: dict[str, int] = {}
        self.stars: list[str] = []
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                self.used.setdefault(node.id, node.lineno)
            for name in self._bound_by(node):
                self.bound.setdefault(name, getattr(node, "lineno", 0))
        for node in tree.body:  # what is listed for others is used, too
            if isinstance(node, (ast.Assign, ast.AugAssign)) and "__all__" in ast.unparse(node):
                for item in ast.walk(node.value):
                    if isinstance(item, ast.Constant) and isinstance(item.value, str):
                        self.used.setdefault(item.value, item.lineno)
        # What comes by ``from torch import *`` is known by importing torch, which is here anyway;
        # any other module is the user's, and is not run to see what it has.
        self.given = {
            name for star in self.stars if star.split(".")[0] == "torch" for name in _public(star)
        }

    def _bound_by(self, node: ast.AST) -> list[str]:
        if isinstance(node, ast.Name):
            return [node.id] if isinstance(node.ctx, ast.Store) else []
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            return [node.name]
        if isinstance(node, ast.arg):
            return [node.arg]
        if isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)):
            return [node.name] if node.name else []
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            self.stars.append("." * node.level + (node.module or ""))
            return []
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            return [each.asname or each.name.partition(".")[0] for each in node.names]
        return []

    def _missing(self, home: str) -> Iterator[str]:
        """Yield the names used that nothing else in the file gives, nor a module here."""
        given = self.given.union(_public(home), *map(_public, self._becoming()))
        for name in self.used:
            known = name in self.bound or name in given or hasattr(builtins, name)
            if not (known or name.startswith("__")):
                yield name

    def _becoming(self) -> Iterator[str]:
        """Yield the modules here that the star imports of NNI's would become."""
        for star in self.stars:
            found = find(star, "*") if is_nni(star) else None
            if found is not None:
                yield found.module

    def elsewhere(self, module: str, home: str) -> list[str]:
        """Return the names used of one of NNI's modules that are here, but not in ``home``."""
        return [name for name in self._missing(home) if find(module, name) is not None]

    def lost(self, node: ast.ImportFrom, module: str, home: str) -> list[tuple[int, str, str]]:
        """Return what would be lost if a star import became one of another module.

        Parameters
        ----------
        node
            The import.
        module, home
            NNI's module, and the one here.

        Returns
        -------
        list of tuple of int, str and str
            The line, what is there, and what to write instead.
        """
        unknown = [
            (
                self.used[name],
                f"{name} may come from {module} by *, and has no counterpart",
                advice(module, name),
            )
            for name in self._missing(home)
            if not any(is_nni(star) and find(star, name) for star in self.stars)
        ]
        hidden = [
            (
                node.lineno,
                f"{home} has a {name}, too, by which * would hide that of line {self.bound[name]}",
                f"import from {home} what is used, by name",
            )
            for name in sorted(_public(home))
            if name in self.used and self.bound.get(name, node.lineno) < node.lineno
        ]
        return unknown + hidden


def _public(module: str) -> frozenset[str]:
    """Return the names that a star import of a module binds; none of one that is not there."""
    with suppress(ImportError):
        found = import_module(module)
        names = getattr(found, "__all__", None) or [n for n in vars(found) if n[0] != "_"]
        return frozenset(names)
    return frozenset()
