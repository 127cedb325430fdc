"""Architectures that do not run: which, where and why, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from torch import nn

from ..errors import SampleValidationError, SpaceError
from ..mutable import Mutable, Sample
from ..mutable.factors import Auxiliary, Factor
from .contexts import Context, met
from .explore import Failure

__all__ = ["architecture", "assignments", "check"]

_ASSIGNMENTS = 64
"""How many combinations of the labels of a failure are looked at."""

_COMPLETIONS = 64
"""How often the other labels are drawn for each, where constraints refuse the defaults."""


def check(space: nn.Module, failures: Sequence[Failure], inputs: str, none: bool = False) -> None:
    """Raise if there is an architecture that does not run.

    Parameters
    ----------
    space
        What was followed.
    failures
        What was found on the way.
    inputs
        What the inputs were, in words.
    none
        Whether no architecture got through.

    Raises
    ------
    SpaceError
        With the architecture, the path of the module, and what was said there.
    """
    name = type(space).__name__
    for failure in failures:
        arch = architecture(space, failure.conditions)
        if arch is None:
            continue
        if not failure.conditions:
            text = f"{name} does not run on {inputs}"
        elif none:
            text = f"no architecture of {name} runs on {inputs}; {arch} fails"
        else:
            text = f"not every architecture of {name} runs on {inputs}; {arch} fails"
        raise SpaceError(f"{text} {_explained(failure)}") from failure.error


def _explained(failure: Failure) -> str:
    where = f"at {failure.path}" if failure.path else "in its forward"
    called = f", in {failure.what}" if failure.what else ""
    lines = str(failure.error).strip().splitlines()
    text = f"{where}{called}: {lines[0] if lines else type(failure.error).__name__}"
    if any(word in str(failure.error) for word in _NEEDS_DATA):
        text += " (shapes and types are followed, values in tensors are not)"
    return text


_NEEDS_DATA = ("meta tensor", "meta device", "register_meta", "data-independent")


def architecture(space: nn.Module, conditions: Sequence[Factor]) -> Sample | None:
    """Return an architecture of the space that meets some conditions; ``None`` if none is found."""
    if not isinstance(space, Mutable):
        return {}
    generator = np.random.default_rng(0)
    scopes = (condition.scope for condition in conditions)
    named = any(isinstance(variable, Auxiliary) for scope in scopes for variable in scope)
    for chosen in islice(assignments(conditions), _ASSIGNMENTS):
        for attempt in range(_COMPLETIONS):
            sample: Sample = {}

            def choose(symbol: Any, chosen: Sample = chosen, first: bool = attempt == 0) -> Any:
                if symbol.name in chosen:
                    return chosen[symbol.name]
                if first:
                    return symbol.default_choice()
                return symbol.value(int(generator.integers(symbol.size)))

            try:
                space.fill(sample, choose)
            except SampleValidationError:
                continue
            if all(met(condition, sample) for condition in conditions):
                return sample
            if not named:  # some of these labels are not active together, whatever the others are
                break
    return None


def assignments(conditions: Sequence[Factor]) -> Iterator[Sample]:
    """Yield values of labels that meet some conditions."""
    together = Context(tuple(conditions)).exact
    for codes in np.argwhere(together.values):
        yield {
            symbol.name: symbol.value(int(code))
            for symbol, code in zip(together.scope, codes, strict=True)
            if not isinstance(symbol, Auxiliary)
        }
