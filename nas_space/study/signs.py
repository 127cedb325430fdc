"""Whether a process that works at a study still lives, here or on another machine.

Of a process on this machine the system knows.  Others give a sign of life now and then, in
whatever storage they share; one that has been silent for long is taken for dead.  What counts is
the time in which *we* have seen no sign: clocks of machines may differ.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path

from ..files import is_alive

__all__ = ["BEAT", "SILENCE", "lives", "living", "new_name"]

BEAT = 30.0
"""Seconds between signs of life."""

SILENCE = 150.0
"""Seconds of silence after which a process elsewhere is taken for dead."""

_NAME = re.compile(r"(?P<place>.*):(?P<pid>\d{1,9}):(?P<started>[^:/]*)/[^/]*", re.DOTALL)
"""A name may come from a file, where it may be anything."""

_SERIAL = map(str, count())
_OPEN: set[str] = set()
"""The names that are in use in this process."""


def new_name() -> str:
    """Return a name for a worker of this process, unlike any other anywhere."""
    return f"{_place()}:{os.getpid()}:{_started(os.getpid())}/{next(_SERIAL)}"


@contextmanager
def living(name: str, give_sign: Callable[[int], object]) -> Iterator[None]:
    """Enter a context in which the worker of a name lives.

    Parameters
    ----------
    name
        Made by :func:`new_name`.
    give_sign
        Called now and then, in another thread, with how often it was called before.
    """
    done = threading.Event()

    def pulse() -> None:
        for beat in count(1):
            if done.wait(BEAT):
                return
            give_sign(beat)

    thread = threading.Thread(target=pulse, daemon=True)
    _OPEN.add(name)
    thread.start()
    try:
        yield
    finally:
        _OPEN.discard(name)
        done.set()
        thread.join()


def lives(name: str) -> bool | None:
    """Tell whether a worker lives; ``None`` if that cannot be known from here.

    Examples
    --------
    >>> name = new_name()
    >>> lives(name)
    False
    >>> with living(name, lambda beat: None):
    ...     lives(name)
    True
    >>> lives("another-machine:17:4711/0") is None
    True
    """
    found = _NAME.fullmatch(name)
    if found is None or found["place"] != _place():
        return None
    pid, started = found["pid"], found["started"]
    if int(pid) == os.getpid() and started == _started(os.getpid()):
        return name in _OPEN
    if os.name != "posix":
        return None
    # The number may have been given to another process since.
    return is_alive(int(pid)) and _started(int(pid)) == started


@cache
def _place() -> str:
    """Within which numbers of processes mean something: a machine, or a container on it."""
    marks = [socket.gethostname()]
    for file in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        path = Path(file)
        try:
            marks.append(str(path.readlink()) if path.is_symlink() else path.read_text())
        except OSError:
            marks.append("")
    return f"{marks[0]}-{hashlib.sha256(repr(marks).encode()).hexdigest()[:8]}"


def _started(pid: int) -> str:
    """When a process started, in the system's own count, where that can be told."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    # A zombie has ended, and its parent has not looked yet.
    return "ended" if fields[0] == "Z" else fields[19]
