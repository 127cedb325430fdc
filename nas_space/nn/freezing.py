"""Freezing: cloning the structure of a space, module by module, along one architecture.

No constructor runs again and nothing is copied that is not kept.  One memory of what has
been cloned keeps aliases: a module that is used twice stays one, tied parameters stay tied.
"""

from __future__ import annotations

import copy
import functools
import types
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import nn

from ..errors import SpaceError
from ..mutable import Mutable, Values
from ..mutable.node import Node
from .module import BOOKKEEPING, MutableModule

Weights = Literal["copy", "share", "move"]

_ATOMS = frozenset(
    {int, float, str, bool, bytes, complex, type(None), type, torch.dtype, torch.device, torch.Size,
     torch.memory_format, torch.layout, types.BuiltinFunctionType, types.ModuleType, type(Ellipsis), range}
)  # fmt: skip

_OF_SPACES = BOOKKEEPING | {"_mutables", "_reference", "_wanted", "args"}
"""What mutable modules keep for themselves, and frozen ones do not need."""

Cut = Callable[[torch.Tensor], torch.Tensor]


class Freezer:
    """One act of freezing.

    Parameters
    ----------
    values
        The values of the active labels.
    weights
        ``'copy'`` gives the network tensors of its own, ``'share'`` views of the space's,
        ``'move'`` the space's own, for a space that is thrown away.
    device, dtype
        Where tensors go, and which type floating ones get, in the same copy.
    """

    def __init__(
        self,
        values: Values,
        weights: Weights = "copy",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.values = values
        self.weights = weights
        self.device = device
        self.dtype = dtype
        self.memo = FreezeMemo(self)
        self.tensors: dict[Any, Any] = {}
        self.path: list[str] = []

    # -- modules --------------------------------------------------------------------------------

    def module(self, module: nn.Module) -> nn.Module:
        """The frozen form of a module; the same one each time."""
        found = self.memo.get(id(module))
        if found is None:
            if isinstance(module, MutableModule):
                found = module.freeze_module(self)
            else:
                found = self.clone(module)
            self.memo[id(module)] = found
        return cast(nn.Module, found)

    def clone(self, module: nn.Module) -> nn.Module:
        """A module of the same class, with everything in it frozen."""
        new = object.__new__(type(module))
        self.memo[id(module)] = new  # before the children: one of them may refer back
        return self.fill(new, module)

    def fill(
        self,
        new: nn.Module,
        module: nn.Module,
        overrides: dict[str, Any] | None = None,
        cuts: dict[str, Cut | None] | None = None,
    ) -> nn.Module:
        """Gives a bare new module the frozen contents of another.

        Parameters
        ----------
        new
            A module without any attribute yet.
        module
            What it is the frozen form of.
        overrides
            Attributes that differ.
        cuts
            For tensors of which only a part is kept: what takes it, or None to leave it out.
        """
        into = new.__dict__
        for name, value in module.__dict__.items():
            kind = type(value)
            if kind in _ATOMS:
                into[name] = value
            elif name == "_parameters" or name == "_buffers":
                into[name] = {
                    key: None if tensor is None else self.tensor(tensor)
                    if cuts is None or key not in cuts
                    else None if cuts[key] is None else self.tensor(tensor, cuts[key])
                    for key, tensor in value.items()
                }
            elif name == "_modules":
                children: dict[str, Any] = {}
                into[name] = children
                for key, child in value.items():
                    self.path.append(key)
                    children[key] = None if child is None else self.module(child)
                    self.path.pop()
            elif name == "_expressions":
                for key, expression in value.items():
                    into.setdefault(key, self.values(expression))
            elif name in _OF_SPACES:
                continue
            elif kind is OrderedDict and not value:
                into[name] = OrderedDict()
            else:
                self.path.append(name)
                into[name] = self.attribute(value)
                self.path.pop()
        if overrides:
            into.update(overrides)
        return new

    # -- tensors ----------------------------------------------------------------------------------

    def tensor(self, tensor: torch.Tensor, cut: Cut | None = None) -> torch.Tensor:
        """The frozen form of a tensor, or of the part of it that a cut takes."""
        key: Any = id(tensor)
        part = tensor.detach() if isinstance(tensor, nn.Parameter) else tensor
        if cut is not None:
            part = cut(part)
            key = (key, part.data_ptr(), part.shape, part.stride())
        found = self.tensors.get(key)
        if found is not None:
            return cast(torch.Tensor, found[0])
        result = self._placed(tensor, part)
        if isinstance(tensor, nn.Parameter):
            if self.weights == "move" and result is part and part.shape == tensor.shape:
                result = tensor
            else:
                trains = tensor.requires_grad and self.weights != "share"
                result = _as_parameter(type(tensor), result, trains)
        self.tensors[key] = (result, tensor)  # holds the original, whose identity is the key
        return result

    def shared_parameters(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The frozen parameters, each with the one it came from."""
        return [(mine, its) for mine, its in self.tensors.values() if isinstance(its, nn.Parameter)]

    def _placed(self, tensor: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
        dtype = self.dtype if tensor.is_floating_point() else None
        if self.weights == "copy":
            if self.device is None and dtype is None:
                return dense_clone(part, tensor)
            moved = part.detach().to(device=self.device, dtype=dtype or part.dtype, copy=True)
            return dense(moved, tensor)
        if self.device is not None or dtype is not None:
            part = part.to(device=self.device, dtype=dtype or part.dtype)
        return part

    # -- everything else ----------------------------------------------------------------------------

    def attribute(self, value: Any) -> Any:
        """The frozen form of anything that a module holds."""
        kind = type(value)
        if kind in _ATOMS:
            return value
        if isinstance(value, Node):
            return self.values(value)
        if isinstance(value, nn.Module):
            return self.module(value)
        if isinstance(value, torch.Tensor):
            return self.tensor(value)
        if kind is list:
            return [self.attribute(item) for item in value]
        if kind is tuple:
            return tuple(self.attribute(item) for item in value)
        if kind is dict or kind is OrderedDict:
            return kind((self.attribute(key), self.attribute(item)) for key, item in value.items())
        if kind is set or kind is frozenset:
            return kind(self.attribute(item) for item in value)
        if isinstance(value, Mutable):
            return value.freeze_values(self.values)
        if isinstance(value, types.MethodType):
            return types.MethodType(value.__func__, self.attribute(value.__self__))
        if isinstance(value, types.FunctionType):
            self._check_closure(value)
            return value
        if isinstance(value, functools.partial):
            arguments = [self.attribute(argument) for argument in value.args]
            keywords = {key: self.attribute(argument) for key, argument in value.keywords.items()}
            return functools.partial(self.attribute(value.func), *arguments, **keywords)
        if isinstance(value, type):
            return value
        try:
            return copy.deepcopy(value, self.memo)
        except TypeError:
            return value  # locks, files and the like cannot be copied, and hold no weights

    def _check_closure(self, function: types.FunctionType) -> None:
        """A function keeps what it closes over: frozen, it would still run the space."""
        held = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        contents = {name: _cell(cell) for name, cell in held.items()}
        defaults = function.__defaults__ or ()
        contents.update({f"default {i}": value for i, value in enumerate(defaults)})
        contents.update(function.__kwdefaults__ or {})
        for name, value in contents.items():
            if isinstance(value, (nn.Module, Mutable, nn.Parameter)):
                where = ".".join(self.path)
                raise SpaceError(
                    f"the attribute {where!r} is a function {function.__qualname__!r} that closes over "
                    f"{name!r}, a {type(value).__name__} of the space; its frozen form would still refer to "
                    "the space. Make it a method of the module, or give it what it needs as an argument"
                )


class FreezeMemo(dict[int, Any]):
    """What ``copy.deepcopy`` consults, so that objects of a user's own are frozen as well.

    Expressions inside them are given to :meth:`evaluate`; modules and tensors that belong
    to the space are found in the memory of what is frozen already.
    """

    def __init__(self, freezer: Freezer) -> None:
        super().__init__()
        self.freezer = freezer

    def evaluate(self, expression: Node) -> Any:
        """The value of an expression found while copying."""
        return self.freezer.values(expression)

    def freeze(self, module: nn.Module) -> nn.Module:
        """The frozen form of a mutable module found while copying."""
        return self.freezer.module(module)


def _cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _as_parameter(kind: type[nn.Parameter], data: torch.Tensor, trains: bool) -> nn.Parameter:
    if kind is nn.Parameter:
        return torch.Tensor._make_subclass(nn.Parameter, data, trains)  # type: ignore[return-value]
    return kind(data, requires_grad=trains)


def dense(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """A part of a tensor with no gaps, in the memory format of the whole."""
    if part.dim() == 4 and not whole.is_contiguous() and whole.is_contiguous(memory_format=torch.channels_last):
        return part.contiguous(memory_format=torch.channels_last)
    if part.shape == whole.shape:
        return part
    return part.contiguous()


def dense_clone(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """A copy without gaps, in the memory format of the whole."""
    if part.shape == whole.shape:
        return part.detach().clone()
    compact = dense(part, whole)
    return compact.clone() if compact.data_ptr() == part.data_ptr() else compact
