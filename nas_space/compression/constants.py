"""Values of what follows from constants alone, beside a run on symbolic sizes.

Sizes are followed, values are not. But forwards ask for values of what they make of constants:
whether a mask that they were given leaves anything out, or how far positions go.  Beside each
tensor that is made of such alone goes its value, so that these questions have their answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode

from ..profiler.known_values import KnownValues, is_constant
from ..profiler.tensors import flatten, unflatten

__all__ = ["Constants"]

_MADE = frozenset({torch.arange, torch.ones, torch.zeros, torch.full, torch.tensor, torch.tril})
"""What makes constants out of numbers."""

_MOST = 1 << 14


class Constants(TorchFunctionMode):
    """Answers what a forward asks of values that are known.

    Parameters
    ----------
    mode
        In which tensors have no values.
    given
        Inputs, each with what stands for it in that mode.
    """

    def __init__(self, mode: FakeTensorMode, given: Iterable[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self._mode = mode
        self._values = KnownValues()
        self._known: list[Tensor] = []  # alive, as they are told apart by their identities
        for tensor, fake in given:
            if is_constant(tensor):
                self._remember(fake, tensor.detach())

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        leaves: list[Any] = []
        spec = flatten((args, kwargs), leaves)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        known = [tensor for tensor in tensors if self._values.of(tensor) is not None]
        real = None
        if (known or (func in _MADE and not tensors)) and not any(map(_is_symbolic, leaves)):
            with unset_fake_temporarily():
                real = self._values.call(func, spec, leaves)
        if real is not None and known and not any(isinstance(r, Tensor) for r in real.leaves):
            return unflatten(real.spec, iter(real.leaves))
        versions = [tensor._version for tensor in known]
        result = func(*args, **kwargs)
        written = [t for t, version in zip(known, versions, strict=True) if t._version != version]
        if written:
            self._write(written, leaves, real)
        if real is not None:
            result = self._noted(result, real)
        return result

    def _remember(self, fake: Tensor, value: Tensor) -> None:
        if value.numel() <= _MOST:
            self._values.add(fake, value)
            self._known.append(fake)

    def _write(self, written: list[Tensor], leaves: list[Any], real: Any) -> None:
        """Take note of what was changed in place; nothing is known of what may share its memory."""
        self._values = KnownValues()
        for leaf, value in zip(leaves, real.arguments if real is not None else (), strict=False):
            if any(leaf is tensor for tensor in written):
                self._remember(leaf, value)

    def _noted(self, result: Any, real: Any) -> Any:
        """Remember values of a result; what has no plain sizes becomes a tensor that has."""
        found: list[Any] = []
        spec = flatten(result, found)
        if len(found) != len(real.leaves):
            return result
        for place, (leaf, value) in enumerate(zip(found, real.leaves, strict=True)):
            if isinstance(leaf, Tensor) and isinstance(value, Tensor):
                if any(map(_is_symbolic, leaf.shape)):
                    found[place] = self._mode.from_tensor(value, static_shapes=True)
                self._remember(found[place], value)
        return unflatten(spec, iter(found))


def _is_symbolic(leaf: Any) -> bool:
    return isinstance(leaf, (torch.SymInt, torch.SymFloat, torch.SymBool))
