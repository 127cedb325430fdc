"""Updates of the slices that were used, and of nothing beside them.

The gradient of a slice is zero outside of it, but an optimizer does not know: weight decay
and momentum would move what no architecture of the step has used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["used_slices"]

Cut = Callable[[Tensor], "Tensor | None"]
Used = Iterable[tuple[Any, Any]]


@contextmanager
def used_slices(optimizer: Optimizer, used: Used) -> Iterator[None]:
    """A context to step an optimizer in, that sees only the used part of each parameter.

    Parameters
    ----------
    optimizer
        Any of which the state of a parameter is numbers, and tensors either of its shape, which
        begin as zeros, or of another.
    used
        Elastic layers and the forms they had in the step (see
        :class:`~nas_space.nn.decisions.Traced`).
    """
    narrowed: list[_Narrowed] = []
    masked: list[_Masked] = []
    for parameter, cuts in _cuts(used).items():
        if parameter.grad is None:
            continue
        parts = {_place(part): part for part in map(_applied(parameter), cuts) if part is not None}
        if any(part.shape == parameter.shape for part in parts.values()) or not parts:
            continue
        (part, *others) = parts.values()
        if (
            not others
            and part.untyped_storage().data_ptr() == parameter.untyped_storage().data_ptr()
        ):
            narrowed.append(_Narrowed(optimizer, parameter, cuts[0]))
        else:
            masked.append(_Masked(optimizer, parameter, cuts))
    try:
        yield
    finally:
        for narrow in narrowed:
            narrow.undo()
        for mask in masked:
            mask.undo()


def _cuts(used: Used) -> dict[nn.Parameter, list[Cut]]:
    found: dict[nn.Parameter, list[Cut]] = {}
    for layer, form in used:
        for prefix, part in form.parts.items():
            holder = layer if not prefix else getattr(layer, prefix)
            for name, parameter in holder._parameters.items():
                if parameter is not None:
                    found.setdefault(parameter, []).append(part.cuts.get(name, _whole))
    return found


def _whole(tensor: Tensor) -> Tensor:
    return tensor


def _applied(parameter: nn.Parameter) -> Callable[[Cut], Tensor | None]:
    data = parameter.detach()
    return lambda cut: cut(data)


def _place(part: Tensor) -> tuple[Any, ...]:
    return part.storage_offset(), part.shape, part.stride()


class _Narrowed:
    """A parameter that is, for the optimizer, the slice of it; in place."""

    def __init__(self, optimizer: Optimizer, parameter: nn.Parameter, cut: Cut) -> None:
        self.optimizer, self.parameter, self.cut = optimizer, parameter, cut
        self.data, self.gradient = parameter.data, parameter.grad
        state = optimizer.state.get(parameter, {})
        self.state = {k: v for k, v in state.items() if _is_like(v, self.data)}
        parameter.grad = None  # its shape must be that of the data
        parameter.data = _taken(cut, self.data)
        assert self.gradient is not None
        parameter.grad = _taken(cut, self.gradient)
        for name, tensor in self.state.items():
            state[name] = _taken(cut, tensor)

    def undo(self) -> None:
        """Makes the parameter whole again, and what the optimizer has made for it."""
        parameter, small = self.parameter, self.parameter.data
        parameter.grad = None
        parameter.data = self.data
        parameter.grad = self.gradient
        state = self.optimizer.state.get(parameter, {})
        for name, tensor in state.items():
            if name in self.state:
                state[name] = self.state[name]
            elif _is_like(tensor, small):
                state[name] = torch.zeros_like(self.data)
                _taken(self.cut, state[name]).copy_(tensor)


class _Masked:
    """A parameter of which the unused elements are put back after the step."""

    def __init__(self, optimizer: Optimizer, parameter: nn.Parameter, cuts: list[Cut]) -> None:
        self.optimizer, self.parameter = optimizer, parameter
        numbers = torch.arange(parameter.numel(), device=parameter.device).view(parameter.shape)
        self.unused = torch.ones(parameter.numel(), dtype=torch.bool, device=parameter.device)
        for cut in cuts:
            taken = cut(numbers)
            if taken is not None:
                self.unused[taken.flatten()] = False
        self.unused = self.unused.view(parameter.shape)
        state = optimizer.state.get(parameter, {})
        self.data = parameter.detach().clone()
        self.state = {k: v.clone() for k, v in state.items() if _is_like(v, self.data)}

    def undo(self) -> None:
        """Puts the unused elements back."""
        self._put_back(self.parameter.data, self.data)
        for name, tensor in self.optimizer.state.get(self.parameter, {}).items():
            if _is_like(tensor, self.data):
                self._put_back(tensor, self.state.get(name, torch.zeros_like(self.data)))

    def _put_back(self, tensor: Tensor, before: Tensor) -> None:
        tensor.copy_(torch.where(self.unused, before, tensor))


def _is_like(value: Any, data: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == data.shape and value.dim() > 0


def _taken(cut: Cut, tensor: Tensor) -> Tensor:
    taken = cut(tensor)
    assert taken is not None
    return taken
