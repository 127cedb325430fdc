"""Random words: where every draw of the library comes from.

A draw is a function of raw 64-bit words and nothing else, so the same seed gives the same
architectures on every platform and in every release; how NumPy turns bits into choices may
change between releases, its raw PCG64 stream may not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import UsageError

__all__ = [
    "RandomState",
    "Words",
    "below",
    "chance",
    "choose",
    "shuffled",
    "unit",
    "weighted",
    "words",
]

T = TypeVar("T")

# In quotes, because touching numpy.random would import it, which takes as long as all of this.
RandomState: TypeAlias = (
    "int | np.random.Generator | np.random.RandomState | np.random.BitGenerator "
    "| np.random.SeedSequence | None"
)
"""What is accepted wherever randomness is asked for: ``None`` is NumPy's global state."""

Words = Callable[[int], npt.NDArray[np.uint64]]
"""Gives the next ``n`` raw 64-bit words."""


def words(random_state: RandomState = None) -> Words:
    """Return a source of raw 64-bit words.

    Parameters
    ----------
    random_state
        A seed (for PCG64), a ``Generator``, a ``BitGenerator``, a ``SeedSequence``, a legacy
        ``RandomState``, or ``None`` for NumPy's global state, as in SciPy.

    Examples
    --------
    >>> words(0)(2)
    array([11749869230777074271,  4976686463289251617], dtype=uint64)
    """
    if random_state is None or isinstance(random_state, np.random.RandomState):
        source = np.random if random_state is None else random_state
        return lambda n: np.frombuffer(source.bytes(8 * n), dtype="<u8")
    if isinstance(random_state, (int, np.integer)) and not isinstance(random_state, bool):
        if random_state < 0:
            raise UsageError(f"a seed must not be negative, but got {random_state}")
        random_state = np.random.PCG64(int(random_state))
    elif isinstance(random_state, np.random.SeedSequence):
        random_state = np.random.PCG64(random_state)
    if isinstance(random_state, np.random.Generator):
        random_state = random_state.bit_generator
    if not isinstance(random_state, np.random.BitGenerator):
        raise UsageError(
            "a random state is an integer seed, one of NumPy's generators, or None for NumPy's "
            f"global state, but got {random_state!r}"
        )
    return _Stream(random_state)


class _Stream:
    """The words of a bit generator."""

    def __init__(self, bits: np.random.BitGenerator) -> None:
        self.bits = bits

    def __call__(self, n: int) -> npt.NDArray[np.uint64]:
        # The raw stream is quicker for few words; but that of some generators has 32 bits.
        if n < 64 and isinstance(self.bits, np.random.PCG64):
            few: npt.NDArray[np.uint64] = self.bits.random_raw(n)
            return few
        # The same stream through full-range integers, an order of magnitude faster for many.
        generator = np.random.Generator(self.bits)
        integers: Any = generator.integers  # its many overloads do not say which applies
        many: npt.NDArray[np.uint64] = integers(0, 2**64 - 1, n, dtype=np.uint64, endpoint=True)
        return many


def unit(raw: Any) -> Any:
    """Return words as floats strictly between 0 and 1, from their upper 53 bits."""
    return ((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def below(raw: npt.NDArray[np.uint64], size: int) -> npt.NDArray[Any]:
    """Return codes below a size from the upper 32 bits of words, by multiplication and shift."""
    # Each draw takes exactly one word, which rejection sampling would not: so the layout of words
    # is fixed (Lemire, *Fast random integer generation in an interval*, 2019, without its
    # rejection).  No code's probability is off by more than 2^-32.
    codes = ((raw >> np.uint64(32)) * np.uint64(size)) >> np.uint64(32)
    return codes.astype(np.uint8 if size <= 256 else np.int64)


def weighted(raw: npt.NDArray[np.uint64], weights: Sequence[float]) -> npt.NDArray[Any]:
    """Return codes with the given probabilities, by inversion of the cumulative distribution."""
    # ``side="right"`` passes over codes of weight 0, whose step has no width.  The last step may
    # be rounded to a little less than 1, and a word above it belongs to the last code that can
    # be drawn.
    total = math.fsum(weights)
    steps, reached = [], 0.0
    for weight in weights:
        reached += weight
        steps.append(reached / total)
    last = max(code for code, weight in enumerate(weights) if weight > 0)
    codes: npt.NDArray[Any] = np.searchsorted(np.array(steps), unit(raw), side="right")
    codes = np.minimum(codes, last)
    return codes.astype(np.uint8 if len(weights) <= 256 else np.int64)


def chance(words: Words) -> float:
    """Return a number between 0 and 1."""
    return float(unit(words(1))[0])


def choose(words: Words, items: Sequence[T]) -> T:
    """Draw one of several, each as likely as any other."""
    return items[int(below(words(1), len(items))[0])]


def shuffled(words: Words, items: Sequence[T]) -> list[T]:
    """Return all of them in a random order.

    Examples
    --------
    >>> sorted(shuffled(words(0), "abc"))
    ['a', 'b', 'c']
    """
    order = np.argsort(words(len(items)), kind="stable")
    return [items[place] for place in order]
