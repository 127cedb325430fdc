"""Calibrating a table of blocks by whole networks, which a runtime runs in another way."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..errors import DataError, DecompositionError, UsageError
from ..mutable import Mutable, MutableExpression
from ..mutable.factors import Array
from ..runtimes import rank_correlation
from .blocks import Block, filled, timed
from .correction import Correction
from .latency import followed, latency, namer
from .latency_table import LatencyTable
from .measuring import Progress, reported
from .profile import Profile, called_with
from .share_model import Shares, fitted, quantities
from .target import TORCH, TimingTarget

__all__ = ["calibrate_latency"]

_POOL = 1000
"""Random architectures that those to be measured are taken from."""

_FEWEST = 6
"""Networks without which nothing can be fitted."""

_ENOUGH = 5
"""Networks without which errors are those of networks left out one by one."""


def calibrate_latency(
    space: Any,
    table: LatencyTable,
    networks: int | Sequence[tuple[Mapping[str, Any], float]] = 30,
    *,
    held_out: int = 20,
    input_shape: tuple[int, ...] | None = None,
    inputs: Any = None,
    seed: int = 0,
    repeats: int = 30,
    progress: Progress | bool = True,
) -> LatencyTable:
    """Correct a table by what whole networks take, such that sums of its blocks predict these.

    A runtime fuses across blocks, and running a block by itself costs what a network pays once.
    Whole networks are timed in turns where the table was measured, and what each block adds to
    them is fitted by a ridge regression: linear in its time alone, its operators of each kind,
    their multiply-adds and the bytes that they move, with an effect of its own as far as the
    networks bear it out; how much each counts is decided by cross-validation. So what is predicted
    is a sum over blocks again, and can be restricted, counted, and minimised as before.

    Parameters
    ----------
    space
        What the table is of, or a restriction of it.
    table
        As :func:`~nas_space.profiler.measure_latency` makes it.
    networks
        How many to measure, spread evenly from the fastest to the slowest that the sum of blocks
        predicts; or architectures with what they take, in milliseconds, as it was measured
        elsewhere.
    held_out
        How many random networks to measure as well, by which the error is found before they are
        fitted, too. If there are fewer than 5, it is that of networks left out one by one.
    input_shape, inputs
        As of :func:`~nas_space.profiler.latency`; values of the inputs count where the forward
        looks at them.
    seed
        Of the architectures, and of random inputs.
    repeats
        As of :func:`~nas_space.profiler.measure_latency`.
    progress
        What to tell how far it is; ``True`` for a bar, ``False`` for nothing.

    Returns
    -------
    LatencyTable
        The same with a :attr:`~LatencyTable.correction`, whose ``about`` says how well it predicts
        networks that it has not seen: ``spearman`` is the rank correlation, ``median_error`` the
        median of relative errors, and beside them ``spearman_of_sum`` and ``spearman_of_macs`` what
        the sum of the uncorrected blocks and multiply-adds reach.

    Raises
    ------
    UsageError
        If there are too few architectures, all take the same, or the table was measured on another
        device or runtime than there is here.
    DataError
        If blocks are missing in the table, or a time is none.
    SpaceError, DecompositionError
        As of :func:`~nas_space.profiler.measure_latency`.

    Examples
    --------
    >>> from nas_space.hub import ProxylessNAS
    >>> from nas_space.profiler import latency, measure_latency
    >>> space = ProxylessNAS(num_labels=10, width_mult=0.1)
    >>> table = measure_latency(space, "cpu", (3, 32, 32), repeats=2, progress=False)
    >>> table = calibrate_latency(space, table, networks=6, held_out=0, repeats=2, progress=False)
    >>> cost = latency(space, table)
    >>> space.where(cost <= cost.evaluate(space.sample(seed=0))).count() > 0
    True
    """
    plain = LatencyTable(table.milliseconds, table.about, published=table.published)
    cost = latency(space, plain, input_shape, inputs=inputs)
    if not isinstance(cost, MutableExpression):
        raise UsageError("all architectures run the same blocks: there is nothing to calibrate")
    of = followed(space, plain, input_shape, inputs)
    usage = _Usage(of, plain)
    steady = True
    if isinstance(networks, int):
        target = _target(plain)
        chosen, kept = _chosen(space, usage, cost, networks, held_out, seed)
        call = filled(called_with(inputs) if inputs is not None else of.inputs.given, seed)
        archs = [*chosen, *kept]
        found = target.time(
            (
                (usage.name(arch), space.freeze(arch, device="cpu").eval(), call)
                for arch in reported(archs, progress, usage.name, "networks")
            ),
            turns=repeats,
        )
        milliseconds = np.array([time for time, _ in found])
        steady = all(good for _, good in found)
    else:
        archs, milliseconds = [arch for arch, _ in networks], _checked(networks)
        kept = archs[len(archs) - (held_out if len(archs) >= held_out + _FEWEST else 0) :]
    counts = np.array([usage.counts(arch) for arch in archs])
    seen = len(archs) - (len(kept) if len(kept) >= _ENOUGH else 0)
    rows = usage.quantities
    first = fitted(rows, counts[:seen], milliseconds[:seen])
    about: dict[str, Any] = {
        "networks": seen,
        "held_out": len(archs) - seen,
        "typical": float(np.median(milliseconds)),
        "steady": steady,
        **_errors(first, rows, counts, milliseconds, seen),
    }
    final = fitted(rows, counts, milliseconds) if seen < len(archs) else first
    shares = dict(zip(usage.keys, final.of_blocks.tolist(), strict=True))
    return LatencyTable(
        table.milliseconds,
        table.about,
        published=table.published,
        correction=Correction(final.constant, shares, about),
    )


class _Usage:
    """How often each block of a table is in the network of an architecture.

    Attributes
    ----------
    keys
        The blocks' keys in the table.
    quantities
        What the share of each may depend on.
    """

    def __init__(self, of: Profile, table: LatencyTable) -> None:
        self.space, self.places = of.space, timed(of)
        self._key = namer(of.space, table)
        found: dict[str, Block] = {}
        for place in self.places:
            for block in place.blocks.values:
                key = self._key(block)
                if key is not None and key in table:
                    found.setdefault(key, block)
        self.keys = list(found)
        self._index = {key: number for number, key in enumerate(found)}
        self.quantities = [
            quantities(block, table.milliseconds[key]) for key, block in found.items()
        ]

    def active(self, arch: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the labels that an architecture has."""
        space = self.space
        return space.read(arch).active if isinstance(space, Mutable) else arch

    def name(self, arch: Mapping[str, Any]) -> str:
        """Return an architecture in words, the same for those whose networks are the same."""
        return ", ".join(f"{name}={value}" for name, value in sorted(self.active(arch).items()))

    def counts(self, arch: Mapping[str, Any]) -> Array:
        """Return how often an architecture has each block."""
        found, active = np.zeros(len(self.keys)), self.active(arch)
        for place in self.places:
            if place.context.has(active):
                key = self._key(place.blocks.at(active))
                if key is not None:
                    found[self._index[key]] += 1
        return found


