"""A picture of what the architectures of a space cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..files import replacing
from ..runs.costs import title_of
from .architecture import COLOURS
from .html import plain

__all__ = ["costs_picture"]


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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.6 * len(values)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, found) in zip(
        figure.subplots(len(values), 1, squeeze=False)[:, 0], values.items(), strict=True
    ):
        axes.hist(np.asarray(found), bins=60, color="#C8C8C8")
        for place, (network, costs) in enumerate(named.items()):
            if name in costs:
                axes.axvline(
                    costs[name],
                    color=COLOURS[place % len(COLOURS)],
                    linewidth=1.2,
                    label=plain(network),
                )
        limit = limits.get(name)
        if limit is not None:
            axes.axvline(limit, color="black", linestyle="--", linewidth=1.2, label="budget")
        axes.set_xlabel("latency in µs" if name == "latency" else plain(title_of(name)))
        axes.set_yticks([])
        axes.spines[["top", "right", "left"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    with replacing(path) as file:
        figure.savefig(file, dpi=120)
