"""Freezing: cloning the structure of a space, module by module, along one architecture.

No constructor runs again and nothing is copied that is not kept.  One memory of what has
been cloned keeps aliases: a module that is used twice stays one, tied parameters stay tied.
"""

from __future__ import annotations

import copy
import functools
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, TypeVar, cast

import torch
from torch import Tensor, nn

from ..errors import NasSpaceError, SampleMissingError, SpaceError
from ..mutable import Mutable, MutableDict, MutableList, Values
from ..mutable.node import Node, fresh
from .structure import ATOMS, BOOKKEEPING, held

__all__ = ["Cut", "FreezeMemo", "Freezer", "Weights", "cell_content", "dense", "freezes_itself"]

M = TypeVar("M", bound=nn.Module)

Weights: TypeAlias = Literal["copy", "share", "move"]
Cut: TypeAlias = Callable[[Tensor], "Tensor | None"]
"""Takes the part of a tensor that an architecture keeps; ``None`` if it keeps nothing."""

_OF_ANY = frozenset({"_compiled_call_impl"})
"""What was compiled would go on to run the weights of the space."""

_OF_SPACES = BOOKKEEPING | {"_mutables", "_blueprint", "_instances", *_OF_ANY}
"""What mutable modules keep for themselves, and frozen ones do not need."""

_OF_LAYERS = _OF_SPACES | {"args"}

_HOOKS = tuple(name for name, value in vars(nn.Module()).items() if isinstance(value, OrderedDict))
"""The attributes in which torch keeps a module's hooks."""

_CONTAINERS = frozenset({OrderedDict, dict, list, set})

_NO_CUTS: dict[str, Cut] = {}


