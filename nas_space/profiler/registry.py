"""Costs by name, for the shell, for budgets in configurations, and for reports."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..errors import NasSpaceError, UsageError, suggest
from ..lazy import at_address, named

__all__ = ["COSTS", "RegisteredCost", "find_cost", "register_cost"]


@dataclass(frozen=True)
class RegisteredCost:
    """A cost that can be asked for by name.

    Attributes
    ----------
    name
        What it is called.
    build
        Called with a space and the keyword arguments ``input_shape``, ``inputs`` and ``dtype``
        of :func:`~nas_space.profiler.macs`, as far as they are given, and with what is in
        ``needs``.  Returns a number for each architecture, as an expression.
    unit
        What is counted.
    needs
        Names of further arguments, such as ``table``, without which it cannot be built.
    """

    name: str
    build: Callable[..., Any]
    unit: str = ""
    needs: tuple[str, ...] = ()

    def __call__(self, space: Any, input_shape: tuple[int, ...] | None = None, **given: Any) -> Any:
        """Return the cost of a space.

        Parameters
        ----------
        space, input_shape
            As of :func:`~nas_space.profiler.macs`.
        given
            Further arguments of the cost.

        Returns
        -------
        MutableExpression or float
            A number where all architectures cost the same.

        Raises
        ------
        UsageError
            If an argument is missing that it needs, or if what somebody wrote fails or returns
            something else.
        """
        from ..mutable import MutableExpression

        for name in self.needs:
            if given.get(name) is None:
                raise UsageError(f"the cost {self.name!r} needs a {name}")
        if input_shape is not None:
            given["input_shape"] = input_shape
        try:
            cost = self.build(space, **given)
        except NasSpaceError:
            raise
        except (Exception, SystemExit) as error:  # whatever a function of the user's does
            raise UsageError(
                f"the cost {self.name!r} fails: {type(error).__name__}: {error}; it was called "
                f"with the space and the keyword arguments {', '.join(given) or '(none)'}"
            ) from error
        is_number = isinstance(cost, numbers.Real) and math.isfinite(cost)
        if not is_number and not isinstance(cost, MutableExpression):
            raise UsageError(
                f"the cost {self.name!r} is to return an expression over the labels of the space, "
                f"or a finite number, but returned {cost!r}"
            )
        return cost


COSTS: dict[str, RegisteredCost] = {}
"""Name to cost."""


def register_cost(
    name: str, build: Callable[..., Any], *, unit: str = "", needs: tuple[str, ...] = ()
) -> RegisteredCost:
    """Register a cost under a name, so that budgets and objectives can be stated in it.

    Parameters
    ----------
    name
        In lower case, with hyphens; a cost that has it already is replaced.
    build, unit, needs
        As of :class:`RegisteredCost`; ``build`` may be a :class:`~nas_space.profiler.Cost`.

    Raises
    ------
    UsageError
        If the name could not be written in ``NAME=VALUE``.

    Examples
    --------
    >>> from nas_space.nn import MutableLinear
    >>> from nas_space.profiler import params
    >>> def weights(space, **_):
    ...     return params(space)
    >>> register_cost("weights", weights, unit="parameters").unit
    'parameters'
    >>> find_cost("weights")(MutableLinear(8, 4))
    36
    >>> del COSTS["weights"]
    """
    if not re.fullmatch(r"[a-z0-9]+([-_.][a-z0-9]+)*", name):
        raise UsageError(f"a name of small letters, digits and hyphens is needed, but got {name!r}")
    COSTS[name] = RegisteredCost(name, build, unit, needs)
    return COSTS[name]


def find_cost(name: str) -> RegisteredCost:
    """Return the cost of a name, or one of your own as ``module:name``.

    Parameters
    ----------
    name
        A registered name; or a module that can be imported, a colon, and the name of a function
        or of a :class:`~nas_space.profiler.Cost` in it.

    Raises
    ------
    UsageError
        If there is none.

    Examples
    --------
    >>> find_cost("macs").unit
    'MACs'
    >>> find_cost("mac")
    Traceback (most recent call last):
    ...
    nas_space.errors.UsageError: there is no cost 'mac' (did you mean 'macs'?); there are \
flops, latency, macs, memory, params, training-memory, or one of your own as module:name
    """
    if ":" in name:
        found = named(name, "a cost")
        if isinstance(found, RegisteredCost):
            return found
        if isinstance(found, type):
            try:
                found = found()
            except (Exception, SystemExit) as error:  # whatever a class of the user's does
                raise UsageError(
                    f"the cost {name!r} cannot be made without arguments: {error}; name an instance"
                ) from error
        if not callable(found):
            raise UsageError(f"{name!r} is no cost, but {found!r}")
        return RegisteredCost(name, found, getattr(found, "unit", ""))
    known = COSTS.get(name)
    if known is None:
        raise UsageError(
            f"there is no cost {name!r}{suggest(name, COSTS)}; there are "
            f"{', '.join(sorted(COSTS))}, or one of your own as module:name"
        )
    return known


def _build(home: str, name: str, space: Any, **given: Any) -> Any:
    """Build a cost by a function that is imported now; names and units load no torch."""
    build = at_address(f"{home}:{name}", __package__)
    if name == "params":
        return build(space)  # the same, whatever the inputs are
    return build(space, **given)


register_cost("macs", partial(_build, ".costs", "macs"), unit="MACs")
register_cost("flops", partial(_build, ".costs", "flops"), unit="FLOPs")
register_cost("params", partial(_build, ".parameters", "params"), unit="parameters")
_memory = partial(_build, ".memory", "memory")
register_cost("memory", _memory, unit="bytes")
register_cost("training-memory", partial(_memory, training=True), unit="bytes")
register_cost("latency", partial(_build, ".latency", "latency"), unit="us", needs=("table",))
