"""``Unchanged``: tensors that several branches of a mixture read, and none may change in place.

An architecture runs one of the branches, which is free to write to its input.  In a mixture, the
others would read what it has written.  Copying the input for each branch would be safe, but costs
memory in every mixture for what hardly any branch does; so the version counters, by which autograd
notices the same, are compared, and a change is refused.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...errors import SpaceError
from .mixed_tensor import MixedTensor
from .refusals import path_here

__all__ = ["Unchanged"]


class Unchanged:
    """Tensors as they are now.

    Parameters
    ----------
    values
        Tensors, or tuples, lists and dictionaries of them.
    """

    __slots__ = ("_found",)

    def __init__(self, *values: Any) -> None:
        self._found: list[tuple[Tensor, int]] = []
        stack = [*values]
        while stack:
            item = stack.pop()
            if isinstance(item, MixedTensor):
                stack.extend(item.cases.values() if item.wide is None else (item.wide,))
            elif isinstance(item, Tensor):
                if not item.is_inference():  # torch does not count what changes those
                    self._found.append((item, item._version))
            elif isinstance(item, (tuple, list)):
                stack.extend(item)
            elif isinstance(item, dict):
                stack.extend(item.values())

    def __bool__(self) -> bool:
        for tensor, version in self._found:  # noqa: SIM110 - before and after every branch
            if tensor._version != version:
                return False
        return True

    def check(self, choice: Any, value: Any) -> None:
        """Raise if they have changed.

        Raises
        ------
        SpaceError
            With what is chosen, and the branch that ran last.
        """
        if self:
            return
        raise SpaceError(
            f"what runs for {value!r} of {choice} changes its input in place"
            f"{path_here()}, and what runs for other values reads that as "
            "well; write inplace=False, or clone the input first, or take a strategy that samples, "
            "such as RandomOneShot"
        )
