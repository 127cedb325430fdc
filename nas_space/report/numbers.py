"""Numbers, settings and architectures as people write them: every form that something is shown in.

A page and a picture have room for a unit and for powers of ten (:func:`readable`, :func:`counted`).
What a terminal shows is likely to be typed next, so :func:`shown` has the units of ``--max``:
``320.4M``. A table in which networks are compared keeps all digits of what is counted
(:func:`grouped`), since two of them may differ in the last ones only.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

__all__ = [
    "counted",
    "grouped",
    "labelled",
    "percent",
    "readable",
    "roughly",
    "settings_in_words",
    "shown",
    "value_of",
    "written",
]

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
    # From what would be rounded to 1000 of the unit below on: 999.6 is 1 k and not 1e+03.
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
    >>> counted(15_625), counted(54_375_883_032_510_144), counted(3 * 10**400)
    ('15,625', '5.4·10¹⁶', '3·10⁴⁰⁰')
    """
    return f"{number:,}" if number < 10_000_000 else _scientific(number)


def roughly(number: int) -> str:
    """Return a count to three digits, in the characters of a plain terminal.

    Examples
    --------
    >>> roughly(384), roughly(54_375_883_032_510_144), roughly(3 * 10**400)
    ('384', '5.44e+16', '3.00e+400')
    """
    return f"{number if number < 1e300 else Decimal(number):.3g}"


def grouped(value: float) -> str:
    """Return a number with all digits before its point, or four of a small one.

    Examples
    --------
    >>> grouped(4080512), grouped(12.3456)
    ('4,080,512', '12.35')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def shown(number: float) -> str:
    """Return a number with at most five digits, a large one with a unit of the command line.

    Examples
    --------
    >>> shown(320_427_584), shown(9555), shown(54_375_883_032_510_144)
    ('320.4M', '9,555', '5.4e+16')
    """
    if 1000 <= number < 100_000:
        return f"{number:,.0f}"
    for unit, size in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if size <= number < 1000 * size:
            return f"{number / size:.4g}{unit}"
    return f"{number:.2g}" if number >= 1e12 else f"{number:g}"


def written(cost: str, value: float) -> str:
    """Return a value of a cost as :func:`shown`, but a time in milliseconds, not in µs."""
    from ..runs.costs import unit_of

    return f"{value / 1000:.4g} ms" if unit_of(cost) == "us" else shown(float(value))


def value_of(number: float) -> str:
    """Return a value of an objective: fractions to four digits, large numbers as :func:`shown`."""
    return shown(number) if abs(number) >= 1000 else f"{number:.4g}"


def labelled(arch: Mapping[str, Any], separator: str = " ") -> str:
    """Return an architecture on one line.

    Examples
    --------
    >>> labelled({"width": 16, "op": "skip"})
    'width=16 op=skip'
    """
    return separator.join(f"{label}={value}" for label, value in arch.items())


def percent(share: float) -> str:
    """Return a share in percent, with a digit more where it is small.

    Examples
    --------
    >>> percent(0.5), percent(0.034), percent(0.0004), percent(0.0)
    ('50%', '3.4%', '<0.1%', '0%')
    """
    # Below 0.0995, for from there on one digit more would say 10.0%.
    if 0 < share < 0.001:
        return "<0.1%"
    return f"{share:.1%}" if 0 < share < 0.0995 else f"{share:.0%}"


def _scientific(value: float) -> str:
    # As a decimal: counts of architectures have no largest number, floats have.
    digits, _, power = f"{Decimal(value):.1e}".partition("e")
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
