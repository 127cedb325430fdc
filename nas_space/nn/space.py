"""`ModelSpace`: a network that describes many, and owns the weights of all of them."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal, Self, overload

import numpy as np
import torch
from torch import nn

from ..errors import (
    ConstraintViolation,
    ExpressionError,
    InfeasibleError,
    LabelError,
    SampleValidationError,
    SpaceError,
    UsageError,
    suggest,
)
from ..mutable import ExpressionConstraint, Mutable, MutableExpression, Sample, SampleBatch, Values, frozen_context, label_scope
from ..mutable.base import LabeledMutable
from ..mutable.batch import draw_one
from ..mutable.evaluation import Walk
from ..mutable.frozen import dry_run
from ..mutable.labels import strict_label_scope
from ..mutable.node import Node, postorder
from ..mutable.randomness import RandomState, words
from .activation import Activation
from .building import Slim, building_for, inside_space, slim
from .freezing import Freezer, Weights
from .module import MutableModule, path_of, refuse_frozen

_ATTEMPTS = 100_000
"""Draws after which rejection gives up on constraints."""


class ModelSpace(MutableModule):
    """Base class of a space of networks: an ordinary module, written with choices in it.

    The space holds the weights of every architecture it describes.  An architecture is a
    plain dictionary from label to value.  Of one, :meth:`freeze` makes a plain network that
    inherits the weights; :meth:`activate` runs the space itself as that architecture.

    Without ``label_prefix``, every choice needs a label of its own.  With
    ``class Net(ModelSpace, label_prefix='net')``, choices without one are numbered, and all
    labels begin with ``net/``.

    Attributes
    ----------
    retired_labels
        Labels that architectures published for this space may carry though it has no such
        choice, with the one value that they may have.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> from nas_space.nn import MutableLinear
    >>> class Net(ModelSpace):
    ...     def __init__(self):
    ...         super().__init__()
    ...         width = Categorical([4, 8], label='width')
    ...         self.first = MutableLinear(2, width)
    ...         self.second = MutableLinear(width, 1)
    ...     def forward(self, x):
    ...         return self.second(self.first(x).relu())
    >>> space = Net()
    >>> arch = space.sample(seed=0)
    >>> arch
    {'width': 8}
    >>> x, net = torch.randn(3, 2), space.freeze(arch)
    >>> with space.activate(arch):
    ...     torch.equal(space(x), net(x))
    True
    """

    _label_prefix: ClassVar[str | None] = None
    retired_labels: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls, label_prefix: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if label_prefix is not None:
            cls._label_prefix = label_prefix

    # -- building -----------------------------------------------------------------------------

    @classmethod
    def construct(cls, *args: Any, **kwargs: Any) -> Any:
        scope = strict_label_scope(cls.__name__) if cls._label_prefix is None else label_scope(cls._label_prefix)
        with inside_space() as outermost:
            if not outermost:
                with scope:
                    return super().construct(*args, **kwargs)
            try:
                if slim() is None:
                    with frozen_context.bypass(), dry_run(), scope:
                        space = super().construct(*args, **kwargs)
                else:
                    with scope:
                        space = super().construct(*args, **kwargs)
            except TypeError as error:
                _explain_plain_layer(error)
                raise
        space.__dict__["_arguments"] = (args, kwargs)
        if slim() is None:
            space._check_labels()
        return space

    def _check_labels(self) -> None:
        """Finds two different choices under one label, and constraints out of reach."""
        root = self.structure()
        if root is None:
            return
        known: dict[str, Any] = {}
        for leaf in postorder(root):
            if leaf.operator is not None or hasattr(leaf, "constraint"):
                continue
            label = str(leaf.label)  # type: ignore[attr-defined]
            first = known.setdefault(label, leaf)
            if first is not leaf:
                raise LabelError(
                    f"two different choices carry the label {label!r}: {first!r} and {leaf!r} "
                    f"(at {path_of(self, label)}); give one of them another label, or make them the same"
                )

    def structure(self) -> Node | None:
        # The walk over all modules is made once; whatever changes the space forgets it.
        state = self.__dict__
        if "_structure" not in state:
            state["_structure"] = None if "_architecture" in state else super().structure()
        found: Node | None = state["_structure"]
        return found

    def refresh(self) -> None:
        """Looks at the modules again, after some were replaced deep inside the space."""
        self.__dict__.pop("_structure", None)
        self.__dict__.pop("_symbols", None)
        self._check_labels()

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, (nn.Module, Mutable)):
            self.__dict__.pop("_structure", None)
            self.__dict__.pop("_symbols", None)
        super().__setattr__(name, value)

    def add_mutable(self, mutable: Any) -> Any:
        self.__dict__.pop("_structure", None)
        self.__dict__.pop("_symbols", None)
        return super().add_mutable(mutable)

    def simplify(
        self, is_leaf: Callable[[Mutable], bool] | None = None
    ) -> dict[str, LabeledMutable]:
        if is_leaf is not None:
            return super().simplify(is_leaf)
        if "_symbols" not in self.__dict__:
            self.__dict__["_symbols"] = super().simplify()
        return dict(self.__dict__["_symbols"])

    def require(self, *conditions: Any) -> Self:
        """Declares conditions that every architecture must meet; returns the space.

        Parameters
        ----------
        conditions
            Expressions over labels, or constraints.  A condition is over active labels: one
            that needs a label where it is not active must be guarded by
            ``MutableExpression.condition``.

        Raises
        ------
        SampleValidationError
            If a condition needs a label that is not active in some architecture; nothing is
            declared then.
        LabelError
            If a condition is about a label that the space does not have.

        Examples
        --------
        >>> from nas_space.hub import ProxylessNAS
        >>> space = ProxylessNAS().require()
        """
        constraints = []
        for condition in conditions:
            if isinstance(condition, MutableExpression):
                with label_scope("constraint"):
                    condition = ExpressionConstraint(condition)
            constraints.append(condition)
        for constraint in constraints:
            self._check_reach(constraint)
        for constraint in constraints:
            self.add_mutable(constraint)
        return self

    def _check_reach(self, constraint: Any) -> None:
        """Refuses a constraint that needs a label where it is not active."""
        from ..mutable.bounds import combinations_of
        from ..mutable.columns import activity

        needed = constraint.needs()
        if needed is None:
            return
        known = self.simplify()
        for label in needed.symbols():
            if label not in known:
                raise LabelError(
                    f"the constraint {needed} is about the label {label!r}, which the space does not have"
                    f"{suggest(label, known)}"
                )
        # Whether a label is active depends on few others: draws that cover these are enough
        # to find a use that is out of reach, and exhaustive where they can be enumerated.
        total = combinations_of([symbol for symbol in known.values() if hasattr(symbol, "size")])
        if total is not None and total <= 4096:
            batch = SampleBatch.from_samples(self, [dict(sample) for sample in self._all_samples()])
        else:
            batch = SampleBatch.draw(self, 4096, words(0))
        columns = batch.columns()
        try:
            activity(needed, columns)
            columns.get(needed)
        except SampleValidationError as error:
            raise SampleValidationError(f"the constraint {needed} cannot be declared: {error}") from None

    def _all_samples(self) -> Iterator[Sample]:
        root = self.structure()
        sample: Sample = {}
        if root is not None:
            for values, _ in self._grid(Walk(root), Values(), sample, 1):
                yield values.active

    # -- reading architectures --------------------------------------------------------------------

    def read(self, sample: Mapping[str, Any]) -> Values:
        if not isinstance(sample, Mapping):
            raise SampleValidationError(
                f"an architecture is a dictionary from label to value, but got {type(sample).__name__}"
            )
        try:
            values = super().read(sample)
        except SampleValidationError as error:
            self._locate(error, sample)
            raise
        if len(values.active) != len(sample):
            self._check_others(sample, values.active)
        return values

    def _check_others(self, sample: Mapping[str, Any], active: Mapping[str, Any]) -> None:
        """Labels that are not active: their values must be allowed all the same, and no label unknown."""
        known = self.simplify()
        for label, value in sample.items():
            if label in active:
                continue
            if label in known:
                known[label].coerce(value)  # type: ignore[attr-defined]
            elif label in self.retired_labels:
                if value != self.retired_labels[label]:
                    raise SampleValidationError(
                        f"the label {label!r} is retired, and was always {self.retired_labels[label]!r}, "
                        f"but got {value!r}"
                    )
            elif not self._is_flag(label, known):
                raise SampleValidationError(
                    f"{type(self).__name__} has no label {label!r}{suggest(label, known)}; "
                    f"it has {list(known)}"
                )

    @staticmethod
    def _is_flag(label: str, known: Mapping[str, Any]) -> bool:
        """Whether a label is part of a multiple choice given as one yes or no for each value."""
        name, _, place = label.rpartition("/")
        return place.isdigit() and name in known and hasattr(known[name], "flags")

    def _locate(self, error: SampleValidationError, sample: Mapping[str, Any]) -> None:
        """Adds to an error the paths of the modules that use the label it is about."""
        for label in self.simplify():
            if repr(label) in error.msg:
                error.paths = [path_of(self, label)]
                unknown = [name for name in sample if name not in self.simplify() and name not in self.retired_labels]
                for name in unknown:
                    if suggest(name, [label]):
                        error.args = (f"{error.msg}; there is an unknown label {name!r}, perhaps a misspelling",)
                        error.msg = error.args[0]
                return

    def canonical(self, arch: Mapping[str, Any]) -> Sample:
        """An architecture with its active labels only, in the space's order.

        Two architectures with the same canonical form are the same network.
        """
        active = self.read(arch).active
        return {label: active[label] for label in self.simplify() if label in active}

    def arch_id(self, arch: Mapping[str, Any]) -> str:
        """A short digest of the canonical form: the same in every process and release."""
        text = json.dumps(self.canonical(arch), sort_keys=True, default=repr, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    # -- choosing architectures ---------------------------------------------------------------------

    @overload
    def sample(self, n: None = None, *, seed: RandomState = None) -> Sample: ...
    @overload
    def sample(self, n: int, *, seed: RandomState = None) -> SampleBatch: ...
    def sample(self, n: int | None = None, *, seed: RandomState = None) -> Sample | SampleBatch:
        """Architectures drawn at random, each label by its own distribution.

        Parameters
        ----------
        n
            How many; one dictionary if it is not given.
        seed
            A seed, one of NumPy's generators, or ``None`` for NumPy's global state.

        Returns
        -------
        dict or SampleBatch
            A batch holds its architectures as columns; the first ones do not depend on how
            many are drawn.

        Raises
        ------
        InfeasibleError
            If no draw meets the space's constraints.
        """
        refuse_frozen(self)
        source = words(seed)
        if n is None:
            for _ in range(_ATTEMPTS):
                try:
                    return draw_one(self, source)
                except ConstraintViolation as error:
                    last = error
            raise InfeasibleError(f"none of {_ATTEMPTS} random architectures meets the constraints: {last}")
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0:
            raise UsageError(f"the number of architectures must be 0 or more, but got {n!r}")
        constraints = self.constraints()
        if not constraints:
            return SampleBatch.draw(self, int(n), source)
        kept: list[SampleBatch] = []
        found = tried = 0
        while found < n:
            batch = SampleBatch.draw(self, 1024, source)
            good = np.array([all(_meets(c, arch) for c in constraints) for arch in batch], dtype=bool)
            kept.append(batch[np.flatnonzero(good)])
            found, tried = found + int(good.sum()), tried + 1024
            if not found and tried >= _ATTEMPTS:
                raise InfeasibleError(f"none of {tried} random architectures meets the constraints {constraints}")
        return SampleBatch.concatenate(kept)[: int(n)] if kept else SampleBatch.draw(self, 0, source)

    def random(  # type: ignore[override]
        self,
        memo: Sample | None = None,
        random_state: RandomState = None,
        *,
        seed: RandomState = None,
        **freezing: Any,
    ) -> nn.Module:
        """A random network: :meth:`sample` and :meth:`freeze`.

        Parameters
        ----------
        memo
            Values already chosen; those chosen here are added.
        random_state, seed
            As for :meth:`sample`; two names for one thing.
        freezing
            Passed on to :meth:`freeze`.
        """
        source = words(random_state if seed is None else seed)
        sample: Sample = {} if memo is None else memo
        if not sample:
            sample.update(self.sample(seed=_from_words(source)) if self.constraints() else draw_one(self, source))
            return self.freeze(sample, **freezing)
        self.fill(sample, lambda s: s.draw(source(s.words)))
        return self.freeze(sample, **freezing)

    # -- running and freezing ------------------------------------------------------------------------

    def activate(self, arch: Mapping[str, Any]) -> Activation:
        """A context in which the space runs as one architecture, with the shared weights.

        Raises
        ------
        SampleValidationError
            If the architecture is not in the space.
        """
        refuse_frozen(self)
        return Activation(self.read(arch))

    def freeze(  # type: ignore[override]
        self,
        sample: Mapping[str, Any],
        *,
        weights: Literal["copy", "share"] = "copy",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """A plain network of one architecture, with the weights of the space.

        No constructor runs.  The network keeps the classes of a user's own modules, and the
        layers of this library become plain layers of torch.

        Parameters
        ----------
        sample
            The architecture.  Labels that are not active are checked and dropped.
        weights
            ``'copy'``, or ``'share'`` for a view of the space's weights to evaluate with:
            what would move, train or save it copies them first.
        device, dtype
            Where the weights go, and the type of the floating-point ones.

        Raises
        ------
        SampleValidationError
            If the architecture is not in the space.
        SpaceError
            If the space is a frozen network already, or holds a function that closes over it.
        """
        refuse_frozen(self)
        if weights not in ("copy", "share"):
            raise UsageError(f"weights must be 'copy' or 'share', but got {weights!r}")
        return self._frozen(self.read(sample), weights, device, dtype)

    def _frozen(
        self, values: Values, weights: Weights, device: Any = None, dtype: torch.dtype | None = None
    ) -> Self:
        freezer = Freezer(values, weights, device, dtype)
        network: Any = freezer.module(self)
        active = values.active
        network.__dict__["_architecture"] = {
            label: active[label] for label in self.simplify() if label in active
        }
        if weights == "share":
            network.__dict__["_shared"] = {
                id(mine): its.requires_grad for mine, its in freezer.shared_parameters()
            }
        return network  # type: ignore[no-any-return]

    @classmethod
    def frozen_factory(cls, arch: Mapping[str, Any]) -> Callable[..., Self]:
        """A function that builds the network of one architecture, without building the space.

        It takes the arguments of the class.  The weights are fresh.

        Examples
        --------
        >>> from nas_space.hub import ProxylessNAS
        >>> arch = ProxylessNAS().sample(seed=0)
        >>> net = ProxylessNAS.frozen_factory(arch)(num_labels=10)
        """

        def build(*args: Any, **kwargs: Any) -> Self:
            only = Slim(arch)
            with building_for(only), frozen_context(arch):
                space = cls(*args, **kwargs)
            try:
                values = Mutable.read(space, arch)
            except SampleValidationError as error:
                space._locate(error, arch)
                raise
            unknown = set(arch) - set(values.active) - set(space.simplify()) - set(cls.retired_labels)
            if unknown or any(label in arch for label in cls.retired_labels):
                _check_against_space(cls, args, kwargs, arch)
            return space._frozen(values, "move")

        return build

    # -- a frozen network that shares its weights -------------------------------------------------------

    def own_weights(self) -> Self:
        """Gives a network frozen with ``weights='share'`` weights of its own; returns it."""
        trains = self.__dict__.pop("_shared", None)
        if trains is not None:
            for parameter in self.parameters():
                requires_grad = trains.get(id(parameter), False)
                parameter.data = parameter.data.clone()
                parameter.requires_grad_(requires_grad)
            for module in self.modules():
                for name, buffer in module._buffers.items():
                    if buffer is not None:
                        module._buffers[name] = buffer.clone()
        return self

    def train(self, mode: bool = True) -> Self:
        if mode:
            self.own_weights()
        return super().train(mode)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        if requires_grad:
            self.own_weights()
        return super().requires_grad_(requires_grad)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self.own_weights()
        return super()._apply(fn, recurse)  # type: ignore[no-any-return]

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        self.own_weights()
        return super().state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        self.own_weights()
        return dict(self.__dict__)

    # -- what this was made of --------------------------------------------------------------------------

    @property
    def architecture(self) -> Sample | None:
        """The architecture that a frozen network has; ``None`` for a space."""
        found = self.__dict__.get("_architecture")
        return None if found is None else dict(found)

    @classmethod
    def load_searched_model(
        cls, name: str, pretrained: bool = False, download: bool = False, progress: bool = True
    ) -> nn.Module:
        """A network of a published architecture.

        Raises
        ------
        UsageError
            If none of that name is known; the base class knows none.
        """
        raise UsageError(f"{cls.__name__} has no published architectures, so none named {name!r}")


def _check_against_space(cls: Any, args: Any, kwargs: Any, arch: Mapping[str, Any]) -> None:
    """Labels that the slim network does not have: inactive in the whole space, or unknown.

    The whole space is built for it, without memory, and only where such labels are given.
    """
    with building_for(None), torch.device("meta"):
        space = cls(*args, **kwargs)
    space.read(arch)


def _meets(constraint: Any, arch: Sample) -> bool:
    return constraint.violation(arch) is None


def _from_words(source: Any) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(int(source(1)[0])))


def _explain_plain_layer(error: TypeError) -> None:
    """An expression that reached a kernel: says which layer to use instead."""
    if isinstance(error, ExpressionError):
        return
    traceback = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        owner = frame.f_locals.get("self")
        if type(owner).__module__.startswith("torch.nn.modules") and frame.f_code.co_name == "__init__":
            parameters = inspect.signature(type(owner).__init__).parameters
            given = {n: v for n in parameters if isinstance(v := frame.f_locals.get(n), Node)}
            if given:
                name = type(owner).__name__
                raise ExpressionError(
                    f"torch.nn.{name} needs plain numbers, but got {given}; "
                    f"use nas_space.nn.Mutable{name} instead"
                ) from error
        traceback = traceback.tb_next
