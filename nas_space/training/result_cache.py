"""What was computed of given inputs, for when the same come again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .forward import tensors_of

__all__ = ["LastResult", "ResultCache"]


class LastResult:
    """The last result, for the very same tensors, unchanged since."""

    def __init__(self) -> None:
        self._last: tuple[list[Any], Any] | None = None

    def find(self, given: Sequence[Any]) -> Any:
        """Return what was kept for the same inputs; ``None`` if nothing was."""
        return self._last[1] if self._last is not None and _same(self._last[0], given) else None

    def keep(self, given: Sequence[Any], result: Any) -> None:
        """Keep a result in the place of the last."""
        self._last = [_versioned(item) for item in given], result


class ResultCache:
    """Results by the content of what they were computed from, as many as fit; all that fit stay.

    Those that come first stay: what comes again does so in the order in which it came, and of a
    longer round the last ones seen would always be those that are not needed next.

    Parameters
    ----------
    most
        Bytes that they may take.

    Examples
    --------
    >>> cache = ResultCache(1 << 10)
    >>> cache.keep([torch.ones(2)], "both are one")
    >>> cache.find([torch.ones(2)]), cache.find([torch.ones(3)])
    ('both are one', None)
    """

    def __init__(self, most: int = 0) -> None:
        self.most = most
        self._size = 0
        self._kept: dict[bytes, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"most": self.most, "_size": 0, "_kept": {}}

    def find(self, given: Sequence[Any]) -> Any:
        """Return what was kept for the same inputs; ``None`` if nothing was."""
        digest = _digest(given) if self._kept else None
        return None if digest is None else self._kept.get(digest)

    def keep(self, given: Sequence[Any], result: Any) -> None:
        """Keep a result while there is room, if all inputs are tensors or plain values."""
        size = sum(tensor.nbytes for tensor in tensors_of(result).values())
        if self._size + size <= self.most and (digest := _digest(given)) is not None:
            self._size += size
            self._kept[digest] = result


def _digest(given: Sequence[Any]) -> bytes | None:
    """Return a digest of the contents of inputs; ``None`` if some are of an unknown kind."""
    found = hashlib.sha256()
    for item in given:
        if isinstance(item, Tensor) and item.layout == torch.strided and not item.is_meta:
            kind = item.device.type  # in another precision, the result is another one
            precision = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind)
            found.update(repr((item.dtype, item.shape, item.device, precision)).encode())
            content = item.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            found.update(content.numpy().data)
        elif item is None or isinstance(item, bool | int | float | str):
            found.update(repr(item).encode())
        else:
            return None
    return found.digest()


def _versioned(item: Any) -> Any:
    return (item, item._version) if _counted(item) else item


def _counted(item: Any) -> bool:
    return isinstance(item, Tensor) and not bool(item.is_inference())


def _same(before: Sequence[Any], now: Sequence[Any]) -> bool:
    """Return whether arguments are the same objects as before, and tensors unchanged since.

    Only version counters tell of a change, so a tensor without one, of inference mode, is never the
    same.
    """
    if len(before) != len(now):
        return False
    for old, new in zip(before, now, strict=True):
        if _counted(new):
            if not isinstance(old, tuple) or old[0] is not new or old[1] != new._version:
                return False
        elif isinstance(new, Tensor) or old is not new:
            return False
    return True
