"""``Controller``: a recurrent network that decides label by label."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ConstraintViolation, InfeasibleError
from ...mutable import MutableSymbol, Sample
from .policy import Policy, excluded_codes

__all__ = ["Controller", "Decisions"]

_ATTEMPTS = 1000


class Decisions:
    """An architecture that a controller drew.

    Attributes
    ----------
    arch
        Its active labels; no other was drawn.
    log_probability, entropy
        Of the decisions, summed.
    probabilities
        Of each label's codes, given what was decided before.
    """

    def __init__(self) -> None:
        self.arch: Sample = {}
        self.log_probability: Any = 0.0
        self.entropy: Any = 0.0
        self.probabilities: dict[str, Tensor] = {}


class Controller(nn.Module):
    """An LSTM that takes each decision knowing those before.

    Parameters
    ----------
    symbols
        The labels.
    hidden_size
        Of the LSTM.
    tanh_constant
        Logits are within plus and minus this, so that nothing is ever certain; ``None`` for
        no limit.
    generator
        Draws the weights.
    device
        Where they are.
    allowed
        As of :class:`Policy`.
    """

    def __init__(
        self,
        symbols: Mapping[str, Any],
        hidden_size: int = 64,
        tanh_constant: float | None = 2.5,
        generator: torch.Generator | None = None,
        device: torch.device | None = None,
        *,
        allowed: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        super().__init__()
        self.symbols = dict(symbols)
        Policy(self.symbols)  # refuses labels of which not each value can have a probability
        self.places = {label: place for place, label in enumerate(self.symbols)}
        self.tanh_constant = tanh_constant
        self.excluded = excluded_codes(self.symbols, allowed or {}, device)
        sizes = [symbol.size for symbol in self.symbols.values()]
        self.start = nn.Parameter(torch.empty(1, hidden_size))
        self.lstm = nn.LSTMCell(hidden_size, hidden_size)
        self.embeddings = nn.ModuleList(nn.Embedding(size, hidden_size) for size in sizes)
        self.heads = nn.ModuleList(nn.Linear(hidden_size, size) for size in sizes)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-0.1, 0.1, generator=generator)
        self.to(device)

    def draw(self, space: Any, generator: torch.Generator) -> Decisions:
        """Return an architecture of the space, label by label, as each becomes active.

        Raises
        ------
        InfeasibleError
            If the space is restricted, and a thousand architectures in a row are not in it.
        """
        # Whether an architecture is in a restriction shows in the end only, so draws are rejected
        # whole.  (``excluded`` has removed values that no architecture of the restriction has.)
        whole = getattr(space, "space", space)
        for _ in range(_ATTEMPTS):
            try:
                drawn = self._draw(whole, generator)
            except ConstraintViolation:
                continue
            if whole is space or space.contains(drawn.arch):
                return drawn
        raise InfeasibleError(
            f"none of {_ATTEMPTS} architectures that the controller drew is in the restricted "
            "space; loosen its conditions"
        )

    def _draw(self, space: Any, generator: torch.Generator) -> Decisions:
        drawn, decide = self.deciding(
            lambda _, logs: int(
                torch.multinomial(logs.detach().exp().cpu(), 1, generator=generator)
            )
        )
        space.fill(drawn.arch, decide)
        return drawn

    def deciding(
        self, pick: Callable[[str, Tensor], int]
    ) -> tuple[Decisions, Callable[[MutableSymbol[Any]], Any]]:
        """Return decisions that are to be, and the function that takes them, label by label.

        Parameters
        ----------
        pick
            Picks a code, given a label and the logarithm of the probability of each of its codes.
        """
        # One step of the LSTM for each label that becomes active, in the order in which the space
        # asks.  Its input is the embedding of the last decision, its state all decisions before,
        # and each label has a head of its own, as labels have different numbers of values.
        taken = Decisions()
        state: Any = None
        given: Tensor = self.start

        def decide(symbol: MutableSymbol[Any]) -> Any:
            nonlocal state, given
            label = symbol.name
            place = self.places[label]
            state = self.lstm(given, state)
            logits = self.heads[place](state[0])[0]
            if self.tanh_constant is not None:
                logits = self.tanh_constant * torch.tanh(logits)
            if label in self.excluded:
                logits = logits.masked_fill(self.excluded[label], -torch.inf)
            logs = logits.log_softmax(0)
            p = logs.exp()
            # 0 * log 0 is 0 in an entropy, and NaN in floats: excluded codes are masked below.
            code = pick(label, logs)
            given = self.embeddings[place](torch.tensor([code], device=logits.device))
            taken.log_probability = taken.log_probability + logs[code]
            taken.entropy = taken.entropy - (p * logs.masked_fill(p == 0, 0.0)).sum()
            taken.probabilities[label] = p.detach()
            return self.symbols[label].value(code)

        return taken, decide
