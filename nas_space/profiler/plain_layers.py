"""The plain layers that an elastic layer stands for, one for each combination of its arguments."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from ..mutable.node import key_of
from ..nn.parametrized import evaluated, expressions_in
from ..nn.structure import ATOMS, BOOKKEEPING, OF_EVERY_MODULE

__all__ = ["PlainLayers", "computed_tensors", "forward_with", "plain_forward"]


class PlainLayers:
    """Plain layers with tensors of elastic ones, each made once; equal layers share one.

    Parameters
    ----------
    lasting
        Those that are told apart by values alone, so that they may be kept longer than the elastic
        layers are.
    """

    def __init__(self, lasting: dict[Any, dict[Any, nn.Module]]) -> None:
        self._lasting = lasting
        self._passing: dict[Any, dict[Any, nn.Module]] = {}
        # With the elastic layers, whose identities are the keys.
        self._kinds: dict[int, tuple[dict[Any, nn.Module], Any]] = {}

    def of(self, layer: Any, chosen: Any) -> nn.Module:
        """Return the plain layer of a combination of arguments.

        Parameters
        ----------
        layer
            The elastic layer.
        chosen
            Gives the values of expressions in the arguments.
        """
        known = self._kinds.get(id(layer))
        if known is None:
            own = _own_state(layer)
            by_value = layer.reparametrization is None and all(map(_is_plain, own.values()))
            among = self._lasting if by_value else self._passing
            alike = among.setdefault(_kind_of(layer, own), {})  # hashed once: it is long
            known = self._kinds[id(layer)] = alike, layer
        alike = known[0]
        key = key_of(tuple([evaluated(argument, chosen) for argument in layer.args.values()]))
        found = alike.get(key)
        if found is None:
            with torch._C.DisableTorchFunction():  # its weights are there before the forward
                found = alike[key] = layer.shaped(layer.blueprint.form_by_size(chosen))
            computing = vars(found).get("_computing")
            for module in (
                *(found, *vars(found).values()),
                *(() if computing is None else computing.modules()),
            ):
                if isinstance(module, nn.Module):
                    vars(module).pop("forward", None)  # that of the twin, which is followed
        return found


def _kind_of(layer: Any, own: dict[str, Any]) -> tuple[Any, ...]:
    """What tells elastic layers apart, but for the values of their arguments."""
    tensors = tuple(
        (name, tensor.dtype, tensor.requires_grad)
        for name, tensor in (*layer.named_parameters(), *layer.named_buffers())
    )
    alone = None if layer.reparametrization is None else id(layer)
    state = tuple((name, key_of(value)) for name, value in own.items())
    return (layer.plain, layer.training, tuple(layer.args), tensors, state, alone)


def _own_state(layer: nn.Module) -> dict[str, Any]:
    """What a layer holds besides its arguments, such as a flag that its own class looks at.

    What is an expression follows from the arguments.
    """
    return {
        name: value
        for name, value in vars(layer).items()
        if name not in _NOT_ITS_OWN and not expressions_in(value)
    }


def _is_plain(value: Any) -> bool:
    return type(value) in ATOMS or (type(value) is tuple and all(map(_is_plain, value)))


_NOT_ITS_OWN = frozenset(
    {*OF_EVERY_MODULE, *BOOKKEEPING, "args", "forward", "_blueprint", "_expressions",
     "_instances", "_mutables"}
)  # fmt: skip


def plain_forward(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Run a plain layer without its hooks, which the elastic one has."""
    return type(layer).forward(layer, *args, **kwargs)


def computed_tensors(layer: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors that a layer computes from others before its forward."""
    return layer.__dict__["_computing"](layer)  # type: ignore[no-any-return]


def forward_with(
    layer: nn.Module, computed: dict[str, torch.Tensor], *args: Any, **kwargs: Any
) -> Any:
    """Run a plain layer with tensors that were computed for it."""
    light = copy.copy(layer)
    light.__dict__.update(computed)
    return type(layer).forward(light, *args, **kwargs)
