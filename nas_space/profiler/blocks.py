"""The blocks of a space: pieces of networks that are timed apart, each different one once.

A block is the largest piece without a decision between branches in it: a candidate of a
choice, what stands between choices, a function that is called between modules.  Where widths
and kernels of its layers vary, each combination is a block of its own; where these are too
many, its parts are blocks instead.  Two pieces that run the same functions on the same shapes
are the same block.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import InfeasibleError
from ..mutable import Mutable, Values
from ..mutable.factors import TooLargeError
from ..mutable.piecewise import NOWHERE, Piecewise, joint
from ..nn.freezing import Freezer
from .contexts import Context
from .execution import Execution, name_of
from .failures import architecture
from .operator_calls import OperatorCall
from .profile import Profile
from .tensors import unflatten
from .trace import FunctionCall, ModuleCall

__all__ = ["Apart", "Block", "Timed", "random_like", "shapes_in", "timed"]

_MOST_VARIANTS = 256
"""Into how many combinations of widths, kernels and the like a piece may fall to be one block."""


class Block:
    """A piece of a network.

    Attributes
    ----------
    key
        What it is called in a table: its class, its shapes, and a digest of what it runs.
    path
        The module of the space that it comes from first; that which calls it, if it is a
        function.
    kind
        Its class, or the name of the function.
    inputs, outputs
        The shapes of its tensors, the batch included.
    macs
        Its multiply-adds.
    """

    def __init__(self, source: _Source, code: int) -> None:
        self._source = source
        self._code = code
        self.path = source.path
        self.kind = source.kind
        self.inputs = shapes_in(source.arguments(code)[1])
        self.outputs = shapes_in(source.results(code)[1])
        executions = list(source.executions(code))
        self.macs = sum(execution.flops for execution in executions) // 2
        text = "\n".join(map(_in_words, executions))
        shapes = f"input:{_written(self.inputs)}-output:{_written(self.outputs)}"
        self.key = f"{self.kind}-{shapes}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def __repr__(self) -> str:
        return f"Block({self.key!r}, path={self.path!r})"

    @property
    def sample(self) -> dict[str, Any] | None:
        """An architecture that has the block; ``None`` if constraints leave none."""
        return self._source.sample(self._code)

    @property
    def operators(self) -> list[OperatorCall]:
        """The operators of torch that it runs, in order."""
        executions = self._source.executions(self._code)
        return [operator for execution in executions for operator in execution.operators]

    def frozen(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        """Return the block as a plain network, with weights of the space."""
        return self._source.frozen(self._code, device, dtype).eval()

    def of_tensors(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        """Return the same, taking nothing but the tensors of :meth:`example`."""
        spec, leaves = self._source.arguments(self._code)
        return _OfTensors(self.frozen(device, dtype), spec, leaves).eval()

    def example(
        self, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
    ) -> tuple[torch.Tensor, ...]:
        """Return tensors that it takes: random ones, zeros where they are whole numbers."""
        generator = torch.Generator().manual_seed(0)
        leaves = self._source.arguments(self._code)[1]
        tensors = (leaf for leaf in leaves if isinstance(leaf, torch.Tensor))
        return tuple(random_like(tensor, generator, dtype).to(device) for tensor in tensors)


def random_like(
    tensor: torch.Tensor, generator: torch.Generator, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Return a tensor of the same shape to run something on: zeros where it has whole numbers.

    Parameters
    ----------
    tensor
        Whose shape and type; its device does not matter.
    generator
        Of random numbers, on the CPU, where the tensor is made.
    dtype
        The type of floating-point numbers; by default the tensor's.
    """
    if tensor.is_floating_point():
        return torch.randn(tensor.shape, generator=generator).to(dtype or tensor.dtype)
    return torch.zeros(tensor.shape, dtype=tensor.dtype)


class Timed:
    """One place of a space that is timed, with the block that each architecture has there.

    Attributes
    ----------
    context
        The architectures that get there.
    blocks
        Which block it is.
    """

    def __init__(self, context: Context, blocks: Piecewise) -> None:
        self.context = context
        self.blocks = blocks


def timed(of: Profile) -> list[Timed]:
    """Return the places of a space that are timed, in the order in which they run."""
    found: list[Timed] = []

    def visit(call: ModuleCall) -> None:
        if not _decides(call):
            inside = list(_function_calls(call))
            if all(map(_only_views, inside)):
                return
            source = _Module.of_call(of, call, inside)
            # A space without a choice between branches is taken apart, too.
            if source is not None and not (call is of.root and source.calls.scope):
                found.append(source.timed())
                return
        for inner in call.calls:
            if isinstance(inner, ModuleCall):
                visit(inner)
            elif not _only_views(inner):
                found.append(_Function(of, call, inner).timed())

    visit(of.root)
    return found


def _decides(call: ModuleCall) -> bool:
    inside = (inner for inner in call.calls if isinstance(inner, ModuleCall))
    return call.decides or any(map(_decides, inside))


def _function_calls(call: ModuleCall) -> Iterator[FunctionCall]:
    for inner in call.calls:
        if isinstance(inner, ModuleCall):
            yield from _function_calls(inner)
        else:
            yield inner


def _only_views(call: FunctionCall) -> bool:
    """Whether a call only looks at memory in another way, which takes no time to speak of."""
    return all(
        not execution.flops
        and all(
            origin is not None and same is None
            for leaf, origin, same in zip(
                execution.leaves, execution.origins, execution.same, strict=True
            )
            if isinstance(leaf, torch.Tensor)
        )
        for execution in call.executions.values
    )


Apart = tuple[Any, list[Any]]
"""Arguments or results as :func:`~.tensors.flatten` takes them apart."""


