"""``Policy``: a probability for each value of each label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import UsageError
from ...mutable import MutableSymbol, Sample
from ...mutable.factors import Factor
from ...tables.model import Model, root_of
from ...tables.queries import best
from ...tables.table import Table

__all__ = ["Policy", "allowed_codes", "excluded_codes", "most_likely", "over_time"]

_LARGEST = 4096
"""How many values a label may have."""

_SHOWN = 1024


class Policy(nn.Module):
    """Independent categorical distributions, one for each label.

    Parameters
    ----------
    symbols
        The labels.
    generator
        Draws the logits, which begin near zero.
    device
        Where they are.
    allowed
        The codes that a label may have, for labels that may not have all; see
        :func:`allowed_codes`.

    Attributes
    ----------
    symbols
        The labels.
    logits
        The logits, in the order of the labels.

    Raises
    ------
    UsageError
        If a label has infinitely many values, or too many.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> policy = Policy({"op": Categorical(["conv", "pool"], label="op")})
    >>> {label: len(p) for label, p in policy.probabilities().items()}
    {'op': 2}
    """

    def __init__(
        self,
        symbols: Mapping[str, MutableSymbol[Any]],
        generator: torch.Generator | None = None,
        device: torch.device | None = None,
        *,
        allowed: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        super().__init__()
        self.symbols = dict(symbols)
        for label, symbol in self.symbols.items():
            if symbol.size is None or symbol.size > _LARGEST:
                raise UsageError(
                    f"the label {label!r} has {symbol.size or 'infinitely many'} values, of which "
                    f"each would need a probability; at most {_LARGEST} can have one"
                )
        self.logits = nn.ParameterList(
            (torch.randn(symbol.size or 0, generator=generator) * 1e-3).to(device)
            for symbol in self.symbols.values()
        )
        self.excluded = excluded_codes(self.symbols, allowed or {}, device)

    def by_label(self) -> dict[str, Tensor]:
        """Return the logits by label; minus infinity for what is not allowed."""
        return {
            label: logits.masked_fill(self.excluded[label], -torch.inf)
            if label in self.excluded
            else logits
            for label, logits in zip(self.symbols, self.logits, strict=True)
        }

    def probabilities(self) -> dict[str, Tensor]:
        """Return the probabilities by label; differentiable."""
        return {label: logits.softmax(0) for label, logits in self.by_label().items()}

    def entropy(self) -> Tensor:
        """Return the mean entropy of the labels, in nats."""
        each = [-(p * p.clamp_min(1e-30).log()).sum() for p in self.probabilities().values()]
        return torch.stack(each).mean()

    def draw(self, generator: torch.Generator) -> dict[str, int]:
        """Return a code for each label."""
        return {
            label: int(torch.multinomial(p.detach().cpu(), 1, generator=generator))
            for label, p in self.probabilities().items()
        }

    def arch(self, codes: Mapping[str, int]) -> Sample:
        """Return codes as values."""
        return {label: self.symbols[label].value(code) for label, code in codes.items()}

    def log_probability(self, codes: Mapping[str, int]) -> Tensor:
        """Return the logarithm of the probability that these labels have these codes."""
        logits = self.by_label()
        each = [logits[label].log_softmax(0)[code] for label, code in codes.items()]
        return torch.stack(each).sum()


def excluded_codes(
    symbols: Mapping[str, MutableSymbol[Any]],
    allowed: Mapping[str, tuple[int, ...]],
    device: torch.device | None = None,
) -> dict[str, Tensor]:
    """Return, for labels of which some codes are not allowed, the mask of these codes."""
    masks = {}
    for label, codes in allowed.items():
        masks[label] = torch.ones(symbols[label].size or 0, dtype=torch.bool)
        masks[label][list(codes)] = False
    return {label: mask.to(device) for label, mask in masks.items()}


def allowed_codes(space: Any) -> dict[str, tuple[int, ...]]:
    """Return the codes that labels have in some architecture, for labels that do not have all.

    Random architectures show most of them; of the others each is asked for.

    Parameters
    ----------
    space
        A space, restricted or not.

    Examples
    --------
    >>> from nas_space.mutable import Categorical, MutableList
    >>> from nas_space.tables import restrict
    >>> a, b = Categorical([1, 2, 3], label="a"), Categorical([3, 4], label="b")
    >>> allowed_codes(restrict(MutableList([a, b]), a * b <= 8))
    {'a': (0, 1)}
    """
    whole = getattr(space, "space", space)
    if whole is space and not whole.constraints():
        return {}
    drawn = space.sample(_SHOWN, seed=0)
    found = {}
    for label, symbol in whole.symbols().items():
        if symbol.size is None or symbol.size > _LARGEST:
            continue
        seen = {symbol.code(arch[label]) for arch in drawn if label in arch}
        codes = [
            code for code in range(symbol.size) if code in seen or _occurs(space, symbol, code)
        ]
        if 0 < len(codes) < symbol.size:
            found[label] = tuple(codes)
    return found


def _occurs(space: Any, symbol: Any, code: int) -> bool:
    """Return whether some architecture has a label active with a code."""
    # A table that is 0 for such architectures and 1 for all others: its exact minimum tells.
    active = Model.of(root_of(space)).activity.reach[symbol]
    other = Factor((symbol,), np.arange(symbol.size) != code)
    term = other.combine(active, lambda differs, here: np.where(here, differs, 1.0))
    (least,) = best(space, Table(None, [term]), 1)
    return symbol.name in least.arch and bool(symbol.code(least.arch[symbol.name]) == code)


def over_time(
    history: Iterable[tuple[int, Mapping[str, Sequence[float]]]],
) -> dict[str, list[tuple[int, list[float]]]]:
    """Return, for each label, steps and the probability of each value then.

    Parameters
    ----------
    history
        Steps, and the probabilities of all labels then.

    Examples
    --------
    >>> over_time([(10, {"a": [0.5, 0.5]}), (20, {"a": [0.7, 0.3]})])
    {'a': [(10, [0.5, 0.5]), (20, [0.7, 0.3])]}
    """
    found: dict[str, list[tuple[int, list[float]]]] = {}
    for step, now in history:
        for label, vector in now.items():
            found.setdefault(label, []).append((step, list(vector)))
    return found


def most_likely(space: Any, scores: Mapping[str, Any], k: int) -> list[Sample]:
    """Return the architectures that independent choices prefer, different ones, the best first.

    The first takes the likeliest value of each active label.  Others are ranked by the factor
    by which their choices are less likely, over the labels that they have active: so
    architectures with few labels do not win by having few.

    Parameters
    ----------
    space
        A space, restricted or not: only its architectures are considered.
    scores
        Label to the logarithm of the probability of each of its codes.
    k
        How many; fewer if there are fewer.

    Examples
    --------
    >>> from nas_space.mutable import Categorical, MutableList
    >>> a, b = Categorical([1, 2], label="a"), Categorical([3, 4], label="b")
    >>> most_likely(MutableList([a, b]), {"a": [-1.0, -2.0], "b": [-3.0, 0.0]}, k=2)
    [{'a': 1, 'b': 4}, {'a': 2, 'b': 4}]
    """
    # The architecture that is most likely maximises a sum of logarithms over its active labels; of
    # two that differ in which are active, the one with fewer would win by having fewer factors.  So
    # each label contributes its regret, the logarithm of the largest probability over that of the
    # chosen code, which is 0 for the best value and for an inactive label.  The sum is one factor
    # for each label and those that decide whether it is active, and k best of it are exact.
    model = Model.of(root_of(space))
    terms = []
    for symbol in model.labels:
        regret = np.asarray(scores[symbol.name], dtype=np.float64)
        active = model.activity.reach[symbol]
        worse = Factor((symbol,), regret.max() - regret).combine(active, np.multiply)
        terms.append(worse.reduced())
    found = best(space, Table(None, [term for term in terms if term.scope]), k)
    return [scored.arch for scored in found]
