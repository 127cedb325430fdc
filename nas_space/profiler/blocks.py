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
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from ..errors import InfeasibleError
from ..mutable import Mutable, Values
from ..mutable.factors import TooLargeError
from ..mutable.piecewise import NOWHERE, Piecewise
from ..nn.freezing import Freezer
from .contexts import Context
from .execution import Execution, name_of
from .failures import architecture
from .operator_calls import OperatorCall
from .profile import Profile
from .tensors import unflatten
from .trace import Apart, FunctionCall, ModuleCall, Way

__all__ = ["Block", "Timed", "filled", "random_like", "timed"]

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
        self._source, self._code = source, code
        self._way: Way = source.ways.values[code]
        self.path, self.kind = source.path, source.kind
        self.inputs = [tuple(shape) for shape in self._way.arguments.shapes]
        self.outputs = [tuple(shape) for shape in self._way.results.shapes]
        self.macs = sum(execution.flops for execution in self._executions) // 2
        text = "\n".join(map(_in_words, self._executions))
        shapes = f"input:{_written(self.inputs)}-output:{_written(self.outputs)}"
        self.key = f"{self.kind}-{shapes}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def __repr__(self) -> str:
        return f"Block({self.key!r}, path={self.path!r})"

    @property
    def _executions(self) -> list[Execution]:
        return [execution for execution in self._way.others if execution is not None]

    @property
    def sample(self) -> dict[str, Any] | None:
        """An architecture that has the block; ``None`` if constraints leave none."""
        source = self._source
        conditions = (*source.context.conditions, source.ways.where(self._code))
        return architecture(source.space, conditions)

    @property
    def operators(self) -> list[OperatorCall]:
        """The operators of torch that it runs, in order."""
        return [operator for execution in self._executions for operator in execution.operators]

    def frozen(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        """Return the block as a plain network, with weights of the space."""
        if not self._source.is_module:
            return _FunctionModule(self._executions[0].call[0]).eval()
        space, sample = self._source.space, self.sample
        if sample is None:
            raise InfeasibleError(f"no architecture that meets the constraints has {self.path}")
        values = space.read(sample) if isinstance(space, Mutable) else Values()
        module = space.get_submodule(self.path)
        return Freezer(values, "copy", device, dtype).module(module).eval()

    def of_tensors(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        """Return the same, taking nothing but the tensors of :meth:`example`."""
        return _OfTensors(self.frozen(device, dtype), *self._way.arguments).eval()

    def example(
        self, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
    ) -> tuple[torch.Tensor, ...]:
        """Return tensors that it takes: random ones, zeros where they are whole numbers."""
        generator = torch.Generator().manual_seed(0)
        tensors = (x for x in self._way.arguments.leaves if isinstance(x, torch.Tensor))
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


def filled(given: Any, seed: int) -> Any:
    """Return arguments with random numbers, drawn by a seed, where only shapes are known."""
    draw = torch.Generator().manual_seed(seed)

    def made(tensor: torch.Tensor) -> torch.Tensor:
        return random_like(tensor, draw) if tensor.is_meta else tensor

    return tree_map_only(torch.Tensor, made, given)


class Timed(NamedTuple):
    """One place of a space that is timed, with the block that each architecture has there.

    Attributes
    ----------
    context
        The architectures that get there.
    blocks
        Which block it is.
    """

    context: Context
    blocks: Piecewise


def timed(of: Profile) -> list[Timed]:
    """Return the places of a space that are timed, in the order in which they run."""
    found: list[Timed] = []
    space = of.space  # which so lives as long as its blocks

    def visit(call: ModuleCall) -> None:
        if not _decides(call):
            inside = [inner for _, inner in call.functions()]
            if all(map(_only_views, inside)):
                return
            try:
                ways = call.ways(list(map(_ran, inside)), _MOST_VARIANTS)
            except TooLargeError:
                pass
            else:
                # A space without a choice between branches is taken apart, too.
                if call is not of.root or not ways.scope:
                    source = _Source(space, call.path, call.kind, call.context, ways)
                    found.append(source.timed())
                    return
        for inner in call.calls:
            if isinstance(inner, ModuleCall):
                visit(inner)
            elif not _only_views(inner):
                executions = inner.executions
                ways = Piecewise(executions.places, list(map(_way, executions.values)))
                kind = name_of(executions.values[0].call[0])
                source = _Source(space, call.path, kind, inner.context, ways, is_module=False)
                found.append(source.timed())

    visit(of.root)
    return found


def _decides(call: ModuleCall) -> bool:
    inside = (inner for inner in call.calls if isinstance(inner, ModuleCall))
    return call.decides or any(map(_decides, inside))


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


class _Source(NamedTuple):
    """What is timed: the calls of a module, or of a function.

    Attributes
    ----------
    space
        What it is in.
    path, kind
        As of a block.
    context
        The architectures that get there.
    ways
        The different calls, each with the executions of functions in it, or ``None``.
    is_module
        Whether it is a module.
    """

    space: nn.Module
    path: str
    kind: str
    context: Context
    ways: Piecewise
    is_module: bool = True

    def timed(self) -> Timed:
        """Return all the calls."""
        blocks = [Block(self, code) for code in range(len(self.ways.values))]
        return Timed(self.context, Piecewise(self.ways.places, blocks))


def _way(execution: Execution) -> Way:
    """A call of a function."""
    _, spec, leaves = execution.call
    return Way(Apart(spec, leaves), Apart(execution.spec, execution.leaves), [execution])


def _ran(call: FunctionCall) -> Piecewise:
    """What a call of a function is for each architecture: an execution, or nothing."""
    executions = call.executions
    nothing = len(executions.values)
    places = call.context.exact.combine(
        executions.places,
        lambda here, places: np.where(here & (places != NOWHERE), places, nothing),
    )
    return Piecewise(places, [*executions.values, None])


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
