"""Pictures of searches: the front, what the best have in common, what was preferred when."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ..mutable.node import key_of
from .colours import COLOURS
from .html import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..study import Outcome

__all__ = ["best_of", "drift_pictures", "front_picture", "policy_pictures", "usage_picture"]

_LABELS = 30
"""So many labels are drawn."""

_VALUES = 12
"""So many values of a label are drawn; of others the range is cut in as many parts."""

_WINDOWS = 12
"""Into so many parts the trials are cut at most to show how proposals change."""

_WINDOW = 5
"""So many trials are in each of them at least."""

_Series = tuple[list[int], list[list[float]]]
"""Times, and the share of each part then."""


def best_of(outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
    """A tenth of what is ranked, and at least five, to see what the best have in common."""
    return outcomes[: max(5, len(outcomes) // 10)]


def front_picture(
    points: Sequence[tuple[str, float, float]],
    front: Sequence[str],
    axes_names: tuple[str, str],
    winner: str,
) -> Figure:
    """Score against cost, the front among them by name.

    Parameters
    ----------
    points
        Of each architecture its name, cost and score.
    front
        The names of those on the front.
    axes_names
        What cost and score are called.
    winner
        The name of the best one.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.add_subplot()
    chosen = sorted((point for point in points if point[0] in set(front)), key=lambda p: p[1])
    axes.scatter([p[1] for p in points], [p[2] for p in points], s=20, color="#B8C4D0")
    axes.plot([p[1] for p in chosen], [p[2] for p in chosen], "o-", color=COLOURS[0], markersize=5)
    for name, cost, score in chosen:
        axes.annotate(
            name, (cost, score), xytext=(0, 5), textcoords="offset points", fontsize=8,
            ha="center", color=COLOURS[0],
        )  # fmt: skip
    for name, cost, score in points:
        if name == winner:
            axes.plot(
                [cost], [score], "*", markersize=15, color=COLOURS[4], markeredgecolor="white"
            )
    axes.set_xlabel(plain(axes_names[0]))
    axes.set_ylabel(plain(axes_names[1]))
    axes.margins(0.06, 0.1)
    _plain(axes)
    return figure


def usage_picture(outcomes: Sequence[Outcome], best: Sequence[Outcome]) -> Figure:
    """Which value at which label: how much more often among the best than among all.

    Labels that have the same values stand side by side.  A number is the share among the best in
    which the label is active; the colour is its difference to the share among all trials.
    """
    from matplotlib.figure import Figure

    groups = _groups(_seen(outcomes))
    heights = [len(values) for values, _ in groups]
    figure = Figure(
        figsize=(
            max(6.0, 1.6 + 0.5 * max(len(labels) for _, labels in groups)),
            0.9 * len(groups) + 0.32 * sum(heights),
        ),
        layout="constrained",
    )
    panels = figure.subplots(len(groups), 1, squeeze=False, height_ratios=[h + 2 for h in heights])
    for axes, (values, labels) in zip(panels[:, 0], groups, strict=True):
        among_best, among_all = (
            np.array([_shares([o.arch[x] for o in some if x in o.arch], values) for x in labels]).T
            for some in (best, outcomes)
        )
        axes.imshow(
            np.nan_to_num(among_best - among_all), cmap="PuOr_r", vmin=-0.8, vmax=0.8,
            aspect="auto",
        )  # fmt: skip
        for (row, column), share in np.ndenumerate(among_best):
            if share > 0:
                axes.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=7)
        axes.set_yticks(range(len(values)), [plain(part.text) for part in values], fontsize=8)
        axes.set_xticks(
            range(len(labels)),
            [plain(label) for label in labels],
            rotation=60,
            ha="right",
            fontsize=8,
        )
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    return figure


