"""A record of facts, one line of JSON each, that survives interruptions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypedDict

from ..errors import StorageError
from ..files import replacing, writing
from ..schema import checked

__all__ = ["Record", "rows_of"]


class _Row(TypedDict):
    """What every row has, beside its facts."""

    stage: str
    at: int | str


class Record:
    """Writes facts to a file as they come, each of them once.

    Work that was interrupted is done again from its last checkpoint, and what it had recorded
    since comes a second time: that is left out, so the record reads as if nothing had happened.

    Parameters
    ----------
    path
        The file.  If it is there, it is gone on with; a last line that is cut short is dropped.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> record = Record(Path(folder.name, "metrics.jsonl"))
    >>> record.add("training", 10, loss=2.3)
    >>> record.add("training", 10, loss=2.3)
    >>> record.rows()
    [{'stage': 'training', 'at': 10, 'loss': 2.3}]
    >>> folder.cleanup()
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # One process writes a record at a time, so a last line without its end is what a killed one
        # left. It is taken out before the next is appended, or both would be one damaged line.
        if path.exists():
            text = _content(path)
            whole = text[: text.rfind(b"\n") + 1]
            if whole != text:
                with replacing(path) as file:
                    file.write_bytes(whole)
        self._known = {(row["stage"], row["at"]) for row in self.rows()}

    def add(self, stage: str, at: int | str, **facts: Any) -> None:
        """Record facts, unless there are some of this stage and place already.

        Parameters
        ----------
        stage
            Of the work.
        at
            The place in it: a number or a name.
        facts
            What JSON can hold.
        """
        if (stage, at) in self._known:
            return
        # Not flushed to the disk: what the kernel has been given survives the end of this process,
        # and what a loss of power takes is told to people only; checkpoints say where to go on.
        line = json.dumps({"stage": stage, "at": at, **facts}) + "\n"
        with writing(self.path), self.path.open("ab", buffering=0) as file:
            end, left = file.tell(), line.encode()
            try:
                while left:
                    left = left[file.write(left) :]
            except OSError:
                file.truncate(end)  # or a half line would be in front of the next one
                raise
        self._known.add((stage, at))

    def rows(self, stage: str | None = None) -> list[dict[str, Any]]:
        """Return what is recorded of a stage, or in all, in the order in which it came."""
        return rows_of(self.path, stage)


def rows_of(path: Path, stage: str | None = None) -> list[dict[str, Any]]:
    """Return what the record in a file says, which another process may be writing at the moment.

    Parameters
    ----------
    path
        The file; if it is not there, nothing is recorded.
    stage
        As of :meth:`Record.rows`.
    """
    text = _content(path) if path.exists() else b""
    rows = []
    for number, line in enumerate(text[: text.rfind(b"\n") + 1].split(b"\n")[:-1], start=1):
        try:
            row = checked(json.loads(line), _Row, path)
        except (RecursionError, StorageError, ValueError) as error:
            raise StorageError(
                f"line {number} of {path} is damaged: {line[:80]!r}; take it out, or restore a copy"
            ) from error
        if stage in (None, row["stage"]):
            rows.append(row)
    return rows


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}; restore a copy") from error
