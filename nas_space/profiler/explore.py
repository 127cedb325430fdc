"""Running code once for every architecture: branch by branch, and apart only where it must be.

An :class:`Explorer` is an activation under which every architecture is active at once.
Choices run each of their branches under a condition, a factor of truth values, and what the
branches give becomes one thing again.  Where code needs a plain value of something that
differs between architectures, the smallest piece of code around it that can be run again
runs once for each value: a *fork*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, NoReturn

import numpy as np
from torch import nn

from ..errors import DecompositionError, NasSpaceError
from ..mutable import Values
from ..mutable.expression import apply
from ..mutable.factors import Auxiliary, Factor, combinations_of
from ..mutable.node import Node, leaves
from ..mutable.piecewise import NOWHERE, Piecewise, enumerated
from ..nn.activation import Activation
from ..nn.elastic import ElasticModule
from ..nn.module import MutableModule
from .contexts import EVERYWHERE, Context

__all__ = ["Dead", "ExploredValues", "Explorer", "Failure", "Fork", "Frame", "Refusal"]

_MOST_RUNS = 20_000
"""How often code is run again, because it needs plain values, until giving up."""

_LARGE = 2**16
"""Expressions with more combinations of labels than this are told by their conditions."""


class Fork(BaseException):  # not an Exception: a forward that catches those must not catch this
    """Code needs something to be plain that differs between architectures.

    Parameters
    ----------
    conditions
        Conditions under each of which it is plain; they cover all architectures.
    """

    def __init__(self, conditions: Sequence[Factor]) -> None:
        super().__init__()
        self.conditions = conditions


class Dead(BaseException):
    """No architecture gets through: what came before has failed for all that get here."""


class Refusal(BaseException):
    """Something runs that cannot be followed.

    Parameters
    ----------
    what
        What it is.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class Failure(NamedTuple):
    """Architectures that do not run.

    Attributes
    ----------
    conditions
        Which ones.
    path
        The module where it happens.
    what
        The function that was called there, if it was one.
    error
        What it raised.
    """

    conditions: tuple[Factor, ...]
    path: str
    what: str
    error: Exception


@dataclass(slots=True, eq=False)
class Frame:
    """A piece of code that can be run again.

    Attributes
    ----------
    raised
        The first :class:`Fork` or :class:`Refusal` that was raised in it, and of what: C code may
        replace it by an error.
    lazy
        The first number that was made in it without being plain.
    once
        How many modules run in it, each inside of another, that were given an iterator.
    """

    raised: tuple[Callable[[Any], BaseException], Any] | None = None
    lazy: Piecewise | None = None
    once: int = 0


class ExploredValues(Values):
    """Values of expressions, as an explorer gives them to code.

    Parameters
    ----------
    explorer
        Who gives them.
    """

    __slots__ = ("explorer",)

    def __init__(self, explorer: Explorer) -> None:
        super().__init__()
        self.explorer = explorer

    def __call__(self, expression: Any) -> Any:
        return self.explorer.read(expression)


