"""Freezing while constructing: contexts in which choices are already made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import NoneType
from typing import Any, Generic, TypeVar

from ..errors import ExpressionError, SampleMissingError, SpaceError
from .context_stack import Entered
from .mutable import Mutable, Sample

__all__ = ["dry_run", "ensure_frozen", "frozen_context", "frozen_factory"]

T = TypeVar("T")

_CONTEXTS: Entered[Sample | _Aside] = Entered("frozen_contexts")


class frozen_context:  # noqa: N801 - called like a function
    """A context that says what is chosen; nested contexts add to the ones around.

    Parameters
    ----------
    sample
        Label to value.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> with frozen_context({"a": 2}):
    ...     ensure_frozen(Categorical([1, 2, 3], label="a"))
    2
    """

    def __init__(self, sample: Mapping[str, Any] | None = None) -> None:
        if not isinstance(sample, (Mapping, NoneType)):
            raise ExpressionError(
                f"what is chosen is a dict from label to value, but got {sample!r} of type "
                f"{type(sample).__name__}"
            )
        self.value: Sample = dict(sample or {})

    def __enter__(self) -> Sample:
        _CONTEXTS.enter(self.value)
        return self.value

    def __exit__(self, *_: object) -> None:
        _CONTEXTS.leave_value(self.value)

    @staticmethod
    def current() -> Sample | None:
        """Return what is chosen here, all contexts around together; ``None`` outside of any."""
        contexts = _around()
        if not contexts:
            return None
        merged: Sample = {}
        for context in contexts:
            merged.update(context)
        return merged

    @staticmethod
    def update(sample: Mapping[str, Any]) -> None:
        """Add choices to the innermost context."""
        contexts = _around()
        if not contexts:
            raise SpaceError(
                "there is no frozen_context to update; enter one with `with frozen_context(...):`"
            )
        contexts[-1].update(sample)

    @staticmethod
    @contextmanager
    def bypass() -> Iterator[None]:
        """Leave the innermost context aside, to build a space inside of one."""
        contexts = _around()
        with _CONTEXTS.entering(_Aside(contexts[-1] if contexts else None)):
            yield


class _Aside:
    """That a context entered before is left aside."""

    def __init__(self, context: Sample | None) -> None:
        self.context = context


def _around() -> list[Sample]:
    """Return what the contexts around choose, innermost last."""
    found: list[Sample] = []
    for entered in _CONTEXTS:
        if not isinstance(entered, _Aside):
            found.append(entered)
        elif found and found[-1] is entered.context:
            del found[-1]
    return found


def ensure_frozen(
    mutable: Any,
    *,
    strict: bool = True,
    sample: Mapping[str, Any] | None = None,
    retries: int = 1000,
) -> Any:
    """Return the frozen form of a mutable; anything else as it is.

    Parameters
    ----------
    mutable
        A mutable or a plain value.
    strict
        Whether it is an error if nothing says what is chosen; else the robust default is taken.
    sample
        What is chosen; by default what the :class:`frozen_context` around says.  While a
        space is built, labels that nobody has chosen take their defaults.
    retries
        Attempts of :meth:`Mutable.robust_default`.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> ensure_frozen(Categorical([1, 2], label="a"), strict=False)
    1
    >>> ensure_frozen("anything")
    'anything'
    """
    if not isinstance(mutable, Mutable):
        return mutable
    if sample is None:
        sample = frozen_context.current()
    if sample is not None:
        try:
            return mutable.freeze(sample)
        except SampleMissingError:
            decide = _DEFAULTING.last()
            if decide is None:
                raise
            return decide(mutable, _around()[-1], retries)
    if strict:
        raise SpaceError(
            f"nothing says which value {mutable} has here; call ensure_frozen inside the "
            "constructor of a ModelSpace or inside frozen_context(...), give sample=..., or "
            "strict=False for the default"
        )
    return mutable.robust_default(retries=retries)


Deciding = Callable[[Any, Sample, int], Any]
"""Gives the trial value of a mutable that goes with those before, and adds its labels to them."""

_DEFAULTING: Entered[Deciding] = Entered("defaulting")


def _default(mutable: Any, memo: Sample, retries: int) -> Any:
    return mutable.robust_default(memo, retries=retries)


@contextmanager
def dry_run(decide: Deciding = _default) -> Iterator[None]:
    """Enter a context for building a space: what is not chosen takes its default, once for all.

    Parameters
    ----------
    decide
        Gives the default of a mutable; raises where that would go unnoticed.
    """
    with _DEFAULTING.entering(decide), frozen_context():
        yield


class frozen_factory(Generic[T]):  # noqa: N801 - called like a function
    """A callable that calls another one inside a :class:`frozen_context`.

    Parameters
    ----------
    callable
        What to call.
    sample
        What is chosen, as a dict or a context.
    """

    def __init__(
        self,
        callable: Callable[..., T],  # noqa: A002 - it takes any callable
        sample: Mapping[str, Any] | frozen_context,
    ) -> None:
        self.callable = callable
        self.sample = sample if isinstance(sample, frozen_context) else frozen_context(sample)

    def __call__(self, *args: Any, **kwargs: Any) -> T:
        with frozen_context(self.sample.value):  # one of its own, which the call may add to
            return self.callable(*args, **kwargs)

    def __repr__(self) -> str:
        return f"frozen_factory(callable={self.callable}, arch={self.sample.value})"
