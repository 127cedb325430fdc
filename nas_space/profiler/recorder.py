"""Following the forward of a space for all of its architectures at once.

The space's own forward runs, on its twin, with stand-ins for tensors.  Every function of
torch that it calls is called once for each different combination of plain arguments, on the
meta device, where torch itself says what comes out and what it costs.  No shape formula is
ours.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, NoReturn

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ..errors import SpaceError, UsageError
from ..mutable.factors import Factor
from ..mutable.node import key_of
from ..mutable.piecewise import NOWHERE, Piecewise, joint, merged
from ..nn.structure import Survey
from .allocations import Claim, Memory, MemoryUse, Share
from .execution import Execution, Executor
from .explore import Dead, Explorer, Refusal
from .in_place_changes import Changes
from .plain_layers import PlainLayers, computed_tensors, forward_with, plain_forward
from .tensors import VaryingNumber, VaryingObject, VaryingTensor, flatten, unflatten
from .trace import FunctionCall, ModuleCall
from .twin import Followed, Twins

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

    Attributes
    ----------
    root
        What happened.
    inputs
        The memory of the inputs.
    dead
        Whether no architecture gets through.
    """

    def __init__(self, space: nn.Module, training: bool = False) -> None:
        super().__init__(space)
        self.space = space
        self.training = training
        self.executor = Executor(training)
        self.root = self.call = ModuleCall("", type(space).__name__, self.context)
        self.memory = Memory()
        self.inputs: list[Claim] = []
        self.mode = _Mode(self)
        self._opaque: dict[int, Any] = {}
        self.changes = Changes(self.executor, self.memory)
        self.dead = False
        self._finished = False

    def record(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        values: Mapping[int, torch.Tensor] | None = None,
    ) -> None:
        """Run the space on tensors of which only shape and type are looked at.

        Parameters
        ----------
        values
            By identity of a tensor among the arguments, the values that code may look at.
        """
        twin = Twins(self.space, self.executor.shadow, self)[id(self.space)]
        twin.train(self.training)
        leaves: list[Any] = []
        spec = flatten((args, kwargs), leaves)
        for leaf in leaves:
            if isinstance(leaf, Iterator):
                raise UsageError(
                    f"a {type(leaf).__name__} can be gone through once, but the forward runs again "
                    "where architectures differ; give a list of what it gives"
                )
        known = values or {}
        given = [
            self._input(leaf, known.get(id(leaf))) if isinstance(leaf, torch.Tensor) else leaf
            for leaf in leaves
        ]
        self.inputs = self.memory.claims()

        def run() -> None:
            positional, named = unflatten(spec, iter(given))
            twin(*positional, **named)

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
        size = Factor.constant(meta.untyped_storage().nbytes())
        return self._made(Piecewise.constant(meta), (self.memory.hold(self.context, size),))

    def _made(
        self, pieces: Piecewise, shares: tuple[Share, ...], views: Any = None
    ) -> VaryingTensor:
        tensor = VaryingTensor.make(self, pieces, shares, views)
        self.changes.watch(tensor)
        return tensor

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
        what = "torch.utils.checkpoint"
        error = "what it keeps for the backward pass cannot be followed; run the space without it"
        self.fail(what, SpaceError(error))
        raise Dead

    def decided(self, choice: Any) -> Piecewise:
        self.call.decides = True
        return super().decided(choice)

    def elastic(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        # The plain layer of each combination of arguments is one more thing that differs.
        pieces = self.over_arguments(layer, partial(self._plain_layers.of, layer))
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
        return PlainLayers()

    # -- modules ----------------------------------------

    def module(self, followed: Followed, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a module of the twin."""
        plain = getattr(followed.original, "wraps", None) or type(followed.original)
        call = ModuleCall(followed.path, plain.__name__, self.context)
        call.arguments = _taken_apart((args, kwargs))
        self.call.calls.append(call)
        outer, self.call = self.call, call
        try:
            result = self._inside(followed, args, kwargs)
        finally:
            self.call = outer
        call.results = _taken_apart(result)
        return result

    def _inside(self, followed: Followed, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        leaves: list[Any] = []
        flatten((args, kwargs), leaves)
        if any(isinstance(leaf, Iterator) for leaf in leaves):
            # It cannot run again on what it has used up: that is for the code that made it.
            frame = self.frames[-1]
            frame.once += 1
            try:
                return followed.forward(*args, **kwargs)
            finally:
                frame.once -= 1
        mark = self.mark()
        try:
            return self.attempt(lambda: followed.forward(*args, **kwargs))
        except Refusal as refusal:
            what = refusal.what
        self.rollback(mark)
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

    def refuse(self, what: str) -> NoReturn:
        """Raise for what cannot be followed."""
        self.frames[-1].refused = what
        raise Refusal(what)

    # -- functions ----------------------------------------

    def apply(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function of torch for all architectures of the context."""
        with torch._C.DisableTorchFunction():
            return self._apply(function, args, kwargs)

    def _apply(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        leaves: list[Any] = []
        spec = flatten((args, kwargs), leaves)
        parts = [self._part(leaf) for leaf in leaves]
        together = joint(parts, self.context.possible)
        seen: dict[int, int] = {}
        first = tuple(
            [
                seen.setdefault(id(leaf), place) if isinstance(leaf, torch.Tensor) else place
                for place, leaf in enumerate(leaves)
            ]
        )
        owned = tuple(map(_is_owned, leaves))
        found = [
            self.executor.call(
                function,
                spec,
                [part.values[i] for part, i in zip(parts, places, strict=True)],
                first,
                owned,
            )
            for places in together.values
        ]
        executions = self._successes(function, Piecewise(together.places, found))
        self._check_same(executions, [execution.spec for execution in executions.values])
        call = FunctionCall(self.context, executions, self.memory.claims())
        form = executions.values[0]
        results = [self._result(place, call, leaves) for place in range(len(form.leaves))]
        self._note(call, leaves, results)
        self.changes.take_over(self.context, executions, leaves)
        return unflatten(form.spec, iter(results))

    def _part(self, leaf: Any) -> Piecewise:
        kind = type(leaf)
        if kind in _DIFFERING:
            if leaf.context is not self.context:
                self._check_context(leaf)
            return leaf.pieces  # type: ignore[no-any-return]
        if isinstance(leaf, torch.Tensor):
            return Piecewise.constant(self.executor.shadow(leaf))
        return Piecewise.constant(leaf)

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

    def _successes(self, function: Any, executions: Piecewise) -> Piecewise:
        """Note the calls that failed, and go on with the others."""
        if all(execution.error is None for execution in executions.values):
            return executions
        renumbered = np.full(len(executions.values) + 1, NOWHERE)
        good: list[Execution] = []
        for place, execution in enumerate(executions.values):
            if execution.error is not None:
                self.fail(str(execution), execution.error, executions.where(place))
            else:
                renumbered[place] = len(good)
                good.append(execution)
        if not good:
            raise Dead
        return Piecewise(Factor(executions.scope, renumbered[executions.places.values]), good)

    def _check_same(self, pieces: Piecewise, forms: Sequence[Any]) -> None:
        """Fork where something is not of the same form everywhere."""
        groups: dict[Any, list[int]] = {}
        for place, form in enumerate(forms):
            groups.setdefault(form, []).append(place)
        if len(groups) > 1:
            places = pieces.places.values
            self.fork([Factor(pieces.scope, np.isin(places, own)) for own in groups.values()])

    def _result(self, place: int, call: FunctionCall, leaves: list[Any]) -> Any:
        """Return one leaf of the results, from all executions."""
        executions = call.executions
        values = [execution.leaves[place] for execution in executions.values]
        pieces = Piecewise(executions.places, values)
        tensors = [isinstance(value, torch.Tensor) for value in values]
        if all(tensors):
            given = {execution.same[place] for execution in executions.values}
            if len(given) == 1 and (argument := given.pop()) is not None:
                return leaves[argument]  # changed in place, or passed through
            origins = [execution.origins[place] for execution in executions.values]
            shares = self.memory.shares(self.context, executions, values, origins, leaves)
            views = _views(place, executions, leaves)
            return self._made(pieces.distinct(), shares, views)
        if any(tensors):
            self._check_same(pieces, tensors)
        return self._plain_or_number(pieces)

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
        parts = [self._part(operand) for operand in operands]
        together = joint(parts, self.context.possible)
        values: list[Any] = []
        renumbered: list[int] = []
        for place, combination in enumerate(together.values):
            plain = [part.values[i] for part, i in zip(parts, combination, strict=True)]
            try:
                value = function(*plain)
            except ArithmeticError as error:
                self.fail(f"{function.__name__}{tuple(plain)}", error, together.where(place))
                renumbered.append(NOWHERE)
                continue
            renumbered.append(len(values))
            values.append(value)
        if not values:
            raise Dead
        places = np.array([*renumbered, NOWHERE])[together.places.values]
        return self._plain_or_number(Piecewise(Factor(together.scope, places), values))

    # -- memory ----------------------------------------

    def _note(self, call: FunctionCall, leaves: list[Any], results: list[Any]) -> None:
        """Add a call to the record, unless it only asked for something."""
        if not any(type(result) is VaryingTensor for result in results) and not any(
            execution.operators for execution in call.executions.values
        ):
            return
        for into, found in ((call.arguments, leaves), (call.results, results)):
            for place, leaf in enumerate(found):
                if type(leaf) is VaryingTensor:
                    into.extend(MemoryUse(place, share.claim) for share in leaf.shares)
        self.call.calls.append(call)

    # -- merging ----------------------------------------

    def merge(self, outcomes: Sequence[tuple[Factor, Any]]) -> Any:
        apart: list[tuple[Any, list[Any]]] = [
            _taken_apart(value, pieces=False) for _, value in outcomes
        ]
        forms = [(spec, *map(_form, leaves)) for spec, leaves in apart]
        if len(set(forms)) > 1:
            places = [(here, Piecewise.constant(place)) for place, (here, _) in enumerate(outcomes)]
            which = merged(places, key_of)
            self._check_same(which, [forms[place] for place in which.values])
        conditions = [condition for condition, _ in outcomes]
        columns = zip(*(leaves for _, leaves in apart), strict=True)
        leaves = [self._merged(conditions, column) for column in columns]
        return unflatten(apart[0][0], iter(leaves))

    def narrowed(self, value: Any, condition: Factor) -> Any:
        leaves: list[Any] = []
        spec = flatten(value, leaves)
        with self.under(condition):
            narrow = [
                self._narrowed(leaf, condition) if type(leaf) is VaryingTensor else leaf
                for leaf in leaves
            ]
        return unflatten(spec, iter(narrow))

    def _narrowed(self, tensor: VaryingTensor, condition: Factor) -> VaryingTensor:
        shares = tuple(share.where(condition) for share in tensor.shares)
        made = self._made(tensor.pieces, shares, tensor.views)
        made.is_also(tensor, condition)
        return made

    def _merged(self, conditions: list[Factor], column: tuple[Any, ...]) -> Any:
        first = column[0]
        passed_on = type(first) not in _DIFFERING or first.context.reaches_into(self.context)
        if passed_on and all(leaf is first for leaf in column):
            return first
        if isinstance(first, torch.Tensor):
            parts = zip(conditions, map(self._inner, column), strict=True)
            shares = [
                share.where(condition)
                for condition, leaf in zip(conditions, column, strict=True)
                if type(leaf) is VaryingTensor
                for share in leaf.shares
            ]
            made = self._made(merged(list(parts)), tuple(shares))
            for condition, leaf in zip(conditions, column, strict=True):
                if type(leaf) is VaryingTensor:
                    made.is_also(leaf, condition)
            return made
        if type(first) is VaryingNumber or type(first) in (int, float):
            parts = zip(conditions, map(self._inner, column), strict=True)
            return self._number(merged(list(parts), key_of))
        return first

    def _inner(self, leaf: Any) -> Piecewise:
        """What a branch returned, whose context is left now."""
        return leaf.pieces if type(leaf) in (VaryingTensor, VaryingNumber) else self._part(leaf)


class _Mode(TorchFunctionMode):
    """Hands every function of torch to a recorder."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.recorder.apply(func, args, kwargs or {})


_DIFFERING = frozenset({VaryingTensor, VaryingNumber, VaryingObject})


def _views(place: int, executions: Piecewise, leaves: list[Any]) -> Any:
    """The tensors that autograd takes a result for a view together with, if for one at all."""
    for execution in executions.values:
        origin = execution.origins[place]
        if origin is not None and place in execution.views:
            return getattr(leaves[origin], "views", None)
    return None


def _is_owned(leaf: Any) -> bool:
    """Whether a tensor is one of the space's own, such as a weight, or lies in its memory."""
    if type(leaf) is VaryingTensor:
        return not leaf.shares
    return isinstance(leaf, torch.Tensor)


def _form(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        return "tensor"
    if type(leaf) is VaryingNumber or type(leaf) in (int, float):
        return "number"
    return key_of(leaf)


def _taken_apart(value: Any, pieces: bool = True) -> tuple[Any, list[Any]]:
    leaves: list[Any] = []
    spec = flatten(value, leaves)
    if pieces:  # without the stand-ins, which would keep memory alive
        differing = (VaryingTensor, VaryingNumber)
        leaves = [leaf.pieces if type(leaf) in differing else leaf for leaf in leaves]
    return spec, leaves
