"""Architectures near others: mutation, crossover, and the nearest one that may be tried."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from operator import attrgetter
from typing import Any, NamedTuple, cast

from ..errors import DecompositionError, DomainError
from ..mutable import Mutable, MutableSymbol, Sample, Values
from ..mutable.node import Node, key_of, leaves, postorder
from ..mutable.operators import BRANCHES, selectors
from ..mutable.random_words import Words, chance, choose, shuffled
from ..nn.space import architecture_digest
from ..tables import grid
from .base import Searchable, unrestricted

__all__ = [
    "Nearest",
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
    return _completed(space, wishes, words).active


def _completed(space: Searchable, wishes: Mapping[str, Any], words: Words) -> Values:
    """Return the values of what :func:`complete` gives."""
    mutable = cast("Mutable", space)
    return mutable.completed(wishes, lambda symbol: symbol.draw(words(symbol.words)))[1]


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


def is_untried(space: Searchable, arch: Mapping[str, Any], taken: Set[str]) -> bool:
    """Return whether an architecture of active labels is in a space, and its id not taken."""
    symbols = unrestricted(space).symbols()
    return space.contains(arch) and architecture_digest(dict(arch), symbols) not in taken


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
    root = space.structure()
    deciding = frozenset() if root is None else root.remember("_deciding", _deciding)
    for label, changed in _changed(space, arch, words):
        yield complete(space, changed, words) if label in deciding else changed


def _deciding(root: Node) -> frozenset[str]:
    """Return the labels whose values may decide which others are active."""
    lazy = (node for node in postorder(root) if node.operator in BRANCHES)
    return frozenset(leaf.name for leaf in leaves(*(a for node in lazy for a in selectors(node))))


def _changed(
    space: Searchable, arch: Mapping[str, Any], words: Words
) -> Iterator[tuple[str, Sample]]:
    """Yield each active label with another value of it, in an architecture not yet complete."""
    symbols = space.symbols()
    changes: list[tuple[str, Any]] = []
    for label, value in arch.items():
        symbol = symbols[label]
        if symbol.size is None or symbol.size > _LISTED:
            changes += [(label, _another(symbol, value, words)) for _ in range(_DRAWN)]
        else:
            present = symbol.code(value)
            changes += [(label, symbol.value(c)) for c in range(symbol.size) if c != present]
    for label, value in shuffled(words, changes):
        yield label, {**arch, label: value}


class Nearest(NamedTuple):
    """An architecture that may be tried: walked through and checked once, for all that follows.

    Attributes
    ----------
    arch
        Canonical.
    steps
        In how many labels it differs from what was asked for.
    arch_id
        Its id.
    values
        What it gives to expressions.
    """

    arch: Sample
    steps: int
    arch_id: str
    values: Values


def nearest(
    space: Searchable,
    arch: Mapping[str, Any],
    words: Words,
    *,
    taken: Set[str] = frozenset(),
    limit: int = 2000,
) -> Nearest | None:
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
    Nearest or None
        ``None`` if none is left.

    Examples
    --------
    >>> from nas_space.hub import ProxylessNAS
    >>> from nas_space.mutable.random_words import words
    >>> space = ProxylessNAS()
    >>> arch = space.sample(seed=0)
    >>> nearest(space, arch, words(0), taken=frozenset({space.arch_id(arch)})).steps
    1
    """
    symbols = unrestricted(space).symbols()
    start = _completed(space, arch, words)

    def allowed(values: Values) -> Nearest | None:
        arch_id = architecture_digest(values.active, symbols)
        if arch_id in taken or not values.meets_constraints():
            return None
        canonical = {label: values.active[label] for label in symbols if label in values.active}
        steps = 0 if values is start else distance(start.active, canonical)
        return Nearest(canonical, steps, arch_id, values)

    if found := allowed(start):
        return found
    seen = {key_of(start.active, loose=True)}
    ring = [start.active]
    while ring:
        further: list[Sample] = []
        for centre in ring:
            for _, changed in _changed(space, centre, words):
                candidate = _completed(space, changed, words)
                key = key_of(candidate.active, loose=True)
                if key in seen:
                    continue
                seen.add(key)
                if found := allowed(candidate):
                    return found
                if len(seen) > limit:
                    return _far(space, words, allowed)
                further.append(candidate.active)
        ring = shuffled(words, further)
    return None


def _far(
    space: Searchable, words: Words, allowed: Callable[[Values], Nearest | None]
) -> Nearest | None:
    """The nearest of some random architectures that are allowed; else any."""

    def those(archs: Iterable[Sample]) -> Iterator[Nearest]:
        return filter(None, (allowed(_completed(space, arch, words)) for arch in archs))

    drawn = those(space.sample(_SAMPLED, seed=int(words(1)[0])))
    near = min(drawn, key=attrgetter("steps"), default=None)
    return near or next(those(_all(space)), None)


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
