"""Runs of the shell: a folder, a plan, and stages that can be interrupted at any moment.

A run builds a space, searches it, trains what it found and writes it to files. Which stages it
has follows from the strategy of its plan, see :mod:`nas_space.runs.kinds`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazily

if TYPE_CHECKING:
    from .conclusion import Finalist, Findings
    from .kinds import plan_of
    from .plan import Limits, Plan
    from .search_stages import PRUNERS
    from .stage import OnProgress, Stage
    from .staged import StagedRun
    from .stored import StoredRun, find_runs, open_run

__all__ = [
    "PRUNERS",
    "Finalist",
    "Findings",
    "Limits",
    "OnProgress",
    "Plan",
    "Stage",
    "StagedRun",
    "StoredRun",
    "find_runs",
    "open_run",
    "plan_of",
]

__getattr__, __dir__ = lazily(__name__)
