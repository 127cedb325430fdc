"""An NNI ``ModelSpace`` made of a space of this library.

Modules are cloned as freezing clones them, by the same code, but primitives become NNI's own and
expressions stay expressions, in NNI's form.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SpaceError
from ..mutable.node import Node
from ..nn import (
    ElasticModule,
    InputChoice,
    LayerChoice,
    ModelSpace,
    MutableModule,
    ParametrizedModule,
    Repeat,
)
from ..nn.blueprint import defaults_of
from ..nn.freezing import Freezer, freezes_itself
from ..nn.parametrized import evaluated
from ..nn.structure import modules_using
from ..nn.switch import Switch
from ..tables.restriction import Restricted
from .nni_expressions import Expressions, Unreadable, subsets_class
from .nni_hooks import hooks_for, unconditional
from .nni_weights import load_supernet

__all__ = [
    "Converter",
    "SpaceReference",
    "constraint_class",
    "from_supernet",
    "given_weights",
    "is_a_primitive",
    "is_supernet",
    "nni_space_class",
    "plain_class",
    "refuse_lost_labels",
    "tensor_of",
]

_REFUSALS = (AssertionError, KeyError, TypeError, ValueError, RuntimeError, NotImplementedError)
"""What NNI's constructors raise."""


class SpaceReference:
    """A reference to the space that something was made of; a deep copy keeps the reference.

    Attributes
    ----------
    space
        As it was given.
    whole
        The same without its restriction.
    """

    def __init__(self, space: Any) -> None:
        self.space = space
        self.whole: ModelSpace = space.space if isinstance(space, Restricted) else space
        if not isinstance(self.whole, ModelSpace):
            raise SpaceError(f"a space is needed, but got {type(space).__name__}")

    def freeze(self, sample: dict[str, Any]) -> nn.Module:
        """Return the network of an architecture, with the weights of the space."""
        network: nn.Module = self.space.freeze(sample)
        return network

    def __deepcopy__(self, memo: Any) -> SpaceReference:
        return self


