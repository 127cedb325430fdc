"""The errors of what cannot be mixed, by the labels that it depends on."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import SpaceError
from ...mutable.node import Node, leaves
from ..module_path import running_module

__all__ = ["Absent", "here", "named", "refused"]


class Absent(Exception):  # noqa: N818 - not an error: what has no probability is left out
    """A tensor is not there under some values."""


def named(atoms: Sequence[Node]) -> str:
    """Return the labels that some expressions depend on, for messages."""
    labels = [repr(str(symbol.name)) for symbol in leaves(*atoms)]
    return f"label{'s' if len(labels) > 1 else ''} {', '.join(labels)}"


def here() -> str:
    """Return where the forward pass is, for messages."""
    path = running_module()
    return f" of {path!r}" if path else ""


def refused(name: str, atoms: Sequence[Node], why: str) -> SpaceError:
    """Return the error for a function that cannot be mixed."""
    path = running_module()
    return SpaceError(
        f"{name!r} cannot be mixed over sizes that depend on the {named(atoms)}: {why}"
        f"{f' (path: {path})' if path else ''}; take a strategy that samples, such as "
        "RandomOneShot, or a layer of nas_space.nn that does the same"
    )
