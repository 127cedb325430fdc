"""``Gated``: one path with its gradient, and one beside it to compare with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ...errors import SpaceError
from ...mutable.piecewise import NOWHERE
from .marginals import Outcomes
from .weighted import Weighted

__all__ = ["Gated"]


class Gated(Weighted):
    r"""Binary gates: of two values of each label, one is active and the other compared with it.

    The output is that of the active path.  The gate of a value has the gradient of the loss
    with respect to a factor on its branch; from there it goes to the logits as
    :math:`\sum_j g_j\, p_j (\delta_{ij} - p_i)` over the two (equation 4 of the paper).  The branch
    beside the active one runs without a gradient of its own, so a step keeps the activations of one
    path for the backward pass.

    Parameters
    ----------
    logits
        Label to the logit of each of its codes, of shape ``(size,)``.
    pairs
        Label to the code that is active and the one beside it; the same twice where there is
        only one.

    Examples
    --------
    >>> from nas_space.nn import LayerChoice
    >>> op = LayerChoice([torch.nn.Identity(), torch.nn.ReLU()], label="op")
    >>> logits = torch.zeros(2, requires_grad=True)
    >>> with Gated({"op": logits}, {"op": (1, 0)}):
    ...     y = op(torch.tensor([-1.0, 1.0]))
    >>> y.tolist()
    [0.0, 1.0]
    >>> y.sum().backward()
    >>> logits.grad  # a quarter of the difference between the two: 0 and 1
    tensor([-0.2500,  0.2500])

    References
    ----------
    Cai et al., *ProxylessNAS*, arXiv 1812.00332, section 3.2.
    """

    def __init__(self, logits: Mapping[str, Tensor], pairs: Mapping[str, tuple[int, int]]) -> None:
        gates = {label: _gates(logits[label], *pair) for label, pair in pairs.items()}
        super().__init__(gates, {label: tuple(sorted(set(pair))) for label, pair in pairs.items()})
        self.active = {label: pair[0] for label, pair in pairs.items()}

    def taken(self, outcomes: Outcomes, weights: Tensor) -> Iterable[int]:
        # The weight of a combination of codes is the product of its gates, which are 1 for the
        # active code and 0 for the other.  The derivative by one gate is the product of the others,
        # so it is not 0 only where all the others are active: for the active path and those that
        # differ from it in one label.  All other outcomes need not be run, and the sum stays exact.
        active = self._active(outcomes)
        if not (weights.requires_grad and torch.is_grad_enabled()):
            return [active]
        near = {active: None}
        at = self._codes(outcomes)
        flipped = [
            np.ravel_multi_index((*at[:axis], code, *at[axis + 1 :]), outcomes.places.shape)
            for axis, size in enumerate(outcomes.places.shape)
            for code in range(size)
        ]
        near.update(dict.fromkeys(outcomes.places.reshape(-1)[np.sort(flipped)].tolist()))
        near.pop(NOWHERE, None)
        return list(near)

    @contextmanager
    def branch(self, outcomes: Outcomes, places: list[int]) -> Iterator[None]:
        # A block of a repeat runs for several outcomes: it has gradients if the active one is among
        # them.  Elsewhere only the value of the output is needed, for the gradient of its gate.
        if self._active(outcomes) in places:
            yield
        else:
            with torch.no_grad():
                yield

    def _codes(self, outcomes: Outcomes) -> tuple[int, ...]:
        """Return the indices of the active codes among the possible ones of each label."""
        found = []
        for label, codes in zip(outcomes.labels, outcomes.codes, strict=True):
            place = int(np.searchsorted(codes, self.active[label]))
            if place == len(codes) or codes[place] != self.active[label]:
                raise _none_allowed()
            found.append(place)
        return tuple(found)

    def _active(self, outcomes: Outcomes) -> int:
        place = int(outcomes.places[self._codes(outcomes)])
        if place == NOWHERE:
            raise _none_allowed()
        return place


def _none_allowed() -> SpaceError:
    return SpaceError(
        "the active path is none that the constraints of the space allow; take a strategy "
        "that draws whole architectures, such as RandomOneShot"
    )


def _gates(logits: Tensor, active: int, other: int) -> Tensor:
    """Return 1 for the active code and 0 elsewhere, with the gradient of a softmax over the two.

    The softmax is over the two logits alone, as the paper rescales the probabilities of the sampled
    pair to sum to 1.  The value is that of the hard gates: ``soft`` cancels but for its gradient.
    """
    gates = torch.zeros_like(logits)
    if active == other:
        gates[active] = 1.0
        return gates
    two = torch.tensor([active, other], device=logits.device)
    soft = logits[two].softmax(0)
    hard = torch.tensor([1.0, 0.0], dtype=logits.dtype, device=logits.device)
    return gates.index_put((two,), hard + (soft - soft.detach()))
