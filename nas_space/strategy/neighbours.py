"""Architectures near others: mutation, crossover, and the nearest one that may be tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from itertools import islice
from typing import Any, cast

from ..errors import DecompositionError, DomainError
from ..mutable import Mutable, MutableSymbol, Sample
from ..mutable.node import Node, key_of, leaves, postorder
from ..mutable.operators import BRANCHES
from ..mutable.random_words import Words
from ..nn.digests import architecture_digest
from ..tables import grid
from .base import Searchable, unrestricted
from .draws import chance, choose, shuffled

__all__ = [
    "canonical_id",
    "complete",
    "crossover",
    "decide",
    "distance",
    "is_untried",
    "mutate",
    "nearest",
    "neighbours",
]

_LISTED = 64
"""Of a label with more values than these, neighbours have some at random, not all."""

_DRAWN = 16
"""How many these are."""

_SAMPLED = 64
"""How many architectures are drawn at a time where no near one can be had."""

_TRIED = 100
"""How many times, where architectures cannot be listed."""


def complete(space: Searchable, wishes: Mapping[str, Any], words: Words) -> Sample:
    """Return the architecture that follows wishes where they matter.

    Labels that are active and not among the wishes are drawn; wishes for labels that are not
    active are dropped.  Constraints are not looked at.

    Parameters
    ----------
    space
        Says which labels are active.
    wishes
        Label to value.
    words
        Random words to draw from.

    Examples
    --------
    >>> from nas_space.hub import ProxylessNAS
    >>> from nas_space.mutable.random_words import words
    >>> space = ProxylessNAS()
    >>> arch = complete(space, {"s2_depth": 1, "s2_i3": "k3e3"}, words(0))
    >>> [label for label in arch if label.startswith("s2")]
    ['s2_depth', 's2_i0']
    """
    return decide(space, wishes, lambda symbol: symbol.draw(words(symbol.words)))


def decide(
    space: Searchable, wishes: Mapping[str, Any], choose: Callable[[MutableSymbol[Any]], Any]
) -> Sample:
    """Complete wishes as :func:`complete` does, with a function that chooses what they leave open.

    Parameters
    ----------
    space
        Says which labels are active.
    wishes
        Label to value.
    choose
        Gives the value of a label.  It is asked in an order in which each is known to be active.
    """
    _, values = cast("Mutable", space).completed(wishes, choose)
    return values.active


def canonical_id(space: Searchable, arch: Mapping[str, Any]) -> str:
    """Return the id of an architecture that is known to be in a space, with active labels only.

    ``space.arch_id`` gives the same, and validates again what it is asked about.
    """
    return architecture_digest(dict(arch), unrestricted(space).symbols())


def is_untried(space: Searchable, arch: Mapping[str, Any], taken: Set[str]) -> bool:
    """Return whether an architecture of active labels is in a space, and its id not taken."""
    return space.contains(arch) and canonical_id(space, arch) not in taken


def mutate(
    space: Searchable, arch: Mapping[str, Any], words: Words, probability: float = 0.0
) -> Sample:
    """Return an architecture that differs from another in at least one active label.

    Parameters
    ----------
    space
        The space of both.
    arch
        The parent.
    words
        Random words to draw from.
    probability
        Of each further active label to change.  Values are drawn by the labels' own
        distributions, the present one excluded.
    """
    symbols = space.symbols()
    labels = [label for label in arch if symbols[label].size != 1]
    if not labels:
        return dict(arch)
    certain = choose(words, labels)
    changed = dict(arch)
    for label in labels:
        if label == certain or chance(words) < probability:
            changed[label] = _another(symbols[label], arch[label], words)
    return complete(space, changed, words)


def crossover(
    space: Searchable, one: Mapping[str, Any], other: Mapping[str, Any], words: Words
) -> Sample:
    """Return an architecture whose labels come from either of two parents that have them."""
    taken = {
        label: value for label, value in other.items() if label not in one or chance(words) < 0.5
    }
    return complete(space, {**one, **taken}, words)


def distance(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    """Count the labels in which two architectures differ; one that only one of them has counts.

    Examples
    --------
    >>> distance({"depth": 1, "op0": "a"}, {"depth": 2, "op0": "a", "op1": "b"})
    2
    """
    missing = object()
    labels = {**one, **other}
    return sum(
        key_of(one.get(label, missing), loose=True) != key_of(other.get(label, missing), loose=True)
        for label in labels
    )


def neighbours(space: Searchable, arch: Mapping[str, Any], words: Words) -> Iterator[Sample]:
    """Yield the architectures that differ in the value of one active label, in random order.

    Labels that become active thereby are drawn.  Of labels with very many values, some are
    drawn.

    Parameters
    ----------
    space
        The space, or a restriction of it.
    arch
        An architecture, canonical.
    words
        Random words to draw from.
    """
    symbols, root = space.symbols(), space.structure()
    deciding = frozenset() if root is None else root.remember("_deciding", _deciding)
    changes: list[tuple[str, Any]] = []
    for label, value in arch.items():
        symbol = symbols[label]
        if symbol.size is None or symbol.size > _LISTED:
            changes += [(label, _another(symbol, value, words)) for _ in range(_DRAWN)]
        else:
            present = symbol.code(value)
            changes += [(label, symbol.value(c)) for c in range(symbol.size) if c != present]
    for label, value in shuffled(words, changes):
        changed = {**arch, label: value}
        yield complete(space, changed, words) if label in deciding else changed


def _deciding(root: Node) -> frozenset[str]:
    """Return the labels whose values may decide which others are active."""
    selectors: list[Any] = []
    for node in postorder(root):
        if node.operator in BRANCHES:
            branches = range(len(node.arguments))[BRANCHES[node.operator]]
            selectors += [a for n, a in enumerate(node.arguments) if n not in branches]
    return frozenset(leaf.name for leaf in leaves(*selectors))


def nearest(
    space: Searchable,
    arch: Mapping[str, Any],
    words: Words,
    *,
    taken: Set[str] = frozenset(),
    limit: int = 2000,
) -> tuple[Sample, int] | None:
    """Return the architecture itself, or else one near it that is allowed and not taken.

    Looks at what differs in one label, then in two, and so on, in random order, at no more
    than ``limit`` of them.  In a space so large, or a restriction so tight, that none of them
    will do, the nearest of some random ones is taken, and any that is left if these are taken.

    Parameters
    ----------
    space
        The space, or a restriction of it.
    arch
        Values of active labels; wrong ones are not looked at, see :func:`complete`.
    words
        Random words to draw from.
    taken
        Ids of architectures that will not do.
    limit
        How many to look at.

    Returns
    -------
    tuple or None
        The architecture, canonical, and in how many labels it differs; ``None`` if none is left.

    Examples
    --------
    >>> from nas_space.hub import ProxylessNAS
    >>> from nas_space.mutable.random_words import words
    >>> space = ProxylessNAS()
    >>> arch = space.sample(seed=0)
    >>> other, steps = nearest(space, arch, words(0), taken=frozenset({space.arch_id(arch)}))
    >>> steps
    1
    """

    def fits(candidate: Sample) -> bool:
        return is_untried(space, candidate, taken)

    def found(candidate: Sample, steps: int) -> tuple[Sample, int]:
        return {label: candidate[label] for label in labels if label in candidate}, steps

    labels = unrestricted(space).symbols()
    start = complete(space, arch, words)
    if fits(start):
        return found(start, 0)
    seen = {key_of(start, loose=True)}
    ring = [start]
    while ring:
        further: list[Sample] = []
        for centre in ring:
            for candidate in neighbours(space, centre, words):
                key = key_of(candidate, loose=True)
                if key in seen:
                    continue
                seen.add(key)
                if fits(candidate):
                    return found(candidate, distance(start, candidate))
                if len(seen) > limit:
                    far = _far(space, start, words, fits)
                    return None if far is None else found(far, distance(start, far))
                further.append(candidate)
        ring = shuffled(words, further)
    return None


def _far(
    space: Searchable, arch: Sample, words: Words, fits: Callable[[Sample], bool]
) -> Sample | None:
    """The nearest of some random architectures that fit; else any."""
    drawn = space.sample(_SAMPLED, seed=int(words(1)[0]))
    fitting = [candidate for candidate in drawn if fits(candidate)]
    if not fitting:
        fitting = list(islice(filter(fits, _all(space)), 1))
    return min(fitting, key=lambda candidate: distance(arch, candidate), default=None)


def _all(space: Searchable) -> Iterator[Sample]:
    """Every architecture, or a great many where they cannot be listed."""
    try:
        yield from grid(cast("Mutable", space))
    except (DomainError, DecompositionError):
        for seed in range(_TRIED):
            yield from space.sample(_SAMPLED, seed=seed)


def _another(symbol: MutableSymbol[Any], present: Any, words: Words) -> Any:
    """A value of a label by its own distribution, other than the present one."""
    for _ in range(32):
        value = symbol.draw(words(symbol.words))
        if key_of(value, loose=True) != key_of(present, loose=True):
            return value
    # All others are improbable, or have no weight at all: any of them, then.
    if symbol.size is None:
        return present
    code = symbol.code(present)
    return symbol.value((code + choose(words, range(1, symbol.size))) % symbol.size)
