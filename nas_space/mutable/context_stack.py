"""What has been entered by ``with`` and not been left, for the code that runs here.

A context variable with a token takes for granted that what is entered last is left first, and
where it was entered. A generator holds a ``with`` open across its ``yield``, and is closed at any
time after, by the garbage collector even in another thread. So what is entered here is one entry
of its own, and leaving removes that one, wherever it stands by then.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

__all__ = ["Entered"]

T = TypeVar("T")


class _Entry(Generic[T]):
    """One ``with``.

    Attributes
    ----------
    value
        What was entered.
    place
        The thread and the task that entered it.
    is_left
        Whether it was left somewhere else, where the entries of its own place cannot be set.
    """

    __slots__ = ("is_left", "place", "value")

    def __init__(self, value: T) -> None:
        self.value = value
        self.place = _place()
        self.is_left = False


class Entered(Generic[T]):
    """What is entered at this moment, each thread and each task by itself.

    A task begins with what was entered where it was made, and keeps it.

    Parameters
    ----------
    name
        Of the context variable.

    Examples
    --------
    >>> entered = Entered("example")
    >>> first, second = entered.enter("a"), entered.enter("b")
    >>> entered.leave(first)
    >>> list(entered)
    ['b']
    """

    def __init__(self, name: str) -> None:
        self._entries: ContextVar[tuple[_Entry[T], ...]] = ContextVar(name, default=())
        self._everywhere: list[_Entry[T]] = []

    def enter(self, value: T) -> _Entry[T]:
        """Enter something; give what it is left by."""
        entry = _Entry(value)
        self._entries.set((*self._open(), entry))
        self._everywhere.append(entry)
        return entry

    def leave(self, entry: _Entry[T]) -> None:
        """Leave what was entered, in whatever order, in whatever thread or task."""
        # Two things must hold.  A task that was made inside of a ``with`` keeps what was entered
        # there when its parent leaves: leaving in the place of entering changes the variable of
        # that place only, of which the task has a copy.  And an entry that is left elsewhere, as a
        # generator is that another thread collects, must be gone where it was entered, whose
        # variable cannot be set from here: then the entry itself is marked, for everybody.
        entries = self._open()
        rest = tuple([each for each in entries if each is not entry])
        if len(rest) < len(entries):
            self._entries.set(rest)
        if len(rest) == len(entries) or entry.place != _place():
            entry.is_left = True
        self._everywhere.remove(entry)

    def leave_value(self, value: T) -> None:
        """Leave an object that may have been entered several times, in several places at once.

        Of these it is the last that this thread and task entered, or else the last of all.
        """
        place = _place()
        entries = [entry for entry in self._everywhere if entry.value is value]
        mine = [entry for entry in entries if entry.place == place]
        self.leave((mine or entries)[-1])

    @contextmanager
    def entering(self, value: T) -> Iterator[None]:
        """Enter a context in which something is entered."""
        entry = self.enter(value)
        try:
            yield
        finally:
            self.leave(entry)

    def last(self, default: Any = None) -> T | Any:
        """Return what was entered last of all that has not been left."""
        for entry in reversed(self._entries.get()):
            if not entry.is_left:
                return entry.value
        return default

    def _open(self) -> tuple[_Entry[T], ...]:
        return tuple([entry for entry in self._entries.get() if not entry.is_left])

    def __iter__(self) -> Iterator[T]:
        return iter([entry.value for entry in self._open()])


def _place() -> tuple[int, Any]:
    # ``asyncio`` is not imported for this: where nobody has, there are no tasks.  Its current task
    # may be asked for only while a loop runs.
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:
        return threading.get_ident(), None
    return threading.get_ident(), asyncio.current_task()
