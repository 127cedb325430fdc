"""Every exception the library raises on purpose, in one tree.

All of them derive from :class:`NasSpaceError`, so ``except NasSpaceError`` catches what the
library has to say and nothing else. Where a built-in exception has the same meaning
(``ValueError``, ``TypeError``, ``RuntimeError``), a class derives from that as well, so code that
knows nothing of this library handles it as it should.

Messages are for people: the label, the path of the module, what is allowed and what to do. Data
that a program may want is in attributes. Every class survives pickling with its attributes,
because errors cross processes.

Examples
--------
>>> try:
...     raise LabelError("two different choices are called 'width'")
... except NasSpaceError as error:
...     print(error)
two different choices are called 'width'
>>> issubclass(LabelError, ValueError)
True
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "ConstraintViolation",
    "DataError",
    "DecompositionError",
    "DivergenceError",
    "DomainError",
    "ExpressionError",
    "InfeasibleError",
    "LabelError",
    "NasSpaceError",
    "SampleMissingError",
    "SampleValidationError",
    "SpaceError",
    "StorageError",
    "TrialError",
    "UsageError",
    "suggest",
]


_LONGEST = 10_000
"""Characters of a message, at most: what is wrong may be a value of any length."""


class NasSpaceError(Exception):
    """The root of the tree: anything this library refuses to do."""

    def __str__(self) -> str:
        return _shortened(super().__str__())


def _shortened(message: str) -> str:
    if len(message) <= _LONGEST:
        return message
    return f"{message[: _LONGEST * 3 // 4]} [...] {message[-_LONGEST // 5 :]}"


class SampleValidationError(NasSpaceError, ValueError):
    """An architecture (a sample) is not one of the space.

    Parameters
    ----------
    msg
        What is wrong with it: the label, its value, and what is allowed.
    paths
        Where in the space it was found, outermost first. Whoever passes the error on inserts its
        own name at the front of :attr:`paths`.
    label
        The label that it is about, if it is about a single one.

    Attributes
    ----------
    msg : str
        The message without the path.
    paths : list of str
        The path, outermost first.
    label : str or None
        As given.

    Examples
    --------
    >>> error = SampleValidationError("'width' is 20, but must be one of 16, 24, 32", ["stem"])
    >>> error.paths.insert(0, "body")
    >>> print(error)
    'width' is 20, but must be one of 16, 24, 32 (path: body -> stem)
    """

    def __init__(
        self, msg: str, paths: list[str] | None = None, *, label: str | None = None
    ) -> None:
        super().__init__(msg)
        self.msg = msg
        self.paths: list[str] = list(paths or ())
        self.label = label

    def __str__(self) -> str:
        where = f" (path: {' -> '.join(map(str, self.paths))})" if self.paths else ""
        return _shortened(self.msg) + where


class SampleMissingError(SampleValidationError):
    """An architecture gives no value for a label that is active.

    Parameters
    ----------
    label_or_msg
        The label that is missing, if ``keys`` is given; otherwise the whole message.
    keys
        The labels that the architecture does have.
    paths, label
        As in :class:`SampleValidationError`.

    Examples
    --------
    >>> print(SampleMissingError("width", keys=["depth", "kernel"]))
    label 'width' is missing; there are only 'depth', 'kernel'
    >>> print(SampleMissingError("width", keys=[]))
    label 'width' is missing; there are none
    """

    def __init__(
        self,
        label_or_msg: str,
        keys: Iterable[str] | None = None,
        paths: list[str] | None = None,
        *,
        label: str | None = None,
    ) -> None:
        if keys is None:
            msg = label_or_msg
        else:
            there = ", ".join(map(repr, keys))
            msg = f"label {label_or_msg!r} is missing; there are " + (
                f"only {there}" if there else "none"
            )
            label = label_or_msg
        super().__init__(msg, paths, label=label)


class ConstraintViolation(SampleValidationError):  # noqa: N818 - says what happened
    """Each value of an architecture is allowed, but together they break a constraint."""


class LabelError(NasSpaceError, ValueError):
    """A label is unusable: missing, malformed, or given to two different choices."""


class DomainError(NasSpaceError, ValueError):
    """A symbol is malformed: no values, the same one twice, weights that do not fit, low > high."""


class ExpressionError(NasSpaceError, TypeError):
    """An expression stands where it cannot.

    Its truth value is asked for, a plain number is wanted, or something mutable is nested where
    nothing can keep track of it.
    """


class SpaceError(NasSpaceError, RuntimeError):
    """A module space cannot do what is asked, because of its structure or its state.

    Something of it closes over the space, it is frozen already, or no architecture is active.
    """


class InfeasibleError(NasSpaceError, ValueError):
    """No architecture meets a restriction.

    Parameters
    ----------
    msg
        The restriction, and what would be possible.
    smallest
        The smallest cost that some architecture reaches, in the unit of the restricted expression;
        ``None`` if the restriction is not on a single cost.

    Attributes
    ----------
    smallest : float or None
        As given.

    Examples
    --------
    >>> error = InfeasibleError("macs <= 1000 holds nowhere; the smallest is 5200", smallest=5200)
    >>> error.smallest
    5200
    """

    def __init__(self, msg: str, *, smallest: float | None = None) -> None:
        super().__init__(msg)
        self.smallest = smallest


class DecompositionError(NasSpaceError):
    """An expression is not a sum of small tables, so nothing exact can be derived from it.

    Parameters
    ----------
    msg
        Which term it is and why it has no table.
    term
        That term, an expression.

    Attributes
    ----------
    term : object
        As given.

    Examples
    --------
    >>> DecompositionError("it depends on 12 labels at once", term="a * b").term
    'a * b'
    """

    def __init__(self, msg: str, *, term: object = None) -> None:
        super().__init__(msg)
        self.term = term


class CheckpointError(NasSpaceError):
    """A file of weights or of state is corrupt, cut short, unsafe, or of something else."""


class DataError(NasSpaceError, ValueError):
    """A data set does not have the form that is needed: shapes, types, labels, splits."""


class StorageError(NasSpaceError, RuntimeError):
    """Where trials are kept cannot be reached, or holds the trials of another search."""


class TrialError(NasSpaceError, RuntimeError):
    """So many trials have failed that a search has given up; what it has found is kept."""


class DivergenceError(NasSpaceError, ArithmeticError):
    """The loss of a training, or a gradient, is NaN or infinite; the step before was still good."""


class UsageError(NasSpaceError, ValueError):
    """An argument or an option asks for something that does not exist or does not go together."""


def suggest(name: str, known: Iterable[str]) -> str:
    """End an error message about an unknown name with the nearest known one.

    Parameters
    ----------
    name
        What was asked for.
    known
        What there is. Case does not matter when comparing.

    Returns
    -------
    str
        ``" (did you mean 'x'?)"``, or an empty string if nothing comes near.

    Examples
    --------
    >>> known = ["width", "depth"]
    >>> print("unknown label 'widht'" + suggest("widht", known))
    unknown label 'widht' (did you mean 'width'?)
    >>> suggest("onnx", ["openvino", "onnxruntime"])
    " (did you mean 'onnxruntime'?)"
    >>> suggest("colour", known)
    ''
    """
    # Sorted, so that the answer does not depend on the hash seed when `known` is a set.
    folded = {candidate.casefold(): candidate for candidate in sorted(known, reverse=True)}
    asked = name.casefold()
    nearest = difflib.get_close_matches(asked, folded, n=1)
    if not nearest and len(asked) > 2:  # a part of it, such as onnx of onnxruntime
        nearest = [candidate for candidate in folded if asked in candidate]
    return f" (did you mean {folded[nearest[0]]!r}?)" if nearest else ""
