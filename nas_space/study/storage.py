"""Where trials are kept: one address, of whatever Optuna can store in."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalRedisBackend

from ..errors import NasSpaceError, SampleValidationError, StorageError, UsageError
from ..files import beside, unwritable, writing
from .passwords import hidden, without_password
from .studies import unwarned

__all__ = ["Storage", "file_of", "open_storage", "reading", "unreachable"]

Storage: TypeAlias = "str | Path | BaseStorage | None"
"""``None`` is memory; a path ends in ``.db`` (SQLite) or ``.journal``; or a database's address."""

_JOURNAL = (".journal", ".log", ".jsonl")
_SQLITE = (".db", ".sqlite", ".sqlite3")

_PAUSES = (0.2, 0.6, 1.2)
"""Seconds before a database is tried again."""

_BUSY = 60
"""Seconds to wait while another process writes to a file."""


def open_storage(storage: Storage) -> BaseStorage:
    """Return the storage at an address; files and tables are made if there are none.

    Parameters
    ----------
    storage
        ``None`` for memory; the path of a file that ends in ``.db`` (SQLite) or ``.journal``
        (a log that several processes may write); the address of a database, as
        ``postgresql://...``, ``mysql://...`` or ``redis://...``; or a storage of Optuna.

    Raises
    ------
    StorageError
        If it cannot be reached, or is something else.
    UsageError
        If the address means nothing.

    Examples
    --------
    >>> type(open_storage(None)).__name__
    'InMemoryStorage'
    """
    if storage is None:
        return InMemoryStorage()
    if isinstance(storage, BaseStorage):
        return storage
    address = str(storage)
    try:
        if (file := file_of(storage)) is not None:
            return _file(file, sqlite=address.startswith("sqlite:///"))
        if address.startswith("redis"):
            with unwarned():
                return JournalStorage(JournalRedisBackend(address))
        from .reconnecting import ReconnectingStorage

        return _database(address, {"pool_pre_ping": True}, ReconnectingStorage)
    except NasSpaceError:
        raise
    except Exception as error:  # noqa: BLE001 - of whichever database's driver
        raise unreachable(address, error) from _shown(error, address)


def file_of(storage: Storage) -> Path | None:
    """Return the file that trials are kept in; ``None`` if they are kept in no file."""
    address = str(storage).removeprefix("sqlite:///")
    is_file = isinstance(storage, str | Path) and "://" not in address
    return Path(address) if is_file else None


def unreachable(storage: Storage, error: Exception) -> StorageError:
    """Return the error for a storage that does not answer as it should."""
    reason = (str(error.__cause__ or error).strip() or repr(error)).splitlines()[0]
    reason = hidden(reason, storage)
    if (path := file_of(storage)) is not None:
        # As SQLite says it; a disk that fills while it writes its log is an I/O error to it.
        said = {"is full": errno.ENOSPC, "a readonly database": errno.EACCES, "disk I/O": None}
        for words, number in said.items():
            if words in reason:
                return unwritable(path, OSError(number, reason) if number else error)
    return StorageError(
        f"the trials cannot be kept in {without_password(storage)!r}: {reason}; check that the "
        "address is right, that the database runs or its file is whole, and that this may write "
        "there"
    )


@contextmanager
def reading(storage: Storage) -> Iterator[None]:
    """Enter a context that reads or writes trials.

    Where they are damaged, or the storage fails in whatever way its engine has, it raises a
    StorageError.
    """
    try:
        yield
    except (SampleValidationError, StorageError) as error:
        where = without_password(storage)
        if isinstance(storage, BaseStorage) or where in str(error):
            raise
        raise StorageError(f"{where}: {error}") from error
    except NasSpaceError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged rows look like anything
        raise unreachable(storage, error) from _shown(error, storage)


def _shown(error: Exception, storage: Storage) -> Exception | None:
    """Return an error, unless it tells something of a password; tracebacks show causes."""
    return error if hidden(str(error), storage) == str(error) else None


def _database(
    address: str, options: dict[str, Any], kind: type[RDBStorage] = RDBStorage
) -> RDBStorage:
    """The storage in a database, its tables made if there are none."""
    from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

    for pause in _PAUSES:
        try:
            return kind(address, engine_kwargs=options)
        except (IntegrityError, OperationalError, ProgrammingError, StorageInternalError):
            # Several that begin at once may all try to make the tables; one of them does.
            time.sleep(pause)
    return kind(address, engine_kwargs=options)


def _make(path: Path, options: dict[str, Any]) -> None:
    """Make a file with tables, in one piece, unless somebody else is faster.

    Nobody ever sees a file in which tables are still being made.
    """
    with writing(path):
        folder = beside(path)
        folder.mkdir()
    try:
        made = _database(f"sqlite:///{folder / path.name}", options)
        made.remove_session()
        made.engine.dispose()
        # Somebody has been faster; or there are no links here, and it is made in its place.
        with suppress(OSError):
            os.link(folder / path.name, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Connection(sqlite3.Connection):
    """A connection to a file in which readers and the writer do not wait for each other.

    A commit is one write, which the system brings to the disk when it likes.  So a killed
    process loses nothing; a power failure may lose the last moments, and no more.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA journal_mode=WAL")
        self.execute("PRAGMA synchronous=NORMAL")


def _file(path: Path, *, sqlite: bool = False) -> BaseStorage:
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(path.parent)!r}")
    if sqlite or path.suffix in _SQLITE:
        options = {"connect_args": {"timeout": _BUSY, "factory": _Connection}}
        if not path.exists():
            _make(path, options)
        return _database(f"sqlite:///{path}", options)
    if path.suffix in _JOURNAL:
        from .journal import MendingJournal

        return JournalStorage(MendingJournal(str(path)))
    raise UsageError(
        f"trials are kept in a file that ends in {', '.join(_SQLITE)} (SQLite) or "
        f"{', '.join(_JOURNAL)} (a journal), or in a database such as postgresql://..., "
        f"but got {str(path)!r}"
    )
