"""Primitives: layers and choices from which spaces of networks are built.

Every layer of ``torch.nn`` has a ``Mutable`` form here, whose arguments may be expressions.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from ..mutable import MutableExpression
from . import checkpointing, layers, sync_batchnorm
from .activation import Activation, active
from .cell import Cell
from .choice import ChosenInputs, InputChoice, LayerChoice
from .elastic import ElasticModule
from .generic_layers import generic_layer, layer_names
from .layers import *  # noqa: F403 - what it lists
from .module import MutableModule
from .parametrized import ParametrizedModule
from .recurrent import MutableGRU, MutableLSTM, MutableRNN
from .repeat import Repeat
from .segments import flattened
from .space import ModelSpace

checkpointing.install()
sync_batchnorm.install()

MaybeIntChoice: TypeAlias = "int | MutableExpression[int]"
"""A whole number, or an expression of one."""

__all__ = [
    "Activation",
    "Cell",
    "ChosenInputs",
    "ElasticModule",
    "InputChoice",
    "LayerChoice",
    "MaybeIntChoice",
    "ModelSpace",
    "MutableGRU",
    "MutableLSTM",
    "MutableModule",
    "MutableRNN",
    "ParametrizedModule",
    "Repeat",
    "active",
    "choice",
    "flattened",
]
__all__ += layers.__all__


def choice(label: str, choices: list[Any]) -> Any:
    """Return one of several values or, if they are modules, of several layers.

    >>> choice("width", [16, 32])
    Categorical([16, 32], label='width')
    >>> from torch import nn
    >>> choice("op", [nn.Identity(), nn.ReLU()]).simplify()
    {'op': Categorical([0, 1], label='op')}
    """
    from torch import nn

    from ..mutable import Categorical

    options = list(choices)
    if options and all(isinstance(option, nn.Module) for option in options):
        return LayerChoice(options, label=label)
    return Categorical(options, label=label)


def __getattr__(name: str) -> Any:
    """The ``Mutable`` form of a layer that has no elastic one, made when it is first asked for."""
    if name.startswith("Mutable"):
        try:
            layer = generic_layer(name.removeprefix("Mutable"))
        except AttributeError as error:
            raise AttributeError(
                f"module {__name__!r} has no attribute {name!r}: {error}"
            ) from None
        globals()[name] = layer
        return layer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *layer_names()})
