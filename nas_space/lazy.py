"""What is imported when it is first used: names of our packages, and packages of extras."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, MutableMapping
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

from .errors import NasSpaceError, UsageError, suggest

__all__ = ["LazyClasses", "at_address", "installed", "lazily", "look_here_too", "named"]

T = TypeVar("T")


class LazyPackage(ModuleType):
    """A package in which a name stays what the package says, once a module is called alike.

    Importing ``study.search``, the module, sets the attribute ``search`` of the package ``study``,
    which is the function of that name for whoever uses the package.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and name in self.__dict__.get("_homes", ()):
            return
        super().__setattr__(name, value)


def lazily(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package that imports its names on first use.

    The names, and the modules they come from, are read from the imports that the package's source
    has under ``if TYPE_CHECKING:``. So type checkers, import-linter and Python read the same
    lines, and what takes long to import (torch) is loaded by those names only that need it.

    Parameters
    ----------
    package
        Its ``__name__``.

    Examples
    --------
    >>> import nas_space.study
    >>> nas_space.study.minimize("size").direction
    'minimize'
    """
    module = sys.modules[package]
    loader: Any = module.__loader__
    homes = {
        alias.asname or alias.name: _address(node, alias.name)
        for branch in ast.parse(loader.get_source(package)).body
        if isinstance(branch, ast.If)
        and isinstance(branch.test, ast.Name)
        and branch.test.id == "TYPE_CHECKING"
        for node in branch.body
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    module.__dict__["_homes"] = homes
    module.__class__ = LazyPackage

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = module.__dict__[name] = at_address(homes[name], package)
        return value

    def names() -> list[str]:
        return sorted({*module.__dict__, *homes})

    return get, names


def _address(node: ast.ImportFrom, name: str) -> str:
    """Return the address of a name that is imported; of a package's module, its own."""
    where = "." * node.level
    return f"{where}{node.module}:{name}" if node.module else f"{where}{name}"


def at_address(address: str, package: str | None = None) -> Any:
    """Return what stands at an address ``'module:name'``, or a module; it is imported now.

    Parameters
    ----------
    address
        A module that begins with a dot is one of the package.
    package
        Its name.

    Examples
    --------
    >>> at_address("math:tau")
    6.283185307179586
    """
    module, _, name = address.partition(":")
    found = import_module(module, package)
    return getattr(found, name) if name else found


def look_here_too() -> None:
    """Let modules be imported from the current folder, after what is installed.

    After it, for a folder that was downloaded may hold a ``yaml.py``, which would run before
    anybody has said to trust it.
    """
    if "" not in sys.path:
        sys.path.append("")


def named(address: str, what: str, error: type[NasSpaceError] = UsageError) -> Any:
    """Return what a user names by its address, ``'module:name'``.

    Parameters
    ----------
    address
        Of a module that can be imported; the shell looks in the current folder, too.
    what
        What it is to be, for the message.
    error
        What is raised.

    Raises
    ------
    NasSpaceError
        If the module cannot be imported, or has no such name.

    Examples
    --------
    >>> named("math:tua", "a constant")
    Traceback (most recent call last):
    ...
    nas_space.errors.UsageError: a constant is asked for as 'math:tua', but module 'math' has no \
'tua' (did you mean 'tau'?)
    """
    module, _, name = address.partition(":")
    try:
        found = import_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as cause:  # whatever a module does when it is imported, such as to exit
        raise error(
            f"{what} is asked for as {address!r}, but module {module!r} cannot be imported "
            f"({type(cause).__name__}: {cause}); modules are looked up among what is installed, "
            "and by the shell in the current folder"
        ) from cause
    try:
        return getattr(found, name)
    except KeyboardInterrupt:
        raise
    except AttributeError:
        near = suggest(name, getattr(found, "__dict__", ()))
        raise error(
            f"{what} is asked for as {address!r}, but module {module!r} has no {name!r}{near}"
        ) from None
    except BaseException as cause:  # whatever its own ``__getattr__`` does
        raise error(
            f"{what} is asked for as {address!r}, but module {module!r} does not give {name!r} "
            f"({type(cause).__name__}: {cause})"
        ) from cause


class LazyClasses(MutableMapping[str, type[T]]):
    """Name to class, each imported when it is first asked for.

    Parameters
    ----------
    package
        The package of whose modules the classes are.
    addresses
        Name to address, ``'.module:Class'``.

    Examples
    --------
    >>> kinds = LazyClasses("collections", {"ordered": "collections:OrderedDict"})
    >>> kinds.class_name("ordered"), kinds["ordered"]
    ('OrderedDict', <class 'collections.OrderedDict'>)
    """

    def __init__(self, package: str, addresses: dict[str, str]) -> None:
        self._package = package
        self._known: dict[str, str | type[T]] = {**addresses}

    def __getitem__(self, name: str) -> type[T]:
        known = self._known[name]
        if isinstance(known, str):
            known = self._known[name] = at_address(known, self._package)
        return known

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def class_name(self, name: str) -> str:
        """Return what the class calls itself, without importing it."""
        known = self._known[name]
        if isinstance(known, str):
            return known.rpartition(":")[2]
        return str(getattr(known, "__name__", name))

    def __setitem__(self, name: str, kind: type[T]) -> None:
        self._known[name] = kind

    def __delitem__(self, name: str) -> None:
        del self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def installed(module: str, extra: str) -> Any:
    """Return a module that an extra of this library brings.

    Parameters
    ----------
    module
        Its name, such as ``'sklearn.datasets'``.
    extra
        The name in ``pip install 'nas-space[...]'``.

    Raises
    ------
    UsageError
        If its package is not installed; the message says which extra has it.

    Examples
    --------
    >>> installed("no_such_package.part", "plots")
    Traceback (most recent call last):
    ...
    nas_space.errors.UsageError: no_such_package is not installed here: pip install ...
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or module).partition(".")[0]
        raise UsageError(
            f"{missing} is not installed here: pip install 'nas-space[{extra}]'"
        ) from error
