"""Core ML: models for Apple's devices, which are written anywhere and run there only."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from ..errors import UsageError
from .base import Program, Runtime
from .exportable import Exportable, quietly

__all__ = ["CoreMl"]


class CoreMl(Runtime):
    """Packages of Core ML, in float32, each for batches of one size.

    What was written can be neither compared nor timed here.
    """

    name = "coreml"
    extra = "coreml"
    packages = ("coremltools",)
    suffix = ".mlpackage"
    dynamic = False
    runs_here = False

    def export(
        self, source: Exportable, path: Path, *, dynamic: bool = False, fast: bool = False
    ) -> None:
        with torch.no_grad(), quietly():
            import coremltools

            made = coremltools.convert(
                source.program.run_decompositions({}),
                outputs=[coremltools.TensorType(name=name) for name in source.outputs],
                compute_precision=coremltools.precision.FLOAT32,
                minimum_deployment_target=coremltools.target.iOS17,
                skip_model_load=True,
            )
            made.save(os.fspath(path))

    def load(self, path: str | os.PathLike[str], *, threads: int = 1) -> Program:
        raise UsageError(
            f"Core ML runs on Apple's devices only, and this is {sys.platform}: take {path} there"
        )
