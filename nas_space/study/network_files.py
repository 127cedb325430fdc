"""``NetworkFiles``: the weights with which the best trials were scored, beside their storage."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..files import replacing, writing
from .networks import KeptNetworks
from .storage import Storage, file_of

__all__ = ["networks_of"]


def networks_of(storage: Storage, name: str, count: int) -> KeptNetworks:
    """Return what keeps so many networks of a study: files beside the one that has its trials.

    Where trials are kept in a database, which has no place for networks, it is this process.
    """
    if (file := file_of(storage)) is None:
        return KeptNetworks(count)
    # A name is any text; no part of it leads out of the folder.
    within = re.sub(r"[/\\\0]|^\.+$", lambda found: found[0].encode().hex(), name)
    return NetworkFiles(count, Path(f"{file}.networks", within))


class NetworkFiles(KeptNetworks):
    """State dicts in a folder.

    What is worse than ``count`` complete trials stays so, whoever else adds trials: so several
    drivers share a folder without a lock, and one that is killed leaves at most a file that its
    number, tried again, writes anew.

    Parameters
    ----------
    count
        How many to keep.
    folder
        Where.
    """

    packed = True

    def __init__(self, count: int, folder: Path) -> None:
        super().__init__(count)
        self.folder = folder

    def keep(self, number: int, state: Any) -> None:
        with replacing(self._file(number)) as file:
            file.write_bytes(state)

    def drop(self, number: int) -> None:
        with writing(self._file(number)):
            self._file(number).unlink(missing_ok=True)

    def state(self, number: int) -> Mapping[str, Any] | None:
        from ..training import load_state

        with suppress(CheckpointError):
            return dict(load_state(self._file(number)))
        return None

    def _file(self, number: int) -> Path:
        return self.folder / f"trial{number}.safetensors"
