"""Pictures of a search: what was tried, what it cost, and how it went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from .figures import new_figure, save
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
    """Draw a search into a PNG file.

    On the left, score against cost: every trial with inherited weights, and the finalists
    after fine-tuning.  On the right, the trials in their order, and the best so far.

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
    figure = new_figure(11, 4.4)
    left, right = figure.subplots(1, 2, sharey=True)
    left.scatter(
        [p.cost for p in trials], [p.score for p in trials], s=22, color=_TRIED, alpha=0.8,
        label="tried, inherited weights",
    )  # fmt: skip
    left.scatter(
        [p.cost for p in rivals], [p.score for p in rivals], s=60, marker="s", color=_RANDOM,
        edgecolor="white", label="random, fine-tuned",
    )  # fmt: skip
    left.scatter(
        [winner.cost], [winner.score], s=190, marker="*", color=_FOUND, edgecolor="white",
        label="found, fine-tuned", zorder=3,
    )  # fmt: skip
    if budget is not None:
        left.axvline(budget, color="#555555", linewidth=1, linestyle="--")
        left.text(
            budget, 0.02, " budget", transform=left.get_xaxis_transform(), color="#555555",
            fontsize=9, ha="left",
        )  # fmt: skip
    left.set_xlabel(plain(cost_name))
    left.set_ylabel(plain(f"validation {score_name}"))
    left.legend(frameon=False, fontsize=9, loc="best")
    right.scatter(range(len(trials)), [p.score for p in trials], s=18, color=_TRIED, alpha=0.8)
    best = list(accumulate((p.score for p in trials), max))
    right.step(range(len(best)), best, where="post", color=_LINE, label="best so far")
    right.set_xlabel("trial")
    right.legend(frameon=False, fontsize=9, loc="lower right")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
    save(figure, path)
