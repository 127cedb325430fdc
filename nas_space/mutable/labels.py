"""Labels and the scopes that name them.

Scopes are kept in a context variable: threads and tasks that build spaces at the same time
each count for themselves.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from ..errors import LabelError, SampleValidationError
from .context_stack import Entered

__all__ = ["auto_label", "label", "label_scope", "strict_label_scope"]

_SCOPES: Entered[label_scope] = Entered("label_scopes")


class label(str):  # noqa: N801, SLOT000 - called like str, which allows no slots with contents
    """A full label: a string that remembers the scopes it was made in.

    A :class:`label` given where a name is expected is taken as it is, without a prefix.

    Attributes
    ----------
    parts
        The names of the scopes, and the name itself.

    Examples
    --------
    >>> label(["backbone", "depth"])
    'backbone/depth'
    """

    parts: tuple[str, ...]

    def __new__(cls, parts: Sequence[str] | str) -> label:
        names = (parts,) if isinstance(parts, str) else tuple(parts)
        made = super().__new__(cls, "/".join(names))
        made.parts = names
        return made

    def __reduce__(self) -> tuple[type[label], tuple[tuple[str, ...]]]:
        return label, (self.parts,)

    def as_scope(self) -> label_scope:
        """Return a scope of this name."""
        return label_scope(self)


class label_scope:  # noqa: N801 - called like a function
    """A context in which labels get a prefix, and unnamed ones a number from 1.

    Parameters
    ----------
    basename
        The last part of the scope's name; by default the next number of the scope around.

    Examples
    --------
    >>> with label_scope("model"):
    ...     auto_label(), auto_label("depth")
    ...     with label_scope("cell"):
    ...         auto_label()
    ('model/1', 'model/depth')
    'model/cell/1'
    """

    def __init__(self, basename: str | label | label_scope | None = None) -> None:
        self._path: tuple[str, ...] | None = None
        self._name: str | None = None
        if isinstance(basename, label_scope):
            self._path, self._name = basename._path, basename._name
        elif isinstance(basename, label):
            self._path = basename.parts
        elif basename is not None:
            self._name = _checked(basename)
        self._numbers = itertools.count(1)

    @property
    def path(self) -> tuple[str, ...] | None:
        """The names of the scopes around and its own; ``None`` before it is first entered."""
        return self._path

    @property
    def name(self) -> str:
        """The full name, such as ``model/cell``."""
        if self._path is None:
            raise LabelError(
                f"the label scope {self._name!r} has no full name before it is entered"
            )
        return label(self._path)

    def __enter__(self) -> label_scope:
        if self._path is None:
            around = label_scope.current()
            if self._name is None:
                around = around or _GLOBAL
                self._name = around.next_label()
            self._path = (*(around.path or () if around else ()), self._name)
        self._numbers = itertools.count(1)
        _SCOPES.enter(self)
        return self

    def __exit__(self, *_: object) -> None:
        _SCOPES.leave_value(self)

    def next_label(self) -> str:
        """Return the next number of this scope."""
        return str(next(self._numbers))

    @staticmethod
    def current() -> label_scope | None:
        """Return the innermost scope that is entered here."""
        return _SCOPES.last()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, label_scope) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        return f"label_scope({'/'.join(self._path) if self._path else self._name!r})"


class strict_label_scope(label_scope):  # noqa: N801 - as its base
    """A scope without a name of its own, in which every label must be given.

    What a space without ``label_prefix`` builds in: automatic numbers would shift with
    every layer that is added, and stored architectures with them.
    """

    def __init__(self, owner: str) -> None:
        super().__init__()
        self._path = ()
        self._owner = owner

    def next_label(self) -> str:
        raise LabelError(
            f"{self._owner} has a choice without a label; give it one (label='...'), or give the "
            "class a prefix under which labels are numbered: "
            f"class {self._owner}(ModelSpace, label_prefix='...')"
        )


def auto_label(name: str | label | None = None, scope: label_scope | None = None) -> label:
    """Return the full label of a name (or of the next number) in a scope.

    Parameters
    ----------
    name
        The name; by default the scope's next number.  A :class:`label` is returned as it is.
    scope
        The scope; by default the innermost one entered, else the global one.

    Examples
    --------
    >>> auto_label("bar")
    'bar'
    >>> with label_scope("foo"):
    ...     auto_label("bar")
    'foo/bar'
    """
    if isinstance(name, label):
        return name
    if name is not None:
        _checked(name)
    around = scope if scope is not None else label_scope.current()
    if scope is not None and not isinstance(scope, label_scope):
        raise LabelError(
            f"a scope is a label_scope, but got {scope!r} of type {type(scope).__name__}; enter "
            "one, as in: with label_scope('foo') as scope"
        )
    if around is None:
        return label([name]) if name is not None else label(["global", _GLOBAL.next_label()])
    if around.path is None:
        raise LabelError(f"the label scope {around!r} must be entered before labels are made in it")
    return label([*around.path, name if name is not None else around.next_label()])


def _checked(name: str) -> str:
    if not isinstance(name, str):
        raise LabelError(f"a label is a string, but got {name!r} of type {type(name).__name__}")
    if not name:
        raise LabelError("a label must not be empty")
    if "/" in name:
        raise LabelError(
            f"a label must not contain '/', but got {name!r}; "
            "nest label_scope(...) to build a hierarchy"
        )
    return name


_GLOBAL = label_scope(label("global"))


def incomparable(name: str, value: object, error: Exception) -> SampleValidationError:
    """Return the error for a value that cannot be compared with those of its label."""
    return SampleValidationError(
        f"the value of the label {name!r} is a {type(value).__name__} that cannot be compared with "
        f"what the label takes ({type(error).__name__}); give plain values, as sample() does",
        label=name,
    )


def listed(names: Iterable[str], most: int = 20) -> str:
    """Return names for an error message; not all where there are hundreds."""
    found = [repr(str(name)) for name in names]
    tail = [f"... ({len(found)} in all)"] if len(found) > most else []
    return ", ".join(found[:most] + tail) or "none"