class Freezer:
    """One act of freezing.

    Parameters
    ----------
    values
        The values of the active labels.
    weights
        ``'copy'`` gives the network tensors of its own, ``'share'`` parameters that are views
        of the space's, ``'move'`` the space's own, for a space that is thrown away.
    device, dtype
        Where tensors go, and which type floating ones get, in the same copy.

    Attributes
    ----------
    path
        The names that lead to what is being frozen, for error messages.
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
        self._moves = weights == "move" and device is None and dtype is None
        self.path: list[str] = []
        self.root: nn.Module | None = None
        self.memo = FreezeMemo(self)
        self._tensors: dict[Any, tuple[Tensor, Tensor]] = {}

    # -- modules --------------------------------------------------------------------------------

    def module(self, module: nn.Module) -> nn.Module:
        """Return the frozen form of a module; the same one each time."""
        memo = self.memo
        found = memo.known(module)
        if found is None:
            inside = self.root is not None
            if not inside:
                self.root = module
            kind: Any = type(module)
            if not hasattr(kind, "freeze_module"):
                found = self.clone(module)
            elif inside and freezes_itself(kind):
                found = kind.freeze(module, self.values.active)
                if self.device is not None or self.dtype is not None:
                    found = found.to(self.device, self.dtype)
            else:
                found = kind.freeze_module(module, self)
            memo[id(module)] = found
        return cast(nn.Module, found)

    def child(self, name: str, module: nn.Module) -> nn.Module:
        """Return the frozen form of a module that stands under a name in the one being frozen."""
        self.path.append(name)
        found = self.module(module)
        self.path.pop()
        return found

    def clone(
        self,
        module: nn.Module,
        plain: type[nn.Module] | None = None,
        attributes: Mapping[str, Any] | None = None,
        cuts: Mapping[str, Cut] = _NO_CUTS,
    ) -> nn.Module:
        """Return a new module with the frozen contents of another.

        Parameters
        ----------
        module
            What it is the frozen form of.
        plain
            Its class; by default that of the module.
        attributes
            Those that differ.
        cuts
            For tensors of which only a part is kept: what takes it.
        """
        new = object.__new__(plain or type(module))
        self.memo[id(module)] = new  # before the children: one of them may refer back
        into = new.__dict__
        kind: Any = type(module)
        derived = _derived(kind)
        left_out = _kept_for_itself(module) | derived
        # A list, for what a space works out once is noted in it, maybe by another thread just now.
        for name, value in list(module.__dict__.items()):
            if name in left_out:
                continue
            held_kind = type(value)
            if held_kind in ATOMS:
                into[name] = value
            elif held_kind in _CONTAINERS and not value:  # hooks, of which most modules have none
                into[name] = held_kind()
            elif held_kind is tuple and ATOMS.issuperset(map(type, value)):  # strides and the like
                into[name] = value
            elif name == "_modules":
                into[name] = {
                    key: child if child is None else self.child(key, child)
                    for key, child in value.items()
                }
            elif name in {"_parameters", "_buffers"}:
                into[name] = {
                    key: tensor if tensor is None else self.tensor(tensor, cuts.get(key))
                    for key, tensor in value.items()
                }
            elif name == "_expressions":
                for key, mutable in value.items():
                    into[key] = self.attribute(key, mutable)
            else:
                into[name] = self.attribute(name, value)
        if attributes:
            into.update((name, fresh(value)) for name, value in attributes.items())
        if derived:
            kind.derive(new)
        return new

    def elastic(self, layer: Any) -> nn.Module:
        """Return the plain layer that an elastic one is."""
        form = layer.form(self.values)
        for name, child in layer._modules.items():
            if child is not None and name in form.parts:
                part = form.parts[name]
                self.clone(child, None, part.attributes, part.cuts)
        part, reparametrization = form.parts[""], layer.reparametrization
        if reparametrization is None:
            return self.clone(layer, layer.plain, part.attributes, part.cuts)
        found: nn.Module = reparametrization.frozen(self, form)
        return found

    def substitute(self, module: nn.Module, new: M) -> M:
        """Give a module that takes the place of another its mode and its hooks."""
        new.training = module.training
        for name in _HOOKS:
            if vars(module)[name]:
                vars(new)[name] = self.attribute(name, vars(module)[name])
        return new

    def refuse_hooks(self, module: nn.Module) -> None:
        """Raise if a module of which nothing is left has hooks, which would be lost."""
        if any(vars(module)[name] for name in _HOOKS):
            raise SpaceError(
                f"the hooks of {self._where()}, a {type(module).__name__}, would be lost: nothing "
                "is left of it in a network; register them on the modules that it chooses from"
            )

    # -- tensors ----------------------------------------------------------------------------------

    def tensor(self, tensor: Tensor, cut: Cut | None = None) -> Tensor | None:
        """Return the frozen form of a tensor, or of the part of it that a cut takes."""
        if self._moves and cut is None:
            return tensor
        part: Tensor | None = tensor.detach()
        key: Any = id(tensor)
        if cut is not None:
            part = cut(cast(Tensor, part))
            if part is None:
                return None
            if part.shape != tensor.shape:
                place: Any = (part.storage_offset(), part.shape, part.stride())
                key = (key, place if part._is_view() else _copied_by(cut))
        found = self._tensors.get(key)
        if found is None:
            found = (self._made(tensor, cast(Tensor, part)), tensor)
            self._tensors[key] = found  # with the original, whose identity is the key
        return found[0]

    def _made(self, tensor: Tensor, part: Tensor) -> Tensor:
        parameter = isinstance(tensor, nn.Parameter)
        # Buffers are shared never: they are small, and a layer in training mode changes them.
        copies = self.weights == "copy" or (self.weights == "share" and not parameter)
        dtype = self.dtype if tensor.is_floating_point() else None
        if self.device is not None or dtype is not None:
            made = part.to(device=self.device, dtype=dtype, copy=copies)
        elif copies:
            made = part.clone()  # without gaps, in the same memory format
        elif self._moves and part.shape == tensor.shape:
            return tensor
        else:
            made = dense(part, tensor)
        if not parameter:
            return made
        trains = tensor.requires_grad and self.weights != "share"
        if type(tensor) is nn.Parameter:
            return torch.Tensor._make_subclass(nn.Parameter, made, trains)
        made_alike: Tensor = cast(Any, type(tensor))(made, requires_grad=trains)
        return made_alike

    def parameters(self) -> list[tuple[nn.Parameter, bool]]:
        """Return the parameters made, and whether those that they came from are trained."""
        return [
            (made, its.requires_grad)
            for made, its in self._tensors.values()
            if isinstance(made, nn.Parameter)
        ]

    # -- everything else --------------------------------------------------------------------------

    def attribute(self, name: str, value: Any) -> Any:
        """Return the frozen form of what a module holds under a name."""
        self.path.append(name)
        found = self.frozen(value)
        self.path.pop()
        return found

    def frozen(self, value: Any) -> Any:
        """Return the frozen form of anything."""
        kind = type(value)
        if kind in ATOMS or isinstance(value, type):
            return value
        known = self.memo.known(value)
        if known is not None:
            return known
        by_kind = _BY_KIND.get(kind)
        if by_kind is not None:
            found = self.memo[id(value)] = by_kind(self, value)
            return found
        if isinstance(value, nn.Module):
            return self.module(value)
        if isinstance(value, Tensor):
            return self.tensor(value)
        try:
            if isinstance(value, Mutable):
                return value.freeze_values(self.values)
            return copy.deepcopy(value, self.memo)
        except SampleMissingError as error:
            raise SpaceError(
                f"{self._where()} holds an expression that is not tracked: {error.msg}; register "
                "it with add_mutable(...), or make it an attribute of a module"
            ) from error
        except NasSpaceError:
            raise
        except TypeError:
            return value  # locks, files and the like cannot be copied, and hold no weights
        except Exception as error:
            raise SpaceError(f"{self._where()} cannot be copied: {error}") from error

    def _where(self) -> str:
        return repr(".".join(self.path) or "(the space itself)")

    def _list(self, value: list[Any]) -> list[Any]:
        found = self.memo[id(value)] = []  # before its items: one of them may be the list
        found.extend(map(self.frozen, value))
        return found

    def _dict(self, value: dict[Any, Any]) -> dict[Any, Any]:
        found = self.memo[id(value)] = type(value)()
        found.update((self.frozen(key), self.frozen(item)) for key, item in value.items())
        return found

    def _collection(self, value: Any) -> Any:
        return type(value)(map(self.frozen, value))

    def _mutable_list(self, value: MutableList) -> list[Any]:
        return [self.frozen(item) for item in value]

    def _mutable_dict(self, value: MutableDict) -> dict[str, Any]:
        return {key: self.frozen(item) for key, item in value.items()}

    def _method(self, method: types.MethodType) -> types.MethodType:
        return types.MethodType(method.__func__, self.frozen(method.__self__))

    def _partial(self, value: functools.partial[Any]) -> functools.partial[Any]:
        keywords = {key: self.frozen(argument) for key, argument in value.keywords.items()}
        return functools.partial(self.frozen(value.func), *map(self.frozen, value.args), **keywords)

    def _weak(self, value: weakref.ref[Any]) -> weakref.ref[Any]:
        target = value()
        return value if target is None else weakref.ref(self.frozen(target))

    def _function(self, function: types.FunctionType) -> types.FunctionType:
        """Return a function that closes over nothing of the space, which it would still run."""
        for name, value in _closed_over(function, set()):
            raise SpaceError(
                f"{self._where()} is a function, {function.__qualname__!r}, that closes over "
                f"{name!r}, a {type(value).__name__}, and cannot be given another one; make it a "
                "method of the module, or a functools.partial that has what it needs as arguments"
            )
        return function


_BY_KIND: dict[type, Callable[[Freezer, Any], Any]] = {
    list: Freezer._list,
    tuple: Freezer._collection,
    set: Freezer._collection,
    frozenset: Freezer._collection,
    dict: Freezer._dict,
    OrderedDict: Freezer._dict,
    MutableList: Freezer._mutable_list,
    MutableDict: Freezer._mutable_dict,
    types.MethodType: Freezer._method,
    types.FunctionType: Freezer._function,
    functools.partial: Freezer._partial,
    weakref.ref: Freezer._weak,
}


class FreezeMemo(dict[int, Any]):
    """What ``copy.deepcopy`` consults, so that objects of a user's own are frozen as well.

    Expressions inside them are given to :meth:`evaluate`, mutable modules to :meth:`freeze`.

    Parameters
    ----------
    freezer
        For what it is the memory.
    """

    def __init__(self, freezer: Freezer) -> None:
        super().__init__()
        self.freezer = freezer

    def known(self, value: Any) -> Any:
        """Return the frozen form of something, if it has been made."""
        return super().get(id(value))

    def get(self, key: int, default: Any = None) -> Any:
        """Return the frozen form of what has an identity, if it was made or is the space's."""
        found = super().get(key, default)
        if found is default and key in self._owned:
            return self.freezer.frozen(self._owned[key])
        return found

    @functools.cached_property
    def _owned(self) -> dict[int, Any]:
        root = self.freezer.root
        if root is None:
            return {}
        return {id(each): each for each in (*root.modules(), *root.parameters(), *root.buffers())}

    def evaluate(self, expression: Node) -> Any:
        """Return the value of an expression found while copying."""
        return self.freezer.values(expression)

    def freeze(self, module: nn.Module) -> nn.Module:
        """Return the frozen form of a mutable module found while copying."""
        return self.freezer.module(module)


