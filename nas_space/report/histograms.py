"""A picture of what the architectures of a space cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..runs.costs import title_of
from .colours import COLOURS, FAINT, INK
from .figures import WIDTH, new_figure, save
from .html import plain
from .numbers import readable

__all__ = ["costs_picture"]

_BEYOND = "#E6E8EB"
"""Of what no budget allows."""

_MARKERS = "oDs^v"


def costs_picture(
    values: Mapping[str, Any],
    named: Mapping[str, Mapping[str, float]],
    limits: Mapping[str, float],
    path: Path | str,
) -> None:
    """Draw a histogram of each cost, with known networks and the budget beside it.

    Parameters
    ----------
    values
        Name of a cost to its values for random architectures.
    named
        Name of a network to its costs.
    limits
        The budget of each cost, if there is one.
    path
        The file; its ending says which format.
    """
    figure = new_figure(WIDTH, (2.7 + 0.17 * len(named)) * len(values))
    panels = figure.subplots(len(values), 1, squeeze=False)[:, 0]
    # Colours first, and another marker when they are used up: what is told apart by shape only is
    # harder to find in the legend.
    looks = {
        network: (COLOURS[place % len(COLOURS)], _MARKERS[place // len(COLOURS) % len(_MARKERS)])
        for place, network in enumerate(named)
    }
    for axes, (name, found) in zip(panels, values.items(), strict=True):
        scale, unit = (1e-3, "latency (ms)") if name == "latency" else (1.0, title_of(name))
        drawn = scale * np.asarray(found, dtype=float)
        limit = limits.get(name)
        known = {network: scale * costs[name] for network, costs in named.items() if name in costs}
        counts, edges, bars = axes.hist(drawn, bins=60, color=FAINT)
        if limit is not None:
            limit *= scale
            for bar, left in zip(bars.patches, edges, strict=False):
                if left >= limit:
                    bar.set_facecolor(_BEYOND)
            axes.axvline(
                limit, color=INK, linestyle="--", linewidth=1.2, zorder=1,
                label=f"budget {readable(limit)}",
            )  # fmt: skip
        top = float(np.max(counts))
        for place, (network, cost) in enumerate(sorted(known.items(), key=lambda one: one[1])):
            colour, marker = looks[network]  # a network looks the same in all panels
            # Each stands a little higher than the one before: equal ones do not hide each other.
            axes.plot(
                [cost], [top * (0.08 + 0.8 * place / max(1, len(known)))], marker, color=colour,
                markeredgecolor="white", markersize=8, zorder=3, clip_on=False,
                label=f"{plain(network)}: {readable(cost)}",
            )  # fmt: skip
        axes.xaxis.set_major_formatter(lambda value, _: readable(value))
        axes.set_xlabel(plain(unit), fontsize=9)
        axes.set_ylabel("random architectures", fontsize=9)
        axes.tick_params(labelsize=8.5)
        axes.spines[["top", "right"]].set_visible(False)
        if known or limit is not None:
            axes.legend(fontsize=8.5, frameon=False, loc="lower left", bbox_to_anchor=(0, 1))
    save(figure, path)
