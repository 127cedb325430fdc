"""Rounding of widths."""

from __future__ import annotations

from typing import Any, overload

from .expression import MutableExpression

__all__ = ["make_divisible"]


@overload
def make_divisible(
    v: MutableExpression[Any], divisor: int, min_val: Any = None
) -> MutableExpression[int]: ...
@overload
def make_divisible(v: float, divisor: int, min_val: float | None = None) -> int: ...
def make_divisible(v: Any, divisor: int, min_val: Any = None) -> Any:
    """Return a width rounded to a multiple of ``divisor``, by less than ten per cent downwards.

    One formula for integers, floats and expressions: with
    ``new = max(min_val, round(v + divisor // 2) // divisor * divisor)``, the result is
    ``new``, or ``new + divisor`` where ``new < 0.9 * v``.

    The rule in TensorFlow's MobileNet code truncates (``int(v + divisor / 2)``) where this
    one rounds.  For integers they agree.  For a fractional ``v`` within half a unit below a
    tie they differ, unless the last step makes up for it: 43.6 becomes 48 here, 40 there.

    Parameters
    ----------
    v
        The width wanted.
    divisor
        What the result is a multiple of (unless ``min_val`` is not).
    min_val
        The least result; ``divisor`` by default.

    Returns
    -------
    int or MutableExpression
        An expression where ``v`` is one.

    Examples
    --------
    >>> make_divisible(32 * 0.75, 8), make_divisible(43.6, 8)
    (24, 48)
    >>> from nas_space.mutable import Categorical
    >>> make_divisible(Categorical([3, 6], label="e") * 10, 8).freeze({"e": 6})
    64
    """
    if min_val is None:
        min_val = divisor
    new = MutableExpression.max(min_val, round(v + divisor // 2) // divisor * divisor)
    return MutableExpression.to_int(MutableExpression.condition(new < 0.9 * v, new + divisor, new))
