"""``RootModule``: a mutable module whose structure is looked up once, when it is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar, Self, TypeVar

from torch import nn

from ..errors import LabelError, SampleValidationError, SpaceError
from ..mutable import (
    Constraint,
    ExpressionConstraint,
    LabeledMutable,
    Mutable,
    MutableExpression,
    Sample,
    Values,
    frozen_context,
    label,
    label_scope,
)
from ..mutable.expression import apply
from ..mutable.frozen_contexts import dry_run
from ..mutable.labels import strict_label_scope
from ..mutable.node import Leaf, Node, leaves
from ..tables.coverage import check_constraint
from ..tables.feasibility import check_feasible
from ..tables.model import root_of
from .blueprint import defaults_of
from .construction import inside_space, slim
from .freezing import freezes_itself
from .inactive_labels import check_inactive, is_retired
from .initial_weights import built
from .module import MutableModule
from .parametrized import bound_arguments
from .structure import (
    ATOMS,
    Survey,
    explain_number,
    explain_plain_layer,
    modules_using,
    refuse_misplaced,
)
from .trial_values import CONSTRUCTED, robust

__all__ = ["RootModule", "refuse_frozen"]

M = TypeVar("M", bound=Mutable)

_REMEMBERED = frozenset({"_structure", "_symbols", "_apart"})
"""What is worked out once, and forgotten when the module changes."""


class RootModule(MutableModule):
    """A mutable module that is no part of another: it knows its labels and its constraints.

    Its structure is looked up when the outermost constructor is done, and remembered until a
    module is replaced.
    """

    _label_prefix: ClassVar[str | None] = None
    retired_labels: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls, label_prefix: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if label_prefix is not None:
            cls._label_prefix = label_prefix

    @classmethod
    def construct(cls, *args: Any, **kwargs: Any) -> Any:
        whole = slim() is None

        def build(*args: Any, **kwargs: Any) -> Any:
            with cls._scope(), _undecided() if whole and outermost else nullcontext():
                return super(RootModule, cls).construct(*args, **kwargs)

        with inside_space() as outermost:
            if not outermost:
                return build(*args, **kwargs)
            try:
                space = built(build, args, kwargs)
            except TypeError as error:
                explained = explain_plain_layer(error) or explain_number(error)
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
        """Look at all modules again, after some were replaced deep inside the space.

        Raises
        ------
        LabelError, ExpressionError, SampleValidationError, InfeasibleError
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
            if first is not leaf and not _say_the_same(first, leaf):
                raise LabelError(
                    f"two different choices carry the label {leaf.name!r}: {first!r} and {leaf!r} "
                    f"(path: {modules_using(self, leaf.name)}); give one of them another label, or "
                    "make them the same"
                )
        for constraint in self.constraints():
            check_constraint(root_of(self), constraint)
        check_feasible(root_of(self))

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
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        return {key: value for key, value in state.items() if key not in _REMEMBERED}

    def require(self, *conditions: MutableExpression[Any] | Constraint) -> Self:
        """Declare conditions that every architecture must meet; return the space.

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
        InfeasibleError
            If no architecture meets the conditions; nothing is declared then.

        Examples
        --------
        >>> from nas_space.mutable import Categorical
        >>> from nas_space.nn import ModelSpace, MutableLinear
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
                check_constraint(root_of(self), constraint)
            markers = [constraint.marker for constraint in constraints]
            check_feasible(apply("tuple", root_of(self), *markers))
        for constraint in constraints:
            self.add_mutable(constraint)
        return self

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

    def __getattr__(self, name: str) -> Any:
        # What nothing else has set: a user's own ``args`` comes first.
        if name == "args" and "_arguments" in self.__dict__:
            args, kwargs = self.__dict__["_arguments"]
            return {**defaults_of(type(self)), **bound_arguments(type(self), args, kwargs)}
        return super().__getattr__(name)

    def _locate(self, error: SampleValidationError, sample: Mapping[str, Any]) -> None:
        if error.label is not None and error.label in self.symbols():
            error.paths.insert(0, modules_using(self, error.label))


def _say_the_same(one: Leaf, other: Leaf) -> bool:
    """Return whether two leaves are constraints of which their class says that they are equal."""
    found: tuple[Any, ...] = tuple(getattr(leaf, "annotation", None) for leaf in (one, other))
    return None not in found and bool(found[0].equals(found[1]))


@contextmanager
def _undecided() -> Iterator[None]:
    """Enter a context in which a whole space is built, whatever is chosen around it."""
    with frozen_context.bypass(), dry_run(_trial_value):
        yield


def _trial_value(mutable: Any, memo: Sample, retries: int) -> Any:
    """Return the default of a mutable, but where all architectures would get what it leads to."""
    classes = [construction.cls for construction in CONSTRUCTED]
    if any(map(freezes_itself, classes)):
        return robust(mutable, memo, retries)  # it is built anew for each architecture
    where = classes[-1].__name__ if classes else "a space"
    raise SpaceError(
        f"ensure_frozen({mutable}) in the constructor of {where} would give every architecture "
        "what is built with the default; give the expression itself to a layer of nas_space.nn, as "
        "in MutableLinear(width, 3) for nn.Linear(ensure_frozen(width), 3), to a class of your own "
        "that derives from ParametrizedModule, or read it in forward"
    )


def refuse_frozen(module: nn.Module) -> None:
    """Raise if a module is a frozen network already."""
    architecture = module.__dict__.get("_architecture")
    if architecture is not None:
        raise SpaceError(
            f"this {type(module).__name__} is frozen already, as {architecture}; use the space it "
            "came from"
        )


def _as_constraint(condition: MutableExpression[Any]) -> Constraint:
    # Called what it says, so that two spaces that say the same can be parts of a third.
    return ExpressionConstraint(condition, label=label(["constraint", str(condition)]))
