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

from ..mutable import Sample
from ..nn import ModelSpace
from ..nn.decisions import Slice, Traced

__all__ = ["SliceOptimizer", "used_slices"]


class SliceOptimizer:
    """An optimizer that updates the slices of shared weights that took part, and no others.

    Going back through a space fills the gradient of what an architecture does not use with zeros,
    and an ordinary optimizer moves that all the same: by weight decay, by momentum, by Adam's
    averages. The strategies of this library do not, and with this, neither does a training loop
    written by hand. Of several processes, average the gradients in :meth:`gradients`.

    Parameters
    ----------
    optimizer
        An optimizer of torch over the parameters of a space. Schedulers take this one, and a
        ``GradScaler`` steps it, inside of :meth:`gradients`.

    Attributes
    ----------
    optimizer
        The same.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> from nas_space.nn import MutableLinear
    >>> class Net(ModelSpace):
    ...     def __init__(self):
    ...         super().__init__()
    ...         width = Categorical([2, 4], label="width")
    ...         self.up, self.down = MutableLinear(3, width), MutableLinear(width, 1)
    ...
    ...     def forward(self, x):
    ...         return self.down(self.up(x).relu())
    >>> space = Net()
    >>> sgd = torch.optim.SGD(space.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    >>> optimizer = SliceOptimizer(sgd)
    >>> before = space.up.weight.detach().clone()
    >>> for seed in range(3):
    ...     with optimizer.along(space, {"width": 2}):
    ...         loss = space(torch.randn(8, 3)).square().mean()
    ...     loss.backward()
    ...     optimizer.step()
    ...     optimizer.zero_grad()
    >>> changed = space.up.weight != before
    >>> changed[:2].all().item(), changed[2:].any().item()
    (True, False)

    References
    ----------
    Guo et al., *Single path one-shot NAS*, arXiv 1904.00420, for training along one path a step.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self._paths: list[Traced] = []
        self._inside = False

    def along(self, space: ModelSpace, arch: Sample) -> Traced:
        """Return a context in which a space runs as an architecture; as ``space.activate``.

        Several may be entered before a step: their gradients are added.

        Raises
        ------
        SampleValidationError
            If the architecture is not in the space.
        """
        path = Traced(space.activate(arch).values)
        self._paths.append(path)
        return path

    @contextmanager
    def gradients(self) -> Iterator[None]:
        """Enter a context in which each parameter is the slice that was used, with its gradient.

        For clipping, scaling and averaging, and then :meth:`step`; after it, parameters are whole.

        Examples
        --------
        >>> layer = torch.nn.Linear(2, 2)
        >>> optimizer = SliceOptimizer(torch.optim.SGD(layer.parameters(), lr=0.1))
        >>> layer(torch.ones(1, 2)).sum().backward()
        >>> with optimizer.gradients():
        ...     _ = torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
        ...     optimizer.step()
        """
        if self._inside:
            yield
            return
        used = [part for path in self._paths for part in path.used]
        self._inside = True
        try:
            with used_slices(self.optimizer, used):
                yield
        finally:
            self._inside = False
            self._forget()

    def step(self) -> None:
        """Update what took part since the last step."""
        with self.gradients():
            self.optimizer.step()

    def zero_grad(self) -> None:
        """Forget all gradients, those of slices among them."""
        self._forget()
        self.optimizer.zero_grad(set_to_none=True)

    def _forget(self) -> None:
        for path in self._paths:
            path.used.clear()
        self._paths.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the optimizer, of whole parameters."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.optimizer.load_state_dict(state)


@contextmanager
def used_slices(optimizer: Optimizer, used: Iterable[Slice]) -> Iterator[None]:
    """Return a context to step an optimizer in, where only the used part of parameters is there.

    Gradients that the slices have are those of the parameters in it.

    Parameters
    ----------
    optimizer
        Any of which the state of a parameter is numbers, and tensors either of its shape, which
        begin as zeros, or of another.
    used
        The slices, with gradients; see :class:`~nas_space.nn.decisions.Traced`.
    """
    # Three cases.  A parameter that something used whole is updated whole, with the gradients of
    # its slices added.  One of which a single view was used *becomes* that view, and so does its
    # state: any optimizer, fused ones as well, then updates the view in place, at the cost of the
    # view. Otherwise, if several slices were used, or one that is a copy of several pieces, the
    # whole is updated and what was not used is put back.
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
    """Return the view of a parameter that all of some slices are; ``None`` if there is none."""
    data = parameter.detach()
    first, *others = [part.cut(data) for part in parts]
    in_place = first.untyped_storage().data_ptr() == data.untyped_storage().data_ptr()
    same = all(_place(other) == _place(first) for other in others)
    return first if in_place and same else None


def _place(part: Tensor) -> tuple[Any, ...]:
    return part.storage_offset(), part.shape, part.stride()


def _spread(whole: Tensor, parts: list[Slice]) -> None:
    """Add the gradients of slices to that of the whole."""
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
    """A parameter that is a view of itself while an optimizer steps.

    The invariant: ``parameter.data``, its gradient and each tensor of its state have the shape of
    the view, which shares the memory of the whole.  State that the optimizer makes meanwhile, at
    its first step, is embedded into zeros, with which all of it begins.
    """

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
        """Return the part of a tensor of the whole's shape that corresponds to the view."""
        # With the strides of the view, as optimizers go through both in the order of memory.
        if tensor.stride() != self.data.stride():
            return self.cut(tensor)
        view = self.view
        offset = tensor.storage_offset() + view.storage_offset() - self.data.storage_offset()
        return tensor.as_strided(view.shape, view.stride(), offset)

    def undo(self) -> None:
        """Make the parameter whole again, and what the optimizer has made for it."""
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
    """A parameter whose unused elements, and those of its state, are put back after the step.

    What SGD or Adam do to an element depends on the gradient and the state of that element alone,
    so the used ones get what they would get by themselves.
    """

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
        """Put the unused elements back."""
        self._put_back(self.parameter.data, self.data)
        for name, tensor in self.optimizer.state.get(self.parameter, {}).items():
            if _is_like(tensor, self.data):
                self._put_back(tensor, self.state.get(name, torch.zeros_like(self.data)))

    def _put_back(self, tensor: Tensor, before: Tensor) -> None:
        tensor.copy_(torch.where(self.unused, before, tensor))


def _is_like(value: Any, data: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == data.shape and value.dim() > 0
