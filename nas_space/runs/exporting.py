"""A network as programs that run without its code, each compared with the network itself."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..training.forward import tensors_of

__all__ = ["export_checked", "run_onnx"]

_OFFICIAL, _ONNX = "network.pt2", "network.onnx"


def export_checked(
    network: nn.Module, inputs: tuple[tuple[Any, ...], Mapping[str, Any]], folder: Path
) -> dict[str, float | str]:
    """Export a network by ``torch.export`` and to ONNX, for batches of any size where it allows.

    Parameters
    ----------
    network
        In evaluation mode, on the CPU.
    inputs
        Arguments, and arguments by name, of a forward for one example.
    folder
        Where ``network.pt2`` and ``network.onnx`` are written.

    Returns
    -------
    dict
        By the name of the file, the largest difference of an output from what the network itself
        gives; or why there is no such file, or it could not be compared.
    """
    arguments = tuple(map(_twice, inputs[0]))
    keywords = {name: _twice(value) for name, value in inputs[1].items()}
    found: dict[str, float | str] = {}
    with torch.no_grad(), _silence():
        wanted = list(tensors_of(network(*arguments, **keywords)).values())
        bound = inspect.signature(network.forward).bind(*arguments, **keywords).arguments
        try:
            program = torch.export.export(
                network,
                arguments,
                keywords,
                dynamic_shapes={k: _any_batch(v) for k, v in bound.items()},
            )
            torch.export.save(program, folder / _OFFICIAL)
            again: Any = torch.export.load(folder / _OFFICIAL).module()
            given = list(tensors_of(again(*arguments, **keywords)).values())
            found[_OFFICIAL] = _difference(given, wanted)
        except Exception as error:  # noqa: BLE001 - exporters raise anything; the report says it
            return {_OFFICIAL: _told(error), _ONNX: f"is made of {_OFFICIAL}"}
        try:
            missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
            if missing:
                raise UsageError(f"{missing[0]} is not installed: pip install 'nas-space[onnx]'")
            torch.onnx.export(program, arguments, folder / _ONNX, kwargs=keywords, verbose=False)
            flat = [leaf for leaf in (*arguments, *keywords.values()) if isinstance(leaf, Tensor)]
            found[_ONNX] = _difference(run_onnx(folder / _ONNX, flat), wanted)
        except Exception as error:  # noqa: BLE001 - as above
            found[_ONNX] = _told(error)
    return found


def _twice(value: Any) -> Any:
    """A batch of two: what is exported at one is held to be one for ever."""
    return torch.cat([value, value]) if isinstance(value, Tensor) and value.ndim else value


def _any_batch(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _any_batch(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_any_batch, value))
    return {0: torch.export.Dim.AUTO} if isinstance(value, Tensor) and value.ndim else None


def run_onnx(file: Path, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Run a model of ONNX by its runtime, where that is installed, and else by its definition.

    Parameters
    ----------
    file
        The model.
    inputs
        In its order.
    """
    import onnx

    model = onnx.load(file)
    onnx.checker.check_model(model)
    arrays = [value.numpy() for value in inputs]
    feeds = dict(zip((entry.name for entry in model.graph.input), arrays, strict=True))
    if find_spec("onnxruntime") is not None:
        import onnxruntime

        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        return [torch.as_tensor(value) for value in session.run(None, feeds)]
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(model, new_ops=[_gather_elements()])
    return [torch.as_tensor(value) for value in evaluator.run(None, feeds)]


def _gather_elements() -> Any:
    """ONNX's own reference for this operator cannot take from more than 64 elements."""
    import numpy as np
    from onnx.reference.op_run import OpRun

    class GatherElements(OpRun):
        op_domain = ""

        def _run(self, data: Any, places: Any, axis: int = 0) -> tuple[Any]:
            kept = [slice(size) for size in places.shape]
            kept[axis] = slice(None)
            return (np.take_along_axis(data[tuple(kept)], places, axis),)

    return GatherElements


def _difference(given: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    pairs = list(zip(given, wanted, strict=False))
    if not pairs or any(one.shape != other.shape for one, other in pairs):
        raise UsageError("its outputs are not those of the network")
    return max(float((one - other).abs().max()) for one, other in pairs)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or 'no reason given').splitlines()[0]}"


@contextmanager
def _silence() -> Iterator[None]:
    """Exporters tell much that is of no use to who compresses a network."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
