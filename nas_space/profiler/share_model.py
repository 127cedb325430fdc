"""What blocks take within networks, from what whole networks take: a ridge regression.

A block alone does work that it does not do within a network: its inputs and outputs are brought
into the layout of the runtime's kernels and back, a session is entered, and what stands at its ends
cannot be fused with its neighbours. What that is worth depends on the sizes at its ends and on what
it consists of, so a block's share of a network is modelled as linear in the time that it takes
alone, the numbers of its operators of each kind, the bytes that these move and their
multiply-adds, plus an effect of its own, the smaller the less networks say of it. All of that is
one regression with one penalty for each group (a mixed model, or a Gaussian process with a linear
kernel: Rasmussen and Williams 2006, section 2.1). Shares may be negative: some of these terms are
to be subtracted.

Which of these count, and how strong the penalties are, is not chosen but averaged: each choice
weighs as much as the density that it gives every network when fitted to the others (pseudo-Bayesian
model averaging: Yao et al. 2018, section 3.4), for which ridge regression has a closed form
(Rasmussen and Williams, section 5.4.2). The best single one, of a few dozen networks, is often so
by chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from ..mutable.factors import Array
from .blocks import Block
from .operator_calls import OperatorCall

__all__ = ["Shares", "fitted", "quantities"]

_ALONE, _BLOCKS, _MACS, _IN, _OUT = "alone", "blocks", "macs", "bytes in", "bytes out"

_COLUMNS: tuple[tuple[str, ...] | None, ...] = (
    (_ALONE,),
    (_BLOCKS, _MACS),
    (_ALONE, _BLOCKS),
    (_ALONE, _BLOCKS, _MACS, _IN, _OUT),
    None,
)
"""The columns to choose from, from few to many; ``None`` for all."""

_EFFECTS = (0.0, 0.03, 0.1, 0.3)
"""Standard deviations of the blocks' own effects, in shares of what a block takes on average."""

_NOISES = (1e-5, 1e-4, 0.003, 0.006, 0.01, 0.02, 0.04)
"""Relative standard deviations of what networks take beside the model."""


class Shares(NamedTuple):
    """A model of what networks take.

    Attributes
    ----------
    of_blocks
        Milliseconds of each block within a network.
    constant
        Milliseconds that every network takes besides.
    left_out
        For each network, what the model predicts that is fitted to the others, relative to what it
        takes.
    """

    of_blocks: Array
    constant: float
    left_out: Array

    def predict(self, counts: Array) -> Array:
        """Return the milliseconds of networks that have so many of each block."""
        predicted: Array = counts @ self.of_blocks + self.constant
        return predicted


def quantities(block: Block, milliseconds: float) -> Counter[str]:
    """Return what the share of a block may depend on.

    Parameters
    ----------
    block
        The block.
    milliseconds
        What it takes alone.
    """
    found: Counter[str] = Counter({_ALONE: milliseconds, _BLOCKS: 1, f"{block.kind} blocks": 1})
    calls = [call for call in block.operators if call.outputs and not call.is_view]
    for call in calls:
        kind, moved = _kind(call), sum(tensor.nbytes for tensor in (*call.inputs, *call.outputs))
        macs = (call.flops or 0) // 2
        found.update({f"{kind} calls": 1, f"{kind} macs": macs, f"{kind} bytes": moved})
        found[_MACS] += macs
    found.update({_IN: _bytes(block.inputs), _OUT: _bytes(block.outputs)})
    return found


def _kind(call: OperatorCall) -> str:
    """Return for what kernel of a runtime an operator stands."""
    if not call.flops:
        return "other"  # norms, activations and the like, most of which are fused
    depthwise = call.name == "aten.convolution" and call.args[8] > 1
    return f"{call.name}{' in groups' if depthwise else ''}"


def _bytes(shapes: Sequence[tuple[int, ...]]) -> int:
    return 4 * sum(int(np.prod(shape)) for shape in shapes)


def fitted(blocks: Sequence[Counter[str]], counts: Array, milliseconds: Array) -> Shares:
    """Return the model of networks, averaged over what shares may depend on.

    Parameters
    ----------
    blocks
        The quantities of each block.
    counts
        How many of each block each network has, of shape ``(networks, blocks)``.
    milliseconds
        What each network takes.
    """
    everything = tuple(sorted({name for block in blocks for name in block}))
    models, densities = [], []
    for columns in _COLUMNS:
        names = everything if columns is None else columns
        table = np.array([[block[name] for name in names] for block in blocks], float)
        for effect, noise in product(_EFFECTS, _NOISES):
            model, density = _ridge(table, counts, milliseconds, effect, noise)
            models.append(model)
            densities.append(density)
    weights = np.exp(np.array(densities) - max(densities))
    weights /= weights.sum()
    return Shares(
        weights @ np.array([model.of_blocks for model in models]),
        float(weights @ [model.constant for model in models]),
        weights @ np.array([model.left_out for model in models]),
    )


def _ridge(
    table: Array, counts: Array, milliseconds: Array, effect: float, noise: float
) -> tuple[Shares, float]:
    """Fit one model to relative errors; return it with the log density of networks left out.

    Columns are scaled such that a weight of 1 is a typical network, which is also the standard
    deviation that weights are taken to have.
    """
    typical = float(np.median(milliseconds))
    totals = counts @ table
    scales = np.maximum(np.abs(totals).mean(axis=0), 1e-30) / typical
    own = effect * typical / counts.sum(axis=1).mean()
    parts = [totals / scales, np.full((len(counts), 1), typical), own * counts]
    rows = np.hstack(parts) / milliseconds[:, None]
    inverse = np.linalg.inv(rows @ rows.T + noise**2 * np.eye(len(rows)))
    dual = inverse.sum(axis=1)  # what is to be predicted is 1, for every network
    weights = rows.T @ dual
    shared, constant, of_their_own = np.split(weights, [table.shape[1], table.shape[1] + 1])
    shares = table @ (shared / scales) + own * of_their_own
    variances = 1 / inverse.diagonal()
    residuals = dual * variances
    density = -0.5 * float(np.sum(np.log(variances) + residuals**2 / variances))
    return Shares(shares, typical * float(constant[0]), 1 - residuals), density
