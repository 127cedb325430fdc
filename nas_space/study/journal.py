"""``MendingJournal``: a log of trials whose last line may have been cut short."""

from __future__ import annotations

import json
import mmap
import os
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend

from ..errors import StorageError
from ..files import writing

__all__ = ["MendingJournal"]


class MendingJournal(JournalFileBackend):
    """Optuna's log in a file, repaired where a full disk or a power failure tore its last line.

    Otherwise the next line would be appended to the half one, and the log lost from there on.

    Parameters
    ----------
    path
        The file; made if there is none.

    Raises
    ------
    StorageError
        It cannot be written, or is damaged somewhere else than at its end.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        with writing(path):
            super().__init__(path)
            self._mend()

    def _mend(self) -> None:
        """Cut off a last line that is torn, and say what was lost."""
        if not _torn(self.path):
            return
        self._lock.acquire()
        try:
            # Whoever was writing a line when we looked has written it by now.
            if torn := _torn(self.path):
                os.truncate(self.path, Path(self.path).stat().st_size - len(torn))
                warnings.warn(
                    f"the last line of {self.path} was torn, by a full disk or a power failure, "
                    f"and is dropped: {torn[:80]!r}; what it said of a trial is done again",
                    stacklevel=2,
                )
        finally:
            self._lock.release()

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        try:
            for log in super().read_logs(log_number_from):
                if not isinstance(log, dict):
                    raise ValueError(f"{log!r} is no entry of a log")
                yield log
        except ValueError as error:
            raise StorageError(
                f"the trials in {self.path} are damaged: {error}; restore a copy, or begin in "
                "another file"
            ) from error

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with writing(self.path):
            try:
                super().append_logs(logs)
            except OSError:
                self._mend()
                raise


def _torn(path: str) -> bytes:
    """Return the last line of a file, if it is no whole one."""
    with open(path, "rb") as file:  # noqa: PTH123 - as the class it belongs to
        if not file.seek(0, os.SEEK_END):
            return b""
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            line = content[content.rfind(b"\n", 0, len(content) - 1) + 1 :]
    if not line.endswith(b"\n"):
        return line
    try:
        json.loads(line)
    except ValueError:
        return line
    return b""
