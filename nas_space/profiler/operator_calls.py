"""What operators of torch a call runs, and with which tensors: what every cost is made of."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .operator_flops import formula_of, is_free
from .tensors import flatten, unflatten

__all__ = ["OperatorCall", "OperatorRecorder"]


@dataclass(frozen=True, slots=True, eq=False)
class OperatorCall:
    """One call of an operator of torch, below all modules and Python code.

    It is the same in a space as in the network that an architecture freezes to: of an elastic
    layer, the weights are those that the architecture has.

    Attributes
    ----------
    operator
        The overload, such as ``torch.ops.aten.convolution.default``.
    args, kwargs, result
        As it was called, and what it gave; in the place of each tensor, one without data on the
        meta device, of the same shape, strides and type.
    inputs
        The tensors among the arguments, in order.
    owned
        For each of these, whether it is a parameter or a buffer of the network, or a view of one.
    outputs
        The tensors that it gave.
    is_view
        Whether it only looks at memory in another way, and reads and writes nothing.
    """

    operator: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    inputs: tuple[torch.Tensor, ...]
    owned: tuple[bool, ...]
    outputs: tuple[torch.Tensor, ...]
    is_view: bool

    @property
    def name(self) -> str:
        """The operator's name, without its overload: ``"aten.convolution"``."""
        return str(self.operator._overloadpacket)

    @property
    def weights(self) -> tuple[torch.Tensor, ...]:
        """The inputs that belong to the network."""
        return tuple(t for t, own in zip(self.inputs, self.owned, strict=True) if own)

    @property
    def flops(self) -> int | None:
        """Floating-point operations, two for each multiply-add; ``None`` if nobody knows.

        By the formulas of ``torch.utils.flop_counter``; operators that multiply no matrices
        count as 0.
        """
        formula = formula_of(self.operator)
        if formula is not None:
            return formula(self.args, self.kwargs, self.result)
        return 0 if is_free(self.operator) else None


class OperatorRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records what happens while it is entered, on the meta device.

    Parameters
    ----------
    shadow
        Gives a tensor without data that lives on, in the place of one that must not.
    owned
        The memory of the network's own tensors, by ``_cdata``.

    Attributes
    ----------
    calls
        The calls of operators.
    peak
        The most bytes that the results held at once.
    """

    def __init__(
        self, shadow: Callable[[torch.Tensor], torch.Tensor], owned: frozenset[int]
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shadow = shadow
        self.owned = owned
        self.calls: list[OperatorCall] = []
        self.peak = 0
        self._made: dict[int, tuple[weakref.ref[Any], int]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # By default torch wraps the method below in what loads all of torch.compile, so that Dynamo
        # does not compile the method. That takes half as long as torch itself, and Dynamo has no
        # reason to: nothing is compiled while the meta device is followed.
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if formula_of(func) is None and not is_free(func):
            with self:  # in inference mode, composite operators come here whole
                parts = func.decompose(*args, **kwargs)
                if parts is not NotImplemented:
                    return parts
        leaves: list[Any] = []
        spec = flatten((args, kwargs), leaves)
        inputs = _tensors(leaves)
        before = {s._cdata: s.nbytes() for s in (tensor.untyped_storage() for tensor in inputs)}
        owned = tuple([tensor.untyped_storage()._cdata in self.owned for tensor in inputs])
        given = self._without_data(leaves)  # before it changes them
        out = func(*args, **kwargs)
        results: list[Any] = []
        form = flatten(out, results)
        outputs = _tensors(results)
        memory = [tensor.untyped_storage() for tensor in outputs]
        self._count(memory, before)
        is_view = not func._schema.is_mutable and bool(outputs)
        is_view &= all(storage._cdata in before for storage in memory)
        made = self._without_data(results)
        shown, named = unflatten(spec, iter(given))
        result = unflatten(form, iter(made))
        call = (func, shown, named, result, _tensors(given), owned, _tensors(made), is_view)
        self.calls.append(OperatorCall(*call))
        return out

    def _count(self, memory: list[torch.UntypedStorage], before: dict[int, int]) -> None:
        """Count the memory of all results that are left: what is new, or by how much it has grown.

        Memory is told by its address, which may be used again when it is free.
        """
        made = {key: found for key, found in self._made.items() if found[0]() is not None}
        for storage in memory:
            made.setdefault(storage._cdata, (weakref.ref(storage), before.get(storage._cdata, 0)))
        self._made = made
        sizes = ((found(), first) for found, first in made.values())
        held = sum(storage.nbytes() - first for storage, first in sizes if storage is not None)
        self.peak = max(self.peak, held)

    def _without_data(self, leaves: list[Any]) -> list[Any]:
        return [self.shadow(leaf) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]


def _tensors(leaves: list[Any]) -> tuple[torch.Tensor, ...]:
    return tuple([leaf for leaf in leaves if isinstance(leaf, torch.Tensor)])