def _kept_for_itself(module: nn.Module) -> frozenset[str]:
    """The attributes of a module that are no part of what it is: one that is not ours has none."""
    kind, state = type(module), module.__dict__
    if not hasattr(kind, "freeze_module"):
        return _OF_ANY
    # Arguments of a constructor are kept by layers; of other modules, ``args`` is the user's.
    return _OF_LAYERS if hasattr(kind, "derived") or "_instances" in state else _OF_SPACES


@functools.cache
def _derived(kind: type) -> frozenset[str]:
    """Return the attributes that a class of layers derives; of a user's, it may be a method."""
    found = getattr(kind, "derived", None)
    return found if isinstance(found, frozenset) else frozenset()


@functools.cache
def freezes_itself(cls: Any) -> bool:
    """Return whether a class of a user's own says by ``freeze(sample)`` what it freezes to."""
    home: str = getattr(cls.freeze, "__module__", "")
    return home.partition(".")[0] != __name__.partition(".")[0]


@functools.cache
def rebuilds_itself(cls: Any) -> bool:
    """Return whether ``freeze(sample)`` of a user's own class leaves out that of this library.

    Then what it gives has fresh weights, for all that is known of it.
    """
    own = [vars(base)["freeze"] for base in cls.__mro__ if "freeze" in vars(base)]
    bases = {"super", *(base.__name__ for base in cls.__mro__)}
    for freeze in own:
        if getattr(freeze, "__module__", "").partition(".")[0] == __name__.partition(".")[0]:
            return False
        code = getattr(freeze, "__code__", None)
        if code is None or "freeze" not in code.co_names or bases.isdisjoint(code.co_names):
            return True
    return False


