"""`ParametrizedModule`: modules whose arguments may be expressions.

What can share its weights between values of the arguments does so in ``elastic.py``; the
general mechanism here holds one instance for each distinct tuple of arguments.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, cast

from torch import nn

from ..errors import DomainError, ExpressionError
from ..mutable import MutableExpression, distinct_values
from ..mutable.expression import apply
from ..mutable.node import Node, key_of
from .activation import current, required
from .building import slim
from .module import MutableModule, structure_of

if TYPE_CHECKING:
    from .freezing import Freezer


def expressions_in(value: Any) -> list[Any]:
    """The expressions that an argument is or holds, tuples and lists included."""
    if isinstance(value, Node):
        return [value]
    if isinstance(value, (tuple, list)):
        return [found for item in value for found in expressions_in(item)]
    return []


def evaluated(value: Any, values: Any) -> Any:
    """An argument with every expression in it replaced by its value."""
    if isinstance(value, Node):
        return values(value)
    if isinstance(value, (tuple, list)):
        return type(value)(evaluated(item, values) for item in value)
    return value


@lru_cache(maxsize=None)
def _signature(cls: type) -> inspect.Signature:
    return inspect.signature(cls.__init__)


def bound_arguments(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a constructor by name, those of ``**kwargs`` included."""
    bound = _signature(cls).bind(None, *args, **kwargs)
    arguments = dict(bound.arguments)
    arguments.pop(next(iter(arguments)))
    for parameter in _signature(cls).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD and parameter.name in arguments:
            arguments.update(arguments.pop(parameter.name))
        elif parameter.kind is parameter.VAR_POSITIONAL and arguments.get(parameter.name):
            raise ExpressionError(
                f"{cls.__name__} takes *{parameter.name}; among these expressions cannot be told apart by name"
            )
    return arguments


