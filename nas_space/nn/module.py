"""``MutableModule``: a module that differs between architectures."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from traceback import walk_tb
from typing import Any, TypeVar, cast

import torch
from torch import nn
from torch.nn.utils import parametrize

from ..errors import ExpressionError, SpaceError
from ..mutable import Constraint, Mutable, Values
from ..mutable.containers import frozen
from ..mutable.node import Node
from .activation import current
from .construction import constructing_by, constructor
from .freezing import Freezer
from .structure import ATOMS, Survey
from .trial_values import CONSTRUCTED, Construction

__all__ = ["Constructing", "MutableModule"]

M = TypeVar("M", bound=Mutable)

_RESERVED = frozenset(name for name in dir(Mutable) if not name.startswith("_"))
"""Names that a submodule or expression must not hide."""


_REGISTERED = ("_parameters", "_buffers", "_modules")
"""Where torch keeps what is not an ordinary attribute."""


class Constructing(type):
    """Metaclass: how a class is constructed is a class method, which subclasses can widen."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        how = constructor()
        if how is None:
            with CONSTRUCTED.entering(Construction(cls)):
                return cls.construct(*args, **kwargs)  # type: ignore[attr-defined]
        with constructing_by(None):  # what is constructed within is constructed as ever
            return how(cls, args, kwargs)


