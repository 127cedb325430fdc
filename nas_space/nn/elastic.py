"""Elastic layers: one set of weights, of which every architecture uses a part.

An elastic layer owns each tensor at the largest shape that any architecture needs.  Under an
active architecture, torch's own ``forward`` runs on a light stand-in for the plain layer,
whose attributes are those of a plain layer with the active arguments and whose tensors are
cut from the owned ones.  Freezing makes a plain layer out of the same attributes and the
same cuts, so the two agree by construction.  A class only has to say which shapes its
tensors have.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from ..errors import NasSpaceError, SpaceError
from ..mutable.node import Node, key_of
from .activation import current
from .building import extent, slim
from .freezing import dense
from .parametrized import ParametrizedModule, evaluated, expressions_in

if TYPE_CHECKING:
    from .freezing import Freezer

Shape = tuple[Any, ...]


class ElasticModule(ParametrizedModule):
    """Base class of layers that are cut to the active arguments.

    Subclasses also derive from the plain layer, and implement :meth:`shapes`.
    """

    plain: ClassVar[type[nn.Module]]
    kept: ClassVar[frozenset[str]] = frozenset()
    """Attributes that are the same for every architecture, though torch derives them from arguments."""

    def __init_subclass__(cls, wraps: type[nn.Module] | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(wraps=wraps, **kwargs)
        if cls.wraps is not None:
            cls.plain = cls.wraps

    # -- what a class says ------------------------------------------------------------------

    @classmethod
    def shapes(cls, arguments: dict[str, Any]) -> dict[str, Shape]:
        """Tensor name to shape, in terms of arguments that are numbers or expressions."""
        raise NotImplementedError

    @classmethod
    def cut(cls, name: str, tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        """The part of a tensor that has the given shape: by default, what comes first."""
        return leading(tensor, shape)

    @classmethod
    def check(cls, arguments: dict[str, Any]) -> None:
        """Raises where arguments cannot go together; before anything is built."""

    # -- building -----------------------------------------------------------------------------

    @classmethod
    def reference(cls, arguments: dict[str, Any], values: Any) -> dict[str, Any]:
        """Plain arguments with which a whole space's attributes are first made."""
        return {name: evaluated(value, values) for name, value in arguments.items()}

    def construct_mutable(self, arguments: dict[str, Any]) -> None:
        arguments = {**defaults_of(self.plain), **arguments}
        self.check(arguments)
        device, dtype = arguments.pop("device", None), arguments.pop("dtype", None)
        # A plain layer of one architecture gives the attributes; on the meta device, for its
        # tensors are replaced by those of the largest shapes.
        reference = self.reference(arguments, slim() or _reference_value)
        try:
            self.plain.__init__(self, **reference, device="meta", dtype=dtype)
        except (TypeError, ValueError, AssertionError) as error:
            raise _refusal(self.plain, reference, error) from error
        state = self.__dict__
        state["_reference"] = Template(self)
        state["args"] = arguments
        state["_wanted"] = tuple(e for value in arguments.values() for e in expressions_in(value))
        for name, shape in self.shapes(arguments).items():
            _allocate(self, name, tuple(extent(size) for size in shape), device)
        for name, buffer in self._buffers.items():
            if buffer is not None and buffer.is_meta:  # a counter, the same for every architecture
                self._buffers[name] = torch.zeros_like(buffer, device=device or torch.get_default_device())
        for layer in (*self.children(), self):
            reset = getattr(layer, "reset_parameters", None) or getattr(layer, "_reset_parameters", None)
            if reset is not None:
                reset()
        for name, value in arguments.items():
            if expressions_in(value) and name in state:
                setattr(self, name, value)

    # -- running and freezing -------------------------------------------------------------------

    def under(self, values: Any) -> tuple[dict[str, Any], dict[str, Any], frozenset[str]]:
        """What the layer is under some values.

        Returns
        -------
        arguments
            The plain arguments.
        differing
            The attributes in which a plain layer with these arguments differs.
        absent
            The tensors that such a layer does not have.
        """
        arguments: dict[str, Any] = {}
        differing: dict[str, Any] = {}
        given = self.__dict__["args"]
        for name, value in given.items():
            arguments[name] = evaluated(value, values)
        template = _template(self.plain, _Arguments(arguments))
        reference: Template = self.__dict__["_reference"]
        for name, value in template.attributes.items():
            if name in self.kept:
                continue
            if _differs(reference.attributes.get(name, self), value) or expressions_in(given.get(name)):
                differing[name] = value
        switched = any(isinstance(arguments[name], bool) and isinstance(given[name], Node) for name in given)
        return arguments, differing, reference.tensors - template.tensors if switched else frozenset()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if not self.is_parametrized:
            return self.plain.forward(self, *args, **kwargs)
        activation = current()
        if activation is None:
            raise SpaceError(
                f"{self} has no single shape; run it inside `with space.activate(arch):`, or freeze it"
            )
        return activation.elastic(self, *args, **kwargs)

    def run(self, values: Any, *args: Any, **kwargs: Any) -> Any:
        """The output of the layer with the shape that it has under some values."""
        return self.plain.forward(self.stand_in(values), *args, **kwargs)

    def stand_in(self, values: Any) -> Any:
        """An object that torch's ``forward`` takes for the plain layer."""
        arguments, differing, absent = self.under(values)
        stand_in = object.__new__(self.plain)
        contents = stand_in.__dict__
        contents.update(self.__dict__)
        contents.update(self._parameters)
        contents.update(self._buffers)
        contents.update(differing)
        for name, module in self._modules.items():
            child = contents[name] = object.__new__(type(module))
            child.__dict__.update(vars(module))
        for name, shape in self.shapes(arguments).items():
            owner, leaf = _owner(self, name)
            tensor = None if owner is None else _tensor_of(owner, leaf)
            if owner is None or tensor is None:
                continue
            into = contents if owner is self else contents[name.split(".")[0]].__dict__
            if name in absent:
                into[leaf] = None
                continue
            part = self.cut(name, tensor, shape)
            # Kernels may add in another order over a strided matrix than over a dense one.
            # Buffers stay views, so that statistics are updated in place.
            into[leaf] = dense(part, tensor) if leaf in owner._parameters else part
        return stand_in

    def freeze_module(self, freezer: Freezer) -> nn.Module:
        if not self.is_parametrized:
            return super().freeze_module(freezer)
        arguments, differing, absent = self.under(freezer.values)
        cuts: dict[str, dict[str, Any]] = {}
        for name, shape in self.shapes(arguments).items():
            prefix, _, leaf = name.rpartition(".")
            cuts.setdefault(prefix, {})[leaf] = None if name in absent else _Cut(type(self), name, shape)
        new = object.__new__(self.plain)
        freezer.memo[id(self)] = new
        for prefix, child in self._modules.items():
            if child is not None and prefix in cuts:
                freezer.memo[id(child)] = freezer.fill(object.__new__(type(child)), child, cuts=cuts[prefix])
        return freezer.fill(new, self, differing, cuts.get(""))

    def extra_repr(self) -> str:
        if self.is_parametrized:
            shown = {k: v for k, v in self.args.items() if expressions_in(v) or v is not defaults_of(self.plain).get(k)}
            return _call(shown)
        return self.plain.extra_repr(self)


