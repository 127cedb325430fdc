"""Methods of a space that are worked out above the layer that defines it.

A space can explain what an architecture costs, and costs are worked out in a layer above spaces.
So a layer above *registers* the function, and the space calls it by its name: nothing below knows
where it is.  ``nas_space`` itself, which stands above all layers, registers those of the library
when it is imported, as addresses that are resolved when they are first called; a library on top of
this one can replace them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .errors import UsageError
from .lazy import at_address

__all__ = ["call", "register"]

_REGISTERED: dict[str, str | Callable[..., Any]] = {}


def register(name: str, function: str | Callable[..., Any]) -> None:
    """Register what :func:`call` calls under a name.

    Parameters
    ----------
    name
        The name of a method.
    function
        A function, or its address ``'package.module:function'``, imported when it is first called.

    Examples
    --------
    >>> register("shout", str.upper)
    >>> call("shout", "text")
    'TEXT'
    """
    _REGISTERED[name] = function


def call(name: str, *args: Any, **kwargs: Any) -> Any:
    """Call what is registered under a name.

    Raises
    ------
    UsageError
        If nothing is.
    """
    if name not in _REGISTERED:
        raise UsageError(f"nothing is registered as {name!r}; there are {sorted(_REGISTERED)}")
    function = _REGISTERED[name]
    if isinstance(function, str):
        function = _REGISTERED[name] = at_address(function)
    return function(*args, **kwargs)
