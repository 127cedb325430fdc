"""``ParametrizedModule``: modules whose arguments may be expressions.

What can share its weights between values of the arguments does so in ``elastic.py``; the
general mechanism here holds one instance for each distinct tuple of arguments.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, ClassVar, cast, get_overloads

from torch import nn
from torch.nn.utils import parametrize

from ..errors import DomainError, ExpressionError, SpaceError
from ..mutable import MutableExpression, distinct_values
from ..mutable.containers import side_by_side
from ..mutable.expression import apply
from ..mutable.node import Node, key_of
from .activation import current, required
from .construction import slim
from .freezing import Freezer
from .module import MutableModule
from .structure import ATOMS, Survey
from .trial_values import is_allowed

__all__ = ["ParametrizedModule", "bound_arguments", "evaluated", "expressions_in", "signature_of"]


def expressions_in(value: Any) -> list[Any]:
    """Return the expressions that an argument is or holds, tuples and lists included."""
    if isinstance(value, Node):
        return [value]
    if isinstance(value, (tuple, list)):
        return [found for item in value for found in expressions_in(item)]
    return []


def evaluated(value: Any, values: Any) -> Any:
    """Return an argument with every expression in it replaced by its value."""
    if isinstance(value, Node):
        return values(value)
    if isinstance(value, (tuple, list)) and expressions_in(value):
        return type(value)(evaluated(item, values) for item in value)
    return value


def signature_of(cls: type) -> inspect.Signature:
    """Return the arguments of a class's constructor, ``self`` included.

    Of one that takes ``*args``, the first overload tells their names.
    """
    return _signature_of(cast(Any, cls))


@cache
def _signature_of(cls: Any) -> inspect.Signature:
    return inspect.signature([*get_overloads(cls.__init__), cls.__init__][0])


def bound_arguments(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return arguments of a constructor by name, those of ``**kwargs`` included.

    Raises
    ------
    ExpressionError
        If some have no name.
    """
    bound = signature_of(cls).bind(None, *args, **kwargs)
    arguments = dict(bound.arguments)
    arguments.pop(next(iter(arguments)))
    for parameter in signature_of(cls).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD and parameter.name in arguments:
            arguments.update(arguments.pop(parameter.name))
        elif parameter.kind is parameter.VAR_POSITIONAL and arguments.get(parameter.name):
            raise ExpressionError(
                f"{cls.__name__} takes *{parameter.name}; among these, expressions cannot be told "
                "apart by name"
            )
    return arguments


