"""Drawing architectures that meet conditions, exactly by the distribution that was asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np

from ..errors import DecompositionError, InfeasibleError, UsageError
from ..mutable import Mutable, Sample, SampleBatch
from ..mutable.batch import draw_one
from ..mutable.factors import Array
from ..mutable.node import Leaf, Node
from ..mutable.random_words import RandomState, Words, unit, words
from .arithmetic import Real
from .decoding import meets, within
from .histograms import pick_between
from .infeasibility import refusal
from .message_passing import Messages
from .model import BareStructure, CompiledModel, Model, Over, find_constraints
from .quantisation import Quantisation, finest

__all__ = ["Sampler", "any_within", "refined", "sample", "sampler_of"]

_ROWS, _WORK = 2**18, 6e7
"""How many rows lists of costs may have in all, and how many nanoseconds they may take."""

_COARSE, _FINE = 1, 64
"""How often as much it is allowed to be first, and last, if coarse units let too much through."""

_GOOD, _RATE = 0.25, 1e-3
"""The share of draws to be good that is aimed at, and the least for drawing to be worth while."""

_ATTEMPTS = 100_000
"""How many draws are tried for one architecture that a constraint in Python allows."""

_AT_ONCE = 4096
"""How many architectures are drawn at a time."""


class Sampler:
    """Draws architectures of a space.

    Costs are told apart as finely as is quick.  What a coarser unit lets through, and constraints
    that cannot be taken apart refuse, is drawn again: so the distribution is exact.

    Parameters
    ----------
    root
        The structure of the space.
    over
        ``'labels'``: each label by its own distribution.  ``'architectures'``: each the same.
        Both given that all conditions are met.
    attempts
        How many draws may fail for each that is good, where some may.

    Attributes
    ----------
    rate
        About this share of draws meets all windows, if not more.

    Raises
    ------
    InfeasibleError
        If no architecture meets the conditions.
    DecompositionError
        If so few draws would that this is no way to find one.
    """

    def __init__(self, root: Node, over: Over, attempts: int | None = None) -> None:
        self.attempts = attempts
        self.space = BareStructure(root)
        self.rate = 1.0
        self.messages: Messages | None = None
        try:
            self.model = model = Model.of(root)
        except DecompositionError:
            if over != "labels":
                raise
            self.refused_by = root.remember("_constraints", find_constraints)
            return  # each label on its own, and what constraints refuse is drawn again
        self.refused_by = list(model.others)
        if over == "labels" and not model.allowed and not model.windows:
            return
        self.compiled = compiled = model.compiled()
        if not compiled.tree.possible:
            raise refusal(root)
        weights = compiled.weights(over)
        self.messages, self.rate = self._finest(weights)
        self.pairs = self.messages.root_pairs()
        graph = compiled.graph
        self.columns = [
            _ClassMembers(classes, _shares(variable, over))
            for variable, classes in zip(graph.variables, graph.classes, strict=True)
        ]
        self.draws = [_LooseLabel(label, over) for label in compiled.loose]
        self.words = [
            self.messages.words,
            *(1 for column in self.columns if column.several),
            *(draw.words for draw in self.draws),
        ]
        if self.rate < _GOOD:  # all that is proven; there may be far more
            found = within(model, self._some(_AT_ONCE, words(0)))
            self.rate = max(self.rate, float(found.mean()), 1 / _AT_ONCE)
            if not (attempts or (found.any() and self.rate > _RATE)):
                raise _too_narrow(compiled.keys)

    def _finest(self, weights: Sequence[Array]) -> tuple[Messages, float]:
        try:
            for messages, rate in refined(self.compiled, weights, keep=True):  # noqa: B007
                if rate > _GOOD:
                    break
        except InfeasibleError:
            raise refusal(self.model.root) from None
        return messages, rate

    # -- drawing ------------------------------------------------------------------------------

    def draw(self, n: int, source: Words) -> SampleBatch:
        """Draw ``n`` architectures; the first ones do not depend on how many."""
        exact = self.messages is None or self.messages.quantisation.exact
        if exact and not self.refused_by:
            return self._some(n, source)
        parts = [self._some(0, source)]
        found = tried = 0
        while found < n:
            size = min(_AT_ONCE, max(math.ceil((n - found) / self.rate), tried))
            batch = self._some(size, source)
            good = np.ones(size, np.bool_) if exact else within(self.model, batch)
            good[good] = meets(batch[np.flatnonzero(good)], self.refused_by)
            parts.append(batch[np.flatnonzero(good)])
            found, tried = found + int(good.sum()), tried + size
            if found < n and tried >= (found + 1) * (self.attempts or _ATTEMPTS):
                texts = list(map(str, self.refused_by))[:3]
                raise InfeasibleError(
                    f"{found} of {tried} architectures drawn met the conditions that cannot be "
                    f"met exactly ({', '.join(texts)}); allow more attempts, loosen them, or look "
                    "for one that meets them with space.grid()"
                )
        return SampleBatch.concatenate(parts)[:n]

    def draw_one(self, space: Mutable, source: Words) -> Sample:
        """Return the first of :meth:`draw`, without a batch where none is to be drawn again."""
        if self.messages is None or not self.messages.quantisation.exact or self.refused_by:
            return self.draw(1, source)[0]
        codes = self._codes(1, source)
        drawn = {label.name: label.decode(codes[label])[0] for label in self.model.labels}
        active = space.completed(drawn, lambda label: drawn[label.name])[1].active
        return {name: value for name, value in drawn.items() if name in active}

    def _some(self, size: int, source: Words) -> SampleBatch:
        """Architectures that may still violate something."""
        if self.messages is None:
            return SampleBatch.draw(self.space, size, source)
        return self.model.batch(self._codes(size, source), size)

    def _codes(self, size: int, source: Words) -> dict[Any, Array]:
        """A code of each variable for some architectures, each by its own words."""
        assert self.messages is not None
        raw = source(size * sum(self.words)).reshape(size, sum(self.words))
        own, *others = np.split(raw, np.cumsum(self.words)[:-1], axis=1)
        classes = self.messages.draw(unit(own), self.pairs) if size else {}
        codes: dict[Any, Array] = {}
        remaining = iter(others)
        for place, (variable, column) in enumerate(
            zip(self.compiled.graph.variables, self.columns, strict=True)
        ):
            words_ = next(remaining) if column.several else None
            chosen = classes.get(place, np.zeros(size, np.int64))
            codes[variable] = column.codes(chosen, words_)
        for label, draw in zip(self.compiled.loose, self.draws, strict=True):
            codes[label] = draw(next(remaining))
        return codes


def refined(
    compiled: CompiledModel, weights: Sequence[Array], *, keep: bool
) -> Iterator[tuple[Messages, float]]:
    """Yield histograms in ever finer units, and at least which share of them is within windows.

    Parameters
    ----------
    compiled
        What a space allows.
    weights
        How much each state of each clique weighs.
    keep
        Whether to keep what is needed to draw from the histograms.

    Raises
    ------
    InfeasibleError
        If nothing is within the windows.
    """
    limit, exact = _COARSE, False
    while not exact and limit <= _FINE:
        keys = finest(compiled.keys, most_rows=limit * _ROWS, most_work=limit * _WORK)
        messages = Messages(keys, Real(), weights, keep=keep)
        allowed = float(messages.root_pairs().weights.sum())
        if not allowed:
            raise InfeasibleError("no architecture meets the conditions together")
        exact = keys.exact
        sure = messages.root_pairs(keys.sure_low, keys.sure_high).weights.sum()
        yield messages, 1.0 if exact else float(sure) / allowed
        limit *= 8


def any_within(compiled: CompiledModel) -> bool:
    """Return whether some architecture is within all windows.

    Raises
    ------
    DecompositionError
        If the costs are too varied to tell, and none of some random ones is.
    """
    weights = [np.ones(costs.shape[1]) for costs in compiled.costs]
    try:
        if any(rate for _, rate in refined(compiled, weights, keep=False)):
            return True
        sampler_of(compiled.model.root, "labels")
    except InfeasibleError:
        return False
    return True


def _too_narrow(keys: Quantisation) -> DecompositionError:
    return DecompositionError(
        "the conditions are too narrow, on costs that are too varied, to be met exactly: up to "
        f"{keys.estimate().total:.1e} sums of {' and '.join(w.text for w in keys.windows)} would "
        f"have to be told apart, at most {_FINE * _ROWS:.1e} can be, and of {_AT_ONCE} "
        f"architectures drawn near them, {_RATE:.1%} at most meet them; round the costs to a "
        "coarser unit with nas_space.tables.rounded, loosen the conditions, or give attempts=... "
        "to draw until one is met"
    )


def _shares(variable: Any, over: Over) -> Array:
    """How probable each code is, relative to the others of its class."""
    by_labels = over == "labels" and isinstance(variable, Leaf)
    shares: Array = variable.probabilities() if by_labels else np.ones(variable.size)
    return shares


class _ClassMembers:
    """The codes of a variable, class by class."""

    def __init__(self, classes: Array, shares: Array) -> None:
        self.order = np.argsort(classes, kind="stable")
        self.counts = np.bincount(classes)
        self.starts = np.cumsum(self.counts) - self.counts
        self.several = bool((self.counts > 1).any())
        self.sums = np.append(0.0, np.cumsum(shares[self.order]))
        self.uniform = bool((shares == shares[0]).all())

    def codes(self, classes: Array, raw: Array | None) -> Array:
        """Return a member of each class, by its share."""
        start, count = self.starts[classes], self.counts[classes]
        place = start
        if raw is not None and self.uniform:
            place = start + (unit(raw[:, 0]) * count).astype(np.int64)
        elif raw is not None:
            place = pick_between(self.sums, start, start + count, unit(raw[:, 0]))
        found: Array = self.order[place]
        return found


class _LooseLabel:
    """Draws of a label that nothing else depends on."""

    def __init__(self, label: Any, over: Over) -> None:
        self.label, self.over = label, over
        self.words: int = label.words
        if over == "architectures":
            # A word more than needed, where it has many values: then what is left over is no bias.
            self.words = 1 if label.size <= 2**20 else -(-label.size.bit_length() // 64) + 1

    def __call__(self, raw: Array) -> Array:
        if self.over == "labels":
            drawn: Array = self.label.draw_column(raw)
            return drawn
        if self.words == 1:
            codes: Array = (unit(raw[:, 0]) * self.label.size).astype(np.int64)
            return codes
        numbers = [
            sum(word << 64 * place for place, word in enumerate(row)) * self.label.size
            >> 64 * self.words
            for row in raw.tolist()
        ]
        return np.array(numbers, dtype=np.int64 if self.label.size < 2**62 else object)


@overload
def sample(
    space: Mutable,
    n: None = None,
    *,
    over: Over = "labels",
    seed: RandomState = None,
    attempts: int | None = None,
) -> Sample: ...
@overload
def sample(
    space: Mutable,
    n: int,
    *,
    over: Over = "labels",
    seed: RandomState = None,
    attempts: int | None = None,
) -> SampleBatch: ...
@overload
def sample(
    space: Mutable,
    n: int | None,
    *,
    over: Over = "labels",
    seed: RandomState = None,
    attempts: int | None = None,
) -> Sample | SampleBatch: ...
def sample(
    space: Mutable,
    n: int | None = None,
    *,
    over: Over = "labels",
    seed: RandomState = None,
    attempts: int | None = None,
) -> Sample | SampleBatch:
    """Draw architectures from all that meet the constraints of a space.

    Parameters
    ----------
    space
        A space, restricted or not.
    n
        How many; one dictionary if it is not given.
    over
        ``'labels'``: each label by its own distribution, given that the constraints are met.
        ``'architectures'``: every architecture with the same probability.
    seed
        A seed, one of NumPy's generators, or ``None`` for NumPy's global state.
    attempts
        How many draws may be rejected for each architecture, where constraints can only be met
        by drawing until one does; by default as many as the space says, or else 100,000.

    Returns
    -------
    dict or SampleBatch
        The first ones of a batch do not depend on how many are drawn.

    Raises
    ------
    InfeasibleError
        If there are none.
    DomainError
        If every architecture is to be as probable, and a label is continuous.
    DecompositionError
        If the constraints are too varied to be met otherwise than by chance.
    UsageError
        If ``n`` or ``over`` is not one of the above.

    Examples
    --------
    >>> from nas_space.mutable import Categorical, ExpressionConstraint, MutableList
    >>> a, b = Categorical([1, 2, 3], label="a"), Categorical([1, 2, 3], label="b")
    >>> space = MutableList([a, b, ExpressionConstraint(a + b == 4, label="sum")])
    >>> batch = sample(space, 300, over="architectures", seed=0)
    >>> len({tuple(arch.values()) for arch in batch})
    3
    """
    if over not in ("labels", "architectures"):
        raise UsageError(f"over must be 'labels' or 'architectures', but got {over!r}")
    number: Any = 1 if n is None else n
    if type(number) is bool or not isinstance(number, (int, np.integer)) or number < 0:
        raise UsageError(f"the number of architectures must be 0 or more, but got {n!r}")
    source = words(seed)
    root = space.structure()
    if attempts is None:
        allowed = getattr(space, "_draws_at_most", None)
        attempts = None if allowed is None else allowed()
    if root is None or (over == "labels" and not root.remember("_constraints", find_constraints)):
        return draw_one(space, source) if n is None else SampleBatch.draw(space, int(n), source)
    sampler = sampler_of(root, over, attempts)
    return sampler.draw_one(space, source) if n is None else sampler.draw(int(n), source)


def sampler_of(root: Node, over: Over, attempts: int | None = None) -> Sampler:
    """Return the sampler of a structure; made once."""
    name = f"_sampler_{over}_{attempts}"
    return root.remember(name, lambda node: Sampler(node, over, attempts))
