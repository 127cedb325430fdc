"""ONNX Runtime: models in ONNX."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .base import Program, Runtime
from .exportable import Exportable, quietly
from .tracing import write_traced

__all__ = ["OnnxRuntime"]

_LINEAR = ["MatMul", "Gemm", "Attention"]
"""Operators whose weights become 8 bits where ranges are found in each run."""

_LARGEST = 1 << 30
"""Bytes of weights that a file holds; more lie beside it, for a file of ONNX ends at 2 GB."""


class OnnxRuntime(Runtime):
    """Models in ONNX, run by ONNX Runtime on the CPU."""

    name = "onnxruntime"
    extra = "onnxruntime"
    packages = ("onnxruntime", "onnx", "onnxscript")
    suffix = ".onnx"
    quantizes = True

    def export(
        self, source: Exportable, path: Path, *, dynamic: bool = False, fast: bool = False
    ) -> None:
        if fast and not dynamic:
            try:
                write_traced(source, path)
                return
            except Exception:  # noqa: BLE001 - whatever tracing lacks, the official exporter is asked
                path.unlink(missing_ok=True)
        program = source.dynamic_program if dynamic else source.program
        with torch.no_grad(), quietly():
            made: Any = torch.onnx.export(
                program, input_names=source.names, output_names=list(source.outputs), verbose=False
            )
            weights = sum(tensor.nbytes for tensor in source.network.state_dict().values())
            made.save(path, external_data=weights > _LARGEST)

    def quantize(
        self, path: Path, target: Path, *, method: str, batches: Iterable[Sequence[Tensor]]
    ) -> None:
        from onnxruntime import quantization

        kinds = quantization.QuantType
        prepared = target.with_name(f"prepared-{target.name}")
        with quietly():
            # Shapes of what is inside, and norms folded into what is before them. Then unsigned
            # activations and signed weights: the pair that x86 has instructions for. Each output
            # channel has a range of its own, for those of one layer differ by orders of magnitude.
            quantization.quant_pre_process(path, prepared, skip_symbolic_shape=True)
            if method == "dynamic":
                quantization.quantize_dynamic(
                    prepared,
                    target,
                    weight_type=kinds.QInt8,
                    per_channel=True,
                    op_types_to_quantize=_LINEAR,
                )
            else:
                quantization.quantize_static(
                    prepared,
                    target,
                    _Batches(_Session(path, 1).names, batches),
                    activation_type=kinds.QUInt8,
                    weight_type=kinds.QInt8,
                    per_channel=True,
                )
        prepared.unlink()

    def load(self, path: str | os.PathLike[str], *, threads: int = 1) -> Program:
        return _Session(path, threads)


class _Batches:
    """Batches as ONNX Runtime asks for them: one by one, ``None`` after the last."""

    def __init__(self, names: Sequence[str], batches: Iterable[Sequence[Tensor]]) -> None:
        self.feeds = (
            {k: tensor.numpy() for k, tensor in zip(names, batch, strict=True)} for batch in batches
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self.feeds, None)


class _Session(Program):
    def __init__(self, path: str | os.PathLike[str], threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            os.fspath(path), options, providers=["CPUExecutionProvider"]
        )
        self.names = [entry.name for entry in self.session.get_inputs()]

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        arrays = (tensor.detach().numpy() for tensor in inputs)
        found = self.session.run(None, dict(zip(self.names, arrays, strict=True)))
        return [torch.as_tensor(array) for array in found]

    def prepare(self, *inputs: Tensor) -> Callable[[], Any]:
        binding = self.session.io_binding()
        for name, tensor in zip(self.names, inputs, strict=True):
            binding.bind_cpu_input(name, tensor.detach().contiguous().numpy())
        for entry in self.session.get_outputs():
            binding.bind_output(entry.name)
        return lambda: self.session.run_with_iobinding(binding)
