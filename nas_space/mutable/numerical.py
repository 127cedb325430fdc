"""``Numerical``: a label that takes numbers from a distribution."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DomainError
from .categorical import plain
from .columns import Column
from .intervals import Interval
from .node import key_of
from .random_words import unit
from .symbols import MISSING, MutableSymbol

__all__ = ["Numerical"]

_LARGEST_SUPPORT = 2**20
_LARGEST = sys.float_info.max
_TOLERANCE = 1e-6
"""How far from a multiple a value may be, in steps: what a sum of floats is off by."""


class Numerical(MutableSymbol[float]):
    """A number from a distribution, possibly rounded to multiples of a step.

    Parameters
    ----------
    low, high
        Bounds.  Values drawn from an unbounded distribution are clipped to them.
    mu, sigma
        Mean and standard deviation of a normal distribution (with ``log_distributed``, of
        the logarithm); together, or neither for a uniform one.
    log_distributed
        Whether the logarithm is what is uniformly or normally distributed.
    quantize
        Step: values are ``clip(round(x / quantize) * quantize, low, high)``.
    distribution
        Anything with ``ppf``, ``cdf`` and ``support`` as SciPy's frozen distributions have,
        instead of the above.
    default
        The median by default.
    label
        The name of the choice.

    Notes
    -----
    Values are always floats; ``Numerical(7.5, 32.5, quantize=1).int()`` is an integer.

    Examples
    --------
    >>> list(Numerical(0, 1, label="x").grid(granularity=2))
    [0.25, 0.5, 0.75]
    >>> Numerical(0, 100, quantize=10, label="y").size
    11
    """

    def __init__(
        self,
        low: float = -math.inf,
        high: float = math.inf,
        *,
        mu: float | None = None,
        sigma: float | None = None,
        log_distributed: bool = False,
        quantize: float | None = None,
        distribution: Any = None,
        default: Any = MISSING,
        label: str | None = None,
    ) -> None:
        self._named(label)
        self.low, self.high = self._number(low, "low"), self._number(high, "high")
        self.mu = None if mu is None else self._number(mu, "mu")
        self.sigma = None if sigma is None else self._number(sigma, "sigma")
        self.quantize = None if quantize is None else self._number(quantize, "quantize")
        self.log_distributed = log_distributed
        self.distribution = distribution
        self._check_arguments()
        self._narrow()
        self._quantile, self._cdf = self._make_distribution()
        self._as_given: dict[float, float] = {}
        if isinstance(default, float) and self.quantize is not None:
            rounded = self.qclip(default)
            if abs(rounded - default) <= _TOLERANCE * self.quantize:
                self._as_given[rounded] = default  # 0.9, where three times 0.3 is a bit less
        self._steps = self._make_steps()
        self._support = None if self._steps is None else tuple(self._steps)
        self._codes = {value: code for code, value in enumerate(self._support or ())}
        self.size = None if self._support is None else len(self._support)
        self._finish(default)

    def _number(self, value: Any, name: str) -> float:
        value = plain(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
            raise DomainError(f"{name} of {self.name!r} must be a number, but got {value!r}")
        return value

    def _check_arguments(self) -> None:
        name = repr(self.name)
        if not self.low <= self.high:
            raise DomainError(
                f"low <= high must hold for {name}, but got {self.low} and {self.high}"
            )
        if self.quantize is not None and not 0 < self.quantize < math.inf:
            raise DomainError(f"quantize of {name} must be positive, but got {self.quantize}")
        if (self.mu is None) != (self.sigma is None):
            raise DomainError(f"{name} needs both mu and sigma, or neither")
        if self.sigma is not None and not 0 < self.sigma < math.inf:
            raise DomainError(f"sigma of {name} must be positive, but got {self.sigma}")
        if self.distribution is not None:
            if self.mu is not None or self.log_distributed:
                raise DomainError(
                    f"{name} has a distribution of its own; leave out mu, sigma and log_distributed"
                )
            lacks = [m for m in ("ppf", "cdf", "support") if not hasattr(self.distribution, m)]
            if lacks:
                raise DomainError(
                    f"the distribution of {name} must have ppf, cdf and support, but lacks {lacks}"
                )
        elif self.mu is None:
            if not (math.isfinite(self.low) and math.isfinite(self.high)):
                raise DomainError(
                    f"{name} is uniform, so it needs finite bounds, but got "
                    f"{self.low} and {self.high}"
                )
            if self.log_distributed and self.low <= 0:
                raise DomainError(
                    f"{name} is log-uniform, so low must be positive, but got {self.low}"
                )

    def _narrow(self) -> None:
        """Narrow the bounds to the support of the distribution."""
        start, end = -math.inf, math.inf
        if self.distribution is not None:
            start, end = map(float, self.distribution.support())
        elif self.log_distributed:
            start = 0.0
        if end < self.low or start > self.high:
            raise DomainError(
                f"the distribution of {self.name!r} lies between {start} and {end}, "
                f"outside of its bounds {self.low} and {self.high}"
            )
        self.low, self.high = max(self.low, start), min(self.high, end)

    def domain(self) -> tuple[Any, ...]:
        numbers = (self.low, self.high, self.mu, self.sigma, self.quantize)
        return (
            *[None if number is None else float(number) for number in numbers],
            self.log_distributed,
            _distribution_key(self.distribution),
            self.default_value,
        )

    def arguments_of_call(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        keywords = {
            "mu": self.mu,
            "sigma": self.sigma,
            "log_distributed": self.log_distributed,
            "quantize": self.quantize,
            "distribution": self.distribution,
            "default": self.default_value,
            "label": self.label,
        }
        return (self.low, self.high), keywords

    # -- the distribution -------------------------------------------------------------------

    def _make_distribution(self) -> tuple[Callable[[float], float], Callable[[float], float]]:
        """Return the quantile function, and the probability of a value at most ``x``."""
        low, high = self.low, self.high
        if self.distribution is not None:
            ppf, cdf = self.distribution.ppf, self.distribution.cdf
            return (lambda u: float(ppf(u))), (lambda x: float(cdf(x)))
        if self.mu is not None and self.sigma is not None:
            from statistics import NormalDist

            normal = NormalDist(self.mu, self.sigma)
            if self.log_distributed:
                return (
                    lambda u: _exp(normal.inv_cdf(u)),
                    lambda x: normal.cdf(math.log(x)) if x > 0 else 0.0,
                )
            return normal.inv_cdf, normal.cdf
        if self.log_distributed:
            start, width = math.log(low), math.log(high) - math.log(low)
            return (
                lambda u: math.exp(start + u * width),
                lambda x: _share(math.log(x) - start, width) if x > 0 else 0.0,
            )
        return (lambda u: low + u * (high - low)), (lambda x: _share(x - low, high - low))

    def cdf(self, x: float) -> float:
        """Return the probability of a value at most ``x``, before rounding and clipping."""
        return self._cdf(x)

    def qclip(self, x: float) -> float:
        """Return ``x`` rounded to the step and clipped to the bounds."""
        # Rounded first: a bound that is no multiple of the step then takes what rounds beyond it.
        # A quantile may exceed the floats (a log-normal one of a large sigma does), the value may
        # not: an infinite one would be drawn and then refused.
        if self.quantize is not None and math.isfinite(x / self.quantize):
            x = round(x / self.quantize) * self.quantize
        clipped = float(min(max(x, self.low, -_LARGEST), self.high, _LARGEST))
        return self._as_given.get(clipped, clipped)

    def quantile(self, u: float) -> float:
        """Return the value below which a share ``u`` of the distribution lies."""
        return self.qclip(self._quantile(u))

    def _make_steps(self) -> dict[float, int] | None:
        """Return the values in ascending order, each with the highest step that gives it.

        ``None`` where they are infinitely many.
        """
        if self.quantize is None or not (math.isfinite(self.low) and math.isfinite(self.high)):
            return None
        # One step beyond each bound is clipped to it, so both bounds are among the values whether
        # they are multiples or not.  Rounding and clipping are monotonous: the values ascend, and
        # of the steps that give the same value the dictionary keeps the last.
        first, last = round(self.low / self.quantize) - 1, round(self.high / self.quantize) + 1
        if last - first > _LARGEST_SUPPORT:
            return None
        return {self.qclip(step * self.quantize): step for step in range(first, last + 1)}

    def _listed(self) -> tuple[float, ...]:
        """Return all values.

        Raises
        ------
        DomainError
            If there are infinitely many.
        """
        if self._support is None:
            raise DomainError(
                f"{self.name!r} is continuous: its values cannot be listed; give it a step "
                "(quantize=...) and finite bounds"
            )
        return self._support

    # -- symbols ----------------------------------------------------------------------------

    def value(self, code: int) -> float:
        return self._listed()[code]

    def code(self, value: Any) -> int:
        self._listed()
        return self._codes[self.coerce(value)]

    def coerce(self, value: Any) -> float:
        value = plain(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.refusal(value, f", not a {type(value).__name__}")
        if not (self.low <= value <= self.high and abs(value) <= _LARGEST):
            raise self.refusal(value)
        if self.quantize is None:
            return float(value)
        among = (self.qclip(value), float(self.low), float(self.high))
        nearest = min(among, key=lambda allowed: abs(allowed - value))
        if abs(nearest - value) > _TOLERANCE * self.quantize:
            raise self.refusal(value, f"; the nearest is {nearest}")
        return nearest

    def allowed(self) -> str:
        step = ""
        if self.quantize is not None:
            step = f" that is a multiple of {self.quantize} or a bound"
        return f"a number between {self.low} and {self.high}{step}"

    def extra_repr(self) -> str:
        parts = [f"{self.low}", f"{self.high}"]
        if self.mu is not None:
            parts += [f"mu={self.mu}", f"sigma={self.sigma}"]
        if self.log_distributed:
            parts.append("log_distributed=True")
        if self.distribution is not None:
            parts.append(f"distribution={_distribution_name(self.distribution)}")
        if self.quantize is not None:
            parts.append(f"quantize={self.quantize}")
        return ", ".join([*parts, f"label={self.name!r}"])

    def default_choice(self) -> float:
        chosen = self.default_value
        return self.quantile(0.5) if chosen is MISSING else self.coerce(chosen)

    def draw_column(self, raw: npt.NDArray[np.uint64]) -> Column:
        values = [self.quantile(share) for share in unit(raw[:, 0]).tolist()]
        if self._support is None:
            return np.array(values, dtype=np.float64)
        return np.array([self._codes[value] for value in values], dtype=np.int64)

    def decode(self, codes: Column) -> list[float]:
        if self._support is None:
            values: list[float] = codes.tolist()
            return values
        return super().decode(codes)

    def probabilities(self) -> npt.NDArray[np.float64]:
        self._listed()
        # The probability of a value is that of the interval that is rounded and clipped to it,
        # which ends half a step above the highest step that gives it.  What lies outside of the
        # bounds is clipped to the first and the last, so these reach to minus and plus infinity.
        highest = list((self._steps or {}).values())[:-1]
        edges = [(step + 0.5) * (self.quantize or 0.0) for step in highest]
        return np.diff(np.array([0.0, *[self.cdf(edge) for edge in edges], 1.0]))

    def interval(self) -> Interval:
        return (self.low, self.high)

    def grid_choices(self, granularity: int) -> Iterable[float]:
        parts = 2**granularity
        return dict.fromkeys(self.quantile(step / parts) for step in range(1, parts))


def _share(part: float, whole: float) -> float:
    """Return how much of a width lies below a point, from 0 to 1."""
    if part >= whole:
        return 1.0
    return max(part, 0.0) / whole


def _exp(x: float) -> float:
    """Return e to the power of ``x``: infinity where that exceeds the floats, as NumPy has it."""
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _distribution_key(distribution: Any) -> Hashable:
    """Return what equal distributions share; SciPy's frozen ones compare by identity."""
    if distribution is None:
        return None
    if hasattr(distribution, "dist") and hasattr(distribution, "args"):
        return (
            type(distribution.dist).__qualname__,
            key_of(tuple(distribution.args)),
            key_of(dict(sorted(distribution.kwds.items()))),
        )
    return ("id", id(distribution))


def _distribution_name(distribution: Any) -> str:
    inner = getattr(distribution, "dist", None)
    if inner is None:
        return repr(distribution)
    arguments = [*map(str, distribution.args), *(f"{k}={v}" for k, v in distribution.kwds.items())]
    return f"{inner.name}({', '.join(arguments)})"
