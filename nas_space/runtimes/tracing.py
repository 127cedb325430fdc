"""What one run of a network does, as a model in ONNX: the exporter that is fast."""

from __future__ import annotations

from pathlib import Path

import torch

from .exportable import Exportable, quietly

__all__ = ["write_traced"]

_OPSET = 18


def write_traced(source: Exportable, path: Path) -> None:
    """Write what a network does for its inputs, shapes and decisions as they are.

    On one core, 72 blocks of ProxylessNAS take 1 s, where the exporter of whole programs takes 120.
    """
    with torch.no_grad(), quietly():
        torch.onnx.export(
            source.module,
            tuple(source.tensors),
            path,
            input_names=source.names,
            output_names=list(source.outputs),
            opset_version=_OPSET,
            dynamo=False,
        )
    _complete(source, path)


def _complete(source: Exportable, path: Path) -> None:
    """Give the model the inputs that nothing depends on, which tracing leaves out."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    known = {entry.name: entry for entry in model.graph.input}
    if len(known) == len(source.names):
        return
    for name, tensor in zip(source.names, source.tensors, strict=True):
        kind = onnx.helper.np_dtype_to_tensor_dtype(tensor.detach().cpu().numpy().dtype)
        made = onnx.helper.make_tensor_value_info(name, kind, list(tensor.shape))
        known.setdefault(name, made)
    inputs = [known[name] for name in source.names]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    onnx.save(model, path)
