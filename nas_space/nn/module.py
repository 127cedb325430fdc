"""`MutableModule`: a module that differs between architectures."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, cast

from torch import nn

from ..errors import ExpressionError, SpaceError
from ..mutable import Mutable, Values
from ..mutable.containers import joint_structure
from ..mutable.constraints import Constraint
from ..mutable.node import Node
from .activation import current

if TYPE_CHECKING:
    from .freezing import Freezer

M = TypeVar("M", bound=Mutable)

_RESERVED = frozenset(name for name in dir(Mutable) if not name.startswith("_"))
"""Names that a submodule or expression must not hide."""


class Constructing(type):
    """Metaclass: how a class is constructed is a class method, which subclasses can widen."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls.construct(*args, **kwargs)  # type: ignore[attr-defined]


class MutableModule(Mutable, nn.Module, metaclass=Constructing):
    """A ``torch.nn.Module`` with choices of its own.

    An attribute that is set to an expression reads as that expression while the space is
    built, as its value in ``forward`` under an active architecture, and as a plain value in
    a frozen network.  Expressions that are not attributes are registered by
    :meth:`add_mutable`.

    Examples
    --------
    >>> import torch
    >>> from nas_space.mutable import Categorical
    >>> class Scale(MutableModule):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.factor = Categorical([1, 10], label='factor')
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> scale = Scale()
    >>> scale.simplify()
    {'factor': Categorical([1, 10], label='factor')}
    >>> scale.freeze({'factor': 10})(torch.ones(2))
    tensor([10., 10.])
    """

    @classmethod
    def construct(cls, *args: Any, **kwargs: Any) -> Any:
        """Makes an instance; what calling the class does."""
        return type.__call__(cls, *args, **kwargs)

    # -- attributes -------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, (Node, nn.Module)) and name in _RESERVED:
            raise ExpressionError(
                f"{type(self).__name__} cannot have an attribute {name!r}: every mutable has a method of "
                "that name; choose another one"
            )
        if isinstance(value, Node):
            self.__dict__.setdefault("_expressions", {})[name] = value
            self.__dict__.pop(name, None)
            return
        expressions = self.__dict__.get("_expressions")
        if expressions:
            expressions.pop(name, None)
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        expressions = self.__dict__.get("_expressions")
        if expressions is not None and name in expressions:
            expression = expressions[name]
            activation = current()
            return expression if activation is None else activation.values(expression)
        return super().__getattr__(name)

    def __delattr__(self, name: str) -> None:
        expressions = self.__dict__.get("_expressions")
        if expressions is not None and name in expressions:
            del expressions[name]
        else:
            super().__delattr__(name)

    def expression(self, name: str) -> Any:
        """An attribute as it was set: an expression stays one, whatever is active."""
        expressions = self.__dict__.get("_expressions", {})
        return expressions[name] if name in expressions else getattr(self, name)

    def add_mutable(self, mutable: M) -> M:
        """Registers choices or constraints that are no attribute of the module; returns them.

        Raises
        ------
        ExpressionError
            If it is not a mutable.
        """
        if not isinstance(mutable, Mutable):
            raise ExpressionError(f"add_mutable takes a mutable, but got {mutable!r}")
        if not isinstance(mutable, nn.Module):  # submodules are found as torch finds them
            self.__dict__.setdefault("_mutables", []).append(mutable)
        return mutable

    @property
    def mutables(self) -> list[Mutable]:
        """The module's own mutables: its expressions, and those added."""
        return [*self.__dict__.get("_expressions", {}).values(), *self.__dict__.get("_mutables", ())]

    # -- being mutable ------------------------------------------------------------------------

    def structure(self) -> Node | None:
        return joint_structure([*own_parts(self), *map(Structure, self.children())])

    def freeze_values(self, values: Values) -> nn.Module:
        from .freezing import Freezer

        return Freezer(values).module(self)

    def freeze_module(self, freezer: Freezer) -> nn.Module:
        """The frozen form: by default a clone, in which everything mutable is frozen."""
        return freezer.clone(self)

    def equals(self, other: Any) -> bool:
        """Two modules are equal if they are the same object: weights have no structure."""
        return self is other

    def mutable_descendants(self) -> Iterator[MutableModule]:
        """The nearest mutable modules below this one."""
        for _, module in self.named_mutable_descendants():
            yield module

    def named_mutable_descendants(self) -> Iterator[tuple[str, MutableModule]]:
        """The nearest mutable modules below this one, with their paths."""
        yield from _nearest(self, "")

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        freeze = getattr(memo, "freeze", None)
        if freeze is not None:  # found inside an object that freezing copies
            return freeze(self)
        new = object.__new__(type(self))
        memo[id(self)] = new
        for name, value in self.__dict__.items():
            new.__dict__[name] = copy.deepcopy(value, memo)
        return new

    # Mutable comes first among the bases, but a module prints as torch's modules do.
    extra_repr = nn.Module.extra_repr
    __repr__ = nn.Module.__repr__


def _nearest(module: nn.Module, prefix: str) -> Iterator[tuple[str, MutableModule]]:
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, MutableModule):
            yield path, child
        else:
            yield from _nearest(child, f"{path}.")


class Structure(Mutable):
    """Any module seen as a mutable, so that plain ones take part in the structure."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def structure(self) -> Node | None:
        return structure_of(self.module)


def structure_of(module: nn.Module) -> Node | None:
    """The structure of any module: a mutable one's own, or that of what a plain one holds."""
    if isinstance(module, MutableModule):
        return module.structure()
    return joint_structure([*own_parts(module), *map(Structure, module.children())])


def own_parts(module: nn.Module) -> list[Any]:
    """The expressions that a module holds itself, also in lists and dicts; constraints last.

    A constraint is checked, but does not make a label active.
    """
    parts: list[Any] = []
    constraints: list[Any] = []
    if isinstance(module, MutableModule):
        found: Iterable[Any] = [*module.__dict__.get("_expressions", {}).values(), *module.__dict__.get("_mutables", ())]
    else:
        found = ()
    for item in found:
        (constraints if isinstance(item, Constraint) else parts).append(item)
    for name, value in module.__dict__.items():
        if name not in _NOT_HELD:
            parts.extend(_held(value))
    return [*parts, *(constraint.marker for constraint in constraints)]


BOOKKEEPING = frozenset({"_structure", "_symbols", "_arguments", "_architecture", "_shared"})
"""What spaces and networks remember of themselves."""

_NOT_HELD = frozenset({*nn.Module().__dict__, *BOOKKEEPING, "_expressions", "_mutables"})


def _held(value: Any) -> Iterator[Any]:
    if isinstance(value, Mutable) and not isinstance(value, nn.Module):
        yield value
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from _held(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _held(item)


def path_of(root: nn.Module, label: str) -> str:
    """Where in a space a label is used: paths of modules, for error messages."""
    paths = []
    for path, module in root.named_modules():
        for part in own_parts(module):
            if label in part.simplify():
                paths.append(path or "(the space itself)")
                break
    return ", ".join(paths[:3]) + (", ..." if len(paths) > 3 else "")


def refuse_frozen(module: nn.Module) -> None:
    """Raises if a module is a frozen network already."""
    architecture = module.__dict__.get("_architecture")
    if architecture is not None:
        raise SpaceError(
            f"this {type(module).__name__} is frozen already, as {architecture}; freeze the space it came from"
        )


def as_module(value: Any) -> nn.Module:
    """For the type checker: a value known to be a module."""
    return cast(nn.Module, value)
