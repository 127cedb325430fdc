"""Pictures of a search: what was tried, what it cost, and how it went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from .colours import INK
from .figures import WIDTH, new_figure, save
from .html import plain

__all__ = ["SearchPoint", "search_picture"]

_TRIED, _FOUND, _RANDOM, _LINE = "#8DA9C4", "#D55E00", "#009E73", "#0072B2"


@dataclass(frozen=True)
class SearchPoint:
    """An architecture in the picture.

    Attributes
    ----------
    cost
        Along the horizontal axis, in the unit that the name of the axis says.
    score
        Along the vertical axis.
    """

    cost: float
    score: float


def search_picture(
    trials: Sequence[SearchPoint],
    winner: SearchPoint,
    rivals: Sequence[SearchPoint],
    path: Path | str,
    *,
    budget: float | None = None,
    cost_name: str = "MACs (millions)",
    score_name: str = "accuracy",
) -> None:
    """Draw a search into a file.

    Above, score against cost: every trial with inherited weights, and the finalists after
    fine-tuning. Below, the trials in their order, and the best so far.

    Parameters
    ----------
    trials
        In the order in which they were tried.
    winner, rivals
        The finalists.
    path
        The file.
    budget
        The largest cost allowed.
    cost_name, score_name
        For the axes.
    """
    figure = new_figure(WIDTH, 6.4)
    front, history = figure.subplots(2, 1)
    front.scatter(
        [p.cost for p in trials], [p.score for p in trials], s=22, color=_TRIED, alpha=0.8,
        label="tried, inherited weights",
    )  # fmt: skip
    front.scatter(
        [p.cost for p in rivals], [p.score for p in rivals], s=60, marker="s", color=_RANDOM,
        edgecolor="white", label="random, fine-tuned",
    )  # fmt: skip
    front.scatter(
        [winner.cost], [winner.score], s=190, marker="*", color=_FOUND, edgecolor="white",
        label="found, fine-tuned", zorder=3,
    )  # fmt: skip
    if budget is not None:
        front.axvline(budget, color=INK, linewidth=1, linestyle="--", label="budget", zorder=1)
    front.set_xlabel(plain(cost_name), fontsize=9)
    front.set_ylabel(plain(f"validation {score_name}"), fontsize=9)
    history.scatter(range(len(trials)), [p.score for p in trials], s=18, color=_TRIED, alpha=0.8)
    best = list(accumulate((p.score for p in trials), max))
    history.step(range(len(best)), best, where="post", color=_LINE, label="best so far")
    history.set_xlabel("trial", fontsize=9)
    history.set_ylabel(plain(f"validation {score_name}"), fontsize=9)
    for axes, columns in ((front, 2), (history, 1)):
        # Above the points: there is no corner that none of them is in.
        axes.legend(
            frameon=False, fontsize=8.5, ncols=columns, loc="lower left", bbox_to_anchor=(0, 1),
            borderaxespad=0, columnspacing=1.2, handletextpad=0.4,
        )  # fmt: skip
        axes.tick_params(labelsize=8.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
    save(figure, path)
