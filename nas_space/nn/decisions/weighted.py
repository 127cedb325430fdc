"""``Weighted``: every choice at once, each outcome by its probability."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from ...errors import SpaceError
from ...mutable.expression import apply
from ...mutable.node import Node, key_of
from ..activation import Activation
from .blending import blend
from .cases import MOST_CASES
from .marginals import Known, Marginals, Outcomes
from .mixed_number import MixedNumber
from .mixed_tensor import MixedTensor, mixed_in
from .mixer import Atoms, Mixer, Values, reader_of, union
from .movement import with_or_without
from .refusals import CannotMixError, PlainNeededError, here, labels_in
from .summing import Branch, sum_of_branches, totalled, weighted_sum
from .unchanged import Unchanged

__all__ = ["MOST_RUNS", "Mixture", "Weighted"]

MOST_RUNS = 64
"""Up to how many values a forward is run for that reads them as plain numbers."""

_READ: WeakKeyDictionary[Any, Atoms] = WeakKeyDictionary()
"""The expressions that the forward of a module reads as plain numbers, as far as seen so far."""


class Weighted(Activation):
    """A mixture of architectures, made active: the continuous relaxation of DARTS.

    Branches are run and summed by their probabilities.  Elastic layers run once, with a
    mixture of weights, where that is the same as mixing outputs.  What is known inside of a
    branch (that this one was chosen) counts for what the choices in there depend on.

    A tensor of which the width is a choice has the largest width, and its channels are not
    scaled; who takes it in weights them by the probability that they are there.  So whatever
    stands between the two, be it a norm, an activation or a gate, works on each channel as it
    does in every architecture that has it.

    Parameters
    ----------
    probabilities
        Label to the probability of each of its codes, of shape ``(size,)``.

    Examples
    --------
    >>> import torch
    >>> from nas_space.nn import LayerChoice
    >>> op = LayerChoice([torch.nn.Identity(), torch.nn.ReLU()], label="op")
    >>> with Weighted({"op": torch.tensor([0.25, 0.75])}):
    ...     op(torch.tensor([-1.0, 1.0]))
    tensor([-0.2500,  1.0000])

    References
    ----------
    Liu et al., *DARTS: differentiable architecture search*, arXiv 1806.09055; Wan et al.,
    *FBNetV2*, arXiv 2004.05565, for masks over channels.
    """

    is_single = False

    def __init__(
        self,
        probabilities: Mapping[str, Tensor],
        support: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        super().__init__(_Only(self))  # type: ignore[arg-type]
        self.marginals = Marginals(probabilities, support)
        self._here = _Here(())
        self.misread: list[tuple[Any, str, Any]] | None = None

    @property
    def known(self) -> Known:
        """What is known where the forward is."""
        return self._here.known

    @property
    def numbers(self) -> list[Atoms]:
        """What the numbers depend on that the forward has been given."""
        return self._here.numbers

    def given(self, condition: Any) -> AbstractContextManager[None]:
        return self.knowing(condition, True)

    @contextmanager
    def knowing(self, expression: Any, value: Any) -> Iterator[None]:
        """Enter a context in which an expression is known to have a value."""
        place = self._here
        before = place.known
        if isinstance(expression, Node):
            place.known = (*before, (expression, key_of(value)))
        try:
            yield
        finally:
            place.known = before

    def for_recomputation(self, *, reentrant: bool) -> Weighted:
        if reentrant and self.marginals.need_gradients:
            raise SpaceError(
                "torch.utils.checkpoint(..., use_reentrant=True) gives no gradients to the "
                "probabilities of a mixture, which are no inputs of what it runs; write "
                "use_reentrant=False, or take a strategy that samples, such as RandomOneShot"
            )
        # Gradients are another thread's work, which begins with what is known now.
        copied = copy.copy(self)
        copied.values = _Only(copied)  # type: ignore[assignment]
        copied._here = _Here(self.known)
        return copied

    # -- tensors that differ --------------------------------------------------------------------

    def gathered(
        self, atoms: Atoms, cases: dict[Any, Tensor], inputs: Sequence[Any], own: Sequence[Any]
    ) -> Any:
        """Return one tensor of cases, of a function of some inputs and axes of its own."""
        del inputs, own  # only who wants to know how elements lie has to guess
        return MixedTensor.of_cases(self, atoms, cases)

    def possible(self, atoms: Atoms) -> list[Values]:
        """Return what reads some expressions, for each combination of values they have here."""
        found = self.marginals.outcomes(atoms, self.known)
        return [reader_of(atoms, value) for value in found.values]

    def outcomes_of(
        self, atoms: Atoms, too_many: Callable[[int], Exception]
    ) -> Iterator[tuple[Values, Tensor, AbstractContextManager[None]]]:
        """Yield what reads some expressions, with the weight of each combination, and a context.

        Raises
        ------
        SpaceError
            If there are too many: as ``too_many`` says.
        """
        outcomes, weights = self.marginals.of(atoms, self.known)
        taken = list(self.taken(outcomes, weights))
        if len(taken) > MOST_CASES:
            raise too_many(len(taken))
        for place in taken:
            values = reader_of(atoms, outcomes.values[place])
            yield values, weights[place], self.branch(outcomes, [place])

    def whole(self, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        # Only the outermost space sums the cases of its output: in between they stay apart, and
        # nothing is approximated.
        place = self._here
        place.depth += 1
        try:
            output = run(*args, **kwargs)
        finally:
            place.depth -= 1
            if not place.depth:
                place.numbers.clear()
        if place.depth:
            return output
        return totalled(output)

    def called(self, module: Any, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        # Code that computes with plain numbers cannot be followed, so it is run once for each of
        # their values: the smallest piece that can be run again, the forward of the innermost
        # mutable module.  Which numbers it reads shows by failing on one after another; each
        # attempt knows one more, and as there are finitely many, it ends.  They are remembered, so
        # that only the first step pays for this.  An attempt that has changed the inputs in place
        # cannot be repeated: then the error stands.
        atoms = _READ.get(module, ())
        given, before = Unchanged(args, kwargs), len(self.numbers)
        while True:
            try:
                if not atoms:
                    return run(*args, **kwargs)
                choice = atoms[0] if len(atoms) == 1 else apply("tuple", *atoms)
                self._check_runs(module, choice)
                return self.choose(choice, lambda _: run, args, kwargs)
            except PlainNeededError as error:
                more = union(atoms, error.atoms)
                if len(more) == len(atoms) or not given:
                    raise
            except (TypeError, KeyError, RuntimeError) as error:
                # Functions that make a tensor of some size override nothing: torch complains of an
                # argument of a wrong type.  Which number it was is not said, so all are suspected
                # that the forward was given since it began, or in its arguments.
                if isinstance(error, RuntimeError) and MixedNumber.__name__ not in str(error):
                    raise
                numbers = [n.atoms for n in mixed_in((args, kwargs)) if isinstance(n, MixedNumber)]
                more = union(atoms, *self.numbers[before:], *numbers)
                if len(more) == len(atoms) or not given:
                    raise
            atoms = _READ[module] = more

    def _check_runs(self, module: Any, choice: Any) -> None:
        runs = len(list(self.taken(*self.marginals.of((choice,), self.known))))
        if runs > MOST_RUNS:
            raise CannotMixError(
                f"the forward of {type(module).__name__}{here()} reads {choice} as plain numbers, "
                f"so it has to be run once for each of {runs} values, above {MOST_RUNS}; a "
                "strategy that mixes them needs a LayerChoice, an InputChoice, a Repeat or an "
                "elastic layer there, or take one that samples, such as RandomOneShot",
                labels_in((choice,)),
            )

    def choose(
        self, choice: Any, branch: Callable[[Any], Callable[..., Any]], args: Any, kwargs: Any
    ) -> Any:
        given = Unchanged(args, kwargs)
        ran: list[Any] = []

        def run(value: Any) -> Any:
            if ran:
                given.check(choice, ran[-1])
            ran.append(value)
            return branch(value)(*args, **kwargs)

        output = self.mix(choice, run)
        if len(ran) > 1:
            given.check(choice, ran[-1])
        return output

    def mix(self, choice: Any, run: Callable[[Any], Any]) -> Any:
        outcomes, weights = self.marginals.of((choice,), self.known)
        return self._mixed(choice, outcomes, weights, run)

    def _mixed(
        self, choice: Any, outcomes: Outcomes, weights: Tensor, run: Callable[[Any], Any]
    ) -> Any:
        if len(outcomes.values) == 1:
            with self.knowing(choice, outcomes.values[0][0]):
                return run(outcomes.values[0][0])
        total = Mixture(self, choice)
        for place in self.taken(outcomes, weights):
            (value,) = outcomes.values[place]
            with self.knowing(choice, value), self.branch(outcomes, [place]):
                output = run(value)
            total.add(weights[place], output, value)
        return total.finished()

    def taken(self, outcomes: Outcomes, weights: Tensor) -> Iterable[int]:
        """Return the branches that must be run, in order."""
        places = range(len(outcomes.values))
        if weights.requires_grad:
            return places  # the gradient of a weight of zero needs its branch as well
        return [place for place, weight in zip(places, weights.tolist(), strict=True) if weight]

    @contextmanager
    def branch(self, outcomes: Outcomes, places: list[int]) -> Iterator[None]:
        """Enter a context to run what some of the outcomes need in."""
        yield

    def repeat(self, choice: Any, blocks: Iterable[Callable[[Any], Any]], x: Any) -> Any:
        # The output after block d is that of depth d, and the input of block d + 1 for all larger
        # depths, so each block runs once for all of them: known in it is that it is reached.  Its
        # own choices are so conditioned on ``choice >= d``, and the sum over depths is by
        # P(choice = d), of which nothing is lost or counted twice.
        outcomes, weights = self.marginals.of((choice,), self.known)
        depths = [value for (value,) in outcomes.values]
        taken = set(self.taken(outcomes, weights))
        total = Mixture(self, choice)
        for depth, block in enumerate((None, *blocks)):
            further = [place for place in taken if depths[place] >= depth]
            if not further:
                break
            if block is not None:
                before = Unchanged(x) if depth - 1 in depths else None
                with self.knowing(choice >= depth, True), self.branch(outcomes, further):
                    x = block(x)
                if before is not None and depths.index(depth - 1) in taken:
                    before.check(choice, depth)
            if depth in depths and (place := depths.index(depth)) in taken:
                if len(depths) == 1:
                    return x
                total.add(weights[place], x, depth)
        return total.finished()

    def optional(self, condition: Any, tensor: Tensor, dim: int) -> Any:
        outcomes = self.marginals.outcomes((condition,), self.known)
        if len(outcomes.values) == 1:
            return tensor if outcomes.values[0][0] else None
        return with_or_without(self, condition, tensor, dim)

    def elastic(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        return blend(self, layer, args, kwargs)

    def the_value(self, expression: Any) -> Any:
        """Return the value of an expression that is known here.

        Raises
        ------
        SpaceError
            If it has several.
        """
        outcomes = self.marginals.outcomes((expression,), self.known)
        if len(outcomes.values) > 1:
            raise PlainNeededError(
                f"the forward pass reads {expression} as a number, but it has the values "
                f"{[value for (value,) in outcomes.values]} at once (labels {outcomes.labels}); "
                "a strategy that mixes them needs a LayerChoice, an InputChoice, a Repeat or an "
                "elastic layer there, or take one that samples, such as RandomOneShot",
                (expression,),
            )
        return outcomes.values[0][0]


class _Here(threading.local):
    """The state of one thread in the forward of a mixture, which several threads may run.

    Parameters
    ----------
    known
        What is known at the beginning, in each of them.
    """

    def __init__(self, known: Known) -> None:
        self.known = known
        self.depth = 0
        self.numbers: list[Atoms] = []


class _Only:
    """Reads expressions that have one value."""

    def __init__(self, owner: Weighted) -> None:
        self.owner = owner

    def __call__(self, expression: Any) -> Any:
        return self.owner.the_value(expression) if isinstance(expression, Node) else expression


class Mixture:
    """A sum of outputs by weights; each may be a tensor, ``None``, or hold several tensors."""

    def __init__(self, mixer: Mixer, choice: Any) -> None:
        self.mixer = mixer
        self.choice = choice
        self._branches: list[Branch] = []
        self._has_none = False

    def add(self, weight: Tensor, output: Any, value: Any) -> None:
        """Add one output; ``None`` counts as zero."""
        if output is None:
            self._has_none = True
        else:
            self._branches.append((weight, output, value))

    def finished(self) -> Any:
        """Return the sum.

        Raises
        ------
        SpaceError
            If the outputs differ in kind.
        """
        branches = self._branches
        if not branches:
            return None
        if isinstance(branches[0][1], Tensor):
            return self._sum(branches)
        each = [(weight, *tree_flatten(output), value) for weight, output, value in branches]
        _, flat, form, first = each[0]
        for _, _, other, value in each:
            if other != form:
                raise self._refused(first, value)
        return tree_unflatten(
            [self._sum([(w, found[k], v) for w, found, _, v in each]) for k in range(len(flat))],
            form,
        )

    def _sum(self, branches: Sequence[Branch]) -> Any:
        """Return the sum of tensors, and anything else as it is if all branches agree on it."""
        # ``None`` stands for zeros of the shape that the others have, which must then be one shape.
        _, first, value = branches[0]
        alike = type(first) is not MixedTensor
        for _, output, other in branches:
            if isinstance(output, Tensor) and isinstance(first, Tensor):
                alike = alike and type(output) is not MixedTensor and output.shape == first.shape
            elif type(output) is not type(first) or key_of(output) != key_of(first):
                raise self._refused(value, other)
        if not isinstance(first, Tensor):
            return first
        if alike:
            return weighted_sum(self.choice, branches)
        if self._has_none and len({output.shape for _, output, _ in branches}) > 1:
            raise SpaceError(
                f"the outputs of {self.choice} cannot be mixed: for some values there is none, and "
                "for others the shape is another one each time; take a strategy that samples, such "
                "as RandomOneShot"
            )
        return sum_of_branches(self.mixer, self.choice, branches)

    def _refused(self, value: Any, other: Any) -> SpaceError:
        return SpaceError(
            f"the outputs of {self.choice} cannot be mixed: for {other!r} it is another kind of "
            f"thing than for {value!r}; take a strategy that samples, such as RandomOneShot"
        )