class MutableModule(Mutable, nn.Module, metaclass=Constructing):
    """A ``torch.nn.Module`` with choices of its own.

    An attribute that is set to an expression reads as that expression while the space is
    built, as its value in ``forward`` under an active architecture, and as a plain value in
    a frozen network.  Expressions that are not attributes are registered by
    :meth:`add_mutable`.

    Raises
    ------
    ExpressionError
        If an expression or a submodule is given the name of a method that every mutable has.

    Examples
    --------
    >>> import torch
    >>> from nas_space.mutable import Categorical
    >>> class Scale(MutableModule):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.factor = Categorical([1, 10], label="factor")
    ...
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> scale = Scale()
    >>> scale.simplify()
    {'factor': Categorical([1, 10], label='factor')}
    >>> scale.freeze({"factor": 10})(torch.ones(2))
    tensor([10., 10.])
    """

    @classmethod
    def construct(cls, *args: Any, **kwargs: Any) -> Any:
        """Make an instance; what calling the class does.

        Raises
        ------
        SpaceError
            A constructor does not call ``super().__init__()``, or too late.
        """
        try:
            made = type.__call__(cls, *args, **kwargs)
        except AttributeError as error:
            if "before Module.__init__() call" not in str(error):
                raise
            raise _unfinished(_assigned_to(error, cls)) from error
        if isinstance(made, nn.Module) and "_modules" not in made.__dict__:
            raise _unfinished(type(made))
        return made

    def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
        # Within ``__call__``, which stays torch's own: a frozen network is called, and compiled, as
        # any other, and asks for no context.
        run: Any = super()._call_impl
        if "_expressions" not in self.__dict__:
            return run(*args, **kwargs)
        here = current()
        if here is None or here.is_single:
            return run(*args, **kwargs)
        return here.called(self, run, args, kwargs)

    # -- attributes -------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        state = self.__dict__
        if "_expressions" in state:
            state["_expressions"].pop(name, None)
        if type(value) not in ATOMS and isinstance(value, (Mutable, nn.Module)):
            if name in _RESERVED:
                raise ExpressionError(
                    f"{type(self).__name__} cannot have an attribute {name!r}: every mutable has "
                    "a method of that name; choose another one"
                )
            if not isinstance(value, nn.Module):
                for place in (state, *[state.get(kind, {}) for kind in _REGISTERED]):
                    place.pop(name, None)
                state.setdefault("_expressions", {})[name] = value
                self._note(value)
                return
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        state = self.__dict__
        if "_expressions" in state and name in state["_expressions"]:
            mutable = state["_expressions"][name]
            activation = current()
            return mutable if activation is None else frozen(mutable, activation.values)
        return super().__getattr__(name)

    def __delattr__(self, name: str) -> None:
        expressions = self.__dict__.get("_expressions")
        if expressions is not None and name in expressions:
            del expressions[name]
        else:
            super().__delattr__(name)

    def expression(self, name: str) -> Any:
        """Return an attribute as it was set: an expression stays one, whatever is active.

        Examples
        --------
        >>> from nas_space.mutable import Categorical
        >>> from nas_space.nn import MutableLinear
        >>> MutableLinear(4, Categorical([8, 16], label="width")).expression("out_features")
        Categorical([8, 16], label='width')
        """
        expressions = self.__dict__.get("_expressions", {})
        return expressions[name] if name in expressions else getattr(self, name)

    def add_mutable(self, mutable: M) -> M:
        """Register choices or constraints that are no attribute of the module; return them.

        Raises
        ------
        ExpressionError
            If it is not a mutable.
        """
        if not isinstance(mutable, Mutable):
            raise ExpressionError(f"add_mutable takes a mutable, but got {mutable!r}")
        if not isinstance(mutable, nn.Module):  # submodules are found as torch finds them
            self.__dict__.setdefault("_mutables", []).append(mutable)
            self._note(mutable)
        return mutable

    def _note(self, mutable: Mutable) -> None:
        """Tell the constructor that runs, if it is the module's, of a constraint."""
        if isinstance(mutable, Constraint) and (here := CONSTRUCTED.last()) is not None:
            here.note(self, mutable)

    @property
    def mutables(self) -> list[Mutable]:
        """The module's own mutables: its expressions, and those added."""
        return [
            *self.__dict__.get("_expressions", {}).values(),
            *self.__dict__.get("_mutables", ()),
        ]

    torch.jit.unused(mutables)  # scripting compiles properties, and this is Python

    def own_expressions(self) -> list[Any]:
        """Return what says what the module itself is, without the modules in it."""
        return list(self.__dict__.get("_expressions", {}).values())

    # -- being mutable ------------------------------------------------------------------------

    def structure(self) -> Node | None:
        return Survey()(self)

    def describe(self, survey: Survey) -> Node | None:
        """Return the structure, given what tells those of other modules: by default, all inside."""
        return survey.contents(self)

    def freeze_values(self, values: Values) -> nn.Module:
        return Freezer(values).module(self)

    def freeze_module(self, freezer: Freezer) -> nn.Module:
        """Return the frozen form: by default a clone, in which everything mutable is frozen."""
        return freezer.clone(self)

    def equals(self, other: Any) -> bool:
        """Return whether two modules are the same object: weights have no structure."""
        return self is other

    def mutable_descendants(self) -> Iterator[MutableModule]:
        """Yield the nearest mutable modules below this one."""
        for _, module in self.named_mutable_descendants():
            yield module

    def named_mutable_descendants(self) -> Iterator[tuple[str, MutableModule]]:
        """Yield the nearest mutable modules below this one, with their paths."""
        yield from _nearest(self, "")

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        freeze = getattr(memo, "freeze", None)
        if freeze is not None:  # found inside an object that freezing copies
            return freeze(self)
        new = object.__new__(type(self))
        memo[id(self)] = new
        # Of a parametrized module, torch's own class forbids this, for it cannot be pickled.
        kind: Any = parametrize.type_before_parametrizations(self)
        state: Any = kind.__getstate__(self)
        new.__setstate__(copy.deepcopy(state, memo))  # type: ignore[no-untyped-call]
        return new

    def __reduce_ex__(self, protocol: Any) -> Any:
        if parametrize.is_parametrized(self):
            plain, added = type(self).__bases__[0].__name__, cast(Any, self).parametrizations
            raise SpaceError(
                f"a {plain} with parametrizations of {', '.join(added)} cannot be pickled, as "
                "torch has it; keep state_dict() and build the space anew, or take them off first: "
                "torch.nn.utils.parametrize.remove_parametrizations(layer, name)"
            )
        return super().__reduce_ex__(protocol)

    # Mutable comes first among the bases, but a module prints as torch's modules do.
    extra_repr = nn.Module.extra_repr
    __repr__ = nn.Module.__repr__


def _unfinished(cls: type) -> SpaceError:
    return SpaceError(
        f"{cls.__name__}.__init__ must call super().__init__() before it sets layers and choices; "
        "make that its first line"
    )


def _assigned_to(error: AttributeError, cls: type) -> type:
    """Return the class that torch refused to set an attribute of: perhaps of a module inside."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    refused = frames[-1].f_locals.get("self") if frames else None
    return type(refused) if isinstance(refused, nn.Module) else cls


def _nearest(module: nn.Module, prefix: str) -> Iterator[tuple[str, MutableModule]]:
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, MutableModule):
            yield path, child
        else:
            yield from _nearest(child, f"{path}.")
