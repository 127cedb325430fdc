"""Recurrent layers whose weights slice: each gate keeps its first hidden units.

torch keeps the gates of a layer one above the other in one matrix, and the outputs of both
directions side by side; :func:`~nas_space.nn.segments.flattened` says so.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from ..mutable import MutableExpression
from .blueprint import Shape
from .construction import extent
from .elastic import ElasticModule
from .segments import flattened

__all__ = ["MutableGRU", "MutableLSTM", "MutableRNN"]


class _Recurrent(ElasticModule):
    """Recurrent layers: of each gate, direction and layer the first units."""

    gates: ClassVar[int] = 1

    @classmethod
    def shapes(cls, arguments: Mapping[str, Any]) -> dict[str, Shape]:
        hidden, projected = arguments["hidden_size"], arguments.get("proj_size", 0)
        both = arguments["bidirectional"]
        output = MutableExpression.condition(projected > 0, projected, hidden)
        of_both = MutableExpression.condition(both, flattened(2, output), output)
        rows = hidden if cls.gates == 1 else flattened(cls.gates, hidden)
        found: dict[str, Shape] = {}
        for layer in range(extent(arguments["num_layers"])):
            for way in ("", "_reverse") if extent(both) else ("",):
                place = f"l{layer}{way}"
                columns = of_both if layer else arguments["input_size"]
                found[f"weight_ih_{place}"] = (rows, columns)
                found[f"weight_hh_{place}"] = (rows, output)
                if extent(arguments["bias"]):
                    found[f"bias_ih_{place}"] = found[f"bias_hh_{place}"] = (rows,)
                if extent(projected):
                    found[f"weight_hr_{place}"] = (projected, hidden)
        return found

    @classmethod
    def reference(cls, arguments: Mapping[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
        # All layers and directions that there may be, and initial weights as of the largest size.
        sizes = ("input_size", "hidden_size", "num_layers", "proj_size")
        largest = {name: extent(arguments[name]) for name in sizes if name in arguments}
        return plain | largest | {"bidirectional": bool(extent(arguments["bidirectional"]))}

    # torch keeps the weights in a list as well, which its forward reads, with weak references by
    # which it sees that they are others.  It would also move those on CUDA into one piece of
    # memory, which those of a stand-in must not: they are parts of the space's.
    derived = frozenset({"_flat_weights", "_flat_weight_refs"})

    @classmethod
    def derive(cls, layer: Any) -> None:
        for name in [name for name, tensor in layer._parameters.items() if tensor is None]:
            del layer._parameters[name]  # of a layer or direction that is not there
        weights = [getattr(layer, name) for name in layer._flat_weights_names]
        layer.__dict__["_flat_weights"] = weights
        layer.__dict__["_flat_weight_refs"] = [weakref.ref(weight) for weight in weights]


class MutableRNN(_Recurrent, nn.RNN, wraps=nn.RNN):
    """``torch.nn.RNN`` whose arguments may be expressions."""


class MutableLSTM(_Recurrent, nn.LSTM, wraps=nn.LSTM):
    """``torch.nn.LSTM`` whose arguments may be expressions: sizes, layers, directions, ….

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> hidden, layers = Categorical([8, 16], label="hidden"), Categorical([1, 2], label="layers")
    >>> lstm = MutableLSTM(4, hidden, layers)
    >>> lstm.weight_hh_l0.shape
    torch.Size([64, 16])
    >>> lstm.freeze({"hidden": 8, "layers": 2})
    LSTM(4, 8, num_layers=2)
    """

    gates = 4


class MutableGRU(_Recurrent, nn.GRU, wraps=nn.GRU):
    """``torch.nn.GRU`` whose arguments may be expressions: sizes, layers, directions, …."""

    gates = 3
