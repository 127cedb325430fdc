"""Following a space once for a kind of input, and remembering it."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map_only

from ..errors import SpaceError, UsageError
from ..mutable import Mutable
from ..nn.freezing import freezes_itself
from ..nn.module import MutableModule
from ..tables import Restricted
from .recorder import Recorder
from .trace import ModuleCall

if TYPE_CHECKING:
    from .allocations import MemoryWatch
    from .execution import Executor

__all__ = [
    "Call",
    "InputShape",
    "Inputs",
    "ModuleCost",
    "Profile",
    "Space",
    "called_with",
    "module_of",
    "profile",
]

InputShape = tuple[int, ...]

Call: TypeAlias = tuple[tuple[Any, ...], Mapping[str, Any]]
"""What a forward is called with: arguments, and arguments by name."""

Space: TypeAlias = nn.Module | Restricted[Any]
"""What has costs: a space, a restriction of one, or any other module."""


class Inputs:
    """What a space is followed on.

    Parameters
    ----------
    input_shape
        The shape of one sample, without the batch: ``(3, 224, 224)``.
    inputs
        Instead: tensors, with the batch, of which shape and type count; of whole numbers and
        truth values also the values, where the forward looks at them.  A tensor; a dictionary of
        named arguments; a tuple of arguments, or one that ends with a dictionary of named ones.
        (An argument that is a dictionary is given in a tuple of its own.)
    dtype
        The type of a sample given by its shape.
    batch_size
        How many samples there are, given by shape.

    Attributes
    ----------
    given
        The arguments of the forward, and those by name; tensors are on the meta device.
    values
        By the identity of such a tensor, the values that may be looked at.
    """

    def __init__(
        self, input_shape: Any, inputs: Any, dtype: torch.dtype | None, batch_size: int
    ) -> None:
        if (input_shape is None) == (inputs is None):
            raise UsageError("give either input_shape, the shape of one sample, or inputs")
        if inputs is None:
            shape = _checked_shape(input_shape, batch_size)
            inputs = torch.empty(shape, dtype=dtype or torch.get_default_dtype(), device="meta")
        self.values: dict[int, torch.Tensor] = {}
        self.given: Call = tree_map_only(torch.Tensor, self._meta, called_with(inputs))

    def _meta(self, tensor: torch.Tensor) -> torch.Tensor:
        made = torch.empty_like(tensor, device="meta")
        if not tensor.is_meta:
            from .known_values import is_constant

            if is_constant(tensor):
                self.values[id(made)] = tensor.detach().cpu().clone()
        return made

    @property
    def key(self) -> Any:
        """What tells inputs apart on which a space may do something else."""
        return str(self), tuple(value.numpy().tobytes() for value in self.values.values())

    def __str__(self) -> str:
        """In words, for error messages."""
        shapes = [
            f"{tuple(item.shape)} of {item.dtype}" if isinstance(item, torch.Tensor) else repr(item)
            for item in tree_leaves(self.given)
        ]
        return f"inputs {', '.join(shapes)}"


def called_with(inputs: Any) -> Call:
    """Return the arguments of a forward, and those by name, as :class:`Inputs` is given them."""
    arguments: tuple[Any, ...] = inputs if isinstance(inputs, tuple) else (inputs,)
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if len(arguments) > 1 and isinstance(arguments[-1], dict):
        return arguments[:-1], arguments[-1]
    return arguments, {}


def _checked_shape(input_shape: Any, batch_size: int) -> tuple[int, ...]:
    whole = not isinstance(input_shape, (int, str))
    extents = [*input_shape, batch_size] if whole else [input_shape]
    if not whole or not all(type(n) is int and n > 0 for n in extents):
        raise UsageError(
            "an input shape is that of one sample, without the batch, in positive whole numbers "
            f"such as (3, 224, 224), but got {input_shape!r}"
            + (f" and a batch of {batch_size!r}" if batch_size != 1 else "")
        )
    return (batch_size, *input_shape)


@dataclass
class ModuleCost:
    """What a module does in one architecture.

    Attributes
    ----------
    path, kind
        Which module, and its class.
    depth
        In how many others it is.
    inputs, outputs
        The shapes of its tensors, the batch included.
    macs
        Multiply-adds, those of the modules in it included.
    """

    path: str
    kind: str
    depth: int
    inputs: list[tuple[int, ...]]
    outputs: list[tuple[int, ...]]
    macs: int


class Profile:
    """A space, followed on some inputs.

    Attributes
    ----------
    root
        What happened, for all architectures at once.
    inputs
        On what.
    held
        The memory that is held all the time, that of the inputs; ``None`` if none was watched.
    executor
        What knows the calls of functions, where the space may be followed again for its memory.
    misread
        A sentence for each layer that reads a concatenation in another order than its width
        says; see :func:`nas_space.nn.decisions.misread`.
    """

    def __init__(
        self,
        space: nn.Module,
        inputs: Inputs,
        training: bool = False,
        memory: bool = False,
        executor: Executor | None = None,
    ) -> None:
        watch: MemoryWatch | None = None
        if memory:
            from .allocations import MemoryWatch

            watch = MemoryWatch()
        recorder = Recorder(space, training, watch, executor)
        recorder.record(inputs.given, inputs.values)
        if recorder.failures:
            from .failures import check

            check(space, recorder.failures, str(inputs), recorder.dead)
        self.root: ModuleCall = recorder.root
        self.held = None if watch is None else watch.inputs
        self.executor = recorder.executor if watch is None else None
        self.inputs = inputs
        self.misread: list[str] = []
        if recorder.differs:
            from .misread import read_otherwise

            differing = (
                call for _, call in self.root.functions() if len(call.executions.values) > 1
            )
            self.misread = read_otherwise(space, differing, *inputs.given)
        self._space = weakref.ref(space)
        self._modules = [(weakref.ref(m), _shapes(m)) for m in space.modules()]

    @property
    def space(self) -> nn.Module:
        """The space; it must still exist."""
        found = self._space()
        if found is None:
            raise SpaceError("the space that this profile is of does not exist any more")
        return found

    def is_of(self, space: nn.Module) -> bool:
        """Return whether a space still consists of the same modules."""
        found = list(space.modules())
        return len(found) == len(self._modules) and all(
            reference() is module and shapes == _shapes(module)
            for module, (reference, shapes) in zip(found, self._modules, strict=True)
        )

    def modules(self, arch: Mapping[str, Any]) -> list[ModuleCost]:
        """Return what each module that an architecture runs is given, gives, and costs.

        Parameters
        ----------
        arch
            An architecture of the space.

        Returns
        -------
        list of ModuleCost
            In the order in which they run, a module before those in it.
        """
        space = self.space
        found: list[ModuleCost] = []
        if isinstance(space, Mutable):
            arch = space.read(arch).active
        _visit(self.root, arch, 0, found)
        return found


def _visit(call: ModuleCall, arch: Mapping[str, Any], depth: int, found: list[ModuleCost]) -> int:
    inputs, outputs = (
        list(map(tuple, apart.map(lambda part: part.at(arch)).shapes))
        for apart in (call.arguments, call.results)
    )
    row = ModuleCost(call.path, call.kind, depth, inputs, outputs, 0)
    found.append(row)
    total = 0
    for inner in call.calls:
        if not inner.context.has(arch):
            continue
        if isinstance(inner, ModuleCall):
            total += _visit(inner, arch, depth + 1, found)
        else:
            total += inner.executions.at(arch).flops // 2
    row.macs = total
    return total


def _shapes(module: nn.Module) -> list[Any]:
    return [None if p is None else p.shape for p in module._parameters.values()]


def module_of(space: Any) -> nn.Module:
    """Return what is followed: the space itself, or all of it where a restriction of it is given.

    Raises
    ------
    UsageError
        If it is no module.
    """
    while isinstance(space, Restricted):
        space = space.space
    if not isinstance(space, nn.Module):
        name = getattr(space, "__name__", None) if callable(space) else None
        got = f"{name}, which is to be called first" if name else type(space).__name__
        raise UsageError(f"a cost is that of a space or a module, but got {got}")
    kinds = {type(module) for module in space.modules() if isinstance(module, MutableModule)}
    if not any(map(freezes_itself, kinds)):
        return space
    from ..nn.own_freeze import parts_apart

    for path, kind in parts_apart(space):
        raise SpaceError(
            f"{path or 'the space'!r}, a {kind}, says by its own freeze(...) what it becomes, so "
            "the modules of the space do not tell what an architecture costs; ask of "
            "space.freeze(arch), one by one, or leave that freeze out if it only does what is done "
            "without"
        )
    return space


_PROFILES: weakref.WeakKeyDictionary[nn.Module, dict[Any, Profile]] = weakref.WeakKeyDictionary()


def profile(
    space: Space,
    input_shape: InputShape | None = None,
    *,
    inputs: Any = None,
    dtype: torch.dtype | None = None,
    batch_size: int = 1,
    training: bool = False,
    memory: bool = False,
) -> Profile:
    """Follow a space on inputs of a shape, or find that this was done before.

    The first time, it warns of each layer that reads a concatenation in another order than the
    sum which is its width says; see :func:`nas_space.nn.decisions.misread`.

    Parameters
    ----------
    space
        A space, of which a restriction stands for all; any other module counts as one of a
        single architecture.
    input_shape, inputs, dtype, batch_size
        As of :class:`Inputs`.
    training
        Whether to follow it in training.
    memory
        Whether to watch where tensors lie.

    Raises
    ------
    UsageError
        If the shape is none.
    SpaceError
        If the space, or some architecture of it, does not run on such inputs.
    DecompositionError
        If too many labels determine something together.
    """
    space = module_of(space)
    given = Inputs(input_shape, inputs, dtype, batch_size)
    key = (given.key, training)
    known = _PROFILES.setdefault(space, {})
    found = known.get(key)
    if fresh := found is None or not found.is_of(space):
        found = None
    if found is None or (memory and found.held is None):
        executor = None if found is None else found.executor
        found = known[key] = Profile(space, given, training, memory, executor)
        for sentence in found.misread if fresh else ():
            warnings.warn(sentence, stacklevel=2)
    return found
