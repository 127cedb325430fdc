"""Stand-ins for tensors and numbers that differ between architectures."""

from __future__ import annotations

import math
import operator
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, Protocol

import torch

from ..mutable.factors import Factor
from ..mutable.piecewise import Piecewise
from .contexts import Context

__all__ = [
    "BY_FORM",
    "STAND_INS",
    "Follower",
    "Shape",
    "VaryingNumber",
    "VaryingObject",
    "VaryingTensor",
    "flatten",
    "memory_of",
    "sized",
    "unflatten",
]


BY_FORM = frozenset(
    {
        *(torch.zeros_like, torch.ones_like, torch.full_like),
        *(torch.Tensor.new_zeros, torch.Tensor.new_ones, torch.Tensor.new_full),
        torch.Tensor.new_tensor,
    }
)
"""Functions that look at the shape and the type of a tensor only."""


class Follower(Protocol):
    """What stand-ins hand over what is done with them."""

    @property
    def context(self) -> Context:
        """The architectures for which code runs at this moment."""

    def apply(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function of torch."""

    def compute(self, function: Callable[..., Any], operands: tuple[Any, ...]) -> Any:
        """Compute with numbers."""

    def plain(self, pieces: Piecewise) -> Any:
        """Return the one value that something has; where it has several, fork."""

    def refuse(self, what: str) -> NoReturn:
        """Raise for what cannot be followed."""


class VaryingTensor(torch.Tensor):
    """A tensor without data, of a shape and type that may differ between architectures.

    Functions of torch and methods are handed to the recorder.  What gets around that, such
    as compiled code, is refused by :meth:`__torch_dispatch__` instead of seeing something
    that is not there.

    Attributes
    ----------
    pieces
        Which meta tensor it is.
    recorder
        What follows it.
    context
        The architectures that have it.
    memory
        The numbers of the pieces of memory that it may lie in; none, if these are the space's own.
    shares
        What watches memory lets it hold as long as it lives.
    views
        The tensors that autograd takes for views of one, this one among them.
    parts
        Those that it is under some conditions, where branches of a choice gave it.
    """

    pieces: Piecewise
    recorder: Follower
    context: Context
    memory: frozenset[int]
    shares: tuple[Any, ...] = ()
    views: list[weakref.ref[VaryingTensor]]
    parts: list[tuple[tuple[Factor, ...], weakref.ref[VaryingTensor]]]

    @staticmethod
    def make(
        recorder: Follower,
        pieces: Piecewise,
        memory: frozenset[int],
        views: list[weakref.ref[VaryingTensor]] | None = None,
    ) -> VaryingTensor:
        """Return a stand-in in the context of the recorder."""
        with torch._C.DisableTorchFunction():
            made = torch.Tensor._make_wrapper_subclass(
                VaryingTensor, (0,), dtype=torch.float32, device=_META
            )
        views = [] if views is None else views
        views.append(weakref.ref(made))
        made.__dict__.update(
            pieces=pieces, recorder=recorder, context=recorder.context, memory=memory, views=views,
            parts=[],
        )  # fmt: skip
        return made

    def is_also(self, other: VaryingTensor, condition: Factor) -> None:
        """Note that under a condition another tensor is this one, and what that is."""
        self.parts.append(((condition,), weakref.ref(other)))
        for conditions, part in other.parts:
            if part() is not None:
                self.parts.append(((condition, *conditions), part))

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _recorder_of(args, kwargs).apply(func, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        _recorder_of(args, kwargs).refuse(str(func))

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        shapes = [tuple(value.shape) for value in self.pieces.values]
        return f"VaryingTensor({self.pieces.places}: {shapes})"


_META = torch.device("meta")
_NONE: frozenset[int] = frozenset()


def memory_of(leaf: Any) -> frozenset[int]:
    """Return the numbers of the pieces of memory that something may lie in; none of the space's."""
    return leaf.memory if type(leaf) is VaryingTensor else _NONE


def _recorder_of(args: Any, kwargs: Any) -> Follower:
    leaves: list[Any] = []
    flatten((args, kwargs), leaves)
    return next(leaf.recorder for leaf in leaves if type(leaf) is VaryingTensor)


def _method(name: str) -> Callable[..., Any]:
    function = getattr(torch.Tensor, name)

    def method(self: VaryingTensor, *args: Any, **kwargs: Any) -> Any:
        return self.recorder.apply(function, (self, *args), kwargs)

    method.__name__ = name
    return method


_SPECIAL = frozenset(
    {
        *("radd", "rsub", "rmul", "rtruediv", "rfloordiv", "rmod", "rpow", "rmatmul"),
        *("len", "iter", "bool", "float", "int"),
    }
)


def _is_method(name: str) -> bool:
    if name.startswith("_"):
        known = name in vars(operator) or name.strip("_") in _SPECIAL
        return known and name not in ("__index__", "__contains__", "__doc__")
    return callable(getattr(torch.Tensor, name)) and name != "as_subclass"


# Called as methods, functions would parse their arguments first, and not take numbers that
# are not plain.
for _name in filter(_is_method, dir(torch.Tensor)):
    setattr(VaryingTensor, _name, _method(_name))


class VaryingObject:
    """Anything else that differs between architectures, on its way to a function.

    Attributes
    ----------
    recorder, pieces, context
        As of :class:`VaryingTensor`.
    """

    __slots__ = ("context", "pieces", "recorder")

    def __init__(self, recorder: Follower, pieces: Piecewise) -> None:
        self.recorder = recorder
        self.pieces = pieces
        self.context = recorder.context


class VaryingNumber:
    """A number that differs between architectures.

    Arithmetic gives further ones.  Whatever needs a plain number, such as a comparison, an
    index or a ``range``, forks.
    """

    __slots__ = ("context", "pieces", "recorder")

    def __init__(self, recorder: Follower, pieces: Piecewise) -> None:
        self.recorder = recorder
        self.pieces = pieces
        self.context = recorder.context

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # isinstance(n, int) must say what it says of a plain number
        return type(self.pieces.values[0])

    def plain(self) -> Any:
        """Return the number, where all architectures that run at this moment have the same one."""
        return self.recorder.plain(self.pieces)

    def __repr__(self) -> str:
        return f"VaryingNumber({self.pieces.places}: {list(self.pieces.values)})"

    def __str__(self) -> str:
        return str(self.plain())

    def __hash__(self) -> int:
        return hash(self.plain())


STAND_INS = frozenset({VaryingTensor, VaryingNumber, VaryingObject})


def _binary(function: Callable[[Any, Any], Any], swapped: bool) -> Callable[[Any, Any], Any]:
    def compute(self: VaryingNumber, other: Any) -> Any:
        if type(other) is not VaryingNumber and not isinstance(other, (int, float)):
            return NotImplemented
        operands = (other, self) if swapped else (self, other)
        return self.recorder.compute(function, operands)

    return compute


def _unary(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda self: self.recorder.compute(function, (self,))


def _needing_plain(function: Callable[..., Any]) -> Callable[..., Any]:
    def compute(self: VaryingNumber, *others: Any) -> Any:
        return function(self.plain(), *others)

    return compute


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    _function = getattr(operator, _name)
    setattr(VaryingNumber, f"__{_name}__", _binary(_function, swapped=False))
    setattr(VaryingNumber, f"__r{_name}__", _binary(_function, swapped=True))
for _name in ("neg", "pos", "abs"):
    setattr(VaryingNumber, f"__{_name}__", _unary(getattr(operator, _name)))
for _name in ("eq", "ne", "lt", "le", "gt", "ge", "index"):
    setattr(VaryingNumber, f"__{_name}__", _needing_plain(getattr(operator, _name)))
for _name, _function in (
    ("int", int), ("float", float), ("bool", bool), ("round", round), ("trunc", math.trunc),
    ("floor", math.floor), ("ceil", math.ceil), ("format", format), ("divmod", divmod),
    ("rdivmod", lambda self, other: divmod(other, self)),
):  # fmt: skip
    setattr(VaryingNumber, f"__{_name}__", _needing_plain(_function))


class Shape(tuple[Any, ...]):
    """A ``torch.Size`` of which some extents differ between architectures."""

    __slots__ = ()

    def numel(self) -> Any:
        """Return the product of the extents."""
        return math.prod(self)

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return sized(found) if isinstance(place, slice) else found

    def __add__(self, other: Any) -> Any:
        return sized((*self, *other))


def sized(extents: tuple[Any, ...]) -> Any:
    """Return a shape of some extents: one of torch's, if all are plain."""
    if any(type(extent) is VaryingNumber for extent in extents):
        return Shape(extents)
    return torch.Size(extents)


# -- arguments and results as a list of leaves, and how to put them together again --------------


def flatten(value: Any, leaves: list[Any], use_up: bool = False) -> Any:
    """Add the leaves of nested tuples, lists, dictionaries and slices to a list.

    Parameters
    ----------
    value
        What is taken apart.
    leaves
        The list.
    use_up
        Whether iterators are gone through as well: those that somebody else still wants, such
        as the arguments of a function, must not be.

    Returns
    -------
    hashable
        What :func:`unflatten` needs to put them together again.
    """
    kind = type(value)
    spec: list[Any] = [kind]
    items: Any = value
    if isinstance(value, dict):
        spec.append(tuple(value))
        items = value.values()
    elif kind is slice:
        items = (value.start, value.stop, value.step)
    elif use_up and isinstance(value, Iterator):
        spec = [Iterator]
    elif kind is VaryingNumber or not isinstance(value, (tuple, list)):
        leaves.append(value)
        return None
    for item in items:
        if type(item) in _PLAIN:  # most leaves are
            leaves.append(item)
            spec.append(None)
        elif type(item) is dict and not item:  # most calls name no argument
            spec.append(_NOTHING)
        else:
            spec.append(flatten(item, leaves, use_up))
    return tuple(spec)


_PLAIN = frozenset(
    {VaryingTensor, VaryingNumber, torch.Tensor, torch.nn.Parameter, int, float, bool, str}
)
_NOTHING = (dict, ())


def unflatten(spec: Any, leaves: Any) -> Any:
    """Put leaves, an iterator, together as :func:`flatten` found them."""
    if spec is None:
        return next(leaves)
    kind = spec[0]
    if issubclass(kind, dict):
        items = [unflatten(part, leaves) for part in spec[2:]]
        pairs = zip(spec[1], items, strict=True)
        return dict(pairs) if kind is dict else kind(pairs)
    parts = [next(leaves) if p is None else unflatten(p, leaves) for p in spec[1:]]
    if kind is list:
        return parts
    if kind is tuple:
        return tuple(parts)
    if kind is slice:
        return slice(*parts)
    if kind is Iterator:
        return iter(parts)
    if kind is Shape or kind is torch.Size:
        return sized(tuple(parts))
    if hasattr(kind, "_fields"):
        return kind(*parts)
    return kind(parts)
