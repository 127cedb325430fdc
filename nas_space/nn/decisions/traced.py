"""``Traced``: one architecture, trained through the slices that it uses and nothing beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...mutable import Values
from ..activation import Activation

__all__ = ["Slice", "Traced"]


class Slice(NamedTuple):
    """A part of a parameter that took part.

    Attributes
    ----------
    parameter
        The whole.
    cut
        Takes the part of it, or of anything of its shape.
    leaf
        The part as it ran: it has the gradient, the whole does not.
    """

    parameter: nn.Parameter
    cut: Callable[[Tensor], Tensor]
    leaf: Tensor


class Traced(Activation):
    """An architecture made active, of which the slices of elastic layers have gradients.

    The backward pass of a slice fills the gradient of what was cut off with zeros, and an optimizer
    with weight decay or momentum changes weights that have a gradient of zero.  So slices are
    leaves of the graph here, and are noted; an optimizer of slices (``training.slices``) updates
    them alone.  Parameters that are used whole have their gradients as usual.

    Attributes
    ----------
    used
        The slices, in the order in which they ran.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> from nas_space.nn import MutableLinear
    >>> layer = MutableLinear(2, Categorical([1, 3], label="width"), bias=False)
    >>> with Traced(layer.read({"width": 1})) as path:
    ...     layer(torch.ones(1, 2)).sum().backward()
    >>> path.used[0].leaf.grad, layer.weight.grad
    (tensor([[1., 1.]]), None)
    """

    def __init__(self, values: Values) -> None:
        super().__init__(values)
        self.used: list[Slice] = []

    def __enter__(self) -> Traced:
        super().__enter__()
        return self

    def stand_in(self, layer: Any) -> Any:
        if not torch.is_grad_enabled():
            return super().stand_in(layer)

        # A leaf collects a gradient and is never updated: the optimizer updates the parameter, of
        # which ``cut`` takes the same part again.
        def note(parameter: nn.Parameter, cut: Callable[[Tensor], Any], part: Tensor) -> Tensor:
            if part is parameter or not parameter.requires_grad:
                return part
            leaf = part.detach().requires_grad_()
            self.used.append(Slice(parameter, cut, leaf))
            return leaf

        with torch.no_grad():
            return layer.stand_in(self.values, note)