class ParametrizedModule(MutableModule):
    """A module whose constructor's arguments may be expressions.

    A subclass is written as if they were plain numbers.  Where they are expressions, the
    object holds one instance for each distinct tuple of their values, so that weights are
    inherited by each; where they are plain, it is an ordinary module.

    Subclass it directly, or wrap a class of somebody else::

        class MutableGreeting(ParametrizedModule, Greeting, wraps=Greeting): ...

    Attributes
    ----------
    wraps
        The plain class that a frozen instance has; the class itself if none is wrapped.
    max_instances
        How many distinct tuples of arguments are allowed; 64 by default.
    args
        The arguments by name, as they were given, where some are expressions.
    instances
        The instances, where some are expressions.

    Raises
    ------
    DomainError
        If the arguments take more distinct values than the limit.
    ExpressionError
        If an expression is hidden in a dictionary or a set among the arguments.
    SpaceError
        If a class that wraps another is itself a base class, since a frozen network has only
        the wrapped one.

    Examples
    --------
    >>> import torch
    >>> from nas_space.mutable import Categorical
    >>> class Power(ParametrizedModule):
    ...     def __init__(self, exponent):
    ...         super().__init__()
    ...         self.exponent = exponent
    ...
    ...     def forward(self, x):
    ...         return x**self.exponent
    >>> power = Power(Categorical([2, 3], label="p"))
    >>> power.freeze({"p": 3})(torch.tensor(2.0))
    tensor(8.)
    """

    wraps: ClassVar[type[nn.Module] | None] = None
    max_instances: ClassVar[int] = 64
    args: Mapping[str, Any] = MappingProxyType({})
    instances: nn.ModuleList

    def __init_subclass__(
        cls,
        wraps: type[nn.Module] | None = None,
        max_instances: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__ == parametrize.__name__:
            return  # torch gives each parametrized module a class of its own
        if wraps is None and cls.wraps is not None:
            plain = cls.wraps.__name__
            raise SpaceError(
                f"{cls.__name__} cannot extend a class that wraps {plain}, which is all that is "
                f"left of it in a network; extend {plain} instead, and wrap that: "
                f"class Mutable{cls.__name__}(ParametrizedModule, {cls.__name__}, "
                f"wraps={cls.__name__})"
            )
        if wraps is not None and not issubclass(cls, wraps):
            raise SpaceError(
                f"{cls.__name__} must also derive from {wraps.__name__}, which it wraps"
            )
        cls.wraps = wraps
        if max_instances is not None:
            cls.max_instances = max_instances

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if self.wraps is not None:
            self.wraps.__init__(self, *args, **kwargs)
        else:
            super().__init__(*args, **kwargs)

    @classmethod
    def construct(cls, *args: Any, **kwargs: Any) -> Any:
        plain = True
        for value in (*args, *kwargs.values()):
            if type(value) not in ATOMS:
                _refuse_hidden(cls, value)
                plain = plain and not expressions_in(value)
        if plain:
            return type.__call__(cls, *args, **kwargs)
        made = cls.__new__(cls)
        made.construct_mutable(bound_arguments(cls.wraps or cls, args, kwargs))
        return made

    def construct_mutable(self, arguments: dict[str, Any]) -> None:
        """Build the instances for arguments of which some are expressions."""
        nn.Module.__init__(self)
        self.__dict__["args"] = arguments
        wanted = [e for value in arguments.values() for e in expressions_in(value)]
        combinations = []
        instances = nn.ModuleList()
        found = self._combinations_of(wanted)
        for combination in found:
            values = dict(zip(wanted, combination, strict=True)).__getitem__
            if is_allowed(wanted, values):
                plain = {name: evaluated(value, values) for name, value in arguments.items()}
                instances.append((self.wraps or type(self))(**plain))
                combinations.append(combination)
        self._modules["instances"] = instances
        whole = len(combinations) == len(found)
        self.__dict__["_instances"] = _Instances(wanted, combinations, whole)
        # An attribute of the object: torch calls it instead of the forward of the class,
        # which is written for an instance.
        self.__dict__["forward"] = _Dispatch(self)

    def _combinations_of(self, wanted: list[Any]) -> list[tuple[Any, ...]]:
        only = slim()
        if only is not None:
            return [tuple(map(only, wanted))]
        try:
            return distinct_values(wanted, self.max_instances)
        except DomainError as error:
            raise DomainError(
                f"{type(self).__name__} cannot be sliced, so it keeps one instance for each "
                f"distinct value of its arguments, at most {self.max_instances}: {error}; "
                "give it fewer values, or raise the limit of its class with max_instances=..."
            ) from None

    @property
    def is_parametrized(self) -> bool:
        """Whether some of its arguments are expressions."""
        return "args" in self.__dict__

    def instance(self, values: Any) -> nn.Module:
        """Return the instance for the values of the active labels."""
        known: _Instances = self.__dict__["_instances"]
        return self.instance_for(tuple(map(values, known.wanted)))

    def instance_for(self, combination: tuple[Any, ...]) -> nn.Module:
        """Return the instance for some values of the expressions among the arguments."""
        known: _Instances = self.__dict__["_instances"]
        place = known.places.get(key_of(combination))
        if place is None:
            raise DomainError(
                f"{type(self).__name__} was not built for the arguments {combination}, only for "
                f"{known.combinations}"
            )
        return self.instances[place]

    def __getattr__(self, name: str) -> Any:
        if "_instances" not in self.__dict__ or name.startswith("__"):
            return super().__getattr__(name)
        try:
            return super().__getattr__(name)
        except AttributeError:
            arguments = self.__dict__["args"]
        activation = current()
        if activation is not None:
            return getattr(self.instance(activation.values), name)
        if name in arguments:
            return arguments[name]
        raise AttributeError(
            f"{type(self).__name__} has the attribute {name!r}, if at all, only under an active "
            "architecture"
        )

    def describe(self, survey: Survey) -> Node | None:
        known: _Instances | None = self.__dict__.get("_instances")
        if known is None:
            return survey.contents(self)
        parts: list[Any] = list(known.wanted)
        for combination, instance in zip(known.combinations, self.instances, strict=True):
            inner = survey(instance)
            if inner is not None:
                here = _all_equal(known.wanted, combination)
                parts.append(MutableExpression.condition(here, inner, None))
        return side_by_side(parts)

    def freeze_module(self, freezer: Freezer) -> nn.Module:
        if self.is_parametrized:
            freezer.refuse_hooks(self)
            return freezer.module(self.instance(freezer.values))
        return freezer.clone(self, self.wraps)

    def extra_repr(self) -> str:
        if self.is_parametrized:
            return ", ".join(f"{name}={value}" for name, value in self.args.items())
        return super().extra_repr() if self.wraps is None else self.wraps.extra_repr(self)


class _Instances:
    """For which values of which expressions there are instances, and where.

    Parameters
    ----------
    wanted
        The expressions.
    combinations
        Their values.
    whole
        Whether they have no others, which constraints forbid.
    """

    def __init__(self, wanted: list[Any], combinations: list[tuple[Any, ...]], whole: bool) -> None:
        self.wanted = wanted
        self.exists = (
            True
            if whole
            else functools.reduce(
                operator.or_, [_all_equal(wanted, c) for c in combinations], False
            )
        )
        self.choice = apply("tuple", *wanted)
        self.combinations = combinations
        self.places = {key_of(combination): i for i, combination in enumerate(combinations)}


class _Dispatch:
    """Calls the instance for the active architecture."""

    def __init__(self, owner: ParametrizedModule) -> None:
        self.owner = owner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        owner, activation = self.owner, required(self.owner)
        instances: _Instances = owner.__dict__["_instances"]
        with activation.given(instances.exists):
            return activation.choose(instances.choice, owner.instance_for, args, kwargs)


def _all_equal(expressions: list[Any], values: tuple[Any, ...]) -> Any:
    """Return whether some expressions have some values."""
    pairs = zip(expressions, values, strict=True)
    return functools.reduce(operator.and_, [expression == value for expression, value in pairs])


def _refuse_hidden(cls: type, value: Any) -> None:
    """Expressions in a place where a constructor's arguments are not looked into."""
    inner: Iterable[Any] = ()
    if isinstance(value, dict):
        inner = value.values()
    elif isinstance(value, (set, frozenset)):
        inner = value
    for item in inner:
        if expressions_in(item):
            raise ExpressionError(
                f"{item} is hidden in a {type(value).__name__} given to {cls.__name__}, where it "
                "cannot be tracked; give it as an argument of its own"
            )
