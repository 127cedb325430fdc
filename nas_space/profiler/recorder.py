"""Following the forward of a space for all of its architectures at once.

The space's own forward runs, on its twin, with stand-ins for tensors.  Every function of
torch that it calls is called once for each different combination of plain arguments, on the
meta device, where torch itself says what comes out and what it costs.  No shape formula is
ours.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode, resolve_name

from ..errors import SpaceError, UsageError
from ..mutable.node import key_of
from ..nn.parametrized import evaluated
from ..nn.structure import Survey
from .cases import NONE, Array, Cases, Guard, Joint, Labels, joint, ordered, selected, sizes, spread
from .evaluation import Evaluator, Outcome
from .explore import Dead, Explorer, Refusal
from .tensors import CaseNumber, CaseObject, CaseTensor, flatten, unflatten
from .trace import Call, Claim, Held, Share, Step, Use
from .twin import Followed, Twins


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
        super().__init__()
        self.space = space
        self.training = training
        self.evaluator = Evaluator(training)
        self.root = self.call = Call("", type(space).__name__, self.context)
        self.live: dict[int, Claim] = {}
        self.inputs: list[Claim] = []
        self.mode = _Mode(self)
        self._plain_layers: dict[tuple[int, int], nn.Module] = {}
        self._stand_ins: dict[Any, nn.Module] = {}
        self._opaque: dict[int, Any] = {}
        self.dead = False
        self._finished = False

    def record(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Runs the space on tensors of which only shape and type are looked at."""
        twin = Twins(self, self.space)[id(self.space)]
        twin.train(self.training)
        leaves: list[Any] = []
        spec = flatten((args, kwargs), leaves)
        for leaf in leaves:
            if isinstance(leaf, Iterator):
                raise UsageError(
                    f"a {type(leaf).__name__} can be gone through once, but the forward runs again "
                    "where architectures differ; give a list of what it gives"
                )
        given = [self._input(leaf) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        self.inputs = list(self.live.values())

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
        calls = [step for step in self.root.steps if isinstance(step, Call)]
        self.root = calls[0] if len(calls) == 1 else self.root

    def _input(self, tensor: torch.Tensor) -> CaseTensor:
        meta = self.evaluator.interned(tensor.detach())
        return CaseTensor.make(self, Cases.constant(meta), (self._hold((), [meta], _ONLY),))

    # -- what the explorer asks for ----------------------------------------

    @property
    def path(self) -> str:
        return self.call.path

    def mark(self) -> Any:
        return (len(self.failures), len(self.call.steps))

    def rollback(self, mark: Any) -> None:
        del self.failures[mark[0] :], self.call.steps[mark[1] :]

    def read(self, expression: Any) -> Any:
        cases = self.cases(expression)
        present = [cases.values[place] for place in cases.present(self.context)]
        if len(present) > 1 and all(type(value) in (int, float) for value in present):
            return self._number(cases)
        return self.plain(cases)

    def for_recomputation(self, *, reentrant: bool) -> Any:
        if not self.training:
            return self
        what = "torch.utils.checkpoint"
        error = "what it keeps for the backward pass cannot be followed; run the space without it"
        self.fail(what, SpaceError(error))
        raise Dead

    def mix(self, choice: Any, run: Callable[[Any], Any]) -> Any:
        self.call.decides = True
        if self.frames[-1].once:  # the first branch would use up what the others want
            return run(self.plain(self.cases(choice)))
        return super().mix(choice, run)

    def elastic(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        # The plain layer of each combination of arguments is one more thing that differs.
        def stand_in(place: int, chosen: Any) -> nn.Module:
            known = self._plain_layers.get((id(layer), place))
            if known is None:
                known = self._plain_layers[id(layer), place] = self._stand_in(layer, chosen)
            return known

        plain = CaseObject(self, self.over_arguments(layer, stand_in).map(_itself))
        reparametrization = layer.reparametrization
        if reparametrization is None:
            return self.apply(plain_forward, (plain, *args), kwargs)
        computed = self.apply(_computed, (plain,), {})
        # As in a network, where hooks leave it with the layer until they compute it again.
        hooks = reparametrization.hooks
        layer.__dict__["_computed"] = {n: t for n, t in computed.items() if n in hooks}
        return self.apply(_forward_with, (plain, computed, *args), kwargs)

    def _stand_in(self, layer: Any, chosen: Any) -> nn.Module:
        plain = tuple(evaluated(argument, chosen) for argument in layer.args.values())
        tensors = tuple(name for name, _ in (*layer.named_parameters(), *layer.named_buffers()))
        alone = None if layer.reparametrization is None else id(layer)
        key = (layer.plain, tuple(layer.args), key_of(plain), tensors, alone)
        found: nn.Module | None = self._stand_ins.get(key)
        if found is None:
            with torch._C.DisableTorchFunction():  # its weights are there before the forward
                found = self._stand_ins[key] = layer.shaped(layer.blueprint.form_by_size(chosen))
            computing = vars(found).get("_computing")
            for module in (
                *(found, *vars(found).values()),
                *(() if computing is None else computing.modules()),
            ):
                if isinstance(module, nn.Module):
                    vars(module).pop("forward", None)  # that of the twin, which is followed
        return found

    # -- modules ----------------------------------------

    def module(self, followed: Followed, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs a module of the twin."""
        plain = getattr(followed.original, "wraps", None) or type(followed.original)
        call = Call(followed.path, plain.__name__, self.context)
        call.arguments = _taken_apart((args, kwargs))
        self.call.steps.append(call)
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
        """Runs a module without choices as if it were one function."""
        found = self._opaque.get(id(module))
        if found is None:
            found = copy.deepcopy(module).to("meta").train(self.training)
            self._opaque[id(module)] = found
        return self.apply(found, args, kwargs)

    def refuse(self, what: str) -> NoReturn:
        """Raises for what cannot be followed."""
        self.frames[-1].refused = what
        raise Refusal(what)

    # -- functions ----------------------------------------

    def apply(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls a function of torch for all architectures of the context."""
        with torch._C.DisableTorchFunction():
            return self._apply(function, args, kwargs)

    def _apply(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        leaves: list[Any] = []
        spec = flatten((args, kwargs), leaves)
        parts = [self._part(leaf) for leaf in leaves]
        together = joint(parts, self.context)
        seen: dict[int, int] = {}
        first = tuple(
            [
                seen.setdefault(id(leaf), place) if isinstance(leaf, torch.Tensor) else place
                for place, leaf in enumerate(leaves)
            ]
        )
        outcomes = [
            self.evaluator.call(
                function,
                spec,
                [part.values[i] for part, i in zip(parts, places, strict=True)],
                first,
            )
            for places in together.combinations
        ]
        labels, ids, outcomes = self._successes(function, together, outcomes)
        self._check_same(labels, ids, [outcome.spec for outcome in outcomes])
        step = Step(self.context, labels, ids, outcomes, list(self.live.values()))
        results = [self._result(place, step, leaves) for place in range(len(outcomes[0].leaves))]
        self._note(step, leaves, results)
        self._change(step, leaves)
        return unflatten(outcomes[0].spec, iter(results))

    def _part(self, leaf: Any) -> Cases:
        kind = type(leaf)
        if kind in _DIFFERING:
            if leaf.context is not self.context:
                self._check_context(leaf)
            return leaf.cases  # type: ignore[no-any-return]
        if isinstance(leaf, torch.Tensor):
            return Cases.constant(self.evaluator.shadow(leaf))
        return Cases.constant(leaf)

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

    def _successes(
        self, function: Any, together: Joint, outcomes: list[Outcome]
    ) -> tuple[Labels, Array, list[Outcome]]:
        """Notes the calls that failed; goes on with the others."""
        labels, ids, _ = together
        if all(outcome.error is None for outcome in outcomes):
            return labels, ids, outcomes
        name = name_of(function)
        places = np.full(len(outcomes) + 1, NONE)
        good: list[Outcome] = []
        for place, outcome in enumerate(outcomes):
            if outcome.error is not None:
                self.fail(_shown(name, outcome), outcome.error, Guard(labels, ids == place))
            else:
                places[place] = len(good)
                good.append(outcome)
        if not good:
            raise Dead
        return labels, places[ids], good

    def _check_same(self, labels: Labels, ids: Array, forms: Sequence[Any]) -> None:
        """Forks where something is not of the same form everywhere."""
        groups: dict[Any, list[int]] = {}
        for place, form in enumerate(forms):
            groups.setdefault(form, []).append(place)
        if len(groups) > 1:
            self.fork([Guard(labels, np.isin(ids, places)) for places in groups.values()])

    def _result(self, place: int, step: Step, leaves: list[Any]) -> Any:
        """One leaf of the results, from all outcomes."""
        values = [outcome.leaves[place] for outcome in step.outcomes]
        tensors = [isinstance(value, torch.Tensor) for value in values]
        if all(tensors):
            given = {outcome.same[place] for outcome in step.outcomes}
            if len(given) == 1 and (argument := given.pop()) is not None:
                return leaves[argument]  # changed in place, or passed through
            cases = Cases(step.labels, step.ids, values).map(_itself)
            origins = [outcome.origins[place] for outcome in step.outcomes]
            views = self._views(place, step, leaves)
            return CaseTensor.make(self, cases, self._memory(origins, values, step, leaves), views)
        if any(tensors):
            self._check_same(step.labels, step.ids, tensors)
        return self._plain_or_number(Cases(step.labels, step.ids, values))

    def _plain_or_number(self, cases: Cases) -> Any:
        keys = [key_of(value) for value in cases.values]
        if len(set(keys)) == 1:
            return cases.values[0]
        if all(type(value) in (int, float) for value in cases.values):
            return self._number(cases.map(_itself))
        self._check_same(cases.labels, cases.ids, keys)
        raise AssertionError("different keys have forked")

    def _number(self, cases: Cases) -> Any:
        if len(cases.values) == 1:
            return cases.values[0]
        frame = self.frames[-1]
        if frame.lazy is None:
            frame.lazy = cases
        return CaseNumber(self, cases)

    def compute(self, function: Callable[..., Any], operands: tuple[Any, ...]) -> Any:
        """Arithmetic on numbers of which some differ between architectures."""
        parts = [self._part(operand) for operand in operands]
        labels, ids, combinations = joint(parts, self.context)
        values: list[Any] = []
        places: list[int] = []
        for place, combination in enumerate(combinations):
            plain = [part.values[i] for part, i in zip(parts, combination, strict=True)]
            try:
                value = function(*plain)
            except ArithmeticError as error:
                self.fail(f"{function.__name__}{tuple(plain)}", error, Guard(labels, ids == place))
                places.append(NONE)
                continue
            places.append(len(values))
            values.append(value)
        if not values:
            raise Dead
        return self._plain_or_number(Cases(labels, np.array([*places, NONE])[ids], values))

    # -- memory ----------------------------------------

    def _hold(self, labels: Labels, tensors: Sequence[torch.Tensor | None], ids: Array) -> Share:
        extents = [0 if t is None else t.untyped_storage().nbytes() for t in tensors]
        table = np.array([*extents, 0], dtype=np.int64)[ids]
        return Share(self.live, Claim(Held(self.context, labels, table), ()))

    def _memory(
        self,
        origins: list[int | None],
        tensors: Sequence[torch.Tensor | None],
        step: Step,
        leaves: list[Any],
    ) -> tuple[Share, ...]:
        """Where something lies: in memory of its own, or in that of an argument it is a view of."""
        shares: list[Share] = []
        different = dict.fromkeys(origins)
        for origin in different:
            if origin is None:
                own = [
                    tensor if its is None else None
                    for its, tensor in zip(origins, tensors, strict=True)
                ]
                shares.append(self._hold(step.labels, own, step.ids))
            elif type(leaves[origin]) is CaseTensor:
                its = np.array([each == origin for each in origins] + [False])
                guards = (Guard(step.labels, its[step.ids]),) if len(different) > 1 else ()
                shares.extend(share.where(guards) for share in leaves[origin].shares)
        return tuple(shares)

    @staticmethod
    def _views(place: int, step: Step, leaves: list[Any]) -> Any:
        """The tensors that autograd takes a result for a view together with, if for one at all."""
        for outcome in step.outcomes:
            origin = outcome.origins[place]
            if origin is not None and place in outcome.views:
                return getattr(leaves[origin], "views", None)
        return None

    def _note(self, step: Step, leaves: list[Any], results: list[Any]) -> None:
        """Adds a call to the record, unless it only asked for something."""
        if not any(type(result) is CaseTensor for result in results) and not any(
            outcome.flops or outcome.unknown for outcome in step.outcomes
        ):
            return
        for into, found in ((step.arguments, leaves), (step.results, results)):
            for place, leaf in enumerate(found):
                if type(leaf) is CaseTensor:
                    into.extend(Use(place, share.claim) for share in leaf.shares)
        self.call.steps.append(step)

    def _change(self, step: Step, leaves: list[Any]) -> None:
        """Takes over what calls have changed in their arguments, such as a shape."""
        for place in dict.fromkeys(p for o in step.outcomes for p in (*o.changed, *o.moved)):
            tensor = leaves[place]
            if type(tensor) is not CaseTensor:
                raise SpaceError(
                    "the forward changes the shape, the type or the need of gradients of a tensor "
                    "that the space holds, so the next call would find it changed; work on a copy"
                )
            values = [
                outcome.changed.get(place, outcome.call[2][place]) for outcome in step.outcomes
            ]
            self._update(tensor, Cases(step.labels, step.ids, values).map(_itself))
            if any(place in outcome.moved for outcome in step.outcomes):
                self._move(tensor, place, step, leaves)
            tracked = np.array([place in outcome.tracked for outcome in step.outcomes] + [False])
            if tracked.any():
                guard = Guard(step.labels, tracked[step.ids])
                for view in [view() for view in tensor.views]:
                    if view is not None and view is not tensor:
                        self._update(view, view.cases.map(self.evaluator.tracked), guard)

    def _update(self, tensor: CaseTensor, new: Cases, *guards: Guard) -> None:
        """Makes a tensor something else, for the architectures of the context, or some of them."""
        context = self.context
        for guard in guards:
            context = context.within(guard)
        labels, here = context.exact(())
        before = [(Guard(labels, ~here), tensor.cases)] if labels else []
        tensor.cases = selected([(Guard(labels, here), new), *before])

    def _move(self, tensor: CaseTensor, place: int, step: Step, leaves: list[Any]) -> None:
        """Takes over that a tensor lies in other memory than before, for some architectures."""
        origins = [outcome.moved.get(place, place) for outcome in step.outcomes]
        tensors = [outcome.changed.get(place) for outcome in step.outcomes]
        labels, here = self.context.exact(())
        outside = [share.where((Guard(labels, ~here),)) for share in tensor.shares if labels]
        tensor.shares = (*self._memory(origins, tensors, step, leaves), *outside)

    # -- merging ----------------------------------------

    def merge(self, outcomes: Sequence[tuple[Guard, Any]]) -> Any:
        apart: list[tuple[Any, list[Any]]] = [
            _taken_apart(value, cases=False) for _, value in outcomes
        ]
        forms = [(spec, *map(_form, leaves)) for spec, leaves in apart]
        if len(set(forms)) > 1:
            labels = ordered(*(guard.labels for guard, _ in outcomes))
            ids: Array = np.full(sizes(labels), NONE)
            for place, (guard, _) in enumerate(outcomes):
                ids = np.where(spread(guard.mask, guard.labels, labels), place, ids)
            self._check_same(labels, ids, forms)
        guards = [guard for guard, _ in outcomes]
        columns = zip(*(leaves for _, leaves in apart), strict=True)
        merged = [self._merged(guards, column) for column in columns]
        return unflatten(apart[0][0], iter(merged))

    def _merged(self, guards: list[Guard], column: tuple[Any, ...]) -> Any:
        first = column[0]
        if all(leaf is first for leaf in column):
            return first
        if isinstance(first, torch.Tensor):
            cases = selected(
                [(g, self._inner(leaf)) for g, leaf in zip(guards, column, strict=True)]
            )
            shares = [
                share.where((guard,))
                for guard, leaf in zip(guards, column, strict=True)
                if type(leaf) is CaseTensor
                for share in leaf.shares
            ]
            return CaseTensor.make(self, cases, tuple(shares))
        if type(first) is CaseNumber or type(first) in (int, float):
            parts = [(g, self._inner(leaf)) for g, leaf in zip(guards, column, strict=True)]
            return self._number(selected(parts, key_of))
        return first

    def _inner(self, leaf: Any) -> Cases:
        """What a branch returned, whose context is left now."""
        return leaf.cases if type(leaf) in (CaseTensor, CaseNumber) else self._part(leaf)


class _Mode(TorchFunctionMode):
    """Hands every function of torch to a recorder."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.recorder.apply(func, args, kwargs or {})


_DIFFERING = frozenset({CaseTensor, CaseNumber, CaseObject})

_ONLY: Array = np.zeros((), dtype=np.int64)


def _itself(value: Any) -> Any:
    return value


def _form(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        return "tensor"
    if type(leaf) is CaseNumber or type(leaf) in (int, float):
        return "number"
    return key_of(leaf)


def _taken_apart(value: Any, cases: bool = True) -> tuple[Any, list[Any]]:
    leaves: list[Any] = []
    spec = flatten(value, leaves)
    if cases:  # without the stand-ins, which would keep memory alive
        leaves = [leaf.cases if type(leaf) in (CaseTensor, CaseNumber) else leaf for leaf in leaves]
    return spec, leaves


def plain_forward(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """What a plain layer does, without its hooks, which the elastic one has."""
    return type(layer).forward(layer, *args, **kwargs)


def _computed(layer: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors that a layer computes from others before its forward."""
    return layer.__dict__["_computing"](layer)  # type: ignore[no-any-return]


def _forward_with(
    layer: nn.Module, computed: dict[str, torch.Tensor], *args: Any, **kwargs: Any
) -> Any:
    """What a plain layer does with tensors that were computed for it."""
    light = copy.copy(layer)
    light.__dict__.update(computed)
    return type(layer).forward(light, *args, **kwargs)


def _shown(name: str, outcome: Outcome) -> str:
    """A call, with the shapes of what it was given."""
    if outcome.call[0] in (plain_forward, _forward_with):
        name = repr(outcome.call[2][0])
    shapes = [str(tuple(leaf.shape)) for leaf in outcome.call[2] if isinstance(leaf, torch.Tensor)]
    return f"{name} of {', '.join(shapes)}" if shapes else name


def name_of(function: Any) -> str:
    """What a function of torch is called."""
    if isinstance(function, nn.Module):
        return type(function).__name__
    found = resolve_name(function)
    if found is None:
        found = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    return str(found or function)
