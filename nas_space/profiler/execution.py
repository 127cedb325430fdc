"""Running one function on plain meta tensors, once for each different call."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.overrides import resolve_name

from ..errors import SpaceError
from ..mutable.node import key_of
from ..nn.reparametrized import Computing
from ..nn.structure import ATOMS
from .known_values import KnownValues, RealResult
from .operator_calls import OperatorCall, OperatorRecorder
from .plain_layers import forward_with, plain_forward
from .tensors import flatten, unflatten

__all__ = ["Execution", "Executor", "name_of"]


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
    changed
        Arguments whose shape, type or need of gradients the call has changed, with what they are
        now.
    tracked
        Of these, the ones that were written to with something that autograd follows: so are now
        all views of the same memory.
    moved
        Arguments that lie in other memory after the call: in that of another argument, or, where
        it is ``None``, in memory of their own.
    written
        Arguments whose values the call has changed.
    operators, peak
        As of :class:`~.operator_calls.OperatorRecorder`.
    kept_arguments, kept_leaves, extra
        In training: the arguments and the leaves that are kept for the backward pass, and the
        bytes of what else is.
    error
        What it raised instead.
    """

    __slots__ = (
        "call", "changed", "error", "extra", "kept_arguments", "kept_leaves", "leaves", "moved",
        "operators", "origins", "peak", "same", "spec", "tracked", "views", "written",
    )  # fmt: skip

    def __init__(self, call: tuple[Callable[..., Any], Any, list[Any]]) -> None:
        self.call = call
        self.spec: Any = None
        self.leaves: list[Any] = []
        self.origins: list[int | None] = []
        self.same: list[int | None] = []
        self.views: frozenset[int] = frozenset()
        self.changed: dict[int, torch.Tensor] = {}
        self.tracked: frozenset[int] = frozenset()
        self.moved: dict[int, int | None] = {}
        self.written: frozenset[int] = frozenset()
        self.operators: tuple[OperatorCall, ...] = ()
        self.peak = 0
        self.kept_arguments: frozenset[int] = frozenset()
        self.kept_leaves: frozenset[int] = frozenset()
        self.extra = 0
        self.error: Exception | None = None

    def __str__(self) -> str:
        """The call, with the shapes of what it was given."""
        function, _, leaves = self.call
        name = repr(leaves[0]) if function in (plain_forward, forward_with) else name_of(function)
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
    """

    def __init__(self, training: bool = False) -> None:
        self.training = training
        self._interned: dict[Any, torch.Tensor] = {}
        self._known: dict[int, tuple[Any, torch.Tensor]] = {}
        self._executions: dict[Any, Execution] = {}
        self._forms: dict[Any, torch.Tensor] = {}
        self.values = KnownValues()

    # -- tensors --------------------------------------------------------------------------------

    def interned(self, tensor: torch.Tensor, value: Any = None) -> torch.Tensor:
        """Return the one meta tensor like this one, with the same values where these are known."""
        known = self.values.key(value)
        found = self._known.get(id(tensor)) if known is None else None
        if found is not None:
            return found[1]
        parameter = isinstance(tensor, nn.Parameter)
        grad = tensor.requires_grad and (parameter or self.training)
        key = (tensor.shape, _strides(tensor), tensor.dtype, grad, parameter, known)
        made = self._interned.get(key)
        if made is None:
            made = torch.empty_strided(
                tensor.shape, _strides(tensor), dtype=tensor.dtype, device="meta"
            )
            if parameter:
                made = nn.Parameter(made, requires_grad=grad)
            elif grad:
                made.requires_grad_()
            self._interned[key] = made
            self._known[id(made)] = (made, made)
            if known is not None:
                self.values.add(made, value.detach().cpu())
        return made

    def forgotten(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the one meta tensor like this one of which no values are known."""
        return tensor if self.values.of(tensor) is None else self.interned(self._fresh(tensor))

    def tracked(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the one meta tensor like this one that autograd follows."""
        return self.interned(tensor.detach().requires_grad_())

    def shadow(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the meta tensor for one that lives on, such as a parameter: it is remembered."""
        found = self._known.get(id(tensor))
        if found is None:
            found = self._known[id(tensor)] = (tensor, self.interned(tensor))
        return found[1]

    # -- functions ------------------------------------------------------------------------------

    def call(
        self,
        function: Callable[..., Any],
        spec: Any,
        leaves: list[Any],
        first: tuple[int, ...],
        owned: tuple[bool, ...],
    ) -> Execution:
        """Return what a function gives on arguments whose tensors are interned.

        Parameters
        ----------
        function
            What to call.
        spec, leaves
            Its arguments, taken apart.
        first
            For each leaf, where it first occurs: functions look whether two are one object.
        owned
            For each leaf, whether it is a tensor of the space's own.
        """
        key = self._key(function, spec, leaves, (first, owned))
        execution = None if key is None else self._executions.get(key)
        if execution is None:
            execution = self._run(function, spec, leaves, first, owned)
            if key is not None and all(map(_lasts, execution.leaves)):
                # It holds the arguments, whose identities are in the key.
                self._executions[key] = execution
        return execution

    def _key(self, function: Any, spec: Any, leaves: list[Any], more: Any) -> Any:
        parts: list[Any] = []
        tensors = False
        for leaf in leaves:
            if isinstance(leaf, torch.Tensor):
                tensors = True
                parts.append(id(leaf))
                continue
            parts.append(key_of(leaf))
        # Without a tensor, a function may be called for what it does: switching gradients on. A
        # module of a user's may do something else at each call.
        if not tensors or isinstance(function, nn.Module):
            return None
        return (function, spec, tuple(parts), more, torch.is_grad_enabled())

    def _run(
        self,
        function: Callable[..., Any],
        spec: Any,
        leaves: list[Any],
        first: tuple[int, ...],
        owned: tuple[bool, ...],
    ) -> Execution:
        execution = Execution((function, spec, leaves))
        given: list[Any] = []
        for place, leaf in enumerate(leaves):
            if not isinstance(leaf, torch.Tensor):
                given.append(leaf)
            elif first[place] < place:
                given.append(given[first[place]])
            else:
                given.append(self._fresh(leaf))
        own = {t.untyped_storage()._cdata for leaf in leaves for t in _tensors_of(leaf)}
        owners = {
            tensor.untyped_storage()._cdata: place
            for place, tensor in enumerate(given)
            if isinstance(tensor, torch.Tensor)
        }
        args, kwargs = unflatten(spec, iter(given))
        before = [_state(value) if _tensor(value) else None for value in given]
        storages = [value.untyped_storage() for value in given if _tensor(value)]  # to stay apart
        mine = own | {_memory(value) for value, its in zip(given, owned, strict=True) if its}
        if isinstance(function, nn.Module):
            mine |= {_memory(tensor) for tensor in (*function.parameters(), *function.buffers())}
        recorder = OperatorRecorder(self._without_data, frozenset(mine))
        saved: list[torch.Tensor] = []
        try:
            with self._watching(saved), recorder:
                result = function(*args, **kwargs)
                found: list[Any] = []
                execution.spec = flatten(result, found, use_up=True)
        except Exception as error:  # noqa: BLE001 - whatever torch or an operator raises
            real = self.values.call(function, spec, leaves)
            if real is None:
                execution.error = error.with_traceback(None)
            else:
                self._take(real, execution)
            return execution
        real = self.values.call(function, spec, leaves)
        execution.operators, execution.peak = tuple(recorder.calls), recorder.peak
        places = {id(value): place for place, value in enumerate(given) if _tensor(value)}
        execution.same = [places.get(id(leaf)) if _tensor(leaf) else None for leaf in found]
        execution.origins = [
            owners.get(leaf.untyped_storage()._cdata) if _tensor(leaf) else None for leaf in found
        ]
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
        self._compare(given, before, owners, execution, real)
        del storages
        again: list[Any] = []
        flatten((args, kwargs), again)
        if list(map(_identity, again)) != list(map(_identity, given)):
            execution.error = SpaceError(
                "it changes a list or dictionary that it is given, where it cannot be followed; "
                "return what it adds instead"
            )
        return execution

    def _compare(
        self,
        given: list[Any],
        before: list[_State | None],
        owners: dict[int, int],
        execution: Execution,
        real: RealResult | None,
    ) -> None:
        """What the call has changed in its arguments."""
        tracked = []
        written = []
        for place, (tensor, old) in enumerate(zip(given, before, strict=True)):
            if old is None or (new := _state(tensor)) == old:
                continue
            if new.version != old.version:
                written.append(place)
            value = real.arguments[place] if real else None
            knew = self.values.of(execution.call[2][place]) is not None
            if (
                new.form != old.form
                or (self.training and new.grad != old.grad)
                or (new.version != old.version and (knew or value is not None))
            ):
                execution.changed[place] = self.interned(tensor, value)
                if new.grad and not old.grad and new.version != old.version:
                    tracked.append(place)
            if new.storage != old.storage:
                execution.moved[place] = owners.get(new.storage)
            elif new.size != old.size:
                execution.moved[place] = None
        execution.tracked, execution.written = frozenset(tracked), frozenset(written)

    def _take(self, real: RealResult, execution: Execution) -> None:
        """Take over what only values tell, such as a number, or how many elements are chosen."""
        execution.spec = real.spec
        execution.leaves = [
            self.interned(leaf.to("meta"), leaf) if _tensor(leaf) else leaf for leaf in real.leaves
        ]
        execution.same = execution.origins = [None] * len(real.leaves)
        for place, value in enumerate(real.arguments):
            if _tensor(value) and value._version:
                execution.changed[place] = self.interned(value.to("meta"), value)
                execution.written |= {place}

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

    @contextlib.contextmanager
    def _watching(self, saved: list[torch.Tensor]) -> Iterator[None]:
        if not self.training:
            with torch.no_grad():
                yield
            return

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            saved.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            yield

    @staticmethod
    def _sort_out(
        saved: list[torch.Tensor],
        owners: dict[int, int],
        own: set[int],
        found: list[Any],
        execution: Execution,
    ) -> None:
        """What autograd keeps: arguments, results, or something else."""
        results = {
            leaf.untyped_storage()._cdata: place
            for place, leaf in enumerate(found)
            if _tensor(leaf)
        }
        arguments: set[int] = set()
        leaves: set[int] = set()
        others: dict[int, int] = {}
        for tensor in saved:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key in owners:
                arguments.add(owners[key])
            elif key in results:
                leaves.add(results[key])
            elif key not in own:
                others[key] = storage.nbytes()
        execution.kept_arguments, execution.kept_leaves = frozenset(arguments), frozenset(leaves)
        execution.extra = sum(others.values())


def _memory(tensor: torch.Tensor) -> int:
    address: int = tensor.untyped_storage()._cdata
    return address


def _tensor(value: Any) -> bool:
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


def _identity(leaf: Any) -> int | None:
    return id(leaf) if _tensor(leaf) else None


def name_of(function: Any) -> str:
    """Return what a function of torch is called."""
    if isinstance(function, nn.Module):
        return type(function).__name__
    found = resolve_name(function)
    if found is None:
        found = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    return str(found or function)
