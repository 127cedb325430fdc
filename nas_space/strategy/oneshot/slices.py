"""Updates of the slices that were used, and of nothing beside them.

During a step of the optimizer, a parameter of which one slice was used *is* that slice, and so is
what the optimizer remembers of it: no decay or momentum moves what no architecture of the step
has used, and no time is spent on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...nn.decisions import Slice

__all__ = ["used_slices"]


@contextmanager
def used_slices(optimizer: Optimizer, used: Iterable[Slice]) -> Iterator[None]:
    """A context to step an optimizer in, where only the used part of parameters is there.

    Gradients that the slices have are those of the parameters in it.

    Parameters
    ----------
    optimizer
        Any of which the state of a parameter is numbers, and tensors either of its shape, which
        begin as zeros, or of another.
    used
        The slices, with gradients; see :class:`~nas_space.nn.decisions.Traced`.
    """
    by_parameter: dict[nn.Parameter, list[Slice]] = {}
    for part in used:
        if part.leaf.grad is not None:
            by_parameter.setdefault(part.parameter, []).append(part)
    changed: list[_Narrowed | _Masked] = []
    groups = [group["params"] for group in optimizer.param_groups]
    try:
        for parameter, parts in by_parameter.items():
            if parameter.grad is not None:  # something has used the whole of it
                _spread(parameter.grad, parts)
            elif (view := _common(parameter, parts)) is not None:
                changed.append(_Narrowed(optimizer, parameter, parts, view))
            else:
                changed.append(_Masked(optimizer, parameter, parts))
        # A space has many times the parameters of a path; to pass over them takes time.
        for group, parameters in zip(optimizer.param_groups, groups, strict=True):
            group["params"] = [one for one in parameters if one.grad is not None]
        yield
    finally:
        for group, parameters in zip(optimizer.param_groups, groups, strict=True):
            group["params"] = parameters
        for change in changed:
            change.undo()


def _common(parameter: nn.Parameter, parts: list[Slice]) -> Tensor | None:
    """The one part of a parameter that all of some slices are, if it can be changed in place."""
    data = parameter.detach()
    first, *others = [part.cut(data) for part in parts]
    in_place = first.untyped_storage().data_ptr() == data.untyped_storage().data_ptr()
    same = all(_place(other) == _place(first) for other in others)
    return first if in_place and same else None


def _place(part: Tensor) -> tuple[Any, ...]:
    return part.storage_offset(), part.shape, part.stride()


def _spread(whole: Tensor, parts: list[Slice]) -> None:
    """Adds the gradients of slices to that of the whole."""
    # Places count in the order of the axes, in which memory need not be: kernels of images are not.
    flat = whole.reshape(-1)
    for part in parts:
        # Some cuts copy, so what is cut are the places.
        places = part.cut(torch.arange(whole.numel(), device=whole.device).view(whole.shape))
        gradient = part.leaf.grad
        assert gradient is not None
        flat.index_add_(0, places.flatten(), gradient.to(whole.dtype).flatten())
    if not whole.is_contiguous():  # then it was copied
        whole.copy_(flat.view(whole.shape))


class _Narrowed:
    """A parameter that is, for the optimizer, the slice of it; in place."""

    def __init__(
        self, optimizer: Optimizer, parameter: nn.Parameter, parts: list[Slice], view: Tensor
    ) -> None:
        self.optimizer, self.parameter, self.view = optimizer, parameter, view
        self.data, self.cut = parameter.data, parts[0].cut
        state = optimizer.state.get(parameter, {})
        self.state = {k: v for k, v in state.items() if _is_like(v, self.data)}
        gradient = parts[0].leaf.grad
        for part in parts[1:]:
            assert gradient is not None
            assert part.leaf.grad is not None
            gradient = gradient + part.leaf.grad
        parameter.data = view
        parameter.grad = gradient
        for name, tensor in self.state.items():
            state[name] = self._slice(tensor)

    def _slice(self, tensor: Tensor) -> Tensor:
        """Where the slice is in what has the shape of the whole."""
        if tensor.stride() != self.data.stride():
            return self.cut(tensor)
        view = self.view
        offset = tensor.storage_offset() + view.storage_offset() - self.data.storage_offset()
        return tensor.as_strided(view.shape, view.stride(), offset)

    def undo(self) -> None:
        """Makes the parameter whole again, and what the optimizer has made for it."""
        parameter, small = self.parameter, self.parameter.data
        parameter.grad = None  # its shape must be that of the data
        parameter.data = self.data
        state = self.optimizer.state.get(parameter, {})
        for name, tensor in state.items():
            if name in self.state:
                state[name] = self.state[name]
            elif _is_like(tensor, small):
                state[name] = torch.zeros_like(self.data)
                self._slice(state[name]).copy_(tensor)


class _Masked:
    """A parameter of which the unused elements are put back after the step."""

    def __init__(self, optimizer: Optimizer, parameter: nn.Parameter, parts: list[Slice]) -> None:
        self.optimizer, self.parameter = optimizer, parameter
        numbers = torch.arange(parameter.numel(), device=parameter.device).view(parameter.shape)
        self.unused = torch.ones(parameter.numel(), dtype=torch.bool, device=parameter.device)
        for part in parts:
            self.unused[part.cut(numbers).flatten()] = False
        self.unused = self.unused.view(parameter.shape)
        state = optimizer.state.get(parameter, {})
        self.data = parameter.detach().clone()
        self.state = {k: v.clone() for k, v in state.items() if _is_like(v, self.data)}
        parameter.grad = torch.zeros_like(parameter)
        _spread(parameter.grad, parts)

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