class Explorer(Activation):
    """An activation under which all architectures of a space are active at once.

    Parameters
    ----------
    space
        The space.

    Attributes
    ----------
    context
        The architectures for which code runs at this moment.
    failures
        Those that do not run, so far.
    """

    is_single = False

    def __init__(self, space: nn.Module) -> None:
        super().__init__(ExploredValues(self))
        self.named = _named(space)
        self._known: dict[Node, Piecewise] = {}
        self.context = EVERYWHERE
        self.failures: list[Failure] = []
        self.frames: list[Frame] = []
        self.runs = 0

    # -- what subclasses add ------------------------------------------------------------------

    @property
    def path(self) -> str:
        """Where in the space code runs at this moment."""
        return ""

    def mark(self) -> Any:
        """Return where the record is, to come back to."""
        return len(self.failures)

    def rollback(self, mark: Any) -> None:
        """Forget what was recorded since."""
        del self.failures[mark:]

    def merge(self, outcomes: Sequence[tuple[Factor, Any]]) -> Any:
        """Return what is one of several things, each under its condition, as one thing.

        Raises
        ------
        Fork
            If that cannot be.
        """
        raise NotImplementedError

    def narrowed(self, value: Any, condition: Factor) -> Any:
        """Return something for the architectures alone that meet a condition."""
        return value

    # -- values ---------------------------------------------------------------------------------

    def pieces(self, expression: Any) -> Piecewise:
        """Return what an expression can be; where it has no value, architectures fail."""
        found = self._enumerated(expression)
        for place, error in found.failures.items():
            here = np.zeros(found.places.values.shape, dtype=np.bool_)
            here.flat[place] = True
            self.fail(str(expression), error, Factor(found.scope, here))
        return found

    def _enumerated(self, expression: Any) -> Piecewise:
        if not self.named or not isinstance(expression, Node):
            return Piecewise.of(expression)
        found = self._known.get(expression)
        if found is None:
            found = self._known[expression] = enumerated(expression, self.named)
        return found

    def read(self, expression: Any) -> Any:
        """Return the value of an expression, as code sees it."""
        if not isinstance(expression, Node):
            return expression
        return self.plain(self.pieces(expression))

    def present(self, pieces: Piecewise) -> list[int]:
        """Return the places of the values that occur for the architectures of the context."""
        context = self.context
        return pieces.present(context.possible(pieces.scope) if context.conditions else None)

    def plain(self, pieces: Piecewise) -> Any:
        """Return the one value that something has; where it has several, fork."""
        present = self.present(pieces)
        if len(present) == 1:
            return pieces.values[present[0]]
        if not present:
            raise Dead
        return self.fork([pieces.where(place) for place in present])

    def fork(self, conditions: Sequence[Factor]) -> NoReturn:
        """Have the code that runs at this moment run again, once under each condition."""
        self._raise(Fork, conditions)

    def refuse(self, what: str) -> NoReturn:
        """Raise for what cannot be followed."""
        self._raise(Refusal, what)

    def _raise(self, kind: Callable[[Any], BaseException], what: Any) -> NoReturn:
        if self.frames and self.frames[-1].raised is None:
            self.frames[-1].raised = kind, what
        raise kind(what)

    def fail(self, what: str, error: Exception, *conditions: Factor) -> None:
        """Note that the architectures of the context, under further conditions, do not run."""
        which = (*self.context.conditions, *(each for each in conditions if each.scope))
        self.failures.append(Failure(which, self.path, what, error))

    def over_arguments(
        self,
        layer: ElasticModule,
        make: Callable[[Any], Any],
        also: Sequence[Any] = (),
    ) -> Piecewise:
        """Return what a function makes of each combination of a layer's arguments.

        Parameters
        ----------
        layer
            Whose arguments.
        make
            Given the values of the expressions.  What torch refuses are failures.
        also
            Further expressions to know the values of.
        """
        wanted = (*layer.wanted, *also)

        def made(values: tuple[Any, ...]) -> Any:
            return make(dict(zip(wanted, values, strict=True)).__getitem__)

        return self.each(self.pieces(apply("tuple", *wanted)), made, NasSpaceError)

    def each(
        self,
        pieces: Piecewise,
        make: Callable[[Any], Any],
        errors: type[Exception],
        named: Callable[[Any], str] = lambda _: "",
    ) -> Piecewise:
        """Return what a function makes of each value that occurs, where it makes something.

        Parameters
        ----------
        pieces
            The values.
        make
            The function; what it gives need not be different.
        errors
            What it raises for values with which architectures fail.
        named
            What was called there, given the value.

        Raises
        ------
        Dead
            If all of them fail.
        """
        renumbered = np.full(len(pieces.values) + 1, NOWHERE)
        found: list[Any] = []
        for place in self.present(pieces):
            value = pieces.values[place]
            try:
                made = make(value)
            except errors as error:
                # Without the frames, whose stand-ins would count as held.
                self.fail(named(value), error.with_traceback(None), pieces.where(place))
                continue
            renumbered[place] = len(found)
            found.append(made)
        if not found:
            raise Dead
        return Piecewise(Factor(pieces.scope, renumbered[pieces.places.values]), found)

    # -- running --------------------------------------------------------------------------------

    def under(self, condition: Factor) -> AbstractContextManager[None]:
        """Restrict the context."""
        return self.inside(self.context.within(condition))

    @contextmanager
    def inside(self, context: Context) -> Iterator[None]:
        """Enter a context that lies within this one."""
        outer, self.context = self.context, context
        try:
            yield
        finally:
            self.context = outer

    def attempt(self, run: Callable[[], Any]) -> Any:
        """Run a piece of code for all architectures of the context, forking where it must.

        Raises
        ------
        Dead
            If it fails for all of them.
        """
        mark = self.mark()
        try:
            return self._once(run)
        except Fork as fork:
            conditions = fork.conditions
            self.rollback(mark)
        except Refusal:
            self.rollback(mark)
            raise
        self.runs += len(conditions)
        if self.runs > _MOST_RUNS:
            raise DecompositionError(
                f"{self.path or 'the space'} takes decisions on values or shapes that differ in "
                f"more than {_MOST_RUNS} ways; move such decisions into smaller modules"
            )
        return self.branches(conditions, [run] * len(conditions))

    def _once(self, run: Callable[[], Any]) -> Any:
        frame = Frame()
        self.frames.append(frame)
        try:
            return run()
        except DecompositionError:
            raise
        except Exception as error:
            if frame.raised is not None:
                kind, what = frame.raised
                raise kind(what) from error
            if frame.lazy is not None:  # C code may not take a number that is not plain
                present = self.present(frame.lazy)
                if len(present) > 1:
                    raise Fork([frame.lazy.where(place) for place in present]) from error
            self.fail("", error)
            raise Dead from error
        finally:
            self.frames.pop()

    def branches(self, conditions: Sequence[Factor], runs: Sequence[Callable[[], Any]]) -> Any:
        """Run pieces of code under a condition each, and merges what they give."""
        outcomes = []
        for condition, run in zip(conditions, runs, strict=True):
            with self.under(condition):
                try:
                    outcomes.append((condition, self.attempt(run)))
                except Dead:
                    continue
        if not outcomes:
            raise Dead
        return self.merge(outcomes)

    def decided(self, choice: Any) -> Piecewise:
        """Return which branches a choice has; fork where these cannot run one after another."""
        pieces = self.pieces(choice)
        if self.frames and self.frames[-1].once:
            self.plain(pieces)  # the first branch would use up what the others want
        return pieces

    def mix(self, choice: Any, run: Callable[[Any], Any]) -> Any:
        """Return the outcomes of all branches of a choice, as one."""
        pieces = self.decided(choice)
        present = self.present(pieces)
        if len(present) == 1:
            return run(pieces.values[present[0]])
        return self.branches(
            [pieces.where(place) for place in present],
            [_bound(run, pieces.values[place]) for place in present],
        )

    def choose_input(
        self, choice: Any, place: Callable[[Any], int], inputs: Any, run: Callable[[Any], Any]
    ) -> Any:
        """Return what a function makes of what is one of several inputs; it runs once."""
        return run(self.mix(choice, lambda value: inputs[place(value)]))

    def repeat(self, choice: Any, blocks: Iterable[Callable[[Any], Any]], x: Any) -> Any:
        """Return the outcomes of all depths, as one; a block runs once, for all that reach it."""
        pieces = self.decided(choice)
        places = {pieces.values[place]: place for place in self.present(pieces)}
        if len(places) == 1:
            return super().repeat(next(iter(places)), blocks, x)

        def at(depths: list[Any]) -> Factor:
            own = [places[depth] for depth in depths]
            return Factor(pieces.scope, np.isin(pieces.places.values, own))

        ends: list[tuple[Factor, Any]] = []
        ending: list[Any] = []  # the depths whose outcome is x
        context, reaching = self.context, list(places)
        for depth, block in enumerate((None, *blocks)):
            deep = [each for each in reaching if each >= depth]
            if not deep:
                break
            if len(deep) < len(reaching):
                first = context is self.context
                context = (context.within if first else context.instead)(at(deep))
                reaching = deep
            if block is not None:
                try:
                    with self.inside(context):
                        y = self.attempt(partial(block, x))
                except Dead:
                    break
                if ending and y is not x:
                    ends.append((at(ending), self.narrowed(x, at(ending))))
                    ending = []
                x = y
            if depth in places:
                ending.append(depth)
        if ending:
            ends.append((at(ending), x))
        if not ends:
            raise Dead
        return self.merge(ends)


def _bound(run: Callable[[Any], Any], value: Any) -> Callable[[], Any]:
    return lambda: run(value)


def _named(space: nn.Module) -> dict[Node, Auxiliary]:
    """Return the conditions that count as variables of their own, where expressions are large."""
    modules = (module for module in space.modules() if isinstance(module, MutableModule))
    roots = (mutable.structure() for module in modules for mutable in module.mutables)
    large = [root for root in roots if root is not None and _is_large(root)]
    if not large:
        return {}
    from .named_conditions import named_conditions

    return named_conditions(large)


def _is_large(root: Node) -> bool:
    whole = combinations_of([leaf for leaf in leaves(root) if leaf.words])
    return whole is not None and whole > _LARGE
