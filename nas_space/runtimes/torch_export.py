"""torch's own exported programs, which run wherever torch does, without the network's code."""

from __future__ import annotations

import inspect
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .base import Program, Runtime
from .exportable import Exportable, quietly, tensors_in, with_tensors

__all__ = ["TorchExport"]


class TorchExport(Runtime):
    """Programs of ``torch.export``, called as the network was."""

    name = "torch-export"
    suffix = ".pt2"

    def export(
        self, source: Exportable, path: Path, *, dynamic: bool = False, fast: bool = False
    ) -> None:
        args, kwargs = source.args, source.kwargs
        shapes: Any = None
        if dynamic:
            leaves, spec = pytree.tree_flatten((args, kwargs))
            tensors = source.of_batch(max(2, source.batch_size))
            args, kwargs = pytree.tree_unflatten(with_tensors(leaves, tensors), spec)
            bound = inspect.signature(source.network.forward).bind(*args, **kwargs)
            free = iter(source.dynamic_shapes())
            shapes = pytree.tree_map(
                lambda leaf: next(free) if isinstance(leaf, Tensor) else None, dict(bound.arguments)
            )
        with torch.no_grad(), quietly():
            program = torch.export.export(source.network, args, kwargs, dynamic_shapes=shapes)
            # torch's own writer may abort the process where the disk is full
            content = io.BytesIO()
            torch.export.save(program, content)
        path.write_bytes(content.getbuffer())

    def load(self, path: str | os.PathLike[str], *, threads: int = 1) -> Program:
        return _Loaded(path, threads)


class _Loaded(Program):
    def __init__(self, path: str | os.PathLike[str], threads: int) -> None:
        program = torch.export.load(path)
        self.module: Any = program.module()
        self.example = pytree.tree_flatten(program.example_inputs)
        self.threads = threads

    def prepare(self, *inputs: Tensor) -> Callable[[], Any]:
        leaves, spec = self.example
        args, kwargs = pytree.tree_unflatten(with_tensors(leaves, inputs), spec)

        # Threads are those of the process, and setting them takes time that would be counted with
        # the network's, so they are only set where they differ.
        def run() -> Any:
            before = torch.get_num_threads()
            if before != self.threads:
                torch.set_num_threads(self.threads)
            try:
                with torch.inference_mode():
                    return self.module(*args, **kwargs)
            finally:
                if before != self.threads:
                    torch.set_num_threads(before)

        return run

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        return list(tensors_in(self.prepare(*inputs)()).values())
