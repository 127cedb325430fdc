"""Numbers as people write them."""

from __future__ import annotations

from typing import Any

__all__ = ["counted", "percent", "readable", "settings_in_words"]

_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def readable(value: float) -> str:
    """Return a number in three or four digits, with a unit where it is large.

    Examples
    --------
    >>> readable(820_000.0), readable(0.95312), readable(54_375_883_032_510_144), readable(12)
    ('820 k', '0.9531', '5.4·10¹⁶', '12')
    """
    if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 - NaN
        return str(float(value))
    size = abs(value)
    if size >= 1e12:
        return _scientific(value)
    for unit, name in _UNITS:
        if size >= unit * 0.9995:
            return f"{value / unit:.3g} {name}"
    return f"{value:.4g}"


def counted(number: int) -> str:
    """Return how many there are: exactly, or as a power of ten where nobody reads the digits.

    Examples
    --------
    >>> counted(15_625), counted(54_375_883_032_510_144)
    ('15,625', '5.4·10¹⁶')
    """
    return f"{number:,}" if number < 10_000_000 else _scientific(number)


def percent(share: float) -> str:
    """Return a share in percent, with a digit more where it is small.

    Examples
    --------
    >>> percent(0.5), percent(0.034), percent(0.0004), percent(0.0)
    ('50%', '3.4%', '<0.1%', '0%')
    """
    if 0 < share < 0.001:
        return "<0.1%"
    return f"{share:.1%}" if 0 < share < 0.0995 else f"{share:.0%}"


def _scientific(value: float) -> str:
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}·10{str(int(power)).translate(_RAISED)}"


def settings_in_words(value: Any) -> str:
    """Return a setting of a run as a person would say it: no dict of Python's.

    Examples
    --------
    >>> settings_in_words({"width_mult": 0.25, "sizes": [8, 16]}), settings_in_words(1200)
    ('width_mult 0.25, sizes 8 · 16', '1,200')
    """
    if isinstance(value, dict):
        return ", ".join(f"{name} {settings_in_words(each)}" for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return " · ".join(map(settings_in_words, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return counted(value)
    if isinstance(value, float):
        return readable(value)
    return str(value)
