"""Running one function on plain meta tensors, once for each different call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import torch
from torch import nn
from torch.overrides import resolve_name

from ..errors import SpaceError
from ..mutable.node import key_of
from ..nn.reparametrized import Computing
from ..nn.structure import ATOMS
from .operator_calls import OperatorCall, OperatorRecorder
from .tensors import BY_FORM, flatten, unflatten

if TYPE_CHECKING:  # entered where values are known
    from .known_values import KnownValues, RealResult

__all__ = ["Arguments", "CallForm", "Effects", "Execution", "Executor", "name_of", "told_by"]


class CallForm(NamedTuple):
    """A call of a function, but for what it is given.

    Attributes
    ----------
    function
        What is called.
    spec
        Its arguments are so put together; as of :func:`~.tensors.flatten`.
    first
        For each leaf, where it first occurs: functions look whether two are one object.
    owned
        For each leaf, whether it is a tensor of the space's own.
    """

    function: Callable[..., Any]
    spec: Any
    first: tuple[int, ...]
    owned: tuple[bool, ...]


class Arguments(NamedTuple):
    """What a function is given.

    Attributes
    ----------
    leaves
        Plain things; tensors are interned.
    keys
        What tells each from others, :func:`told_by`.
    """

    leaves: list[Any]
    keys: tuple[Any, ...]


def told_by(leaf: Any) -> Any:
    """Return what tells an argument from others, as long as it exists."""
    return id(leaf) if isinstance(leaf, torch.Tensor) else key_of(leaf)


@dataclass(slots=True, eq=False)
class Effects:
    """What a call changes in its arguments.

    Attributes
    ----------
    changed
        Those whose shape, type or need of gradients it has changed, with what they are now.
    tracked
        Of these, the ones that were written to with something that autograd follows: so are now
        all views of the same memory.
    moved
        Those that lie in other memory after the call: in that of another argument, or, where it is
        ``None``, in memory of their own.
    written
        Those whose values it has changed.
    """

    changed: dict[int, torch.Tensor] = field(default_factory=dict)
    tracked: set[int] = field(default_factory=set)
    moved: dict[int, int | None] = field(default_factory=dict)
    written: set[int] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Execution:
    """What one call of a function gives and costs.

    Attributes
    ----------
    call
        The function, and its arguments as :func:`~.tensors.flatten` takes them apart.
    spec, leaves
        Its result, taken apart; tensors are interned.
    origins
        For each leaf that is a tensor: the argument whose memory it uses, or ``None``.
    same
        For each leaf: the argument that it is itself, or ``None``.
    views
        The leaves that autograd takes for views of an argument.
    effects
        What it changes in its arguments; ``None`` if nothing.
    operators, peak
        As of :class:`~.operator_calls.OperatorRecorder`.
    kept_arguments, kept_leaves, extra
        In training: the arguments and the leaves that are kept for the backward pass, and the
        bytes of what else is.
    error
        What it raised instead.
    """

    call: tuple[Callable[..., Any], Any, list[Any]]
    spec: Any = None
    leaves: list[Any] = field(default_factory=list)
    origins: list[int | None] = field(default_factory=list)
    same: list[int | None] = field(default_factory=list)
    views: frozenset[int] = frozenset()
    effects: Effects | None = None
    operators: tuple[OperatorCall, ...] = ()
    peak: int = 0
    kept_arguments: frozenset[int] = frozenset()
    kept_leaves: frozenset[int] = frozenset()
    extra: int = 0
    error: Exception | None = None

    def __str__(self) -> str:
        """The call, with the shapes of what it was given."""
        function, _, leaves = self.call
        # Of an elastic layer, the plain layer that it is.
        of_layer = bool(leaves) and isinstance(leaves[0], nn.Module)
        name = repr(leaves[0]) if of_layer else name_of(function)
        shapes = [str(tuple(leaf.shape)) for leaf in leaves if isinstance(leaf, torch.Tensor)]
        return f"{name} of {', '.join(shapes)}" if shapes else name

    @property
    def flops(self) -> int:
        """Floating-point operations, as far as anybody knows."""
        return sum(operator.flops or 0 for operator in self.operators)


class Executor:
    """Calls functions on meta tensors, and remembers what came out.

    Parameters
    ----------
    training
        Whether to watch what autograd keeps.

    Attributes
    ----------
    values
        Those of meta tensors that follow from constants alone; ``None`` as long as there are none.
    plain_layers
        As of :class:`~.plain_layers.PlainLayers`; calls are told apart by their identity.
    """

    def __init__(self, training: bool = False) -> None:
        self.training = training
        self.values: KnownValues | None = None
        self.plain_layers: dict[Any, dict[Any, nn.Module]] = {}
        self._interned: dict[Any, torch.Tensor] = {}
        self._known: dict[int, torch.Tensor] = {}
        self._executions: dict[Any, Execution] = {}
        self._forms: dict[Any, torch.Tensor] = {}

    # -- tensors --------------------------------------------------------------------------------

    def interned(self, tensor: torch.Tensor, value: Any = None) -> torch.Tensor:
        """Return the one meta tensor like this one, with the same values where these are known."""
        known = None if value is None else self._made_values().key(value)
        found = self._known.get(id(tensor)) if known is None else None
        if found is not None:
            return found
        parameter = isinstance(tensor, nn.Parameter)
        grad = tensor.requires_grad and (parameter or self.training)
        strides = _strides(tensor)
        key = (tensor.shape, strides, tensor.dtype, grad, parameter, known)
        made = self._interned.get(key)
        if made is None:
            made = torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype, device="meta")
            if parameter:
                made = nn.Parameter(made, requires_grad=grad)
            elif grad:
                made.requires_grad_()
            self._interned[key] = made
            self._known[id(made)] = made
            if known is not None:
                self._made_values().add(made, value.detach().cpu())
        return made

    def _made_values(self) -> KnownValues:
        if self.values is None:
            from .known_values import KnownValues

            self.values = KnownValues()
        return self.values

    def value_of(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the values of a meta tensor, if they are known."""
        return None if self.values is None else self.values.of(tensor)

    def forgotten(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the one meta tensor like this one of which no values are known."""
        return tensor if self.value_of(tensor) is None else self.interned(self._fresh(tensor))

    # -- functions ------------------------------------------------------------------------------

    def call(self, form: CallForm, given: Arguments) -> Execution:
        """Return what a function gives."""
        key: Any = None
        # Without a tensor, a function may be called for what it does: switching gradients on. A
        # module of a user's may do something else at each call.
        if any(map(_tensor, given.leaves)) and not isinstance(form.function, nn.Module):
            key = (form, given.keys, torch.is_grad_enabled())
        execution = None if key is None else self._executions.get(key)
        if execution is None:
            execution = self._run(form, given.leaves)
            if key is not None and all(map(_lasts, execution.leaves)):
                # It holds the arguments, whose identities are in the key.
                self._executions[key] = execution
        return execution

    def _run(self, form: CallForm, leaves: list[Any]) -> Execution:
        function, spec, first, owned = form
        execution = Execution((function, spec, leaves))
        given: list[Any] = []
        for place, leaf in enumerate(leaves):
            if not isinstance(leaf, torch.Tensor):
                given.append(leaf)
            elif first[place] < place:
                given.append(given[first[place]])
            else:
                given.append(self._fresh(leaf))
        tensors = {place: value for place, value in enumerate(given) if _tensor(value)}
        own = {_memory(tensor) for leaf in leaves for tensor in _tensors_of(leaf)}
        owners = {_memory(tensor): place for place, tensor in tensors.items()}
        args, kwargs = unflatten(spec, iter(given))
        before = {place: _state(tensor) for place, tensor in tensors.items()}
        storages = [tensor.untyped_storage() for tensor in tensors.values()]  # to stay apart
        mine = own | {_memory(tensor) for place, tensor in tensors.items() if owned[place]}
        if isinstance(function, nn.Module):
            mine |= {_memory(tensor) for tensor in (*function.parameters(), *function.buffers())}
        recorder = OperatorRecorder(self._without_data, frozenset(mine))
        saved: list[torch.Tensor] = []
        try:
            with self._gradients(saved), recorder:
                result = _ON_META.get(function, function)(*args, **kwargs)
                found: list[Any] = []
                execution.spec = flatten(result, found, use_up=True)
        except Exception as error:  # noqa: BLE001 - whatever torch or an operator raises
            real = self._real(function, spec, leaves)
            if real is None:
                execution.error = error.with_traceback(None)
            else:
                self._take(real, execution)
            return execution
        real = self._real(function, spec, leaves)
        execution.operators, execution.peak = tuple(recorder.calls), recorder.peak
        places = {id(tensor): place for place, tensor in tensors.items()}
        execution.same = [places.get(id(leaf)) if _tensor(leaf) else None for leaf in found]
        execution.origins = [owners.get(_memory(leaf)) if _tensor(leaf) else None for leaf in found]
        if self.training:
            self._sort_out(saved, owners, own, found, execution)
        values = real.leaves if real and len(real.leaves) == len(found) else [None] * len(found)
        execution.leaves = [
            self.interned(leaf, value) if _tensor(leaf) else leaf
            for leaf, value in zip(found, values, strict=True)
        ]
        execution.views = frozenset(
            place for place, leaf in enumerate(found) if _tensor(leaf) and leaf._is_view()
        )
        self._compare(tensors, before, owners, execution, real)
        del storages
        again: list[Any] = []
        flatten((args, kwargs), again)
        if len(again) != len(given) or any(again[p] is not tensor for p, tensor in tensors.items()):
            execution.error = SpaceError(
                "it changes a list or dictionary that it is given, where it cannot be followed; "
                "return what it adds instead"
            )
        return execution

    def _real(
        self, function: Callable[..., Any], spec: Any, leaves: list[Any]
    ) -> RealResult | None:
        """What a function really gives, if the values of all that it looks at are known."""
        if self.values is None and function not in BY_FORM and any(map(_tensor, leaves)):
            return None
        return self._made_values().call(function, spec, leaves)

    def _compare(
        self,
        tensors: dict[int, torch.Tensor],
        before: dict[int, _State],
        owners: dict[int, int],
        execution: Execution,
        real: RealResult | None,
    ) -> None:
        """What the call has changed in its arguments."""
        for place, tensor in tensors.items():
            old, new = before[place], _state(tensor)
            if new == old:
                continue
            effects = execution.effects = execution.effects or Effects()
            written = new.version != old.version
            if written:
                effects.written.add(place)
            value = real.arguments[place] if real else None
            knew = self.value_of(execution.call[2][place]) is not None
            if (
                new.form != old.form
                or (self.training and new.grad != old.grad)
                or (written and (knew or value is not None))
            ):
                effects.changed[place] = self.interned(tensor, value)
                if new.grad and not old.grad and written:
                    effects.tracked.add(place)
            if new.storage != old.storage:
                effects.moved[place] = owners.get(new.storage)
            elif new.size != old.size:
                effects.moved[place] = None

    def _take(self, real: RealResult, execution: Execution) -> None:
        """Take over what only values tell, such as a number, or how many elements are chosen."""
        execution.spec = real.spec
        execution.leaves = [
            self.interned(leaf.to("meta"), leaf) if _tensor(leaf) else leaf for leaf in real.leaves
        ]
        execution.same = execution.origins = [None] * len(real.leaves)
        for place, value in enumerate(real.arguments):
            if _tensor(value) and value._version:
                effects = execution.effects = execution.effects or Effects()
                effects.changed[place] = self.interned(value.to("meta"), value)
                effects.written.add(place)

    def _without_data(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of the same form for costs to look at, whatever it is one of."""
        strides = tensor.stride() if tensor.layout is torch.strided else None
        key = (tensor.shape, strides, tensor.dtype)
        made = self._forms.get(key)
        if made is None:
            made = torch.empty(0, dtype=tensor.dtype, device="meta")
            made = made.new_empty_strided(tensor.shape, strides or (0,) * tensor.dim())
            self._forms[key] = made
        return made

    def _fresh(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of its own, which a function may change."""
        made = torch.empty_strided(
            tensor.shape, _strides(tensor), dtype=tensor.dtype, device="meta"
        )
        if isinstance(tensor, nn.Parameter):
            return nn.Parameter(made, requires_grad=tensor.requires_grad)
        # Not a leaf of autograd: those cannot be changed in place.
        return made.requires_grad_().clone() if tensor.requires_grad else made

    def _gradients(self, saved: list[torch.Tensor]) -> AbstractContextManager[Any]:
        """Follow them, and list what is saved for them; outside of training, do without."""
        if not self.training:
            return torch.no_grad()

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            saved.append(tensor)
            return tensor

        return torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)

    @staticmethod
    def _sort_out(
        saved: list[torch.Tensor],
        owners: dict[int, int],
        own: set[int],
        found: list[Any],
        execution: Execution,
    ) -> None:
        """What autograd keeps: arguments, results, or something else."""
        results = {_memory(leaf): place for place, leaf in enumerate(found) if _tensor(leaf)}
        kept = {_memory(tensor): tensor.untyped_storage().nbytes() for tensor in saved}
        arguments = kept.keys() & owners.keys()
        leaves = kept.keys() & results.keys() - owners.keys()
        execution.kept_arguments = frozenset(owners[key] for key in arguments)
        execution.kept_leaves = frozenset(results[key] for key in leaves)
        execution.extra = sum(
            kept[key] for key in kept.keys() - owners.keys() - results.keys() - own
        )


def _memory(tensor: torch.Tensor) -> int:
    address: int = tensor.untyped_storage()._cdata
    return address


def _tensor(value: Any) -> TypeGuard[torch.Tensor]:
    return isinstance(value, torch.Tensor)


def _tensors_of(leaf: Any) -> Iterator[torch.Tensor]:
    """The tensors of a layer that is given to a function."""
    if isinstance(leaf, nn.Module):
        for value in vars(leaf).values():
            if isinstance(value, torch.Tensor):
                yield value
            else:
                yield from _tensors_of(value)
    elif isinstance(leaf, Computing):
        for module in leaf.modules():
            yield from (t for t in module._parameters.values() if t is not None)
            yield from (t for t in module._buffers.values() if t is not None)


def _strides(tensor: torch.Tensor) -> tuple[int, ...]:
    if tensor.layout is not torch.strided:
        raise NotImplementedError(f"a tensor of layout {tensor.layout} cannot be followed")
    return tensor.stride()


class _State(NamedTuple):
    """What a call may change in a tensor, beside its data."""

    form: Any
    grad: bool
    version: int
    storage: int
    size: int


def _state(tensor: torch.Tensor) -> _State:
    storage = tensor.untyped_storage()
    return _State(
        (tensor.shape, tensor.stride(), tensor.dtype),
        tensor.requires_grad,
        tensor._version,
        storage._cdata,
        storage.nbytes(),
    )


def _lasts(leaf: Any) -> bool:
    """Whether something that a call gave can be given again: it cannot be changed or used up."""
    return type(leaf) in ATOMS or _tensor(leaf)


def name_of(function: Any) -> str:
    """Return what a function of torch is called."""
    if isinstance(function, nn.Module):
        return type(function).__name__
    found = resolve_name(function)
    if found is None:
        found = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    return str(found or function)


def _grouped_mm(mat_a: Any, mat_b: Any, *args: Any, **kwargs: Any) -> Any:
    if mat_a.dim() != 2 or mat_b.dim() != 3:
        return torch._grouped_mm(mat_a, mat_b, *args, **kwargs)
    return mat_a @ mat_b[0]  # each row by the matrix of its group, which all have one shape


_ON_META: dict[Any, Callable[..., Any]] = {torch._grouped_mm: _grouped_mm}
"""What runs for a function whose kernel for meta tensors refuses types that others take."""
