"""Files that are whole at every moment, and what to say where they cannot be written."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import NasSpaceError, StorageError

__all__ = ["beside", "is_alive", "replacing", "unwritable", "writing"]

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}

_OF_THE_SYSTEM = re.compile(r"(?i)os error|ioerror|writing file|write failed")
"""How libraries that write by themselves (torch, safetensors) tell what the system told them."""


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give the name of a new file beside ``path`` which replaces it, once written and on disk.

    A failure leaves the old file as it was and nothing beside it; what a process that was killed
    has left there is removed by the next that writes the same file.

    Raises
    ------
    StorageError
        The file cannot be written; the message says what to do.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder, "facts.json")) as file:
    ...         _ = file.write_text("{}")
    ...     [path.name for path in Path(folder).iterdir()]
    ['facts.json']
    """
    path = Path(path)
    with writing(path):
        path = Path(os.path.realpath(path))  # a link stays one, and what it leads to is replaced
        if path.exists() and not path.is_file():
            raise OSError(errno.EEXIST, "it is there, and no file")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = beside(path)
        try:
            temporary.touch()
            mode = (path if path.exists() else temporary).stat().st_mode
            yield temporary
            # Some libraries write files that nobody else may read. A file of ours may be read like
            # the one that it replaces, or else like any other.
            temporary.chmod(mode)
            _flush(temporary)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    # The new name is in the folder, which has a place on disk of its own; not on every system.
    with suppress(OSError):
        _flush(path.parent)


def beside(path: Path) -> Path:
    """Return a name beside a file for what will replace it; what was left there is removed.

    The name says whose it is, so what belongs to a process of this machine that is no more goes.
    The ending is that of the file, from which libraries tell what to write.
    """
    place = re.sub(r"\W", "-", socket.gethostname())
    start, end = f".{path.name}.{place}.", f".tmp{path.suffix}"
    made = re.compile(rf"{re.escape(start)}([0-9]{{1,9}})\.[0-9a-f]{{8}}{re.escape(end)}")
    for left in path.parent.iterdir():
        found = made.fullmatch(left.name)
        if found is None or is_alive(int(found[1])):
            continue  # of somebody else, whatever it looks like
        with suppress(OSError):  # another user's may stay
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    return path.with_name(f"{start}{os.getpid()}.{secrets.token_hex(4)}{end}")


def is_alive(process: int) -> bool:
    """Return whether there is a process of a number on this machine, whoever's it is."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):  # or a number that no process has
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Enter a context that writes a file; what hinders it becomes a StorageError."""
    try:
        yield
    except NasSpaceError:
        raise
    except Exception as error:
        if isinstance(error, OSError) or _OF_THE_SYSTEM.search(str(error)):
            raise unwritable(path, error) from error
        raise


def unwritable(path: str | os.PathLike[str], error: Exception) -> StorageError:
    """Return the error for a file that cannot be written, which says what to do."""
    path = Path(path)
    number = getattr(error, "errno", None)
    if number is None and (found := re.search(r"(?:os error|code:) (\d+)", str(error))):
        number = int(found[1])
    folder = next((each for each in path.absolute().parents if each.is_dir()), Path.cwd())
    try:
        free = shutil.disk_usage(folder).free
    except OSError:  # it has gone meanwhile
        free = 0
    if number in _NOT_ALLOWED:
        advice = f"let this process write in {folder}, or choose another place"
    elif number in _NO_ROOM or number is None:
        advice = (
            f"free some space for {folder}, where {free / 1e6:,.0f} MB are left, or choose another "
            "place; a quota may leave less"
        )
    else:
        advice = "choose another place"
    reason = os.strerror(number) if number else (str(error).strip() or repr(error))
    reason = reason.splitlines()[0][:200]
    return StorageError(f"{path} cannot be written: {reason}; {advice}. What was there is whole")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