def _closed_over(function: types.FunctionType, seen: set[int]) -> Any:
    """Yield the modules, mutables and parameters that a function refers to on its own, by name."""
    if id(function) in seen:
        return
    seen.add(id(function))
    code, defaults = function.__code__, function.__defaults__ or ()
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    contents = {name: cell_content(cell) for name, cell in cells}
    last = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
    contents |= dict(zip(last, defaults, strict=True)) | (function.__kwdefaults__ or {})
    for name, value in contents.items():
        if isinstance(value, types.FunctionType):
            yield from _closed_over(value, seen)
        elif isinstance(value, nn.Parameter):
            yield name, value
        else:
            yield from ((name, found) for found in held(value))


def cell_content(cell: types.CellType) -> Any:
    """Return what a function closes over in one cell."""
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _copied_by(cut: Cut) -> Any:
    """Return what tells one cut from another that takes other elements, where a part is a copy."""
    function = getattr(cut, "func", cut)
    shape: Any = getattr(cut, "keywords", {}).get("shape")
    return getattr(function, "__func__", function), shape


def dense(part: Tensor, whole: Tensor) -> Tensor:
    """Return a part of a tensor without gaps, in the memory format of the whole.

    Kernels may add in another order over a matrix with gaps than over one without.
    """
    return part if part.shape == whole.shape or part.is_contiguous() else part.clone()
