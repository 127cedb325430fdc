"""``PolicyBasedRL``: the controller of ENAS, rewarded for what trials measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from ..mutable import MutableSymbol, Numerical, Sample
from ..randomness import generator_of, preserved_randomness
from .base import Evaluated, Searchable, SearchState, Strategy
from .neighbours import decide
from .oneshot.controller import Controller, Decisions

__all__ = ["PolicyBasedRL"]

_BINS = 32
"""Into so many equally likely parts the range of a number is cut."""


class PolicyBasedRL(Strategy):
    """A recurrent controller proposes architectures label by label, and learns which are good.

    After each few trials it is made likelier to propose those that dominate many of all that
    were tried, and less likely to propose those that many dominate; by how much, proximal policy
    optimization limits.  So the reward does not depend on the scale of the objectives, nor on
    their number.

    What the controller has learned follows from the history; it is learned anew where a search
    is resumed.

    Parameters
    ----------
    samples_per_update
        Trials after which the controller learns from them.
    learning_rate
        Of its optimizer, Adam.
    passes
        How often it goes through the trials of one update.
    clip
        By which share the probability of an architecture may change in one update before it is
        left alone.
    entropy_weight
        How much variety counts beside the reward.
    hidden_size, tanh_constant
        Of the controller: the size of its LSTM, and the bound of its logits, by which nothing is
        ever certain.

    Raises
    ------
    UsageError
        If an argument makes no sense.

    References
    ----------
    Pham et al., *Efficient neural architecture search via parameter sharing*, arXiv 1802.03268;
    Zoph and Le, *Neural architecture search with reinforcement learning*, arXiv 1611.01578;
    Schulman et al., *Proximal policy optimization algorithms*, arXiv 1707.06347.
    """

    def __init__(
        self,
        *,
        samples_per_update: int = 20,
        learning_rate: float = 0.02,
        passes: int = 10,
        clip: float = 0.2,
        entropy_weight: float = 1e-3,
        hidden_size: int = 64,
        tanh_constant: float | None = 2.5,
    ) -> None:
        if samples_per_update < 2 or passes < 1 or hidden_size < 1:
            raise UsageError(
                "samples_per_update >= 2, passes >= 1 and hidden_size >= 1 must hold, but got "
                f"({samples_per_update=}, {passes=}, {hidden_size=})"
            )
        if learning_rate <= 0 or clip <= 0 or entropy_weight < 0:
            raise UsageError(
                "learning_rate > 0, clip > 0 and entropy_weight >= 0 must hold, but got "
                f"({learning_rate=}, {clip=}, {entropy_weight=})"
            )
        self.samples_per_update = samples_per_update
        self.learning_rate = learning_rate
        self.passes = passes
        self.clip = clip
        self.entropy_weight = entropy_weight
        self.hidden_size = hidden_size
        self.tanh_constant = tanh_constant

    def check(self, space: Searchable) -> None:
        with preserved_randomness():
            self._controller(space, 0)

    def propose(self, state: SearchState) -> Sample:
        with preserved_randomness():
            controller = self._taught(state)
        generator = torch.Generator().manual_seed(int(state.words(1)[0]) % 2**63)

        def draw(_: str, logs: Tensor) -> int:
            return int(torch.multinomial(logs.exp(), 1, generator=generator))

        with torch.no_grad():
            _, take = controller.deciding(draw)
            return decide(state.space, {}, take)

    def _controller(self, space: Searchable, seed: int) -> Controller:
        symbols = {
            label: _Binned(symbol) if isinstance(symbol, Numerical) and symbol.size is None
            else symbol
            for label, symbol in space.symbols().items()
        }  # fmt: skip
        generator = generator_of(seed, "strategy/controller", 0)
        made = Controller(symbols, self.hidden_size, self.tanh_constant, generator)
        # Rounding must not decide between two architectures, on whichever machine.
        return made.double()

    def _taught(self, state: SearchState) -> Controller:
        """The controller after the trials so far."""
        pupil: _Pupil | None = self._memory
        if pupil is None or not pupil.continues(state):
            controller = self._controller(state.space, state.seed)
            pupil = self._memory = _Pupil(
                state.space,
                state.seed,
                controller,
                torch.optim.Adam(controller.parameters(), lr=self.learning_rate),
            )
        step = self.samples_per_update
        while len(pupil.seen) + step <= len(state.history):
            before = len(pupil.seen)
            self._update(
                pupil, state.history[before : before + step], state.history[: before + step]
            )
            pupil.seen += state.history[before : before + step]
        return pupil.controller

    def _update(
        self, pupil: _Pupil, batch: Sequence[Evaluated], history: Sequence[Evaluated]
    ) -> None:
        rewards = torch.tensor([reward(one, history) for one in batch], dtype=torch.float64)
        gains = (rewards - rewards.mean()) / (rewards.std() + 1e-8)
        before: Tensor | None = None
        for _ in range(self.passes):
            taken = [pupil.follow(one.arch) for one in batch]
            logs = torch.stack([one.log_probability for one in taken])
            entropy = torch.stack([one.entropy for one in taken]).mean()
            before = logs.detach() if before is None else before
            ratio = (logs - before).exp()
            limited = ratio.clamp(1 - self.clip, 1 + self.clip)
            gain = torch.minimum(ratio * gains, limited * gains).mean()
            pupil.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(-gain - self.entropy_weight * entropy)
            pupil.optimizer.step()


def reward(one: Evaluated, history: Sequence[Evaluated]) -> float:
    """Return the share of a history that an architecture dominates, less what dominates it.

    Examples
    --------
    >>> history = [Evaluated(number, {}, (value,)) for number, value in enumerate((1.0, 3.0, 2.0))]
    >>> [round(reward(one, history), 2) for one in history]
    [-0.67, 0.67, 0.0]
    """
    worse = sum(one.dominates(other) for other in history)
    better = sum(other.dominates(one) for other in history)
    return (worse - better) / len(history)


class _Binned:
    """A number without steps as a choice among equally likely parts of its range.

    Parameters
    ----------
    symbol
        The number.
    """

    size = _BINS

    def __init__(self, symbol: Numerical) -> None:
        self.symbol = symbol

    def code(self, value: float) -> int:
        """Return the part that a value is in."""
        return min(int(self.symbol.cdf(value) * _BINS), _BINS - 1)

    def value(self, code: int) -> float:
        """Return the middle of a part."""
        return self.symbol.quantile((code + 0.5) / _BINS)


@dataclass
class _Pupil:
    """A controller, and the trials from which it has learned."""

    space: Searchable
    seed: int
    controller: Controller
    optimizer: torch.optim.Optimizer
    seen: list[Evaluated] = field(default_factory=list)

    def continues(self, state: SearchState) -> bool:
        """Return whether the history is what it has learned from, or goes on from it."""
        return self.seed == state.seed and state.goes_on(self.space, self.seen)

    def follow(self, arch: Sample) -> Decisions:
        """Return the decisions that lead to an architecture, as they would be taken now."""
        symbols: dict[str, MutableSymbol[Any]] = self.controller.symbols
        taken, take = self.controller.deciding(lambda label, _: symbols[label].code(arch[label]))
        decide(self.space, {}, take)
        return taken
