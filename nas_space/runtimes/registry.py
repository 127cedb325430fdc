"""Which runtimes there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UsageError, suggest
from ..lazy import at_address

if TYPE_CHECKING:
    from .base import Runtime

__all__ = ["RUNTIMES", "find_runtime", "register_runtime"]

RUNTIMES: dict[str, str | Runtime] = {
    name: f"nas_space.runtimes.{module}:{adapter}"
    for name, module, adapter in (
        ("onnxruntime", "onnx_runtime", "OnnxRuntime"),
        ("openvino", "open_vino", "OpenVino"),
        ("executorch", "executorch", "ExecuTorch"),
        ("litert", "litert", "LiteRt"),
        ("coreml", "coreml", "CoreMl"),
        ("torch-export", "torch_export", "TorchExport"),
    )
}
"""Name to an adapter, or to the address of its class, ``'package.module:Class'``."""


def register_runtime(name: str, runtime: str | Runtime) -> None:
    """Add a runtime, or replace one.

    Parameters
    ----------
    name
        What it is asked for by.
    runtime
        An adapter, or the address of its class ``'package.module:Class'``, which is imported and
        called without arguments when it is first asked for.
    """
    RUNTIMES[name] = runtime


def find_runtime(name: str) -> Runtime:
    """Return the adapter of a runtime.

    Raises
    ------
    UsageError
        If there is none of this name; the error lists those that there are.

    Examples
    --------
    >>> find_runtime("onnxrutime")
    Traceback (most recent call last):
      ...
    nas_space.errors.UsageError: there is no runtime 'onnxrutime' (did you mean 'onnxruntime'?); ...
    """
    if name not in RUNTIMES:
        raise UsageError(
            f"there is no runtime {name!r}{suggest(name, RUNTIMES)}; there are "
            f"{', '.join(RUNTIMES)}"
        )
    found = RUNTIMES[name]
    if isinstance(found, str):
        found = RUNTIMES[name] = at_address(found)()
    return found
