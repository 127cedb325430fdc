"""What functions of torch ask of sizes, where torch's own kernels ask for more than they need.

A rule checks the sizes that must be equal, and makes the output.  A function without a rule runs
torch's own fake kernel, which may fix a size; a rule that forgets a check loses a coupling,
which the trial of every label finds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["Rules", "fixed", "int_hint", "new_like", "rule", "same", "spread"]

_RULES: dict[Any, Callable[..., Any]] = {}


class Rules(TorchFunctionMode):
    """Runs rules in the place of the functions that have one, and tells how sizes are composed.

    Parameters
    ----------
    compose
        Told that a size is the sum, or the product, of others in this order.
    """

    def __init__(self, compose: Callable[[str, Any, list[Any]], None]) -> None:
        super().__init__()
        self.compose = compose

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = NotImplemented
        rule = _RULES.get(func)
        if rule is not None:
            result = rule(*args, **kwargs)
        if result is NotImplemented:
            result = func(*args, **kwargs)
        if func in _RESHAPES:
            self._reshaped(args[0].shape, result.shape)
        elif func in _JOINS:
            self._joined(args[0] if args else kwargs["tensors"], result)
        elif func in _SPLITS:
            self._joined(result, args[0])
        return result

    def _reshaped(self, before: Any, after: Any) -> None:
        """Tells which sizes are products of which, by going along both shapes."""
        i = j = 0
        while i < len(before) and j < len(after):
            left, right = [before[i]], [after[j]]
            while (a := math.prod(map(int_hint, left))) != (b := math.prod(map(int_hint, right))):
                if a < b:
                    i += 1
                    left.append(before[i])
                else:
                    j += 1
                    right.append(after[j])
            i, j = i + 1, j + 1
            for whole, factors in ((left, right), (right, left)):
                parts = [part for part in factors if not (type(part) is int and part == 1)]
                if len(whole) == 1 and len(parts) > 1 and type(whole[0]) is not int:
                    self.compose("product", whole[0], parts)

    def _joined(self, parts: Any, whole: Any) -> None:
        if not parts or len(parts) < 2:
            return
        for dim, size in enumerate(whole.shape):
            sizes = [part.shape[dim] for part in parts if part.dim() == whole.dim()]
            is_whole = len(sizes) == len(parts) and type(size) is not int
            if is_whole and sum(map(int_hint, sizes)) == int_hint(size):
                self.compose("sum", size, sizes)


def rule(*functions: Any) -> Callable[[Any], Any]:
    """Register a rule for functions of torch."""

    def register(made: Any) -> Any:
        _RULES.update(dict.fromkeys(functions, made))
        return made

    return register


def same(a: Any, b: Any) -> None:
    """Tell torch's shape environment, by asking, that two sizes are equal."""
    if a is not b and not bool(a == b):
        raise RuntimeError(f"sizes {a} and {b} differ")


def fixed(size: Any) -> int:
    """Return a size as a number: it can no longer vary."""
    return int(size)


def new_like(like: Tensor, shape: Any) -> Tensor:
    """Return what a rule gives back: only its shape counts."""
    return like.new_empty(tuple(shape))


def spread(value: Any, n: int) -> tuple[Any, ...]:
    """Return an argument that may be one number for all dimensions, for each."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * n


def int_hint(size: Any) -> int:
    """Return the present value of a size, which stays free."""
    return int(size.node.hint) if isinstance(size, torch.SymInt) else int(size)


_RESHAPES = frozenset(
    {
        *(torch.reshape, Tensor.reshape, Tensor.view, torch.flatten, Tensor.flatten),
        *(torch.unflatten, Tensor.unflatten, Tensor.reshape_as, Tensor.view_as),
    }
)
_JOINS = frozenset({torch.cat, torch.concat, torch.hstack})
_SPLITS = frozenset({torch.chunk, Tensor.chunk, torch.split, Tensor.split})