class Converter(Freezer):
    """Clones a space with NNI's primitives in the place of ours."""

    def __init__(self, nas_nn: Any) -> None:
        self.nas_nn = nas_nn
        self.expressions = Expressions()
        super().__init__(values=self._attribute_value)  # type: ignore[arg-type]

    def _attribute_value(self, expression: Any) -> Any:
        """Return what stands for an expression that an attribute holds."""
        return Unreadable(expression, self._where()) if isinstance(expression, Node) else expression

    def module(self, module: nn.Module) -> nn.Module:
        found: nn.Module | None = self.memo.known(module)
        if found is None:
            if self.root is None:
                self.root = module
            # The constructors of NNI say why by assertions and keys; where, only this clone knows.
            try:
                found = self._converted(module)
            except _REFUSALS as error:
                if isinstance(error, SpaceError):
                    raise
                raise SpaceError(
                    f"NNI cannot hold {self._where()}, a {type(module).__name__}: {error}; the "
                    "limit is NNI's"
                ) from error
            self.memo[id(module)] = found
        return found

    def _converted(self, module: nn.Module) -> Any:
        if isinstance(module, LayerChoice):
            return self._layer_choice(module)
        if isinstance(module, InputChoice):
            choice: Any = module.expression("choice")
            made = self.nas_nn.InputChoice(
                module.n_candidates,
                module.n_chosen,
                module.reduction,
                weights=given_weights(choice),
                label=self.expressions.label(choice),
            )
            # NNI makes the symbol itself, and takes none that is given.
            made.choice.__class__ = subsets_class()
            return self.substitute(module, made)
        if isinstance(module, Repeat):
            blocks = [self.child(f"blocks.{i}", block) for i, block in enumerate(module.blocks)]
            depth = self.expressions(module.expression("depth_choice"))
            made = self.nas_nn.Repeat(blocks, depth)
            return self.substitute(module, made)
        if isinstance(module, ParametrizedModule) and module.is_parametrized:
            return self._parametrized(module)
        if isinstance(module, Switch) or is_a_primitive(type(module)):
            raise SpaceError(
                f"NNI has no counterpart for {self._where()}, a {type(module).__name__}: write it "
                "with LayerChoice, InputChoice, Repeat and layers of nas_space.nn"
            )
        return self.clone(module, plain_class(module))

    def _layer_choice(self, module: LayerChoice) -> Any:
        named = {name: self.child(str(name), module[name]) for name in module.names}
        listed = module.names == list(range(len(module.names)))
        choice: Any = module.expression("choice")
        made = self.nas_nn.LayerChoice(
            list(named.values()) if listed else named,
            weights=given_weights(choice),
            label=self.expressions.label(choice),
        )
        return self.substitute(module, made)

    def _parametrized(self, module: ParametrizedModule) -> nn.Module:
        plain = plain_class(module)
        name = f"Mutable{plain.__name__}"
        if not plain.__module__.startswith("torch.nn") or not hasattr(self.nas_nn, name):
            raise SpaceError(
                f"NNI has no counterpart for {self._where()}, a {type(module).__name__}: it keeps "
                "its own instances of a module whose arguments are choices; make it a LayerChoice "
                "of these instances"
            )
        # Only what differs from the defaults is handed over: NNI's layers do not take all arguments
        # of torch's today, and ask for no more than they know.
        defaults = defaults_of(plain)
        arguments = {
            name: evaluated(value, self.expressions) for name, value in module.args.items()
        }
        for key, value in arguments.items():
            now = vars(module).get(key, value)  # eps and momentum may be set afterwards
            if type(value) in (int, float) and type(now) in (int, float):
                arguments[key] = now
        given = {k: v for k, v in arguments.items() if k not in defaults or v is not defaults[k]}
        made: nn.Module = getattr(self.nas_nn, name)(**given)
        if isinstance(module, ElasticModule):
            if module.is_parametrized and module.reparametrization is not None:
                raise SpaceError(
                    f"{name} computes its weights from others (weight norm, spectral norm, pruning "
                    "or a parametrization), which NNI's layers do not; remove that first"
                )
            # NNI's layer has the shapes of the defaults; which parts these are, the form says.
            form = module.form(lambda expression: expression.robust_default())
            with torch.no_grad():
                for key, tensor in made.state_dict(keep_vars=True).items():
                    prefix, _, leaf = key.rpartition(".")
                    cut = form.parts[prefix].cuts.get(leaf)
                    whole = tensor_of(module, key)
                    tensor.copy_(whole if cut is None else cut(whole))
        return self.substitute(module, made)


def tensor_of(module: nn.Module, path: str) -> Tensor:
    """Return a parameter or buffer by its path."""
    holder, _, name = path.rpartition(".")
    found: Tensor = getattr(module.get_submodule(holder), name)
    return found.detach()


def plain_class(module: nn.Module) -> type[nn.Module]:
    """Return the class that a layer has in a network; that of the module itself if it is none."""
    wrapped = module.wraps if isinstance(module, ParametrizedModule) else None
    return wrapped or type(module)


def given_weights(choice: Any) -> list[float] | None:
    """Return the probabilities that a choice was given, if it was."""
    given = choice._given_weights
    return None if given is None else list(given)


def is_a_primitive(cls: type) -> bool:
    """Return whether a class of a user's own decides itself what differs between architectures."""
    if not issubclass(cls, MutableModule):
        return False
    home = __name__.partition(".")[0]
    return freezes_itself(cls) or any(
        getattr(cls, name).__module__.partition(".")[0] != home
        for name in ("describe", "structure", "freeze_module", "freeze_values")
    )


@cache
def constraint_class() -> Any:
    """Return the class of the constraint that stands for all conditions of a space."""
    from nni.mutable import Constraint, ConstraintViolation
    from nni.mutable.utils import label

    class Telling(type(Constraint)):  # type: ignore[misc]
        # NNI's strategies that take categorical labels only refuse others before they ask the
        # space for hooks, and name the class of what they refuse: so this says what it is.
        def __repr__(cls) -> str:
            return f"the conditions of a space ({unconditional('strategy')})"

    class SpaceConstraint(Constraint, metaclass=Telling):  # type: ignore[misc]
        def __init__(self, held: SpaceReference, symbols: dict[str, Any]) -> None:
            self.label = label(["nas_space", "conditions"])
            self.held = held
            self.symbols = symbols

        def leaf_mutables(self, is_leaf: Callable[[Any], bool]) -> Iterator[Any]:
            yield from self.symbols.values()
            yield self

        def check_contains(self, sample: dict[str, Any]) -> Any:
            error = self.held.space.check_contains(sample)
            return None if error is None else ConstraintViolation(str(error))

        def as_legacy_dict(self) -> dict[str, Any]:
            # What NNI's TPE asks of every label when it begins.
            raise SpaceError(unconditional("TPE"))

        def equals(self, other: Any) -> bool:
            return self is other

    return SpaceConstraint