class ParametrizedModule(MutableModule):
    """A module whose constructor's arguments may be expressions.

    A subclass is written as if they were plain numbers.  Where they are expressions, the
    object holds one instance for each distinct tuple of their values, so that weights are
    inherited by each; where they are plain, it is an ordinary module.

    Subclass it directly, or wrap a class of somebody else::

        class MutableGreeting(ParametrizedModule, wraps=Greeting): ...

    Attributes
    ----------
    wraps
        The plain class that a frozen instance has; the class itself if none is wrapped.
    max_instances
        How many distinct tuples of arguments are allowed.
    args
        The arguments by name, as they were given.

    Raises
    ------
    DomainError
        If the arguments take more distinct values than the limit.

    Examples
    --------
    >>> import torch
    >>> from nas_space.mutable import Categorical
    >>> class Power(ParametrizedModule):
    ...     def __init__(self, exponent):
    ...         super().__init__()
    ...         self.exponent = exponent
    ...     def forward(self, x):
    ...         return x ** self.exponent
    >>> power = Power(Categorical([2, 3], label='p'))
    >>> power.freeze({'p': 3})(torch.tensor(2.))
    tensor(8.)
    """

    wraps: ClassVar[type[nn.Module] | None] = None
    max_instances: ClassVar[int] = 64
    args: Mapping[str, Any] = MappingProxyType({})

    def __init_subclass__(
        cls, wraps: type[nn.Module] | None = None, max_instances: int | None = None, **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)
        if wraps is not None:
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
        if not any(expressions_in(value) for value in (*args, *kwargs.values())):
            refuse_hidden(cls, (*args, *kwargs.values()))
            return type.__call__(cls, *args, **kwargs)
        made = cls.__new__(cls)
        made.construct_mutable(bound_arguments(cls.wraps or cls, args, kwargs))
        return made

    def construct_mutable(self, arguments: dict[str, Any]) -> None:
        """Builds the instances for arguments of which some are expressions."""
        nn.Module.__init__(self)
        self.__dict__["args"] = arguments
        wanted = [e for value in arguments.values() for e in expressions_in(value)]
        only = slim()
        if only is not None:
            combinations = [tuple(only(expression) for expression in wanted)]
        else:
            try:
                combinations = distinct_values(wanted, self.max_instances)
            except DomainError as error:
                raise DomainError(
                    f"{type(self).__name__} cannot be sliced, so it keeps one instance for each distinct value "
                    f"of its arguments, at most {self.max_instances}: {error}; give it fewer values, or raise "
                    "the limit with class My(ParametrizedModule, max_instances=...)"
                ) from None
        self.__dict__["_wanted"] = tuple(wanted)
        self.__dict__["_combinations"] = combinations
        self.__dict__["_places"] = {_key(combination): i for i, combination in enumerate(combinations)}
        instances = nn.ModuleList()
        for combination in combinations:
            chosen = dict(zip(wanted, combination, strict=True))
            plain = {name: evaluated(value, chosen.__getitem__) for name, value in arguments.items()}
            instances.append((self.wraps or type(self))(**plain))
        self._modules["instances"] = instances
        # An attribute of the object: torch calls it instead of the forward of the class,
        # which is written for an instance.
        self.__dict__["forward"] = _Dispatch(self)

    @property
    def is_parametrized(self) -> bool:
        """Whether some of its arguments are expressions."""
        return "_wanted" in self.__dict__

    def instance(self, values: Any) -> nn.Module:
        """The instance for the values of the active labels."""
        return self.instance_for(tuple(values(expression) for expression in self.__dict__["_wanted"]))

    def instance_for(self, combination: tuple[Any, ...]) -> nn.Module:
        """The instance for some values of the expressions among the arguments."""
        place = self.__dict__["_places"].get(_key(combination))
        if place is None:
            raise DomainError(f"{type(self).__name__} was not built for the arguments {combination}")
        return self.instances[place]

    @property
    def instances(self) -> nn.ModuleList:
        """The instances, in the order of their combinations of arguments."""
        return cast(nn.ModuleList, self._modules["instances"])

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "_combinations" not in self.__dict__ or name.startswith("__"):
                raise
        arguments = self.__dict__["args"]
        activation = current()
        if activation is not None:
            return getattr(self.instance(activation.values), name)
        if name in arguments:
            return arguments[name]
        raise AttributeError(
            f"{type(self).__name__} has the attribute {name!r}, if at all, only under an active architecture"
        )

    def structure(self) -> Node | None:
        if "_combinations" not in self.__dict__:
            return super().structure()
        wanted = self.__dict__["_wanted"]
        parts: list[Any] = list(wanted)
        for combination, instance in zip(self.__dict__["_combinations"], self.instances, strict=True):
            inner = structure_of(instance)
            if inner is not None:
                here: Any = True
                for expression, value in zip(wanted, combination, strict=True):
                    here = (expression == value) if here is True else here & (expression == value)
                parts.append(MutableExpression.condition(here, inner, None))
        return parts[0] if len(parts) == 1 else apply("tuple", *parts)

    def freeze_module(self, freezer: Freezer) -> nn.Module:
        if self.is_parametrized:
            return freezer.module(self.instance(freezer.values))
        if self.wraps is None:
            return freezer.clone(self)
        new = object.__new__(self.wraps)
        freezer.memo[id(self)] = new
        return freezer.fill(new, self)

    def extra_repr(self) -> str:
        if self.is_parametrized:
            return ", ".join(f"{name}={value}" for name, value in self.__dict__["args"].items())
        return super().extra_repr() if self.wraps is None else self.wraps.extra_repr(self)  # type: ignore[no-any-return]


class _Dispatch:
    """Calls the instance for the active architecture."""

    def __init__(self, owner: ParametrizedModule) -> None:
        self.owner = owner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        owner = self.owner
        return required(type(owner).__name__).mix(
            apply("tuple", *owner.__dict__["_wanted"]),
            lambda combination: owner.instance_for(combination)(*args, **kwargs),
        )


def _key(combination: tuple[Any, ...]) -> Any:
    return tuple(map(key_of, combination))


def refuse_hidden(cls: type, values: Iterable[Any]) -> None:
    """Expressions in places where a constructor's arguments are not looked into."""
    for value in values:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, (set, frozenset)) else ()
        for item in inner:
            if expressions_in(item):
                raise ExpressionError(
                    f"{item} is hidden in a {type(value).__name__} given to {cls.__name__}, where it cannot be "
                    "tracked; give it as an argument of its own"
                )
