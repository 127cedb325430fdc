"""What the package offers under `__all__` exists and is described."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import pytest

import nas_space

PUBLIC = sorted(
    module.name
    for module in pkgutil.iter_modules(nas_space.__path__, "nas_space.")
    if not module.name.rpartition(".")[2].startswith("_")
)


def described(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Every class and function in `__all__`, and the public methods that such a class defines."""
    for name in module.__all__:
        value = getattr(module, name)
        if not inspect.isroutine(value) and not inspect.isclass(value):
            continue
        if not value.__module__.startswith("nas_space"):
            continue
        yield name, value
        if inspect.isclass(value):
            for method in vars(value):
                if not method.startswith("_") and callable(getattr(value, method)):
                    yield f"{name}.{method}", getattr(value, method)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_module_lists_its_names_once(name: str) -> None:
    names = importlib.import_module(name).__all__
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_has_a_docstring(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    assert [path for path, value in described(module) if not inspect.getdoc(value)] == []
