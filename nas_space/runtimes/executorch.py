"""ExecuTorch: programs for phones and small devices, computed by XNNPACK on their CPUs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .base import Program, Runtime
from .exportable import Exportable, quietly

__all__ = ["ExecuTorch"]


class ExecuTorch(Runtime):
    """Programs of ExecuTorch, lowered to XNNPACK, and to portable operators where that has none.

    Memory is planned before a program runs: for batches of one size, or of up to 32 samples.
    """

    name = "executorch"
    extra = "executorch"
    packages = ("executorch",)
    suffix = ".pte"
    dynamic = False
    largest_batch = 32

    def export(
        self, source: Exportable, path: Path, *, dynamic: bool = False, fast: bool = False
    ) -> None:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        with torch.no_grad(), quietly():
            program = source.bounded_program(self.largest_batch) if dynamic else source.program
            lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            made = lowered.to_executorch()
        path.write_bytes(made.buffer)

    def load(self, path: str | os.PathLike[str], *, threads: int = 1) -> Program:
        return _Method(path, threads)


class _Method(Program):
    def __init__(self, path: str | os.PathLike[str], threads: int) -> None:
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime as Interpreter

        # Its threads are those of the process, whichever program they run.
        portable_lib._unsafe_reset_threadpool(threads)
        # Read from memory: the file may be moved while the program lives.
        self.program: Any = Interpreter.get().load_program(Path(path).read_bytes())
        self.method: Any = self.program.load_method("forward")

    def _given(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        return [tensor.detach().contiguous() for tensor in inputs]

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        # Outputs lie in the memory of the program, which the next run writes to.
        return [tensor.clone() for tensor in self.method.execute(self._given(inputs))]

    def prepare(self, *inputs: Tensor) -> Callable[[], Any]:
        given = self._given(inputs)
        return lambda: self.method.execute(given)
