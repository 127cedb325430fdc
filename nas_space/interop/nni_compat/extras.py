"""Operations besides multiply-adds, as NNI counts them: mostly one for each number.

The library counts as torch does, so these are found by calling each function that a profile
recorded once more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from ...profiler.counting import Counter
from ...profiler.evaluation import Outcome, run_again

__all__ = ["Extras", "extras_of"]

aten = torch.ops.aten


class Extras(NamedTuple):
    """Operations besides multiply-adds.

    Attributes
    ----------
    bias, normalization, activation
        For what.
    """

    bias: int = 0
    normalization: int = 0
    activation: int = 0


def extras_of(outcome: Outcome) -> Extras:
    """Return what a call of a function costs besides multiply-adds."""
    counter = _ExtrasCounter()
    run_again(outcome, counter)
    return counter.extras


class _ExtrasCounter(Counter):  # type: ignore[no-untyped-call]
    """Sees the same operators as the library's counter does."""

    def __init__(self) -> None:
        super().__init__()
        self.extras = Extras()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = super().__torch_dispatch__(func, types, args, kwargs)
        extra = _EXTRAS.get(func._overloadpacket)
        if extra is not None:
            self.extras = Extras(*map(sum, zip(self.extras, extra(args, out), strict=True)))
        return out


def _bias_of_convolution(args: Any, out: torch.Tensor) -> Extras:
    return Extras(bias=0 if args[2] is None else out.numel())


def _bias_of_linear(args: Any, out: torch.Tensor) -> Extras:
    return Extras(bias=out.numel() if args[0].dim() == 1 else 0)


def _normalization(args: Any, _: Any) -> Extras:
    tensors = (a for a in args[1:] if a is None or isinstance(a, torch.Tensor))
    affine = next(tensors, None) is not None
    return Extras(normalization=2 * (1 + affine) * args[0].numel())


def _activation(args: Any, _: Any) -> Extras:
    return Extras(activation=args[0].numel())


_EXTRAS: dict[Any, Callable[[Any, Any], Extras]] = {
    aten.convolution: _bias_of_convolution,
    aten.addmm: _bias_of_linear,
    **dict.fromkeys(
        (
            aten.native_batch_norm,
            aten._native_batch_norm_legit,
            aten._native_batch_norm_legit_no_training,
            aten.native_layer_norm,
            aten.native_group_norm,
        ),
        _normalization,
    ),
    **{
        getattr(aten, name + suffix): _activation
        for name in (
            *("relu", "elu", "celu", "selu", "silu", "gelu", "mish", "sigmoid", "tanh"),
            *("hardtanh", "hardswish", "hardsigmoid", "leaky_relu", "prelu", "softplus"),
            *("log_sigmoid", "threshold"),
        )
        for suffix in ("", "_")
        if hasattr(aten, name + suffix)
    },
}
