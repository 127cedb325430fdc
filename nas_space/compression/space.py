"""``elastic``: a space from a network that exists."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Self, cast

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..mutable import Sample
from ..nn import ModelSpace
from ..nn.freezing import Freezer
from .adopted import Adopted
from .analysis import Options, analyse, report
from .building import Building
from .groups import Groups

__all__ = ["ElasticSpace", "elastic"]


class ElasticSpace(ModelSpace, Adopted):
    """A space made of a network by :func:`nas_space.elastic`, of which it is one architecture.

    It has the attributes, the methods and the keys of the network.
    """

    @property
    def original(self) -> Sample:
        """The architecture that the network was."""
        return self.canonical(self.__dict__["_original"])

    def groups(self) -> Groups:
        """What varies together, where, in which steps; what is fixed, and why."""
        found: Groups = self.__dict__["_groups"]
        return found

    def freeze_module(self, freezer: Freezer) -> nn.Module:
        network = super().freeze_module(freezer)
        for name in ("_original", "_groups", "_inputs"):
            vars(network).pop(name, None)
        return network

    def freeze(
        self,
        sample: Mapping[str, Any],
        *,
        weights: Literal["copy", "share"] = "copy",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        if weights == "copy":
            return super().freeze(sample, weights=weights, device=device, dtype=dtype)
        raise UsageError("a network that was given cannot be frozen with weights='share'")


def elastic(
    net: nn.Module,
    inputs: Any,
    *,
    widths: Sequence[float] = (0.5, 0.75, 1.0),
    depth: bool = True,
    divisor: int = 8,
    fixed: Sequence[str] = (),
    only: Sequence[str] = ("*",),
    outputs: Literal["fixed", "free"] = "fixed",
    share: Literal["layer", "kind"] = "layer",
    in_place: bool = False,
) -> ElasticSpace:
    """Return a space of smaller networks, of which a network that exists is the largest.

    The forward of the network is run on symbolic sizes, which tells what varies together, and on
    numbers of channels, which tells in which order they are.  Every choice is tried before it is
    offered.  What cannot vary is fixed, and :meth:`ElasticSpace.groups` says why.

    Parameters
    ----------
    net
        Any module, in evaluation mode.  Its code stays as it is.
    inputs
        What its forward is called with: a tensor, a tuple of arguments, or a dictionary of
        arguments by name.
    widths
        Which parts of a width are offered; 1.0 always is.
    depth
        Whether blocks whose output is shaped like their input may be left out.
    divisor
        Widths are multiples of it, where they are large enough.
    fixed, only
        Patterns of labels that are fixed, and of those that may vary.
    outputs
        Whether sizes that reach an output of the network may vary.
    share
        One label for each layer, or one for all layers of a kind.
    in_place
        Whether the network itself becomes the space, instead of a copy.

    Returns
    -------
    ElasticSpace
        ``space.original`` is the architecture that the network is.

    Raises
    ------
    UsageError
        If the network or the inputs are not what is needed.
    SpaceError
        If nothing can vary; why is in the message.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)).eval()
    >>> space = elastic(net, torch.ones(1, 4))
    >>> space.groups()
    0.width: 8, 16 (width of 3 places: 0.weight[0], 0.bias[0], 2.weight[1])
    fixed:
    ...
    >>> space.freeze({"0.width": 8})
    Sequential(
      (0): Linear(in_features=4, out_features=8, bias=True)
      (1): ReLU()
      (2): Linear(in_features=8, out_features=2, bias=True)
    )
    """
    options = Options(tuple(widths), depth, divisor, tuple(fixed), tuple(only), outputs, share)
    args, kwargs = _arguments(inputs)
    work = net if in_place else copy.deepcopy(net)
    with _evaluating(work):
        found = analyse(work, args, kwargs, options)
    building = Building(work, found, options)
    building.run(ElasticSpace)
    space = cast(ElasticSpace, work)
    groups = report(found, building.labels, building.depths)
    space.__dict__.update(_arguments=((), {}), _original=building.original, _groups=groups)
    space.refresh()
    return space


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, Tensor):
        return (inputs,), {}
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if isinstance(inputs, (tuple, list)):
        return tuple(inputs), {}
    raise UsageError(
        f"inputs are a tensor, a tuple of arguments or a dict of arguments by name, but got a "
        f"{type(inputs).__name__}"
    )


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in net.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes:
            module.training = mode
