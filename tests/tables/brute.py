"""What tables must agree with: every combination of values, gone through one by one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product
from typing import Any

from nas_space.errors import SampleValidationError
from nas_space.mutable import Mutable, Sample
from tests.strategies import decoded


def key(arch: Mapping[str, Any]) -> str:
    """An architecture as something to compare and to hash."""
    return json.dumps(arch, sort_keys=True)


def architectures(space: Mutable) -> dict[str, Sample]:
    """Every architecture of a space: its active labels, each combination once."""
    symbols = space.symbols()
    found: dict[str, Sample] = {}
    for values in product(*[decoded(symbol) for symbol in symbols.values()]):
        try:
            active = space.read(dict(zip(symbols, values, strict=True))).active
        except SampleValidationError:
            continue
        found.setdefault(key(active), active)
    return found


def probabilities(space: Mutable) -> dict[str, float]:
    """How probable each architecture is if labels are drawn on their own, given the constraints."""
    symbols = space.symbols()
    found: dict[str, float] = {}
    for arch_key, arch in architectures(space).items():
        share = 1.0
        for name, value in arch.items():
            symbol = symbols[name]
            share *= float(symbol.probabilities()[symbol.code(value)])
        found[arch_key] = share
    total = sum(found.values())
    return {k: share / total for k, share in found.items()} if total else {}


def front(points: list[tuple[Any, Any]]) -> set[tuple[Any, Any]]:
    """Those points that no other one is as good as in both coordinates."""
    return {p for p in points if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)}
