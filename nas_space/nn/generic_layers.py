"""The ``Mutable`` forms of torch's layers that have no elastic one, made when asked for."""

from __future__ import annotations

import types
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

from torch import nn

from ..errors import suggest
from .blueprint import Shape
from .elastic import ElasticModule
from .parametrized import ParametrizedModule

__all__ = ["WeightlessModule", "generic_layer", "layer_names"]


class WeightlessModule(ElasticModule):
    """Base class of layers without weights, of which any number of values costs nothing."""

    @classmethod
    def shapes(cls, arguments: Mapping[str, Any]) -> dict[str, Shape]:
        del arguments  # there is nothing to shape
        return {}


_WEIGHTLESS = frozenset(
    f"torch.nn.modules.{file}"
    for file in (
        *("activation", "channelshuffle", "distance", "dropout", "flatten", "fold"),
        *("normalization", "padding", "pixelshuffle", "pooling", "upsampling"),
    )
)
"""Where torch keeps layers without weights, beside those that have an elastic form above."""

_CONTAINERS = frozenset(
    {
        *("Module", "Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict"),
        *("Container", "DataParallel"),
    }
)


@cache
def generic_layer(name: str) -> type[ParametrizedModule]:
    """Return the ``Mutable`` form of any other layer of ``torch.nn``, by its plain name.

    A layer without weights takes any number of values; another one keeps an instance for each
    distinct tuple of arguments.

    Raises
    ------
    AttributeError
        If torch has no such layer.
    """
    plain = getattr(nn, name, None)
    if not _is_layer(name, plain):
        raise AttributeError(
            f"torch.nn has no layer {name!r} to make Mutable{name} of"
            f"{suggest(name, (each.removeprefix('Mutable') for each in layer_names()))}"
        )
    base = WeightlessModule if plain.__module__ in _WEIGHTLESS else ParametrizedModule
    contents = {
        "__module__": "nas_space.nn",
        "__doc__": f"``torch.nn.{name}`` whose arguments may be expressions.",
    }
    return cast(
        "type[ParametrizedModule]",
        types.new_class(
            f"Mutable{name}", (base, plain), {"wraps": plain}, lambda space: space.update(contents)
        ),
    )


def _is_layer(name: str, value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module) and name not in _CONTAINERS


def layer_names() -> list[str]:
    """Return the names of all ``Mutable`` layers."""
    return sorted(f"Mutable{name}" for name, value in vars(nn).items() if _is_layer(name, value))
