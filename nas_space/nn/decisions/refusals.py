"""The errors of what cannot be mixed, by the labels that it depends on."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import SpaceError
from ...mutable.node import Node, leaves
from ..module_path import running_module

__all__ = [
    "Absent",
    "CannotMixError",
    "PlainNeededError",
    "here",
    "labels_in",
    "named",
    "path_here",
    "refused",
]


class Absent(Exception):  # noqa: N818 - not an error: what has no probability is left out
    """A tensor is not there under some values."""


class CannotMixError(SpaceError):
    """Something cannot be mixed over all values of some labels.

    Parameters
    ----------
    message
        What, and what to do.
    labels
        Of which there would have to be one value each.
    """

    def __init__(self, message: str, labels: Sequence[str]) -> None:
        super().__init__(message)
        self.labels = tuple(labels)


class PlainNeededError(CannotMixError):
    """The forward needs a plain number where there are several at once.

    Parameters
    ----------
    message
        What, and what to do.
    atoms
        The expressions by whose values it is plain.
    """

    def __init__(self, message: str, atoms: Sequence[Node]) -> None:
        super().__init__(message, labels_in(atoms))
        self.atoms = tuple(atoms)


def labels_in(atoms: Sequence[Node]) -> list[str]:
    """Return the labels that some expressions depend on."""
    return [str(symbol.name) for symbol in leaves(*atoms)]


def named(atoms: Sequence[Node]) -> str:
    """Return the labels that some expressions depend on, for messages."""
    labels = [repr(label) for label in labels_in(atoms)]
    return f"label{'s' if len(labels) > 1 else ''} {', '.join(labels)}"


def here() -> str:
    """Return where the forward pass is, for messages."""
    path = running_module()
    return f" of {path!r}" if path else ""


def path_here() -> str:
    """Return where the forward pass is, to stand behind what a message says."""
    path = running_module()
    return f" (path: {path})" if path else ""


def refused(name: str, atoms: Sequence[Node], why: str) -> CannotMixError:
    """Return the error for a function that cannot be mixed."""
    return CannotMixError(
        f"{name!r} cannot be mixed over sizes that depend on the {named(atoms)}: {why}"
        f"{path_here()}; take a strategy that samples, such as "
        "RandomOneShot, or a layer of nas_space.nn that does the same",
        labels_in(atoms),
    )
