"""A program of a runtime in the place of the network that it was made of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..errors import UsageError
from .base import Program
from .exportable import Exportable, with_tensors

__all__ = ["ProgramModule"]


class ProgramModule(nn.Module):
    """A program that is called as its network is and returns what that does, to be scored.

    Parameters
    ----------
    program
        Of a runtime.
    source
        What it was made of.
    """

    def __init__(self, program: Program, source: Exportable) -> None:
        super().__init__()
        self.program, self.source = program, source
        with torch.no_grad():
            self.leaves, self.spec = pytree.tree_flatten(
                source.network(*source.args, **source.kwargs)
            )
        if sum(isinstance(leaf, Tensor) for leaf in self.leaves) != len(source.outputs):
            kind = type(source.network).__name__
            raise UsageError(f"{kind} returns what torch.utils._pytree cannot take apart")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        given = self.source.tensors_of((args, kwargs))
        found = self.program(*(tensor.cpu() for tensor in given))
        placed = (tensor.to(given[0].device) for tensor in found)
        return pytree.tree_unflatten(with_tensors(self.leaves, placed), self.spec)