class _Source:
    """A call that is timed: of a module or of a function.

    Attributes
    ----------
    path, kind
        As of a block.
    calls
        Which of the different calls it is.
    """

    path: str
    kind: str
    calls: Piecewise

    def __init__(self, of: Profile, context: Context) -> None:
        self.space = of.space  # which so lives as long as its blocks
        self.context = context

    def arguments(self, code: int) -> Apart:
        """Return what one of the calls is given."""
        raise NotImplementedError

    def results(self, code: int) -> Apart:
        """Return what it gives."""
        raise NotImplementedError

    def executions(self, code: int) -> Iterator[Execution]:
        """Return the functions it runs."""
        raise NotImplementedError

    def frozen(
        self, code: int, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> nn.Module:
        """Return the module it calls."""
        raise NotImplementedError

    def timed(self) -> Timed:
        """Return all the calls."""
        blocks = [Block(self, code) for code in range(len(self.calls.values))]
        return Timed(self.context, Piecewise(self.calls.places, blocks))

    def sample(self, code: int) -> dict[str, Any] | None:
        """Return an architecture for which it is one of the calls."""
        return architecture(self.space, (*self.context.conditions, self.calls.where(code)))


class _Module(_Source):
    """A module that is called."""

    def __init__(self, of: Profile, call: ModuleCall, inside: list[FunctionCall]) -> None:
        super().__init__(of, call.context)
        self.path, self.kind, self.call = call.path, call.kind, call
        self.ran = len(inside)
        leaves = (*call.arguments[1], *call.results[1])
        varying = (leaf for leaf in leaves if isinstance(leaf, Piecewise))
        self.parts = [*map(_ran, inside), *varying]
        self.calls = joint(self.parts, call.context.possible)

    @classmethod
    def of_call(cls, of: Profile, call: ModuleCall, inside: list[FunctionCall]) -> _Module | None:
        """Return a module as one block; ``None`` if it would be too many different ones."""
        try:
            made = cls(of, call, inside)
        except TooLargeError:
            return None
        return made if len(made.calls.values) <= _MOST_VARIANTS else None

    def _of(self, apart: Apart, code: int) -> Apart:
        chosen = {
            id(part): part.values[place]
            for part, place in zip(self.parts, self.calls.values[code], strict=True)
        }
        return apart[0], [chosen.get(id(leaf), leaf) for leaf in apart[1]]

    def arguments(self, code: int) -> Apart:
        return self._of(self.call.arguments, code)

    def results(self, code: int) -> Apart:
        return self._of(self.call.results, code)

    def executions(self, code: int) -> Iterator[Execution]:
        places = self.calls.values[code][: self.ran]
        found = (part.values[i] for part, i in zip(self.parts, places, strict=False))
        return (execution for execution in found if execution is not None)

    def frozen(
        self, code: int, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> nn.Module:
        sample = self.sample(code)
        if sample is None:
            raise InfeasibleError(f"no architecture that meets the constraints has {self.path}")
        values = self.space.read(sample) if isinstance(self.space, Mutable) else Values()
        module = self.space.get_submodule(self.path)
        return Freezer(values, "copy", device, dtype).module(module)


def _ran(call: FunctionCall) -> Piecewise:
    """What a call of a function is for each architecture: an execution, or nothing."""
    executions = call.executions
    nothing = len(executions.values)
    places = call.context.exact.combine(
        executions.places,
        lambda here, places: np.where(here & (places != NOWHERE), places, nothing),
    )
    return Piecewise(places, [*executions.values, None])


class _Function(_Source):
    """A function that is called between modules."""

    def __init__(self, of: Profile, caller: ModuleCall, call: FunctionCall) -> None:
        super().__init__(of, call.context)
        self.path, self.calls = caller.path, call.executions
        self.kind = name_of(self.calls.values[0].call[0])

    def arguments(self, code: int) -> Apart:
        apart: Apart = self.calls.values[code].call[1:]
        return apart

    def results(self, code: int) -> Apart:
        execution = self.calls.values[code]
        return execution.spec, execution.leaves

    def executions(self, code: int) -> Iterator[Execution]:
        yield self.calls.values[code]

    def frozen(
        self, code: int, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> nn.Module:
        return _FunctionModule(self.calls.values[code].call[0])


class _FunctionModule(nn.Module):
    """A function as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


class _OfTensors(nn.Module):
    """A module as one that takes nothing but tensors, one after another."""

    def __init__(self, inner: nn.Module, spec: Any, leaves: list[Any]) -> None:
        super().__init__()
        self.inner = inner
        self.spec = spec
        self.others = [None if isinstance(leaf, torch.Tensor) else (leaf,) for leaf in leaves]

    def forward(self, *tensors: torch.Tensor) -> Any:
        given = iter(tensors)
        leaves = (next(given) if other is None else other[0] for other in self.others)
        args, kwargs = unflatten(self.spec, leaves)
        return self.inner(*args, **kwargs)


def shapes_in(leaves: Sequence[Any]) -> list[tuple[int, ...]]:
    """Return the shapes of the tensors among some things."""
    return [tuple(leaf.shape) for leaf in leaves if isinstance(leaf, torch.Tensor)]


def _written(shapes: list[tuple[int, ...]]) -> str:
    return ",".join("x".join(map(str, shape)) or "1" for shape in shapes) or "none"


def _in_words(execution: Execution) -> str:
    """A call of a function, the same in every process."""
    function, spec, leaves = execution.call
    words = [
        f"{leaf.dtype}{tuple(leaf.shape)}{leaf.stride()}"
        if isinstance(leaf, torch.Tensor)
        else re.sub(r" at 0x[0-9a-f]+", "", repr(leaf))
        for leaf in leaves
    ]
    return f"{name_of(function)} {spec} {words}"
