"""Running code once for every architecture: branch by branch, and apart only where it must be.

An :class:`Explorer` is an activation under which every architecture is active at once.
Choices run each of their branches under a condition, a :class:`~.cases.Guard`, and what the
branches give becomes one thing again.  Where code needs a plain value of something that
differs between architectures, the smallest piece of code around it that can be run again
runs once for each value: a *fork*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np

from ..errors import DecompositionError, NasSpaceError
from ..mutable import Values
from ..mutable.expression import apply
from ..mutable.node import Node
from ..nn.activation import Activation
from ..nn.elastic import ElasticModule
from .cases import NONE, Cases, Context, Guard, cases_of

_MOST_RUNS = 20_000
"""How often code is run again, because it needs plain values, until giving up."""


class Fork(BaseException):  # not an Exception: a forward that catches those must not catch this
    """Code needs something to be plain that differs between architectures.

    Parameters
    ----------
    guards
        Conditions under each of which it is plain; they cover all architectures.
    """

    def __init__(self, guards: Sequence[Guard]) -> None:
        super().__init__()
        self.guards = guards


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


class Failure:
    """Architectures that do not run.

    Attributes
    ----------
    guards
        Which ones.
    path
        The module where it happens.
    what
        The function that was called there, if it was one.
    error
        What it raised.
    """

    def __init__(self, guards: tuple[Guard, ...], path: str, what: str, error: Exception) -> None:
        self.guards = guards
        self.path = path
        self.what = what
        self.error = error


class Frame:
    """A piece of code that can be run again.

    Attributes
    ----------
    wanted
        Set when a plain value is needed, for the case that its :class:`Fork` gets lost.
    refused
        Set when a :class:`Refusal` is raised, likewise.
    lazy
        The first number that was made in it without being plain.
    once
        How many modules run in it, each inside of another, that were given an iterator.
    """

    __slots__ = ("lazy", "once", "refused", "wanted")

    def __init__(self) -> None:
        self.once = 0
        self.refused: str | None = None
        self.wanted: Sequence[Guard] | None = None
        self.lazy: Cases | None = None


class Reading(Values):
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

    Attributes
    ----------
    context
        The architectures for which code runs at this moment.
    failures
        Those that do not run, so far.
    """

    is_single = False

    def __init__(self) -> None:
        super().__init__(Reading(self))
        self.context = Context()
        self.failures: list[Failure] = []
        self.frames: list[Frame] = []
        self.runs = 0

    # -- what subclasses add ------------------------------------------------------------------

    @property
    def path(self) -> str:
        """Where in the space code runs at this moment."""
        return ""

    def mark(self) -> Any:
        """Where the record is, to come back to."""
        return len(self.failures)

    def rollback(self, mark: Any) -> None:
        """Forgets what was recorded since."""
        del self.failures[mark:]

    def merge(self, outcomes: Sequence[tuple[Guard, Any]]) -> Any:
        """What is one of several things, each under its condition, as one thing.

        Raises
        ------
        Fork
            If that cannot be.
        """
        raise NotImplementedError

    # -- values ---------------------------------------------------------------------------------

    def cases(self, expression: Any) -> Cases:
        """What an expression can be.  Architectures for which it is nothing are failures."""
        cases, failures = cases_of(expression)
        for place, error in failures.items():
            mask = (cases.ids * 0).astype(bool)
            mask.flat[place] = True
            self.fail(str(expression), error, Guard(cases.labels, mask))
        return cases

    def read(self, expression: Any) -> Any:
        """The value of an expression, as code sees it."""
        if not isinstance(expression, Node):
            return expression
        return self.plain(self.cases(expression))

    def plain(self, cases: Cases) -> Any:
        """The one value that something has; where it has several, a fork."""
        present = cases.present(self.context)
        if len(present) == 1:
            return cases.values[present[0]]
        if not present:
            raise Dead
        return self.fork([cases.where(place) for place in present])

    def fork(self, guards: Sequence[Guard]) -> NoReturn:
        """Have the code that runs at this moment run again, once under each condition."""
        if self.frames:
            self.frames[-1].wanted = guards
        raise Fork(guards)

    def fail(self, what: str, error: Exception, *guards: Guard) -> None:
        """Note that the architectures of the context, under further conditions, do not run."""
        which = (*self.context.guards, *(guard for guard in guards if guard.labels))
        self.failures.append(Failure(which, self.path, what, error))

    def over_arguments(
        self,
        layer: ElasticModule,
        make: Callable[[int, Any], Any],
        also: Sequence[Any] = (),
    ) -> Cases:
        """What a function makes of each combination of a layer's arguments.

        Parameters
        ----------
        layer
            Whose arguments.
        make
            Given the place of a combination, and the values of the expressions in it.  What torch
            refuses are failures.
        also
            Further expressions to know the values of.
        """
        wanted = (*layer.wanted, *also)
        cases = self.cases(apply("tuple", *wanted))
        ids = np.full(len(cases.values) + 1, NONE)
        made: list[Any] = []
        for place in cases.present(self.context):
            chosen = dict(zip(wanted, cases.values[place], strict=True))
            try:
                found = make(place, chosen.__getitem__)
            except NasSpaceError as error:
                self.fail("", error, cases.where(place))
                continue
            ids[place] = len(made)
            made.append(found)
        if not made:
            raise Dead
        return Cases(cases.labels, ids[cases.ids], made)

    # -- running --------------------------------------------------------------------------------

    @contextmanager
    def under(self, guard: Guard) -> Iterator[None]:
        """Restricts the context."""
        outer = self.context
        self.context = outer.within(guard)
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
            guards = fork.guards
        self.rollback(mark)
        self.runs += len(guards)
        if self.runs > _MOST_RUNS:
            raise DecompositionError(
                f"{self.path or 'the space'} takes decisions on values or shapes that differ in "
                f"more than {_MOST_RUNS} ways; move such decisions into smaller modules"
            )
        return self.branches(guards, [run] * len(guards))

    def _once(self, run: Callable[[], Any]) -> Any:
        frame = Frame()
        self.frames.append(frame)
        try:
            return run()
        except DecompositionError:
            raise
        except Exception as error:
            if frame.refused is not None:
                raise Refusal(frame.refused) from error
            if frame.wanted is not None:  # C code may have replaced the fork by an error
                raise Fork(frame.wanted) from error
            if frame.lazy is not None:  # or does not take a number that is not plain
                present = frame.lazy.present(self.context)
                if len(present) > 1:
                    raise Fork([frame.lazy.where(place) for place in present]) from error
            self.failed(error)
            raise Dead from error
        finally:
            self.frames.pop()

    def failed(self, error: Exception) -> None:
        """Note that a piece of code raised, for every architecture of the context."""
        self.fail("", error)

    def branches(self, guards: Sequence[Guard], runs: Sequence[Callable[[], Any]]) -> Any:
        """Run pieces of code under a condition each, and merge what they give."""
        outcomes = []
        for guard, run in zip(guards, runs, strict=True):
            with self.under(guard):
                try:
                    outcomes.append((guard, self.attempt(run)))
                except Dead:
                    continue
        if not outcomes:
            raise Dead
        return self.merge(outcomes)

    def mix(self, choice: Any, run: Callable[[Any], Any]) -> Any:
        """The outcomes of all branches of a choice, as one."""
        cases = self.cases(choice)
        present = cases.present(self.context)
        if len(present) == 1:
            return run(cases.values[present[0]])
        return self.branches(
            [cases.where(place) for place in present],
            [_bound(run, cases.values[place]) for place in present],
        )


def _bound(run: Callable[[Any], Any], value: Any) -> Callable[[], Any]:
    return lambda: run(value)
