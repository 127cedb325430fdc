"""Values of small tensors that follow from constants alone, such as positions and masks.

Of tensors, shapes and types are followed.  But forwards ask for values of what they make of
constants: whether a mask leaves anything out, or whether positions are those of one sequence.
What is made of known values only is computed for real as well, beside its meta tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from .tensors import BY_FORM, flatten, unflatten

__all__ = ["KnownValues", "RealResult", "is_constant"]

_MOST = 1 << 14
"""How many elements a tensor may have whose values are kept."""

_DTYPES = frozenset(
    {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
    | {torch.float16, torch.float32, torch.float64}
)
_UNSET = frozenset({"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"})


class RealResult(NamedTuple):
    """What a function has really given.

    Attributes
    ----------
    spec, leaves
        Its result, taken apart.
    arguments
        Its arguments after the call, which may have changed them.
    """

    spec: Any
    leaves: list[Any]
    arguments: list[Any]


def is_constant(tensor: torch.Tensor) -> bool:
    """Return whether the values of an input are followed: of numbers of tokens, and of masks."""
    return (
        tensor.dtype in _DTYPES
        and not tensor.dtype.is_floating_point
        and not tensor.is_meta
        and tensor.layout is torch.strided
        and tensor.numel() <= _MOST
    )


class KnownValues:
    """Values by meta tensor."""

    def __init__(self) -> None:
        self._of: dict[int, torch.Tensor] = {}

    def of(self, meta: torch.Tensor) -> torch.Tensor | None:
        """Return the values of a meta tensor, if they are known."""
        return self._of.get(id(meta))

    def add(self, meta: torch.Tensor, value: torch.Tensor) -> None:
        """Remember values of a meta tensor that is kept."""
        self._of[id(meta)] = value

    def key(self, value: Any) -> bytes | None:
        """Return what tells values apart; ``None`` of what is not kept."""
        if (
            not isinstance(value, torch.Tensor)
            or value.dtype not in _DTYPES
            or value.layout is not torch.strided
            or value.numel() > _MOST
            or value.requires_grad
            or value.is_meta
        ):
            return None
        return value.detach().cpu().contiguous().numpy().tobytes()

    def call(self, function: Callable[..., Any], spec: Any, leaves: list[Any]) -> RealResult | None:
        """Return what a function really gives, where the values of all its tensors are known."""
        if isinstance(function, nn.Module) or getattr(function, "__name__", "") in _UNSET:
            return None
        given: list[Any] = []
        for leaf in leaves:
            if isinstance(leaf, torch.Tensor):
                value = self.of(leaf)
                if value is None and function in BY_FORM and leaf.numel() <= _MOST:
                    value = torch.zeros(leaf.shape, dtype=leaf.dtype)
                if value is None:
                    return None
                given.append(value.clone())
            elif isinstance(leaf, nn.Module):
                return None
            else:
                given.append(torch.device("cpu") if _is_meta(leaf) else leaf)
        args, kwargs = unflatten(spec, iter(given))
        state = torch.get_rng_state()
        found: list[Any] = []
        try:
            with torch.no_grad():
                form = flatten(function(*args, **kwargs), found, use_up=True)
        except Exception:  # noqa: BLE001 - the call on meta tensors tells what is wrong
            return None
        finally:
            drawn = not torch.equal(torch.get_rng_state(), state)
            torch.set_rng_state(state)
        return None if drawn else RealResult(form, found, given)


def _is_meta(leaf: Any) -> bool:
    return leaf == "meta" if isinstance(leaf, str) else leaf == torch.device("meta")
