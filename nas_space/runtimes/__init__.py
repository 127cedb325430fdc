"""Runtimes that networks are deployed on: written for, checked on, and timed where they run here.

Each is one adapter on the interface of :class:`Runtime`, imported when it is asked for.

>>> from nas_space.runtimes import find_runtime
>>> find_runtime("torch-export").suffix
'.pt2'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazily

if TYPE_CHECKING:
    from .alternating import Turns, rank_correlation, time_in_turns
    from .base import Program, Runtime
    from .exportable import Exportable
    from .exporting import Export, export
    from .program_module import ProgramModule
    from .quantization import Quantized, quantize
    from .registry import RUNTIMES, find_runtime, register_runtime
    from .timing import Latency, time_programs

__all__ = [
    "RUNTIMES",
    "Export",
    "Exportable",
    "Latency",
    "Program",
    "ProgramModule",
    "Quantized",
    "Runtime",
    "Turns",
    "export",
    "find_runtime",
    "quantize",
    "rank_correlation",
    "register_runtime",
    "time_in_turns",
    "time_programs",
]

__getattr__, __dir__ = lazily(__name__)
