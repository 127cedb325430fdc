"""Following the forward of a space for all of its architectures at once.

The space's own forward runs, on its twin, with stand-ins for tensors.  Every function of
torch that it calls is called once for each different combination of plain arguments, on the
meta device, where torch itself says what comes out and what it costs.  No shape formula is
ours.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ..errors import SpaceError, UsageError
from ..mutable.factors import Factor
from ..mutable.node import key_of
from ..mutable.piecewise import Piecewise, joint, merged
from ..nn.structure import Survey
from .execution import Arguments, CallForm, Execution, Executor, told_by
from .explore import Dead, Explorer, Refusal
from .meta_copy import Followed, Twins
from .tensors import (
    STAND_INS,
    VaryingNumber,
    VaryingObject,
    VaryingTensor,
    flatten,
    memory_of,
    unflatten,
)
from .trace import Apart, FunctionCall, ModuleCall

if TYPE_CHECKING:  # entered by those forwards alone that have to do with them
    from .allocations import MemoryWatch
    from .in_place_changes import Changes
    from .plain_layers import PlainLayers

__all__ = ["Recorder"]


class Recorder(Explorer):
    """Follows a space.

    Parameters
    ----------
    space
        Any module, usually a space.
    training
        Whether it is followed in training, with what autograd keeps; else in evaluation,
        without gradients.
    watch
        Is told which tensors lie in which memory; nobody by default.
    executor
        What has followed the space before, in the same mode; it need not run again what it knows.

    Attributes
    ----------
    root
        What happened.
    differs
        Whether a function was called in different ways.
    dead
        Whether no architecture gets through.
    """

    def __init__(
        self,
        space: nn.Module,
        training: bool = False,
        watch: MemoryWatch | None = None,
        executor: Executor | None = None,
    ) -> None:
        super().__init__(space)
        self.space = space
        self.training = training
        self.watch = watch
        self.executor = executor or Executor(training)
        self._shadows: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.root = self.call = ModuleCall("", type(space).__name__, self.context)
        self.mode = _Mode(self)
        self.differs = self.dead = False
        self._opaque: dict[int, Any] = {}
        self._numbers = itertools.count()
        self._finished = False

    def record(self, given: Any, values: Mapping[int, torch.Tensor]) -> None:
        """Run the space on tensors of which only shape and type are looked at.

        Parameters
        ----------
        given, values
            As of :class:`~.profile.Inputs`.
        """
        twins = Twins(self.space, self.shadow, self.module)
        twins.train(self.training)
        leaves: list[Any] = []
        spec = flatten(given, leaves)
        for leaf in leaves:
            if isinstance(leaf, Iterator):
                raise UsageError(
                    f"a {type(leaf).__name__} can be gone through once, but the forward runs again "
                    "where architectures differ; give a list of what it gives"
                )
        inputs = [
            self._input(leaf, values.get(id(leaf))) if isinstance(leaf, torch.Tensor) else leaf
            for leaf in leaves
        ]

        def run() -> None:
            args, kwargs = unflatten(spec, iter(inputs))
            twins[id(self.space)](*args, **kwargs)

        try:
            with self, torch.set_grad_enabled(self.training), self.mode:
                self.attempt(run)
        except Dead:
            self.dead = True
        finally:
            self._finished = True
        # The space itself; where it runs once for each way to run it, all of these calls.
        calls = [call for call in self.root.calls if isinstance(call, ModuleCall)]
        self.root = calls[0] if len(calls) == 1 else self.root

    def _input(self, tensor: torch.Tensor, value: torch.Tensor | None) -> VaryingTensor:
        meta = self.executor.interned(tensor.detach(), value)
        made = self._made(Piecewise.constant(meta), self._memory([None], ()))
        if self.watch is not None:
            self.watch.given(made, meta.untyped_storage().nbytes())
        return made

    def shadow(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the meta tensor for one that lives on, such as a parameter: it is remembered."""
        found = self._shadows.get(id(tensor))
        if found is None:
            found = self._shadows[id(tensor)] = tensor, self.executor.interned(tensor)
        return found[1]

    def _made(self, pieces: Piecewise, memory: frozenset[int], views: Any = None) -> VaryingTensor:
        tensor = VaryingTensor.make(self, pieces, memory, views)
        if self.executor.values is not None:
            self.changes.notice(tensor)
        return tensor

    def _memory(self, origins: Iterable[int | None], leaves: Sequence[Any]) -> frozenset[int]:
        """Number the memory of a result: its own, or that of arguments that it is a view of."""
        found: frozenset[int] = frozenset()
        for origin in set(origins):
            lies_in = {next(self._numbers)} if origin is None else memory_of(leaves[origin])
            found = found | lies_in
        return found

    @cached_property
    def changes(self) -> Changes:
        """What takes over changes in place; made with the first that matters."""
        from .in_place_changes import Changes

        return Changes(self.executor, self.watch, self._memory)

    # -- what the explorer asks for ----------------------------------------

    @property
    def path(self) -> str:
        return self.call.path

    def mark(self) -> Any:
        return (len(self.failures), len(self.call.calls))

    def rollback(self, mark: Any) -> None:
        del self.failures[mark[0] :], self.call.calls[mark[1] :]

    def read(self, expression: Any) -> Any:
        pieces = self.pieces(expression)
        present = [pieces.values[place] for place in self.present(pieces)]
        if len(present) > 1 and all(type(value) in (int, float) for value in present):
            return self._number(pieces)
        return self.plain(pieces)

    def for_recomputation(self, *, reentrant: bool) -> Any:
        if not self.training:
            return self
        error = "what it keeps for the backward pass cannot be followed; run the space without it"
        self.fail("torch.utils.checkpoint", SpaceError(error))
        raise Dead

    def decided(self, choice: Any) -> Piecewise:
        self.call.decides = True
        return super().decided(choice)

    def elastic(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        from .plain_layers import computed_tensors, forward_with, plain_forward

        # The plain layer of each combination of arguments is one more thing that differs.
        pieces = self.over_arguments(layer, lambda chosen: self._plain_layers.of(layer, chosen))
        plain = VaryingObject(self, pieces.distinct())
        reparametrization = layer.reparametrization
        if reparametrization is None:
            return self.apply(plain_forward, (plain, *args), kwargs)
        computed = self.apply(computed_tensors, (plain,), {})
        # As in a network, where hooks leave it with the layer until they compute it again.
        hooks = reparametrization.hooks
        layer.__dict__["_computed"] = {n: t for n, t in computed.items() if n in hooks}
        return self.apply(forward_with, (plain, computed, *args), kwargs)

    @cached_property
    def _plain_layers(self) -> PlainLayers:
        """Made when the first layer runs as the plain layers that it stands for."""
        from .plain_layers import PlainLayers

        return PlainLayers(self.executor.plain_layers)

    # -- modules ----------------------------------------

    def module(self, followed: Followed, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a module of the twin."""
        plain = getattr(followed.original, "wraps", None) or type(followed.original)
        call = ModuleCall(followed.path, plain.__name__, self.context)
        call.arguments = Apart.of((args, kwargs))
        self.call.calls.append(call)
        outer, self.call = self.call, call
        try:
            result = self._inside(followed, args, kwargs)
        finally:
            self.call = outer
        call.results = Apart.of(result)
        return result

    def _inside(self, followed: Followed, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if any(isinstance(leaf, Iterator) for leaf in self.call.arguments.leaves):
            # It cannot run again on what it has used up: that is for the code that made it.
            frame = self.frames[-1]
            frame.once += 1
            try:
                return followed.forward(*args, **kwargs)
            finally:
                frame.once -= 1
        try:
            return self.attempt(lambda: followed.forward(*args, **kwargs))
        except Refusal as refusal:
            what = refusal.what
        if Survey()(followed.original) is not None:
            self.fail(
                what,
                SpaceError(
                    "it takes tensors past torch's functions in Python, where they cannot be "
                    "followed; call it in a module of its own that holds no choices"
                ),
            )
            raise Dead
        return self._whole(followed.original, args, kwargs)

    def _whole(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a module without choices as if it were one function."""
        found = self._opaque.get(id(module))
        if found is None:
            found = copy.deepcopy(module).to("meta").train(self.training)
            self._opaque[id(module)] = found
        return self.apply(found, args, kwargs)

    # -- functions ----------------------------------------

    def apply(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function of torch for all architectures of the context."""
        with torch._C.DisableTorchFunction():
            return self._apply(function, args, kwargs)

    def _apply(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        leaves: list[Any] = []
        spec = flatten((args, kwargs), leaves)
        places: dict[int, int] = {}
        first, owned = [], []
        for place, leaf in enumerate(leaves):
            tensor = isinstance(leaf, torch.Tensor)
            first.append(places.setdefault(id(leaf), place) if tensor else place)
            owned.append(tensor and not memory_of(leaf))
        form = CallForm(function, spec, tuple(first), tuple(owned))
        ways = self._ways(leaves)
        found = [self.executor.call(form, arguments) for arguments in ways.values]
        executions = Piecewise(ways.places, found)
        if any(map(_ERROR, found)):
            executions = self.each(executions, _succeeded, Exception, str)
        if len(executions.values) > 1:
            self.differs = True
            self._check_same(executions, list(map(_SPEC, executions.values)))
        call = FunctionCall(self.context, executions)
        held = None if self.watch is None else self.watch.claims()
        one: Execution = executions.values[0]
        results = [self._result(place, executions, leaves) for place in range(len(one.leaves))]
        # What only asked for something is no part of the record.
        if VaryingTensor in map(type, results) or any(map(_OPERATORS, executions.values)):
            self.call.calls.append(call)
            if self.watch is not None and held is not None:
                self.watch.called(call, held, leaves, results)
        effects = filter(None, map(_EFFECTS, executions.values))
        # That values were written matters to those alone that are known.
        if self.executor.values is not None or any(each.changed or each.moved for each in effects):
            self.changes.take_over(self.context, executions, leaves)
        return unflatten(one.spec, iter(results))

    def _ways(self, leaves: list[Any]) -> Piecewise:
        """Return the different :class:`~.execution.Arguments` that some leaves are together."""
        plain: list[Any] = []
        varying: dict[int, Piecewise] = {}
        for place, leaf in enumerate(leaves):
            if type(leaf) in STAND_INS:
                if leaf.context is not self.context:
                    self._check_context(leaf)
                if leaf.pieces.scope:
                    varying[place] = leaf.pieces
                plain.append(leaf.pieces.values[0])
            else:
                tensor = isinstance(leaf, torch.Tensor)
                plain.append(self.shadow(leaf) if tensor else leaf)
        keys = list(map(told_by, plain))
        if not varying:
            return Piecewise.constant(Arguments(plain, tuple(keys)))
        together = joint(list(varying.values()), self.context.possible)
        # There are many more combinations than different things, so these are told apart first.
        different = [list(map(told_by, pieces.values)) for pieces in varying.values()]
        ways = []
        for codes in together.values:
            for (place, pieces), told, code in zip(varying.items(), different, codes, strict=True):
                plain[place], keys[place] = pieces.values[code], told[code]
            ways.append(Arguments(list(plain), tuple(keys)))
        return Piecewise(together.places, ways)

    def _check_context(self, leaf: Any) -> None:
        if (
            self._finished
            or leaf.recorder is not self
            or not leaf.context.reaches_into(self.context)
        ):
            raise SpaceError(
                "a tensor is used that was made in a branch of a choice, or in another forward, "
                "and kept; modules must pass tensors on by returning them"
            )

    def _check_same(self, pieces: Piecewise, forms: Sequence[Any]) -> None:
        """Fork where something is not of the same form everywhere."""
        groups: dict[Any, list[int]] = {}
        for place, form in enumerate(forms):
            groups.setdefault(form, []).append(place)
        if len(groups) > 1:
            places = pieces.places.values
            self.fork([Factor(pieces.scope, np.isin(places, own)) for own in groups.values()])

    def _result(self, place: int, executions: Piecewise, leaves: list[Any]) -> Any:
        """Return one leaf of the results, from all executions."""
        values = [execution.leaves[place] for execution in executions.values]
        pieces = Piecewise(executions.places, values)
        tensors = [isinstance(value, torch.Tensor) for value in values]
        if True not in tensors:
            return self._plain_or_number(pieces)
        if False in tensors:
            self._check_same(pieces, tensors)
        given = {execution.same[place] for execution in executions.values}
        if len(given) == 1 and (argument := given.pop()) is not None:
            return leaves[argument]  # changed in place, or passed through
        origins = [execution.origins[place] for execution in executions.values]
        views = _views(place, executions, leaves)
        made = self._made(pieces.distinct(), self._memory(origins, leaves), views)
        if self.watch is not None:
            self.watch.placed(made, self.context, executions, values, origins, leaves)
        return made

    def _plain_or_number(self, pieces: Piecewise) -> Any:
        keys = [key_of(value) for value in pieces.values]
        if len(set(keys)) == 1:
            return pieces.values[0]
        if all(type(value) in (int, float) for value in pieces.values):
            return self._number(pieces.distinct())
        self._check_same(pieces, keys)
        raise AssertionError("different keys have forked")

    def _number(self, pieces: Piecewise) -> Any:
        if len(pieces.values) == 1:
            return pieces.values[0]
        frame = self.frames[-1]
        if frame.lazy is None:
            frame.lazy = pieces
        return VaryingNumber(self, pieces)

    def compute(self, function: Callable[..., Any], operands: tuple[Any, ...]) -> Any:
        """Compute with numbers of which some differ between architectures."""
        found = self.each(
            self._ways(list(operands)),
            lambda arguments: function(*arguments.leaves),
            ArithmeticError,
            lambda arguments: f"{function.__name__}{tuple(arguments.leaves)}",
        )
        return self._plain_or_number(found)

    # -- merging ----------------------------------------

    def merge(self, outcomes: Sequence[tuple[Factor, Any]]) -> Any:
        columns: list[list[Any]] = []
        forms: list[Any] = []
        for _, value in outcomes:
            leaves: list[Any] = []
            spec = flatten(value, leaves)
            columns.append(leaves)
            forms.append((spec, *map(_form, leaves)))
        if len(set(forms)) > 1:
            places = [(here, Piecewise.constant(place)) for place, (here, _) in enumerate(outcomes)]
            which = merged(places, key_of)
            self._check_same(which, [forms[place] for place in which.values])
        conditions = [condition for condition, _ in outcomes]
        found = [
            self._merged(list(zip(conditions, column, strict=True)))
            for column in zip(*columns, strict=True)
        ]
        return unflatten(forms[0][0], iter(found))

    def narrowed(self, value: Any, condition: Factor) -> Any:
        leaves: list[Any] = []
        spec = flatten(value, leaves)
        with self.under(condition):
            narrow = [
                self._joined(leaf.pieces, [(condition, leaf)], leaf.views)
                if type(leaf) is VaryingTensor
                else leaf
                for leaf in leaves
            ]
        return unflatten(spec, iter(narrow))

    def _merged(self, parts: list[tuple[Factor, Any]]) -> Any:
        first = parts[0][1]
        passed_on = type(first) not in STAND_INS or first.context.reaches_into(self.context)
        if passed_on and all(leaf is first for _, leaf in parts):
            return first
        pieces = [(here, self._inner(leaf)) for here, leaf in parts]
        if isinstance(first, torch.Tensor):
            return self._joined(merged(pieces), parts)
        if type(first) is VaryingNumber or type(first) in (int, float):
            return self._number(merged(pieces, key_of))
        return first

    def _inner(self, leaf: Any) -> Piecewise:
        """What a branch returned, whose context is left now."""
        if type(leaf) in STAND_INS:
            return leaf.pieces  # type: ignore[no-any-return]
        tensor = isinstance(leaf, torch.Tensor)
        return Piecewise.constant(self.shadow(leaf) if tensor else leaf)

    def _joined(
        self, pieces: Piecewise, parts: list[tuple[Factor, Any]], views: Any = None
    ) -> VaryingTensor:
        """Return a tensor that is another one under each of some conditions."""
        made = self._made(pieces, frozenset().union(*[memory_of(leaf) for _, leaf in parts]), views)
        for condition, leaf in parts:
            if type(leaf) is VaryingTensor:
                made.is_also(leaf, condition)
        if self.watch is not None:
            self.watch.joined(made, parts)
        return made


class _Mode(TorchFunctionMode):
    """Hands every function of torch to a recorder."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.recorder.apply(func, args, kwargs or {})


_ERROR, _SPEC, _OPERATORS, _EFFECTS = map(attrgetter, ("error", "spec", "operators", "effects"))


def _views(place: int, executions: Piecewise, leaves: list[Any]) -> Any:
    """The tensors that autograd takes a result for a view together with, if for one at all."""
    for execution in executions.values:
        origin = execution.origins[place]
        if origin is not None and place in execution.views:
            return getattr(leaves[origin], "views", None)
    return None


def _succeeded(execution: Execution) -> Execution:
    if execution.error is not None:
        raise execution.error
    return execution


def _form(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        return "tensor"
    if type(leaf) is VaryingNumber or type(leaf) in (int, float):
        return "number"
    return key_of(leaf)
