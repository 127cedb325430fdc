"""OpenVINO: models in its intermediate representation."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .base import Program, Runtime
from .exportable import Exportable, quietly
from .tracing import write_traced

__all__ = ["OpenVino"]


class OpenVino(Runtime):
    """Models in OpenVINO's representation, run on the CPU, in float32 as they are written."""

    name = "openvino"
    extra = "openvino"
    packages = ("openvino",)
    suffix = ".xml"

    def export(
        self, source: Exportable, path: Path, *, dynamic: bool = False, fast: bool = False
    ) -> None:
        import openvino

        shapes = [list(tensor.shape) for tensor in source.tensors]
        if dynamic:
            for shape, free in zip(shapes, source.dynamic_shapes(), strict=True):
                shape[:1] = [-1] if free else shape[:1]
        with torch.no_grad(), quietly():
            if fast and not dynamic:
                model = _traced(source, path)
            else:
                program = source.dynamic_program if dynamic else source.program
                model = _complete(openvino.convert_model(program), program, source)
                # Its reader takes axes for free that the program says the size of.
                partial = map(openvino.PartialShape, shapes)
                model.reshape(dict(zip(model.inputs, partial, strict=True)))
        for ports, names in ((model.inputs, source.names), (model.outputs, source.outputs)):
            for port, name in zip(ports, names, strict=True):
                port.get_tensor().set_names({name})
        openvino.save_model(model, os.fspath(path), compress_to_fp16=False)

    def load(self, path: str | os.PathLike[str], *, threads: int = 1) -> Program:
        return _CompiledModel(path, threads)


def _traced(source: Exportable, path: Path) -> Any:
    """Read what one run of the network does: by way of ONNX, in a tenth of its own time."""
    import openvino

    between = path.with_suffix(".onnx")
    try:
        write_traced(source, between)
        return _core().read_model(between)
    except Exception:  # noqa: BLE001 - whatever ONNX lacks, OpenVINO may have
        shapes = [list(tensor.shape) for tensor in source.tensors]
        example = tuple(source.tensors)
        return openvino.convert_model(source.module, example_input=example, input=shapes)
    finally:
        between.unlink(missing_ok=True)


def _complete(model: Any, program: Any, source: Exportable) -> Any:
    """Return a model with the inputs that nothing depends on, which conversion leaves out."""
    import openvino
    from openvino import opset8

    known = {node.get_friendly_name(): node for node in model.get_parameters()}
    names = program.graph_signature.user_inputs
    if len(known) == len(names):
        return model
    inputs = [
        known.get(name) or opset8.parameter(list(tensor.shape), tensor.detach().numpy().dtype)
        for name, tensor in zip(names, source.tensors, strict=True)
    ]
    return openvino.Model(model.get_results(), inputs)


@cache
def _core() -> Any:
    import openvino

    return openvino.Core()


class _CompiledModel(Program):
    def __init__(self, path: str | os.PathLike[str], threads: int) -> None:
        # Without a stream the thread that calls computes: one of OpenVINO's own would have to be
        # waited for, on a busy machine for several times as long as a small network takes. And some
        # processors would compute in bfloat16, which is another network.
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 0 if threads == 1 else 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self.model = _core().compile_model(os.fspath(path), "CPU", settings)

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        request = self.model.create_infer_request()
        found = request.infer([tensor.detach().contiguous().numpy() for tensor in inputs])
        return [torch.tensor(found[port]) for port in self.model.outputs]

    def prepare(self, *inputs: Tensor) -> Callable[[], Any]:
        import openvino

        request = self.model.create_infer_request()
        for place, tensor in enumerate(inputs):
            array = tensor.detach().contiguous().numpy()
            request.set_input_tensor(place, openvino.Tensor(array, shared_memory=False))
        run: Callable[[], Any] = request.infer
        return run