@cache
def nni_space_class() -> Any:
    """Return the class of what :func:`~nas_space.interop.nni.to_nni` gives, once NNI is there."""
    import nni.nas.nn.pytorch as nas_nn
    from nni.mutable import SampleValidationError

    class NNISpace(nas_nn.ModelSpace):  # type: ignore[misc]
        """A space of this library, as NNI's strategies take one.

        Modules, parameters and buffers are those of a clone, on whose class ``forward`` runs.
        """

        def __init__(self, space: Any) -> None:
            super().__init__()
            held = SpaceReference(space)
            convert = Converter(nas_nn)
            convert.root = held.whole
            body = convert.clone(held.whole)
            for kind in ("_modules", "_parameters", "_buffers"):
                self.__dict__[kind] = body.__dict__[kind]
            # Modules are this one's and the body's at once, in one and the same dictionary: NNI
            # replaces some in the space that it is given, and forward, which is a method of the
            # body's class, runs what has taken their place. Past ``__setattr__``, for a submodule
            # ``_body`` would make every name of a parameter another one.
            self.__dict__["_body"] = body
            self.__dict__["_held"] = held
            refuse_lost_labels(held.whole, set(self.simplify()))
            if held.space is not held.whole or held.whole.constraints():
                known = held.whole.symbols().items()
                symbols = {name: convert.expressions(symbol) for name, symbol in known}
                self.add_mutable(constraint_class()(held, symbols))
            self.train(held.whole.training)

        @classmethod
        def create_fixed_module(cls, sample: dict[str, Any], space: Any) -> nn.Module:
            # What NNI builds anew for an architecture that a strategy tries.
            frozen: nn.Module = space.freeze(sample)
            return frozen

        def freeze(self, sample: dict[str, Any]) -> nn.Module:
            """Return the network of an architecture, with the weights that this has."""
            held: SpaceReference = self._held
            return from_supernet(held, self, sample) if is_supernet(self) else held.freeze(sample)

        def check_contains(self, sample: dict[str, Any]) -> Any:
            # NNI's Proxyless decides block by block whether one of a Repeat is there, by labels
            # ``<depth>/in_repeat_<i>``, and exports these beside the depth that they come to. They
            # are taken out of the sample itself, with which NNI goes on.
            for name in [name for name in sample if "/in_repeat_" in name]:
                if name.partition("/in_repeat_")[0] in self._held.whole.symbols():
                    del sample[name]
            error = self._held.space.check_contains(sample)
            return None if error is None else SampleValidationError(str(error))

        def extra_oneshot_hooks(self, strategy: Any) -> list[Any]:
            """Return what NNI asks for before it makes a supernet."""
            return hooks_for(self._held.whole, strategy, constrained=bool(self.mutables))

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return self._body.forward(*args, **kwargs)

        def train(self, mode: bool = True) -> Any:
            self._body.training = mode
            return super().train(mode)

    return NNISpace


def refuse_lost_labels(space: ModelSpace, there: set[str]) -> None:
    """Raise if a label of a space is none of those that NNI's form of it has."""
    for name in space.symbols():
        if name not in there:
            raise SpaceError(
                f"NNI has no counterpart for the label {name!r} (path: "
                f"{modules_using(space, name)}): no layer of nas_space.nn chooses by it; NNI "
                "cannot give forward the value of an expression"
            )


def is_supernet(nni_space: nn.Module) -> bool:
    """Return whether a one-shot strategy of NNI has made a supernet of a space."""
    from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule

    return any(isinstance(module, BaseSuperNetModule) for module in nni_space.modules())


def from_supernet(held: SpaceReference, supernet: nn.Module, sample: dict[str, Any]) -> nn.Module:
    """Return the network of an architecture with the weights of a supernet."""
    held.space.validate(sample)
    whole = copy.deepcopy(held.whole)
    load_supernet(whole, supernet)
    return whole.freeze(sample)
