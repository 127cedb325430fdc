"""`Numerical`: a label that takes numbers from a distribution."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DomainError
from .labels import auto_label
from .node import key_of
from .randomness import unit
from .symbols import MISSING, MutableSymbol

_LARGEST_SUPPORT = 2**20


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

    Examples
    --------
    >>> list(Numerical(0, 1, label='x').grid(granularity=2))
    [0.25, 0.5, 0.75]
    >>> Numerical(0, 100, quantize=10, label='y').size
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
        self.label = auto_label(label)
        self.low, self.high = _number(low, "low", self.label), _number(high, "high", self.label)
        self.mu, self.sigma = mu, sigma
        self.log_distributed = log_distributed
        self.quantize = quantize
        self.distribution = distribution
        self._check_arguments()
        if distribution is not None:
            support = distribution.support()
            self.low, self.high = max(self.low, float(support[0])), min(self.high, float(support[1]))
        self._quantile = self._make_quantile()
        self._support = self._make_support()
        self.size = None if self._support is None else len(self._support)
        self._finish(default)

    def _check_arguments(self) -> None:
        name = repr(str(self.label))
        if not self.low <= self.high:
            raise DomainError(f"low <= high must hold for {name}, but got {self.low} and {self.high}")
        if self.quantize is not None and not (
            _number(self.quantize, "quantize", self.label) > 0 and math.isfinite(self.quantize)
        ):
            raise DomainError(f"quantize of {name} must be positive, but got {self.quantize}")
        if (self.mu is None) != (self.sigma is None):
            raise DomainError(f"{name} needs both mu and sigma, or neither")
        if self.distribution is not None:
            if self.mu is not None or self.log_distributed:
                raise DomainError(f"{name} has a distribution of its own; leave out mu, sigma and log_distributed")
            missing = [m for m in ("ppf", "cdf", "support") if not hasattr(self.distribution, m)]
            if missing:
                raise DomainError(f"the distribution of {name} must have ppf, cdf and support, but lacks {missing}")
        elif self.mu is not None:
            assert self.sigma is not None
            _number(self.mu, "mu", self.label)
            if not _number(self.sigma, "sigma", self.label) > 0:
                raise DomainError(f"sigma of {name} must be positive, but got {self.sigma}")
        elif not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise DomainError(f"{name} is uniform, so it needs finite bounds, but got {self.low} and {self.high}")
        if self.log_distributed and self.mu is None and self.low <= 0:
            raise DomainError(f"{name} is log-uniform, so low must be positive, but got {self.low}")

    def domain(self) -> tuple[Any, ...]:
        return (
            self.low, self.high, self.mu, self.sigma, self.log_distributed, self.quantize,
            _distribution_key(self.distribution), self.default_value,
        )  # fmt: skip

    def arguments_of_call(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (self.low, self.high), {
            "mu": self.mu, "sigma": self.sigma, "log_distributed": self.log_distributed,
            "quantize": self.quantize, "distribution": self.distribution,
            "default": self.default_value, "label": self.label,
        }  # fmt: skip

    # -- the distribution -------------------------------------------------------------------

    def _make_quantile(self) -> Callable[[float], float]:
        low, high = self.low, self.high
        if self.distribution is not None:
            return lambda u: float(self.distribution.ppf(u))
        if self.mu is not None and self.sigma is not None:
            normal = NormalDist(self.mu, self.sigma)
            if self.log_distributed:
                return lambda u: math.exp(normal.inv_cdf(u))
            return normal.inv_cdf
        if self.log_distributed:
            start, width = math.log(low), math.log(high) - math.log(low)
            return lambda u: math.exp(start + u * width)
        return lambda u: low + u * (high - low)

    def cdf(self, x: float) -> float:
        """Probability of a value at most ``x``, before rounding and clipping."""
        if self.distribution is not None:
            return float(self.distribution.cdf(x))
        if self.mu is not None and self.sigma is not None:
            if self.log_distributed:
                return NormalDist(self.mu, self.sigma).cdf(math.log(x)) if x > 0 else 0.0
            return NormalDist(self.mu, self.sigma).cdf(x)
        if x <= self.low:
            return 0.0
        if x >= self.high:
            return 1.0
        if self.log_distributed:
            return math.log(x / self.low) / math.log(self.high / self.low)
        return (x - self.low) / (self.high - self.low)

    def qclip(self, x: float) -> float:
        """``x`` rounded to the step and clipped to the bounds."""
        if self.quantize is not None:
            x = round(x / self.quantize) * self.quantize
        return min(max(x, self.low), self.high)

    def quantile(self, u: float) -> float:
        """The value below which a share ``u`` of the distribution lies."""
        return self.qclip(self._quantile(u))

    def _make_support(self) -> tuple[float, ...] | None:
        """All values in ascending order, where the step leaves finitely many."""
        if self.quantize is None or not (math.isfinite(self.low) and math.isfinite(self.high)):
            return None
        first, last = round(self.low / self.quantize), round(self.high / self.quantize)
        if last - first > _LARGEST_SUPPORT:
            return None
        values = {self.qclip(step * self.quantize) for step in range(first, last + 1)}
        return tuple(sorted(values))

    # -- symbols ----------------------------------------------------------------------------

    def value(self, code: int) -> float:
        assert self._support is not None
        return self._support[code]

    def code(self, value: Any) -> int:
        value = self.coerce(value)
        assert self._support is not None
        return self._support.index(value)

    def coerce(self, value: Any) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.refusal(value, f", not a {type(value).__name__}")
        if not self.low <= value <= self.high:
            raise self.refusal(value)
        if self.quantize is not None:
            nearest = self.qclip(value)
            if abs(nearest - value) > 1e-6:
                raise self.refusal(value, f"; the nearest is {nearest}")
            return nearest
        return value

    def allowed(self) -> str:
        step = "" if self.quantize is None else f" that is a multiple of {self.quantize} or a bound"
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
        return ", ".join([*parts, f"label={str(self.label)!r}"])

    def default_choice(self) -> float:
        return self.quantile(0.5) if self.default_value is MISSING else self.default_value

    def draw_column(self, raw: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
        shares = unit(raw[:, 0])
        values = [self.quantile(share) for share in shares.tolist()]
        if self._support is None:
            return np.array(values, dtype=np.float64)
        places = {value: code for code, value in enumerate(self._support)}
        return np.array([places[value] for value in values], dtype=np.int64)

    def decode(self, codes: npt.NDArray[Any]) -> list[Any]:
        if self._support is None:
            return codes.tolist()  # type: ignore[no-any-return]
        return [self._support[code] for code in codes.tolist()]

    def probabilities(self) -> npt.NDArray[np.float64]:
        if self._support is None:
            raise DomainError(f"{self.label!r} is continuous: its values have no probabilities")
        assert self.quantize is not None
        # The share of the distribution that rounds to each value; what lies outside the
        # bounds is clipped to the first and the last.
        edges = [
            (round(value / self.quantize) + 0.5) * self.quantize for value in self._support[:-1]
        ]
        steps = [0.0, *(self.cdf(edge) for edge in edges), 1.0]
        return np.diff(np.array(steps))

    def grid_choices(self, granularity: int) -> Iterable[float]:
        parts = 2**granularity
        values = [self.quantile(step / parts) for step in range(1, parts)]
        return dict.fromkeys(values)

    def as_legacy_dict(self) -> dict[str, Any]:
        prefix = "q" if self.quantize is not None else ""
        log = "log" if self.log_distributed else ""
        tail = [] if self.quantize is None else [self.quantize]
        if self.mu is not None:
            return {"_type": f"{prefix}{log}normal", "_value": [self.mu, self.sigma, *tail]}
        if self.distribution is not None:
            return super().as_legacy_dict()
        return {"_type": f"{prefix}{log}uniform", "_value": [self.low, self.high, *tail]}


def _number(value: Any, name: str, label: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise DomainError(f"{name} of {str(label)!r} must be a number, but got {value!r}")
    return value


def _distribution_key(distribution: Any) -> Hashable:
    """SciPy's frozen distributions compare by identity; this compares what they say."""
    if distribution is not None and hasattr(distribution, "dist") and hasattr(distribution, "args"):
        return (
            type(distribution.dist).__qualname__,
            key_of(tuple(distribution.args)),
            key_of(dict(sorted(distribution.kwds.items()))),
        )
    return distribution if distribution is None else ("id", id(distribution))


def _distribution_name(distribution: Any) -> str:
    inner = getattr(distribution, "dist", None)
    if inner is None:
        return repr(distribution)
    arguments = [*map(str, distribution.args), *(f"{k}={v}" for k, v in distribution.kwds.items())]
    return f"{inner.name}({', '.join(arguments)})"