def drift_pictures(outcomes: Sequence[Outcome]) -> Iterator[Figure]:
    """What was proposed over time: for each label the shares of its values in parts of the trials.

    They show what a strategy has come to prefer, whether it keeps a policy or not.  Labels that
    have values in common share a picture.
    """
    windows = np.array_split(np.arange(len(outcomes)), min(_WINDOWS, len(outcomes) // _WINDOW))
    middles = [outcomes[window[len(window) // 2]].number for window in windows]

    def shares(label: str, parts: Sequence[_Part]) -> _Series:
        seen = [[outcomes[i].arch for i in window] for window in windows]
        return middles, [_shares([a[label] for a in archs if label in a], parts) for archs in seen]

    yield from _stacked(_groups(_seen(outcomes)), shares, "trial")


def policy_pictures(
    policy: Mapping[str, Sequence[tuple[int, Sequence[float]]]], values: Mapping[str, Sequence[Any]]
) -> Iterator[Figure]:
    """The policy over time: for each label the probabilities of its values.

    Parameters
    ----------
    policy
        For each label, steps and the probability of each value then.
    values
        The values of each label, in the order of their probabilities.
    """

    def shares(label: str, parts: Sequence[_Part]) -> _Series:
        held = np.array([[part.holds(value) for part in parts] for value in values[label]], float)
        return [step for step, _ in policy[label]], [
            (np.asarray(vector) @ held).tolist() for _, vector in policy[label]
        ]

    seen = {label: {key_of(v, loose=True): v for v in values[label]} for label in policy}
    yield from _stacked(_groups(seen), shares, "step")


def _stacked(
    groups: Sequence[tuple[tuple[_Part, ...], list[str]]],
    shares: Callable[[str, Sequence[_Part]], _Series],
    time: str,
) -> Iterator[Figure]:
    """A picture for each group of labels, with a panel for each: shares that make a whole."""
    from matplotlib.figure import Figure

    for parts, labels in groups:
        columns = min(6, len(labels))
        rows = -(-len(labels) // columns)
        figure = Figure(figsize=(1.6 * columns + 1.2, 1.45 * rows + 0.6), layout="constrained")
        panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
        for axes, label in zip(panels, labels, strict=False):
            times, found = shares(label, parts)
            axes.stackplot(
                times,
                np.nan_to_num(np.array(found)).T,
                colors=[COLOURS[i % len(COLOURS)] for i in range(len(parts))],
                labels=[plain(part.text) for part in parts],
            )
            axes.set_title(plain(label), fontsize=8)
            axes.set_ylim(0, 1)
            axes.margins(x=0)
            axes.tick_params(labelsize=7)
        for axes in panels[len(labels) :]:
            axes.set_visible(False)
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(
            handles[::-1], names[::-1], loc="outside right upper", fontsize=8, frameon=False
        )
        figure.supxlabel(time, fontsize=9)
        yield figure


@dataclass(frozen=True)
class _Part:
    """What to tell apart among the values of a label: one of them, or a part of their range."""

    text: str
    key: Hashable = None
    span: tuple[float, float] | None = None

    def holds(self, value: Any) -> bool:
        if self.span is None:
            return key_of(value, loose=True) == self.key
        return self.span[0] <= float(value) < self.span[1]


def _seen(outcomes: Sequence[Outcome]) -> dict[str, dict[Any, Any]]:
    """The values that each label was tried with, by their keys."""
    seen: dict[str, dict[Any, Any]] = {}
    for outcome in outcomes:
        for label, value in outcome.arch.items():
            seen.setdefault(label, {})[key_of(value, loose=True)] = value
    return seen


def _groups(
    seen: Mapping[str, Mapping[Any, Any]],
) -> list[tuple[tuple[_Part, ...], list[str]]]:
    """The labels by the values that they have in common; constant ones are left out."""
    groups: list[tuple[dict[Any, Any], list[str]]] = []
    for label in sorted([label for label in seen if len(seen[label]) > 1])[:_LABELS]:
        values, labels = dict(seen[label]), [label]
        for group in [group for group in groups if group[0].keys() & values.keys()]:
            groups.remove(group)
            values, labels = group[0] | values, group[1] + labels
        groups.append((values, labels))
    return [(_parts(list(values.values())), labels) for values, labels in groups]


def _parts(values: list[Any]) -> tuple[_Part, ...]:
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    if len(values) > _VALUES and numbers:
        *edges, last = np.linspace(min(values), max(values), 5).tolist()
        names = [f"{low:.3g} to {high:.3g}" for low, high in pairwise([*edges, last])]
        spans = pairwise([*edges, float("inf")])
        return tuple(_Part(name, span=span) for name, span in zip(names, spans, strict=True))
    ordered = sorted(values) if numbers else sorted(values, key=str)
    return tuple(_Part(str(value), key_of(value, loose=True)) for value in ordered[:_VALUES])


def _shares(seen: Sequence[Any], parts: Sequence[_Part]) -> list[float]:
    """The share of each part among what was seen; NaN if that is nothing."""
    if not seen:
        return [float("nan")] * len(parts)
    return [sum(part.holds(value) for value in seen) / len(seen) for part in parts]


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
