"""Limits at which the tables change their ways, moved so that small spaces meet all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any
from unittest.mock import patch

from hypothesis import strategies as st

from nas_space.tables import (
    activity,
    arithmetic,
    conditions,
    decision_diagrams,
    dominance,
    histograms,
    message_passing,
    sampler,
    solver,
    tabulation,
)

_WAYS: dict[str, list[tuple[ModuleType, str, Any]]] = {
    # As they are: what is small is enumerated.
    "usual": [],
    # Every comparison becomes a window on a cost.
    "windows": [(conditions, "_FEW", 0)],
    # Costs are counted in coarse units, and what these let through is drawn or looked for again.
    "coarse": [
        (conditions, "_FEW", 0),
        (sampler, "_ROWS", 4),
        (sampler, "_GOOD", 0.0),
        (solver, "_ROWS", 4),
    ],
    # Lists are joined in small portions, by adding arrays.
    "arrays": [
        (conditions, "_FEW", 0),
        (histograms, "CHUNK", 3),
        (histograms, "LONG", 0),
        (histograms, "SHORT", 0),
        (message_passing, "_AT_ONCE", 2),
    ],
    # Lists are joined in small portions, by sorting; numbers are residues; too many rows dominate.
    "portions": [
        (conditions, "_FEW", 0),
        (histograms, "CHUNK", 3),
        (histograms, "LONG", 4),
        (histograms, "_LONGEST", 0),
        (arithmetic, "_FITS", 0),
        (solver, "_ROWS", 4),
        (dominance, "_MOST", 3),
    ],
    # Conditions on activity, and those of lazy costs, are named by auxiliary variables.
    "named": [
        (conditions, "_FEW", 0),
        (activity, "_EASY", 3),
        (tabulation, "_EASY", 1),
        (tabulation, "_SMALL", 1),
        (decision_diagrams, "_EASY", 1),
    ],
}

WAYS = sorted(_WAYS)

ways = st.sampled_from(WAYS)


@contextmanager
def limits(way: str) -> Iterator[None]:
    """A context in which the limits are those of one way of working."""
    with ExitStack() as stack:
        for module, name, value in _WAYS[way]:
            stack.enter_context(patch.object(module, name, value))
        yield
