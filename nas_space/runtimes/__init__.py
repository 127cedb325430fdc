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
    from .base import Program, Runtime
    from .exportable import Exportable
    from .exporting import Export, export
    from .registry import RUNTIMES, find_runtime, register_runtime
    from .timing import Latency, time_program

__all__ = [
    "RUNTIMES",
    "Export",
    "Exportable",
    "Latency",
    "Program",
    "Runtime",
    "export",
    "find_runtime",
    "register_runtime",
    "time_program",
]

__getattr__, __dir__ = lazily(__name__)