def _target(table: LatencyTable) -> TimingTarget:
    """Return where a table was measured, if that is here."""
    about = table.about
    device = str(about.get("device", "cpu")).partition(":")[0]
    dtype = getattr(torch, about["dtype"]) if "dtype" in about else None
    target = TimingTarget(about.get("runtime", TORCH), about.get("threads"), device, dtype)
    table.require(**target.about)
    return target


def _chosen(
    space: Any, usage: _Usage, cost: Any, networks: int, held_out: int, seed: int
) -> tuple[list[Any], list[Any]]:
    """Return architectures to fit, spread over what they cost, and random others."""
    if networks < _FEWEST or held_out < 0:
        raise UsageError(
            f"{_FEWEST} networks or more are needed, and held_out of 0 or more, but got {networks} "
            f"and {held_out}"
        )
    pool = {usage.name(arch): arch for arch in space.sample(_POOL, seed=seed)}
    try:
        ends = space.bounds(cost)
    except DecompositionError:
        ends = None
    for arch in () if ends is None else (ends.at_minimum, ends.at_maximum):
        pool.setdefault(usage.name(arch), arch)
    archs = list(pool.values())
    if len(archs) < networks + held_out:
        held_out = len(archs) * held_out // (networks + held_out)
        networks = len(archs) - held_out
    if networks < _FEWEST:
        raise UsageError(
            f"{_FEWEST} different networks or more are needed, but there are {len(archs)}"
        )
    costs = np.array([cost.evaluate(arch) for arch in archs], float)
    left = list(range(len(archs)))
    chosen = []
    for wanted in np.linspace(costs.min(), costs.max(), networks):
        nearest = min(left, key=lambda number: abs(costs[number] - wanted))
        left.remove(nearest)
        chosen.append(archs[nearest])
    return chosen, [archs[number] for number in left[:held_out]]


def _checked(networks: Sequence[tuple[Any, float]]) -> Array:
    """Return the times of networks that were measured elsewhere."""
    times = [time for _, time in networks]
    for time in times:
        if type(time) not in (int, float) or not 0 < time < math.inf:
            raise DataError(f"what a network takes is a positive number of ms, but got {time!r}")
    if len(times) < _FEWEST:
        raise UsageError(f"{_FEWEST} networks or more are needed, but got {len(times)}")
    return np.array(times, float)


def _errors(
    model: Shares,
    rows: Sequence[Counter[str]],
    counts: Array,
    milliseconds: Array,
    seen: int,
) -> dict[str, float]:
    """Return how well networks are predicted that a model has not seen."""
    unseen = slice(seen if seen < len(counts) else 0, None)
    truth = milliseconds[unseen]
    predicted = (
        model.predict(counts[unseen]) if seen < len(counts) else model.left_out * milliseconds
    )
    sums = {
        name: counts[unseen] @ np.array([row[column] for row in rows], float)
        for name, column in (("sum", "alone"), ("macs", "macs"))
    }
    found = {
        "spearman": rank_correlation(predicted, truth),
        "median_error": float(np.median(np.abs(predicted / truth - 1))),
        **{f"spearman_of_{name}": rank_correlation(sums[name], truth) for name in sums},
    }
    if found["spearman"] < max(found["spearman_of_sum"], found["spearman_of_macs"]) - 0.02:
        warnings.warn(
            f"the corrected table ranks {len(truth)} networks that it has not seen by "
            f"{found['spearman']:.2f} (Spearman), where multiply-adds reach "
            f"{found['spearman_of_macs']:.2f} and its blocks alone {found['spearman_of_sum']:.2f}; "
            "measure more networks, or on a quieter machine",
            stacklevel=3,
        )
    return found
