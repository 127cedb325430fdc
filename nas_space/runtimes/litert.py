"""LiteRT, once called TensorFlow Lite: models for Android and small devices."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from .base import Program, Runtime
from .exportable import Exportable, quietly

__all__ = ["LiteRt"]


class LiteRt(Runtime):
    """Models of LiteRT, run by its interpreter on the CPU; each takes batches of one size."""

    name = "litert"
    extra = "litert"
    packages = ("ai_edge_litert", "litert_torch")
    suffix = ".tflite"
    dynamic = False

    def export(
        self, source: Exportable, path: Path, *, dynamic: bool = False, fast: bool = False
    ) -> None:
        with torch.no_grad(), quietly():
            import litert_torch

            litert_torch.convert(source.module, tuple(source.tensors)).export(os.fspath(path))

    def load(self, path: str | os.PathLike[str], *, threads: int = 1) -> Program:
        return _Interpreter(path, threads)


class _Interpreter(Program):
    def __init__(self, path: str | os.PathLike[str], threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        # Read from memory: the file may be moved while the program lives.
        content = Path(path).read_bytes()
        self.interpreter: Any = Interpreter(model_content=content, num_threads=threads)
        self.interpreter.allocate_tensors()
        runner = self.interpreter.get_signature_runner()
        self.types = {one["index"]: one["dtype"] for one in self.interpreter.get_input_details()}
        self.places = _in_order(runner.get_input_details())
        self.results = _in_order(runner.get_output_details())

    def _set(self, inputs: Sequence[Tensor]) -> None:
        for place, tensor in zip(self.places, inputs, strict=True):
            array = tensor.detach().contiguous().numpy()
            given = array.astype(self.types[place])  # whole numbers are of 32 bits there
            if (given != array).any():
                raise UsageError(f"an input has numbers that {given.dtype} cannot hold")
            self.interpreter.set_tensor(place, given)

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        self._set(inputs)
        self.interpreter.invoke()
        return [torch.tensor(self.interpreter.get_tensor(place)) for place in self.results]

    def prepare(self, *inputs: Tensor) -> Callable[[], Any]:
        self._set(inputs)
        run: Callable[[], Any] = self.interpreter.invoke
        return run


def _in_order(details: dict[str, Any]) -> list[int]:
    """Return where tensors lie, by the number at the end of their names: ``args_10``."""
    names = sorted(details, key=lambda name: int(name.rpartition("_")[2]))
    return [details[name]["index"] for name in names]
