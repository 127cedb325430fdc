"""`ModelSpace`: a network that describes many, and owns the weights of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar, Literal, Self, TypeVar, cast, overload

import torch
from torch import nn

from ..errors import (
    LabelError,
    SampleValidationError,
    SpaceError,
    UsageError,
)
from ..mutable import (
    Constraint,
    ExpressionConstraint,
    LabeledMutable,
    Mutable,
    MutableExpression,
    Sample,
    SampleBatch,
    Values,
    frozen_context,
    label,
    label_scope,
)
from ..mutable.frozen import dry_run
from ..mutable.labels import strict_label_scope
from ..mutable.node import Leaf, Node, leaves
from ..mutable.random_words import RandomState, words
from ..tables import Over
from ..tables import sample as sample_exactly
from .activation import Activation
from .building import inside_space, slim
from .compilation import Compilable
from .copy_on_write import SharedWeights
from .digests import architecture_digest
from .explanation import Explainable
from .factory import BuiltForOne
from .freezing import Freezer, freezes_itself
from .module import MutableModule
from .reach import check_reach
from .restricted import Countable
from .sampling import draw, draw_many
from .structure import ATOMS, Survey, explain_plain_layer, modules_using, refuse_misplaced
from .validation import check_inactive, is_retired

M = TypeVar("M", bound=Mutable)

_REMEMBERED = frozenset({"_structure", "_symbols", "_apart"})
"""What is worked out once, and forgotten when the space changes."""


class ModelSpace(SharedWeights, Countable, Compilable, Explainable, BuiltForOne, MutableModule):
    """Base class of a space of networks: an ordinary module, written with choices in it.

    The space holds the weights of every architecture it describes.  An architecture is a
    plain dictionary from label to value.  Of one, :meth:`freeze` makes a plain network that
    inherits the weights; :meth:`activate` runs the space itself as that architecture.

    Without ``label_prefix``, every choice needs a label of its own.  With
    ``class Net(ModelSpace, label_prefix='net')``, choices without one are numbered, and all
    labels begin with ``net/``; so do those of a space without a prefix that is a part of it.

    Attributes
    ----------
    example_shape
        The shape of one sample, without the batch, where nothing else is said.
    retired_labels
        Labels that architectures published for this space may carry though it has no such
        choice, with the one value that they may have.

    Raises
    ------
    LabelError
        If a choice has no label, or two different ones have the same.
    ExpressionError
        If a plain layer of torch is given an expression.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> from nas_space.nn import MutableLinear
    >>> class Net(ModelSpace):
    ...     def __init__(self):
    ...         super().__init__()
    ...         width = Categorical([4, 8], label="width")
    ...         self.first = MutableLinear(2, width)
    ...         self.second = MutableLinear(width, 1)
    ...
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
    example_shape: ClassVar[tuple[int, ...] | None] = None
    retired_labels: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls, label_prefix: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if label_prefix is not None:
            cls._label_prefix = label_prefix

    # -- building ------------------------------------------------------------------------------

    @classmethod
    def construct(cls, *args: Any, **kwargs: Any) -> Any:
        with inside_space() as outermost, cls._scope():
            if not outermost:
                return super().construct(*args, **kwargs)
            whole = slim() is None
            try:
                with _undecided() if whole else nullcontext():
                    space = super().construct(*args, **kwargs)
            except TypeError as error:
                explained = explain_plain_layer(error)
                if explained is None:
                    raise
                raise explained from error
        space.__dict__["_arguments"] = (args, kwargs)
        if whole:
            space.refresh()
        return space

    @classmethod
    def _scope(cls) -> AbstractContextManager[Any]:
        if cls._label_prefix is not None:
            return label_scope(cls._label_prefix)
        return strict_label_scope(cls.__name__) if label_scope.current() is None else nullcontext()

    def refresh(self) -> None:
        """Looks at all modules again, after some were replaced deep inside the space.

        Raises
        ------
        LabelError, ExpressionError, SampleValidationError
            If what they hold does not go together; see the class and :meth:`require`.
        """
        refuse_frozen(self)
        self._forget()
        survey = Survey()
        self.__dict__["_structure"] = survey(self)
        refuse_misplaced(self, survey)
        known: dict[str, Leaf] = {}
        for leaf in leaves(self.structure()):
            first = known.setdefault(leaf.name, leaf)
            if first is not leaf:
                raise LabelError(
                    f"two different choices carry the label {leaf.name!r}: {first!r} and {leaf!r} "
                    f"(path: {modules_using(self, leaf.name)}); give one of them another label, or "
                    "make them the same"
                )
        for constraint in self.constraints():
            check_reach(constraint, self)

    def structure(self) -> Node | None:
        # The walk over all modules is made once; whatever changes the space forgets it.
        state = self.__dict__
        if "_architecture" in state:
            return None
        if "_structure" not in state:
            state["_structure"] = super().structure()
        found: Node | None = state["_structure"]
        return found

    def simplify(
        self, is_leaf: Callable[[Mutable], bool] | None = None
    ) -> dict[str, LabeledMutable]:
        if is_leaf is not None:
            return super().simplify(is_leaf)
        state = self.__dict__
        if "_symbols" not in state:
            state["_symbols"] = super().simplify()
        return dict(state["_symbols"])

    def _forget(self) -> None:
        for name in _REMEMBERED:
            self.__dict__.pop(name, None)

    def __setattr__(self, name: str, value: Any) -> None:
        # What holds nothing, and takes the place of nothing else, leaves the structure as it is.
        if type(value) not in ATOMS or type(self.__dict__.get(name, self)) not in ATOMS:
            self._forget()
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        self._forget()
        super().__delattr__(name)

    def add_mutable(self, mutable: M) -> M:
        self._forget()
        return super().add_mutable(mutable)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {key: value for key, value in state.items() if key not in _REMEMBERED}

    def require(self, *conditions: MutableExpression[Any] | Constraint) -> Self:
        """Declares conditions that every architecture must meet; returns the space.

        Parameters
        ----------
        conditions
            Expressions over labels, or constraints.  A condition is over active labels: one
            that needs a label where it is not active must be guarded by
            ``MutableExpression.condition``.  In a constructor, this is looked at when the whole
            space is built.

        Raises
        ------
        SampleValidationError
            If a condition needs a label that is not active in some architecture; nothing is
            declared then.
        LabelError
            If a condition is about a label that the space does not have.

        Examples
        --------
        >>> from nas_space.mutable import Categorical
        >>> from nas_space.nn import MutableLinear
        >>> class Net(ModelSpace):
        ...     def __init__(self):
        ...         super().__init__()
        ...         first = Categorical([4, 8, 16], label="first")
        ...         second = Categorical([4, 8, 16], label="second")
        ...         self.first, self.second = MutableLinear(2, first), MutableLinear(first, second)
        ...         self.require(first * second <= 64)
        >>> Net().freeze({"first": 16, "second": 8})
        Traceback (most recent call last):
        ...
        nas_space.errors.ConstraintViolation: the constraint first * second <= 64 does not hold \
for {'first': 16, 'second': 8}
        """
        refuse_frozen(self)
        constraints = [
            condition if isinstance(condition, Constraint) else _as_constraint(condition)
            for condition in conditions
        ]
        if "_arguments" in self.__dict__:  # it is built
            for constraint in constraints:
                check_reach(constraint, self)
        for constraint in constraints:
            self.add_mutable(constraint)
        return self

    # -- reading architectures -----------------------------------------------------------------

    def read(self, sample: Mapping[str, Any]) -> Values:
        values = super().read(sample)
        if len(values.active) != len(sample):
            known, retired = self.symbols(), self.retired_labels
            try:
                for name, value in sample.items():
                    if name not in values.active and not is_retired(name, value, retired):
                        check_inactive(name, value, known, type(self).__name__)
            except SampleValidationError as error:
                self._locate(error, sample)
                raise
        return values

    def _locate(self, error: SampleValidationError, sample: Mapping[str, Any]) -> None:
        if error.label is not None and error.label in self.symbols():
            error.paths.insert(0, modules_using(self, error.label))

    def canonical(self, arch: Mapping[str, Any]) -> Sample:
        """An architecture with its active labels only, in the space's order.

        Two architectures with the same canonical form are the same network.

        Raises
        ------
        SampleValidationError
            If the architecture is not in the space.

        Examples
        --------
        >>> from nas_space.hub import ProxylessNAS
        >>> space = ProxylessNAS(width_mult=0.25)
        >>> arch = space.sample(seed=0)
        >>> space.canonical({"s7_depth": 1} | arch) == arch
        True
        """
        active = self.read(arch).active
        return {name: active[name] for name in self.simplify() if name in active}

    def arch_id(self, arch: Mapping[str, Any]) -> str:
        """A short digest of the :meth:`canonical` form: the same in every process and release."""
        return architecture_digest(self.canonical(arch), self.symbols())

    # -- choosing architectures ----------------------------------------------------------------

    @overload
    def sample(
        self, n: None = None, *, over: Over = "labels", seed: RandomState = None
    ) -> Sample: ...
    @overload
    def sample(self, n: int, *, over: Over = "labels", seed: RandomState = None) -> SampleBatch: ...
    def sample(
        self, n: int | None = None, *, over: Over = "labels", seed: RandomState = None
    ) -> Sample | SampleBatch:
        """Architectures drawn at random.

        Parameters
        ----------
        n
            How many; one dictionary if it is not given.
        over
            ``'labels'``: each label by its own distribution.  ``'architectures'``: every
            architecture with the same probability, however many labels it has active.
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
        if over != "labels":
            return sample_exactly(self, n, over=over, seed=seed)
        source = words(seed)
        return draw(self, source) if n is None else draw_many(self, n, source)

    def random(
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
        refuse_frozen(self)
        source = words(random_state if seed is None else seed)
        sample: Sample = {} if memo is None else memo
        if sample:
            self.fill(sample, lambda symbol: symbol.draw(source(symbol.words)))
        else:
            sample.update(draw(self, source))
        return self.freeze(sample, **freezing)

    # -- running and freezing ------------------------------------------------------------------

    def activate(self, arch: Mapping[str, Any]) -> Activation:
        """A context in which the space runs as one architecture, with the shared weights.

        Raises
        ------
        SampleValidationError
            If the architecture is not in the space.
        """
        refuse_frozen(self)
        self._refuse_without_shared_weights()
        return Activation(self.read(arch))

    def _refuse_without_shared_weights(self) -> None:
        """Raises if a part is only what its constructor made for one architecture."""
        state = self.__dict__
        if "_apart" not in state:  # looked for once, as the structure is
            state["_apart"] = [
                (path, type(module).__name__)
                for path, module in self.named_modules()
                if path and isinstance(module, MutableModule) and module.mutables
                if freezes_itself(type(module))
            ]
        for path, kind in state["_apart"]:
            raise SpaceError(
                f"{path!r}, a {kind}, says by its own freeze(...) what it becomes, so it shares no "
                "weights between architectures and cannot run as one; run space.freeze(arch), or "
                "write it with layers of nas_space.nn"
            )

    def freeze(
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
            ``'copy'``, or ``'share'`` for a view of the space's parameters to evaluate with:
            what would move, train or save it copies them first. Of a parameter cut in such a
            way that gaps remain, the part is copied at once.
        device, dtype
            Where the weights go, and the type of the floating-point ones.

        Raises
        ------
        SampleValidationError
            If the architecture is not in the space.
        SpaceError
            If the space is a frozen network already, or holds what cannot be frozen, such as a
            function that closes over it.
        """
        refuse_frozen(self)
        if weights not in {"copy", "share"}:
            raise UsageError(f"weights must be 'copy' or 'share', but got {weights!r}")
        freezer = Freezer(self.read(sample), weights, device, dtype)
        with torch.inference_mode(False):  # else the network could never be trained
            network = cast(Self, freezer.module(self))
        if weights == "share":
            network._share(freezer.parameters())
        return network

    def freeze_values(self, values: Values) -> nn.Module:
        refuse_frozen(self)
        return super().freeze_values(values)

    def freeze_module(self, freezer: Freezer) -> nn.Module:
        network = super().freeze_module(freezer)
        mine, active = self.architecture, freezer.values.active
        if mine is None:  # else it is a frozen network, as a part of another space
            mine = {name: active[name] for name in self.simplify() if name in active}
        network.__dict__["_architecture"] = mine
        return network

    @property
    def architecture(self) -> Sample | None:
        """The architecture that a frozen network has; ``None`` for a space."""
        found = self.__dict__.get("_architecture")
        return None if found is None else dict(found)


@contextmanager
def _undecided() -> Iterator[None]:
    """A context in which a whole space is built, whatever is chosen around it."""
    with frozen_context.bypass(), dry_run():
        yield


def refuse_frozen(module: nn.Module) -> None:
    """Raises if a module is a frozen network already."""
    architecture = module.__dict__.get("_architecture")
    if architecture is not None:
        raise SpaceError(
            f"this {type(module).__name__} is frozen already, as {architecture}; use the space it "
            "came from"
        )


def _as_constraint(condition: MutableExpression[Any]) -> Constraint:
    # Called what it says, so that two spaces that say the same can be parts of a third.
    return ExpressionConstraint(condition, label=label(["constraint", str(condition)]))