class _Cut:
    """What takes an architecture's part out of a tensor."""

    def __init__(self, owner: type[ElasticModule], name: str, shape: Shape) -> None:
        self.owner, self.name, self.shape = owner, name, shape

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.owner.cut(self.name, tensor, self.shape)


def leading(tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The first part of a tensor along every dimension."""
    for dim, size in enumerate(shape):
        if tensor.shape[dim] != size:
            tensor = tensor.narrow(dim, 0, size)
    return tensor


def centred(tensor: torch.Tensor, shape: tuple[int, ...], start: int) -> torch.Tensor:
    """The first part along dimensions before ``start``, the middle along the others."""
    tensor = leading(tensor, shape[:start])
    for dim in range(start, len(shape)):
        if tensor.shape[dim] != shape[dim]:
            tensor = tensor.narrow(dim, (tensor.shape[dim] - shape[dim]) // 2, shape[dim])
    return tensor


class Template:
    """The attributes that torch itself gives a plain layer, and the tensors it has."""

    def __init__(self, layer: nn.Module) -> None:
        self.attributes = {k: v for k, v in layer.__dict__.items() if k not in _STATE}
        self.tensors = frozenset(
            name for name, _ in (*layer.named_parameters(), *layer.named_buffers())
        )


class _Arguments(dict[str, Any]):
    """Arguments that hash, for the cache of templates."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        super().__init__(arguments)
        self.key = tuple(map(key_of, arguments.values()))

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Arguments) and self.key == other.key


@lru_cache(maxsize=4096)
def _template(plain: type[nn.Module], arguments: _Arguments) -> Template:
    try:
        return Template(plain(**arguments, device="meta"))
    except (TypeError, ValueError, AssertionError) as error:
        raise _refusal(plain, arguments, error) from error


_STATE = frozenset(nn.Module().__dict__)


def _refusal(plain: type[nn.Module], arguments: dict[str, Any], error: Exception) -> SpaceError:
    return SpaceError(f"torch refuses {plain.__name__}({_call(arguments)}): {error}")


@lru_cache(maxsize=None)
def _defaults(plain: type[nn.Module]) -> tuple[tuple[str, Any], ...]:
    import inspect

    parameters = list(inspect.signature(plain.__init__).parameters.values())[1:]
    return tuple((p.name, p.default) for p in parameters if p.default is not p.empty)


def defaults_of(plain: type[nn.Module]) -> dict[str, Any]:
    """The default arguments of a class."""
    return dict(_defaults(plain))


def _reference_value(expression: Any) -> Any:
    """The value that a whole space's attributes are first made with."""
    from ..mutable import bounds

    default = expression.robust_default()
    if isinstance(default, bool):
        return bool(bounds(expression)[1])  # a bias that only some have must be there
    return default


def _owner(module: nn.Module, name: str) -> tuple[nn.Module | None, str]:
    """The module that holds a tensor of a dotted name, and its own name; None if none does."""
    prefix, _, leaf = name.rpartition(".")
    holder = module._modules.get(prefix) if prefix else module
    if holder is None or _tensor_of(holder, leaf) is None:
        return None, leaf
    return holder, leaf


def _tensor_of(module: nn.Module, name: str) -> torch.Tensor | None:
    found = module._parameters.get(name)
    return module._buffers.get(name) if found is None else found


def _allocate(module: nn.Module, name: str, shape: tuple[int, ...], device: Any) -> None:
    owner, leaf = _owner(module, name)
    meta = None if owner is None else _tensor_of(owner, leaf)
    if owner is None or meta is None:
        return
    if not all(isinstance(size, int) and size >= 0 for size in shape):
        raise NasSpaceError(f"{type(module).__name__} needs whole, finite sizes, but {name} would be {shape}")
    empty = torch.empty(shape, dtype=meta.dtype, device=device)
    if leaf in owner._parameters:
        owner._parameters[leaf] = nn.Parameter(empty, requires_grad=meta.requires_grad)
    else:
        owner._buffers[leaf] = empty.zero_()


def _differs(a: Any, b: Any) -> bool:
    return type(a) is not type(b) or not (a is b or a == b)


def _call(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in arguments.items())
