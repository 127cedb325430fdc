"""``KeptNetworks``: the weights with which the best trials were scored."""

from __future__ import annotations

from bisect import insort
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..files import replacing
from .storage import Storage, is_file

__all__ = ["KeptNetworks", "folder_of"]


def folder_of(storage: Storage, name: str) -> Path | None:
    """Return the folder for the networks of a study: beside the file that has its trials.

    ``None`` where trials are kept in memory, or in a database, which has no place for them.
    """
    if not is_file(storage):
        return None
    return Path(f"{str(storage).removeprefix('sqlite:///')}.networks", name)


class KeptNetworks:
    """State dicts of networks by the numbers of their trials, in a folder or in memory.

    A network is kept before its trial is told to be complete, and dropped when ``count`` others
    that are complete are better. What is worse than those stays so, whoever else adds trials: so
    several drivers share a folder without a lock, and one that is killed leaves at most a file
    that its number, tried again, writes anew.

    Parameters
    ----------
    count
        How many to keep.
    folder
        Where; ``None`` for memory.
    """

    def __init__(self, count: int, folder: Path | None = None) -> None:
        self.count = count
        self.folder = folder
        self._states: dict[int, bytes] = {}
        self._best: list[tuple[float, ...]] = []

    @property
    def worst(self) -> tuple[float, ...] | None:
        """The rank that a trial must be better than to be kept; ``None`` if there is room."""
        return self._best[-1] if self.count and len(self._best) == self.count else None

    def keep(self, number: int, state: bytes) -> None:
        """Keep a state dict, as :func:`~nas_space.training.dump_state` gives it."""
        if self.folder is None:
            self._states[number] = state
            return
        with replacing(self._file(number)) as file:
            file.write_bytes(state)

    def complete(self, rank: tuple[float, ...]) -> None:
        """Note that a trial is complete, and drop what is not among the best any more.

        Parameters
        ----------
        rank
            As :func:`~nas_space.study.objectives.ranking` gives it; its number comes last.
        """
        insort(self._best, rank)
        for dropped in self._best[self.count :]:
            self.drop(int(dropped[-1]))
        del self._best[self.count :]

    def drop(self, number: int) -> None:
        """Drop the network of a trial, if it was kept."""
        self._states.pop(number, None)
        if self.folder is not None:
            self._file(number).unlink(missing_ok=True)

    def state(self, number: int) -> dict[str, Any] | None:
        """Return the state dict of a network; ``None`` if it was not kept, or is kept elsewhere."""
        from ..training import load_state

        state: dict[str, Any]
        if number in self._states:
            state = load_state(self._states[number])
            return state
        if self.folder is None:
            return None
        with suppress(CheckpointError):
            state = load_state(self._file(number))
            return state
        return None

    def _file(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"trial{number}.safetensors"
