"""``KeptNetworks``: the weights with which the best trials were scored."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError
from .storage import Storage, is_file

if TYPE_CHECKING:
    from torch import Tensor, nn

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
    several processes share a folder without a lock, and one that is killed leaves at most a file
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
        self._states: dict[int, dict[str, Tensor]] = {}

    def keep(self, number: int, network: nn.Module) -> None:
        """Keep the present weights and buffers of a network."""
        from torch import Tensor

        from ..training import save_state

        if self.folder is not None:
            save_state(self._file(number), network.state_dict())
            return
        self._states[number] = {
            name: tensor.detach().cpu().clone() if isinstance(tensor, Tensor) else tensor
            for name, tensor in network.state_dict().items()
        }

    def keep_only(self, numbers: Collection[int], others: Collection[int]) -> None:
        """Drop those of ``others`` that are not among the ``numbers`` to keep."""
        for number in set(others).difference(numbers):
            self._states.pop(number, None)
            if self.folder is not None:
                self._file(number).unlink(missing_ok=True)

    def state(self, number: int) -> dict[str, Any] | None:
        """Return the state dict of a network; ``None`` if it was not kept, or is kept elsewhere."""
        if number in self._states:
            return self._states[number]
        if self.folder is None:
            return None
        from ..training import load_state

        with suppress(CheckpointError):
            state: dict[str, Any] = load_state(self._file(number))
            return state
        return None

    def in_memory(self) -> KeptNetworks:
        """Return the same networks, without a folder."""
        from ..training import load_state

        memory = KeptNetworks(self.count)
        for file in self.folder.glob("trial*.safetensors") if self.folder is not None else ():
            memory._states[int(file.stem.removeprefix("trial"))] = load_state(file)
        return memory

    def _file(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"trial{number}.safetensors"
