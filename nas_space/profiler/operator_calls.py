"""What operators of torch a call runs, and with which tensors: what every cost is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        The most bytes that were held at once by tensors made in the meantime, if that is watched.
    """

    def __init__(
        self, shadow: Callable[[torch.Tensor], torch.Tensor], owned: frozenset[int]
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shadow = shadow
        self.owned = owned
        self.calls: list[OperatorCall] = []
        self.peak = 0

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
        self.note(outputs, before)
        is_view = not func._schema.is_mutable and bool(outputs)
        is_view &= all(tensor.untyped_storage()._cdata in before for tensor in outputs)
        made = self._without_data(results)
        shown, named = unflatten(spec, iter(given))
        result = unflatten(form, iter(made))
        call = (func, shown, named, result, _tensors(given), owned, _tensors(made), is_view)
        self.calls.append(OperatorCall(*call))
        return out

    def note(self, outputs: Sequence[torch.Tensor], before: dict[int, int]) -> None:
        """Note what an operator gave, given the bytes of what it was given, by ``_cdata``."""

    def _without_data(self, leaves: list[Any]) -> list[Any]:
        return [self.shadow(leaf) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]


def _tensors(leaves: list[Any]) -> tuple[torch.Tensor, ...]:
    return tuple([leaf for leaf in leaves if isinstance(leaf, torch.Tensor)])
